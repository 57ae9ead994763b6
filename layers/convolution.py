"""Two-dimensional convolution over time and frequency that knows where each utterance ends."""

from typing import Any, NamedTuple

from layers import variables
from official_utils.lazy import tf


class ConvSpec(NamedTuple):
  """The shape of a convolution; each pair is (time, frequency).

  Attributes:
    kernel_size: the kernel's.
    strides: from one output to the next.
    filters: output channels.
    has_bias: whether a bias is added.
    is_same: for each axis, whether only as many zeros are put around it as its outputs need, half of them before, the
      odd one after; otherwise there are half a kernel of them on each side. The number of outputs is the same.
  """

  kernel_size: tuple[int, int]
  strides: tuple[int, int]
  filters: int = 32
  has_bias: bool = False
  is_same: tuple[bool, bool] = (False, False)

  @property
  def padding(self) -> tuple[int, int]:
    """The number of zeros before and after each axis."""
    return self.kernel_size[0] // 2, self.kernel_size[1] // 2


def output_size(size: Any, spec: ConvSpec, axis: int = 0) -> Any:
  """Compute a convolution's output length exactly.

  Args:
    size: the input's length: an integer, an array or a tensor of integers.
    spec: the convolution.
    axis: 0 for time, 1 for frequency.

  Returns:
    The output's length, of the same kind.
  """
  return (size + 2 * spec.padding[axis] - spec.kernel_size[axis]) // spec.strides[axis] + 1


def count_zeros(size: Any, spec: ConvSpec, axis: int) -> list[Any]:
  """Count the zeros before and after an axis of some length; see `output_size` for the arguments."""
  if not spec.is_same[axis]:
    return [spec.padding[axis]] * 2
  needed = (output_size(size, spec, axis) - 1) * spec.strides[axis] + spec.kernel_size[axis] - size
  needed = tf.maximum(needed, 0) if tf.is_tensor(needed) else max(needed, 0)
  return [needed // 2, needed - needed // 2]


def sequence_mask(lengths: "tf.Tensor", max_length: "tf.Tensor", dtype: "tf.DType", rank: int) -> "tf.Tensor":
  """Mark real time steps, [batch, time, 1, ...] of the given rank: 1 up to each length, 0 beyond."""
  mask = tf.sequence_mask(lengths, max_length, dtype)
  return tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (rank - 2)], axis=0))


def conv_layer(inputs: "tf.Tensor", lengths: "tf.Tensor", spec: ConvSpec, name: str) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Convolve; beyond the edges the input counts as zero.

  Args:
    inputs: [batch, time, bins, channels], zero beyond the lengths if padding must not count.
    lengths: [batch], real time steps.
    spec: the convolution.
    name: the scope of the variables `kernel` and `bias`.

  Returns:
    Outputs [batch, time', bins', filters] in the inputs' number format before any activation, and their lengths.
  """
  with tf.compat.v1.variable_scope(name):
    shape = [*spec.kernel_size, inputs.shape[3], spec.filters]
    kernel = variables.make_value("kernel", shape, inputs.dtype)
    zeros = tf.compat.v1.zeros_initializer()
    bias = variables.make_value("bias", [spec.filters], inputs.dtype, zeros) if spec.has_bias else None
  time_pads, bin_pads = count_zeros(tf.shape(inputs)[1], spec, 0), count_zeros(inputs.shape[2], spec, 1)
  fold = spec.strides[1] if inputs.shape[3] > 1 else 1
  if fold > 1:
    whole_strides = output_size(inputs.shape[2], spec, axis=1) - 1 - -spec.kernel_size[1] // fold
    bin_pads[1] = whole_strides * fold - inputs.shape[2] - bin_pads[0]
  # Padded here and not by the convolution, whose gradients would then run in slower kernels than oneDNN's.
  inputs = tf.pad(inputs, [[0, 0], time_pads, bin_pads, [0, 0]])
  if fold > 1:
    inputs, kernel = _fold_bins(inputs, kernel, fold)
  outputs = tf.nn.conv2d(inputs, kernel, strides=[1, spec.strides[0], spec.strides[1] // fold, 1], padding="VALID")
  return outputs if bias is None else outputs + bias, output_size(lengths, spec)


def _fold_bins(inputs: "tf.Tensor", kernel: "tf.Tensor", stride: int) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Turn the neighbouring bins that a stride spans into channels: the same sums with a stride of one.

  The gradient of a strided kernel takes oneDNN twice as long. The inputs stay where they are in memory.

  Args:
    inputs: [batch, time, bins, channels], padded to whole strides.
    kernel: [time, bins, channels, filters].
    stride: bins.

  Returns:
    Inputs [batch, time, bins / stride, stride * channels] and the matching kernel.
  """
  steps, bins, channels, filters = kernel.shape
  kernel = tf.pad(kernel, [[0, 0], [0, -bins % stride], [0, 0], [0, 0]])
  shape = tf.shape(inputs)
  return (
    tf.reshape(inputs, [shape[0], shape[1], inputs.shape[2] // stride, stride * channels]),
    tf.reshape(kernel, [steps, -(-bins // stride), stride * channels, filters]),
  )
