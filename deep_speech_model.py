"""The DeepSpeech2 network: two convolutions, a stack of recurrent layers, and a dense layer to the characters."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from layers import convolution, cudnn, normalization, packing, recurrent, variables
from layers.cells import SUPPORTED_RNNS
from layers.normalization import batch_norm
from official_utils.lazy import tf
from settings import DeepSpeech2Settings

__all__ = [
  "SUPPORTED_RNNS",
  "DeepSpeech2",
  "batch_norm",
  "compute_output_length",
  "count_frames_per_step",
  "make_network",
]

# The official code's kernels span 41 frames and 11 bins, with output steps of 40 ms; the paper's span 11 frames and 41
# bins, with output steps of 20 ms.
CONV_LAYOUTS = {
  "official": (convolution.ConvSpec((41, 11), (2, 2)), convolution.ConvSpec((21, 11), (2, 1))),
  "paper": (convolution.ConvSpec((11, 41), (2, 2)), convolution.ConvSpec((11, 21), (1, 2))),
}


def compute_output_length(num_frames: Any, settings: DeepSpeech2Settings) -> Any:
  """Compute how many output steps a number of feature frames gives.

  Args:
    num_frames: an integer, or an array or a tensor of integers.
    settings: the network's.

  Returns:
    The number of steps, of the same kind.
  """
  for spec in CONV_LAYOUTS[settings.conv_layout]:
    num_frames = convolution.output_size(num_frames, spec)
  return num_frames


def count_frames_per_step(settings: DeepSpeech2Settings) -> int:
  """Count the frames from the start of one output step to the start of the next."""
  return math.prod(spec.strides[0] for spec in CONV_LAYOUTS[settings.conv_layout])


def make_network(
  settings: DeepSpeech2Settings,
  num_classes: int,
  rnn_kernel: str = "native",
  devices: Sequence[str] = ("/cpu:0",),
  compute_dtype: Any = None,
) -> Callable:
  """Make the network that the settings describe; see `networks.make_network`."""
  return DeepSpeech2(
    num_rnn_layers=settings.rnn_hidden_layers,
    rnn_type=settings.rnn_type,
    is_bidirectional=settings.is_bidirectional,
    rnn_hidden_size=settings.rnn_hidden_size,
    num_classes=num_classes,
    use_bias=settings.use_bias,
    conv_layout=settings.conv_layout,
    mask_padding=settings.mask_padding,
    rnn_kernel=cudnn.choose_kernel(rnn_kernel, settings.rnn_type, devices),
    compute_dtype=compute_dtype,
  ).forward


class DeepSpeech2(NamedTuple):
  """A DeepSpeech2 network; calling it makes its variables in the current graph.

  Attributes:
    num_rnn_layers: recurrent layers.
    rnn_type: a name of `cells.SUPPORTED_RNNS`.
    is_bidirectional: whether each layer also runs from the end to the beginning.
    rnn_hidden_size: the cells' size.
    num_classes: output classes, the blank (last) included.
    use_bias: whether the dense layer has a bias.
    conv_layout: "official" or "paper", the kernels of the convolutions.
    mask_padding: whether to keep padding out of every layer; without it the network gives the original's numbers.
    rnn_kernel: "native", "cudnn" or "compiled", as `cudnn.choose_kernel` decides.
    compute_dtype: the number format of products and of what passes between layers; None for the inputs' own. In half
      precision, variables, statistics, recurrent states and logits stay in single precision.
  """

  num_rnn_layers: int
  rnn_type: str
  is_bidirectional: bool
  rnn_hidden_size: int
  num_classes: int
  use_bias: bool = True
  conv_layout: str = "official"
  mask_padding: bool = True
  rnn_kernel: str = "native"
  compute_dtype: Any = None

  def __call__(self, inputs: "tf.Tensor", training: bool) -> "tf.Tensor":
    """Compute the logits of a batch in which every frame counts, as the original's network does.

    Args:
      inputs: features [batch, frames, bins, 1].
      training: whether batch normalisation uses and records the batch's own statistics.

    Returns:
      Logits [batch, steps, classes].
    """
    shape = tf.shape(inputs)
    logits, _ = self._replace(mask_padding=False).forward(inputs, tf.fill(shape[:1], shape[1]), training)
    return logits

  def forward(self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute the logits of a padded batch.

    Args:
      inputs: features [batch, frames, bins, 1].
      lengths: [batch] int32, real frames.
      training: whether batch normalisation uses and records the batch's own statistics.

    Returns:
      Logits [batch, steps, classes], and their lengths [batch].
    """
    scope = tf.compat.v1.get_variable_scope()
    with tf.compat.v1.variable_scope(scope, custom_getter=variables.seeded_by_name):
      return self._compute(inputs, lengths, training)

  def _compute(self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute what `forward` returns, within the variables' scope."""
    # From here on there is no padding, or it counts like real frames.
    rows, batch, lengths = self._front_end(tf.cast(inputs, self.compute_dtype or inputs.dtype), lengths, training)
    for layer_id in range(1, self.num_rnn_layers + 1):
      if layer_id > 1:
        rows = self._normalize(rows, training, layer_id)
      rows = recurrent.rnn_layer(
        rows,
        batch,
        self.rnn_type,
        self.rnn_hidden_size,
        layer_id,
        self.is_bidirectional,
        self.rnn_kernel,
      )
    rows = self._normalize(rows, training, self.num_rnn_layers + 1)
    return packing.unpack(self._dense(rows), batch), lengths

  def _front_end(
    self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool
  ) -> tuple["tf.Tensor", packing.Packing, "tf.Tensor"]:
    """Convolve, clip and normalise twice.

    Returns:
      Rows [rows, bins * filters], where they are in the batch, and the lengths.
    """
    if self.mask_padding:
      # Not a product: the padding may hold any value, and zero times infinity is not zero.
      is_real = tf.sequence_mask(lengths, tf.shape(inputs)[1])
      inputs = tf.where(is_real[:, :, tf.newaxis, tf.newaxis], inputs, tf.zeros_like(inputs))
    for number, spec in enumerate(CONV_LAYOUTS[self.conv_layout]):
      inputs, lengths = convolution.conv_layer(inputs, lengths, spec, f"cnn_{number + 1}")
      shape = tf.shape(inputs)
      batch = packing.plan(lengths if self.mask_padding else tf.fill(shape[:1], shape[1]), shape[1])
      if variables.is_half(inputs.dtype):
        rows = tf.expand_dims(tf.nn.relu6(packing.pack(inputs, batch)), axis=0)
        rows = tf.squeeze(self._normalize(rows, training, number), axis=0)
        inputs = packing.unpack(rows, batch)
      else:
        inputs = self._normalize(tf.nn.relu6(inputs), training, number, self._image_mask(inputs, lengths))
        rows = packing.pack(inputs, batch)
    return tf.reshape(rows, [-1, rows.shape[1] * rows.shape[2]]), batch, lengths

  def _image_mask(self, inputs, lengths):
    """Mark the real frames of [batch, time, bins, channels]; None without masking."""
    if not self.mask_padding:
      return None
    return convolution.sequence_mask(lengths, tf.shape(inputs)[1], inputs.dtype, rank=4)

  def _normalize(
    self, inputs: "tf.Tensor", training: bool, number: int, mask: "tf.Tensor | None" = None
  ) -> "tf.Tensor":
    """Apply batch normalisation under its name in the original's checkpoints, where the first has no number."""
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    momentum = normalization.MOMENTUM
    step = tf.compat.v1.train.get_global_step()
    if training and self.mask_padding and step is not None:
      momentum = normalization.early_momentum(step)
    return batch_norm(inputs, training, name, mask, momentum)

  def _dense(self, rows):
    """Project to the classes in single precision, [rows, depth] to [rows, classes]."""
    rows = tf.cast(rows, variables.stored_dtype(rows.dtype))
    with tf.compat.v1.variable_scope("dense"):
      logits = tf.matmul(rows, variables.make_value("kernel", [rows.shape[1], self.num_classes], rows.dtype))
      if self.use_bias:
        zeros = tf.compat.v1.zeros_initializer()
        logits += tf.compat.v1.get_variable("bias", [self.num_classes], rows.dtype, zeros)
    return logits
