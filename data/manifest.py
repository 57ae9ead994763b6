"""Reads and writes manifests: the lists of utterances with their audio files and transcripts."""

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

from official_utils.misc import files
from official_utils.misc.errors import UserError

COLUMNS = ("wav_filename", "wav_filesize", "transcript")
# Sizes are those of 16-bit mono WAV files at this rate, with a header of this many bytes.
SIZE_RATE = 16000
HEADER_BYTES = 44
REMEDY = "`python data/download.py` makes manifests (`--corpus=tones` without any download)"


class Entry(NamedTuple):
  """An utterance.

  Attributes:
    path: its audio file.
    size: its length in bytes as 16-bit mono WAV, 44 + 2 * samples, whatever the file on disk is.
    transcript: what is said.
  """

  path: str
  size: int
  transcript: str


def duration_to_size(seconds: float) -> int:
  """Convert a length in seconds to the size of the WAV file."""
  return HEADER_BYTES + 2 * round(seconds * SIZE_RATE)


def size_to_duration(size: int) -> float:
  """Convert the size of a WAV file to its length in seconds; works on arrays of sizes, too."""
  return (size - HEADER_BYTES) / (2 * SIZE_RATE)


def read_manifest(path: str) -> list[Entry]:
  """Read a manifest of any form.

  Args:
    path: a file with a header and tab-separated or comma-separated (quoted as CSV) rows, or of JSON lines.

  Returns:
    Its entries in the order of the file, with relative audio paths resolved against the manifest's folder.
  """
  return [entry for _, entry in read_numbered(path)]


def read_numbered(path: str) -> Iterator[tuple[int, Entry]]:
  """Yield each entry of a manifest with its line number; see `read_manifest`."""
  folder = os.path.dirname(os.path.abspath(path))
  number = 0
  try:
    # With "\n" no other character ends a line, neither U+2028 nor a lone carriage return.
    with open(path, encoding="utf-8-sig", newline="\n") as file:
      for number, fields in _find_form(path, file)(path, file):
        yield number, _make_entry(path, number, folder, *fields)
  except OSError as error:
    raise UserError(f"{path}: cannot read the manifest ({error.strerror}); {REMEDY}") from error
  except UnicodeDecodeError as error:
    raise _bad_encoding(path) from error
  if not number:
    raise UserError(f"{path}: the manifest has no rows; {REMEDY}")


def write_manifest(path: str, entries: Iterable[Entry]) -> None:
  """Write a tab-separated manifest in one step.

  Args:
    path: the file. Audio below its folder is named relative to it, so that both can be moved together.
    entries: the utterances, in the order to be written.
  """
  folder = os.path.join(os.path.dirname(os.path.abspath(path)), "")
  with files.atomic_writer(path) as file:
    file.write("\t".join(COLUMNS) + "\n")
    for entry in entries:
      if "\t" in entry.path or any(end in field for end in "\r\n" for field in (entry.path, entry.transcript)):
        raise UserError(f"{path}: a manifest cannot hold {entry}: tabs in paths and line ends must be taken out")
      file.write(f"{_quote(entry.path.removeprefix(folder))}\t{entry.size}\t{_quote(entry.transcript)}\n")


# A reader of one form: (path, file) -> (line number, (path, size, transcript) as text) for each row.
Form = Callable[[str, IO[str]], Iterator[tuple[int, tuple[str, str | int, str]]]]


def _find_form(path: str, file: IO[str]) -> Form:
  """Tell the form of a manifest by its first line and go back to its start."""
  first = file.readline().rstrip("\r\n")
  file.seek(0)
  if not first and not file.read(1):
    raise UserError(f"{path}: the manifest is empty; {REMEDY}")
  file.seek(0)
  if first.startswith("{"):
    return _read_json_lines
  if first == "\t".join(COLUMNS):
    return _read_tab_separated
  if first == ",".join(COLUMNS):
    return _read_comma_separated
  raise UserError(
    f"{path}, line 1: expected the header {' '.join(COLUMNS)} (separated by tabs or commas) or a JSON object, "
    f"found {first[:100]!r}; add the header or convert the file"
  )


def _read_tab_separated(path: str, file: IO[str]) -> Iterator[tuple[int, tuple[str, str, str]]]:
  """Yield the rows of a tab-separated manifest."""
  next(file)
  for number, line in enumerate(file, start=2):
    line = line.removesuffix("\n").removesuffix("\r")
    if not line:
      continue
    fields = line.split("\t", 2)
    if len(fields) != 3:
      raise _wrong_count(path, number, len(fields), line, "separate path, size and transcript by tabs")
    if '"' in line:
      fields = [_unquote(field) for field in fields]
    yield number, fields


