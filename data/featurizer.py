"""Turns audio samples into log-spectrograms and transcripts into label ids."""

import numpy as np

from data.spectra import Framing, power_blocks
from data.vocabulary import normalize_text, read_vocabulary
from official_utils.misc.errors import UserError
from settings import window_and_hop

# Frames added up at once.
BLOCK_FRAMES = 128
# Added to the power before the logarithm.
EPSILON = 1e-14


def compute_spectrogram_feature(
  samples: np.ndarray,
  sample_rate: int,
  stride_ms: float = 10.0,
  window_ms: float = 20.0,
  max_freq: float | None = None,
  eps: float = EPSILON,
) -> np.ndarray:
  """Compute the log power spectrogram of a clip.

  Args:
    samples: float [samples], full scale being 1; a clip shorter than a window is padded with zeros to one.
    sample_rate: samples per second.
    stride_ms: step from window to window in milliseconds.
    window_ms: length of a window in milliseconds.
    max_freq: highest frequency kept, in hertz; None keeps all.
    eps: added to the power before the logarithm; above 0.

  Returns:
    float32 [frames, bins].
  """
  log_power = log_power_over_eps(samples, sample_rate, stride_ms, window_ms, max_freq, eps)
  log_power += np.float32(np.log(eps))
  return log_power


def log_power_over_eps(
  samples: np.ndarray,
  sample_rate: int,
  stride_ms: float,
  window_ms: float,
  max_freq: float | None = None,
  eps: float = EPSILON,
) -> np.ndarray:
  """Compute log(power + eps) - log(eps), which is near 0 for near silence, where single precision is finest.

  Its twin in the graph is `layers.spectrogram.log_spectrograms`; tests/test_features.py compares them. If the numbers
  change, `feature_cache.FORMAT` must too, and trained models expect the old ones.
  """
  window_size, hop = window_and_hop(sample_rate, window_ms, stride_ms)
  num_bins = count_bins(sample_rate, window_size, max_freq)
  window = np.hanning(window_size)
  # Every bin except the first and the last also stands for its negative frequency.
  framing = Framing(window * np.sqrt(2 / (sample_rate * np.sum(window**2) * eps)), hop, window_size)
  log_power = np.empty((framing.num_frames(len(samples)), num_bins), np.float32)
  for frames, power in power_blocks(samples, framing):
    power[:, :: window_size // 2] *= 0.5
    np.log1p(power[:, :num_bins], out=log_power[frames])
  return log_power


def count_bins(sample_rate: int, window_size: int, max_freq: float | None = None) -> int:
  """Count the frequency bins k with k * sample_rate / window_size <= max_freq (default: half the sample rate)."""
  if max_freq is None:
    return window_size // 2 + 1
  if not 0 <= max_freq <= sample_rate / 2:
    raise UserError(f"max_freq {max_freq} Hz must lie between 0 and half the sample rate, {sample_rate / 2} Hz")
  return int(max_freq * window_size / sample_rate) + 1


def normalize(spectrogram: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
  """Shift and scale each bin to mean 0 and deviation 1 over time.

  Args:
    spectrogram: float32 [frames, bins].
    out: the array for the result, which may be `spectrogram` itself; None makes a new one.

  Returns:
    float32 [frames, bins]. A bin that never changes (digital silence, a single frame) is exactly 0.
  """
  # Differences from the first frame are small: their sums over a block are in single precision, and the blocks' sums
  # are added in double precision.
  out = np.subtract(spectrogram, spectrogram[0], out=out)
  blocks = [out[start : start + BLOCK_FRAMES] for start in range(0, len(out), BLOCK_FRAMES)]
  mean = sum(block.sum(axis=0).astype(np.float64) for block in blocks) / len(out)
  out -= np.asarray(mean, np.float32)
  variance = sum(np.einsum("tb,tb->b", block, block).astype(np.float64) for block in blocks) / len(out)
  out *= (1 / (np.sqrt(variance) + 1e-6)).astype(np.float32)
  return out


class AudioFeaturizer:
  """Computes spectrograms from samples with fixed settings.

  Attributes:
    window_and_hop: samples of a window, and samples from window to window.
    num_feature_bins: the number of features per frame.
  """

  def __init__(
    self, sample_rate: int = 16000, window_ms: float = 20.0, stride_ms: float = 10.0, normalize: bool = True
  ):
    """Check and keep the settings.

    Args:
      sample_rate: samples per second of the clips.
      window_ms: length of a window in milliseconds.
      stride_ms: step from window to window in milliseconds.
      normalize: whether to shift and scale each bin to mean 0 and deviation 1 over the clip.
    """
    self.sample_rate = sample_rate
    self.window_ms = window_ms
    self.stride_ms = stride_ms
    self.normalize = normalize
    self.window_and_hop = window_and_hop(sample_rate, window_ms, stride_ms)
    window_size, hop = self.window_and_hop
    self._framing = Framing(np.hanning(window_size), hop, window_size)
    self.num_feature_bins = count_bins(sample_rate, window_size)

  def num_frames(self, num_samples: int | np.ndarray) -> np.integer | np.ndarray:
    """Compute how many frames `featurize` makes from a number of samples (an integer or an array of integers)."""
    return self._framing.num_frames(num_samples)

  def featurize(self, samples: np.ndarray) -> np.ndarray:
    """Compute float32 [frames, bins] from float [samples]."""
    settings = samples, self.sample_rate, self.stride_ms, self.window_ms
    if not self.normalize:
      return compute_spectrogram_feature(*settings)
    # Normalisation removes a constant such as log(eps).
    spectrogram = log_power_over_eps(*settings)
    return normalize(spectrogram, out=spectrogram)


def compute_label_feature(text: str, token_to_idx: dict[str, int]) -> list[int]:
  """Convert a transcript to label ids.

  Args:
    text: the transcript, which is lower-cased and stripped here.
    token_to_idx: id of each character.

  Returns:
    An id for each character.
  """
  try:
    return [token_to_idx[character] for character in normalize_text(text)]
  except KeyError as error:
    raise UserError(
      f"character {error.args[0]!r} of transcript {text!r} is not in the vocabulary; "
      "add it to --vocabulary_file or leave such utterances out with --on_unknown=drop"
    ) from error


class TextFeaturizer:
  """Knows the vocabulary; its last token, whatever its character, is the CTC blank.

  Attributes:
    token_to_index: id of each character.
    index_to_token: character of each id.
    speech_labels: all characters in the order of their ids.
    num_classes: number of characters, including the blank.
    blank_index: id of the blank.
    characters: the characters that a transcript may have: all but the blank.
  """

  def __init__(self, vocab_file: str):
    """Read the vocabulary; see `vocabulary.read_vocabulary`."""
    tokens = read_vocabulary(vocab_file)
    self.token_to_index = {token: index for index, token in enumerate(tokens)}
    self.index_to_token = dict(enumerate(tokens))
    self.speech_labels = "".join(tokens)
    self.num_classes = len(tokens)
    self.blank_index = len(tokens) - 1
    self.characters = frozenset(tokens[:-1])
