"""Holds the recurrent layers against the plain per-step form: values and gradients, in double precision."""

import functools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import original_form
from layers import cells, packing, recurrent, variables
from official_utils.lazy import tf


def project(inputs, kernels, scope):
  return tf.matmul(inputs, kernels[f"{scope}kernel"]) + kernels[f"{scope}bias"]


def gru_step(inputs, state, kernels, squash, gate):
  (hidden,) = state
  reset, update = tf.split(gate(project(tf.concat([inputs, hidden], 1), kernels, "gates/")), 2, axis=1)
  candidate = squash(project(tf.concat([inputs, reset * hidden], 1), kernels, "candidate/"))
  return (update * hidden + (1 - update) * candidate,)


def gru_reset_after_step(inputs, state, kernels, squash, gate):
  (hidden,) = state
  reset, update = tf.split(gate(project(tf.concat([inputs, hidden], 1), kernels, "gates/")), 2, axis=1)
  from_inputs = project(inputs, kernels, "candidate/input_projection/")
  from_state = project(hidden, kernels, "candidate/hidden_projection/")
  return (update * hidden + (1 - update) * squash(from_inputs + reset * from_state),)


def lstm_step(inputs, state, kernels, squash, gate):
  hidden, cell = state
  enter, new, keep, leave = tf.split(project(tf.concat([inputs, hidden], 1), kernels, ""), 4, axis=1)
  cell = cell * gate(keep + 1) + gate(enter) * squash(new)
  return squash(cell) * gate(leave), cell


def rnn_step(inputs, state, kernels, squash, gate):
  return (squash(project(tf.concat([inputs, state[0]], 1), kernels, "")),)


# The steps of cells with activations of choice, and of the cell that the original does not have, as plain as its own.
STEPS = {"gru": gru_step, "gru_reset_after": gru_reset_after_step, "lstm": lstm_step, "rnn": rnn_step}
FUNCTIONS = {
  "tanh": tf.tanh,
  "relu": tf.nn.relu,
  "sigmoid": tf.sigmoid,
  "hard_sigmoid": lambda sums: tf.minimum(tf.maximum(sums / 5 + 0.5, 0), 1),
}


@pytest.fixture(scope="module", autouse=True)
def plain_steps():
  """Lend the plain form the cell that it lacks."""
  plain = functools.partial(gru_reset_after_step, squash=tf.tanh, gate=tf.sigmoid)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(original_form.STEPS, "gru_reset_after", plain)
    patch.setitem(original_form.NUM_STATES, "gru_reset_after", 1)
    yield


class Pair:
  """One layer in both forms over the same variables, with the gradients of a weighted sum of the outputs."""

  def __init__(
    self, rnn_type: str, is_bidirectional: bool, depth: int, hidden: int, merge: str = "concat", **of_cell: str
  ):
    with tf.Graph().as_default():
      self.inputs = tf.compat.v1.placeholder(tf.float64, [None, None, depth])
      self.lengths = tf.compat.v1.placeholder(tf.int32, [None])
      self.factors = tf.compat.v1.placeholder(tf.float64, [None, None, None])
      ours = run_layer(self.inputs, self.lengths, rnn_type, hidden, is_bidirectional, merge=merge, **of_cell)
      variables = tf.compat.v1.trainable_variables()
      plain = self._plain(rnn_type, is_bidirectional, variables, merge)
      self.fetches = [
        [outputs, *tf.gradients(tf.reduce_sum(outputs * self.factors), [self.inputs, *variables])]
        for outputs in (ours, plain)
      ]
      self.variables = variables
      self.session = tf.compat.v1.Session()
      self.session.run(tf.compat.v1.global_variables_initializer())

  def _plain(self, rnn_type, is_bidirectional, variables, merge):
    outputs = []
    for side in ("fw", "bw") if is_bidirectional else ("fw",):
      scope = re.compile(f".*rnn_{side}_1/(.*)")
      kernels = {match[1]: v for v in variables if (match := scope.match(v.op.name))}
      inputs = tf.transpose(self.inputs, [1, 0, 2])
      outputs.append(original_form.run_direction(rnn_type, inputs, self.lengths, kernels, side == "bw"))
    return tf.transpose(sum(outputs) if merge == "sum" else tf.concat(outputs, axis=2), [1, 0, 2])

  def compare(self, lengths: list[int], extra_steps: int, seed: int):
    generator = np.random.default_rng(seed)
    with self.session.graph.as_default():
      for variable in self.variables:
        variable.load(generator.normal(0, 0.7, variable.shape.as_list()), self.session)
    steps, width = max(lengths) + extra_steps, self.fetches[0][0].shape[2]
    feeds = {
      self.inputs: generator.normal(0, 1, [len(lengths), steps, self.inputs.shape[2]]),
      self.lengths: lengths,
      self.factors: generator.normal(0, 1, [len(lengths), steps, width]),
    }
    ours, plain = self.session.run(self.fetches, feeds)
    for left, right in zip(ours, plain, strict=True):
      np.testing.assert_allclose(left, right, rtol=0, atol=1e-11 * max(1, np.abs(right).max()))
    return ours[0]


