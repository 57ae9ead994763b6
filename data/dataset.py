"""Turns a manifest into checked entries, an order for each epoch, and batches of tensors."""

import dataclasses
import itertools
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from absl import logging

from data import audio, checks, manifest
from data.augmentation.augmenter import Augmenter
from data.augmentation.recordings import Recordings
from data.batches import Batching, PlannedBatches, batch_wise_dataset_shuffle, cut_all, epoch_order
from data.checks import Limits
from data.feature_cache import STORED, FeatureCache
from data.features import make_features
from data.featurizer import TextFeaturizer, compute_label_feature
from data.loading import Batch, Example, load_batches
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import FeatureSettings, FeatureStatistics, SpectrogramSettings

__all__ = [
  "AudioConfig",
  "Batching",
  "DatasetConfig",
  "DeepSpeechDataset",
  "Limits",
  "batch_wise_dataset_shuffle",
  "batched_input_fn",
  "epoch_order",
  "input_fn",
]


class AudioConfig(SpectrogramSettings):
  """How audio becomes spectrograms, in the original's words."""

  def __init__(
    self,
    sample_rate: int,
    window_ms: float,
    stride_ms: float,
    normalize: bool = False,
    feature_norm: str | None = None,
  ):
    """Make the settings; `normalize` shifts and scales each bin to mean 0 and deviation 1 over the utterance."""
    super().__init__(
      sample_rate, window_ms, stride_ms, feature_norm=feature_norm or ("utterance" if normalize else "none")
    )

  @property
  def normalize(self) -> bool:
    """Whether each bin is normalised."""
    return self.feature_norm == "utterance"


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """The ingredients of a dataset.

  Attributes:
    audio_config: the settings of the features.
    data_path: the manifest.
    vocab_file_path: the vocabulary.
    sortagrad: whether the first epoch goes from short to long; the original's, not read here: batches decide.
    on_unknown: what to do with transcripts that have characters outside the vocabulary: "error" or "drop".
    leave_out_infeasible: whether to leave out utterances that CTC cannot align. Evaluation keeps them: their errors
      count like any others, and their weight in the loss is 0.
    feature_cache_dir: the folder that keeps computed features; None keeps none. What changes samples goes without it.
    statistics: those of the training set, if its features need them; None if they are not known yet.
    augmenter: what makes the utterances harder; None leaves them as they are.
    limits: the utterances that are used.
  """

  audio_config: FeatureSettings
  data_path: str
  vocab_file_path: str
  sortagrad: bool = True
  on_unknown: str = "error"
  leave_out_infeasible: bool = True
  feature_cache_dir: str | None = None
  statistics: FeatureStatistics | None = None
  augmenter: Augmenter | None = None
  limits: Limits = dataclasses.field(default_factory=Limits)


