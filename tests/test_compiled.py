"""Holds the compiled layers against our own, which test_recurrent.py holds against the plain form. XLA compiles for the CPU here."""

import gc
import weakref

import numpy as np
import pytest
import runs

import deep_speech
from layers import cells, compiled, packing, recurrent
from official_utils import estimator
from official_utils.lazy import tf
from training.model_dir import ModelDir

DEPTH, HIDDEN = 3, 4


def run_layer(inputs, lengths, rnn_type, kernel, is_bidirectional=True, layer_id=1, dtype=None, **options):
  """Run one layer over a padded batch [batch, time, depth]."""
  batch = packing.plan(tf.convert_to_tensor(lengths), tf.shape(inputs)[1])
  rows = tf.cast(packing.pack(inputs, batch), dtype or inputs.dtype)
  rows = recurrent.rnn_layer(rows, batch, rnn_type, HIDDEN, layer_id, is_bidirectional, kernel, **options)
  return tf.cast(packing.unpack(rows, batch), inputs.dtype)


class Pair:
  """One layer by both kernels over the same variables, with the gradients of a weighted sum of the outputs."""

  def __init__(self, rnn_type, is_bidirectional, dtype=tf.float64, compute_dtype=None, **options):
    with tf.Graph().as_default():
      self.inputs = tf.compat.v1.placeholder(dtype, [None, None, DEPTH])
      self.lengths = tf.compat.v1.placeholder(tf.int32, [None])
      self.factors = tf.compat.v1.placeholder(dtype, [None, None, None])
      self.fetches = []
      for kernel in ("native", "compiled"):
        with tf.compat.v1.variable_scope("", reuse=kernel == "compiled"):
          chosen = {"is_bidirectional": is_bidirectional, "dtype": compute_dtype, **options}
          outputs = run_layer(self.inputs, self.lengths, rnn_type, kernel, **chosen)
        variables = tf.compat.v1.trainable_variables()
        gradients = tf.gradients(tf.reduce_sum(outputs * self.factors), [self.inputs, *variables])
        self.fetches.append([outputs, *gradients])
      self.session = tf.compat.v1.Session()
      generator = np.random.default_rng(1)
      for variable in variables:
        variable.load(generator.normal(0, 0.7, variable.shape.as_list()), self.session)

  def run(self, lengths, num_steps):
    generator = np.random.default_rng(2)
    # What lies in the padding is not even a number.
    inputs = np.full([len(lengths), num_steps, DEPTH], np.nan)
    for row, length in zip(inputs, lengths, strict=True):
      row[:length] = generator.normal(size=[length, DEPTH])
    factors = generator.normal(size=[len(lengths), num_steps, self.fetches[0][0].shape[2]])
    return self.session.run(self.fetches, {self.inputs: inputs, self.lengths: lengths, self.factors: factors})


@pytest.mark.parametrize(
  ("rnn_type", "is_bidirectional"), [("gru", False), *((name, True) for name in cells.SUPPORTED_RNNS)]
)
def test_values_and_gradients_equal_our_own_layer(rnn_type, is_bidirectional):
  for native, ours in zip(*Pair(rnn_type, is_bidirectional).run([3, 0, 40, 33], 41), strict=True):
    np.testing.assert_allclose(ours, native, rtol=0, atol=1e-12 * max(1, np.abs(native).max()))


@pytest.mark.parametrize("rnn_type", cells.SUPPORTED_RNNS)
def test_other_activations_and_joined_directions_equal_our_own_layer(rnn_type):
  pair = Pair(rnn_type, True, merge="sum", activation="relu", gate_activation="hard_sigmoid")
  for native, ours in zip(*pair.run([3, 0, 8, 7], 8), strict=True):
    np.testing.assert_allclose(ours, native, rtol=0, atol=1e-12 * max(1, np.abs(native).max()))


def test_a_single_utterance_of_a_single_step():
  for native, ours in zip(*Pair("gru", True).run([1], 1), strict=True):
    np.testing.assert_allclose(ours, native, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rnn_type", cells.SUPPORTED_RNNS)
def test_bfloat16_comes_close_to_our_own_layer(rnn_type):
  pair = Pair(rnn_type, True, tf.float32, compute_dtype="bfloat16")
  for native, ours in zip(*pair.run([7, 12, 9], 12), strict=True):
    assert native.dtype == ours.dtype == np.float32
    # Ten units in the last place, as for our own layer against itself in float32.
    assert np.linalg.norm(ours - native) <= 10 * 2**-8 * np.linalg.norm(native)


def test_layers_of_a_graph_share_what_is_compiled():
  with tf.Graph().as_default() as graph:
    inputs = tf.compat.v1.placeholder(tf.float32, [None, None, 2 * HIDDEN])
    lengths = tf.compat.v1.placeholder(tf.int32, [None])
    outputs = inputs
    for layer_id in (1, 2, 3):
      outputs = run_layer(outputs, lengths, "gru", "compiled", layer_id=layer_id)
    tf.compat.v1.train.AdamOptimizer().minimize(tf.reduce_sum(outputs))
    calls = [operation for operation in graph.get_operations() if "PartitionedCall" in operation.type]
    assert len(calls) == 6
    assert all(call.get_attr("_XlaMustCompile") for call in calls)
    assert len({call.get_attr("f").name for call in calls}) == 2
    # What a checkpoint keeps of a graph does not know of it.
    assert not [key for key in graph.get_all_collection_keys() if "compiled" in key]


def test_layers_with_other_activations_share_nothing():
  with tf.Graph().as_default() as graph:
    for layer_id, activation in enumerate(("tanh", "relu"), start=1):
      run_layer(tf.zeros([2, 5, DEPTH]), [5, 3], "gru", "compiled", layer_id=layer_id, activation=activation)
    calls = [operation for operation in graph.get_operations() if "PartitionedCall" in operation.type]
    assert len({call.get_attr("f").name for call in calls}) == 2


def test_lengths_in_a_range_share_a_number_of_steps():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    num_steps = tf.compat.v1.placeholder(tf.int32, [])
    batch = packing.plan(tf.fill([2], num_steps), num_steps)
    padded = packing.unpack(tf.ones([2 * num_steps, 1]), packing.from_first_step(batch, False, compiled.STEPS_MULTIPLE))
    found = [session.run(tf.shape(padded)[0], {num_steps: steps}) for steps in (1, 31, 32, 33)]
  assert found == [32, 32, 32, 64]


def test_a_graph_is_released():
  with estimator.released_graphs(), tf.Graph().as_default() as graph:
    outputs = run_layer(tf.ones([2, 5, DEPTH]), [5, 3], "gru", "compiled")
    gradients = tf.gradients(outputs, tf.compat.v1.trainable_variables())
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      session.run(gradients)
  reference = weakref.ref(graph)
  del graph, outputs, gradients, session
  gc.collect()
  assert reference() is None


def test_training_goes_the_same_way(tones_dir, tmp_path):
  rows = []
  for kernel in ("native", "compiled"):
    model_dir = str(tmp_path / kernel)
    options = runs.arguments(tones_dir, model_dir, f"--rnn_kernel={kernel}", "--train_epochs=2", "--keep_exports=0")
    deep_speech.run_deep_speech(runs.parse(*options))
    rows.append([row["loss"] for row in ModelDir(model_dir).evaluations()])
  np.testing.assert_allclose(rows[1], rows[0], rtol=1e-4)
