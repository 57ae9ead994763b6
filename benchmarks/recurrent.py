"""Times a recurrent training step, value and all gradients, against the original's per-step form."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import statistics
import time
from collections.abc import Callable

from absl import app, flags

from benchmarks import original_form
from layers import recurrent
from official_utils.lazy import tf


def define_benchmark_flags() -> None:
  """Define the shape that is timed."""
  flags.DEFINE_enum("rnn_type", "gru", list(original_form.STEPS), "The recurrent cell.")
  flags.DEFINE_integer("layers", 2, "Layers, both directions each.")
  flags.DEFINE_integer("hidden", 800, "The cell's size.")
  flags.DEFINE_integer("depth", 800, "The size of the inputs.")
  flags.DEFINE_integer("batch", 16, "Utterances a batch.")
  flags.DEFINE_integer("steps", 100, "Time steps.")
  flags.DEFINE_integer("runs", 5, "Runs of each form, taken in turns.")


def fast_form(inputs: "tf.Tensor", rnn_type: str, hidden: int, layer_id: int) -> "tf.Tensor":
  """Run one layer in the product's form."""
  return recurrent.rnn_layer(inputs, None, rnn_type, hidden, layer_id, is_bidirectional=True)[0]


def plain_form(inputs: "tf.Tensor", rnn_type: str, hidden: int, layer_id: int) -> "tf.Tensor":
  """Run one layer in the original's form, over variables of the same names and shapes."""
  cell = recurrent.SUPPORTED_RNNS[rnn_type](hidden)
  outputs = []
  for side in ("fw", "bw"):
    with tf.compat.v1.variable_scope(f"bidirectional_rnn/{side}/rnn_{side}_{layer_id}"):
      kernels = {}
      for prefix, (columns, _) in cell.kernels.items():
        shape = [inputs.shape[2] + hidden, columns]
        kernels[f"{prefix}kernel"] = tf.compat.v1.get_variable(f"{prefix}kernel", shape)
        kernels[f"{prefix}bias"] = tf.compat.v1.get_variable(f"{prefix}bias", shape[1:])
    outputs.append(original_form.run_direction(rnn_type, inputs, None, kernels, side == "bw"))
  return tf.concat(outputs, axis=2)


def build_step(form: Callable, options: flags.FlagValues) -> tuple:
  """Build value and gradients of a stack of layers.

  Returns:
    A session, and tensors to fetch: the value and a sum of each gradient (one that nobody fetches is not computed).
  """
  with tf.Graph().as_default():
    tf.compat.v1.set_random_seed(1)
    shape = [options.steps, options.batch, options.depth]
    inputs = tf.compat.v1.get_variable("inputs", shape, initializer=tf.compat.v1.random_normal_initializer(seed=1))
    outputs = tf.convert_to_tensor(inputs)
    for layer_id in range(1, options.layers + 1):
      outputs = form(outputs, options.rnn_type, options.hidden, layer_id)
    value = tf.reduce_sum(outputs * outputs)
    variables = tf.compat.v1.trainable_variables()
    gradients = tf.gradients(value, variables)
    session = tf.compat.v1.Session()
    session.run(tf.compat.v1.global_variables_initializer())
    return session, [value] + [tf.reduce_sum(gradient) for gradient in gradients]


def main(_: list[str]) -> None:
  """Time both forms in turns and print medians, spread and ratio."""
  options = flags.FLAGS
  steps = {"ours": build_step(fast_form, options), "original_form": build_step(plain_form, options)}
  seconds = {name: [] for name in steps}
  for run in range(options.runs + 1):
    for name, (session, fetches) in steps.items():
      start = time.perf_counter()
      session.run(fetches)
      if run > 0:  # The first run plans the graph.
        seconds[name].append(time.perf_counter() - start)
  for name, values in seconds.items():
    median = statistics.median(values)
    print(f"{name:>14}: median {median:.3f} s, from {min(values):.3f} to {max(values):.3f} s over {len(values)} runs")
  ratio = statistics.median(seconds["original_form"]) / statistics.median(seconds["ours"])
  print(f"ours is {ratio:.2f} times as fast")
  print(json.dumps({"benchmark": "recurrent", "ratio": round(ratio, 3), "seconds": seconds}))


if __name__ == "__main__":
  define_benchmark_flags()
  app.run(main)