class DeepSpeechDataset:
  """The utterances of a manifest, checked before training starts.

  Attributes:
    config: the DatasetConfig.
    audio_featurizer: computes features from samples.
    text_featurizer: the vocabulary.
    output_length: the function from input frames to the network's output steps; None if lengths do not matter.
    entries: the utterances by length, in the order of the manifest if equally long, with normalised transcripts.
    left_out: (entry, reason) of each utterance that is not trained on.
    num_upper_case: how many transcripts had upper-case letters.
    failure: the first exception raised while batches were made, which TensorFlow hides; None if there was none.
  """

  def __init__(self, dataset_config: DatasetConfig, output_length: Callable[[Any], Any] | None = None):
    """Read the manifest, check every row and leave out utterances that cannot be trained on.

    Args:
      dataset_config: what to read and how.
      output_length: maps a number of feature frames (or an array of numbers) to the network's number of output steps;
        None treats every utterance as long enough.
    """
    config = self.config = dataset_config
    self.text_featurizer = TextFeaturizer(config.vocab_file_path)
    self.output_length = output_length
    self.failure: Exception | None = None
    # Paths of utterances that turned out too short.
    self._too_short: set[str] = set()
    self._passes: weakref.WeakSet[_Passes] = weakref.WeakSet()

    self.use_statistics(config.statistics)

    rows = sorted(manifest.read_numbered(config.data_path), key=lambda row: row[1].size)
    checks.check_files(rows, config.data_path)
    rows, self.num_upper_case = checks.normalize_transcripts(rows)
    rows, self.left_out = checks.check_characters(
      rows, config.data_path, self.text_featurizer, config.vocab_file_path, config.on_unknown
    )
    rows, beyond = checks.check_limits(rows, config.limits)
    self.left_out += beyond
    if config.leave_out_infeasible and output_length:
      rows, left_out = checks.check_lengths(rows, self.audio_featurizer, output_length)
      self.left_out += left_out
    self.entries = [entry for _, entry in rows]
    self._recordings = Recordings([entry.path for entry in self.entries])
    self._report()

  def use_statistics(self, statistics: FeatureStatistics | None) -> None:
    """Compute features with these statistics of the training set, if they need them; until then they are only counted."""
    features = self.audio_featurizer = make_features(self.config.audio_config, statistics)
    cache_dir = self._usable_cache_dir() if features.is_complete else None
    self._cache = FeatureCache(cache_dir, features.cache_key(), features.num_bins) if cache_dir else None

  @property
  def speech_labels(self) -> str:
    """The characters of the vocabulary in the order of their ids."""
    return self.text_featurizer.speech_labels

  @property
  def seconds(self) -> list[float]:
    """The length of each utterance in seconds, according to the manifest; if it is augmented, the most it may become."""
    seconds = [manifest.size_to_duration(entry.size) for entry in self.entries]
    return [self.config.augmenter.longest(each) for each in seconds] if self.config.augmenter else seconds

  @property
  def num_feature_bins(self) -> int:
    """The number of features per frame."""
    return self.audio_featurizer.num_bins

  @property
  def feature_dtype(self) -> np.dtype:
    """The type of the features: float32, or float16 with a cache."""
    return STORED if self._cache else np.dtype(np.float32)

  @property
  def has_feasible(self) -> bool:
    """Whether any utterance is left that did not turn out too short for its transcript when its audio was read."""
    return any(entry.path not in self._too_short for entry in self.entries)

  def is_feasible(self, index: int, num_frames: int) -> bool:
    """Tell whether CTC can align an utterance with the frames of its audio; warn the first time it cannot."""
    if self.output_length is None:
      return True
    entry = self.entries[index]
    reason = checks.shortage(entry.transcript, num_frames, self.output_length)
    if reason and self.config.leave_out_infeasible and entry.path not in self._too_short:
      self._too_short.add(entry.path)
      self.left_out.append((entry, reason))
      logging.warning("Not trained on: %s: %s", entry.path, reason)
    return reason is None

  def load(self, epoch: int, index: int) -> Example:
    """Make an utterance's features and labels.

    Args:
      epoch: the epoch, from 0 on. Anything drawn at random per epoch must follow from it and the index alone.
      index: the utterance's place in the entries.
    """
    entry = self.entries[index]
    labels = compute_label_feature(entry.transcript, self.text_featurizer.token_to_index)
    return Example(index, self._features(epoch, index), labels)

  def close_passes(self) -> None:
    """Stop reading ahead for iterators that were left before their end, as interrupted training leaves them."""
    for passes in list(self._passes):
      passes.close()

  def _features(self, epoch: int, index: int) -> np.ndarray:
    """Read audio and compute its features, or take them from the cache: [frames, bins] of `feature_dtype`."""
    path, augmenter, settings = self.entries[index].path, self.config.augmenter, self.audio_featurizer.settings

    def compute():
      samples = audio.read_audio(path, settings.sample_rate)
      return self.audio_featurizer.compute(self._augment(augmenter, samples, epoch, index) if augmenter else samples)

    features = self._cache.features(path, compute) if self._cache else compute()
    if augmenter is None:
      return features
    is_centered = settings.feature_norm == "utterance"
    return augmenter.augment_features(features, 1 / settings.frame_seconds, epoch, index, is_centered)

  def _augment(self, augmenter: Augmenter, samples: np.ndarray, epoch: int, index: int) -> np.ndarray:
    """Augment float32 [samples], without a change of length if they became too short for the transcript."""
    features, where = self.audio_featurizer, (epoch, index, self._recordings)
    augmented = augmenter.augment_samples(samples, features.sample_rate, *where)
    if self.output_length and len(augmented) < len(samples):
      num_frames = int(features.num_frames(len(augmented)))
      if checks.shortage(self.entries[index].transcript, num_frames, self.output_length):
        return augmenter.augment_samples(samples, features.sample_rate, *where, keep_length=True)
    return augmented

  def _usable_cache_dir(self) -> str | None:
    """Return the folder that keeps features, None if they are others in each epoch; say so."""
    folder, augmenter = self.config.feature_cache_dir, self.config.augmenter
    changing = augmenter.on_samples if folder and augmenter else []
    if changing:
      logging.warning(
        "--feature_cache_dir=%s is not used for %s: --augment=%s makes other samples in each epoch.",
        folder,
        self.config.data_path,
        changing[0],
      )
    return None if changing else folder

  def _report(self) -> None:
    """Report what was left out or changed, and refuse an empty set."""
    path = self.config.data_path
    total = len(self.entries) + len(self.left_out)
    for entry, reason in self.left_out[: 4 * checks.SHOWN]:
      logging.warning("Left out %s: %s, %s", entry.path, path, reason)
    if self.left_out:
      logging.warning("%d of %d utterances of %s are left out.", len(self.left_out), total, path)
    if self.num_upper_case:
      logging.info("%d transcripts of %s had upper-case letters; they are lower-cased.", self.num_upper_case, path)
    if not self.entries:
      entry, reason = self.left_out[0]
      raise UserError(
        f"{path}: all {total} utterances are left out, the first one {entry.path} ({reason}); "
        "check the transcripts, --vocabulary_file, --stride_ms and the limits that are given"
      )


