"""Finds and reads TensorFlow's checkpoints, and says in a line what is wrong with one."""

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from official_utils.lazy import tf
from official_utils.misc.errors import UserError


def newest_checkpoint(folder: str) -> str | None:
  """Find the newest checkpoint of a folder, None if there is none.

  Raises:
    UserError: it is named and gone, or there are checkpoints and nothing says which is the newest; both would mean that
      what was learned is forgotten.
  """
  try:
    state = tf.train.get_checkpoint_state(folder)
  except ValueError:  # An empty file.
    state = None
  if state and state.model_checkpoint_path:
    if not tf.io.gfile.exists(f"{state.model_checkpoint_path}.index"):
      raise damaged_checkpoint(state.model_checkpoint_path)
    return state.model_checkpoint_path
  found = glob.glob(os.path.join(glob.escape(folder), "*.ckpt-*.index"))
  if found:
    name = os.path.basename(max(found, key=os.path.getmtime)).removesuffix(".index")
    raise UserError(
      f"{os.path.join(folder, 'checkpoint')}, which names the newest checkpoint, is missing or damaged; restore it, "
      f'or write into it model_checkpoint_path: "{name}"'
    )
  return None


def damaged_checkpoint(checkpoint: str) -> UserError:
  """Say what to do about a checkpoint that cannot be read."""
  names_it = os.path.join(os.path.dirname(checkpoint), "checkpoint")
  return UserError(f"the checkpoint {checkpoint} is damaged or gone; restore it, or name an older one in {names_it}")


@contextlib.contextmanager
def reading_checkpoint(checkpoint: str) -> Iterator[None]:
  """Raise damaged_checkpoint for what TensorFlow says where a checkpoint's files cannot be read."""
  try:
    yield
  except (tf.errors.OpError, ValueError, IndexError) as error:
    raise damaged_checkpoint(checkpoint) from error


def read_shapes(checkpoint: str) -> dict[str, list[int]]:
  """List the variables that a checkpoint holds, with their shapes."""
  with reading_checkpoint(checkpoint):
    return dict(tf.train.list_variables(checkpoint))


def read_variable(checkpoint: str, name: str) -> np.ndarray:
  """Read the value of one variable."""
  with reading_checkpoint(checkpoint):
    return tf.train.load_variable(checkpoint, name)


def find_difference(
  checkpoint: str, wanted: Mapping[str, Sequence[int]], is_whole: bool = False
) -> tuple[str, list[int] | str, list[int] | str] | None:
  """Compare a checkpoint's variables with those wanted: TensorFlow restores any shape without a word.

  Args:
    checkpoint: the checkpoint's prefix.
    wanted: variables and their shapes.
    is_whole: whether the checkpoint must not hold anything else.

  Returns:
    The first variable that differs, with its shape there and here, or "absent"; None if there is no such variable.
  """
  there = read_shapes(checkpoint)
  for name in sorted(there.keys() | wanted.keys()) if is_whole else sorted(wanted):
    found, asked = there.get(name, "absent"), list(wanted[name]) if name in wanted else "absent"
    if found != asked:
      return name, found, asked
  return None