def run_layer(inputs, lengths, rnn_type, hidden, is_bidirectional, **options):
  """Run one layer over a padded batch [batch, time, depth]."""
  batch = packing.plan(lengths, tf.shape(inputs)[1])
  rows = recurrent.rnn_layer(packing.pack(inputs, batch), batch, rnn_type, hidden, 1, is_bidirectional, **options)
  return packing.unpack(rows, batch)


PAIRS = {}


def pair(*key):
  if key not in PAIRS:
    PAIRS[key] = Pair(*key)
  return PAIRS[key]


@pytest.mark.parametrize("rnn_type", list(cells.SUPPORTED_RNNS))
@settings(max_examples=25, deadline=None)
@given(
  is_bidirectional=st.booleans(),
  sizes=st.sampled_from([(1, 1), (3, 5)]),
  lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
  extra_steps=st.integers(0, 3),
  seed=st.integers(0, 2**32 - 1),
)
def test_values_and_gradients_equal_the_plain_form(rnn_type, is_bidirectional, sizes, lengths, extra_steps, seed):
  # A batch has at least one step.
  outputs = pair(rnn_type, is_bidirectional, *sizes).compare(lengths, extra_steps + (max(lengths) == 0), seed)
  for row, length in zip(outputs, lengths, strict=True):
    assert not row[length:].any()
    assert row[:length].any() == (length > 0)


@pytest.mark.parametrize(
  ("activation", "gate", "merge"),
  [("relu", "sigmoid", "concat"), ("tanh", "hard_sigmoid", "sum"), ("relu", "hard_sigmoid", "sum")],
)
@pytest.mark.parametrize("rnn_type", list(cells.SUPPORTED_RNNS))
def test_other_activations_and_joined_directions_equal_the_plain_form(rnn_type, activation, gate, merge, monkeypatch):
  chosen = functools.partial(STEPS[rnn_type], squash=FUNCTIONS[activation], gate=FUNCTIONS[gate])
  monkeypatch.setitem(original_form.STEPS, rnn_type, chosen)
  layer = Pair(rnn_type, True, 3, 5, merge, activation=activation, gate_activation=gate)
  outputs = layer.compare([7, 0, 4, 9, 9], 2, seed=3)
  assert outputs.shape == (5, 11, 5 if merge == "sum" else 10)


@pytest.mark.parametrize("rnn_type", list(cells.SUPPORTED_RNNS))
def test_an_utterance_alone_equals_itself_among_others(rnn_type):
  lengths = [4, 1, 6, 6, 3]
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = tf.compat.v1.placeholder(tf.float64, [None, None, 2])
    sizes = tf.compat.v1.placeholder(tf.int32, [None])
    outputs = run_layer(inputs, sizes, rnn_type, 3, is_bidirectional=True)
    session.run(tf.compat.v1.global_variables_initializer())
    # Far from a batch of zeros: what lies in the padding is not even a number.
    batch = np.full([5, 8, 2], np.nan)
    generator = np.random.default_rng(1)
    for row, length in zip(batch, lengths, strict=True):
      row[:length] = generator.normal(size=[length, 2])
    together = session.run(outputs, {inputs: batch, sizes: lengths})
    for row, whole, length in zip(batch, together, lengths, strict=True):
      alone = session.run(outputs, {inputs: row[np.newaxis, :length], sizes: [length]})
      np.testing.assert_allclose(whole[:length], alone[0], atol=1e-14)
      assert not whole[length:].any()


