"""What a training run leaves behind, and the position that the next one goes on from."""

import errno
import fcntl
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging

import inference
from data import vocabulary
from inference import LABELS_FILE
from official_utils import checkpoints
from official_utils.lazy import tf
from official_utils.misc import files
from official_utils.misc.errors import UserError
from settings import SETTINGS_FILE, ModelSettings, make_settings, read_settings

FLAGS_FILE = "flags.json"
PROGRESS_FILE = "progress.json"
EVAL_FILE = "eval.jsonl"
# Locked by the process that trains there.
LOCK_FILE = ".lock"
# A folder with all of these is a model_dir of ours.
MARKER_FILES = (FLAGS_FILE, SETTINGS_FILE, LABELS_FILE)


def _goodness(row: Mapping[str, Any]) -> tuple[float, float]:
  """Return what orders evaluations, the best first."""
  return row["WER"], row.get("CER", 0)


class ModelDir:
  """The folder of one training run.

  Attributes:
    path: the folder.
  """

  def __init__(self, path: str):
    self.path = path

  def prepare(
    self,
    flags: Mapping[str, Any],
    settings: ModelSettings,
    labels: Sequence[str],
    make_shapes: Callable[[], Mapping[str, Sequence[int]]],
  ) -> None:
    """Make the folder, or check that the run it holds has the same settings; then write down this run's.

    Without a checkpoint nothing binds: what a run that failed at its start wrote is written over.

    Args:
      flags: every flag as run.
      settings: the model's.
      labels: the labels in order, the blank last.
      make_shapes: gives all variables of training and their shapes; called only where there is a checkpoint.
    """
    files.check_writable(self.path, "--model_dir")
    self.lock()
    checkpoint = checkpoints.newest_checkpoint(self.path)
    if checkpoint:
      remedy = "another --model_dir, or --clean to start anew"
      _check_settings(self.path, settings.values(), remedy)
      _check_labels(self.path, labels, remedy)
      # Training needs all that is there.
      _check_shapes(checkpoint, make_shapes(), settings, is_whole=True)
    inference.write_description(self.path, settings, labels)
    self._write_json(FLAGS_FILE, flags)

  def lock(self) -> None:
    """Keep other processes from training here until this one ends, and refuse the folder where one does."""
    # Open as long as this object lives, and the lock of the process: nobody has to give it back.
    self._lock = open(self._file(LOCK_FILE), "a+", encoding="utf-8")  # noqa: SIM115
    try:
      fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno not in (errno.EACCES, errno.EAGAIN):
        logging.warning("%s: cannot be locked (%s); start no second run there", self.path, error.strerror)
        return
      raise UserError(
        f"{self.path}: another process is training there; wait for its end, or give another --model_dir"
      ) from error

  def global_step(self, checkpoint: str | None = None) -> int:
    """Read a checkpoint's global step, by default the newest one's, 0 where there is none."""
    checkpoint = checkpoint or checkpoints.newest_checkpoint(self.path)
    return int(checkpoints.read_variable(checkpoint, "global_step")) if checkpoint else 0

  def completed_epochs(self, steps_per_epoch: int) -> int:
    """Count the epochs that the newest checkpoint has seen to their end.

    Args:
      steps_per_epoch: taken for the length of every epoch where the folder does not say how long they were, as with
        a checkpoint of the original's.
    """
    step = self.global_step()
    ends = self._epoch_ends()
    return step // steps_per_epoch if ends is None else sum(end <= step for end in ends)

  def plan_epochs(self, completed: int, num_steps: Sequence[int]) -> None:
    """Write down at which steps the next epochs will end, before they start: a kill at any moment leaves it true.

    Args:
      completed: epochs that the newest checkpoint has seen to their end.
      num_steps: steps in each of those that come now.
    """
    step = self.global_step()
    past = (self._epoch_ends() or [step] * completed)[:completed]
    self._write_json(PROGRESS_FILE, {"epoch_ends": past + [step + total for total in itertools.accumulate(num_steps)]})

  def ends_epoch(self, epoch: int) -> bool:
    """Tell whether the newest checkpoint was written just when so many epochs were done."""
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
        if not isinstance(row, dict) or not {"epoch", "WER"} <= row.keys():
          raise UserError(f"{self._file(EVAL_FILE)}, line {number}: no row of an evaluation; take the line out")
        rows.append(row)
    return rows

  def evaluation_after(self, epoch: int) -> dict[str, Any] | None:
    """Find the newest row that was written after this many epochs."""
    return next((row for row in reversed(self.evaluations()) if row["epoch"] == epoch), None)

  def is_best(self, row: Mapping[str, Any]) -> bool:
    """Tell whether no evaluation so far was as good: as to WER, and where that is the same, as to CER."""
    return all(_goodness(row) < _goodness(each) for each in self.evaluations())

  def best_step(self) -> int | None:
    """Find the global step of the best evaluation."""
    return min(self.evaluations(), key=_goodness, default={}).get("global_step")

  def _file(self, name: str) -> str:
    return os.path.join(self.path, name)

  def _epoch_ends(self) -> list[int] | None:
    """Read at which steps epochs end; None if there is no such file."""
    path = self._file(PROGRESS_FILE)
    if not os.path.exists(path):
      return None
    with open(path, encoding="utf-8", errors="replace") as file:
      try:
        ends = json.load(file)["epoch_ends"]
      except (ValueError, TypeError, KeyError):
        ends = None
    if not isinstance(ends, list) or not all(isinstance(end, int) for end in ends):
      raise UserError(f"{path} has no list of steps epoch_ends; restore it or remove it")
    return ends

  def _write_json(self, name: str, content: Any) -> None:
    files.write_atomically(self._file(name), json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def find_checkpoint(
  folder: str, checkpoint: str | None, given: Mapping[str, Any], vocabulary_file: str | None, default_vocabulary: str
) -> tuple[str, ModelSettings, list[str]]:
  """Find the checkpoint that is asked for, and what it is one of.

  Args:
    folder: a model_dir.
    checkpoint: the checkpoint's prefix, or its file that ends with .index; None for the newest of the folder.
    given: the settings that the user gave, by name: they have to be those that it was trained with, where that is known.
    vocabulary_file: the vocabulary that the user gave, likewise; None for none.
    default_vocabulary: the vocabulary of a checkpoint that has none beside it, as the original left them.

  Returns:
    The checkpoint's prefix, its settings and its labels.
  """
  checkpoint = (checkpoint or "").removesuffix(".index") or checkpoints.newest_checkpoint(folder)
  if not checkpoint or not tf.io.gfile.exists(f"{checkpoint}.index"):
    raise UserError(f"{checkpoint or folder}: no checkpoint is there; give --model_dir or --checkpoint")
  folder = os.path.dirname(os.path.abspath(checkpoint))
  remedy = "or leave the flag out"
  if os.path.exists(os.path.join(folder, SETTINGS_FILE)):
    settings, labels = inference.read_description(folder)
    _check_settings(folder, given, remedy)
  else:
    settings, labels = make_settings(given), vocabulary.read_vocabulary(vocabulary_file or default_vocabulary)
  if vocabulary_file:
    labels = vocabulary.read_vocabulary(vocabulary_file)
    _check_labels(folder, labels, remedy)
  _check_shapes(checkpoint, inference.variable_shapes(settings, len(labels)), settings)
  return checkpoint, settings, labels


def vocabulary_of(checkpoint: str, default: str) -> str:
  """Return the vocabulary that lies beside a checkpoint, or the default where there is none."""
  path = os.path.join(os.path.dirname(os.path.abspath(checkpoint)), LABELS_FILE)
  return path if os.path.exists(path) else default


def _check_settings(folder: str, given: Mapping[str, Any], remedy: str) -> None:
  """Refuse settings that are not those of the run that a folder holds."""
  path = os.path.join(folder, SETTINGS_FILE)
  if not os.path.exists(path):
    return
  there = read_settings(path).values()
  for name, value in given.items():
    if there.get(name, value) != value:
      raise UserError(
        f"{folder} was trained with --{name}={there[name]} and now --{name}={value} is asked for; "
        f"use --{name}={there[name]}, {remedy}"
      )


def _check_labels(folder: str, labels: Sequence[str], remedy: str) -> None:
  """Refuse a vocabulary that is not that of the run that a folder holds."""
  path = os.path.join(folder, LABELS_FILE)
  if not os.path.exists(path):
    return
  there = vocabulary.read_vocabulary(path)
  if there != list(labels):
    raise UserError(
      f"{folder} was trained with the vocabulary {''.join(there)!r} and now {''.join(labels)!r} is asked for; "
      f"use --vocabulary_file={path}, {remedy}"
    )


def _check_shapes(
  checkpoint: str, wanted: Mapping[str, Sequence[int]], settings: ModelSettings, is_whole: bool = False
) -> None:
  """Compare a checkpoint's variables with those wanted: the original's come without settings."""
  difference = checkpoints.find_difference(checkpoint, wanted, is_whole)
  if difference:
    name, found, asked = difference
    shaping = ", ".join(f"--{setting.name}" for setting in settings.network.declarations())
    raise UserError(
      f"{checkpoint} does not fit the network asked for: {name} is {found} there and {asked} here; set {shaping}, "
      "--loss_scale and --vocabulary_file to what it was trained with"
    )
