"""How the learning rate changes in the course of a run: a factor that follows from the global step alone."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from official_utils.lazy import tf
from official_utils.misc.errors import UserError

CONSTANT = "constant"


def _cosine(steps: "tf.Tensor", length: int) -> "tf.Tensor":
  """Fall from 1 to 0 by half a period of a cosine, and stay there."""
  return 0.5 + 0.5 * tf.cos(math.pi * tf.minimum(1.0, steps / length))


# What follows the warm-up: functions of the steps since then, a float32 scalar, and of how many there will be; 1 at first.
SHAPES: dict[str, Callable[["tf.Tensor", int], "tf.Tensor"]] = {
  CONSTANT: lambda steps, length: tf.ones_like(steps),
  "cosine": _cosine,
}


@dataclass(frozen=True)
class Schedule:
  """A warm-up, in which the learning rate rises from 0 in equal steps, and what follows.

  Attributes:
    shape: a name of SHAPES.
    warmup_steps: in the step of this number, counted from 0, the rate is whole for the first time.
    total_steps: the steps of the whole run, so that the rate of the step after the last would be that of the end; None
      if they are not known.
  """

  shape: str = CONSTANT
  warmup_steps: int = 0
  total_steps: int | None = None

  @property
  def is_constant(self) -> bool:
    """Whether the learning rate never changes."""
    return self.shape == CONSTANT and not self.warmup_steps

  def of_run(self, count_steps: Callable[[], int] | None) -> "Schedule":
    """Return the schedule of a run.

    Args:
      count_steps: counts the steps of the whole run; called only if the learning rate changes. None if there is no run.

    Raises:
      UserError: the run ends before the warm-up does.
    """
    if self.is_constant or count_steps is None:
      return self
    total = count_steps()
    if self.warmup_steps >= total:
      raise UserError(
        f"--warmup_steps={self.warmup_steps} leaves nothing of the {total} steps of the run; lower it, or raise "
        "--train_epochs"
      )
    return dataclasses.replace(self, total_steps=total)

  def factor(self, step: "tf.Tensor") -> "tf.Tensor | float":
    """Return by what to multiply the learning rate.

    Args:
      step: the steps done so far, an integer scalar.

    Returns:
      A float32 scalar; the number 1 if the learning rate never changes.
    """
    if self.is_constant:
      return 1.0
    if self.total_steps is None:
      raise UserError(
        f"--learning_rate_schedule={self.shape} with --warmup_steps={self.warmup_steps} follows the steps of a run, and "
        "they are known to run_deep_speech only; train with it, or leave both flags out"
      )
    with tf.name_scope("schedule"):
      done = tf.cast(step, tf.float32)
      warmth = tf.minimum(1.0, done / self.warmup_steps) if self.warmup_steps else 1.0
      after = tf.maximum(0.0, done - self.warmup_steps)
      return warmth * SHAPES[self.shape](after, self.total_steps - self.warmup_steps)
