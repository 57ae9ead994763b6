"""Batch normalisation whose statistics count real frames only."""

from official_utils.lazy import tf

# The original's settings.
MOMENTUM = 0.997
EPSILON = 1e-5


def early_momentum(step: "tf.Tensor") -> "tf.Tensor":
  """Let a moving average start as the plain average of what it has seen.

  At the original's momentum hundreds of steps pass before the values at the start are forgotten; a small corpus is
  evaluated before that.

  Args:
    step: how many updates there were, a scalar tensor.

  Returns:
    A scalar, at most MOMENTUM.
  """
  step = tf.cast(step, tf.float32)
  return tf.minimum(MOMENTUM, step / (step + 1.0))


def batch_norm(
  inputs: "tf.Tensor",
  lengths: "tf.Tensor",
  training: bool,
  name: str,
  mask: "tf.Tensor | None" = None,
  momentum: "tf.Tensor | float" = MOMENTUM,
) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Normalise each channel over batch, time and what lies between.

  The moving variance takes the n / (n - 1) correction for images [batch, time, bins, channels] and not for sequences:
  the original's two kernels differ in this. Without a mask, images go through the kernel that the original used, so
  that even activations within rounding of a kink of relu6 fall on the same side.

  Args:
    inputs: [..., channels], of rank 3 or 4.
    lengths: [batch], handed through.
    training: whether to use (and record) the batch's own statistics.
    name: the scope of gamma, beta, moving_mean and moving_variance.
    mask: 1 where a frame is real, 0 in the padding, broadcastable to the inputs; None counts every frame.
    momentum: how much of the moving averages an update keeps.

  Returns:
    Outputs of the inputs' shape, zero where the mask is, and the lengths.
  """
  channels = inputs.shape[-1]
  with tf.compat.v1.variable_scope(name):
    gamma = tf.compat.v1.get_variable("gamma", [channels], inputs.dtype, tf.compat.v1.ones_initializer())
    beta = tf.compat.v1.get_variable("beta", [channels], inputs.dtype, tf.compat.v1.zeros_initializer())
    moving_mean = _moving_average("moving_mean", channels, inputs.dtype, tf.compat.v1.zeros_initializer())
    moving_variance = _moving_average("moving_variance", channels, inputs.dtype, tf.compat.v1.ones_initializer())
  if not training:
    return _normalize(inputs, moving_mean, moving_variance, gamma, beta, mask), lengths
  if inputs.shape.rank == 4 and mask is None:
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=EPSILON)
  else:
    mean, variance, count = masked_moments(inputs, mask)
    outputs = _normalize(inputs, mean, variance, gamma, beta, mask)
    if inputs.shape.rank == 4:
      variance *= count / tf.maximum(count - 1, 1)
  for average, value in ((moving_mean, mean), (moving_variance, variance)):
    update = average.assign_sub((average - tf.stop_gradient(value)) * (1 - momentum))
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
  return outputs, lengths


def masked_moments(
  inputs: "tf.Tensor", mask: "tf.Tensor | None" = None
) -> tuple["tf.Tensor", "tf.Tensor", "tf.Tensor"]:
  """Compute each channel's mean and variance over the frames that the mask marks.

  Args:
    inputs: [..., channels].
    mask: 1 or 0, broadcastable to the inputs, or None.

  Returns:
    Mean [channels], variance [channels] (around that mean, divided by the count), and the count, a scalar.
  """
  axes = list(range(inputs.shape.rank - 1))
  size = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], inputs.dtype)
  if mask is None:
    mean = tf.reduce_mean(inputs, axes)
    return mean, tf.reduce_mean(tf.math.squared_difference(inputs, mean), axes), size
  # The mask has fewer entries than the inputs have frames: each stands for a whole row of bins.
  count = tf.reduce_sum(mask) * size / tf.cast(tf.size(mask), inputs.dtype)
  mean = tf.reduce_sum(inputs * mask, axes) / count
  return mean, tf.reduce_sum(tf.math.squared_difference(inputs, mean) * mask, axes) / count, count


def _normalize(inputs, mean, variance, gamma, beta, mask):
  """Shift and scale each channel, and set what the mask leaves out to zero."""
  outputs = (inputs - mean) * (gamma * tf.math.rsqrt(variance + EPSILON)) + beta
  return outputs if mask is None else outputs * mask


def _moving_average(name: str, channels: int, dtype, initializer):
  """Make a variable that each replica updates by itself and that is averaged when it is read or saved."""
  return tf.compat.v1.get_variable(
    name,
    [channels],
    dtype,
    initializer,
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.MEAN,
  )
