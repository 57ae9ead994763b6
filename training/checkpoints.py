"""What a model_dir holds beside TensorFlow's checkpoints, and the epochs that a checkpoint has seen."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from official_utils.misc.files import write_atomically

FLAGS_FILE = "flags.json"
SETTINGS_FILE = "settings.json"
VOCABULARY_FILE = "vocabulary.txt"
PROGRESS_FILE = "progress.json"
EVAL_FILE = "eval.jsonl"
# A folder with one of these is a model_dir of ours.
MARKER_FILES = (FLAGS_FILE, SETTINGS_FILE)


class ModelDir:
  """The folder of one training run.

  Attributes:
    path: the folder.
  """

  def __init__(self, path: str):
    self.path = path

  def prepare(self, flags: Mapping[str, Any], settings: Mapping[str, Any], vocabulary: Sequence[str]) -> None:
    """Make the folder, or check that the run it holds has the same settings; then write down this run's.

    Args:
      flags: every flag as run.
      settings: the network's and the features' settings, by name.
      vocabulary: the labels in order, the blank last.
    """
    self._check_writable()
    self._check_settings(settings)
    self._check_vocabulary(vocabulary)
    self._check_shapes(settings, vocabulary)
    self._write_json(SETTINGS_FILE, settings)
    write_atomically(self._file(VOCABULARY_FILE), "".join(f"{label}\n" for label in vocabulary))
    self._write_json(FLAGS_FILE, flags)

  def global_step(self) -> int:
    """Read the newest checkpoint's global step, 0 where there is none."""
    checkpoint = tf.train.latest_checkpoint(self.path)
    return int(tf.train.load_variable(checkpoint, "global_step")) if checkpoint else 0

  def completed_epochs(self, steps_per_epoch: int) -> int:
    """Count the epochs that the newest checkpoint has seen to their end.

    Args:
      steps_per_epoch: taken for the length of every epoch where the folder does not say how long they were, as with
        a checkpoint of the original's.
    """
    step = self.global_step()
    ends = self._epoch_ends()
    return step // steps_per_epoch if ends is None else sum(end <= step for end in ends)

  def plan_epochs(self, completed: int, count: int, steps_per_epoch: int) -> None:
    """Write down at which steps the next epochs will end, before they start: a kill at any moment leaves it true.

    Args:
      completed: epochs that the newest checkpoint has seen to their end.
      count: epochs that come now.
      steps_per_epoch: steps in each of them.
    """
    step = self.global_step()
    past = (self._epoch_ends() or [step] * completed)[:completed]
    self._write_json(PROGRESS_FILE, {"epoch_ends": past + [step + steps_per_epoch * (i + 1) for i in range(count)]})

  def append_evaluation(self, row: Mapping[str, Any]) -> None:
    """Add a row to eval.jsonl."""
    rows = [*self.evaluations(), row]
    write_atomically(self._file(EVAL_FILE), "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows))

  def evaluations(self) -> list[dict[str, Any]]:
    """Read the rows of eval.jsonl."""
    if not os.path.exists(self._file(EVAL_FILE)):
      return []
    with open(self._file(EVAL_FILE), encoding="utf-8") as file:
      return [json.loads(line) for line in file]

  def evaluation_after(self, epoch: int) -> dict[str, Any] | None:
    """Find the newest row that was written after this many epochs."""
    return next((row for row in reversed(self.evaluations()) if row["epoch"] == epoch), None)

  def _file(self, name: str) -> str:
    return os.path.join(self.path, name)

  def _epoch_ends(self) -> list[int] | None:
    progress = self._read_json(PROGRESS_FILE)
    return progress["epoch_ends"] if progress else None

  def _read_json(self, name: str) -> Any:
    """Read a file of ours, None if there is none."""
    if not os.path.exists(self._file(name)):
      return None
    with open(self._file(name), encoding="utf-8") as file:
      try:
        return json.load(file)
      except ValueError as error:
        raise UserError(f"{self._file(name)} is damaged ({error}); restore it or use another --model_dir.") from error

  def _write_json(self, name: str, content: Any) -> None:
    write_atomically(self._file(name), json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

  def _check_writable(self) -> None:
    """Make the folder and try to write into it."""
    try:
      os.makedirs(self.path, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.path):
        pass
    except OSError as error:
      raise UserError(f"cannot write into {self.path}: {error.strerror}; choose another --model_dir.") from error

  def _check_settings(self, settings: Mapping[str, Any]) -> None:
    for name, there in (self._read_json(SETTINGS_FILE) or {}).items():
      if name in settings and settings[name] != there:
        raise UserError(
          f"{self.path} was trained with --{name}={there} and now --{name}={settings[name]} is asked for; "
          f"use --{name}={there}, another --model_dir, or --clean to start anew."
        )

  def _check_vocabulary(self, vocabulary: Sequence[str]) -> None:
    if not os.path.exists(self._file(VOCABULARY_FILE)):
      return
    with open(self._file(VOCABULARY_FILE), encoding="utf-8", newline="\n") as file:
      there = file.read().split("\n")[:-1]
    if there != list(vocabulary):
      raise UserError(
        f"{self.path} was trained with the vocabulary {''.join(there)!r} and now {''.join(vocabulary)!r} is asked for; "
        f"use --vocabulary_file={self._file(VOCABULARY_FILE)}, another --model_dir, or --clean to start anew."
      )

  def _check_shapes(self, settings: Mapping[str, Any], vocabulary: Sequence[str]) -> None:
    """Compare a checkpoint that came without settings, such as the original's, with what is asked for."""
    checkpoint = tf.train.latest_checkpoint(self.path)
    if not checkpoint or os.path.exists(self._file(SETTINGS_FILE)):
      return
    shapes = dict(tf.train.list_variables(checkpoint))
    directions = 2 if settings["is_bidirectional"] else 1
    wanted = {
      "dense/kernel": [directions * settings["rnn_hidden_size"], len(vocabulary)],
      "dense/bias": [len(vocabulary)] if settings["use_bias"] else None,
      f"batch_normalization_{settings['rnn_hidden_layers'] + 2}/gamma": None,
    }
    for name, shape in wanted.items():
      if shapes.get(name) != shape:
        raise UserError(
          f"{checkpoint} has {name} of shape {shapes.get(name)}, the network asked for {shape}; "
          "set the --rnn_* flags, --use_bias and --vocabulary_file to what it was trained with."
        )
