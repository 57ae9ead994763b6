"""The SpeechNet network: stacks of gated, dilated, residual convolutions over time, with one output step a frame."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from layers import normalization, packing, temporal, variables
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import SpeechNetSettings

# SpeechNet's own settings.
MOMENTUM = 0.99
EPSILON = 1e-3


def compute_output_length(num_frames: Any, settings: SpeechNetSettings) -> Any:
  """Return how many output steps a number of feature frames gives: as many."""
  del settings
  return num_frames


def count_frames_per_step(settings: SpeechNetSettings) -> int:
  """Count the frames from the start of one output step to the start of the next: one."""
  del settings
  return 1


def make_network(
  settings: SpeechNetSettings,
  num_classes: int,
  rnn_kernel: str = "native",
  devices: Sequence[str] = ("/cpu:0",),
  compute_dtype: Any = None,
) -> Callable:
  """Make the network that the settings describe; see `networks.make_network`."""
  # No layer depends on them.
  del devices
  if rnn_kernel not in ("auto", "native"):
    raise UserError(
      f"--rnn_kernel={rnn_kernel} means nothing with --network={settings.kind}, which has no recurrent layers; "
      "leave it out"
    )
  return SpeechNet(settings, num_classes, compute_dtype).forward


class SpeechNet(NamedTuple):
  """A SpeechNet network; `forward` makes its variables in the current graph.

  Attributes:
    settings: the network's.
    num_classes: output classes, the blank (last) included.
    compute_dtype: the number format of products and of what passes between layers; None for the inputs' own. In half
      precision, variables, statistics and logits stay in single precision.
  """

  settings: SpeechNetSettings
  num_classes: int
  compute_dtype: Any = None

  def forward(self, inputs: "tf.Tensor", lengths: "tf.Tensor", training: bool) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute the logits of a padded batch.

    Args:
      inputs: features [batch, frames, bins, 1].
      lengths: [batch] int32, real frames.
      training: whether batch normalisation uses and records the batch's own statistics.

    Returns:
      Logits [batch, frames, classes], and their lengths [batch].
    """
    shape = tf.shape(inputs)
    # From here on there is no padding, or it counts like real frames.
    batch = packing.plan(lengths if self.settings.mask_padding else tf.fill(shape[:1], shape[1]), shape[1])
    rows = packing.pack(tf.squeeze(inputs, axis=3), batch)
    scope = tf.compat.v1.get_variable_scope()
    with tf.compat.v1.variable_scope(scope, custom_getter=variables.seeded_by_name):
      return packing.unpack(self._compute(rows, batch, training), batch), lengths

  def _compute(self, rows: "tf.Tensor", batch: packing.Packing, training: bool) -> "tf.Tensor":
    """Compute logits from features, [rows, bins] to [rows, classes]."""
    # The features' levels differ by more than half precision tells apart, until they are normalised.
    rows = self._normalize(rows, training, "input_normalization")
    rows = tf.cast(rows, self.compute_dtype or rows.dtype)
    rows = temporal.pointwise_conv(rows, self.settings.stack_filters, "expand")
    for number in range(1, self.settings.stacks + 1):
      with tf.compat.v1.variable_scope(f"stack_{number}"):
        rows = self._stack(rows, batch, training)
    rows = self._normalize(rows, training, "output_normalization")
    return temporal.pointwise_conv(tf.cast(rows, variables.stored_dtype(rows.dtype)), self.num_classes, "out")

  def _stack(self, rows: "tf.Tensor", batch: packing.Packing, training: bool) -> "tf.Tensor":
    """Apply a block for each dilation, each to the sum of all before; return the sum of what the blocks add."""
    skips = []
    for number, dilation in enumerate(self.settings.dilation_rates, start=1):
      with tf.compat.v1.variable_scope(f"block_{number}"):
        skips.append(self._block(rows, batch, dilation, training))
      rows += skips[-1]
    return tf.add_n(skips)

  def _block(self, rows: "tf.Tensor", batch: packing.Packing, dilation: int, training: bool) -> "tf.Tensor":
    """Compute what a block adds to its input, [rows, filters]."""
    spec = temporal.TimeSpec(self.settings.stack_kernel_size, dilation, self.settings.causal_convolutions)
    rows = self._normalize(rows, training, "normalization")
    rows = temporal.gated_conv(rows, batch, self.settings.stack_filters, spec)
    return tf.tanh(temporal.pointwise_conv(rows, self.settings.stack_filters, "skip"))

  def _normalize(self, rows: "tf.Tensor", training: bool, name: str) -> "tf.Tensor":
    """Apply batch normalisation with SpeechNet's settings."""
    momentum = normalization.current_momentum(MOMENTUM, training, self.settings.mask_padding)
    return normalization.batch_norm(rows, training, name, momentum=momentum, epsilon=EPSILON)
