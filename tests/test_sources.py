"""Tries what the arguments of a command line are taken for."""

import os
import re
import subprocess
import sys

import pytest
import runs

from data import sources
from official_utils.misc.errors import UserError


def touch(*paths) -> None:
  for path in paths:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def names(found) -> list[str]:
  return [each.name for each in found if isinstance(each, sources.Recording)]


def test_folders_are_searched_through_for_files(tmp_path):
  touch(tmp_path / "b.WAV", tmp_path / "a" / "deep" / "c.flac", tmp_path / ".hidden" / "d.ogg", tmp_path / "notes.txt")
  # To look into a pipe would be to wait, and a link to what is above would never end.
  os.mkfifo(tmp_path / "pipe.wav")
  (tmp_path / "a" / "up").symlink_to(tmp_path)
  found = sources.find_recordings([str(tmp_path)])
  inside = [".hidden/d.ogg", "a/deep/c.flac", "b.WAV"]
  assert names(found) == [str(tmp_path / name) for name in inside]
  assert len(found) == len(inside)


def test_order_and_repetition_are_those_of_the_arguments(tmp_path):
  touch(tmp_path / "a.wav")
  paths = [str(tmp_path / "z.wav"), str(tmp_path), "-", str(tmp_path / "z.wav")]
  assert names(sources.find_recordings(paths)) == [paths[0], str(tmp_path / "a.wav"), "stdin", paths[0]]


def test_a_folder_that_cannot_be_read_is_named_beside_what_can(tmp_path):
  touch(tmp_path / "a.wav")
  # Deeper than a path may be long.
  folder = os.open(tmp_path, os.O_RDONLY)
  for _ in range(25):
    os.mkdir("d" * 200, dir_fd=folder)
    inner = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
    os.close(folder)
    folder = inner
  os.close(folder)
  found = sources.find_recordings([str(tmp_path)])
  assert names(found) == [str(tmp_path / "a.wav")]
  (error,) = (str(each) for each in found if isinstance(each, UserError))
  assert "cannot read the folder (File name too long)" in error


def test_a_folder_without_recordings_is_a_fault(tmp_path):
  (error,) = sources.find_recordings([str(tmp_path)])
  assert "no recording is in this folder" in str(error)


def test_a_rate_for_standard_input_needs_standard_input():
  with pytest.raises(UserError, match="--raw_rate=8000 is for standard input; give - too"):
    sources.find_recordings(["a.wav"], 8000)


@pytest.mark.parametrize(
  ("raw_rate", "limit", "message"),
  [
    ("8000", "unlimited", "is a WAV file, not raw samples"),
    ("None", "8", "cannot be kept in .*File too large.*TMPDIR"),
  ],
)
def test_standard_input_that_is_something_else_or_too_much(raw_rate, limit, message):
  code = f"from data import sources; (each,) = sources.find_recordings(['-'], {raw_rate}); list(each.blocks(8000))"
  line = f'ulimit -f {limit}; exec {sys.executable} -c "{code}"'
  done = subprocess.run(["bash", "-c", line], cwd=runs.ROOT, input=b"RIFF" + bytes(100_000), capture_output=True)
  assert done.returncode == 1
  assert re.search(message, done.stderr.decode().splitlines()[-1])


def test_names_are_made_printable():
  assert sources.printable("a\nb\t\udcff\u00fc") == "a\\nb\\t\ufffd\u00fc"
