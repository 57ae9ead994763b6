"""The DeepSpeech2 network: two convolutions, a stack of recurrent layers, and a dense layer to the characters."""

from typing import Any, NamedTuple

from layers import convolution, normalization, recurrent
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


class DeepSpeech2(NamedTuple):
  """A DeepSpeech2 network; calling it makes its variables in the current graph.

  Attributes:
    num_rnn_layers: recurrent layers.
    rnn_type: "gru", "lstm" or "rnn".
    is_bidirectional: whether each layer also runs from the end to the beginning.
    rnn_hidden_size: the cells' size.
    num_classes: output classes, the blank (last) included.
    use_bias: whether the dense layer has a bias.
    conv_layout: a name of CONV_LAYOUTS.
    mask_padding: whether padding is kept out of every layer; without it the original's numbers come out.
    norm_momentum: how much of the moving averages of batch normalisation a training step keeps.
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

  def __call__(self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute logits.

    Args:
      inputs: spectrograms [batch, frames, bins, 1].
      lengths: [batch] int32, real frames.
      training: whether batch normalisation uses and records the batch's own statistics.

    Returns:
      Logits [time, batch, classes], and their lengths [batch].
    """
    inputs, lengths = self._front_end(inputs, lengths, training)
    mask = convolution.time_major_mask(lengths, tf.shape(inputs)[0], inputs.dtype) if self.mask_padding else None
    for layer_id in range(1, self.num_rnn_layers + 1):
      if layer_id > 1:
        inputs, lengths = self._normalize(inputs, lengths, training, layer_id, mask)
      inputs, lengths = recurrent.rnn_layer(
        inputs, lengths, self.rnn_type, self.rnn_hidden_size, layer_id, self.is_bidirectional, mask
      )
    inputs, lengths = self._normalize(inputs, lengths, training, self.num_rnn_layers + 1, mask)
    return self._dense(inputs), lengths

  def _front_end(self, inputs, lengths, training: bool):
    """Convolve, clip and normalise twice.

    Returns:
      [time, batch, bins * filters] and the lengths.
    """
    if self.mask_padding:
      # Not a product: what lies in the padding may be anything, and zero times infinity is not zero.
      is_real = tf.sequence_mask(lengths, tf.shape(inputs)[1])
      inputs = tf.where(is_real[:, :, tf.newaxis, tf.newaxis], inputs, tf.zeros_like(inputs))
    for number, spec in enumerate(CONV_LAYOUTS[self.conv_layout]):
      inputs, lengths = convolution.conv_layer(inputs, lengths, spec, f"cnn_{number + 1}")
      mask = self._image_mask(inputs, lengths)
      inputs, lengths = self._normalize(tf.nn.relu6(inputs), lengths, training, number, mask)
    depth = inputs.shape[2] * inputs.shape[3]
    inputs = tf.transpose(inputs, [1, 0, 2, 3])
    return tf.reshape(inputs, tf.concat([tf.shape(inputs)[:2], [depth]], axis=0)), lengths

  def _image_mask(self, inputs, lengths):
    """Mark the real frames of [batch, time, bins, channels]; None without masking."""
    if not self.mask_padding:
      return None
    return convolution.sequence_mask(lengths, tf.shape(inputs)[1], inputs.dtype, rank=4)

  def _normalize(self, inputs, lengths, training: bool, number: int, mask):
    """Apply batch normalisation; its name is as in the original's checkpoints, where the first bears no number."""
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    return normalization.batch_norm(inputs, lengths, training, name, mask, self.norm_momentum)

  def _dense(self, inputs):
    """Project to the classes, [time, batch, depth] to [time, batch, classes]."""
    with tf.compat.v1.variable_scope("dense"):
      kernel = tf.compat.v1.get_variable("kernel", [inputs.shape[2], self.num_classes], inputs.dtype)
      logits = tf.matmul(tf.reshape(inputs, [-1, inputs.shape[2]]), kernel)
      if self.use_bias:
        zeros = tf.compat.v1.zeros_initializer()
        logits += tf.compat.v1.get_variable("bias", [self.num_classes], inputs.dtype, zeros)
    return tf.reshape(logits, tf.concat([tf.shape(inputs)[:2], [self.num_classes]], axis=0))
