"""Optimizers: from a loss to the training operation, and the state that it keeps in a checkpoint."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from official_utils.checkpoints import AVERAGE
from official_utils.lazy import tf
from training import accumulation
from training.schedules import Schedule

# Dynamic loss scaling: the scale at the start, and after how many good steps in a row it doubles.
INITIAL_SCALE = 2.0**15
DOUBLING_PERIOD = 2000

# The variables that an optimizer keeps for each weight, by their names below that of the weight.
_SLOTS = {
  "adam": ("Adam", "Adam_1"),
  "adamw": ("Adam", "Adam_1"),
  "nesterov": ("Momentum",),
  "momentum": ("Momentum",),
}
OPTIMIZERS = tuple(_SLOTS)


@dataclass(frozen=True)
class Optimizer:
  """How a loss changes the weights; the fields have the names of flags, and `schedule` has such fields.

  Attributes:
    learning_rate: the learning rate, where the schedule does not lower it.
    optimizer: the rule, one of OPTIMIZERS; see `updates.make_optimizer`.
    momentum: the share of its velocity that "momentum" and "nesterov" keep in an update.
    weight_decay: how strongly kernels are drawn to 0; None for not at all.
    ema_decay: the share of the weights' averages that is kept in an update, in the long run; None for no averages.
    accumulate_steps: see `minimize_scaled`.
    clip_norm: see `minimize_scaled`.
    loss_scale: see `minimize_scaled`.
    schedule: how the learning rate changes.
  """

  learning_rate: float
  optimizer: str = "adam"
  momentum: float = 0.9
  weight_decay: float | None = None
  ema_decay: float | None = None
  accumulate_steps: int = 1
  clip_norm: float | None = None
  loss_scale: float | str = 1
  schedule: Schedule = Schedule()

  def of_run(self, count_steps: Callable[[], int] | None) -> "Optimizer":
    """Return the optimizer of a run; see `Schedule.of_run`.

    Args:
      count_steps: counts the batches of the whole run; None if there is no run.
    """
    count_updates = count_steps and (lambda: math.ceil(count_steps() / self.accumulate_steps))
    return dataclasses.replace(self, schedule=self.schedule.of_run(count_updates))

  def minimize(self, loss: "tf.Tensor") -> "tf.Operation":
    """Build one training step with the update of the moving statistics; name the tensors that hooks look for.

    Args:
      loss: a scalar.

    Returns:
      The operation that does the step and counts it.
    """
    from training import updates

    step = tf.compat.v1.train.get_or_create_global_step()
    num_updates = step if self.accumulate_steps == 1 else step // self.accumulate_steps
    learning_rate = self.learning_rate * self.schedule.factor(num_updates)
    tf.identity(learning_rate, name="learning_rate")
    tf.identity(loss, name="cross_entropy")
    around = updates.Around(
      learning_rate,
      self.weight_decay,
      self.optimizer == "adamw",
      self.ema_decay and updates.early_decay(self.ema_decay, num_updates),
    )
    optimizer = updates.make_optimizer(self.optimizer, learning_rate, self.momentum, around)
    # The moving statistics read the global step, so they are updated before it increases.
    with tf.control_dependencies(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)):
      return minimize_scaled(
        optimizer, loss, step, self.loss_scale, clip_norm=self.clip_norm, accumulate_steps=self.accumulate_steps
      )

  def state_shapes(self, trainable: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """List the variables that `minimize` adds to the graph, with their shapes.

    Args:
      trainable: the trained variables, with their shapes.
    """
    slots, scalars = list(_SLOTS[self.optimizer]), ["global_step"]
    if "Adam" in slots:
      scalars += ["beta1_power", "beta2_power"]
    if self.loss_scale == "dynamic":
      scalars += ["loss_scale/current_loss_scale", "loss_scale/good_steps"]
    if self.ema_decay:
      slots.append(AVERAGE)
    if self.accumulate_steps > 1:
      slots.append(accumulation.SUM)
      scalars.append(accumulation.COUNT)
    shapes = {f"{name}/{slot}": list(shape) for name, shape in trainable.items() for slot in slots}
    return shapes | {name: [] for name in scalars}


def minimize_scaled(
  optimizer: "tf.compat.v1.train.Optimizer",
  loss: "tf.Tensor",
  global_step: "tf.Variable",
  loss_scale: float | str,
  doubling_period: int = DOUBLING_PERIOD,
  clip_norm: float | None = None,
  accumulate_steps: int = 1,
) -> "tf.Operation":
  """Build one training step with gradients of the scaled loss, divided by the scale, averaged and then clipped.

  With a dynamic scale, a step whose gradients are not finite halves the scale and leaves the weights alone. It still
  counts as a step, because a run finds its place in the data by the number of steps. The scale and the count of good
  steps are variables of the graph and go into the checkpoint, so that a resumed run ends with the same bits.

  The norm that hooks find as gradient_norm is NaN in a step without an update.

  Args:
    optimizer: applies the gradients.
    loss: a scalar.
    global_step: counts the steps.
    loss_scale: a number, 1 for none, or "dynamic".
    doubling_period: after how many good steps in a row a dynamic scale doubles.
    clip_norm: the largest global norm of the gradients, to which longer ones are shortened; None leaves them as they
      are.
    accumulate_steps: of how many steps the mean of the gradients makes an update; see `accumulation.add_up`.

  Returns:
    The operation that does the step.
  """
  precision, scale, scaled = tf.compat.v1.mixed_precision, None, optimizer
  if loss_scale == "dynamic":
    with tf.name_scope("loss_scale"):
      scale = precision.DynamicLossScale(INITIAL_SCALE, doubling_period)
  elif loss_scale != 1:
    scale = precision.FixedLossScale(loss_scale)
  if scale is not None:
    scaled = precision.MixedPrecisionLossScaleOptimizer(optimizer, scale)
  gradients, variables = zip(*scaled.compute_gradients(loss), strict=True)
  if accumulate_steps > 1:

    def update(means):
      clipped, norm = _clip(means, clip_norm)
      return optimizer.apply_gradients(list(zip(clipped, variables, strict=True))), norm

    judge = scale if loss_scale == "dynamic" else None
    applied, norm = accumulation.add_up(gradients, variables, accumulate_steps, update, judge)
  else:
    gradients, norm = _clip(gradients, clip_norm)
    counted = global_step if scale is None else None
    applied = scaled.apply_gradients(list(zip(gradients, variables, strict=True)), counted)
  tf.identity(norm, name="gradient_norm")
  if scale is None and accumulate_steps == 1:
    return applied
  with tf.control_dependencies([applied]):
    return tf.group(global_step.assign_add(1))


def _clip(gradients, clip_norm):
  """Shorten a replica's gradients by the factor that brings the sum of all replicas' gradients to `clip_norm` or below.

  The optimizer applies that sum, which with an Estimator is the gradient of the mean over the global batch; the norm of
  one replica's part says nothing about it. If a number is not finite, none of the result is, on any replica: a dynamic
  loss scale skips the step.

  Returns:
    The gradients, and the norm of the sum before it is shortened; NaN if several replicas do not need it.
  """
  known = [gradient for gradient in gradients if gradient is not None]
  if clip_norm is None:
    is_alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    return gradients, tf.linalg.global_norm(known, "norm") if is_alone else tf.constant(math.nan)

  def add_up(strategy, *values):
    return strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, [(value, value) for value in values])

  # Costs the replicas a second exchange of all gradients, before that of the optimizer. `all_reduce` of the replica's
  # context would do the same, but fails in a graph with a dynamic loss scale.
  sums = tf.distribute.get_replica_context().merge_call(add_up, args=known)
  norm = tf.linalg.global_norm(sums)
  return tf.clip_by_global_norm(gradients, clip_norm, use_norm=norm)[0], norm
