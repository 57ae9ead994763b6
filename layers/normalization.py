"""Normalisation: over a batch, with statistics of real frames only, or over each step's features."""

import math
from typing import Any

from layers import variables
from official_utils.lazy import tf

# The original's settings.
MOMENTUM = 0.997
EPSILON = 1e-5


def early_momentum(step: "tf.Tensor", momentum: float = MOMENTUM) -> "tf.Tensor":
  """Compute a momentum with which a moving average starts as the plain average of its updates.

  With the original's momentum it takes hundreds of steps to forget the initial values, and a small corpus is evaluated
  before that.

  Args:
    step: the number of updates so far, a scalar tensor.
    momentum: the momentum later on.

  Returns:
    A scalar, at most that momentum.
  """
  step = tf.cast(step, tf.float32)
  return tf.minimum(momentum, step / (step + 1.0))


def current_momentum(momentum: float, training: bool, mask_padding: bool) -> "tf.Tensor | float":
  """Return the momentum of this step: an early one in training with masks, if steps are counted.

  Args:
    momentum: the momentum later on.
    training: whether moving averages are recorded.
    mask_padding: whether padding is kept out of results, or else the averages are those of the systems that were ported.
  """
  step = tf.compat.v1.train.get_global_step()
  return early_momentum(step, momentum) if training and mask_padding and step is not None else momentum


def batch_norm(
  inputs: "tf.Tensor",
  training: bool,
  name: str | None = None,
  mask: "tf.Tensor | None" = None,
  momentum: "tf.Tensor | float" = MOMENTUM,
  epsilon: float = EPSILON,
) -> "tf.Tensor":
  """Normalise each channel over all other axes.

  The moving variance has the n / (n - 1) correction for images [batch, time, bins, channels] and not for sequences: the
  original's two kernels differ in this. Without a mask, images go through the original's kernel, so that even
  activations within rounding of a kink of relu6 fall on the same side.

  Inputs in half precision go through the same kernel, which keeps statistics in single precision and makes few passes.

  Args:
    inputs: [..., channels], of rank 2 to 4.
    training: whether to use (and record) the batch's own statistics.
    name: the scope of gamma, beta, moving_mean and moving_variance; None for batch_normalization, and from the second
      one on batch_normalization_1 and so on.
    mask: 1 where a frame is real, 0 in the padding, broadcastable to the inputs; None counts every frame. Inputs in half
      precision must be packed instead.
    momentum: the share of the moving averages that an update keeps.
    epsilon: added to variances.

  Returns:
    Outputs of the inputs' shape, zero where the mask is zero.
  """
  channels, dtype = inputs.shape[-1], variables.stored_dtype(inputs.dtype)
  with tf.compat.v1.variable_scope(name, default_name="batch_normalization"):
    gamma = tf.compat.v1.get_variable("gamma", [channels], dtype, tf.compat.v1.ones_initializer())
    beta = tf.compat.v1.get_variable("beta", [channels], dtype, tf.compat.v1.zeros_initializer())
    moving_mean = _moving_average("moving_mean", channels, dtype, tf.compat.v1.zeros_initializer())
    moving_variance = _moving_average("moving_variance", channels, dtype, tf.compat.v1.ones_initializer())
  if not training:
    if variables.is_half(inputs.dtype):
      return _fused_norm(inputs, gamma, beta, epsilon, moving_mean, moving_variance)[0]
    return _normalize(inputs, moving_mean, moving_variance, gamma, beta, epsilon, mask)
  is_image, count = inputs.shape.rank == 4, _count_frames(inputs, mask, dtype)
  if variables.is_half(inputs.dtype) or (is_image and mask is None):
    outputs, mean, variance = _fused_norm(inputs, gamma, beta, epsilon)
    correction = 1 if is_image else (count - 1) / count
  else:
    outputs, mean, variance = _batch_statistics_norm(inputs, gamma, beta, epsilon, mask, count)
    correction = count / tf.maximum(count - 1, 1) if is_image else 1
  variance *= correction
  for average, value in ((moving_mean, mean), (moving_variance, variance)):
    update = average.assign_sub((average - tf.stop_gradient(value)) * (1 - momentum))
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
  return outputs


