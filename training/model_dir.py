"""What a training run leaves behind, and where the next one continues."""

import dataclasses
import errno
import fcntl
import glob
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import logging

import inference
from data import vocabulary
from inference import LABELS_FILE
from official_utils import checkpoints
from official_utils.lazy import tf
from official_utils.misc import files
from official_utils.misc.errors import UserError
from settings import SETTINGS_FILE, FeatureStatistics, ModelSettings, make_settings, read_settings
from training import compatibility
from training.evaluation import CER_KEY, LOSS_KEY, WER_KEY

FLAGS_FILE = "flags.json"
PROGRESS_FILE = "progress.json"
EVAL_FILE = "eval.jsonl"
# Holds the checkpoint of the best evaluation. Not "best", where exports are kept if --export_dir is the model_dir.
BEST_FOLDER = "best_checkpoint"
# What stands for it where a checkpoint is asked for.
BEST = "best"
# Holds the mean of the newest checkpoints, where that is asked for.
AVERAGED_FOLDER = "averaged_checkpoint"
# By the name of each metric, the lower the better: the number of a row that tells which evaluation is the best, and the
# one that decides between equals.
BEST_METRICS = {"wer": (WER_KEY, CER_KEY), "cer": (CER_KEY, WER_KEY), "loss": (LOSS_KEY, WER_KEY)}
# Locked by the process that trains there.
LOCK_FILE = ".lock"
# A folder with all of these is one of our model_dirs.
MARKER_FILES = (FLAGS_FILE, SETTINGS_FILE, LABELS_FILE)


