"""Log spectrograms in the graph: the twin of the featurizer that computes features for training."""

import math

import numpy as np

from official_utils.lazy import tf

EPSILON = 1e-14


def log_spectrograms(
  samples: "tf.Tensor", lengths: "tf.Tensor", sample_rate: int, window_size: int, hop: int, normalize: bool = True
) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Compute the log power spectrogram of each clip of a batch.

  Args:
    samples: float32 [batch, samples], full scale being 1; values beyond a clip's length do not matter.
    lengths: [batch] int32, samples of each clip; a clip shorter than a window is padded with zeros to one.
    sample_rate: samples per second.
    window_size: samples of a window.
    hop: samples from window to window.
    normalize: whether to shift and scale each bin to mean 0 and deviation 1 over the clip.

  Returns:
    float32 [batch, frames, bins], zero beyond a clip's frames, and the frames of each clip, [batch] int32.
  """
  is_sample = tf.sequence_mask(lengths, tf.shape(samples)[1])
  samples = tf.where(is_sample, samples, tf.zeros_like(samples))
  samples = tf.pad(samples, [[0, 0], [0, tf.maximum(0, window_size - tf.shape(samples)[1])]])
  num_frames = tf.maximum(1, (lengths - window_size) // hop + 1)
  values = _log_power(samples, sample_rate, window_size, hop)
  mask = tf.sequence_mask(num_frames, tf.shape(values)[1], values.dtype)[:, :, tf.newaxis]
  return (_normalize(values, mask) if normalize else (values + math.log(EPSILON)) * mask), num_frames


def _log_power(samples: "tf.Tensor", sample_rate: int, window_size: int, hop: int) -> "tf.Tensor":
  """Transform windows of [batch, samples] to log(power + EPSILON) - log(EPSILON), [batch, frames, bins].

  Up to the logarithm in double precision, as in the featurizer: single precision would round differently from batch to
  batch, and normalisation makes the rounding as loud as speech in a bin without sound.
  """
  window = np.hanning(window_size)
  # Every bin except the first and the last also stands for its negative frequency.
  scale = np.full(window_size // 2 + 1, 2 / (sample_rate * np.sum(window**2)))
  scale[:: window_size // 2] /= 2
  spectrum = tf.signal.rfft(tf.cast(tf.signal.frame(samples, window_size, hop), tf.float64) * window)
  power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
  return tf.cast(tf.math.log1p(power * (scale / EPSILON)), tf.float32)


def _normalize(values, mask):
  """Shift and scale each bin of [batch, frames, bins] to mean 0 and deviation 1 over the frames that the mask marks."""
  count = tf.reduce_sum(mask, axis=1, keepdims=True)
  # Differences from the first frame are small, and exactly zero where a bin never changes.
  values = (values - values[:, :1]) * mask
  values = (values - tf.reduce_sum(values, axis=1, keepdims=True) / count) * mask
  deviation = tf.sqrt(tf.reduce_sum(tf.square(values), axis=1, keepdims=True) / count)
  return values / (deviation + 1e-6)
