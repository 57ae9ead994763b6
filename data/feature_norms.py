"""Normalises features by what is known of the training set, and by the frames of an utterance so far.

Over the whole utterance, `featurizer.normalize` does it. The twins in the graph are in `layers.spectrogram`.
"""

import numpy as np

from data.featurizer import BLOCK_FRAMES
from settings import FeatureStatistics

# The frames of the training set that count beside those of an utterance so far.
PRIOR_FRAMES = 100
# The smallest deviation of a bin, relative to the largest: a bin without sound in the training set holds rounding only,
# which is not to be made as loud as speech.
LEAST_DEVIATION = 0.01


def center_and_scale(statistics: FeatureStatistics, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
  """Return what to subtract from values and what to multiply the rest by, float32 [bins] each.

  Args:
    statistics: those of the training set.
    offset: a constant that the values come without, although the statistics have it.
  """
  deviation = np.array(statistics.deviation)
  least = LEAST_DEVIATION * deviation.max() or 1.0
  scale = 1 / np.maximum(deviation, least)
  return (np.array(statistics.mean) - offset).astype(np.float32), scale.astype(np.float32)


def standardize(values: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """Subtract `center` from each frame of float32 [frames, bins] and multiply it by `scale`, in place."""
  values -= center
  values *= scale
  return values


class RunningNorm:
  """Shifts and scales each frame by the mean and deviation of the frames up to it, in pieces of any length.

  With n prior frames of mean 0 and deviation 1, and the frames z1 to zt so far, the mean is m = (z1 + ... + zt) / (n + t)
  and the variance (n + z1^2 + ... + zt^2) / (n + t) - m^2. That is n / (n + t) at least, so nothing is divided by zero.
  """

  def __init__(self, num_bins: int, prior_frames: int = PRIOR_FRAMES):
    """Begin a clip."""
    self._count = prior_frames
    self._sums = np.zeros(num_bins)
    self._squares = np.full(num_bins, float(prior_frames))

  def normalize(self, values: np.ndarray) -> None:
    """Normalise the next frames, float32 [frames, bins], standardised already, in place."""
    # Blocks whose intermediate values stay in the processor's cache.
    for start in range(0, len(values), BLOCK_FRAMES):
      block = values[start : start + BLOCK_FRAMES]
      counts = self._count + np.arange(1.0, len(block) + 1)[:, np.newaxis]
      means = np.cumsum(block, axis=0, dtype=np.float64)
      means += self._sums
      variances = np.cumsum(np.square(block, dtype=np.float64), axis=0)
      variances += self._squares
      self._count, self._sums, self._squares = self._count + len(block), means[-1].copy(), variances[-1].copy()
      means /= counts
      variances /= counts
      variances -= np.square(means)
      block -= means
      block /= np.sqrt(variances)
