"""The input as the original makes it: one thread, double precision, one utterance at a time."""

from collections.abc import Iterator

import numpy as np

from data.dataset import DeepSpeechDataset
from data.featurizer import compute_label_feature
from official_utils.lazy import tf


def spectrogram(samples: np.ndarray, sample_rate: int, window_size: int, hop: int, eps: float = 1e-14) -> np.ndarray:
  """Compute the log power spectrogram of float64 [samples] as float64 [frames, bins]."""
  frames = np.lib.stride_tricks.sliding_window_view(samples, window_size)[::hop]
  window = np.hanning(window_size)
  power = np.absolute(np.fft.rfft(frames * window)) ** 2
  scale = sample_rate * np.sum(window**2)
  power[:, 1:-1] *= 2 / scale
  power[:, [0, -1]] /= scale
  return np.log(power + eps)


def normalize(features: np.ndarray) -> np.ndarray:
  """Shift and scale each bin of float64 [frames, bins] to mean 0 and deviation 1."""
  return (features - np.mean(features, axis=0)) / (np.std(features, axis=0) + 1e-6)


def featurize(
  samples: np.ndarray, sample_rate: int = 16000, window_ms: float = 20, stride_ms: float = 10
) -> np.ndarray:
  """Compute float64 [frames, bins] from float64 [samples]."""
  window_size, hop = (int(sample_rate * each / 1000) for each in (window_ms, stride_ms))
  return normalize(spectrogram(samples, sample_rate, window_size, hop))


def generate(dataset: DeepSpeechDataset) -> Iterator[tuple[dict, list[int]]]:
  """Yield the features and labels of utterances in mono files, in their order."""
  import soundfile

  settings = dataset.config.audio_config
  for entry in dataset.entries:
    features = featurize(*soundfile.read(entry.path), settings.window_ms, settings.stride_ms)
    labels = compute_label_feature(entry.transcript, dataset.text_featurizer.token_to_index)
    lengths = {"input_length": [len(features)], "label_length": [len(labels)]}
    yield {"features": features[:, :, np.newaxis], **lengths}, labels


def input_fn(batch_size: int, dataset: DeepSpeechDataset) -> "tf.data.Dataset":
  """Build a tf.data.Dataset of padded batches."""
  features = {
    "features": tf.TensorSpec([None, dataset.num_feature_bins, 1], tf.float32),
    "input_length": tf.TensorSpec([1], tf.int32),
    "label_length": tf.TensorSpec([1], tf.int32),
  }
  signature = features, tf.TensorSpec([None], tf.int32)
  utterances = tf.data.Dataset.from_generator(lambda: generate(dataset), output_signature=signature)
  shapes = {name: spec.shape for name, spec in features.items()}, [None]
  return utterances.padded_batch(batch_size, shapes).prefetch(tf.data.AUTOTUNE)
