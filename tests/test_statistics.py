"""Tests the description of utterances."""

import pytest

from data import manifest, statistics
from data.manifest import Entry


@pytest.mark.parametrize("values", [[0.0], [3.0] * 5, [0.1, 0.2, 0.3], list(range(1000)), [1e-3, 1e4], [-2.0, 2.0]])
def test_a_histogram_holds_every_value_once_in_at_most_a_dozen_bars(values):
  lines = statistics.histogram(values)
  bars = [line.split() for line in lines[:-1]]
  assert sum(int(bar[3]) for bar in bars) == len(values)
  assert len(bars) <= statistics.BINS + 2
  for low, to, high, *_ in bars:
    assert to == "to" and float(low) < float(high)


def test_counts_known_speakers_and_utterances_of_unknown_ones():
  size = manifest.duration_to_size(3600.0)
  paths = ["/a/1-1-0001.flac", "/a/1-1-0002.flac", "/a/2-1-0001.flac", "/a/b.wav"]
  lines = statistics.describe("all", [Entry(path, size, "Ab ab") for path in paths]).splitlines()
  assert lines[:6] == [
    "all",
    "  utterances   4",
    "  duration     4.00 hours (14400.0 s)",
    "  speakers     2, and 1 utterances of unknown ones",
    "  words        8, 1 different",
    "  characters   20, 3 different: ' ab'",
  ]


def test_nothing_but_empty_recordings_has_no_rate():
  lines = statistics.describe("empty", [Entry("/a.wav", manifest.HEADER_BYTES, "a")]).splitlines()
  assert "  speakers     not known" in lines
  assert lines[-1] == "    nothing to count"
