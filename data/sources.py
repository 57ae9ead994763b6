"""Finds recordings and tells how to read them: files, folders and standard input, and what Python code has in memory."""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, TypeGuard

import numpy as np

from data import audio
from official_utils.misc.errors import UserError

STANDARD_INPUT = "-"
# What bytes are called, and file objects without a name.
UNNAMED = "audio"
# So much of a file object is copied at once.
BLOCK_BYTES = 2**20


class Recording(NamedTuple):
  """What is to be transcribed.

  Attributes:
    name: what the transcript and errors call it.
    blocks: called with a sample rate, gives float32 [samples] after float32 [samples] at that rate.
  """

  name: str
  blocks: Callable[[int], Iterable[np.ndarray]]


# What Python code may give as one recording; see recording_of.
Source = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | np.ndarray | Recording


def recording_of(source: Source, array_rate: int) -> Recording:
  """Tell how to read a recording that is given in Python.

  Args:
    source: the path of an audio file; a binary file object with what such a file holds, read from its beginning if it can
      go back there and from where it stands if not; the bytes of such a file; or an array as `audio.convert_samples`
      takes it.
    array_rate: samples a second of an array.
  """
  if isinstance(source, Recording):
    return source
  if isinstance(source, (str, os.PathLike)):
    return Recording(printable(os.fsdecode(source)), lambda rate: audio.stream_audio(source, rate))
  if isinstance(source, (bytes, bytearray, memoryview)):
    return Recording(UNNAMED, lambda rate: audio.stream_audio(io.BytesIO(source), rate, name=UNNAMED))
  if hasattr(source, "read") and not isinstance(source, np.ndarray):
    name = getattr(source, "name", None)
    # That of a file that was opened by its number is that number.
    name = printable(os.fsdecode(name)) if name and isinstance(name, (str, bytes)) else UNNAMED
    return Recording(name, lambda rate: _read_file_object(source, rate, name))
  return Recording("array", lambda rate: [audio.convert_samples(source, array_rate, rate)])


def is_one_recording(sources: Source | Iterable[Source]) -> TypeGuard[Source]:
  """Tell one recording from a list: an array is a list if it has rows, or paths for elements."""
  if isinstance(sources, np.ndarray):
    return sources.ndim == 0 or (sources.ndim == 1 and sources.dtype.kind not in "OU")
  one = (str, os.PathLike, bytes, bytearray, memoryview, Recording)
  return isinstance(sources, one) or hasattr(sources, "read")


def find_recordings(paths: Sequence[str], raw_rate: int | None = None) -> list[Recording | UserError]:
  """List what the command's arguments stand for.

  Args:
    paths: files; folders, which are searched through; "-" for standard input.
    raw_rate: samples a second of raw standard input; None if it is an audio file.

  Returns:
    The recordings in order, those of a folder by name. In place of a folder that cannot be read or has none, an error.
  """
  if raw_rate is not None and STANDARD_INPUT not in paths:
    raise UserError(f"--raw_rate={raw_rate} is for standard input; give {STANDARD_INPUT} too, or leave the flag out")
  found: list[Recording | UserError] = []
  for path in paths:
    if path == STANDARD_INPUT:
      found.append(_standard_input(raw_rate))
    elif os.path.isdir(path):
      found += _search(path)
    else:
      found.append(_file(path))
  return found


def _search(folder: str) -> list[Recording | UserError]:
  """List the recordings in a folder and below; links to folders are not followed."""
  unreadable: list[OSError] = []
  paths = [os.path.join(each, name) for each, _, names in os.walk(folder, onerror=unreadable.append) for name in names]
  # Nothing but files: to look into a pipe is to wait for it.
  inside = sorted(path for path in paths if path.lower().endswith(audio.SUFFIXES) and os.path.isfile(path))
  faults = [
    UserError(f"{error.filename}: cannot read the folder ({error.strerror}); make it readable or leave it out")
    for error in unreadable
  ]
  if not inside and not faults:
    faults = [UserError(f"{folder}: no recording is in this folder; their names end with {', '.join(audio.SUFFIXES)}")]
  return [*map(_file, inside), *faults]


def _file(path: str) -> Recording:
  """Tell how a file is read."""
  return Recording(path, lambda rate: audio.stream_audio(path, rate))


def _standard_input(raw_rate: int | None) -> Recording:
  """Tell how standard input is read."""

  def blocks(rate: int) -> Iterator[np.ndarray]:
    if sys.stdin is None:
      raise UserError("standard input is closed; send audio to it, or name a file")
    if raw_rate is not None:
      yield from audio.stream_pcm(sys.stdin.buffer, raw_rate, rate)
      return
    with _copy(sys.stdin.buffer, "standard input") as copy:
      yield from audio.stream_audio(copy, rate)

  return Recording("stdin", blocks)


def _read_file_object(file: BinaryIO, rate: int, name: str) -> Iterator[np.ndarray]:
  """Read a file object as an audio file."""
  # Nothing of it yet: this tells whether it is open, and for what.
  _read(file, 0, name)
  if _rewind(file):
    yield from audio.stream_audio(file, rate, name=name)
    return
  with _copy(file, name) as copy:
    yield from audio.stream_audio(copy, rate, name=name)


def _rewind(file: BinaryIO) -> bool:
  """Go back to the beginning of a file object if it can; tell whether libsndfile can read it as it is."""
  try:
    file.seek(0)
  except (AttributeError, OSError, ValueError):
    return False
  # The others, such as a file within an archive, may raise what libsndfile does not pass on.
  return isinstance(getattr(file, "raw", file), (io.BytesIO, io.FileIO))


def _copy(file: BinaryIO, name: str) -> BinaryIO:
  """Copy the rest of a file object: to read audio is to go back and forth. To disk, for it may be long."""
  try:
    with contextlib.ExitStack() as closing:
      copy = closing.enter_context(tempfile.TemporaryFile())
      while block := _read(file, BLOCK_BYTES, name):
        copy.write(block)
      copy.seek(0)
      closing.pop_all()
      return copy
  except OSError as error:
    raise UserError(
      f"{name}: cannot be kept in {tempfile.gettempdir()} ({error.strerror}); make room or set TMPDIR"
    ) from error


def _read(file: BinaryIO, size: int, name: str) -> bytes:
  """Read from a file object, and see to it that bytes come out."""
  try:
    block = file.read(size)
  except Exception as error:  # Each kind of file object has errors of its own.
    reason = printable(str(getattr(error, "strerror", None) or error)).rstrip(".") or type(error).__name__
    raise UserError(f"{name}: cannot be read ({reason}); open it for reading, as binary, or leave it out") from error
  if isinstance(block, str):
    raise UserError(f"{name}: is open as text; open it as binary, with the mode 'rb'")
  return block


def printable(text: str) -> str:
  """Replace what cannot be printed or would break a line: the name of a file may hold such characters."""
  text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
  return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
