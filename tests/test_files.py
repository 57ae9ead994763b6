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


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
  folder = tmp_path / "new" / "folder"

  def write(name):
    with files.replaced_folder(str(folder)) as unfinished:
      os.mkdir(unfinished)
      (folder.parent / unfinished / name).write_text(name)
      if name == "half":
        raise RuntimeError("half way")

  write("old")
  assert os.listdir(folder) == ["old"]
  with pytest.raises(RuntimeError, match="half way"):
    write("half")
  assert os.listdir(folder) == ["old"]
  write("new")
  assert os.listdir(folder) == ["new"]
  assert os.listdir(folder.parent) == ["folder"]
  files.remove_folder(str(folder))
  assert os.listdir(folder.parent) == []


def test_only_what_was_left_unfinished_long_ago_is_removed(tmp_path):
  for name in ("folder", ".unfinished-new", ".unfinished-old"):
    (tmp_path / name / "written").mkdir(parents=True)
  for name in ("folder", ".unfinished-old"):
    os.utime(tmp_path / name, (0, 0))
  files.remove_unfinished(str(tmp_path))
  assert sorted(os.listdir(tmp_path)) == [".unfinished-new", "folder"]
  files.remove_unfinished(str(tmp_path / "nowhere"))


def test_a_link_is_a_second_name(tmp_path):
  origin, copy = tmp_path / "origin", tmp_path / "copy"
  origin.write_text("text")
  files.link(str(origin), str(copy))
  assert os.path.samefile(origin, copy)
  # A name that is taken cannot be linked, and gets a copy.
  other = tmp_path / "other"
  other.write_text("")
  files.link(str(origin), str(other))
  assert (other.read_text(), os.path.samefile(origin, other)) == ("text", False)
