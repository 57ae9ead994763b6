"""Tests the markers of finished manifests."""

import os

from data.corpora import prepared


def test_a_manifest_is_current_until_it_or_its_options_change(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "m.csv").write_text("rows")
  assert not prepared.is_current(prepared.MARKER, "m.csv", "to_wav=False")
  prepared.remember(prepared.MARKER, "m.csv", "to_wav=False")
  assert capsys.readouterr().out == ""
  assert prepared.is_current(prepared.MARKER, "m.csv", "to_wav=False")
  assert capsys.readouterr().out == "m.csv: is there already\n"
  assert not prepared.is_current(prepared.MARKER, "m.csv", "to_wav=True")
  (tmp_path / "m.csv").write_text("other rows")
  assert not prepared.is_current(prepared.MARKER, "m.csv", "to_wav=False")
  os.remove("m.csv")
  assert not prepared.is_current(prepared.MARKER, "m.csv", "to_wav=False")
  assert capsys.readouterr().out == ""


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path):
  kept = {"m.csv", ".m.csv.short", "m.csv.abcdefgh", ".n.csv.abcdefgh"}
  for name in kept | {".m.csv.abcd_123", "..prepared.abcdefgh"}:
    (tmp_path / name).write_text("")
  assert not prepared.is_current(str(tmp_path / ".prepared"), str(tmp_path / "m.csv"), "")
  assert set(os.listdir(tmp_path)) == kept
