"""Shows what can be shown without a GPU: the vector of parameters read by cuDNN's formulas, the graph, the choice.

The kernels themselves run on NVIDIA GPUs only.
"""

import numpy as np
import pytest

from layers import cells, cudnn, packing, recurrent
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

DEPTH, HIDDEN = 3, 4


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def read_parameters(vector, num_gates: int, depth: int, hidden: int):
  """Cut cuDNN's vector: matrices [hidden, size] of the inputs, of the state; biases of the inputs, of the state."""
  parts, start = [], 0
  for shape in [(hidden, depth)] * num_gates + [(hidden, hidden)] * num_gates + [(hidden,)] * 2 * num_gates:
    parts.append(vector[start : start + np.prod(shape)].reshape(shape))
    start += np.prod(shape)
  assert start == len(vector)
  return [parts[first : first + num_gates] for first in range(0, 4 * num_gates, num_gates)]


def documented_lstm(vector, inputs):
  """Run CUDNN_LSTM as NVIDIA's manual writes it, over one utterance [time, depth]."""
  w, r, bw, br = read_parameters(vector, 4, inputs.shape[1], HIDDEN)
  h, c, outputs = np.zeros(HIDDEN), np.zeros(HIDDEN), []
  for x in inputs:
    i, f, new, o = (w[gate] @ x + r[gate] @ h + bw[gate] + br[gate] for gate in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
    h = sigmoid(o) * np.tanh(c)
    outputs.append(h)
  return np.array(outputs)


def documented_gru(vector, inputs):
  """Run CUDNN_GRU as NVIDIA's manual writes it, over one utterance [time, depth]."""
  w, r, bw, br = read_parameters(vector, 3, inputs.shape[1], HIDDEN)
  h, outputs = np.zeros(HIDDEN), []
  for x in inputs:
    reset, i = (sigmoid(w[gate] @ x + r[gate] @ h + bw[gate] + br[gate]) for gate in range(2))
    new = np.tanh(w[2] @ x + reset * (r[2] @ h + br[2]) + bw[2])
    h = (1 - i) * new + i * h
    outputs.append(h)
  return np.array(outputs)


DOCUMENTED = {"lstm": documented_lstm, "gru_reset_after": documented_gru}


@pytest.mark.parametrize("rnn_type", cudnn.RNN_MODES)
def test_the_vector_means_to_cudnn_what_the_variables_mean_to_our_cell(rnn_type):
  generator = np.random.default_rng(1)
  inputs = generator.normal(size=[6, DEPTH])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    batch = packing.plan(tf.constant([6]), 6)
    ours = recurrent.rnn_layer(tf.constant(inputs), batch, rnn_type, HIDDEN, 1, is_bidirectional=False)
    variables = tf.compat.v1.trainable_variables()
    for variable in variables:
      variable.load(generator.normal(0, 0.8, variable.shape.as_list()), session)
    values = {variable.op.name.removeprefix("rnn/rnn_fw_1/"): tf.convert_to_tensor(variable) for variable in variables}
    vector, hidden_size = cudnn.pack_parameters(rnn_type, DEPTH, values)
    outputs, numbers = session.run([ours, vector])
  assert hidden_size == HIDDEN
  np.testing.assert_allclose(outputs, DOCUMENTED[rnn_type](numbers, inputs), atol=1e-13)


@pytest.mark.parametrize("is_bidirectional", [False, True])
@pytest.mark.parametrize("rnn_type", cudnn.RNN_MODES)
def test_a_ragged_batch_equals_our_own_layer(rnn_type, is_bidirectional, monkeypatch):
  """The manual's formulas stand for the kernel, which needs a GPU; everything around it is real."""

  def run_kernel(rnn_type, padded, lengths, parameters, hidden_size):
    def compute(padded, lengths, vector):
      outputs = np.zeros([*padded.shape[:2], hidden_size])
      for row, inputs, length in zip(outputs, padded, lengths, strict=True):
        row[:length] = DOCUMENTED[rnn_type](vector, inputs[:length])
      return outputs

    outputs = tf.numpy_function(compute, [padded, lengths, parameters], tf.float64)
    return tf.ensure_shape(outputs, [None, None, hidden_size])

  monkeypatch.setattr(cudnn, "_run_kernel", run_kernel)
  lengths, generator = [3, 0, 5, 1], np.random.default_rng(3)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    batch = packing.plan(tf.constant(lengths), 6)
    rows = packing.pack(tf.constant(generator.normal(size=[4, 6, DEPTH])), batch)
    outputs = []
    for kernel in ("native", "cudnn"):
      with tf.compat.v1.variable_scope("", reuse=kernel == "cudnn"):
        outputs.append(recurrent.rnn_layer(rows, batch, rnn_type, HIDDEN, 1, is_bidirectional, kernel))
    for variable in tf.compat.v1.trainable_variables():
      variable.load(generator.normal(0, 0.8, variable.shape.as_list()), session)
    native, documented = session.run(outputs)
  assert len(native) == sum(lengths)
  np.testing.assert_allclose(documented, native, atol=1e-13)


@pytest.mark.parametrize("rnn_type", cudnn.RNN_MODES)
def test_gradients_flow_from_the_vector_into_every_variable(rnn_type):
  cell = cells.SUPPORTED_RNNS[rnn_type](HIDDEN)
  generator = np.random.default_rng(2)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    values = {name: tf.constant(generator.normal(size=shape)) for name, (shape, _) in cell.variables(DEPTH).items()}
    vector, _ = cudnn.pack_parameters(rnn_type, DEPTH, values)
    # As each number occurs once, give or take what is added, so does each entry of the gradient.
    entries = tf.range(1.0, tf.cast(tf.size(vector), tf.float64) + 1, dtype=tf.float64)
    gradients, size = session.run([tf.gradients(vector, list(values.values()), entries), tf.size(vector)])
  found = np.concatenate([gradient.ravel() for gradient in gradients])
  assert len(set(found)) == len(found)
  assert set(found) <= set(range(1, size + 1))


@pytest.mark.parametrize("is_bidirectional", [False, True])
@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("rnn_type", cudnn.RNN_MODES)
def test_graph_has_the_same_variables_shapes_and_gradients(rnn_type, dtype, is_bidirectional):
  graphs = {}
  for kernel in ("native", "cudnn"):
    with tf.Graph().as_default() as graph:
      inputs = tf.compat.v1.placeholder(tf.float32, [None, None, DEPTH])
      batch = packing.plan(tf.compat.v1.placeholder(tf.int32, [None]), tf.shape(inputs)[1])
      rows = tf.cast(packing.pack(inputs, batch), dtype or tf.float32)
      outputs = recurrent.rnn_layer(rows, batch, rnn_type, HIDDEN, 1, is_bidirectional, kernel)
      variables = tf.compat.v1.trainable_variables()
      gradients = tf.gradients(outputs, [inputs, *variables])
      shapes = {variable.op.name: gradient.shape for variable, gradient in zip(variables, gradients[1:], strict=True)}
      graphs[kernel] = [outputs.shape.as_list(), outputs.dtype, gradients[0].shape.as_list(), shapes]
  assert graphs["native"] == graphs["cudnn"]
  kernels = [operation for operation in graph.get_operations() if operation.type == "CudnnRNNV3"]
  assert len(kernels) == 1 + is_bidirectional
  assert {operation.get_attr("T") for operation in kernels} == {tf.as_dtype(dtype or tf.float32)}
  assert [operation.type for operation in graph.get_operations()].count("CudnnRNNBackpropV3") == len(kernels)


@pytest.mark.parametrize(
  ("rnn_kernel", "rnn_type", "devices", "expected"),
  [
    ("auto", "lstm", ["/gpu:0"], "cudnn"),
    ("auto", "gru_reset_after", ["/gpu:0", "/gpu:1"], "cudnn"),
    ("auto", "gru", ["/gpu:0"], "native"),
    ("auto", "rnn", ["/gpu:0"], "native"),
    ("auto", "lstm", ["/cpu:0"], "native"),
    ("native", "lstm", ["/gpu:0"], "native"),
    ("cudnn", "lstm", ["/gpu:0"], "cudnn"),
    ("compiled", "gru", ["/gpu:0"], "compiled"),
    ("compiled", "rnn", ["/cpu:0"], "compiled"),
  ],
)
def test_choice_of_the_kernel(rnn_kernel, rnn_type, devices, expected):
  assert cudnn.choose_kernel(rnn_kernel, rnn_type, devices) == expected


@pytest.mark.parametrize(
  ("rnn_type", "devices", "words"),
  [
    ("gru", ["/gpu:0"], ["--rnn_type=gru;", "lstm and gru_reset_after"]),
    ("lstm", ["/cpu:0"], ["not on /cpu:0;"]),
    ("rnn", ["/cpu:0"], ["--rnn_type=rnn and", "not on /cpu:0;"]),
  ],
)
def test_cudnn_where_it_cannot_be_had_is_refused(rnn_type, devices, words):
  with pytest.raises(UserError) as caught:
    cudnn.choose_kernel("cudnn", rnn_type, devices)
  message = str(caught.value)
  assert message.startswith("--rnn_kernel=cudnn ")
  assert message.endswith("give --rnn_kernel=auto or native")
  assert all(word in message for word in words)


@pytest.mark.parametrize(
  ("activations", "words"),
  [
    (("relu", "sigmoid"), "computes tanh, not --rnn_activation=relu;"),
    (("tanh", "hard_sigmoid"), "computes sigmoid gates, not --rnn_gate_activation=hard_sigmoid;"),
  ],
)
def test_other_activations_are_computed_by_our_own_code(activations, words):
  assert cudnn.choose_kernel("auto", "lstm", ["/gpu:0"], *activations) == "native"
  if activations[0] == "tanh":
    assert cudnn.choose_kernel("compiled", "lstm", ["/gpu:0"], *activations) == "compiled"
  else:
    with pytest.raises(UserError, match="--rnn_kernel=compiled computes padding too, where --rnn_activation=relu"):
      cudnn.choose_kernel("compiled", "lstm", ["/gpu:0"], *activations)
  with pytest.raises(UserError, match=f"--rnn_kernel=cudnn {words} give --rnn_kernel=auto or native"):
    cudnn.choose_kernel("cudnn", "lstm", ["/gpu:0"], *activations)
