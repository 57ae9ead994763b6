"""Finds and reads TensorFlow's checkpoints, and says in one line what is wrong with one.

A checkpoint may hold, beside a weight, its average over training; whoever uses the weights then takes that.
"""

import contextlib
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from official_utils.lazy import tf
from official_utils.misc.errors import UserError

# The name, below that of a weight, of its average.
AVERAGE = "average"


def newest_checkpoint(folder: str) -> str | None:
  """Find the newest checkpoint of a folder; None if there is none.

  Raises:
    UserError: the newest checkpoint is gone, or nothing says which of several is the newest; going on would lose the
      training so far.
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
  """Return the error for a checkpoint that cannot be read, with the remedy."""
  names_it = os.path.join(os.path.dirname(checkpoint), "checkpoint")
  remedy = f"restore it, or name an older one in {names_it}" if os.path.exists(names_it) else "restore or remove it"
  return UserError(f"the checkpoint {checkpoint} is damaged or gone; {remedy}")


@contextlib.contextmanager
def reading_checkpoint(checkpoint: str) -> Iterator[None]:
  """Raise damaged_checkpoint for the errors of TensorFlow when a checkpoint's files cannot be read."""
  try:
    yield
  except (tf.errors.OpError, ValueError, IndexError) as error:
    raise damaged_checkpoint(checkpoint) from error


def read_shapes(checkpoint: str) -> dict[str, list[int]]:
  """List the variables in a checkpoint, with their shapes."""
  with reading_checkpoint(checkpoint):
    return dict(tf.train.list_variables(checkpoint))


def read_variable(checkpoint: str, name: str) -> np.ndarray:
  """Read the value of one variable."""
  with reading_checkpoint(checkpoint):
    return tf.train.load_variable(checkpoint, name)


def find_difference(
  checkpoint: str, wanted: Mapping[str, Sequence[int]], is_ignored: Callable[[str], bool] = lambda name: True
) -> tuple[str, list[int] | str, list[int] | str] | None:
  """Compare a checkpoint's variables with those wanted: TensorFlow restores any shape without a word.

  Args:
    checkpoint: the checkpoint's prefix.
    wanted: variables and their shapes.
    is_ignored: tells of a variable that is not wanted whether the checkpoint may hold it all the same; by default any.

  Returns:
    The first variable that differs, with its shape in the checkpoint and the one wanted, or "absent"; None if there is no
    such variable.
  """
  listed = read_shapes(checkpoint)
  there = {name: shape for name, shape in listed.items() if name in wanted or not is_ignored(name)}
  for name in sorted(there.keys() | wanted.keys()):
    found, asked = there.get(name, "absent"), list(wanted[name]) if name in wanted else "absent"
    if found != asked:
      return name, found, asked
  return None


def names_to_use(checkpoint: str) -> dict[str, str]:
  """Map the variables of a checkpoint to the names of their values for use: averages, where there are any.

  Args:
    checkpoint: the checkpoint's prefix.
  """
  there = read_shapes(checkpoint)
  return {name: average if (average := f"{name}/{AVERAGE}") in there else name for name in there}


def newest_checkpoints(folder: str) -> list[str]:
  """List the checkpoints that TensorFlow keeps in a folder and that are still there, the newest last."""
  state = tf.train.get_checkpoint_state(folder) if newest_checkpoint(folder) else None
  paths = state.all_model_checkpoint_paths if state else []
  return [path for path in paths if tf.io.gfile.exists(f"{path}.index")]


def write_mean(sources: Sequence[str], names: Iterable[str], target: str) -> None:
  """Write a checkpoint with the means of variables over several checkpoints, and the global step of the last of these.

  Args:
    sources: the checkpoints, the newest last; of a weight that has an average, the average counts.
    names: the variables.
    target: the prefix of the new checkpoint.
  """
  in_each = [names_to_use(source) for source in sources]
  values = {"global_step": read_variable(sources[-1], "global_step")}
  for name in names:
    found = (read_variable(source, known.get(name, name)) for source, known in zip(sources, in_each, strict=True))
    values[name] = np.asarray(sum(value / np.float64(len(sources)) for value in found), np.float32)
  # Not eagerly, which would take hold of the GPUs.
  with (
    tf.Graph().as_default(),
    tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(device_count={"GPU": 0})) as session,
  ):
    tensors = {name: tf.compat.v1.placeholder(value.dtype, value.shape) for name, value in values.items()}
    save = tf.raw_ops.SaveV2(
      prefix=target, tensor_names=list(tensors), shape_and_slices=[""] * len(tensors), tensors=list(tensors.values())
    )
    session.run(save, {tensors[name]: value for name, value in values.items()})
