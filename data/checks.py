"""Checks the rows of a manifest before training starts: files, characters, lengths."""

import collections
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data import audio, manifest
from data.features import Features
from data.featurizer import TextFeaturizer
from data.manifest import Entry
from data.vocabulary import describe_shortage, normalize_text, steps_needed
from official_utils.misc.errors import UserError

# How many examples a message shows.
SHOWN = 5

# A line number of the manifest with the entry that stands there.
NumberedEntry = tuple[int, Entry]
# An entry that is not trained on, with the reason.
LeftOut = tuple[Entry, str]


@dataclass(frozen=True)
class Limits:
  """What is trained on, the limits included, by the names of flags; None sets no limit.

  Attributes:
    min_text_length: the fewest characters of a transcript.
    max_text_length: the most.
    max_duration: the longest utterance in seconds.
  """

  min_text_length: int | None = None
  max_text_length: int | None = None
  max_duration: float | None = None

  def excess(self, entry: Entry) -> str | None:
    """Say which limit an entry with a normalised transcript breaks; None if it breaks none."""
    length, seconds = len(entry.transcript), manifest.size_to_duration(entry.size)
    if self.min_text_length is not None and length < self.min_text_length:
      return f"{length} characters, less than --min_text_length={self.min_text_length}"
    if self.max_text_length is not None and length > self.max_text_length:
      return f"{length} characters, more than --max_text_length={self.max_text_length}"
    if self.max_duration is not None and seconds > self.max_duration:
      return f"lasts {seconds:.3f} s, more than --max_duration={self.max_duration:g}"
    return None


def check_files(rows: Sequence[NumberedEntry], data_path: str) -> None:
  """Refuse a manifest that names audio files which are not there."""
  missing = [row for row in rows if not os.path.exists(row[1].path)]
  if missing:
    first = ", ".join(f"{entry.path} (line {line})" for line, entry in sorted(missing)[:SHOWN])
    raise UserError(
      f"{data_path}: {len(missing)} of {len(rows)} audio files do not exist: "
      f"{_and_more(first, len(missing))}; correct the paths or make the corpus again with `python data/download.py`"
    )


def normalize_transcripts(rows: Sequence[NumberedEntry]) -> tuple[list[NumberedEntry], int]:
  """Bring all transcripts to the form that labels are made of; count those whose case that changes."""
  normalized, num_upper_case = [], 0
  for line, entry in rows:
    text = normalize_text(entry.transcript)
    if text != entry.transcript:
      num_upper_case += entry.transcript != entry.transcript.lower()
      entry = entry._replace(transcript=text)
    normalized.append((line, entry))
  return normalized, num_upper_case


def check_characters(
  rows: list[NumberedEntry], data_path: str, vocabulary: TextFeaturizer, vocab_file_path: str, on_unknown: str
) -> tuple[list[NumberedEntry], list[LeftOut]]:
  """Refuse or leave out the transcripts with characters that are not in the vocabulary.

  Args:
    rows: the rows, with normalised transcripts.
    data_path: the manifest.
    vocabulary: knows the characters.
    vocab_file_path: where they come from.
    on_unknown: "error" or "drop".

  Returns:
    The rows that are kept, and the others.
  """
  faulty = [row for row in rows if not vocabulary.characters.issuperset(row[1].transcript)]
  if not faulty:
    return rows, []
  if on_unknown != "drop":
    raise UserError(_describe_unknown(faulty, len(rows), data_path, vocabulary, vocab_file_path))
  left_out = []
  for line, entry in faulty:
    unknown = "".join(sorted(set(entry.transcript) - vocabulary.characters))
    left_out.append((entry, f"line {line}: characters {unknown!r} are not in {vocab_file_path}"))
  faulty_lines = {line for line, _ in faulty}
  return [row for row in rows if row[0] not in faulty_lines], left_out


def _describe_unknown(
  faulty: list[NumberedEntry], num_rows: int, data_path: str, vocabulary: TextFeaturizer, vocab_file_path: str
) -> str:
  """Say how many transcripts hold unknown characters, which ones, and where."""
  counts = collections.Counter(c for _, entry in faulty for c in entry.transcript if c not in vocabulary.characters)
  characters = ", ".join(f"{character!r} ({count} times)" for character, count in counts.most_common(4 * SHOWN))
  where = ", ".join(f"{data_path}:{line}" for line, _ in sorted(faulty)[:SHOWN])
  blank = vocabulary.index_to_token[vocabulary.blank_index]
  hint = f" ({blank!r}, its last line, stands for the blank)" if blank in counts else ""
  return (
    f"{data_path}: {len(faulty)} of {num_rows} transcripts hold characters that are not in "
    f"{vocab_file_path}{hint}: {_and_more(characters, len(counts), 4 * SHOWN)}; in "
    f"{_and_more(where, len(faulty))}; leave them out with --on_unknown=drop, correct the transcripts, or give a "
    "--vocabulary_file with these characters"
  )


def check_limits(rows: list[NumberedEntry], limits: Limits) -> tuple[list[NumberedEntry], list[LeftOut]]:
  """Leave out the utterances, with normalised transcripts, that are beyond a limit; return those kept and the others."""
  kept, left_out = [], []
  for line, entry in rows:
    excess = limits.excess(entry)
    if excess:
      left_out.append((entry, f"line {line}: {excess}"))
    else:
      kept.append((line, entry))
  return kept, left_out


def check_lengths(
  rows: list[NumberedEntry], featurizer: Features, output_length: Callable[[Any], Any]
) -> tuple[list[NumberedEntry], list[LeftOut]]:
  """Leave out the utterances that are too short for their transcripts.

  Args:
    rows: the rows, with normalised transcripts.
    featurizer: tells the frames of so many samples.
    output_length: the network's rule from input frames to output steps, for numbers and arrays.

  Returns:
    The rows that are kept, and the others.
  """

  def frames_of(seconds):
    return featurizer.num_frames(np.rint(seconds * featurizer.sample_rate).astype(np.int64))

  sizes = np.array([entry.size for _, entry in rows], np.int64)
  steps = output_length(frames_of(manifest.size_to_duration(sizes)))
  kept, left_out = [], []
  for (line, entry), available in zip(rows, np.asarray(steps).tolist(), strict=True):
    # No text needs more than twice its length: most rows are settled without a look at their letters.
    if 2 * len(entry.transcript) > available and steps_needed(entry.transcript) > available:
      # The size may be that of a compressed file: only the audio itself can tell.
      num_frames = int(frames_of(audio.audio_duration(entry.path)))
      reason = shortage(entry.transcript, num_frames, output_length)
      if reason:
        left_out.append((entry, f"line {line}: {reason}"))
        continue
    kept.append((line, entry))
  return kept, left_out


def shortage(transcript: str, num_frames: int, output_length: Callable[[Any], Any]) -> str | None:
  """Say why CTC cannot align a transcript with so many frames; None if it can."""
  reason = describe_shortage(transcript, int(output_length(num_frames)))
  return reason and f"{reason} ({num_frames} frames)"


def _and_more(examples: str, total: int, shown: int = SHOWN) -> str:
  """Say how many there are beside the examples shown."""
  return f"{examples} and {total - shown} more" if total > shown else examples
