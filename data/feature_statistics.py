"""Measures the features of a training set, for normalisation by its mean and deviation."""

import dataclasses
import random
from collections.abc import Sequence

import numpy as np

from data import audio
from data.features import make_features
from official_utils.misc.parallel import in_parallel
from settings import FeatureSettings, FeatureStatistics

# Of a larger set so many utterances are drawn: more would change no digit that matters.
MOST_UTTERANCES = 5000


def measure_statistics(settings: FeatureSettings, paths: Sequence[str], seed: int) -> tuple[FeatureStatistics, int]:
  """Compute the mean and the deviation of each bin over all frames of a set, in double precision.

  Args:
    settings: those of the features; the statistics are of what they are before they are normalised.
    paths: the set's audio files.
    seed: decides which are drawn if there are more than MOST_UTTERANCES.

  Returns:
    The statistics, and how many files they come from.
  """
  features = make_features(dataclasses.replace(settings, feature_norm="none"))
  drawn = random.Random(seed).sample(range(len(paths)), min(len(paths), MOST_UTTERANCES))
  chosen = [paths[index] for index in sorted(drawn)]

  def measure(path: str) -> tuple[int, np.ndarray, np.ndarray]:
    values = features.compute(audio.read_audio(path, features.sample_rate)).astype(np.float64)
    mean = values.mean(axis=0)
    return len(values), mean, np.square(values - mean).sum(axis=0)

  count, mean, squares = 0, np.zeros(features.num_bins), np.zeros(features.num_bins)
  for more, mean_there, squares_there in in_parallel(measure, chosen, "measuring features"):
    # The squares are of differences from the mean, so the mean's own move counts too.
    difference, total = mean_there - mean, count + more
    squares += squares_there + np.square(difference) * (count * more / total)
    mean += difference * (more / total)
    count = total
  return FeatureStatistics(tuple(mean.tolist()), tuple(np.sqrt(squares / count).tolist())), len(chosen)
