"""Log spectrograms inside the graph: the twin of the featurizer that training reads its features from."""

import math

import numpy as np

from official_utils.lazy import tf

EPSILON = 1e-14


def log_spectrograms(
  samples: "tf.Tensor", lengths: "tf.Tensor", sample_rate: int, window_size: int, hop: int, normalize: bool = True
) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Compute the log power spectrogram of each clip of a batch.

  Args:
    samples: float32 [batch, samples], full scale being 1; what lies beyond a clip's length may be anything.
    lengths: [batch] int32, samples of each clip; a clip shorter than a window counts as padded with zeros to one.
    sample_rate: samples a second.
    window_size: samples of a window.
    hop: samples from window to window.
    normalize: whether each bin is brought to mean 0 and deviation 1 over the clip.

  Returns:
    float32 [batch, frames, bins], zero beyond a clip's frames; and the frames of each clip, [batch] int32.
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

  In double precision up to there, as the featurizer does: rounding would differ with the batch, and normalisation makes
  it as loud as speech in a bin without sound.
  """
  window = np.hanning(window_size)
  # Every bin stands for its negative frequency, too, but for the first and the last.
  scale = np.full(window_size // 2 + 1, 2 / (sample_rate * np.sum(window**2)))
  scale[:: window_size // 2] /= 2
  spectrum = tf.signal.rfft(tf.cast(tf.signal.frame(samples, window_size, hop), tf.float64) * window)
  power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
  return tf.cast(tf.math.log1p(power * (scale / EPSILON)), tf.float32)


def _normalize(values, mask):
  """Bring each bin of [batch, frames, bins] to mean 0 and deviation 1 over the frames that the mask marks."""
  count = tf.reduce_sum(mask, axis=1, keepdims=True)
  # Differences from the first frame are small, and exactly zero where a bin never changes.
  values = (values - values[:, :1]) * mask
  values = (values - tf.reduce_sum(values, axis=1, keepdims=True) / count) * mask
  deviation = tf.sqrt(tf.reduce_sum(tf.square(values), axis=1, keepdims=True) / count)
  return values / (deviation + 1e-6)
