"""Times a training step of recurrent layers, with all gradients, against the original's per-step form."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from collections.abc import Callable

from absl import flags

from benchmarks import original_form, timing
from layers import packing, recurrent
from official_utils.flags import core as flags_core
from official_utils.lazy import tf


def define_benchmark_flags() -> None:
  """Define the flags for the shape of the layers."""
  flags.DEFINE_enum("rnn_type", "gru", list(original_form.STEPS), "The recurrent cell.")
  flags.DEFINE_integer("layers", 2, "The number of layers, each with both directions.", lower_bound=1)
  flags.DEFINE_integer("hidden", 800, "The cell's size.", lower_bound=1)
  flags.DEFINE_integer("depth", 800, "The size of the inputs.", lower_bound=1)
  flags.DEFINE_integer("batch", 16, "The number of utterances in a batch.", lower_bound=1)
  flags.DEFINE_integer("steps", 100, "The number of time steps.", lower_bound=1)
  timing.define_timing_flags(["original_form"])


def fast_form(inputs: "tf.Tensor", rnn_type: str, hidden: int, layer_id: int) -> "tf.Tensor":
  """Run one layer in the product's form."""
  num_steps, batch_size, depth = inputs.shape
  batch = packing.plan(tf.fill([batch_size], num_steps), num_steps)
  # With equal lengths, the rows are [time, batch] flattened.
  rows = recurrent.rnn_layer(tf.reshape(inputs, [-1, depth]), batch, rnn_type, hidden, layer_id, is_bidirectional=True)
  return tf.reshape(rows, [num_steps, batch_size, rows.shape[1]])


def build_step(layer: Callable, options: flags.FlagValues) -> Callable[[], object]:
  """Build the value and the gradients of a stack of layers; return a function that computes them once."""
  with tf.Graph().as_default():
    tf.compat.v1.set_random_seed(1)
    shape = [options.steps, options.batch, options.depth]
    inputs = tf.compat.v1.get_variable("inputs", shape, initializer=tf.compat.v1.random_normal_initializer(seed=1))
    outputs = tf.convert_to_tensor(inputs)
    for layer_id in range(1, options.layers + 1):
      outputs = layer(outputs, options.rnn_type, options.hidden, layer_id)
    value = tf.reduce_sum(outputs * outputs)
    gradients = tf.gradients(value, tf.compat.v1.trainable_variables())
    session = tf.compat.v1.Session()
    session.run(tf.compat.v1.global_variables_initializer())
    # A gradient that nobody fetches is not computed.
    fetches = [value] + [tf.reduce_sum(gradient) for gradient in gradients]
    return lambda: session.run(fetches)


def main(_: list[str]) -> None:
  """Time both forms in turn and print medians, spread and ratio."""
  options = flags.FLAGS
  layers = timing.choose({timing.OURS: fast_form, "original_form": original_form.recurrent_layer}, options.peer)
  seconds = timing.measure({name: build_step(layer, options) for name, layer in layers.items()}, options.runs)
  setting = f"{options.layers} x {options.hidden} {options.rnn_type}, batch {options.batch}, {options.steps} steps"
  timing.report("recurrent", setting, seconds)


if __name__ == "__main__":
  define_benchmark_flags()
  flags_core.run(main, __doc__)
