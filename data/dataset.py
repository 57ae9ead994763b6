"""Turns a manifest into checked entries, an order for each epoch, and batches of tensors."""

import collections
import contextlib
import dataclasses
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from data import audio, manifest
from data.featurizer import AudioFeaturizer, TextFeaturizer, compute_label_feature, normalize_text, steps_needed
from data.manifest import Entry
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from official_utils.misc.parallel import available_cpus, ordered_map

# How many examples a message shows.
SHOWN = 5

# A line number of the manifest with the entry that stands there.
Row = tuple[int, Entry]


@dataclasses.dataclass(frozen=True)
class AudioConfig:
  """How audio becomes features; see AudioFeaturizer."""

  sample_rate: int = 16000
  window_ms: float = 20.0
  stride_ms: float = 10.0
  normalize: bool = True


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """What a dataset is made of.

  Attributes:
    audio_config: the settings of the features.
    data_path: the manifest.
    vocab_file_path: the vocabulary.
    sortagrad: whether the first epoch goes from short to long.
    on_unknown: "error" or "drop": what to do with transcripts that hold characters outside the vocabulary.
    leave_out_infeasible: whether utterances that CTC cannot align are left out. Evaluation keeps them: their words
      count as errors like any others, and their weight in the loss is 0.
  """

  audio_config: AudioConfig
  data_path: str
  vocab_file_path: str
  sortagrad: bool = True
  on_unknown: str = "error"
  leave_out_infeasible: bool = True


