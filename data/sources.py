"""Finds the recordings that a command line names: files, folders, standard input."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data import audio
from official_utils.misc.errors import UserError

STANDARD_INPUT = "-"
# What names of recordings in a folder end with.
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64", ".sph")


class Recording(NamedTuple):
  """What is to be transcribed.

  Attributes:
    name: what the transcript and errors call it.
    blocks: called with a sample rate, gives float32 [samples] after float32 [samples] at that rate.
  """

  name: str
  blocks: Callable[[int], Iterable[np.ndarray]]


def find_recordings(paths: Sequence[str], raw_rate: int | None = None) -> list[Recording | UserError]:
  """List what the command's arguments stand for.

  Args:
    paths: files; folders, which are searched through; "-" for standard input.
    raw_rate: samples a second of raw standard input; None if it is an audio file.

  Returns:
    The recordings in order, those of a folder by name; in place of what cannot be read and of a folder without any, what
    is wrong.
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
  inside = sorted(path for path in paths if path.lower().endswith(SUFFIXES) and os.path.isfile(path))
  faults = [
    UserError(f"{error.filename}: cannot read the folder ({error.strerror}); make it readable or leave it out")
    for error in unreadable
  ]
  if not inside and not faults:
    faults = [UserError(f"{folder}: no recording is in this folder; their names end with {', '.join(SUFFIXES)}")]
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
    # On disk: reading it takes going back and forth, and it may be long.
    with tempfile.TemporaryFile() as copy:
      try:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.seek(0)
      except OSError as error:
        raise UserError(
          f"standard input: cannot be kept in {tempfile.gettempdir()} ({error.strerror}); make room or set TMPDIR"
        ) from error
      yield from audio.stream_audio(copy, rate)

  return Recording("stdin", blocks)


def printable(text: str) -> str:
  """Replace what is no text or would break a line, as names of files may have it."""
  text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
  return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
