"""Checks, describes, merges, filters and splits manifests."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  from official_utils.misc import commands

  commands.begin()

import argparse
import collections
import math
from collections.abc import Sequence
from typing import NoReturn

from data import audio, inspection, manifest, splitting, statistics, vocabulary
from data.inspection import Expected, Fault, PlacedEntry
from data.manifest import Entry
from official_utils.misc.errors import UserError
from official_utils.misc.parallel import in_parallel


def check(options: argparse.Namespace) -> int:
  """Print every fault of the manifests, each with its file and line; return 1 if there are any."""
  expected = Expected(
    characters=vocabulary.read_transcript_characters(options.vocabulary_file),
    sample_rate=options.sample_rate or None,
    num_channels=options.channels or None,
    min_duration=options.min_duration,
    max_duration=options.max_duration,
    frames_per_step=options.frames_per_step,
    decode=not options.quick,
  )
  utterances, faults = [], []
  for path in options.manifests:
    rows = list(manifest.read_rows(path))
    if not rows:
      raise UserError(f"{path}: the manifest has no rows; {manifest.REMEDY}")
    for line, entry in rows:
      if isinstance(entry, UserError):
        faults.append(Fault(path, line, "broken row", str(entry).removeprefix(f"{path}, line {line}: ")))
      else:
        utterances.append(PlacedEntry(path, line, entry))
  num_rows = len(utterances) + len(faults)
  faults += inspection.find_faults(utterances, expected)
  faults.sort(key=lambda fault: (options.manifests.index(fault.manifest), fault.line))
  print(inspection.describe_faults(faults, num_rows))
  return 1 if faults else 0


def stats(options: argparse.Namespace) -> None:
  """Print a description of each manifest and, if there are several, of all together."""
  parts = {path: [entry for _, entry in _read(path, options)] for path in options.manifests}
  if len(parts) > 1:
    parts["all together"] = [entry for part in parts.values() for entry in part]
  print("\n\n".join(statistics.describe(name, part) for name, part in parts.items()))


def merge(options: argparse.Namespace) -> None:
  """Write one manifest of several, sorted by length; what stands in two of them is taken once."""
  merged: dict[str, PlacedEntry] = {}
  num_rows = 0
  for path in options.manifests:
    for line, entry in _read(path, options):
      num_rows += 1
      first_path, first_line, first = merged.setdefault(entry.path, PlacedEntry(path, line, entry))
      if first != entry:
        raise UserError(
          f"{path}, line {line}: {entry.path} has size {entry.size} and transcript {entry.transcript!r} here, "
          f"{first.size} and {first.transcript!r} in {first_path}, line {first_line}; remove one of them"
        )
  # Rows of equal length stay in their order, which is that of training.
  entries = sorted((placed.entry for placed in merged.values()), key=lambda entry: entry.size)
  _write(options.output, entries, f"{num_rows - len(entries)} duplicates were left out")


def filter_manifests(options: argparse.Namespace) -> None:
  """Write a manifest of the utterances that lie within the limits, in their order."""
  left_out: collections.Counter[str] = collections.Counter()
  entries = []
  for path in options.manifests:
    for _, entry in _read(path, options):
      seconds = manifest.size_to_duration(entry.size)
      if seconds < options.min_duration:
        left_out["too short"] += 1
      elif seconds > options.max_duration:
        left_out["too long"] += 1
      elif len(vocabulary.normalize_text(entry.transcript)) > options.max_chars_per_second * max(0.0, seconds):
        left_out["too many characters a second"] += 1
      else:
        entries.append(entry)
  reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"
  _write(options.output, entries, f"left out: {reasons}")


def split(options: argparse.Namespace) -> None:
  """Divide a manifest by chance into train.tsv, dev.tsv and test.tsv."""
  (path,) = options.manifests
  shares = {"dev": options.dev, "test": options.test}
  if not (min(shares.values()) >= 0 and sum(shares.values()) < 1):
    raise UserError(f"--dev={options.dev:g} and --test={options.test:g} leave no training set; give smaller shares")
  outputs = {part: os.path.join(options.output_dir, f"{part}.tsv") for part in ("train", *shares)}
  for output in outputs.values():
    if os.path.exists(output) and os.path.samefile(output, path):
      raise UserError(f"{output}: is the manifest to be split; give another --output_dir")
  parts = splitting.draw_parts(_group(path, options), shares, options.seed)
  if not parts["train"]:
    raise UserError(f"{path}: --dev={options.dev:g} and --test={options.test:g} leave no training set; give more rows")
  for output in filter(os.path.exists, outputs.values()):
    # The parts of an earlier run share utterances with those of this one.
    os.remove(output)
  for part, entries in parts.items():
    if entries:
      _write(outputs[part], manifest.by_length(entries), f"{part} set")


def _group(path: str, options: argparse.Namespace) -> dict[str, list[Entry]]:
  """Put together the utterances of a manifest that must come into the same part."""
  groups = collections.defaultdict(list)
  for line, entry in _read(path, options):
    key = splitting.speaker_of(entry.path) if options.by_speaker else entry.path
    if key is None:
      raise UserError(f"{path}, line {line}: no speaker can be told from {entry.path}; split without --by_speaker")
    groups[key].append(entry)
  return groups


def _read(path: str, options: argparse.Namespace) -> list[tuple[int, Entry]]:
  """Read a manifest with line numbers, and the sizes from the audio files if asked to."""
  rows = list(manifest.read_numbered(path))
  if not options.measure:
    return rows
  lengths = in_parallel(audio.audio_duration, [entry.path for _, entry in rows], "measuring")
  sizes = map(manifest.duration_to_size, lengths)
  return [(line, entry._replace(size=size)) for (line, entry), size in zip(rows, sizes, strict=True)]


def _write(path: str, entries: Sequence[Entry], remark: str) -> None:
  """Write a manifest and say so."""
  if not entries:
    raise UserError(f"{path}: is not written, for no utterance would be in it ({remark}); check the flags")
  try:
    manifest.write_manifest(path, entries)
  except OSError as error:
    raise UserError(f"{path}: cannot write the manifest ({error.strerror}); give another place") from error
  seconds = sum(manifest.size_to_duration(entry.size) for entry in entries)
  print(f"wrote {path}: {len(entries)} utterances, {seconds / 3600:.2f} hours ({remark})")


class _Parser(argparse.ArgumentParser):
  """Complains of a wrong command line as the other programs do."""

  def error(self, message: str) -> NoReturn:
    """Say in one line what is wrong and exit."""
    self.exit(2, f"error: {message} (see --help)\n")


def _make_parser() -> argparse.ArgumentParser:
  """Define the commands and their flags."""
  parser = _Parser(description=__doc__, allow_abbrev=False)
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
  add_flag("--vocabulary_file", vocabulary.DEFAULT_VOCABULARY, "the characters that transcripts may hold")
  add_flag("--sample_rate", 0, "samples a second that the audio should have; 0 for any, since training converts them")
  add_flag("--channels", 0, "channels that the audio should have; 0 for any, since training mixes them")
  add_flag("--min_duration", 0.1, "the shortest utterance in seconds")
  add_flag("--max_duration", 36.0, "the longest utterance in seconds; no utterance of LibriSpeech is longer")
  add_flag(
    "--frames_per_step",
    4,
    "frames of 10 ms a step of output: 2 with --conv_layout=paper, or as many as the --time_subsampling of the network; "
    "1 with --network=speech_net; twice as many with --stride_ms=20",
    choices=(1, 2, 4, 8),
  )
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
  return options.function(options) or 0


if __name__ == "__main__":
  sys.exit(commands.run(main))
