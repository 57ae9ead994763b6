"""Convolutions over time of packed rows, which know where each utterance begins and ends."""

from collections.abc import Sequence
from typing import NamedTuple

from layers import packing, variables
from official_utils.lazy import tf


class TimeSpec(NamedTuple):
  """The shape of a convolution over time.

  Attributes:
    kernel_size: the frames that an output is computed from.
    dilation: the distance between neighbours among them, in frames.
    is_causal: whether the last of them is the output's own; else the output's is in their middle.
  """

  kernel_size: int
  dilation: int
  is_causal: bool

  @property
  def offsets(self) -> list[int]:
    """The frames that an output is computed from, counted from its own.

    Where they have no middle, because the kernel is even and the dilation odd, they reach one frame farther into the
    future than into the past.
    """
    reach = (self.kernel_size - 1) * self.dilation
    first = -reach if self.is_causal else -(reach // 2)
    return [first + number * self.dilation for number in range(self.kernel_size)]


def gated_conv(rows: "tf.Tensor", batch: packing.Packing, filters: int, spec: TimeSpec) -> "tf.Tensor":
  """Multiply the tanh of a convolution, `filter`, with the sigmoid of another one of the same shape, `gate`.

  Args:
    rows: [rows, depth].
    batch: where the rows are.
    filters: the size of the outputs.
    spec: the convolutions.

  Returns:
    Rows [rows, filters] in the inputs' number format.
  """
  shape = [spec.kernel_size, rows.shape[1], filters]
  weights = [_make_weights(name, shape, rows.dtype, variables.Drawn(_draw_normal)) for name in ("filter", "gate")]
  # One convolution with twice the filters reads its inputs half as often.
  kernel, bias = (tf.concat(pair, axis=-1) for pair in zip(*weights, strict=True))
  outputs = tf.nn.bias_add(convolve(rows, batch, kernel, spec.offsets), bias)
  signal, gate = tf.split(outputs, 2, axis=1)
  return tf.tanh(signal) * tf.sigmoid(gate)


def pointwise_conv(rows: "tf.Tensor", filters: int, name: str) -> "tf.Tensor":
  """Convolve with a kernel of one frame: the same affine map of each row, [rows, depth] to [rows, filters].

  Args:
    rows: [rows, depth].
    filters: the size of the outputs.
    name: the scope of the variables `kernel` and `bias`.
  """
  kernel, bias = _make_weights(name, [rows.shape[1], filters], rows.dtype)
  return tf.nn.bias_add(tf.matmul(rows, kernel), bias)


def convolve(rows: "tf.Tensor", batch: packing.Packing, kernel: "tf.Tensor", offsets: Sequence[int]) -> "tf.Tensor":
  """Convolve over time; what is before an utterance's beginning and beyond its end counts as zero.

  One product over all frames of the kernel. The gradients of TensorFlow's own convolutions take longer when they are
  dilated, and are missing on CPUs without oneDNN.

  Args:
    rows: [rows, depth].
    batch: where the rows are.
    kernel: [frames, depth, filters] in the number format of the rows.
    offsets: the place of each of the kernel's frames in time, counted from the output's.

  Returns:
    Rows [rows, filters] in the number format of the rows.
  """
  frames, depth, filters = kernel.shape

  def forward(rows, kernel):
    read = packing.windows(rows, batch, offsets)
    outputs = tf.matmul(read, tf.reshape(kernel, [frames * depth, filters]))

    def backward(d_outputs):
      # What was read is not kept until then: it is as many times larger than the rows as the kernel has frames.
      reached = packing.windows(d_outputs, batch, [-offset for offset in offsets])
      turned = tf.reshape(tf.transpose(kernel, [0, 2, 1]), [frames * filters, depth])
      d_kernel = tf.reshape(tf.matmul(rows, reached, transpose_a=True), [depth, frames, filters])
      return tf.matmul(reached, turned), tf.transpose(d_kernel, [1, 0, 2])

    return outputs, backward

  return tf.custom_gradient(forward)(rows, kernel)


def _draw_normal(shape, dtype, seed):
  """Draw a kernel from a normal distribution by the sum of its two widths."""
  return tf.compat.v1.glorot_normal_initializer(seed)(shape, dtype)


def _make_weights(name, shape, dtype, initializer=None):
  """Make a kernel of a shape and a bias that begins with zeros; return their values."""
  with tf.compat.v1.variable_scope(name):
    kernel = variables.make_value("kernel", shape, dtype, initializer)
    return kernel, variables.make_value("bias", shape[-1:], dtype, tf.compat.v1.zeros_initializer())
