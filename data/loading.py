"""Loads planned batches: reads ahead in threads, shares batches among replicas, pads them into arrays."""

import contextlib
import itertools
import math
from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from data.batches import PlannedBatch
from official_utils.misc.parallel import available_cpus, ordered_map

# Of TensorFlow's tensors, in bytes.
TENSOR_ALIGNMENT = 64


class Example(NamedTuple):
  """An utterance ready for a batch.

  Attributes:
    index: its place in the entries.
    features: [frames, bins] of the dataset's `feature_dtype`.
    labels: its label ids.
    weight: its weight in the loss.
  """

  # Nobody asks an example, which is a tuple, for the place of a value.
  index: int  # type: ignore[assignment]
  features: np.ndarray
  labels: list[int]
  weight: float = 0.0


class Source(Protocol):
  """Where examples come from."""

  def load(self, epoch: int, index: int) -> Example:
    """Make the example of an utterance in an epoch."""

  def is_feasible(self, index: int, num_frames: int) -> bool:
    """Tell whether an utterance with this number of frames can be trained on."""


Batch = tuple[dict[str, np.ndarray], np.ndarray]


def load_batches(
  dataset: Source,
  batches: Iterable[PlannedBatch],
  num_replicas: int = 1,
  num_threads: int | None = None,
) -> Generator[Batch, None, None]:
  """Yield the batches of `batched_input_fn` as numpy arrays, with features of the dataset's `feature_dtype`."""
  num_threads = num_threads or available_cpus()
  batches, to_load = itertools.tee(batches)
  places = ((batch.epoch, index) for batch in to_load for index in batch.indices)
  # Reads only a few utterances ahead of the one that is being put into its batch, which keeps the threads busy.
  loaded = ordered_map(lambda place: dataset.load(*place), places, num_threads, 4 * num_threads)
  with contextlib.closing(loaded):
    for batch in batches:
      examples = list(itertools.islice(loaded, len(batch.indices)))
      for part in _split(_weigh(dataset, examples, num_replicas), num_replicas):
        yield _pad(part)


def _weigh(dataset: Source, examples: list[Example], num_replicas: int) -> list[Example]:
  """Give the examples of a global batch their weights; those too short for their transcripts get 0."""
  feasible = [dataset.is_feasible(example.index, len(example.features)) for example in examples]
  weight = num_replicas / max(1, sum(feasible))
  return [example._replace(weight=weight * real) for example, real in zip(examples, feasible, strict=True)]


def _split(examples: list[Example], num_replicas: int) -> Iterator[list[Example]]:
  """Cut a global batch into parts for the replicas; their sizes differ by at most one."""
  size, larger = divmod(len(examples), num_replicas)
  filler = min(examples, key=lambda example: len(example.features))._replace(weight=0.0)
  rest = iter(examples)
  for replica in range(num_replicas):
    # Every replica needs a batch: if nothing is left for it, it gets a short utterance that does not count.
    yield list(itertools.islice(rest, size + (replica < larger))) or [filler]


def _pad(examples: list[Example]) -> Batch:
  """Put examples into arrays, padded with zeros to the longest."""
  indices, all_features, all_labels, weights = zip(*examples, strict=True)
  input_lengths = [len(features) for features in all_features]
  label_lengths = [len(labels) for labels in all_labels]
  num_bins = all_features[0].shape[1]
  features = _aligned_array((len(examples), max(input_lengths), num_bins, 1), all_features[0].dtype)
  # At least one column: not every operation can handle a batch of empty transcripts.
  labels = np.zeros((len(examples), max(1, *label_lengths)), np.int32)
  for row, example in enumerate(examples):
    features[row, : input_lengths[row], :, 0] = example.features
    features[row, input_lengths[row] :] = 0
    labels[row, : label_lengths[row]] = example.labels

  def column(values, dtype=np.int32):
    return np.array(values, dtype)[:, np.newaxis]

  inputs = {
    "features": features,
    "input_length": column(input_lengths),
    "label_length": column(label_lengths),
    "weight": column(weights, np.float32),
    "index": column(indices),
  }
  return inputs, labels


def _aligned_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  """Make an array aligned like TensorFlow's tensors: TensorFlow uses such an array directly and copies any other."""
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + TENSOR_ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % TENSOR_ALIGNMENT
  return memory[start : start + size].view(dtype).reshape(shape)