class ModelDir:
  """The folder of one training run.

  Attributes:
    path: the folder.
  """

  def __init__(self, path: str, best_metric: str | None = None):
    """Name the folder, which need not be there.

    Args:
      path: the folder.
      best_metric: the name in BEST_METRICS of what makes an evaluation the best; None for what the newest run in the
        folder goes by.
    """
    self.path = path
    self._best_metric = best_metric

  def prepare(
    self,
    flags: Mapping[str, Any],
    settings: ModelSettings,
    labels: Sequence[str],
    make_shapes: Callable[[], Mapping[str, Sequence[int]]],
  ) -> None:
    """Make the folder, or check that the run in it has the same settings; then write this run's settings.

    Without a checkpoint nothing is checked: files of a run that failed at its start are overwritten.

    Args:
      flags: every flag as run.
      settings: the model's.
      labels: the labels in order, the blank last.
      make_shapes: returns all variables of training with their shapes; called only if there is a checkpoint.
    """
    files.check_writable(self.path, "--model_dir")
    self.lock()
    files.remove_unfinished(self.path)
    checkpoint = checkpoints.newest_checkpoint(self.path)
    if checkpoint:
      remedy = "another --model_dir, or --clean to start over"
      if os.path.exists(self._file(SETTINGS_FILE)):
        compatibility.check_settings(self.path, read_settings(self._file(SETTINGS_FILE)), settings.values(), remedy)
      compatibility.check_labels(self.path, labels, remedy)
      # Training needs every variable.
      compatibility.check_shapes(checkpoint, make_shapes(), settings, is_whole=True)
    inference.write_description(self.path, settings, labels)
    self._write_json(FLAGS_FILE, flags)

  def with_statistics(
    self, settings: ModelSettings, labels: Sequence[str], measure: Callable[[], FeatureStatistics]
  ) -> ModelSettings:
    """Return settings with the statistics of the training set: those of the run in the folder, or new ones for a new run.

    Args:
      settings: the model's, whose features need statistics.
      labels: the labels in order, the blank last.
      measure: computes the statistics.
    """
    if checkpoints.newest_checkpoint(self.path):
      return inference.with_statistics(settings, self.path)
    settings = dataclasses.replace(settings, statistics=measure())
    inference.write_description(self.path, settings, labels)
    return settings

  def lock(self) -> None:
    """Keep other processes from training here until this one ends; refuse the folder if one already does."""
    # The file stays open as long as this object lives, and the lock ends with the process: nobody has to release it.
    self._lock = open(self._file(LOCK_FILE), "a+", encoding="utf-8")  # noqa: SIM115
    try:
      fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno not in (errno.EACCES, errno.EAGAIN):
        logging.warning("%s: cannot be locked (%s); do not start a second run there.", self.path, error.strerror)
        return
      raise UserError(
        f"{self.path}: another process is training there; wait until it ends, or give another --model_dir"
      ) from error

  def global_step(self, checkpoint: str | None = None) -> int:
    """Read the global step of a checkpoint, by default of the newest one; 0 if there is none."""
    checkpoint = checkpoint or checkpoints.newest_checkpoint(self.path)
    return int(checkpoints.read_variable(checkpoint, "global_step")) if checkpoint else 0

  def completed_epochs(self, steps_per_epoch: int) -> int:
    """Count the epochs that were complete at the newest checkpoint.

    Args:
      steps_per_epoch: the length of every epoch if the folder does not say how long they were, as with a checkpoint of
        the original.
    """
    step = self.global_step()
    ends = self._epoch_ends()
    return step // steps_per_epoch if ends is None else sum(end <= step for end in ends)

  def plan_epochs(self, completed: int, num_steps: Sequence[int]) -> None:
    """Write down at which steps the next epochs will end, before they start, so that it is true even after a kill.

    Args:
      completed: epochs that were complete at the newest checkpoint.
      num_steps: steps in each of the next epochs.
    """
    step = self.global_step()
    past = (self._epoch_ends() or [step] * completed)[:completed]
    self._write_json(PROGRESS_FILE, {"epoch_ends": past + [step + total for total in itertools.accumulate(num_steps)]})

  def ends_epoch(self, epoch: int) -> bool:
    """Tell whether the newest checkpoint was written exactly at the end of this epoch, counted from 1."""
    ends = self._epoch_ends()
    return ends is None or ends[epoch - 1 : epoch] == [self.global_step()]

  def append_evaluation(self, row: Mapping[str, Any]) -> None:
    """Add a row to eval.jsonl."""
    rows = [*self.evaluations(), row]
    files.write_atomically(self._file(EVAL_FILE), "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows))

  def evaluations(self) -> list[dict[str, Any]]:
    """Read the rows of eval.jsonl."""
    if not os.path.exists(self._file(EVAL_FILE)):
      return []
    rows = []
    with open(self._file(EVAL_FILE), encoding="utf-8", errors="replace") as file:
      for number, line in enumerate(file, start=1):
        try:
          row = json.loads(line)
        except ValueError:
          row = None
        if not isinstance(row, dict) or not {"epoch", WER_KEY} <= row.keys():
          raise UserError(f"{self._file(EVAL_FILE)}, line {number}: not a row of an evaluation; remove the line")
        rows.append(row)
    return rows

  def evaluations_so_far(self) -> list[dict[str, Any]]:
    """Read the rows on the way to the newest checkpoint: after going back to an older one, later rows do not count."""
    rows: list[dict[str, Any]] = []
    for row in [*self.evaluations(), {"global_step": self.global_step() + 1}]:
      while rows and rows[-1].get("global_step", 0) >= row.get("global_step", 0):
        rows.pop()
      rows.append(row)
    return rows[:-1]

  def evaluation_after(self, epoch: int) -> dict[str, Any] | None:
    """Find the newest row that was written after this many whole epochs, of the newest checkpoint or an earlier one."""
    step = self.global_step()
    rows = [row for row in self.evaluations() if int(row["epoch"]) == epoch and row.get("global_step", 0) <= step]
    return rows[-1] if rows else None

  def is_best(self, row: Mapping[str, Any]) -> bool:
    """Tell whether no evaluation so far was as good."""
    goodness = self._goodness()
    return all(goodness(row) < goodness(each) for each in self.evaluations())

  def best_evaluation(self) -> dict[str, Any]:
    """Find the best row, the first of several equals; an empty one if there is none."""
    return min(self.evaluations(), key=self._goodness(), default={})

  def best_step(self) -> int | None:
    """Find the global step of the best evaluation."""
    return self.best_evaluation().get("global_step")

  def holds_best(self, checkpoint: str) -> bool:
    """Tell whether a checkpoint is that of the best evaluation; without evaluations, any is."""
    is_averaged = os.path.basename(os.path.dirname(checkpoint)) == AVERAGED_FOLDER
    return self.best_step() is None or (self.best_step() == self.global_step(checkpoint) and not is_averaged)

  def average(self, count: int, names: Iterable[str]) -> str:
    """Write the mean of the newest checkpoints into a folder of its own; return the new checkpoint's prefix.

    Args:
      count: how many checkpoints.
      names: the variables to write.
    """
    sources = checkpoints.newest_checkpoints(self.path)
    if len(sources) < count:
      raise UserError(
        f"{self.path} holds {len(sources)} checkpoints, fewer than --average_checkpoints={count}; lower it, or train "
        "with it, so that as many are kept"
      )
    files.check_writable(self.path, "--model_dir")
    name = os.path.basename(sources[-1])
    with files.replaced_folder(self._file(AVERAGED_FOLDER)) as unfinished:
      os.mkdir(unfinished)
      checkpoints.write_mean(sources[-count:], names, os.path.join(unfinished, name))
    return os.path.join(self._file(AVERAGED_FOLDER), name)

  def keep_best(self, checkpoint: str) -> None:
    """Keep a checkpoint as the best so far, in place of the one before; TensorFlow removes its own after a while."""
    with files.replaced_folder(self._file(BEST_FOLDER)) as unfinished:
      os.mkdir(unfinished)
      prefix = os.path.join(unfinished, os.path.basename(checkpoint))
      for path in glob.glob(f"{glob.escape(checkpoint)}.data-*"):
        files.link(path, prefix + path.removeprefix(checkpoint))
      # Data files are renamed into their place, but an index is written over an older one of the same step.
      shutil.copyfile(f"{checkpoint}.index", f"{prefix}.index")

  def best_checkpoint(self) -> str | None:
    """Find the checkpoint of the best evaluation: the one that was kept, or else among TensorFlow's own."""
    name = f"model.ckpt-{self.best_step()}"
    found = (os.path.join(folder, name) for folder in (self._file(BEST_FOLDER), self.path))
    return next((checkpoint for checkpoint in found if os.path.exists(f"{checkpoint}.index")), None)

  def _file(self, name: str) -> str:
    return os.path.join(self.path, name)

  def _goodness(self) -> Callable[[Mapping[str, Any]], list[float]]:
    """Return the key that sorts evaluations, the best first; rows of earlier versions lack some of the numbers."""
    names = BEST_METRICS[self._best_metric or self._read_best_metric()]
    return lambda row: [row.get(name, math.inf) for name in names]

  def _read_best_metric(self) -> str:
    """Read what the newest run goes by; runs of earlier versions do not say, and went by WER."""
    path = self._file(FLAGS_FILE)
    if not os.path.exists(path):
      return "wer"
    with open(path, encoding="utf-8", errors="replace") as file:
      try:
        metric = json.load(file).get("best_metric", "wer")
      except (ValueError, AttributeError):
        metric = None
    if metric not in BEST_METRICS:
      raise UserError(f"{path} names no best_metric of {', '.join(BEST_METRICS)}; restore it or remove it")
    return metric

  def _epoch_ends(self) -> list[int] | None:
    """Read the steps at which epochs end; None if there is no such file."""
    path = self._file(PROGRESS_FILE)
    if not os.path.exists(path):
      return None
    with open(path, encoding="utf-8", errors="replace") as file:
      try:
        ends = json.load(file)["epoch_ends"]
      except (ValueError, TypeError, KeyError):
        ends = None
    if not isinstance(ends, list) or not all(isinstance(end, int) for end in ends):
      raise UserError(f"{path} has no list of steps named epoch_ends; restore it or remove it")
    return ends

  def _write_json(self, name: str, content: Any) -> None:
    files.write_atomically(self._file(name), json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def run_of(checkpoint: str) -> ModelDir:
  """Return the model_dir that a checkpoint belongs to: its own folder, or the one above if it is the best or a mean."""
  folder = os.path.dirname(checkpoint)
  is_below = os.path.basename(folder) in (BEST_FOLDER, AVERAGED_FOLDER)
  return ModelDir(os.path.dirname(folder) if is_below else folder)


def find_checkpoint(
  folder: str,
  checkpoint: str | None,
  given: Mapping[str, Any],
  vocabulary_file: str | None,
  default_vocabulary: str,
  average_checkpoints: int = 1,
) -> tuple[str, ModelSettings, list[str]]:
  """Find the checkpoint that is asked for, with its settings and labels.

  Args:
    folder: a model_dir.
    checkpoint: the checkpoint's prefix, or its file that ends with .index; BEST for that of the best evaluation, None for
      the newest of the folder.
    given: the settings that the user gave, by name; they must match those of its training, if these are known.
    vocabulary_file: the vocabulary that the user gave, which must match too; None if there is none.
    default_vocabulary: the vocabulary of a checkpoint that has none beside it, such as the original's.
    average_checkpoints: of how many of the newest checkpoints to take the mean, in place of the newest; 1 for none.

  Returns:
    The checkpoint's prefix, its settings and its labels.
  """
  if checkpoint == BEST:
    checkpoint = ModelDir(folder).best_checkpoint()
    if not checkpoint:
      raise UserError(
        f"{folder}: the checkpoint of the best evaluation is not there; leave out --checkpoint={BEST} for the newest"
      )
  checkpoint = (checkpoint or "").removesuffix(".index") or checkpoints.newest_checkpoint(folder)
  if not checkpoint or not tf.io.gfile.exists(f"{checkpoint}.index"):
    raise UserError(f"{checkpoint or folder}: no checkpoint is there; give --model_dir or --checkpoint")
  folder = run_of(os.path.abspath(checkpoint)).path
  remedy = "or leave the flag out"
  if os.path.exists(os.path.join(folder, SETTINGS_FILE)):
    settings, labels = inference.read_description(folder)
    compatibility.check_settings(folder, settings, given, remedy)
  else:
    settings = inference.with_statistics(make_settings(given), folder)
    labels = vocabulary.read_vocabulary(vocabulary_of(checkpoint, default_vocabulary))
  if vocabulary_file:
    labels = vocabulary.read_vocabulary(vocabulary_file)
    compatibility.check_labels(folder, labels, remedy)
  shapes = inference.variable_shapes(settings, len(labels))
  compatibility.check_shapes(checkpoint, shapes, settings)
  if average_checkpoints > 1:
    checkpoint = run_of(checkpoint).average(average_checkpoints, shapes)
  return checkpoint, settings, labels


def vocabulary_of(checkpoint: str, default: str) -> str:
  """Return the vocabulary of the model_dir that a checkpoint belongs to, or the default if there is none."""
  path = os.path.join(run_of(os.path.abspath(checkpoint)).path, LABELS_FILE)
  return path if os.path.exists(path) else default