# Numbers have 11 bits in the one format and 8 in the other: what is allowed are ten units in the last place.
@pytest.mark.parametrize(
  ("compute_dtype", "tolerance", "options"),
  [
    ("float16", 10 * 2**-11, {}),
    ("bfloat16", 10 * 2**-8, {}),
    ("bfloat16", 10 * 2**-8, {"merge": "sum", "activation": "relu", "gate_activation": "hard_sigmoid"}),
  ],
)
@pytest.mark.parametrize("rnn_type", list(cells.SUPPORTED_RNNS))
def test_half_precision_comes_close_over_the_same_float32_variables(rnn_type, compute_dtype, tolerance, options):
  lengths, generator = [7, 12, 9], np.random.default_rng(4)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = tf.constant(generator.normal(size=[3, 12, 8]).astype(np.float32))
    fetches = []
    for dtype in (tf.float32, tf.as_dtype(compute_dtype)):
      with tf.compat.v1.variable_scope("", reuse=dtype is not tf.float32):
        outputs = run_layer(tf.cast(inputs, dtype), lengths, rnn_type, 6, is_bidirectional=True, **options)
      assert outputs.dtype == dtype
      outputs = tf.cast(outputs, tf.float32)
      variables = tf.compat.v1.trainable_variables()
      fetches.append([outputs, *tf.gradients(tf.reduce_sum(tf.square(outputs)), [inputs, *variables])])
    assert {variable.dtype.base_dtype for variable in variables} == {tf.float32}
    assert {tensor.dtype for tensor in fetches[1]} == {tf.float32}
    for variable in variables:
      variable.load(generator.normal(0, 0.3, variable.shape.as_list()), session)
    exact, close = session.run(fetches)
  for left, right in zip(exact, close, strict=True):
    error = np.linalg.norm(left - right) / np.linalg.norm(left)
    assert 0 < error < tolerance


def test_bias_of_the_gates_starts_at_one():
  with tf.Graph().as_default():
    run_layer(tf.zeros([2, 1, 3]), tf.constant([1, 1]), "gru", 4, is_bidirectional=False)
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      values = {v.op.name: session.run(v) for v in tf.compat.v1.trainable_variables()}
  np.testing.assert_array_equal(values["rnn/rnn_fw_1/gates/bias"], np.ones(8))
  np.testing.assert_array_equal(values["rnn/rnn_fw_1/candidate/bias"], np.zeros(4))


def test_orthogonal_first_values_follow_from_seed_and_name():
  def first_values(seed):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      tf.compat.v1.set_random_seed(seed)
      with tf.compat.v1.variable_scope("", custom_getter=variables.seeded_by_name):
        run_layer(tf.zeros([2, 1, 3]), tf.constant([1, 1]), "gru", 4, is_bidirectional=True, init="orthogonal")
      session.run(tf.compat.v1.global_variables_initializer())
      return {v.op.name: session.run(v) for v in tf.compat.v1.trainable_variables()}

  first, again, other = first_values(1), first_values(1), first_values(2)
  for name, value in first.items():
    np.testing.assert_array_equal(value, again[name])
    if name.endswith("bias"):
      assert not value.any()
    else:
      assert not np.array_equal(value, other[name])
      np.testing.assert_allclose(value[3:] @ value[3:].T, np.eye(4), atol=1e-6)
  names = [f"bidirectional_rnn/{side}/rnn_{side}_1/gates/kernel" for side in ("fw", "bw")]
  assert not np.array_equal(*(first[name] for name in names))