class DeepSpeechDataset:
  """The utterances of a manifest, checked before training starts.

  Attributes:
    config: the DatasetConfig.
    audio_featurizer: samples to features.
    text_featurizer: the vocabulary.
    output_length: the network's rule from input frames to output steps.
    entries: the utterances by length, those of equal length in the order of the manifest; transcripts normalised.
    left_out: (entry, reason) of each utterance that is not trained on.
    num_upper_case: how many transcripts had upper-case letters.
    failure: the first exception raised while batches were made, which TensorFlow hides; None if there was none.
  """

  def __init__(self, config: DatasetConfig, output_length: Callable[[Any], Any]):
    """Read the manifest, check every row and leave out what cannot be trained on.

    Args:
      config: what to read and how.
      output_length: maps a number of feature frames (or an array of numbers) to the network's number of output steps.
    """
    settings = config.audio_config
    self.config = config
    self.audio_featurizer = AudioFeaturizer(
      settings.sample_rate, settings.window_ms, settings.stride_ms, settings.normalize
    )
    self.text_featurizer = TextFeaturizer(config.vocab_file_path)
    self.output_length = output_length
    self.left_out: list[tuple[Entry, str]] = []
    self.num_upper_case = 0
    self.failure: Exception | None = None
    self._too_short: set[int] = set()

    rows = sorted(manifest.read_numbered(config.data_path), key=lambda row: row[1].size)
    self._check_files(rows)
    rows = self._check_characters(self._normalize(rows))
    if config.leave_out_infeasible:
      rows = self._check_lengths(rows)
    self.entries = [entry for _, entry in rows]
    self._report()

  @property
  def speech_labels(self) -> str:
    """All characters of the vocabulary in the order of their ids."""
    return self.text_featurizer.speech_labels

  @property
  def num_feature_bins(self) -> int:
    """The number of features a frame."""
    return self.audio_featurizer.num_feature_bins

  @property
  def has_feasible(self) -> bool:
    """Whether there is an utterance that was not found too short for its transcript when its audio was read."""
    return len(self._too_short) < len(self.entries)

  def is_feasible(self, index: int, num_frames: int) -> bool:
    """Tell whether CTC can align an utterance with the frames that its audio gave; if not, say so the first time."""
    entry = self.entries[index]
    reason = self._shortage(entry.transcript, num_frames)
    if reason and self.config.leave_out_infeasible and index not in self._too_short:
      self._too_short.add(index)
      self.left_out.append((entry, reason))
      logging.warning("Not trained on: %s: %s", entry.path, reason)
    return reason is None

  def _shortage(self, transcript: str, num_frames: int) -> str | None:
    """Say why CTC cannot align a transcript with so many frames; None if it can."""
    needed, steps = steps_needed(transcript), int(self.output_length(num_frames))
    if needed <= steps:
      return None
    return (
      f"{len(transcript)} labels, {needed - len(transcript)} of them doubled, need {needed} output steps; "
      f"{num_frames} frames of audio give {steps}"
    )

  def _check_files(self, rows: list[Row]) -> None:
    """Refuse a manifest that names audio files which are not there."""
    missing = [row for row in rows if not os.path.exists(row[1].path)]
    if missing:
      first = ", ".join(f"{entry.path} (line {line})" for line, entry in sorted(missing)[:SHOWN])
      raise UserError(
        f"{self.config.data_path}: {len(missing)} of {len(rows)} audio files do not exist: "
        f"{_and_more(first, len(missing))}; mend the paths or make the corpus anew with `python data/download.py`"
      )

  def _normalize(self, rows: list[Row]) -> list[Row]:
    """Bring all transcripts to the form that labels are made of, and count the changed cases."""
    normalized = []
    for line, entry in rows:
      text = normalize_text(entry.transcript)
      if text != entry.transcript:
        self.num_upper_case += text != entry.transcript.strip()
        entry = entry._replace(transcript=text)
      normalized.append((line, entry))
    return normalized

  def _check_characters(self, rows: list[Row]) -> list[Row]:
    """Refuse or leave out the transcripts with characters that are not in the vocabulary."""
    known = self.text_featurizer.characters
    faulty = [row for row in rows if not known.issuperset(row[1].transcript)]
    if not faulty:
      return rows
    if self.config.on_unknown != "drop":
      raise UserError(self._describe_unknown(faulty, len(rows)))
    for line, entry in faulty:
      unknown = "".join(sorted(set(entry.transcript) - known))
      self.left_out.append((entry, f"line {line}: characters {unknown!r} are not in {self.config.vocab_file_path}"))
    faulty_lines = {line for line, _ in faulty}
    return [row for row in rows if row[0] not in faulty_lines]

  def _describe_unknown(self, faulty: list[Row], num_rows: int) -> str:
    """Say how many transcripts hold unknown characters, which ones, and where."""
    known = self.text_featurizer.characters
    counts = collections.Counter(c for _, entry in faulty for c in entry.transcript if c not in known)
    characters = ", ".join(f"{character!r} ({count} times)" for character, count in counts.most_common(4 * SHOWN))
    where = ", ".join(f"{self.config.data_path}:{line}" for line, _ in sorted(faulty)[:SHOWN])
    blank = self.text_featurizer.index_to_token[self.text_featurizer.blank_index]
    hint = f" ({blank!r}, its last line, stands for the blank)" if blank in counts else ""
    return (
      f"{self.config.data_path}: {len(faulty)} of {num_rows} transcripts hold characters that are not in "
      f"{self.config.vocab_file_path}{hint}: {_and_more(characters, len(counts), 4 * SHOWN)}; in "
      f"{_and_more(where, len(faulty))}; leave them out with --on_unknown=drop, mend the transcripts, or give a "
      "--vocabulary_file with these characters"
    )

  def _check_lengths(self, rows: list[Row]) -> list[Row]:
    """Leave out the utterances that are too short for their transcripts."""
    sizes = np.array([entry.size for _, entry in rows], np.int64)
    seconds = manifest.size_to_duration(sizes)
    steps = self.output_length(self._frames_of(seconds))
    kept = []
    for (line, entry), available in zip(rows, np.asarray(steps).tolist(), strict=True):
      # No text needs more than twice its length: most rows are settled without a look at their letters.
      if 2 * len(entry.transcript) > available and steps_needed(entry.transcript) > available:
        # The size may be that of a compressed file: only the audio itself can tell.
        reason = self._shortage(entry.transcript, int(self._frames_of(audio.audio_duration(entry.path))))
        if reason:
          self.left_out.append((entry, f"line {line}: {reason}"))
          continue
      kept.append((line, entry))
    return kept

  def _frames_of(self, seconds):
    """Convert a length (or an array of lengths) to frames."""
    samples = np.rint(seconds * self.audio_featurizer.sample_rate).astype(np.int64)
    return self.audio_featurizer.num_frames(samples)

  def _report(self) -> None:
    """Say what was left out or changed, and refuse to go on with nothing."""
    path = self.config.data_path
    total = len(self.entries) + len(self.left_out)
    for entry, reason in self.left_out[: 4 * SHOWN]:
      logging.warning("Left out %s: %s, %s", entry.path, path, reason)
    if self.left_out:
      logging.warning("%d of %d utterances of %s are left out.", len(self.left_out), total, path)
    if self.num_upper_case:
      logging.info("%d transcripts of %s had upper-case letters; they are lower-cased.", self.num_upper_case, path)
    if not self.entries:
      entry, reason = self.left_out[0]
      raise UserError(
        f"{path}: all {total} utterances are left out, the first one {entry.path} because of {reason}; "
        "check the transcripts, --vocabulary_file and --stride_ms"
      )