def layer_norm(rows: "tf.Tensor", name: str) -> "tf.Tensor":
  """Normalise each row over all its features.

  Args:
    rows: [rows, ...].
    name: the scope of gamma and beta, a number each for every feature, [features].

  Returns:
    Rows of the same shape and number format; in half precision, computed in single precision.
  """
  features, dtype = math.prod(rows.shape[1:]), variables.stored_dtype(rows.dtype)
  with tf.compat.v1.variable_scope(name):
    gamma = tf.compat.v1.get_variable("gamma", [features], dtype, tf.compat.v1.ones_initializer())
    beta = tf.compat.v1.get_variable("beta", [features], dtype, tf.compat.v1.zeros_initializer())
  flat = tf.reshape(tf.cast(rows, dtype), [-1, features])
  mean, variance = tf.nn.moments(flat, [1], keepdims=True)
  outputs = tf.nn.batch_normalization(flat, mean, variance, beta, gamma, EPSILON)
  return tf.reshape(tf.cast(outputs, rows.dtype), [-1, *rows.shape[1:]])


def _count_frames(inputs, mask, dtype):
  """Count the values that each channel's statistics are taken over."""
  size = tf.cast(tf.size(inputs, tf.int64) // tf.shape(inputs, tf.int64)[-1], dtype)
  # The mask has fewer entries than the inputs have frames: each stands for a whole row of bins.
  return size if mask is None else tf.reduce_sum(mask) * size / tf.cast(tf.size(mask), dtype)


def _fused_norm(inputs, gamma, beta, epsilon, mean=None, variance=None):
  """Normalise with the original's kernel for images, by given statistics or the batch's own.

  Returns:
    Outputs, mean [channels], and variance [channels] with the n / (n - 1) correction.
  """
  images = inputs if inputs.shape.rank == 4 else tf.reshape(inputs, [1, -1, 1, inputs.shape[-1]])
  statistics = {} if mean is None else {"mean": mean, "variance": variance}
  outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
    images, gamma, beta, epsilon=epsilon, is_training=not statistics, **statistics
  )
  return tf.reshape(outputs, tf.shape(inputs)) if images is not inputs else outputs, mean, variance


def _batch_statistics_norm(inputs, gamma, beta, epsilon, mask, count):
  """Normalise with the batch's own statistics; the gradient needs one tensor of the inputs' size and few passes.

  Returns:
    Outputs, mean [channels], and variance [channels] (around that mean, divided by the count). No gradient flows back
    through mean and variance: they are for the moving averages.
  """

  def forward(inputs, gamma, beta):
    mean = _sum_frames(inputs, mask) / count
    centred = inputs - mean if mask is None else (inputs - mean) * mask
    variance = _sum_products(centred, centred) / count
    rate = tf.math.rsqrt(variance + epsilon)
    outputs = centred * (gamma * rate) + (beta if mask is None else mask * beta)

    def backward(d_outputs, *_):
      d_beta = _sum_frames(d_outputs, mask)
      d_gamma = _sum_products(d_outputs, centred) * rate
      d_inputs = (d_outputs - centred * (rate * d_gamma / count) - d_beta / count) * (gamma * rate)
      return d_inputs if mask is None else d_inputs * mask, d_gamma, d_beta

    return (outputs, mean, variance), backward

  return tf.custom_gradient(forward)(inputs, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))


def _sum_frames(values, mask):
  """Add up each channel over the frames that the mask marks."""
  if mask is None:
    return tf.reduce_sum(values, list(range(values.shape.rank - 1)))
  # A matrix product writes no intermediate tensor of the values' size.
  rows = tf.reshape(values, [-1, math.prod(values.shape[2:])])
  return tf.reduce_sum(tf.reshape(tf.matmul(tf.reshape(mask, [1, -1]), rows), [-1, values.shape[-1]]), axis=0)


def _sum_products(left, right):
  """Add up each channel of the product."""
  if left.shape.rank < 4:
    return tf.reduce_sum(left * right, list(range(left.shape.rank - 1)))
  # Images have few channels: computing all pairs costs less than writing the product.
  rows = [tf.reshape(values, [-1, values.shape[-1]]) for values in (left, right)]
  return tf.linalg.diag_part(tf.matmul(*rows, transpose_a=True))


def _normalize(inputs, mean, variance, gamma, beta, epsilon, mask):
  """Shift and scale each channel by given statistics, and set masked values to zero."""
  outputs = (inputs - mean) * (gamma * tf.math.rsqrt(variance + epsilon)) + beta
  return outputs if mask is None else outputs * mask


def _moving_average(name: str, channels: int, dtype: "tf.DType", initializer: Any) -> "tf.Variable":
  """Make a variable that each replica updates on its own and that is averaged when it is read or saved."""
  return tf.compat.v1.get_variable(
    name,
    [channels],
    dtype,
    initializer,
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.MEAN,
  )
