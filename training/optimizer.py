"""Optimizers: from a loss to the training operation, and the state that it keeps in a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from official_utils.lazy import tf
from training.schedules import Schedule

# Dynamic loss scaling: the scale at the start, and after how many good steps in a row it doubles.
INITIAL_SCALE = 2.0**15
DOUBLING_PERIOD = 2000


@dataclass(frozen=True)
class Optimizer:
  """Adam.

  Attributes:
    learning_rate: the learning rate, where the schedule does not lower it.
    loss_scale: see `minimize_scaled`.
    clip_norm: see `minimize_scaled`.
    schedule: how the learning rate changes.
  """

  learning_rate: float
  loss_scale: float | str = 1
  clip_norm: float | None = None
  schedule: Schedule = field(default_factory=Schedule)

  def minimize(self, loss: "tf.Tensor") -> "tf.Operation":
    """Build one training step with the update of the moving statistics; name the tensors that hooks look for.

    Args:
      loss: a scalar.

    Returns:
      The operation that does the step and counts it.
    """
    step = tf.compat.v1.train.get_or_create_global_step()
    learning_rate = self.learning_rate * self.schedule.factor(step)
    tf.identity(learning_rate, name="learning_rate")
    tf.identity(loss, name="cross_entropy")
    optimizer = tf.compat.v1.train.AdamOptimizer(learning_rate)
    # The moving statistics read the global step, so they are updated before it increases.
    with tf.control_dependencies(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)):
      return minimize_scaled(optimizer, loss, step, self.loss_scale, clip_norm=self.clip_norm)

  def state_shapes(self, trainable: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """List the variables that `minimize` adds to the graph, with their shapes.

    Args:
      trainable: the trained variables, with their shapes.
    """
    shapes = {f"{name}/{slot}": list(shape) for name, shape in trainable.items() for slot in ("Adam", "Adam_1")}
    scalars = ["global_step", "beta1_power", "beta2_power"]
    if self.loss_scale == "dynamic":
      scalars += ["loss_scale/current_loss_scale", "loss_scale/good_steps"]
    return shapes | {name: [] for name in scalars}


def minimize_scaled(
  optimizer: "tf.compat.v1.train.Optimizer",
  loss: "tf.Tensor",
  global_step: "tf.Variable",
  loss_scale: float | str,
  doubling_period: int = DOUBLING_PERIOD,
  clip_norm: float | None = None,
) -> "tf.Operation":
  """Build one training step with gradients of the scaled loss, divided by the scale and then clipped.

  With a dynamic scale, a step whose gradients are not finite halves the scale and leaves the weights alone. It still
  counts as a step, because a run finds its place in the data by the number of steps. The scale and the count of good
  steps are variables of the graph and go into the checkpoint, so that a resumed run ends with the same bits.

  Args:
    optimizer: applies the gradients.
    loss: a scalar.
    global_step: counts the steps.
    loss_scale: a number, 1 for none, or "dynamic".
    doubling_period: after how many good steps in a row a dynamic scale doubles.
    clip_norm: the largest global norm of the gradients, to which longer ones are shortened; None leaves them as they
      are.

  Returns:
    The operation that does the step.
  """
  if loss_scale == 1:
    return _apply_gradients(optimizer, loss, clip_norm, global_step)
  precision = tf.compat.v1.mixed_precision
  if loss_scale == "dynamic":
    with tf.name_scope("loss_scale"):
      scale = precision.DynamicLossScale(INITIAL_SCALE, doubling_period)
  else:
    scale = precision.FixedLossScale(loss_scale)
  scaled = precision.MixedPrecisionLossScaleOptimizer(optimizer, scale)
  update = _apply_gradients(scaled, loss, clip_norm)
  with tf.control_dependencies([update]):
    return tf.group(global_step.assign_add(1))


def _apply_gradients(optimizer, loss, clip_norm, global_step=None):
  """Do what `optimizer.minimize` does, with clipped gradients."""
  gradients, variables = zip(*optimizer.compute_gradients(loss), strict=True)
  if clip_norm is not None:
    gradients = _clip(gradients, clip_norm)
  return optimizer.apply_gradients(list(zip(gradients, variables, strict=True)), global_step)


def _clip(gradients, clip_norm):
  """Shorten a replica's gradients by the factor that brings the sum of all replicas' gradients to `clip_norm` or below.

  The optimizer applies that sum, which with an Estimator is the gradient of the mean over the global batch; the norm of
  one replica's part says nothing about it. If a number is not finite, none of the result is, on any replica: a dynamic
  loss scale skips the step.
  """
  known = [gradient for gradient in gradients if gradient is not None]

  def add_up(strategy, *values):
    return strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, [(value, value) for value in values])

  # Costs the replicas a second exchange of all gradients, before that of the optimizer. `all_reduce` of the replica's
  # context would do the same, but fails in a graph with a dynamic loss scale.
  sums = tf.distribute.get_replica_context().merge_call(add_up, args=known)
  return tf.clip_by_global_norm(gradients, clip_norm, use_norm=tf.linalg.global_norm(sums))[0]
