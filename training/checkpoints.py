"""What a model_dir holds beside TensorFlow's checkpoints, and the epochs that a checkpoint has seen."""

import errno
import fcntl
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging

import speech_flags
from data import featurizer
from inference import (
  SETTINGS_FILE,
  VOCABULARY_FILE,
  newest_checkpoint,
  read_settings,
  reading_checkpoint,
  variable_shapes,
)
from official_utils.lazy import tf
from official_utils.misc import files
from official_utils.misc.errors import UserError

FLAGS_FILE = "flags.json"
PROGRESS_FILE = "progress.json"
EVAL_FILE = "eval.jsonl"
# Locked by the process that trains there.
LOCK_FILE = ".lock"
# A folder with all of these is a model_dir of ours.
MARKER_FILES = (FLAGS_FILE, SETTINGS_FILE, VOCABULARY_FILE)
_OPTIMIZER_STATE = re.compile(r"/Adam(_1)?$|^beta[12]_power$|^global_step$")
# What only training needs.
_TRAINING_STATE = re.compile(_OPTIMIZER_STATE.pattern + "|^loss_scale/")


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
    settings: Mapping[str, Any],
    vocabulary: Sequence[str],
    make_shapes: Callable[[], Mapping[str, Sequence[int]]],
  ) -> None:
    """Make the folder, or check that the run it holds has the same settings; then write down this run's.

    Without a checkpoint nothing binds: what a run that failed at its start wrote is written over.

    Args:
      flags: every flag as run.
      settings: the network's and the features' settings, by name.
      vocabulary: the labels in order, the blank last.
      make_shapes: gives the network's variables and their shapes; called only where there is a checkpoint.
    """
    files.check_writable(self.path, "--model_dir")
    self.lock()
    if newest_checkpoint(self.path):
      # Training needs all that is there.
      self.check(settings, vocabulary, make_shapes())
    self._write_json(SETTINGS_FILE, settings)
    files.write_atomically(self._file(VOCABULARY_FILE), "".join(f"{label}\n" for label in vocabulary))
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

  def check(
    self,
    settings: Mapping[str, Any],
    vocabulary: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
    checkpoint: str | None = None,
  ) -> None:
    """Refuse settings that are not those of the run that the folder holds.

    Args:
      settings: the network's and the features' settings, by name.
      vocabulary: the labels in order, the blank last.
      shapes: the network's variables and their shapes.
      checkpoint: the one to compare those with, which is not to be trained; None for the newest.
    """
    remedy = "another --model_dir, or --clean to start anew" if checkpoint is None else "or leave the flag out"
    self._check_settings(settings, remedy)
    self._check_vocabulary(vocabulary, remedy)
    self._check_shapes(shapes, checkpoint)

  def global_step(self, checkpoint: str | None = None) -> int:
    """Read a checkpoint's global step, by default the newest one's, 0 where there is none."""
    checkpoint = checkpoint or newest_checkpoint(self.path)
    if not checkpoint:
      return 0
    with reading_checkpoint(checkpoint):
      return int(tf.train.load_variable(checkpoint, "global_step"))

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
    progress = self._read_json(PROGRESS_FILE)
    if progress is None:
      return None
    ends = progress.get("epoch_ends")
    if not isinstance(ends, list) or not all(isinstance(end, int) for end in ends):
      raise UserError(f"{self._file(PROGRESS_FILE)} has no list of steps epoch_ends; restore it or remove it")
    return ends

  def _read_json(self, name: str) -> dict[str, Any] | None:
    """Read a file of ours, None if there is none."""
    if not os.path.exists(self._file(name)):
      return None
    with open(self._file(name), encoding="utf-8", errors="replace") as file:
      try:
        content = json.load(file)
      except ValueError:
        content = None
    if not isinstance(content, dict):
      raise UserError(f"{self._file(name)} is damaged; restore it or use another --model_dir")
    return content

  def _write_json(self, name: str, content: Any) -> None:
    files.write_atomically(self._file(name), json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

  def _check_settings(self, settings: Mapping[str, Any], remedy: str) -> None:
    for name, there in (self._read_json(SETTINGS_FILE) or {}).items():
      if name in settings and settings[name] != there:
        raise UserError(
          f"{self.path} was trained with --{name}={there} and now --{name}={settings[name]} is asked for; "
          f"use --{name}={there}, {remedy}"
        )

  def _check_vocabulary(self, vocabulary: Sequence[str], remedy: str) -> None:
    if not os.path.exists(self._file(VOCABULARY_FILE)):
      return
    with open(self._file(VOCABULARY_FILE), encoding="utf-8", errors="replace", newline="\n") as file:
      there = file.read().split("\n")[:-1]
    if there != list(vocabulary):
      raise UserError(
        f"{self.path} was trained with the vocabulary {''.join(there)!r} and now {''.join(vocabulary)!r} is asked for; "
        f"use --vocabulary_file={self._file(VOCABULARY_FILE)}, {remedy}"
      )

  def _check_shapes(self, wanted: Mapping[str, Sequence[int]], checkpoint: str | None) -> None:
    """Compare the checkpoint's variables with the network's: the original's come without settings."""
    ignored = _OPTIMIZER_STATE if checkpoint is None else _TRAINING_STATE
    checkpoint = checkpoint or newest_checkpoint(self.path)
    with reading_checkpoint(checkpoint):
      listed = tf.train.list_variables(checkpoint)
    there = {name: shape for name, shape in listed if not ignored.search(name)}
    for name in sorted(there.keys() | wanted.keys()):
      found, asked = there.get(name, "absent"), list(wanted[name]) if name in wanted else "absent"
      if found != asked:
        raise UserError(
          f"{checkpoint} does not fit the network asked for: {name} is {found} there and {asked} here; set the --rnn_* "
          "flags, --is_bidirectional, --use_bias, --conv_layout, --loss_scale and --vocabulary_file to what it was trained "
          "with"
        )


def find_checkpoint(flags_obj: flags.FlagValues) -> tuple[str, Sequence[str]]:
  """Find the checkpoint that is asked for and take over the settings that lie beside it.

  Returns:
    The checkpoint's prefix and its labels.
  """
  speech_flags.check_flags(flags_obj)
  checkpoint = (flags_obj.checkpoint or "").removesuffix(".index") or newest_checkpoint(flags_obj.model_dir)
  if not checkpoint or not tf.io.gfile.exists(f"{checkpoint}.index"):
    raise UserError(f"{checkpoint or flags_obj.model_dir}: no checkpoint is there; give --model_dir or --checkpoint")
  folder = flags_obj["model_dir"].value = os.path.dirname(os.path.abspath(checkpoint))
  if os.path.exists(os.path.join(folder, SETTINGS_FILE)):
    settings, _ = read_settings(folder)
    speech_flags.adopt_settings(flags_obj, settings)
    if not flags_obj["vocabulary_file"].present:
      flags_obj["vocabulary_file"].value = os.path.join(folder, VOCABULARY_FILE)
  labels = featurizer.TextFeaturizer(flags_obj.vocabulary_file).speech_labels
  settings = speech_flags.model_settings(flags_obj)
  shapes = variable_shapes(settings, len(labels))
  ModelDir(folder).check(settings, labels, shapes, checkpoint)
  return checkpoint, labels
