"""Loss scaling, so that small gradients survive half precision."""

from official_utils.lazy import tf

# Where dynamic scaling starts, and after how many good steps in a row it doubles.
INITIAL_SCALE = 2.0**15
DOUBLING_PERIOD = 2000


def variable_shapes(loss_scale: float | str) -> dict[str, list[int]]:
  """Name the variables that `minimize` adds to the graph, with their shapes."""
  return {"loss_scale/current_loss_scale": [], "loss_scale/good_steps": []} if loss_scale == "dynamic" else {}


def minimize(
  optimizer: "tf.compat.v1.train.Optimizer",
  loss: "tf.Tensor",
  global_step: "tf.Variable",
  loss_scale: float | str,
  doubling_period: int = DOUBLING_PERIOD,
) -> "tf.Operation":
  """Build one step of training whose gradients are taken of the scaled loss and divided by the scale.

  With a dynamic scale a step whose gradients are not finite halves the scale and leaves the weights alone. It counts as
  a step all the same: by its number a run finds its place in the data. Scale and count of good steps are variables of
  the graph and go into the checkpoint, so that a run that is resumed ends with the same bits.

  Args:
    optimizer: what applies the gradients.
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
