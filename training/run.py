"""The run loop: trains for a cycle, ends it with its actions, and repeats until the model is good enough."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data import vocabulary
from data.batches import Batching, EpochBatches, Position
from data.dataset import DeepSpeechDataset
from data.feature_statistics import measure_statistics
from decoder import Decoder
from official_utils import checkpoints
from official_utils import estimator as tf_estimator
from official_utils.logs import hooks_helper, logger
from official_utils.misc import distribution_utils, files, model_helpers
from official_utils.misc.errors import UserError
from settings import FeatureStatistics, ModelSettings
from training import calls, evaluation
from training.actions import Action, Cycle
from training.evaluation import WER_KEY, Evaluation
from training.model_dir import LOCK_FILE, MARKER_FILES, ModelDir


@dataclass(frozen=True)
class Options:
  """The options of a run, by the names of flags; export_dir and wer_threshold are what the flags mean together."""

  model_dir: str
  export_dir: str
  keep_exports: int
  clean: bool
  train_data_dir: str
  eval_data_dir: str
  test_data_dir: str | None
  train_epochs: int
  epochs_between_evals: int
  eval_every_minutes: float | None
  wer_threshold: float | None
  best_metric: str
  batch_size: int
  batch_seconds: float | None
  sortagrad: bool
  epoch_order: str
  seed: int
  hooks: Sequence[str]
  num_parallel_calls: int | None
  show_samples: int


class Run:
  """One run of training.

  Attributes:
    labels: the labels in order, the blank last.
    model_dir: the folder.
    estimator: the estimator.
  """

  def __init__(
    self,
    options: Options,
    settings: ModelSettings,
    make_dataset: Callable[..., DeepSpeechDataset],
    make_estimator: Callable[..., "tf_estimator.Estimator"],
    make_decoder: Callable[[Sequence[str]], Decoder],
    num_replicas: int,
  ):
    """Read the data sets and make the estimator; write nothing yet.

    Args:
      options: the options of the run.
      settings: the model's.
      make_dataset: makes a data set from a manifest and `is_training`, whether it is trained on.
      make_estimator: makes the estimator from the labels and `count_steps`, a function that counts the steps of the run.
      make_decoder: makes the decoder from the labels.
      num_replicas: how many devices share a batch.
    """
    if not options.batch_seconds:
      distribution_utils.per_device_batch_size(options.batch_size, num_replicas)
    self._options = options
    self._settings = settings
    self._num_replicas = num_replicas
    paths = {"train": options.train_data_dir, "eval": options.eval_data_dir, "test": options.test_data_dir}
    self._sets = {name: make_dataset(path, is_training=name == "train") for name, path in paths.items() if path}
    for name, each in self._sets.items():
      print(f"{name}: {len(each.entries)} utterances of {paths[name]}, {len(each.left_out)} left out", flush=True)
    train_set = self._sets["train"]
    self._longest = max(train_set.seconds)
    self._batching = Batching(
      train_set.seconds,
      options.batch_size,
      options.batch_seconds,
      options.sortagrad,
      options.seed,
      options.epoch_order,
    )
    self.labels = train_set.speech_labels
    self.model_dir = ModelDir(options.model_dir, options.best_metric)
    self.estimator = make_estimator(self.labels, count_steps=self.count_steps)
    self._decoder = make_decoder(self.labels)

  @property
  def settings(self) -> ModelSettings:
    """The model's settings; with the statistics of the training set, if it needs them, once the folders are prepared."""
    return self._settings

  def count_steps(self) -> int:
    """Count the steps of the whole run: those done so far, and those of the epochs to come.

    An epoch that was interrupted is trained anew, so that a run may have more steps than its epochs have batches.
    """
    done, epoch = 0, 0
    if not self._options.clean:
      done, epoch = self.model_dir.global_step(), self._completed_epochs()
    return done + len(self._batching.of_epochs(range(epoch, self._options.train_epochs)))

  def prepare_folders(self, flags: Mapping[str, Any], make_shapes: Callable[[], Mapping[str, Sequence[int]]]) -> None:
    """Make model_dir and export_dir, after --clean if given, or check what they hold; see `ModelDir.prepare`."""
    options = self._options
    if options.keep_exports and not files.is_within(options.export_dir, options.model_dir):
      files.check_writable(options.export_dir, "--export_dir")
    if options.clean or not checkpoints.newest_checkpoint(options.model_dir):
      # Runs that began with a wrong vocabulary may continue.
      vocabulary.check_blank(self.labels, self._sets["train"].config.vocab_file_path)
    # Only after all other checks: removed files are gone.
    if options.clean:
      if os.path.exists(os.path.join(options.model_dir, LOCK_FILE)):
        self.model_dir.lock()
      model_helpers.clean_model_dir(options.model_dir, MARKER_FILES)
    self.model_dir.prepare(flags, self._settings, self.labels, make_shapes)
    if options.keep_exports:
      files.check_writable(options.export_dir, "--export_dir")
    if self._settings.features.needs_statistics:
      self._settings = self.model_dir.with_statistics(self._settings, self.labels, self._measure_features)
      for each in self._sets.values():
        each.use_statistics(self._settings.statistics)

  def train_until_done(self, actions: Sequence[Action], benchmark_logger: logger.BaseBenchmarkLogger) -> str:
    """Train cycle by cycle; return why training ended.

    Args:
      actions: done at the end of each cycle, in this order.
      benchmark_logger: training hooks report to it.
    """
    num_epochs, threshold = self._options.train_epochs, self._options.wer_threshold
    position = Position(self._completed_epochs())
    row = self.model_dir.evaluation_after(position.epoch)
    if position.epoch:
      print(f"{self.model_dir.path}: {position.epoch} epochs are done already", flush=True)
      if row is None and self.model_dir.ends_epoch(position.epoch):
        row = _end_cycle(position.epoch, {}, actions)
    while row is None or not model_helpers.past_stop_threshold(threshold, row[WER_KEY]):
      if position.epoch >= num_epochs:
        return f"{position.epoch} epochs are done, --train_epochs={num_epochs}"
      first_step = self.model_dir.global_step()
      results = self._train(position, benchmark_logger)
      position = self._batching.advance(position, self.model_dir.global_step() - first_step)
      row = _end_cycle(self._batching.epochs_done(position), results, actions)
    return f"WER {row[WER_KEY]:.4f} after epoch {row['epoch']} is at or below the threshold {threshold:g}"

  def evaluate(self, name: str, checkpoint: str | None = None) -> Evaluation:
    """Transcribe and score the "eval" or the "test" set with a checkpoint, None for the newest."""
    options, chosen = self._options, self._sets[name]
    mask_padding = self._settings.network.mask_padding
    batches = _evaluation_batches(options, chosen, mask_padding, self._longest, self._num_replicas)
    return calls.score_set(self.estimator, self._decoder, chosen, batches, options.num_parallel_calls, checkpoint)

  def score_test_set(self) -> dict[str, float]:
    """Score the set of --test_data_dir with the best model, or the newest if the best is gone.

    Print the result, which model it is of, and --show_samples utterances.

    Returns:
      The results; {} without such a set.
    """
    if "test" not in self._sets:
      return {}
    best, checkpoint = self.model_dir.best_evaluation(), self.model_dir.best_checkpoint()
    if checkpoint:
      which = f"epoch {best['epoch']}, the best of the evaluation set"
    else:
      which = "the newest checkpoint" + (f"; that of the best, epoch {best['epoch']}, is gone" if best else "")
    evaluated = self.evaluate("test", checkpoint)
    print(f"test: {evaluated.summary()}  ({which})", flush=True)
    evaluated.print_samples(self._sets["test"].entries, self._options.show_samples)
    return evaluated.results()

  def _measure_features(self) -> FeatureStatistics:
    """Measure the features of the training set, and say of how many utterances."""
    entries = self._sets["train"].entries
    statistics, count = measure_statistics(
      self._settings.features, [entry.path for entry in entries], self._options.seed
    )
    print(f"features: mean and deviation of {count} of {len(entries)} utterances that are trained on", flush=True)
    return statistics

  def _completed_epochs(self) -> int:
    """Count the epochs that are done."""
    return self.model_dir.completed_epochs(self._batching.num_batches(0))

  def _next_epochs(self, epoch: int) -> range:
    """Choose the epochs of the next cycle, up to a multiple of --epochs_between_evals wherever it starts.

    A cycle that time ends may go on to the end of the run.
    """
    cycle, num_epochs = self._options.epochs_between_evals, self._options.train_epochs
    if self._options.eval_every_minutes:
      return range(epoch, num_epochs)
    return range(epoch, min(epoch + cycle - epoch % cycle, num_epochs))

  def _train(self, position: Position, benchmark_logger: logger.BaseBenchmarkLogger) -> dict:
    """Train from a position to the end of the cycle in one call; return mean loss and speed."""
    from training import progress

    options, train_set = self._options, self._sets["train"]
    epochs = self._next_epochs(position.epoch)
    batches = self._batching.of_epochs(epochs, position.batches)
    num_steps = [self._batching.num_batches(index) for index in epochs]
    num_steps[0] -= position.batches
    self.model_dir.plan_epochs(position.epoch, num_steps)
    follower = progress.ProgressHook(self._num_replicas, f"to epoch {epochs.stop}", len(batches))
    hooks = hooks_helper.get_train_hooks(
      options.hooks, batch_size=options.batch_size, model_dir=options.model_dir, metric_logger=benchmark_logger
    )
    hooks += [follower, progress.CurvesHook(follower, options.model_dir)]
    if options.eval_every_minutes:
      hooks.append(progress.StopHook(follower, 60 * options.eval_every_minutes))
    saver = progress.SaverHook(options.model_dir, self.estimator.config.save_checkpoints_secs)
    try:
      with calls.one_graph(train_set):
        input_fn = calls.bind_input_fn(train_set, batches, self._num_replicas, options.num_parallel_calls)
        self.estimator.train(input_fn, [*hooks, saver])
    except calls.restore_errors() as error:
      checkpoint = self.estimator.latest_checkpoint()
      if follower.steps or not checkpoint:
        raise
      # No step was done: restoring the checkpoint failed.
      raise checkpoints.damaged_checkpoint(checkpoint) from error
    finally:
      follower.clear_line()
    if not train_set.has_feasible:
      raise UserError(f"{options.train_data_dir}: no utterance is long enough for its transcript; check the audio")
    rates = {
      "learning_rate": follower.learning_rate,
      "gradient_norm": follower.mean_gradient_norm,
      "largest_gradient_norm": follower.largest_gradient_norm,
    }
    return {
      "loss": follower.mean_loss,
      # Computed in single precision, which has no more digits.
      **{name: float(f"{value:.6g}") for name, value in rates.items() if value is not None},
      "train_seconds": follower.seconds,
      "input_wait": follower.input_wait,
      "utterances_per_second": _count_utterances(batches, follower.steps) / follower.seconds,
    }