def _and_more(examples: str, total: int, shown: int = SHOWN) -> str:
  """Say how many there are beside the examples shown."""
  return f"{examples} and {total - shown} more" if total > shown else examples


def batch_wise_dataset_shuffle(
  entries: Sequence[Any], epoch_index: int, sortagrad: bool, batch_size: int, rng: random.Random, offset: int = 0
) -> list[Any]:
  """Permute whole batches, so that neighbours in length stay together.

  Args:
    entries: the utterances, by length.
    epoch_index: epoch 0 is left alone with sortagrad.
    sortagrad: whether the first epoch goes from short to long.
    batch_size: utterances a batch.
    rng: draws the permutation.
    offset: where the list is first cut like a deck of cards, which changes what shares a batch.

  Returns:
    The entries in their new order; those that fill no batch come last.
  """
  entries = list(entries)
  if sortagrad and epoch_index == 0:
    return entries
  entries = entries[offset:] + entries[:offset]
  batches = list(range(len(entries) // batch_size))
  rng.shuffle(batches)
  remainder = entries[len(batches) * batch_size :]
  return [entry for batch in batches for entry in entries[batch * batch_size : (batch + 1) * batch_size]] + remainder


def epoch_order(num_entries: int, epoch_index: int, sortagrad: bool, batch_size: int, seed: int) -> list[int]:
  """Give the order of an epoch, which depends on nothing but the arguments.

  Args:
    num_entries: number of utterances, sorted by length.
    epoch_index: the epoch, from 0 on.
    sortagrad: whether the first epoch goes from short to long.
    batch_size: utterances a global batch.
    seed: the run's seed.

  Returns:
    Indices of the utterances.
  """
  rng = random.Random(f"{seed}:{epoch_index}")
  offset = rng.randrange(batch_size)
  return batch_wise_dataset_shuffle(range(num_entries), epoch_index, sortagrad, batch_size, rng, offset)


def input_fn(
  batch_size: int,
  dataset: DeepSpeechDataset,
  orders: Sequence[Sequence[int]],
  num_replicas: int = 1,
  num_threads: int | None = None,
) -> "tf.data.Dataset":
  """Build the tf.data.Dataset of padded batches.

  Args:
    batch_size: utterances a global batch.
    dataset: the utterances.
    orders: for each epoch the indices into `dataset.entries`; no batch straddles two epochs.
    num_replicas: each global batch is given as so many batches, one a replica; it divides `batch_size`.
    num_threads: threads that read audio; None for one a processor.

  Returns:
    A tf.data.Dataset of (features, labels): features float32 "features" [batch, frames, bins, 1] and "weight"
    [batch, 1], int32 "input_length" (frames), "label_length" and "index" (into the entries) [batch, 1]; labels int32
    [batch, labels]. Shorter utterances are padded with zeros. Weights are such that the mean over the replicas of
    sum(weight * loss) is the mean loss of the global batch.
  """
  if batch_size % num_replicas:
    raise ValueError(f"batch_size {batch_size} is not divisible by num_replicas {num_replicas}")

  def column(dtype):
    return tf.TensorSpec([None, 1], dtype)

  signature = (
    {
      "features": tf.TensorSpec([None, None, dataset.num_feature_bins, 1], tf.float32),
      "input_length": column(tf.int32),
      "label_length": column(tf.int32),
      "weight": column(tf.float32),
      "index": column(tf.int32),
    },
    tf.TensorSpec([None, None], tf.int32),
  )

  def generate():
    # TensorFlow reports what a generator raises as text within text; the run loop wants the exception itself.
    try:
      yield from generate_batches(batch_size, dataset, orders, num_replicas, num_threads)
    except Exception as error:
      dataset.failure = dataset.failure or error
      raise

  return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(max(2, num_replicas))


class Utterance(NamedTuple):
  """An utterance ready for a batch.

  Attributes:
    index: its place in the entries.
    features: float32 [frames, bins].
    labels: its label ids.
    weight: its weight in the loss.
  """

  index: int
  features: np.ndarray
  labels: list[int]
  weight: float = 0.0


Batch = tuple[dict[str, np.ndarray], np.ndarray]


def generate_batches(
  batch_size: int,
  dataset: DeepSpeechDataset,
  orders: Sequence[Sequence[int]],
  num_replicas: int = 1,
  num_threads: int | None = None,
) -> Iterator[Batch]:
  """Yield the batches of `input_fn` as numpy arrays."""
  num_threads = num_threads or available_cpus()
  batches = [order[start : start + batch_size] for order in orders for start in range(0, len(order), batch_size)]
  # Reads one batch ahead of the one being gathered, and no further.
  loaded = ordered_map(
    lambda index: _load(dataset, index), itertools.chain.from_iterable(batches), num_threads, batch_size + num_threads
  )
  with contextlib.closing(loaded):
    for batch in batches:
      utterances = list(itertools.islice(loaded, len(batch)))
      for part in _split(_weigh(dataset, utterances, num_replicas), num_replicas):
        yield _pad(part)


def _load(dataset: DeepSpeechDataset, index: int) -> Utterance:
  """Read an utterance and compute its features and labels."""
  entry = dataset.entries[index]
  samples = audio.read_audio(entry.path, dataset.audio_featurizer.sample_rate)
  labels = compute_label_feature(entry.transcript, dataset.text_featurizer.token_to_index)
  return Utterance(index, dataset.audio_featurizer.featurize(samples), labels)


def _weigh(dataset: DeepSpeechDataset, utterances: list[Utterance], num_replicas: int) -> list[Utterance]:
  """Give the utterances of a global batch their weights: 0 to those that turn out too short for their transcripts."""
  feasible = [dataset.is_feasible(utterance.index, len(utterance.features)) for utterance in utterances]
  weight = num_replicas / max(1, sum(feasible))
  return [utterance._replace(weight=weight * real) for utterance, real in zip(utterances, feasible, strict=True)]


def _split(utterances: list[Utterance], num_replicas: int) -> Iterator[list[Utterance]]:
  """Cut a global batch in parts for the replicas whose sizes differ by at most one."""
  size, larger = divmod(len(utterances), num_replicas)
  filler = min(utterances, key=lambda utterance: len(utterance.features))._replace(weight=0.0)
  rest = iter(utterances)
  for replica in range(num_replicas):
    # A replica must not go without a batch: one that has nothing to do gets a short utterance that does not count.
    yield list(itertools.islice(rest, size + (replica < larger))) or [filler]


def _pad(utterances: list[Utterance]) -> Batch:
  """Put utterances into arrays, padded with zeros to the longest."""
  indices, all_features, all_labels, weights = zip(*utterances, strict=True)
  input_lengths = [len(features) for features in all_features]
  label_lengths = [len(labels) for labels in all_labels]
  num_bins = all_features[0].shape[1]
  features = np.zeros((len(utterances), max(input_lengths), num_bins, 1), np.float32)
  # At least one column: not every operation takes a batch of empty transcripts for what it is.
  labels = np.zeros((len(utterances), max(1, *label_lengths)), np.int32)
  for row, utterance in enumerate(utterances):
    features[row, : input_lengths[row], :, 0] = utterance.features
    labels[row, : label_lengths[row]] = utterance.labels

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
