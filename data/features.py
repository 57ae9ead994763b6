"""The kinds of features, computed in numpy for training and in the graph for exports.

A kind is a class with both twins and a line in _KINDS; its settings are in settings/features.py.
"""

import abc
import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data import feature_norms, featurizer
from data.spectra import BandSums, Framing, mel_matrix, periodic_hann, power_blocks
from official_utils.misc.errors import UserError
from settings import (
  STATISTICS_FILE,
  FeatureSettings,
  FeatureStatistics,
  LogMelSettings,
  MagnitudeSettings,
  SpectrogramSettings,
  TransformSettings,
  window_and_hop,
)

if TYPE_CHECKING:
  from official_utils.lazy import tf


class Features(abc.ABC):
  """One kind of features with its settings.

  A kind computes values in numpy and in the graph; how they are normalised is the same for all kinds.

  Attributes:
    settings: the settings.
    num_bins: the number of features per frame.
    is_complete: whether features can be computed: without statistics that they need, they can only be counted.
  """

  def __init__(
    self, settings: FeatureSettings, num_bins: int, statistics: FeatureStatistics | None = None, offset: float = 0.0
  ):
    """Keep the settings.

    Args:
      settings: the settings.
      num_bins: the number of features per frame.
      statistics: those of the training set; used only if the settings ask for them.
      offset: a constant that the kind leaves out of its values, for their precision.
    """
    if statistics and {len(statistics.mean), len(statistics.deviation)} != {num_bins}:
      raise UserError(
        f"{STATISTICS_FILE} is of {len(statistics.mean)} bins, but the features have {num_bins}; restore it"
      )
    self.settings = settings
    self.num_bins = num_bins
    self.is_complete = statistics is not None or not settings.needs_statistics
    self._statistics = statistics if settings.needs_statistics else None
    self._offset = offset
    self._standard = feature_norms.center_and_scale(self._statistics, offset) if self._statistics else None

  @property
  def sample_rate(self) -> int:
    """The samples per second of the audio that features are computed from."""
    return self.settings.sample_rate

  @abc.abstractmethod
  def num_frames(self, num_samples: int | np.ndarray) -> np.integer | np.ndarray:
    """Compute the number of frames from the number of samples (an integer or an array of integers)."""

  def compute(self, samples: np.ndarray) -> np.ndarray:
    """Compute float32 [frames, bins] from float [samples], full scale being 1."""
    self._check_complete()
    values = self._values(samples)
    if self._standard:
      feature_norms.standardize(values, *self._standard)
      if self.settings.feature_norm == "running":
        feature_norms.RunningNorm(self.num_bins).normalize(values)
      return values
    if self.settings.feature_norm == "utterance":
      # Which removes the offset, or any constant.
      return featurizer.normalize(values, out=values)
    values += np.float32(self._offset)
    return values

  def build(self, samples: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """Build the graph that computes the same.

    Args:
      samples: float32 [batch, samples]; values beyond a clip's length do not matter.
      lengths: [batch] int32, samples of each clip.

    Returns:
      float32 [batch, frames, bins], zero beyond a clip's frames, and the frames of each clip, [batch] int32.
    """
    # Not at the top of the module: code that only reads manifests and audio must not load TensorFlow.
    from layers import spectrogram

    self._check_complete()
    values, num_frames = self._build_values(samples, lengths)
    if self._standard:
      values = spectrogram.standardize(values, *self._standard)
      if self.settings.feature_norm == "running":
        values = spectrogram.normalize_so_far(values, feature_norms.PRIOR_FRAMES)
    elif self.settings.feature_norm == "utterance":
      values = spectrogram.normalize(values, num_frames)
    else:
      values += self._offset
    return spectrogram.without_padding(values, num_frames), num_frames

  @abc.abstractmethod
  def cache_key(self) -> Mapping[str, Any]:
    """Return everything besides the audio that stored features depend on, by name."""

  @abc.abstractmethod
  def _values(self, samples: np.ndarray) -> np.ndarray:
    """Compute float32 [frames, bins] from float [samples], a new array, not normalised and without the offset."""

  @abc.abstractmethod
  def _build_values(self, samples: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """Build the graph of the same; like `build`, but the values beyond a clip's frames mean nothing."""

  def _check_complete(self) -> None:
    if not self.is_complete:
      raise ValueError(f"features with the norm {self.settings.feature_norm} need the statistics of a training set")

  def _norm_key(self) -> dict[str, Any]:
    """Return what stored features depend on beside the settings: the numbers that they are normalised by."""
    self._check_complete()
    if self._statistics is None:
      return {}
    return {"statistics": hashlib.blake2b(repr(self._statistics).encode(), digest_size=8).hexdigest()}


class Spectrogram(Features):
  """Log power spectrograms."""

  def __init__(self, settings: SpectrogramSettings, statistics: FeatureStatistics | None = None):
    """Keep the settings; see `Features`."""
    self._featurizer = featurizer.AudioFeaturizer(settings.sample_rate, settings.window_ms, settings.stride_ms)
    super().__init__(settings, self._featurizer.num_feature_bins, statistics, math.log(featurizer.EPSILON))

  def num_frames(self, num_samples: int | np.ndarray) -> np.integer | np.ndarray:
    """Compute the number of frames from the number of samples."""
    return self._featurizer.num_frames(num_samples)

  def cache_key(self) -> Mapping[str, Any]:
    """Return everything that stored features depend on, as far as possible in the words of earlier versions."""
    settings = self.settings
    key = {
      "sample_rate": settings.sample_rate,
      "window_ms": settings.window_ms,
      "stride_ms": settings.stride_ms,
      "normalize": settings.feature_norm == "utterance",
    }
    return key | ({"feature_norm": settings.feature_norm, **self._norm_key()} if settings.needs_statistics else {})

  def _values(self, samples: np.ndarray) -> np.ndarray:
    settings = self.settings
    return featurizer.log_power_over_eps(samples, settings.sample_rate, settings.stride_ms, settings.window_ms)

  def _build_values(self, samples: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    from layers import spectrogram

    return spectrogram.log_spectrograms(samples, lengths, self.sample_rate, *self._featurizer.window_and_hop)


class _Transformed(Features):
  """What the kinds share whose Fourier transform may be longer than the window."""

  settings: TransformSettings

  def __init__(
    self,
    settings: TransformSettings,
    num_bins: int,
    statistics: FeatureStatistics | None,
    offset: float = 0.0,
    pads_end: bool = False,
  ):
    super().__init__(settings, num_bins, statistics, offset)
    window_size, hop = window_and_hop(settings.sample_rate, settings.window_ms, settings.stride_ms)
    self._framing = Framing(periodic_hann(window_size), hop, settings.num_points, pads_end)

  def num_frames(self, num_samples: int | np.ndarray) -> np.integer | np.ndarray:
    """Compute the number of frames from the number of samples."""
    return self._framing.num_frames(num_samples)

  def cache_key(self) -> Mapping[str, Any]:
    """Return everything that stored features depend on."""
    return {"features": self.settings.kind, **dataclasses.asdict(self.settings), **self._norm_key()}

  def _values(self, samples: np.ndarray) -> np.ndarray:
    values = np.empty((self.num_frames(len(samples)), self.num_bins), np.float32)
    for frames, power in power_blocks(samples, self._framing):
      self._finish(power, values[frames])
    return values

  @abc.abstractmethod
  def _finish(self, power: np.ndarray, values: np.ndarray) -> None:
    """Compute values, [frames, bins], of a block of power spectra, float32 [frames, frequencies], into `values`."""


class LogMel(_Transformed):
  """Logarithms of mel bands: log(power x bands + log_offset)."""

  settings: LogMelSettings

  def __init__(self, settings: LogMelSettings, statistics: FeatureStatistics | None = None):
    """Keep the settings; see `Features`."""
    super().__init__(settings, settings.num_mel_bins, statistics, math.log(settings.log_offset))
    # Relative to the offset: near silence is then near 0, where single precision is finest.
    self._weights = mel_matrix(settings.edges(), settings.sample_rate, settings.num_points) / settings.log_offset
    self._sums = BandSums(self._weights)

  def _finish(self, power: np.ndarray, values: np.ndarray) -> None:
    self._sums.add_up(power, values)
    np.log1p(values, out=values)

  def _build_values(self, samples: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    from layers import spectrogram

    power, num_frames = spectrogram.power_spectra(samples, lengths, *self._framing)
    return spectrogram.log_bands(power, self._weights), num_frames


class Magnitude(_Transformed):
  """Magnitudes of the Fourier transform."""

  def __init__(self, settings: MagnitudeSettings, statistics: FeatureStatistics | None = None):
    """Keep the settings; see `Features`."""
    super().__init__(settings, settings.num_points // 2 + 1, statistics, pads_end=True)

  def _finish(self, power: np.ndarray, values: np.ndarray) -> None:
    np.sqrt(power, out=values)

  def _build_values(self, samples: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    from layers import spectrogram

    power, num_frames = spectrogram.power_spectra(samples, lengths, *self._framing)
    return spectrogram.magnitudes(power), num_frames


_KINDS: dict[str, Callable[..., Features]] = {
  SpectrogramSettings.kind: Spectrogram,
  LogMelSettings.kind: LogMel,
  MagnitudeSettings.kind: Magnitude,
}


def make_features(settings: FeatureSettings, statistics: FeatureStatistics | None = None) -> Features:
  """Make the features that the settings describe.

  Args:
    settings: the settings.
    statistics: those of the training set, for a normalisation that needs them; without them, frames and bins can still
      be counted.
  """
  return _KINDS[settings.kind](settings, statistics)
