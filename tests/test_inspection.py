"""Tests looking for faults in single utterances; test_curate.py tries whole manifests."""

import numpy as np
import pytest
import recordings
import soundfile

from data.inspection import Expected, Fault, PlacedEntry, describe_faults, find_faults
from data.manifest import Entry, duration_to_size

EXPECTED = Expected(frozenset(" abcdefghijklmnopqrstuvwxyz'"))


def kinds(*utterances: PlacedEntry, **expected) -> list[tuple[str, int, str]]:
  faults = find_faults(utterances, EXPECTED._replace(**expected))
  return [(fault.manifest, fault.line, fault.kind) for fault in faults]


def placed(path, seconds: float = 0.5, text: str = "a", manifest: str = "m", line: int = 2) -> PlacedEntry:
  return PlacedEntry(manifest, line, Entry(str(path), duration_to_size(seconds), text))


def test_finds_an_utterance_of_the_training_set_in_the_test_set(tmp_path):
  for name in ("a.wav", "b.wav", "c.wav"):
    recordings.write(tmp_path / name, 0.5)
  soundfile.write(tmp_path / "b.flac", recordings.samples_of("b.wav", 0.5, 16000), 16000)
  names = {("train", 2): "a.wav", ("train", 3): "b.wav", ("test", 2): "c.wav", ("test", 3): "b.flac"}
  utterances = [placed(tmp_path / name, manifest=part, line=line) for (part, line), name in names.items()]
  assert kinds(*utterances) == [("test", 3, "same audio")]
  (tmp_path / "x").mkdir()
  again = placed(tmp_path / "x" / ".." / "a.wav", manifest="test", line=4)
  assert kinds(*utterances[:3], again) == [("test", 4, "listed twice")]


def test_goes_on_after_a_file_without_header(tmp_path):
  (tmp_path / "a.raw").write_bytes(b"\1\2" * 8000)
  recordings.write(tmp_path / "b.wav", 0.5)
  assert kinds(placed(tmp_path / "a.raw"), placed(tmp_path / "b.wav", line=3)) == [("m", 2, "unreadable audio")]


def test_a_quick_look_reads_headers_only(tmp_path):
  soundfile.write(tmp_path / "a.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
  assert kinds(placed(tmp_path / "a.wav", 1.0), decode=False) == []
  assert kinds(placed(tmp_path / "a.wav", 1.0)) == [("m", 2, "not a number")]


@pytest.mark.parametrize(("rate", "found"), [(None, []), (44100, []), (16000, [("m", 2, "sample rate")])])
def test_any_rate_will_do_unless_one_is_expected(rate, found, tmp_path):
  recordings.write(tmp_path / "a.wav", 0.5, 44100)
  assert kinds(placed(tmp_path / "a.wav"), sample_rate=rate) == found


@pytest.mark.parametrize(("frames_per_step", "found"), [(4, [("m", 2, "text too long")]), (2, [])])
def test_a_transcript_needs_enough_output_steps(frames_per_step, found, tmp_path):
  recordings.write(tmp_path / "a.wav", 0.5)
  assert kinds(placed(tmp_path / "a.wav", text="mississippi"), frames_per_step=frames_per_step) == found


def test_lists_faults_and_counts_them_by_kind():
  faults = [Fault("m", 2, "silence", "a"), Fault("m", 3, "too long", "b"), Fault("m", 4, "too long", "c")]
  assert describe_faults(faults, 9).splitlines() == [
    "m, line 2: silence: a",
    "m, line 3: too long: b",
    "m, line 4: too long: c",
    "9 rows, 3 faults",
    "       2 too long",
    "       1 silence",
  ]
