"""Tries what the arguments of a command line, and objects in Python, are taken for."""

import contextlib
import functools
import gzip
import io
import mmap
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile

import numpy as np
import pytest
import recordings
import runs
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from data import audio, sources
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
  ("raw_rate", "limit", "size", "message"),
  [
    ("8000", "unlimited", 100_000, "is a WAV file, not raw samples"),
    ("None", "8", 100_000, "cannot be kept in .*File too large.*TMPDIR"),
    # So little is too much only when it leaves the buffer.
    ("None", "8", 9_000, "cannot be kept in .*File too large.*TMPDIR"),
  ],
)
def test_standard_input_that_is_something_else_or_too_much(raw_rate, limit, size, message):
  code = f"from data import sources; (each,) = sources.find_recordings(['-'], {raw_rate}); list(each.blocks(8000))"
  line = f'ulimit -f {limit}; exec {sys.executable} -c "{code}"'
  done = subprocess.run(["bash", "-c", line], cwd=runs.ROOT, input=b"RIFF" + bytes(size), capture_output=True)
  assert done.returncode == 1
  assert re.search(message, done.stderr.decode().splitlines()[-1])


def test_names_are_made_printable():
  assert sources.printable("a\nb\t\udcff\u00fc") == "a\\nb\\t\ufffd\u00fc"


RATE = 8000


def read(source, rate: int = RATE) -> np.ndarray:
  return np.concatenate(list(sources.recording_of(source, RATE).blocks(rate)))


def in_memory(content: bytes) -> io.BytesIO:
  return io.BytesIO(content)


def in_memory_as_written(content: bytes) -> io.BytesIO:
  """Leave the file object at its end, as soundfile.write does."""
  file = io.BytesIO()
  file.write(content)
  return file


def temporary(make):
  def make_and_write(content: bytes):
    file = make()
    file.write(content)
    return file

  return make_and_write


def in_gzip(content: bytes, missing: int = 0) -> gzip.GzipFile:
  packed = gzip.compress(content)
  return gzip.open(io.BytesIO(packed[: len(packed) - missing]))


def in_zip(content: bytes):
  held = io.BytesIO()
  with zipfile.ZipFile(held, "w") as archive:
    archive.writestr("a.wav", content)
  return zipfile.ZipFile(held).open("a.wav")


def tar_stream(content: bytes) -> tarfile.TarFile:
  held = io.BytesIO()
  with tarfile.open(fileobj=held, mode="w") as archive:
    member = tarfile.TarInfo("a.wav")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
  held.seek(0)
  return tarfile.open(fileobj=held, mode="r|")


def in_tar_stream(content: bytes):
  archive = tar_stream(content)
  return archive.extractfile(archive.next())


def in_pipe(content: bytes):
  out, into = os.pipe()

  def write():
    with open(into, "wb") as file:
      file.write(content)

  threading.Thread(target=write, daemon=True).start()
  return open(out, "rb")


def mapped(content: bytes) -> mmap.mmap:
  file = mmap.mmap(-1, len(content))
  file.write(content)
  return file


CONTAINERS = {
  "bytes": bytes,
  "bytearray": bytearray,
  "memoryview": memoryview,
  "in memory": in_memory,
  "as written": in_memory_as_written,
  "temporary": temporary(tempfile.TemporaryFile),
  "unbuffered": temporary(functools.partial(tempfile.TemporaryFile, buffering=0)),
  "named": temporary(tempfile.NamedTemporaryFile),
  "spooled": temporary(tempfile.SpooledTemporaryFile),
  "gzip": in_gzip,
  "zip": in_zip,
  "tar": in_tar_stream,
  "pipe": in_pipe,
  "mapped": mapped,
}
FORMATS = {
  "WAV": "PCM_16",
  "FLAC": "PCM_16",
  "AIFF": "FLOAT",
  "OGG": "VORBIS",
  "CAF": "PCM_24",
  "MP3": "MPEG_LAYER_III",
}


@given(
  container=st.sampled_from(sorted(CONTAINERS)),
  form=st.sampled_from(sorted(FORMATS)),
  length=st.integers(1, 9000),
  channels=st.integers(1, 3),
  rate=st.sampled_from([8000, 11025]),
)
def test_whatever_holds_an_audio_file_reads_like_the_file(container, form, length, channels, rate):
  channels = 1 if form == "MP3" else channels
  samples = recordings.samples_of(form, length * channels / rate, rate).reshape(-1, channels)
  with tempfile.NamedTemporaryFile() as file:
    soundfile.write(file.name, samples, rate, FORMATS[form], format=form)
    expected = audio.read_audio(file.name, RATE)
    content = pathlib.Path(file.name).read_bytes()
  source = CONTAINERS[container](content)
  with source if hasattr(source, "read") else contextlib.nullcontext():
    np.testing.assert_array_equal(read(source), expected)
    # It is not closed, and where it can go back, it can be read again.
    if container != "pipe" and container != "tar":
      np.testing.assert_array_equal(read(source), expected)


def wav(seconds: float = 0.1) -> bytes:
  content = io.BytesIO()
  soundfile.write(content, recordings.samples_of("wav", seconds, RATE), RATE, format="WAV")
  return content.getvalue()


def test_names_of_recordings_in_python(tmp_path):
  path = tmp_path / "a\nb.wav"
  path.write_bytes(wav())
  with open(path, "rb") as named, open(os.fsencode(path), "rb") as by_bytes, tempfile.TemporaryFile() as numbered:
    named_sources = [str(path), path, named, by_bytes]
    others = [numbered, io.BytesIO(), b"", bytearray(), memoryview(b"")]
    for source in named_sources:
      assert sources.recording_of(source, RATE).name == str(path).replace("\n", "\\n")
    for source in others:
      assert sources.recording_of(source, RATE).name == "audio"
  assert sources.recording_of(np.zeros(3), RATE).name == "array"
  recording = sources.recording_of(path, RATE)
  assert sources.recording_of(recording, RATE) is recording


def closed() -> io.BytesIO:
  file = io.BytesIO()
  file.close()
  return file


class Failing(io.RawIOBase):
  """A file object that fails as some do, without a word."""

  def read(self, size: int = -1) -> bytes:
    raise KeyError


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (open, "is open as text; open it as binary, with the mode 'rb'"),
    (lambda path: io.StringIO("text"), "is open as text"),
    (functools.partial(open, mode="ab"), r"cannot be read \(.*read.*\); open it for reading"),
    (lambda path: closed(), r"cannot be read \(I/O operation on closed file\)"),
    (lambda path: in_gzip(wav(1)[:-4000]), "cut short"),
    (lambda path: in_gzip(wav(), missing=20), r"cannot be read \(Compressed file ended"),
    (lambda path: Failing(), r"cannot be read \(KeyError\)"),
    (lambda path: io.BytesIO(), r"empty \(0 bytes\)"),
    (lambda path: b"", r"empty \(0 bytes\)"),
    (lambda path: b"no audio" * 99, "cannot be read as audio"),
  ],
)
def test_what_holds_no_audio_file_is_told(make, message, tmp_path, capfd):
  path = tmp_path / "a.wav"
  path.write_bytes(wav(1))
  source = make(path)
  name = sources.recording_of(source, RATE).name
  with pytest.raises(UserError, match=message) as caught:
    read(source)
  if hasattr(source, "read"):
    source.close()
  assert str(caught.value).startswith(f"{name}: ") and "\n" not in str(caught.value)
  assert capfd.readouterr() == ("", "")
