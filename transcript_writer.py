"""Writes transcripts where a command line says: to a file for each recording, or to standard output."""

import dataclasses
import io
import os
import sys

import transcripts
from data.sources import printable
from official_utils.misc import files
from official_utils.misc.errors import UserError
from transcripts import Transcript


class TranscriptWriter:
  """Writes the transcripts of a command's recordings, all in one format."""

  def __init__(self, output_format: str, output_dir: str | None, num_recordings: int):
    """Check that they can be written.

    Args:
      output_format: one of transcripts.FORMATS.
      output_dir: the folder that gets a file for each recording; None for standard output.
      num_recordings: how many recordings there are, those included that cannot be read.

    Raises:
      UserError: the folder cannot be written into, or standard output cannot take them.
    """
    self._format = output_format
    self._dir = output_dir
    self._is_joined = num_recordings > 1
    self._taken: set[str] = set()
    self._header = transcripts.header(output_format)
    if output_dir:
      files.check_writable(output_dir, "--output_dir")
      return
    if self._is_joined and output_format not in transcripts.JOINABLE:
      raise UserError(f"--output_format={output_format} holds one recording a file; give --output_dir for several")
    if sys.stdout is None:
      raise UserError("standard output is closed; give --output_dir")
    # Whatever the terminal's own encoding: all forms are UTF-8.
    if isinstance(sys.stdout, io.TextIOWrapper):
      sys.stdout.reconfigure(encoding="utf-8", newline="\n")

  def write(self, transcript: Transcript, path: str) -> None:
    """Write one transcript.

    Args:
      transcript: what was heard.
      path: the file to write where there is an output_dir.

    Raises:
      UserError: it cannot be written.
    """
    transcript = dataclasses.replace(transcript, name=printable(transcript.name))
    if self._dir:
      try:
        files.write_atomically(path, transcripts.render(transcript, self._format))
      except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --output_dir") from error
    else:
      # With the first transcript: where there is none, nothing is printed.
      self._print(self._header + transcripts.body(transcript, self._format, self._is_joined))
      self._header = ""

  def path(self, name: str) -> str:
    """Choose the file of a recording, another one for each.

    Ask in the order of the recordings, and also for those that cannot be read: so a file's number does not depend on them.
    """
    stem = os.path.splitext(os.path.basename(printable(name)))[0]
    chosen, number = stem, 1
    while chosen in self._taken:
      number += 1
      chosen = f"{stem}-{number}"
    self._taken.add(chosen)
    return os.path.join(self._dir or "", f"{chosen}.{self._format}")

  def _print(self, text: str) -> None:
    try:
      sys.stdout.write(text)
      sys.stdout.flush()
    except BrokenPipeError:
      raise
    except OSError as error:
      raise UserError(
        f"standard output: cannot be written ({error.strerror}); make room or give --output_dir"
      ) from error
