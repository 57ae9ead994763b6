"""The lower bound of a training step: its operations, and the rate at which this machine multiplies."""

from collections.abc import Callable, Iterable, Mapping

from benchmarks import original_form
from layers import convolution
from official_utils.lazy import tf

# Columns of a cell's kernels, in units of its hidden size; each product of inputs or state with them counts.
_KERNEL_WIDTHS = {"gru": 3, "gru_reset_after": 3, "lstm": 4, "rnn": 1}
_MATRIX_SIZE, _NUM_PRODUCTS = 2048, 10


def count_operations(
  settings: Mapping[str, str | int | bool], num_bins: int, num_classes: int, lengths: Iterable[int]
) -> dict[str, int]:
  """Count the multiplications and additions of one training step's convolutions and matrix products.

  The gradients for the kernel and for the input each cost as much as the value; the spectrogram needs none. Padding and
  element-wise operations are not counted.

  Args:
    settings: the network's flags by name.
    num_bins: bins of the spectrogram.
    num_classes: output classes.
    lengths: frames of each utterance.

  Returns:
    Floating-point operations by part of the network.
  """
  frames, bins, channels = list(lengths), num_bins, 1
  counts = {}
  for number, sizes in enumerate(original_form.CONVOLUTIONS[settings["conv_layout"]]):
    spec = convolution.ConvSpec(*sizes)
    frames = [convolution.output_size(length, spec) for length in frames]
    bins = convolution.output_size(bins, spec, axis=1)
    taps = spec.kernel_size[0] * spec.kernel_size[1] * channels
    channels = spec.filters
    counts[f"convolution {number + 1}"] = 2 * (3 if number else 2) * sum(frames) * bins * taps * channels
  hidden, directions = settings["rnn_hidden_size"], 2 if settings["is_bidirectional"] else 1
  depth, columns = bins * channels, _KERNEL_WIDTHS[settings["rnn_type"]] * hidden * directions
  counts["inputs of recurrent layers"] = 0
  for _ in range(settings["rnn_hidden_layers"]):
    counts["inputs of recurrent layers"] += 6 * sum(frames) * depth * columns
    depth = hidden * directions
  counts["states of recurrent layers"] = 6 * sum(frames) * hidden * columns * settings["rnn_hidden_layers"]
  counts["dense layer"] = 6 * sum(frames) * depth * num_classes
  return counts


def report(operations: Mapping[str, int], rate: float, seconds: float) -> dict[str, object]:
  """Print the operations of a step, the rate that the machine could reach, and the rate that ours reached.

  Args:
    operations: from `count_operations`.
    rate: floating-point operations per second of a large matrix product.
    seconds: the time of our step.

  Returns:
    The same for a line of JSON.
  """
  total = sum(operations.values())
  print(f"a step takes {total / 1e9:.1f} GFLOP:")
  for name, count in operations.items():
    print(f"{count / 1e9:10.1f} {count / total:6.1%}  {name}")
  print(
    f"a matrix product reaches {rate / 1e9:.1f} GFLOP/s, ours {total / seconds / 1e9:.1f}, which is "
    f"{total / seconds / rate:.1%} of it; at that rate a step would take {total / rate:.3f} s"
  )
  return {
    "note": f"{total / 1e9:.0f} GFLOP at {total / seconds / rate:.0%} of the matrix product's rate",
    "gflop": round(total / 1e9, 3),
    "product_gflop_per_second": round(rate / 1e9, 3),
    "share_of_product_rate": round(total / seconds / rate, 4),
  }


def matrix_product(config: "tf.compat.v1.ConfigProto") -> tuple[Callable[[], object], int]:
  """Build a large float32 matrix product in its own session.

  Args:
    config: the session's settings, the same as for the step that it is compared with.

  Returns:
    A function that computes it a few times, which takes about as long as a step, and the number of its operations.
  """
  with tf.Graph().as_default():
    factors = [tf.compat.v1.get_variable(name, [_MATRIX_SIZE] * 2) for name in ("left", "right")]
    product = tf.matmul(*factors).op
    session = tf.compat.v1.Session(config=config)
    session.run(tf.compat.v1.global_variables_initializer())

  def compute():
    for _ in range(_NUM_PRODUCTS):
      session.run(product)

  return compute, _NUM_PRODUCTS * 2 * _MATRIX_SIZE**3
