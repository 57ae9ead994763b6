"""Refuses to go on with a run, or to use its model, with settings, labels or variables other than its own."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from data import vocabulary
from inference import LABELS_FILE
from official_utils import checkpoints
from official_utils.misc.errors import UserError
from settings import ModelSettings

# The flags that decide what training keeps beside the network.
_STATE_FLAGS = "--optimizer, --accumulate_steps, --ema_decay and --loss_scale"


def check_settings(folder: str, trained: ModelSettings, given: Mapping[str, Any], remedy: str) -> None:
  """Refuse settings that differ from those that the run in a folder was trained with.

  Args:
    folder: the run's.
    trained: its settings.
    given: the settings that are asked for, by name.
    remedy: what to do instead of changing them.
  """
  there = trained.values()
  for name, value in given.items():
    if there.get(name, value) != value:
      raise UserError(
        f"{folder} was trained with --{name}={there[name]}, but --{name}={value} is asked for; "
        f"use --{name}={there[name]}, {remedy}"
      )


def check_labels(folder: str, labels: Sequence[str], remedy: str) -> None:
  """Refuse a vocabulary that differs from that of the run in a folder.

  Args:
    folder: the run's.
    labels: what is asked for, the blank last.
    remedy: what to do instead of changing it.
  """
  path = os.path.join(folder, LABELS_FILE)
  if not os.path.exists(path):
    return
  there = vocabulary.read_vocabulary(path)
  if there != list(labels):
    raise UserError(
      f"{folder} was trained with the vocabulary {''.join(there)!r}, but {''.join(labels)!r} is asked for; "
      f"use --vocabulary_file={path}, {remedy}"
    )


def check_shapes(
  checkpoint: str, wanted: Mapping[str, Sequence[int]], settings: ModelSettings, is_whole: bool = False
) -> None:
  """Compare a checkpoint's variables with those wanted: the original's come without settings.

  Args:
    checkpoint: the checkpoint.
    wanted: the variables that are needed, with their shapes.
    settings: those that the user asks for.
    is_whole: whether `wanted` has what training keeps too; if not, that is not looked at.
  """
  difference = checkpoints.find_difference(
    checkpoint, wanted, lambda name: not is_whole and _is_training_state(name, wanted)
  )
  if difference is None:
    return
  name, found, asked = difference
  if found == "absent" and _is_training_state(name, wanted):
    raise UserError(
      f"{checkpoint} lacks {name}, which training keeps: it can be evaluated and exported, but training cannot go on "
      f"from it; check {_STATE_FLAGS}, or give another --model_dir"
    )
  if asked == "absent" and _is_training_state(name, wanted):
    raise UserError(
      f"{checkpoint} holds {name}, which training with these flags does not keep; give {_STATE_FLAGS} as before, or "
      "another --model_dir"
    )
  raise UserError(
    f"{checkpoint} does not fit the network asked for: {name} is {found} there and {asked} here; set --vocabulary_file and "
    f"the flags of --network={settings.network.kind} and --features={settings.features.kind} to what it was trained with"
  )


def _is_training_state(name: str, wanted: Mapping[str, Sequence[int]]) -> bool:
  """Tell whether a variable is kept beside the network's, whatever the optimizer: a counter, or a slot of a variable."""
  return "/" not in name or name.startswith("loss_scale/") or os.path.dirname(name) in wanted
