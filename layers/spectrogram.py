"""Features in the graph: the twins of what numpy computes for training, from samples to normalised frames."""

import numpy as np

from official_utils.lazy import tf

EPSILON = 1e-14


def log_spectrograms(
  samples: "tf.Tensor", lengths: "tf.Tensor", sample_rate: int, window_size: int, hop: int
) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Compute log(power + EPSILON) - log(EPSILON) of each clip of a batch.

  Args:
    samples: as for `power_spectra`.
    lengths: [batch] int32, samples of each clip.
    sample_rate: samples per second.
    window_size: samples of a window.
    hop: samples from window to window.

  Returns:
    As `power_spectra`, but float32.
  """
  window = np.hanning(window_size)
  # Every bin except the first and the last also stands for its negative frequency.
  scale = np.full(window_size // 2 + 1, 2 / (sample_rate * np.sum(window**2)))
  scale[:: window_size // 2] /= 2
  power, num_frames = power_spectra(samples, lengths, window, hop, window_size)
  return tf.cast(tf.math.log1p(power * (scale / EPSILON)), tf.float32), num_frames


def power_spectra(
  samples: "tf.Tensor", lengths: "tf.Tensor", window: np.ndarray, hop: int, num_points: int, pads_end: bool = False
) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Compute the power of each frame of a batch of clips.

  In double precision, as numpy does: single precision would round differently from batch to batch, and normalisation
  makes the rounding as loud as speech in a bin without sound.

  Args:
    samples: float32 [batch, samples], full scale being 1; values beyond a clip's length do not matter.
    lengths: [batch] int32, samples of each clip; a clip shorter than a window is padded with zeros to one.
    window: [window] float64, what the samples of a frame are multiplied by.
    hop: samples from frame to frame.
    num_points: samples of a Fourier transform, zeros behind those of a frame.
    pads_end: whether the last samples fill a frame with zeros; otherwise frames end where there is no whole one.

  Returns:
    float64 [batch, frames, frequencies], which means nothing beyond a clip's frames, and the frames of each clip, [batch]
    int32.
  """
  size = len(window)
  num_frames = tf.maximum(1, -(-lengths // hop) if pads_end else (lengths - size) // hop + 1)
  samples = tf.where(tf.sequence_mask(lengths, tf.shape(samples)[1]), samples, tf.zeros_like(samples))
  needed = (tf.reduce_max(num_frames) - 1) * hop + size
  samples = tf.pad(samples, [[0, 0], [0, tf.maximum(0, needed - tf.shape(samples)[1])]])
  frames = tf.cast(tf.signal.frame(samples, size, hop), tf.float64) * window
  spectrum = tf.signal.rfft(frames, [num_points])
  return tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)), num_frames


def log_bands(power: "tf.Tensor", weights: np.ndarray) -> "tf.Tensor":
  """Compute log(1 + power x weights), float32 [batch, frames, bands], from weights [frequencies, bands]."""
  return tf.cast(tf.math.log1p(tf.tensordot(power, tf.constant(weights, tf.float64), 1)), tf.float32)


def magnitudes(power: "tf.Tensor") -> "tf.Tensor":
  """Compute the magnitude, float32 [batch, frames, frequencies], from the power."""
  return tf.cast(tf.sqrt(power), tf.float32)


def normalize(values: "tf.Tensor", num_frames: "tf.Tensor") -> "tf.Tensor":
  """Shift and scale each bin of [batch, frames, bins] to mean 0 and deviation 1 over each clip's frames."""
  mask = _mask(values, num_frames)
  count = tf.reduce_sum(mask, axis=1, keepdims=True)
  # Differences from the first frame are small, and exactly zero where a bin never changes.
  values = (values - values[:, :1]) * mask
  values = (values - tf.reduce_sum(values, axis=1, keepdims=True) / count) * mask
  deviation = tf.sqrt(tf.reduce_sum(tf.square(values), axis=1, keepdims=True) / count)
  return values / (deviation + 1e-6)


def standardize(values: "tf.Tensor", center: np.ndarray, scale: np.ndarray) -> "tf.Tensor":
  """Subtract `center` from each frame of [batch, frames, bins] and multiply it by `scale`, float32 [bins] each."""
  return (values - center) * scale


def normalize_so_far(values: "tf.Tensor", prior_frames: int) -> "tf.Tensor":
  """Shift and scale each frame of [batch, frames, bins] by the mean and deviation of the frames up to it.

  Args:
    values: float32, standardised already.
    prior_frames: how many frames of mean 0 and deviation 1 are counted in, as if they came first.
  """
  exact = tf.cast(values, tf.float64)
  first = 1 + prior_frames
  counts = tf.cast(tf.range(first, first + tf.shape(values)[1])[:, tf.newaxis], tf.float64)
  mean = tf.cumsum(exact, axis=1) / counts
  variance = (prior_frames + tf.cumsum(tf.square(exact), axis=1)) / counts - tf.square(mean)
  return tf.cast((exact - mean) / tf.sqrt(variance), tf.float32)


def without_padding(values: "tf.Tensor", num_frames: "tf.Tensor") -> "tf.Tensor":
  """Set what lies beyond each clip's frames of [batch, frames, bins] to zero."""
  return values * _mask(values, num_frames)


def _mask(values: "tf.Tensor", num_frames: "tf.Tensor") -> "tf.Tensor":
  """Mark the frames of each clip with 1 and the others with 0: [batch, frames, 1] of the values' type."""
  return tf.sequence_mask(num_frames, tf.shape(values)[1], values.dtype)[:, :, tf.newaxis]
