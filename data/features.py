"""The kinds of features, computed in numpy for training and in the graph for exports.

A kind is a class with both twins and a line in _KINDS; its settings are in settings/features.py.
"""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data import featurizer
from settings import FeatureSettings, SpectrogramSettings

if TYPE_CHECKING:
  from official_utils.lazy import tf


class Features(abc.ABC):
  """One kind of features with its settings.

  Attributes:
    settings: the settings.
    num_bins: the number of features per frame.
  """

  settings: FeatureSettings
  num_bins: int

  @property
  def sample_rate(self) -> int:
    """The samples per second of the audio that features are computed from."""
    return self.settings.sample_rate

  @abc.abstractmethod
  def num_frames(self, num_samples: int | np.ndarray) -> np.integer | np.ndarray:
    """Compute the number of frames from the number of samples (an integer or an array of integers)."""

  @abc.abstractmethod
  def compute(self, samples: np.ndarray) -> np.ndarray:
    """Compute float32 [frames, bins] from float [samples], full scale being 1."""

  @abc.abstractmethod
  def build(self, samples: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """Build the graph that computes the same.

    Args:
      samples: float32 [batch, samples]; values beyond a clip's length do not matter.
      lengths: [batch] int32, samples of each clip.

    Returns:
      float32 [batch, frames, bins], zero beyond a clip's frames, and the frames of each clip, [batch] int32.
    """

  @abc.abstractmethod
  def cache_key(self) -> Mapping[str, Any]:
    """Return everything besides the audio that stored features depend on, by name."""


class Spectrogram(Features):
  """Log power spectrograms."""

  def __init__(self, settings: SpectrogramSettings):
    self.settings = settings
    self._normalize = settings.feature_norm == "utterance"
    self._featurizer = featurizer.AudioFeaturizer(
      settings.sample_rate, settings.window_ms, settings.stride_ms, self._normalize
    )
    self.num_bins = self._featurizer.num_feature_bins

  def num_frames(self, num_samples: int | np.ndarray) -> np.integer | np.ndarray:
    """Compute the number of frames from the number of samples."""
    return self._featurizer.num_frames(num_samples)

  def compute(self, samples: np.ndarray) -> np.ndarray:
    """Compute float32 [frames, bins] from float [samples]."""
    return self._featurizer.featurize(samples)

  def build(self, samples: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """Build the graph that computes the same; see `Features.build`."""
    # Not at the top of the module: code that only reads manifests and audio must not load TensorFlow.
    from layers import spectrogram

    window_size, hop = self._featurizer.window_and_hop
    return spectrogram.log_spectrograms(samples, lengths, self.sample_rate, window_size, hop, self._normalize)

  def cache_key(self) -> Mapping[str, Any]:
    """Return everything that stored features depend on, without the kind, which earlier versions did not store."""
    settings = self.settings
    return {
      "sample_rate": settings.sample_rate,
      "window_ms": settings.window_ms,
      "stride_ms": settings.stride_ms,
      "normalize": self._normalize,
    }


_KINDS: dict[str, Callable[..., Features]] = {SpectrogramSettings.kind: Spectrogram}


def make_features(settings: FeatureSettings) -> Features:
  """Make the features that the settings describe."""
  return _KINDS[settings.kind](settings)
