"""Makes small corpora of noise for tests, and data sets of them."""

import os

import numpy as np
import soundfile

from data import manifest
from data.batches import cut_all
from data.dataset import AudioConfig, DatasetConfig, DeepSpeechDataset, batched_input_fn
from data.loading import load_batches

VOCABULARY = os.path.join(os.path.dirname(__file__), "..", "data", "vocabulary.txt")
RATE = 16000


def output_length(frames):
  return (frames + 3) // 4


def open_dataset(data_path: str, normalize: bool = True, **options) -> DeepSpeechDataset:
  config = DatasetConfig(
    AudioConfig(RATE, 20, 10, normalize), data_path, options.pop("vocabulary", VOCABULARY), **options
  )
  return DeepSpeechDataset(config, output_length)


def generate_batches(batch_size: int, dataset: DeepSpeechDataset, orders, num_replicas: int = 1, num_threads=None):
  """Yield the batches of epochs as numpy arrays; orders are indices of the entries, epoch by epoch."""
  return load_batches(dataset, cut_all(orders, batch_size), num_replicas, num_threads)


def ordered_input_fn(batch_size: int, dataset: DeepSpeechDataset, orders, num_replicas: int = 1, num_threads=None):
  """Build the tf.data.Dataset of the same batches."""
  return batched_input_fn(dataset, cut_all(orders, batch_size), num_replicas, num_threads)


def make_corpus(folder, utterances, sizes=None) -> str:
  """Write noise of the given (seconds, transcript) and a manifest, with true sizes unless others are given."""
  rng = np.random.default_rng(0)
  entries = []
  for number, (seconds, transcript) in enumerate(utterances):
    path = os.path.join(folder, f"{number}.wav")
    soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
    size = sizes[number] if sizes else manifest.duration_to_size(seconds)
    entries.append(manifest.Entry(path, size, transcript))
  data_path = os.path.join(folder, "m.tsv")
  manifest.write_manifest(data_path, entries)
  return data_path


def names_of(dataset: DeepSpeechDataset) -> list[str]:
  return [os.path.basename(entry.path) for entry in dataset.entries]