def _read_comma_separated(path: str, file: IO[str]) -> Iterator[tuple[int, tuple[str, str, str]]]:
  """Yield the rows of a comma-separated manifest."""
  rows = csv.reader(file, strict=True)
  next(rows)
  try:
    for fields in rows:
      if not fields:
        continue
      if len(fields) != 3:
        raise _wrong_count(path, rows.line_num, len(fields), ",".join(fields), "put transcripts with commas in quotes")
      yield rows.line_num, fields
  except csv.Error as error:
    raise UserError(f"{path}, line {rows.line_num}: {error}; quote the row as CSV") from error


def _read_json_lines(path: str, file: IO[str]) -> Iterator[tuple[int, tuple[str, int, str]]]:
  """Yield the rows of a manifest of JSON lines."""
  for number, line in enumerate(file, start=1):
    if line.isspace():
      continue
    try:
      row = json.loads(line)
      fields = row["audio_filepath"], row["duration"], row["text"]
    except (ValueError, TypeError, KeyError) as error:
      what = f"has no {error}" if isinstance(error, KeyError) else f"is no JSON object ({error})"
      raise UserError(
        f"{path}, line {number}: {line[:100].strip()!r} {what}; write audio_filepath, duration and text"
      ) from error
    yield number, _check_json_fields(path, number, *fields, row.get("offset"))


def _check_json_fields(path, number: int, audio, duration, text, offset) -> tuple[str, int, str]:
  """Check the values of a JSON row and convert its duration to a size."""
  if not isinstance(audio, str) or not isinstance(text, str):
    raise UserError(f"{path}, line {number}: audio_filepath {audio!r} and text {text!r} must be strings")
  if type(duration) not in (int, float) or not 0 <= duration < math.inf:
    raise UserError(f"{path}, line {number}: duration {duration!r} is no number of seconds; write one such as 2.5")
  if offset:
    raise UserError(
      f"{path}, line {number}: offset {offset!r} is not supported; cut the audio into a file an utterance"
    )
  return audio, duration_to_size(duration), text


def _make_entry(path: str, number: int, folder: str, audio: str, size: str | int, transcript: str) -> Entry:
  """Check the fields of a row."""
  if not audio:
    raise UserError(f"{path}, line {number}: the path of the audio file is empty; write it or remove the row")
  try:
    num_bytes = int(size)
  except ValueError:
    num_bytes = -1
  if num_bytes < 0:
    raise UserError(
      f"{path}, line {number}: wav_filesize {size!r} is no size; write the bytes as 16-bit mono WAV, 44 + 2 * samples"
    )
  return Entry(os.path.join(folder, audio), num_bytes, transcript)


def _unquote(field: str) -> str:
  """Take off the quotes that a CSV writer had to put, and no others.

  A CSV writer quotes a field of a tab-separated file if it holds a tab or a quote, and doubles the quotes inside. So
  `"so ""they"" said"` was quoted, while `"so they said"` and `5" nail` were written by something else: they are text.
  """
  if len(field) < 2 or field[0] != '"' or field[-1] != '"':
    return field
  inner = field[1:-1]
  doubled = inner.replace('""', "")
  if '"' in doubled or (doubled == inner and "\t" not in inner):
    return field
  return inner.replace('""', '"')


def _quote(field: str) -> str:
  """Quote a field if reading it back would otherwise change it."""
  if _unquote(field) == field:
    return field
  return '"' + field.replace('"', '""') + '"'


def _wrong_count(path: str, number: int, count: int, row: str, remedy: str) -> UserError:
  """Name a row with too few or too many fields."""
  return UserError(f"{path}, line {number}: has {count} fields instead of 3: {row[:100]!r}; {remedy}")


def _bad_encoding(path: str) -> UserError:
  """Name the first line that is not UTF-8."""
  with open(path, "rb") as file:
    for number, line in enumerate(file, start=1):
      try:
        line.decode("utf-8")
      except UnicodeDecodeError as error:
        return UserError(f"{path}, line {number}: {line[:100]!r} is not UTF-8 ({error.reason}); convert the file")
  return UserError(f"{path}: is not UTF-8; convert the file")
