"""Describes utterances in numbers and histograms, as lines for a terminal."""

import collections
import math
from collections.abc import Iterable, Sequence

from data import manifest, splitting
from data.manifest import Entry
from data.vocabulary import normalize_text

BINS = 12
BAR_WIDTH = 40


def describe(name: str, entries: Sequence[Entry]) -> str:
  """Describe utterances.

  Args:
    name: what they are called.
    entries: the utterances, at least one.

  Returns:
    Lines with hours, utterances, speakers and words, and histograms of durations and of characters a second.
  """
  seconds = [manifest.size_to_duration(entry.size) for entry in entries]
  texts = [normalize_text(entry.transcript) for entry in entries]
  words = collections.Counter(word for text in texts for word in text.split())
  characters = collections.Counter("".join(texts))
  speakers = [splitting.speaker_of(entry.path) for entry in entries]
  rates = [len(text) / length for text, length in zip(texts, seconds, strict=True) if length > 0]
  lines = [
    name,
    f"  utterances   {len(entries)}",
    f"  duration     {sum(seconds) / 3600:.2f} hours ({sum(seconds):.1f} s)",
    f"  speakers     {_describe_speakers(speakers)}",
    f"  words        {words.total()}, {len(words)} different",
    f"  characters   {characters.total()}, {len(characters)} different: {''.join(sorted(characters))!r}",
    "  seconds an utterance",
    *histogram(seconds),
    "  characters a second",
    *histogram(rates),
  ]
  return "\n".join(lines)


def _describe_speakers(speakers: list[str | None]) -> str:
  """Count the speakers as far as they are known."""
  known, num_unnamed = set(speakers) - {None}, speakers.count(None)
  if not known:
    return "not known"
  return f"{len(known)}, and {num_unnamed} utterances of unknown ones" if num_unnamed else str(len(known))


def histogram(values: Iterable[float]) -> list[str]:
  """Draw a histogram with steps of 1, 2 or 5 times a power of ten, a line a bar."""
  values = sorted(values)
  if not values:
    return ["    nothing to count"]
  step = _step(values[-1] - values[0])
  # The small shift keeps 0.3 out of the bin that ends with 0.3.
  counts = collections.Counter(math.floor(value / step + 1e-9) for value in values)
  decimals = max(0, -math.floor(math.log10(step)))
  width = len(f"{(max(counts) + 1) * step:.{decimals}f}")
  lines = [
    f"    {number * step:{width}.{decimals}f} to {(number + 1) * step:{width}.{decimals}f}  {counts[number]:7d}  "
    f"{'#' * math.ceil(BAR_WIDTH * counts[number] / max(counts.values()))}"
    for number in range(min(counts), max(counts) + 1)
  ]
  median = values[len(values) // 2]
  return [*lines, f"    least {values[0]:.2f}, median {median:.2f}, most {values[-1]:.2f}"]


def _step(extent: float) -> float:
  """Choose the width of a histogram's bins."""
  if extent <= 0:
    return 1.0
  power = 10.0 ** math.floor(math.log10(extent / BINS))
  return next(factor * power for factor in (1, 2, 5, 10) if extent / (factor * power) <= BINS)
