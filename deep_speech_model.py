"""The DeepSpeech2 network: two convolutions, a stack of recurrent layers, and a dense layer to the characters."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from layers import convolution, normalization, packing, recurrent
from official_utils.lazy import tf

# The official code's kernels span 41 frames and 11 bins (40 ms an output step); the paper's 11 frames and 41 bins (20 ms).
CONV_LAYOUTS = {
  "official": (convolution.ConvSpec((41, 11), (2, 2)), convolution.ConvSpec((21, 11), (2, 1))),
  "paper": (convolution.ConvSpec((11, 41), (2, 2)), convolution.ConvSpec((11, 21), (1, 2))),
}


def compute_output_length(num_frames: Any, conv_layout: str = "official") -> Any:
  """Compute how many output steps a number of spectrogram frames gives.

  Args:
    num_frames: an integer, or an array or a tensor of integers.
    conv_layout: a name of CONV_LAYOUTS.

  Returns:
    The number of steps, of the same kind.
  """
  for spec in CONV_LAYOUTS[conv_layout]:
    num_frames = convolution.output_size(num_frames, spec)
  return num_frames


def seeded_by_name(getter: Callable, name: str, initializer: Any = None, **settings: Any) -> "tf.Variable":
  """Make a variable whose first value depends on the graph's seed and its own name, not on what else is in the graph.

  Args:
    getter: makes it; this is what a variable scope calls a custom getter.
    name: of the variable.
    initializer: None for TensorFlow's default, which is drawn.
    **settings: handed on.
  """
  if initializer is None:
    initializer = tf.compat.v1.glorot_uniform_initializer(seed=zlib.crc32(name.encode()) // 2)
  return getter(name, initializer=initializer, **settings)


class DeepSpeech2(NamedTuple):
  """A DeepSpeech2 network; calling it makes its variables in the current graph.

  Attributes:
    num_rnn_layers: recurrent layers.
    rnn_type: a name of `cells.SUPPORTED_RNNS`.
    is_bidirectional: whether each layer also runs from the end to the beginning.
    rnn_hidden_size: the cells' size.
    num_classes: output classes, the blank (last) included.
    use_bias: whether the dense layer has a bias.
    conv_layout: a name of CONV_LAYOUTS.
    mask_padding: whether padding is kept out of every layer; without it the original's numbers come out.
    norm_momentum: how much of the moving averages of batch normalisation a training step keeps.
    rnn_kernel: "native" or "cudnn", as `cudnn.choose_kernel` decides.
    compute_dtype: the number format of products and recurrent steps; None takes that of the inputs.
  """

  num_rnn_layers: int
  rnn_type: str
  is_bidirectional: bool
  rnn_hidden_size: int
  num_classes: int
  use_bias: bool = True
  conv_layout: str = "official"
  mask_padding: bool = True
  norm_momentum: Any = normalization.MOMENTUM
  rnn_kernel: str = "native"
  compute_dtype: Any = None

  def __call__(self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute logits.

    Args:
      inputs: spectrograms [batch, frames, bins, 1].
      lengths: [batch] int32, real frames.
      training: whether batch normalisation uses and records the batch's own statistics.

    Returns:
      Logits [time, batch, classes], and their lengths [batch].
    """
    scope = tf.compat.v1.get_variable_scope()
    with tf.compat.v1.variable_scope(scope, custom_getter=seeded_by_name):
      return self._compute(inputs, lengths, training)

  def _compute(self, inputs, lengths, training: bool):
    """Compute what a call returns, within the variables' scope."""
    inputs, lengths = self._front_end(inputs, lengths, training)
    shape = tf.shape(inputs)
    # From here on there is no padding, or all of it counts.
    batch = packing.plan(lengths if self.mask_padding else tf.fill(shape[:1], shape[1]), shape[1])
    rows = packing.pack(inputs, batch)
    for layer_id in range(1, self.num_rnn_layers + 1):
      if layer_id > 1:
        rows, _ = self._normalize(rows, lengths, training, layer_id)
      rows = recurrent.rnn_layer(
        rows,
        batch,
        self.rnn_type,
        self.rnn_hidden_size,
        layer_id,
        self.is_bidirectional,
        self.rnn_kernel,
        self.compute_dtype,
      )
    rows, _ = self._normalize(rows, lengths, training, self.num_rnn_layers + 1)
    return tf.transpose(packing.unpack(self._dense(rows), batch), [1, 0, 2]), lengths

  def _front_end(self, inputs, lengths, training: bool):
    """Convolve, clip and normalise twice.

    Returns:
      [batch, time, bins * filters] and the lengths.
    """
    if self.mask_padding:
      # Not a product: what lies in the padding may be anything, and zero times infinity is not zero.
      is_real = tf.sequence_mask(lengths, tf.shape(inputs)[1])
      inputs = tf.where(is_real[:, :, tf.newaxis, tf.newaxis], inputs, tf.zeros_like(inputs))
    for number, spec in enumerate(CONV_LAYOUTS[self.conv_layout]):
      inputs, lengths = convolution.conv_layer(inputs, lengths, spec, f"cnn_{number + 1}", self.compute_dtype)
      mask = self._image_mask(inputs, lengths)
      inputs, lengths = self._normalize(tf.nn.relu6(inputs), lengths, training, number, mask)
    depth = inputs.shape[2] * inputs.shape[3]
    return tf.reshape(inputs, tf.concat([tf.shape(inputs)[:2], [depth]], axis=0)), lengths

  def _image_mask(self, inputs, lengths):
    """Mark the real frames of [batch, time, bins, channels]; None without masking."""
    if not self.mask_padding:
      return None
    return convolution.sequence_mask(lengths, tf.shape(inputs)[1], inputs.dtype, rank=4)

  def _normalize(self, inputs, lengths, training: bool, number: int, mask=None):
    """Apply batch normalisation; its name is as in the original's checkpoints, where the first bears no number."""
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    return normalization.batch_norm(inputs, lengths, training, name, mask, self.norm_momentum)

  def _dense(self, rows):
    """Project to the classes, [rows, depth] to [rows, classes]."""
    with tf.compat.v1.variable_scope("dense"):
      logits = tf.matmul(rows, tf.compat.v1.get_variable("kernel", [rows.shape[1], self.num_classes], rows.dtype))
      if self.use_bias:
        zeros = tf.compat.v1.zeros_initializer()
        logits += tf.compat.v1.get_variable("bias", [self.num_classes], rows.dtype, zeros)
    return logits


def make_network(network: Mapping[str, Any], num_classes: int) -> DeepSpeech2:
  """Make the network that the settings describe.

  Args:
    network: settings by flag name, as `speech_flags.network_settings` gives them.
    num_classes: output classes, the blank included.
  """
  return DeepSpeech2(
    num_rnn_layers=network["rnn_hidden_layers"],
    rnn_type=network["rnn_type"],
    is_bidirectional=network["is_bidirectional"],
    rnn_hidden_size=network["rnn_hidden_size"],
    num_classes=num_classes,
    use_bias=network["use_bias"],
    conv_layout=network["conv_layout"],
    mask_padding=network["mask_padding"],
  )
