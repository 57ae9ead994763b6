"""Optimizers: from a loss to the training operation, and the state that it keeps in a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from official_utils.lazy import tf

# Dynamic loss scaling: the scale at the start, and after how many good steps in a row it doubles.
INITIAL_SCALE = 2.0**15
DOUBLING_PERIOD = 2000


@dataclass(frozen=True)
class Optimizer:
  """Adam.

  Attributes:
    learning_rate: the learning rate.
    loss_scale: see `minimize_scaled`.
  """

  learning_rate: float
  loss_scale: float | str = 1

  def minimize(self, loss: "tf.Tensor") -> "tf.Operation":
    """Build one training step with the update of the moving statistics; name the tensors that hooks look for.

    Args:
      loss: a scalar.

    Returns:
      The operation that does the step and counts it.
    """
    tf.identity(self.learning_rate, name="learning_rate")
    tf.identity(loss, name="cross_entropy")
    optimizer = tf.compat.v1.train.AdamOptimizer(self.learning_rate)
    # The moving statistics read the global step, so they are updated before it increases.
    with tf.control_dependencies(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)):
      return minimize_scaled(optimizer, loss, tf.compat.v1.train.get_or_create_global_step(), self.loss_scale)

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
) -> "tf.Operation":
  """Build one training step with gradients of the scaled loss, divided by the scale.

  With a dynamic scale, a step whose gradients are not finite halves the scale and leaves the weights alone. It still
  counts as a step, because a run finds its place in the data by the number of steps. The scale and the count of good
  steps are variables of the graph and go into the checkpoint, so that a resumed run ends with the same bits.

  Args:
    optimizer: applies the gradients.
    loss: a scalar.
    global_step: counts the steps.
    loss_scale: a number, 1 for none, or "dynamic".
    doubling_period: after how many good steps in a row a dynamic scale doubles.

  Returns:
    The operation that does the step.
  """
  if loss_scale == 1:
    return optimizer.minimize(loss, global_step)
  precision = tf.compat.v1.mixed_precision
  if loss_scale == "dynamic":
    with tf.name_scope("loss_scale"):
      scale = precision.DynamicLossScale(INITIAL_SCALE, doubling_period)
  else:
    scale = precision.FixedLossScale(loss_scale)
  update = precision.MixedPrecisionLossScaleOptimizer(optimizer, scale).minimize(loss)
  with tf.control_dependencies([update]):
    return tf.group(global_step.assign_add(1))