def score_sets(
  sets: Mapping[str, DeepSpeechDataset],
  make_estimator: Callable[[], "tf_estimator.Estimator"],
  decoder: Decoder,
  options: Options,
  checkpoint: str,
  num_replicas: int = 1,
) -> list[dict[str, Any]]:
  """Score a checkpoint on data sets and print a line for each.

  Args:
    sets: the data sets by their manifests.
    make_estimator: makes an estimator for one device, a new one for each set.
    decoder: turns its predictions into texts.
    options: the options of the run; only those for batches and samples are used.
    checkpoint: the checkpoint.
    num_replicas: how many devices share a batch in training; one of them evaluates.

  Returns:
    The results of each manifest.
  """
  rows = []
  for path, chosen in sets.items():
    estimator = make_estimator()
    mask_padding = estimator.params["settings"].network.mask_padding
    batches = _evaluation_batches(options, chosen, mask_padding, max(chosen.seconds), num_replicas)
    evaluated = calls.score_set(estimator, decoder, chosen, batches, options.num_parallel_calls, checkpoint)
    print(f"{path}: {evaluated.summary()}  {len(chosen.entries)} utterances, {checkpoint}", flush=True)
    evaluated.print_samples(chosen.entries, options.show_samples)
    rows.append({"manifest": path, **evaluated.results()})
  return rows


def _evaluation_batches(
  options: Options, chosen: DeepSpeechDataset, mask_padding: bool, longest: float, num_replicas: int
) -> EpochBatches:
  """Plan batches for one device as large as its share of those of training; see `evaluation.plan_batches`."""
  batch_seconds = options.batch_seconds and options.batch_seconds / num_replicas
  batch_size = max(1, options.batch_size // num_replicas)
  return evaluation.plan_batches(chosen.seconds, batch_size, mask_padding, longest, batch_seconds)


def _count_utterances(batches: EpochBatches, num_steps: int) -> int:
  """Count the utterances of the first batches, one of which is a step."""
  return sum(len(batch.indices) for batch in itertools.islice(batches, num_steps))


def _end_cycle(epoch: float, results: Mapping[str, Any], actions: Sequence[Action]) -> dict[str, Any]:
  """Do the actions at the end of a cycle; return its row."""
  cycle = Cycle(epoch, {"epoch": epoch, **results})
  for action in actions:
    action(cycle)
  return cycle.row
