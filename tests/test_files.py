"""Tests of files that are never half written."""

import os
import stat

import pytest

from official_utils.misc import files


def test_writes_text_with_bare_newlines_as_utf8(tmp_path):
  path = tmp_path / "new" / "folder" / "file.txt"
  files.write_atomically(str(path), "grüße\nzwei\n")
  assert path.read_bytes() == "grüße\nzwei\n".encode()
  assert os.listdir(path.parent) == ["file.txt"]


def test_writes_bytes(tmp_path):
  path = tmp_path / "file.bin"
  with files.atomic_writer(str(path), "wb") as file:
    file.write(b"\x00\xff")
  assert path.read_bytes() == b"\x00\xff"


def test_a_reader_sees_the_old_content_until_the_end(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")
  with files.atomic_writer(str(path)) as file:
    file.write("new")
    file.flush()
    assert path.read_text() == "old"
  assert path.read_text() == "new"


def test_an_exception_leaves_the_old_content_and_nothing_else(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")
  with pytest.raises(RuntimeError, match="half way"), files.atomic_writer(str(path)) as file:
    file.write("half")
    raise RuntimeError("half way")
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["file.txt"]


def test_the_file_is_as_readable_as_any_other(tmp_path):
  plain, written = tmp_path / "plain", tmp_path / "written"
  plain.write_text("")
  files.write_atomically(str(written), "")
  assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_name_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  files.write_atomically("file.txt", "here")
  assert (tmp_path / "file.txt").read_text() == "here"


def test_a_name_may_be_as_long_as_the_file_system_lets_it(tmp_path):
  path = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
  files.write_atomically(str(path), "text")
  assert path.read_text() == "text"


def test_what_lies_within_a_folder(tmp_path):
  folder = str(tmp_path / "model")
  assert files.is_within(folder, folder)
  assert files.is_within(f"{folder}/export/best", folder)
  assert files.is_within(f"{folder}/../model/export", folder)
  assert not files.is_within(f"{folder}s/export", folder)
  assert not files.is_within(str(tmp_path), folder)
