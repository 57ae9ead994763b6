"""Reads, sorts and writes manifests, the lists of utterances."""

import csv
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from official_utils.misc import files
from official_utils.misc.errors import UserError

if TYPE_CHECKING:
  import numpy as np

# Of an utterance, or of many at once.
Number = TypeVar("Number", float, "np.ndarray")

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


def size_to_duration(size: Number) -> Number:
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
  number = 0
  for number, entry in read_rows(path):
    if isinstance(entry, UserError):
      raise entry
    yield number, entry
  if not number:
    raise UserError(f"{path}: the manifest has no rows; {REMEDY}")


def read_rows(path: str) -> Iterator[tuple[int, Entry | UserError]]:
  """Yield each row of a manifest with its line number: its entry or, where there is none, what is wrong with it."""
  folder = os.path.dirname(os.path.abspath(path))
  entry: Entry | UserError
  try:
    # With "\n" no other character ends a line, neither U+2028 nor a lone carriage return. Bytes that are not UTF-8 are
    # read as surrogates, so that the message can name the row that they stand in.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
      form = _find_form(path, file)
      for number, row in form.rows(file):
        try:
          entry = _make_entry(folder, *form.fields(row))
        except _RowError as error:
          entry = UserError(f"{path}, line {number}: {error}")
        yield number, entry
  except OSError as error:
    raise UserError(f"{path}: cannot read the manifest ({error.strerror}); {REMEDY}") from error


def by_length(entries: Iterable[Entry]) -> list[Entry]:
  """Sort entries from short to long, those of equal length by path."""
  return sorted(entries, key=lambda entry: (entry.size, entry.path))


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


class _RowError(Exception):
  """Says what is wrong with a row, and the remedy."""


class _Form(NamedTuple):
  """One form of manifests.

  Attributes:
    rows: cuts an open file into rows, with the line number of each.
    fields: takes the (path, size, transcript) from a row, or raises a _RowError.
  """

  rows: Callable[[IO[str]], Iterator[tuple[int, Any]]]
  fields: Callable[[Any], tuple[str, str | int, str] | list[str]]


def _find_form(path: str, file: IO[str]) -> _Form:
  """Tell the form of a manifest by its first line and go back to its start."""
  first = file.readline().rstrip("\r\n")
  file.seek(0)
  if not first and not file.read(1):
    raise UserError(f"{path}: the manifest is empty; {REMEDY}")
  file.seek(0)
  if first.startswith("{"):
    return _Form(_lines_not_blank, _fields_of_json)
  if first == "\t".join(COLUMNS):
    return _Form(_lines_below_header, _fields_between_tabs)
  if first == ",".join(COLUMNS):
    return _Form(_comma_separated_rows, _fields_of_csv)
  raise UserError(
    f"{path}, line 1: expected the header {' '.join(COLUMNS)} (separated by tabs or commas) or a JSON object, "
    f"found {first[:100]!r}; add the header or convert the file"
  )


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
  """Yield the lines that are not empty."""
  for number, line in enumerate(file, start=1):
    line = line.removesuffix("\n").removesuffix("\r")
    if line:
      yield number, line


def _lines_not_blank(file: IO[str]) -> Iterator[tuple[int, str]]:
  """Yield the lines that hold more than white space."""
  return ((number, line) for number, line in _lines(file) if not line.isspace())


def _lines_below_header(file: IO[str]) -> Iterator[tuple[int, str]]:
  """Yield the lines but the first."""
  return itertools.islice(_lines(file), 1, None)


def _comma_separated_rows(file: IO[str]) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """Yield the rows below the header as CSV has them."""
  fields: list[str] | csv.Error | None
  rows = csv.reader(file, strict=True)
  next(rows)
  while True:
    try:
      fields = next(rows, None)
    except csv.Error as error:
      fields = error
    if fields is None:
      return
    if fields:
      yield rows.line_num, fields


def _fields_between_tabs(line: str) -> list[str]:
  """Split a row of a tab-separated manifest."""
  fields = line.split("\t", 2)
  if len(fields) != 3:
    raise _wrong_count(len(fields), line, "separate path, size and transcript by tabs")
  return [_unquote(field) for field in fields] if '"' in line else fields


def _fields_of_csv(row: list[str] | csv.Error) -> list[str]:
  """Check a row of a comma-separated manifest."""
  if isinstance(row, csv.Error):
    raise _RowError(f"{row}; quote the row as CSV")
  if len(row) != 3:
    raise _wrong_count(len(row), ",".join(row), "put transcripts with commas in quotes")
  return row


def _fields_of_json(line: str) -> tuple[str, int, str]:
  """Take a row of JSON apart and convert its duration to a size."""
  try:
    row = json.loads(line)
    audio, duration, text = row["audio_filepath"], row["duration"], row["text"]
  except (ValueError, TypeError, KeyError) as error:
    what = f"has no {error}" if isinstance(error, KeyError) else f"is no JSON object ({error})"
    raise _RowError(f"{line[:100].strip()!r} {what}; write audio_filepath, duration and text") from error
  if not isinstance(audio, str) or not isinstance(text, str):
    raise _RowError(f"audio_filepath {audio!r} and text {text!r} must be strings")
  if type(duration) not in (int, float) or not 0 <= duration < math.inf:
    raise _RowError(f"duration {duration!r} is not a number of seconds; write one such as 2.5")
  if row.get("offset"):
    raise _RowError(f"offset {row['offset']!r} is not supported; cut the audio into a file an utterance")
  return audio, duration_to_size(duration), text


def _make_entry(folder: str, audio: str, size: str | int, transcript: str) -> Entry:
  """Check the fields of a row."""
  for field in (audio, transcript):
    if not field.isascii() and re.search("[\ud800-\udfff]", field):
      raise _RowError(f"{field[:100]!r} is not UTF-8; convert the file")
  if not audio:
    raise _RowError("the path of the audio file is empty; write it or remove the row")
  try:
    num_bytes = int(size)
  except ValueError:
    num_bytes = -1
  # Larger than any file, and than what arrays can hold.
  if not 0 <= num_bytes < 2**62:
    raise _RowError(f"wav_filesize {size!r} is not a size; write the bytes as 16-bit mono WAV, 44 + 2 * samples")
  return Entry(os.path.join(folder, audio), num_bytes, transcript)


def _unquote(field: str) -> str:
  """Remove the quotes that a CSV writer needs, and no others.

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
  return field if _unquote(field) == field else '"' + field.replace('"', '""') + '"'


def _wrong_count(count: int, row: str, remedy: str) -> _RowError:
  """Name a row with too few or too many fields."""
  return _RowError(f"has {count} fields instead of 3: {row[:100]!r}; {remedy}")
