"""The DeepSpeech2 network: two convolutions, a stack of recurrent layers, and a dense layer to the characters.

With the settings' defaults it is the original's; the other settings change its layers or add some.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from layers import convolution, cudnn, normalization, packing, recurrent, row_convolution, variables
from layers.cells import SUPPORTED_RNNS
from layers.dropout import dropout
from layers.normalization import batch_norm
from official_utils.lazy import tf
from settings import DeepSpeech2Settings

__all__ = [
  "SUPPORTED_RNNS",
  "DeepSpeech2",
  "Network",
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
CONV_ACTIVATIONS: dict[str, Callable] = {"relu6": lambda images: tf.nn.relu6(images), "linear": lambda images: images}


def list_convolutions(settings: DeepSpeech2Settings) -> list[convolution.ConvSpec]:
  """List the convolutions of a network, the first one first."""
  # Within masks a convolution must not see how long the padded batch is; all utterances have the same bins.
  is_same = settings.conv_padding == "same"
  specs = [
    spec._replace(has_bias=settings.conv_bias, is_same=(is_same and not settings.mask_padding, is_same))
    for spec in CONV_LAYOUTS[settings.conv_layout]
  ]
  if not settings.time_subsampling:
    return specs
  strides = [min(settings.time_subsampling, 2), max(settings.time_subsampling // 2, 1)]
  return [spec._replace(strides=(time, spec.strides[1])) for spec, time in zip(specs, strides, strict=True)]


def compute_output_length(num_frames: Any, settings: DeepSpeech2Settings) -> Any:
  """Compute how many output steps a number of feature frames gives.

  Args:
    num_frames: an integer, or an array or a tensor of integers.
    settings: the network's.

  Returns:
    The number of steps, of the same kind.
  """
  for spec in list_convolutions(settings):
    num_frames = convolution.output_size(num_frames, spec)
  return num_frames


def count_frames_per_step(settings: DeepSpeech2Settings) -> int:
  """Count the frames from the start of one output step to the start of the next."""
  return math.prod(spec.strides[0] for spec in list_convolutions(settings))


def make_network(
  settings: DeepSpeech2Settings,
  num_classes: int,
  rnn_kernel: str = "native",
  devices: Sequence[str] = ("/cpu:0",),
  compute_dtype: Any = None,
) -> Callable:
  """Make the network that the settings describe; see `networks.make_network`."""
  activations = settings.rnn_activation, settings.rnn_gate_activation
  kernel = cudnn.choose_kernel(rnn_kernel, settings.rnn_type, devices, *activations)
  return Network(settings, num_classes, kernel, compute_dtype).forward


class DeepSpeech2(NamedTuple):
  """The network as the original has it, with its construction and its call; `make_network` makes all others.

  Attributes:
    num_rnn_layers: recurrent layers.
    rnn_type: a name of `cells.SUPPORTED_RNNS`.
    is_bidirectional: whether each layer also runs from the end to the beginning.
    rnn_hidden_size: the cells' size.
    num_classes: output classes, the blank (last) included.
    use_bias: whether the dense layer has a bias.
  """

  num_rnn_layers: int
  rnn_type: str
  is_bidirectional: bool
  rnn_hidden_size: int
  num_classes: int
  use_bias: bool = True

  def __call__(self, inputs: "tf.Tensor", training: bool) -> "tf.Tensor":
    """Compute the logits of a batch in which every frame counts; make the variables in the current graph.

    Args:
      inputs: features [batch, frames, bins, 1].
      training: whether batch normalisation uses and records the batch's own statistics.

    Returns:
      Logits [batch, steps, classes].
    """
    settings = DeepSpeech2Settings(
      mask_padding=False,
      rnn_type=self.rnn_type,
      rnn_hidden_layers=self.num_rnn_layers,
      rnn_hidden_size=self.rnn_hidden_size,
      is_bidirectional=self.is_bidirectional,
      use_bias=self.use_bias,
    )
    shape = tf.shape(inputs)
    logits, _ = Network(settings, self.num_classes).forward(inputs, tf.fill(shape[:1], shape[1]), training)
    return logits


class Network(NamedTuple):
  """The network that settings describe; `forward` makes its variables in the current graph.

  Attributes:
    settings: what it consists of.
    num_classes: output classes, the blank (last) included.
    rnn_kernel: "native", "cudnn" or "compiled", as `cudnn.choose_kernel` decides.
    compute_dtype: the number format of products and of what passes between layers; None for the inputs' own. In half
      precision, variables, statistics, recurrent states and logits stay in single precision.
  """

  settings: DeepSpeech2Settings
  num_classes: int
  rnn_kernel: str = "native"
  compute_dtype: Any = None

  def forward(self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute the logits of a padded batch.

    Args:
      inputs: features [batch, frames, bins, 1].
      lengths: [batch] int32, real frames.
      training: whether batch normalisation uses and records the batch's own statistics, and dropout drops.

    Returns:
      Logits [batch, steps, classes], and their lengths [batch].
    """
    scope = tf.compat.v1.get_variable_scope()
    with tf.compat.v1.variable_scope(scope, custom_getter=variables.seeded_by_name):
      # From here on there is no padding, or it counts like real frames.
      rows, batch, lengths = self._front_end(tf.cast(inputs, self.compute_dtype or inputs.dtype), lengths, training)
      rows = self._recurrent_layers(rows, batch, training)
      if self.settings.fc_units:
        rows = tf.nn.relu(self._dense(rows, "fc", self.settings.fc_units))
        rows = self._drop(rows, batch, training, len(self.settings.layer_sizes) + 1)
      # The logits are in single precision.
      rows = tf.cast(rows, variables.stored_dtype(rows.dtype))
      logits = self._dense(rows, "dense", self.num_classes, self.settings.use_bias)
      return packing.unpack(logits, batch), lengths

  def _front_end(
    self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool
  ) -> tuple["tf.Tensor", packing.Packing, "tf.Tensor"]:
    """Convolve, clip and normalise twice.

    Returns:
      Rows [rows, bins * filters], where they are in the batch, and the lengths.
    """
    masks, activate = self.settings.mask_padding, CONV_ACTIVATIONS[self.settings.conv_activation]
    if masks:
      # Not a product: the padding may hold any value, and zero times infinity is not zero.
      is_real = tf.sequence_mask(lengths, tf.shape(inputs)[1])
      inputs = tf.where(is_real[:, :, tf.newaxis, tf.newaxis], inputs, tf.zeros_like(inputs))
    for number, spec in enumerate(list_convolutions(self.settings)):
      inputs, lengths = convolution.conv_layer(inputs, lengths, spec, f"cnn_{number + 1}")
      shape = tf.shape(inputs)
      batch = packing.plan(lengths if masks else tf.fill(shape[:1], shape[1]), shape[1])
      if self.settings.normalization == "layer":
        rows = self._normalize(activate(packing.pack(inputs, batch)), training, number)
        inputs = packing.unpack(rows, batch)
      elif variables.is_half(inputs.dtype):
        rows = tf.expand_dims(activate(packing.pack(inputs, batch)), axis=0)
        rows = tf.squeeze(self._normalize(rows, training, number), axis=0)
        inputs = packing.unpack(rows, batch)
      else:
        mask = convolution.sequence_mask(lengths, shape[1], inputs.dtype, rank=4) if masks else None
        inputs = self._normalize(activate(inputs), training, number, mask)
        rows = packing.pack(inputs, batch)
    return tf.reshape(rows, [-1, rows.shape[1] * rows.shape[2]]), batch, lengths

  def _recurrent_layers(self, rows: "tf.Tensor", batch: packing.Packing, training: bool) -> "tf.Tensor":
    """Run the recurrent stack over rows [rows, depth]: each layer, and what follows the last one, reads normalised rows."""
    settings = self.settings
    for number, size in enumerate(settings.layer_sizes, start=1):
      if number > 1:
        rows = self._normalize(rows, training, number)
      outputs = recurrent.rnn_layer(
        rows,
        batch,
        settings.rnn_type,
        size,
        number,
        settings.is_bidirectional,
        self.rnn_kernel,
        settings.rnn_merge,
        activation=settings.rnn_activation,
        gate_activation=settings.rnn_gate_activation,
        init=settings.rnn_init,
      )
      outputs = self._drop(outputs, batch, training, number)
      rows = rows + outputs if settings.rnn_residual and rows.shape[1] == outputs.shape[1] else outputs
    if settings.row_conv_width:
      rows = row_convolution.row_convolution(rows, batch, settings.row_conv_width)
    return self._normalize(rows, training, len(settings.layer_sizes) + 1)

  def _normalize(
    self, inputs: "tf.Tensor", training: bool, number: int, mask: "tf.Tensor | None" = None
  ) -> "tf.Tensor":
    """Normalise under the name in the original's checkpoints, where the first has no number."""
    name = f"{self.settings.normalization}_normalization" + (f"_{number}" if number else "")
    if self.settings.normalization == "layer":
      return normalization.layer_norm(inputs, name)
    momentum = normalization.current_momentum(self.settings.norm_momentum, training, self.settings.mask_padding)
    return batch_norm(inputs, training, name, mask, momentum)

  def _drop(self, rows, batch, training, number):
    """Apply the dropout of a layer, which there is in training only."""
    return dropout(rows, batch, self.settings.dropout, number) if training else rows

  def _dense(self, rows, name, units, has_bias=True):
    """Project rows [rows, depth] to [rows, units]."""
    with tf.compat.v1.variable_scope(name):
      outputs = tf.matmul(rows, variables.make_value("kernel", [rows.shape[1], units], rows.dtype))
      if has_bias:
        outputs += variables.make_value("bias", [units], rows.dtype, tf.compat.v1.zeros_initializer())
    return outputs