def input_fn(
  batch_size: int,
  deep_speech_dataset: DeepSpeechDataset,
  repeat: int = 1,
  num_replicas: int = 1,
  num_threads: int | None = None,
) -> "tf.data.Dataset":
  """Build a tf.data.Dataset of padded batches of equal size, in the order of the entries.

  Args:
    batch_size: utterances per global batch.
    deep_speech_dataset: the utterances.
    repeat: how many times to go through the entries; a batch may hold the last entries and the first ones.
    num_replicas: the number of batches that each global batch is split into, one per replica; must divide `batch_size`.
    num_threads: threads that read audio; None for one per processor.

  Returns:
    A tf.data.Dataset as `batched_input_fn` describes it.
  """
  if batch_size % num_replicas:
    raise ValueError(f"batch_size {batch_size} is not divisible by num_replicas {num_replicas}")
  batches = cut_all([list(range(len(deep_speech_dataset.entries))) * repeat], batch_size)
  return batched_input_fn(deep_speech_dataset, batches, num_replicas, num_threads)


def batched_input_fn(
  dataset: DeepSpeechDataset,
  batches: PlannedBatches,
  num_replicas: int = 1,
  num_threads: int | None = None,
) -> "tf.data.Dataset":
  """Build a tf.data.Dataset of padded batches.

  Args:
    dataset: the utterances.
    batches: the global batches, whose indices are places in `dataset.entries`; iterated once for each pass over the
      result.
    num_replicas: the number of batches that each global batch is split into, one per replica.
    num_threads: threads that read audio; None for one per processor.

  Returns:
    A tf.data.Dataset of (features, labels): features float32 "features" [batch, frames, bins, 1] and "weight"
    [batch, 1], int32 "input_length" (frames), "label_length" and "index" (into the entries) [batch, 1]; labels int32
    [batch, labels]. Shorter utterances are padded with zeros. The weights make the mean over the replicas of
    sum(weight * loss) equal to the mean loss of the global batch.
  """

  def column(dtype):
    return tf.TensorSpec([None, 1], dtype)

  signature = (
    {
      "features": tf.TensorSpec([None, None, dataset.num_feature_bins, 1], tf.as_dtype(dataset.feature_dtype)),
      "input_length": column(tf.int32),
      "label_length": column(tf.int32),
      "weight": column(tf.float32),
      "index": column(tf.int32),
    },
    tf.TensorSpec([None, None], tf.int32),
  )
  specs = tf.nest.flatten(signature)
  passes = _Passes(dataset, batches, num_replicas, num_threads)

  def fetch(pass_id, number):
    def next_batch(pass_id, number):
      return tf.nest.flatten(passes.next_batch(int(pass_id), int(number)))

    tensors = tf.numpy_function(next_batch, [pass_id, number], [spec.dtype for spec in specs])
    for tensor, spec in zip(tensors, specs, strict=True):
      tensor.set_shape(spec.shape)
    inputs, labels = tf.nest.pack_sequence_as(signature, tensors)
    return inputs | {"features": tf.cast(inputs["features"], tf.float32)}, labels

  # Not Dataset.from_generator: on TensorFlow 2.21 it makes the C library return every array above 128 KiB to the system
  # as soon as it is freed, in the whole process, and get each new one page by page.
  pass_ids = tf.data.Dataset.from_tensors(0).map(lambda _: tf.numpy_function(passes.begin, [], tf.int64))
  numbers = tf.data.Dataset.range(len(passes))
  return pass_ids.flat_map(lambda pass_id: numbers.map(lambda number: fetch(pass_id, number))).prefetch(
    max(2, num_replicas)
  )


class _Passes:
  """Hands out batches one by one to any number of iterators, each from the first batch to the last."""

  def __init__(self, dataset: DeepSpeechDataset, batches: PlannedBatches, num_replicas: int, num_threads: int | None):
    self._dataset = dataset
    self._load = lambda: load_batches(dataset, batches, num_replicas, num_threads)
    self._length = len(batches) * num_replicas
    self._ids = itertools.count()
    self._running: dict[int, Generator[Batch, None, None]] = {}
    # A thread of TensorFlow may still ask for a batch while passes are closed.
    self._lock = threading.Lock()
    dataset._passes.add(self)

  def __len__(self) -> int:
    """Count the batches, one for each replica."""
    return self._length

  def begin(self) -> np.int64:
    """Begin a pass; return its number."""
    pass_id = next(self._ids)
    self._running[pass_id] = self._load()
    return np.int64(pass_id)

  def next_batch(self, pass_id: int, number: int) -> Batch:
    """Return the next batch of a pass, which has this number; the last one ends the pass."""
    with self._lock:
      if pass_id not in self._running:
        raise RuntimeError("this pass over the data is closed")
      # TensorFlow reports an exception raised here as text within text; the run loop needs the exception itself.
      try:
        batch = next(self._running[pass_id])
        if number == self._length - 1:
          self._running.pop(pass_id).close()
      except Exception as error:
        self._dataset.failure = self._dataset.failure or error
        raise
      return batch

  def close(self) -> None:
    """End the passes that are not at their end; they give no batch any more."""
    with self._lock:
      while self._running:
        self._running.popitem()[1].close()
