"""How the learning rate changes in the course of a run: a factor that follows from the steps and from eval.jsonl."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training.model_dir import ModelDir

CONSTANT = "constant"


@dataclass(frozen=True)
class Schedule:
  """A warm-up, in which the learning rate rises from 0 in equal steps, and what follows.

  A step here is an update of the weights; the fields up to `model_dir` have the names of flags.

  Attributes:
    learning_rate_schedule: what follows the warm-up, a name of SHAPES.
    warmup_steps: in the step of this number, counted from 0, the rate is whole for the first time.
    final_learning_rate: the share of the rate that is left at the end of the run, where the shape falls towards it.
    plateau_patience: after how many evaluations without a better WER the shape "plateau" falls.
    plateau_factor: by what it is multiplied then.
    model_dir: the folder whose eval.jsonl holds these evaluations.
    total_steps: the steps of the whole run, so that the rate of the step after the last would be that of the end; None
      if they are not known.
  """

  learning_rate_schedule: str = CONSTANT
  warmup_steps: int = 0
  final_learning_rate: float = 0.0
  plateau_patience: int = 3
  plateau_factor: float = 0.5
  model_dir: str = ""
  total_steps: int | None = None

  @property
  def is_constant(self) -> bool:
    """Whether the learning rate never changes."""
    return self.learning_rate_schedule == CONSTANT and not self.warmup_steps

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
    """Return by what to multiply the learning rate, in the cycle of training that is about to begin.

    Args:
      step: the steps done so far, an integer scalar.

    Returns:
      A float32 scalar; the number 1 if the learning rate never changes.
    """
    if self.is_constant:
      return 1.0
    with tf.name_scope("schedule"):
      done = tf.cast(step, tf.float32)
      warmth = tf.minimum(1.0, done / self.warmup_steps) if self.warmup_steps else 1.0
      return warmth * SHAPES[self.learning_rate_schedule](self, tf.maximum(0.0, done - self.warmup_steps))


def count_plateaus(rates: Iterable[float], patience: int) -> int:
  """Count how often a number of evaluations in a row brought no better rate; each count begins anew.

  Args:
    rates: the rates of all evaluations so far, the lower the better.
    patience: the number.
  """
  best, waited, plateaus = math.inf, 0, 0
  for rate in rates:
    waited = 0 if rate < best else waited + 1
    best = min(best, rate)
    if waited == patience:
      waited, plateaus = 0, plateaus + 1
  return plateaus


def _progress(schedule: Schedule, steps: "tf.Tensor") -> "tf.Tensor":
  """Return which share of the run after the warm-up is done."""
  if schedule.total_steps is None:
    raise UserError(
      f"--learning_rate_schedule={schedule.learning_rate_schedule} follows the steps of a run, and they are known to "
      "run_deep_speech only; train with it, or leave it out"
    )
  return tf.minimum(1.0, steps / (schedule.total_steps - schedule.warmup_steps))


def _cosine(schedule: Schedule, steps: "tf.Tensor") -> "tf.Tensor":
  """Fall from 1 to the final rate by half a period of a cosine, and stay there."""
  fallen = 0.5 + 0.5 * tf.cos(math.pi * _progress(schedule, steps))
  final = schedule.final_learning_rate
  return final + (1.0 - final) * fallen if final else fallen


def _exponential(schedule: Schedule, steps: "tf.Tensor") -> "tf.Tensor":
  """Fall from 1 to the final rate by the same factor in each step, and stay there."""
  return tf.pow(schedule.final_learning_rate, _progress(schedule, steps))


def _noam(schedule: Schedule, steps: "tf.Tensor") -> "tf.Tensor":
  """Fall with the square root of the steps, those of the warm-up included."""
  return tf.sqrt(schedule.warmup_steps / (schedule.warmup_steps + steps))


def _plateau(schedule: Schedule, steps: "tf.Tensor") -> "tf.Tensor":
  """Stay as it is until the next cycle: what the evaluations so far have left of it."""
  rates = [row["WER"] for row in ModelDir(schedule.model_dir).evaluations_so_far()]
  return tf.constant(schedule.plateau_factor ** count_plateaus(rates, schedule.plateau_patience))


# What follows the warm-up: functions of the schedule and of the steps since then, a float32 scalar; 1 at first.
SHAPES: dict[str, Callable[[Schedule, "tf.Tensor"], "tf.Tensor"]] = {
  CONSTANT: lambda schedule, steps: tf.ones_like(steps),
  "cosine": _cosine,
  "noam": _noam,
  "exponential": _exponential,
  "plateau": _plateau,
}
