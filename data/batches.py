"""Gathers utterances, sorted by length, into the batches of each epoch."""

import bisect
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

# In which order the utterances of an epoch come; Batching says what each means.
BATCHES, SORTED, UTTERANCES = "batches", "sorted", "utterances"
ORDERS = (BATCHES, SORTED, UTTERANCES)


class PlannedBatch(NamedTuple):
  """A global batch before any of it is loaded.

  Attributes:
    epoch: the epoch, from 0 on.
    indices: the batch's utterances, as places in the sorted list.
  """

  epoch: int
  indices: Sequence[int]


class Position(NamedTuple):
  """How far training is.

  Attributes:
    epoch: how many epochs are done.
    batches: how many batches of the next epoch are done.
  """

  epoch: int
  batches: int = 0


class PlannedBatches(Protocol):
  """Batches that can be counted before they are made, and gone through more than once: a list, or EpochBatches."""

  def __len__(self) -> int:
    """Count the batches."""

  def __iter__(self) -> Iterator[PlannedBatch]:
    """Yield each batch."""


def batch_wise_dataset_shuffle(
  entries: Sequence[Any],
  epoch_index: int,
  sortagrad: bool,
  batch_size: int,
  rng: random.Random | None = None,
  offset: int = 0,
) -> list[Any]:
  """Permute whole batches, so that neighbours in length stay together.

  Args:
    entries: the utterances, by length.
    epoch_index: the epoch, from 0 on; epoch 0 keeps its order with sortagrad.
    sortagrad: whether the first epoch goes from short to long.
    batch_size: utterances per batch.
    rng: draws the permutation; None for Python's own generator, which random.seed sets.
    offset: where the list is first cut like a deck of cards, so that other utterances share a batch.

  Returns:
    The entries in their new order; those that do not fill a batch come last.
  """
  entries = list(entries)
  if sortagrad and epoch_index == 0:
    return entries
  entries = entries[offset:] + entries[:offset]
  batches = list(range(len(entries) // batch_size))
  (rng or random).shuffle(batches)
  remainder = entries[len(batches) * batch_size :]
  return [entry for batch in batches for entry in entries[batch * batch_size : (batch + 1) * batch_size]] + remainder


def epoch_order(num_entries: int, epoch_index: int, sortagrad: bool, batch_size: int, seed: int) -> list[int]:
  """Return the order of an epoch, which depends only on the arguments.

  Args:
    num_entries: number of utterances, sorted by length.
    epoch_index: the epoch, from 0 on.
    sortagrad: whether the first epoch goes from short to long.
    batch_size: utterances per global batch.
    seed: the run's seed.

  Returns:
    Indices of the utterances.
  """
  rng = random.Random(f"{seed}:{epoch_index}")
  offset = rng.randrange(batch_size)
  return batch_wise_dataset_shuffle(range(num_entries), epoch_index, sortagrad, batch_size, rng, offset)


def cut_all(orders: Sequence[Sequence[int]], batch_size: int) -> list[PlannedBatch]:
  """Cut the orders of epochs 0, 1 and so on into batches; no batch straddles two epochs."""
  return [PlannedBatch(epoch, batch) for epoch, order in enumerate(orders) for batch in cut(order, batch_size)]


def cut(order: Sequence[int], batch_size: int) -> list[Sequence[int]]:
  """Cut the order of an epoch into batches of equal size; the last batch holds the rest."""
  return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


class Batching:
  """The rule by which the utterances of a training set share batches; an epoch depends only on it and its number."""

  def __init__(
    self,
    seconds: Sequence[float],
    batch_size: int,
    batch_seconds: float | None = None,
    sortagrad: bool = True,
    seed: int = 1,
    order: str = BATCHES,
  ):
    """Choose the rule.

    Args:
      seconds: how long each utterance is, from short to long.
      batch_size: utterances per global batch, if `batch_seconds` is None.
      batch_seconds: the largest duration of a global batch, padding included, because the time and memory of a step
        depend on its padded size. An utterance longer than that gets its own batch.
      sortagrad: whether the first epoch goes from short to long.
      seed: the run's seed.
      order: that of the other epochs. BATCHES: neighbours in length share a batch, and whole batches are permuted;
        SORTED: from short to long; UTTERANCES: all utterances are permuted and fill batches as they come.
    """
    # Above 0, so that the number of utterances that fit into a batch is finite.
    self._seconds = np.maximum(seconds, 1e-4)
    self._batch_size = batch_size
    self._batch_seconds = batch_seconds
    self._sortagrad = sortagrad
    self._seed = seed
    self._order = order
    self._counts: dict[int, int] = {}

  def epoch(self, index: int) -> Sequence[Sequence[int]]:
    """Return the batches of an epoch, each as the indices of its utterances.

    In the order BATCHES by number of utterances, they follow `epoch_order`; by duration, cutting the sorted list starts
    at a random place below the size of the first batch, and then all batches are permuted.

    Args:
      index: the epoch, from 0 on.
    """
    count, size = len(self._seconds), self._batch_size
    rng = random.Random(f"{self._seed}:{index}")
    if self._order == SORTED or (self._sortagrad and index == 0):
      return self._cut_by_duration(0) if self._batch_seconds else cut(list(range(count)), size)
    if self._order == UTTERANCES:
      order = list(range(count))
      rng.shuffle(order)
      return self._fill(order) if self._batch_seconds else cut(order, size)
    if self._batch_seconds is None:
      return cut(epoch_order(count, index, self._sortagrad, size, self._seed), size)
    batches = self._cut_by_duration(rng.randrange(self._fitting(0)))
    rng.shuffle(batches)
    return batches

  def num_batches(self, index: int) -> int:
    """Count the batches of an epoch; by duration, epochs may differ."""
    if self._batch_seconds is None:
      return -(-len(self._seconds) // self._batch_size)
    if index not in self._counts:
      self._counts[index] = len(self.epoch(index))
    return self._counts[index]

  def advance(self, position: Position, steps: int) -> Position:
    """Return the position that so many steps lead to, each of them a batch."""
    epoch, batches = position.epoch, position.batches + steps
    while batches >= self.num_batches(epoch):
      batches -= self.num_batches(epoch)
      epoch += 1
    return Position(epoch, batches)

  def epochs_done(self, position: Position) -> float:
    """Tell how many epochs are done, by number of batches: a whole number at an epoch's end, else a fraction.

    The fraction has three digits and is rounded down, so that only an epoch that is done counts as one.
    """
    epoch, batches = position
    return epoch + batches * 1000 // self.num_batches(epoch) / 1000 if batches else epoch

  def of_epochs(self, indices: Sequence[int], skip: int = 0) -> "EpochBatches":
    """Return the batches of several epochs, one epoch after the other; no batch straddles two.

    Args:
      indices: the epochs.
      skip: how many batches to leave out at the beginning; nothing of them is read.
    """
    return EpochBatches(self, indices, skip)

  def _cut_by_duration(self, start: int) -> list[range]:
    """Cut the sorted utterances from `start` on into the largest possible batches; those before it form one more."""
    batches = [range(start)] if start else []
    while start < len(self._seconds):
      batches.append(range(start, start + self._fitting(start)))
      start = batches[-1].stop
    return batches

  def _fill(self, order: Sequence[int]) -> list[list[int]]:
    """Fill batches with utterances as they come, each as far as the longest of its utterances allows."""
    seconds, limit = self._seconds.tolist(), self._batch_seconds
    batches: list[list[int]] = []
    longest = 0.0
    for index in order:
      longest = max(longest, seconds[index])
      if not batches or (len(batches[-1]) + 1) * longest > limit:
        batches.append([])
        longest = seconds[index]
      batches[-1].append(index)
    return batches

  def _fitting(self, start: int) -> int:
    """Count the utterances from `start` on that fit into a batch, at least one; the last of them is the longest."""

    def padded(count):
      return count * self._seconds[start + count - 1]

    counts = range(1, len(self._seconds) - start + 1)
    return max(1, bisect.bisect_right(counts, self._batch_seconds, key=padded))


class EpochBatches:
  """The batches of several epochs; they are made each time when iterated over."""

  def __init__(self, batching: Batching, indices: Sequence[int], skip: int = 0):
    self._batching = batching
    self._indices = indices
    self._skip = skip

  def __len__(self) -> int:
    """Count the batches."""
    return max(0, sum(map(self._batching.num_batches, self._indices)) - self._skip)

  def __iter__(self) -> Iterator[PlannedBatch]:
    """Yield each batch."""
    skip = self._skip
    for epoch in self._indices:
      # An epoch that is skipped entirely is only counted, not planned.
      count = self._batching.num_batches(epoch) if skip else 0
      if skip and skip >= count:
        skip -= count
        continue
      for indices in self._batching.epoch(epoch)[skip:]:
        yield PlannedBatch(epoch, indices)
      skip = 0
