"""The lower bound of a training step: its operations and bytes, and this machine's rates of products and of memory."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks import original_form
from layers import convolution
from official_utils.lazy import tf

# Columns of a cell's kernels, in units of its hidden size; each product of inputs or state with them counts.
_KERNEL_WIDTHS = {"gru": 3, "gru_reset_after": 3, "lstm": 4, "rnn": 1}
_MATRIX_SIZE, _COPY_SIZE, _NUM_REPEATS = 2048, 2**25, 10
_CACHE_SHAPES = [[1024, 512]] * 16
STATES = "states of recurrent layers"


class _Sizes(NamedTuple):
  """The sizes of a network's layers.

  Attributes:
    frames: the frames of each utterance, of the spectrogram and after each convolution.
    image_sizes: the numbers of a frame, of the spectrogram and after each convolution.
    depths: the inputs of each recurrent layer.
    columns: the columns of a recurrent layer's kernels, of all directions together.
    directions: 1 or 2.
  """

  frames: list[list[int]]
  image_sizes: list[int]
  depths: list[int]
  columns: int
  directions: int


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
  sizes, hidden = _sizes(settings, num_bins, list(lengths)), settings["rnn_hidden_size"]
  counts, channels = {}, 1
  for number, shape in enumerate(original_form.CONVOLUTIONS[settings["conv_layout"]], 1):
    spec = convolution.ConvSpec(*shape)
    taps = spec.kernel_size[0] * spec.kernel_size[1] * channels
    factor = 2 * (3 if number > 1 else 2)
    counts[f"convolution {number}"] = factor * sum(sizes.frames[number]) * sizes.image_sizes[number] * taps
    channels = spec.filters
  rows = sum(sizes.frames[-1])
  counts["inputs of recurrent layers"] = 6 * rows * sum(sizes.depths) * sizes.columns
  counts[STATES] = 6 * rows * hidden * sizes.columns * settings["rnn_hidden_layers"]
  counts["dense layer"] = 6 * rows * hidden * sizes.directions * num_classes
  return counts


def _sizes(settings: Mapping[str, str | int | bool], num_bins: int, frames: list[int]) -> _Sizes:
  """Work out the sizes of a network's layers for utterances of some lengths."""
  all_frames, image_sizes, bins = [frames], [num_bins], num_bins
  for shape in original_form.CONVOLUTIONS[settings["conv_layout"]]:
    spec = convolution.ConvSpec(*shape)
    all_frames.append([convolution.output_size(length, spec) for length in all_frames[-1]])
    bins = convolution.output_size(bins, spec, axis=1)
    image_sizes.append(bins * spec.filters)
  directions = 2 if settings["is_bidirectional"] else 1
  width = settings["rnn_hidden_size"] * directions
  depths = [image_sizes[-1]] + [width] * (settings["rnn_hidden_layers"] - 1)
  return _Sizes(all_frames, image_sizes, depths, _KERNEL_WIDTHS[settings["rnn_type"]] * width, directions)


def count_bytes(
  settings: Mapping[str, str | int | bool], num_bins: int, num_classes: int, lengths: Iterable[int], width: int
) -> dict[str, int]:
  """Count the bytes that a training step must read and write in memory, however cleverly it is written.

  What passes between the parts is written once and read once going forward; going backward its gradient is too, and it is
  read once more. The state's weights are read in every time step, in both passes: they are larger than a core's own cache.
  Adam reads the gradient and reads and writes the weights and two averages, in single precision; in half precision weights
  and gradients are converted too.

  Args:
    settings: the network's flags by name.
    num_bins: bins of the spectrogram.
    num_classes: output classes.
    lengths: frames of each utterance.
    width: the bytes of a number that passes between layers.

  Returns:
    Bytes by part of the network; the parts of `count_operations` and the optimizer.
  """
  sizes = _sizes(settings, num_bins, list(lengths))
  hidden, directions, layers = settings["rnn_hidden_size"], sizes.directions, settings["rnn_hidden_layers"]
  columns, rows = sizes.columns, sum(sizes.frames[-1])
  counts, num_weights = {}, 0
  images = [sum(frames) * size for frames, size in zip(sizes.frames, sizes.image_sizes, strict=True)]
  for number in range(1, len(images)):
    # An image is convolved, clipped and normalised: two tensors of its size.
    counts[f"convolution {number}"] = 5 * width * (images[number - 1] + 2 * images[number])
  counts["inputs of recurrent layers"] = 0
  for depth in sizes.depths:
    counts["inputs of recurrent layers"] += 5 * width * rows * (depth + columns) + 3 * width * depth * columns
    num_weights += (depth + hidden) * columns
  steps = max(sizes.frames[-1])
  counts[STATES] = 2 * width * steps * layers * hidden * columns
  counts["dense layer"] = 5 * width * rows * (hidden * directions + num_classes)
  counts["optimizer"] = num_weights * (4 * 7 + (2 * (4 + width) if width < 4 else 0))
  return counts


