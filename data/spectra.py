"""Cuts samples into windows and transforms these to power spectra, a block of frames at a time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

# Samples transformed at once, and bands added up at once.
BLOCK_SAMPLES = 40_000
BLOCK_BANDS = 12


class Framing(NamedTuple):
  """How samples become frames.

  Attributes:
    window: [samples] float64, what the samples of a frame are multiplied by.
    hop: samples from frame to frame.
    num_points: samples of a Fourier transform, zeros behind those of a frame.
    pads_end: whether the last samples fill a frame with zeros; otherwise frames end where there is no whole one, and only
      a clip shorter than a window is padded to one.
  """

  window: np.ndarray
  hop: int
  num_points: int
  pads_end: bool = False

  def num_frames(self, num_samples: int | np.ndarray) -> np.integer | np.ndarray:
    """Compute the number of frames, at least one, from the number of samples (an integer or an array of integers)."""
    if self.pads_end:
      return np.maximum(1, -(-num_samples // self.hop))
    return np.maximum(1, (num_samples - len(self.window)) // self.hop + 1)


def periodic_hann(size: int) -> np.ndarray:
  """Return a Hann window, float64 [samples], whose next sample would be its first, as transforms see it."""
  return np.hanning(size + 1)[:-1]


def mel_matrix(edges: Sequence[float], sample_rate: int, num_points: int) -> np.ndarray:
  """Return the weight of each frequency of a Fourier transform in each band, float64 [frequencies, bands].

  Args:
    edges: in hertz; band i rises from edge i to i + 1 and falls to edge i + 2, and its area is 1.
    sample_rate: samples per second.
    num_points: samples of a transform.
  """
  left, peak, right = (np.asarray(edges[start : start + len(edges) - 2]) for start in range(3))
  frequencies = (np.arange(num_points // 2 + 1) * (sample_rate / num_points))[:, np.newaxis]
  slopes = np.minimum((frequencies - left) / (peak - left), (right - frequencies) / (right - peak))
  return np.maximum(slopes, 0) * (2 / (right - left))


class BandSums:
  """Adds up power spectra in bands, some neighbouring bands at a time, from the few frequencies that they have.

  So the products are small: for large ones the library of linear algebra starts threads of its own, which get in the way
  of those that compute features (12 times the time on a busy machine of two cores).
  """

  def __init__(self, weights: np.ndarray):
    """Cut the weights, [frequencies, bands], into blocks."""
    self._blocks: list[tuple[slice, slice, np.ndarray]] = []
    for start in range(0, weights.shape[1], BLOCK_BANDS):
      bands = slice(start, start + BLOCK_BANDS)
      there = np.flatnonzero(weights[:, bands].any(axis=1))
      frequencies = slice(there[0], there[-1] + 1)
      self._blocks.append((frequencies, bands, weights[frequencies, bands].astype(np.float32)))

  def add_up(self, power: np.ndarray, out: np.ndarray) -> None:
    """Write the sums of power, float32 [frames, frequencies], into `out`, float32 [frames, bands]."""
    for frequencies, bands, weights in self._blocks:
      np.matmul(power[:, frequencies], weights, out=out[:, bands])


def power_blocks(samples: np.ndarray, framing: Framing) -> Iterator[tuple[slice, np.ndarray]]:
  """Transform the frames of a clip.

  A block at a time: intermediate values stay in the processor's cache, and never need so much memory that it would be
  taken from the system and given back for each clip, which costs more than the transform.

  Args:
    samples: float [samples].
    framing: how they become frames.

  Yields:
    Which frames, and their power, float32 [frames, frequencies], a new array each time.
  """
  samples = np.asarray(samples)
  if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
    raise ValueError(f"samples must be floating point [samples], not {samples.dtype} {list(samples.shape)}")
  samples = samples.astype(np.float32, copy=False)
  num_frames, size = int(framing.num_frames(len(samples))), len(framing.window)
  missing = (num_frames - 1) * framing.hop + size - len(samples)
  if missing > 0:
    samples = np.pad(samples, (0, missing))
  frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: framing.hop]
  block = max(1, BLOCK_SAMPLES // framing.num_points)
  for start in range(0, num_frames, block):
    # In double precision up to the power: in single precision a bin without sound holds nothing but rounding, which
    # normalisation would make as loud as speech (audio recorded at half the rate has half its bins like that).
    windowed = frames[start : min(start + block, num_frames)] * framing.window
    squares = np.square(np.fft.rfft(windowed, framing.num_points).view(np.float64))
    power = np.empty((len(windowed), framing.num_points // 2 + 1), np.float32)
    np.add(squares[:, ::2], squares[:, 1::2], out=power, casting="same_kind")
    yield slice(start, start + len(windowed)), power
