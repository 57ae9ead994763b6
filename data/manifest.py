"""Reads and writes manifests, the lists of utterances; as a command checks, describes, merges, filters, splits them."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import argparse
import collections
import csv
import itertools
import json
import math
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple, NoReturn

from data import manifest_tools
from data.featurizer import TextFeaturizer
from data.vocabulary import normalize_text
from official_utils.misc import files
from official_utils.misc.errors import UserError

COLUMNS = ("wav_filename", "wav_filesize", "transcript")
# Sizes are those of 16-bit mono WAV files at this rate, with a header of this many bytes.
SIZE_RATE = 16000
HEADER_BYTES = 44
VOCABULARY_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vocabulary.txt")
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
  try:
    # With "\n" no other character ends a line, neither U+2028 nor a lone carriage return. What is not UTF-8 is let
    # through in disguise, to be found in its row.
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
  fields: Callable[[Any], tuple[str, str | int, str]]


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
    raise _RowError(f"duration {duration!r} is no number of seconds; write one such as 2.5")
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
  if num_bytes < 0:
    raise _RowError(f"wav_filesize {size!r} is no size; write the bytes as 16-bit mono WAV, 44 + 2 * samples")
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
  return field if _unquote(field) == field else '"' + field.replace('"', '""') + '"'


def _wrong_count(count: int, row: str, remedy: str) -> _RowError:
  """Name a row with too few or too many fields."""
  return _RowError(f"has {count} fields instead of 3: {row[:100]!r}; {remedy}")


def check(options: argparse.Namespace) -> int:
  """Print every fault of the manifests, each with its file and line; return 1 if there are any."""
  expected = manifest_tools.Expected(
    characters=TextFeaturizer(options.vocabulary_file).characters,
    sample_rate=options.sample_rate or None,
    num_channels=options.channels or None,
    min_duration=options.min_duration,
    max_duration=options.max_duration,
    frames_per_step=options.frames_per_step,
    decode=not options.quick,
  )
  rows, faults = [], []
  for path in options.manifests:
    numbered = list(read_rows(path))
    if not numbered:
      raise UserError(f"{path}: the manifest has no rows; {REMEDY}")
    for line, entry in numbered:
      if isinstance(entry, UserError):
        message = str(entry).removeprefix(f"{path}, line {line}: ")
        faults.append(manifest_tools.Fault(path, line, "broken row", message))
      else:
        rows.append(_as_row(path, line, entry))
  num_rows = len(rows) + len(faults)
  faults += manifest_tools.find_faults(rows, expected)
  faults.sort(key=lambda fault: (options.manifests.index(fault.manifest), fault.line))
  print(manifest_tools.describe_faults(faults, num_rows))
  return 1 if faults else 0


def stats(options: argparse.Namespace) -> None:
  """Print a description of each manifest and, if there are several, of all together."""
  parts = {path: _measured(list(read_numbered(path)), options) for path in options.manifests}
  rows = {path: [_as_row(path, line, entry) for line, entry in part] for path, part in parts.items()}
  if len(rows) > 1:
    rows["all together"] = [row for part in rows.values() for row in part]
  print("\n\n".join(manifest_tools.describe(name, part) for name, part in rows.items()))


def merge(options: argparse.Namespace) -> None:
  """Write one manifest of several, sorted by length; a row that stands in two of them is taken once."""
  merged, num_rows = {}, 0
  for path in options.manifests:
    for line, entry in _measured(list(read_numbered(path)), options):
      num_rows += 1
      first_path, first_line, first = merged.setdefault(entry.path, (path, line, entry))
      if first != entry:
        raise UserError(
          f"{path}, line {line}: {entry.path} has size {entry.size} and transcript {entry.transcript!r} here, "
          f"{first.size} and {first.transcript!r} in {first_path}, line {first_line}; remove one of them"
        )
  entries = sorted((entry for _, _, entry in merged.values()), key=lambda entry: entry.size)
  _write(options.output, entries, f"{num_rows - len(entries)} that stood there already were left out")


def filter_manifests(options: argparse.Namespace) -> None:
  """Write a manifest of those utterances that lie within the limits, in their order."""
  left_out, entries = collections.Counter(), []
  for path in options.manifests:
    for _, entry in _measured(list(read_numbered(path)), options):
      seconds = size_to_duration(entry.size)
      if seconds < options.min_duration:
        left_out["too short"] += 1
      elif seconds > options.max_duration:
        left_out["too long"] += 1
      elif len(normalize_text(entry.transcript)) > options.max_chars_per_second * max(0.0, seconds):
        left_out["too many characters a second"] += 1
      else:
        entries.append(entry)
  reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"
  _write(options.output, entries, f"left out: {reasons}")


def split(options: argparse.Namespace) -> None:
  """Write the manifests train.tsv, dev.tsv and test.tsv of parts of one, drawn by chance."""
  (path,) = options.manifests
  shares = {"dev": options.dev, "test": options.test}
  if not (min(shares.values()) >= 0 and sum(shares.values()) < 1):
    raise UserError(f"--dev={options.dev:g} and --test={options.test:g} leave no training set; give smaller shares")
  outputs = {part: os.path.join(options.output_dir, f"{part}.tsv") for part in ("train", *shares)}
  for output in outputs.values():
    if os.path.exists(output) and os.path.samefile(output, path):
      raise UserError(f"{output}: is the manifest to be split; give another --output_dir")
  groups = collections.defaultdict(list)
  for line, entry in _measured(list(read_numbered(path)), options):
    speaker = manifest_tools.speaker_of(entry.path) if options.by_speaker else entry.path
    if speaker is None:
      raise UserError(f"{path}, line {line}: no speaker can be told from {entry.path}; split without --by_speaker")
    groups[speaker].append(entry)
  parts = manifest_tools.draw_parts(groups, shares, options.seed)
  if not parts["train"]:
    raise UserError(f"{path}: --dev={options.dev:g} and --test={options.test:g} leave no training set; give more rows")
  for output in filter(os.path.exists, outputs.values()):
    # The parts of an earlier run share utterances with those of this one.
    os.remove(output)
  for part, entries in parts.items():
    if entries:
      _write(outputs[part], sorted(entries, key=lambda entry: (entry.size, entry.path)), f"{part} set")


def _as_row(path: str, line: int, entry: Entry) -> manifest_tools.Row:
  """Say of an entry where it stands."""
  return manifest_tools.Row(path, line, entry.path, size_to_duration(entry.size), entry.transcript)


def _measured(rows: list[tuple[int, Entry]], options: argparse.Namespace) -> list[tuple[int, Entry]]:
  """Put the sizes right from the audio files, if asked to."""
  if not options.measure:
    return rows
  sizes = map(duration_to_size, manifest_tools.measure([entry.path for _, entry in rows]))
  return [(line, entry._replace(size=size)) for (line, entry), size in zip(rows, sizes, strict=True)]


def _write(path: str, entries: list[Entry], remark: str) -> None:
  """Write a manifest and say so."""
  if not entries:
    raise UserError(f"{path}: is not written, for no utterance would be in it ({remark}); check the flags")
  try:
    write_manifest(path, entries)
  except OSError as error:
    raise UserError(f"{path}: cannot write the manifest ({error.strerror}); give another place") from error
  seconds = sum(size_to_duration(entry.size) for entry in entries)
  print(f"wrote {path}: {len(entries)} utterances, {seconds / 3600:.2f} hours ({remark})")


class _Parser(argparse.ArgumentParser):
  """Complains of a wrong command line as the other programs do."""

  def error(self, message: str) -> NoReturn:
    """Say in one line what is wrong and exit."""
    self.exit(2, f"error: {message} (see --help)\n")


def _make_parser() -> argparse.ArgumentParser:
  """Define the commands and their flags."""
  parser = _Parser(description="Checks, describes, merges, filters and splits manifests.", allow_abbrev=False)
  commands = parser.add_subparsers(required=True, metavar="command", help="what to do; `command --help` tells more")

  def add_command(name, function, manifests="+"):
    summary = function.__doc__.splitlines()[0]
    command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    command.set_defaults(function=function)
    command.add_argument("manifests", nargs=manifests, metavar="M", help="a manifest")

    def add_flag(flag, default, text, **kwargs):
      kind = {"action": "store_true"} if default is False else {"type": kwargs.pop("type", type(default))}
      command.add_argument(flag, default=default, help=f"{text} (default: {default})", **kind, **kwargs)

    if function is not check:
      add_flag("--measure", False, "read the lengths from the audio files instead of trusting the sizes")
    return add_flag

  add_flag = add_command("check", check)
  add_flag("--vocabulary_file", VOCABULARY_FILE, "the alphabet")
  add_flag("--sample_rate", 16000, "samples a second that the audio should have; 0 for any")
  add_flag("--channels", 1, "channels that the audio should have; 0 for any")
  add_flag("--min_duration", 0.1, "the shortest utterance in seconds")
  add_flag("--max_duration", 36.0, "the longest utterance in seconds; no utterance of LibriSpeech is longer")
  add_flag("--frames_per_step", 4, "frames a step of output: 2 with --conv_layout=paper", choices=(2, 4))
  add_flag("--quick", False, "read only the headers of the audio files")
  add_command("stats", stats)
  add_flag = add_command("merge", merge)
  add_flag("--output", None, "the manifest to write", type=str, required=True)
  add_flag = add_command("filter", filter_manifests)
  add_flag("--output", None, "the manifest to write", type=str, required=True)
  add_flag("--min_duration", 0.0, "the shortest utterance in seconds")
  add_flag("--max_duration", math.inf, "the longest utterance in seconds")
  add_flag("--max_chars_per_second", math.inf, "the fastest speech")
  add_flag = add_command("split", split, manifests=1)
  add_flag("--output_dir", None, "where to write train.tsv, dev.tsv and test.tsv", type=str, required=True)
  add_flag("--dev", 0.1, "the share of dev.tsv")
  add_flag("--test", 0.1, "the share of test.tsv")
  add_flag("--seed", 0, "another seed draws other utterances")
  add_flag("--by_speaker", False, "keep all utterances of a speaker together")
  return parser


def main(arguments: list[str] | None = None) -> int:
  """Run a command line (the process's own if None) and return the exit code."""
  options = _make_parser().parse_args(arguments)
  try:
    return options.function(options) or 0
  except UserError as error:
    sys.stderr.write(f"error: {error}\n")
    return 1
  except KeyboardInterrupt:
    sys.stderr.write("error: interrupted from the keyboard\n")
    return 130


if __name__ == "__main__":
  # A reader that has seen enough, as `head` has, ends the command without a word.
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  sys.exit(main())
