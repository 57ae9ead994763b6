"""Reads recordings that are mixed into others, and keeps those used last in memory."""

import collections
import os
import threading
from collections.abc import Sequence

import numpy as np

from data import audio, sources
from official_utils.misc.errors import UserError

# What is kept in memory, in samples: 17 minutes at 16 kHz, 64 MiB.
KEPT_SAMPLES = 2**24


class Recordings:
  """A list of recordings; threads may share it.

  Attributes:
    paths: the files.
  """

  def __init__(self, paths: Sequence[str], kept_samples: int = KEPT_SAMPLES):
    """Make the list; nothing is read yet.

    Args:
      paths: the files.
      kept_samples: the most that is kept in memory.
    """
    self.paths = paths
    self._kept_samples = kept_samples
    self._num_samples = 0
    self._lock = threading.Lock()
    # By place and rate, the one used last at the end.
    self._kept: collections.OrderedDict[tuple[int, int], np.ndarray] = collections.OrderedDict()

  @classmethod
  def in_folder(cls, folder: str) -> "Recordings":
    """List the recordings of a folder and of those below it, by name."""
    if not os.path.isdir(folder):
      raise UserError(f"{folder}: there is no such folder of recordings; correct dir=")
    found = sources.find_recordings([folder])
    for each in found:
      if isinstance(each, UserError):
        raise each
    return cls([each.name for each in found if not isinstance(each, UserError)])

  def __len__(self) -> int:
    """Count the recordings."""
    return len(self.paths)

  def excerpt(self, place: int, rate: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a piece out of a recording: it begins anywhere, and the recording is repeated as often as is needed.

    Args:
      place: the recording's place in the list.
      rate: samples a second.
      length: samples of the piece.
      rng: draws where it begins.

    Returns:
      float32 [length].
    """
    samples = self._read(place, rate)
    start = int(rng.integers(len(samples)))
    if start + length <= len(samples):
      return samples[start : start + length]
    return np.resize(np.concatenate([samples[start:], samples[:start]]), length)

  def _read(self, place: int, rate: int) -> np.ndarray:
    """Return float32 [samples] of a recording."""
    key = place, rate
    with self._lock:
      if key in self._kept:
        self._kept.move_to_end(key)
        return self._kept[key]
    samples = audio.read_audio(self.paths[place], rate)
    with self._lock:
      # Another thread may have read it in the meantime.
      if key not in self._kept:
        self._kept[key] = samples
        self._num_samples += len(samples)
        while self._num_samples > self._kept_samples:
          self._num_samples -= len(self._kept.popitem(last=False)[1])
    return samples
