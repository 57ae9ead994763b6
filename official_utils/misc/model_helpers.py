"""Decisions that every training program makes: when to stop, and whether a folder may be removed."""

import numbers
import os
import shutil
from collections.abc import Sequence

from absl import logging

from official_utils.misc.errors import UserError


def past_stop_threshold(stop_threshold: float | None, eval_metric: float) -> bool:
  """Tell whether an evaluation is good enough to stop training.

  Args:
    stop_threshold: the metric to reach; None never stops.
    eval_metric: the metric of the evaluation; lower is better.

  Returns:
    Whether the metric is at or below the threshold.

  Raises:
    ValueError: the threshold is not a number.
  """
  if stop_threshold is None:
    return False
  if not isinstance(stop_threshold, numbers.Number):
    raise ValueError(f"the threshold for stopping must be a number or None, not {stop_threshold!r}")
  return eval_metric <= stop_threshold


def clean_model_dir(model_dir: str, marker_files: Sequence[str]) -> None:
  """Remove a folder that an earlier run made, and log it.

  Args:
    model_dir: the folder, which may be missing or empty.
    marker_files: the names of files that every model_dir of ours has.

  Raises:
    UserError: the folder holds something else, or cannot be removed.
  """
  folder = os.path.abspath(model_dir)
  if not os.path.lexists(folder):
    return
  if os.path.islink(folder) or not os.path.isdir(folder):
    raise UserError(f"--clean removes folders only, and {folder} is not one; give another --model_dir")
  try:
    content = os.listdir(folder)
    if content and not set(marker_files) <= set(content):
      raise UserError(
        f"--clean leaves {folder} alone: it does not hold {', '.join(marker_files)} and may not be a model_dir; "
        "remove it yourself or give another --model_dir"
      )
    logging.info("--clean removes %s.", folder)
    shutil.rmtree(folder)
  except OSError as error:
    raise UserError(f"--clean cannot remove {folder}: {error.strerror}; give another --model_dir") from error