def report(
  operations: Mapping[str, int], moved: Mapping[str, int], rates: Mapping[str, float], seconds: float
) -> dict[str, object]:
  """Print for each part of a step the time that the machine needs at least, and compare the sum with ours.

  Args:
    operations: from `count_operations`.
    moved: from `count_bytes`.
    rates: what a second allows: "product" operations of a large matrix product, "memory" bytes of a large copy, and
      "cache" bytes read from the cache that all cores share, which is where the state's weights come from.
    seconds: the time of our step.

  Returns:
    The same for a line of JSON.
  """
  total, floors, rate = sum(operations.values()), {}, rates["product"]
  shown = f"{rates['memory'] / 1e9:.1f} GB/s, from the cache at {rates['cache'] / 1e9:.1f} GB/s"
  print(f"a step takes {total / 1e9:.1f} GFLOP at {rate / 1e9:.1f} GFLOP/s, and moves at {shown}:")
  for name, size in moved.items():
    source = "cache" if name == STATES else "memory"
    limits = {"operations": operations.get(name, 0) / rate, source: size / rates[source]}
    floors[name] = max(limits.values())
    slower = max(limits, key=limits.get)
    print(f"{operations.get(name, 0) / 1e9:9.1f} GFLOP {size / 1e9:6.3f} GB {floors[name]:7.4f} s ({slower})  {name}")
  floor = sum(floors.values())
  print(
    f"the parts take {floor:.3f} s at least, {floor / seconds:.1%} of ours; ours reaches {total / seconds / 1e9:.1f} "
    f"GFLOP/s, {total / seconds / rate:.1%} of the matrix product's rate"
  )
  share = f"{total / seconds / rate:.0%} of the matrix product's rate, {floor / seconds:.0%} of what the machine allows"
  return {
    "note": f"{total / 1e9:.0f} GFLOP at {share}",
    "gflop": round(total / 1e9, 3),
    "product_gflop_per_second": round(rate / 1e9, 3),
    "memory_gb_per_second": round(rates["memory"] / 1e9, 3),
    "cache_gb_per_second": round(rates["cache"] / 1e9, 3),
    "share_of_product_rate": round(total / seconds / rate, 4),
    "floors": {name: round(value, 5) for name, value in floors.items()},
    "share_of_floor": round(floor / seconds, 4),
  }


def matrix_product(config: "tf.compat.v1.ConfigProto", dtype: str = "float32") -> tuple[Callable[[], object], int]:
  """Build a large matrix product in its own session.

  Args:
    config: the session's settings, the same as for the step that it is compared with.
    dtype: the number format.

  Returns:
    A function that computes it a few times, which takes about as long as a step, and the number of its operations.
  """
  compute = _repeat(tf.matmul, [[_MATRIX_SIZE] * 2] * 2, dtype, config)
  return compute, _NUM_REPEATS * 2 * _MATRIX_SIZE**3


def memory_copy(config: "tf.compat.v1.ConfigProto") -> tuple[Callable[[], object], int]:
  """Build a negation of more numbers than any cache holds; return as `matrix_product` does, with the bytes that it moves."""
  compute = _repeat(tf.negative, [[_COPY_SIZE]], "float32", config)
  return compute, _NUM_REPEATS * 2 * 4 * _COPY_SIZE


def cache_read(config: "tf.compat.v1.ConfigProto") -> tuple[Callable[[], object], int]:
  """Build sums of matrices that no core's own cache holds, but the cache of all does; return as `memory_copy` does."""
  compute = _repeat(
    lambda *all_: tf.stack([tf.reduce_sum(each, axis=1) for each in all_]), _CACHE_SHAPES, "float32", config
  )
  return compute, _NUM_REPEATS * 4 * sum(math.prod(shape) for shape in _CACHE_SHAPES)


def _repeat(function: Callable, shapes: Sequence[Sequence[int]], dtype: str, config) -> Callable[[], object]:
  """Return a function that applies another to variables of the given shapes, a few times, and drops the results."""
  with tf.Graph().as_default():
    tensors = [tf.cast(tf.random.uniform(shape), dtype) for shape in shapes]
    operation = function(
      *(tf.compat.v1.get_variable(f"factor_{n}", initializer=each) for n, each in enumerate(tensors))
    )
    session = tf.compat.v1.Session(config=config)
    session.run(tf.compat.v1.global_variables_initializer())

  def compute():
    for _ in range(_NUM_REPEATS):
      session.run(operation.op)

  return compute
