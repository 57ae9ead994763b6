"""Holds one step of each cell against its formula in numpy, and its derivatives against automatic differentiation."""

import numpy as np
import pytest

from layers import cells, products
from official_utils.lazy import tf

BATCH, DEPTH, HIDDEN = 3, 4, 5


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


FUNCTIONS = {
  "tanh": np.tanh,
  "relu": lambda x: np.maximum(x, 0),
  "sigmoid": sigmoid,
  "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}


def gru(x, state, values, squash=np.tanh, gate=sigmoid):
  (h,) = state
  joined = np.concatenate([x, h], 1)
  r, u = np.split(gate(joined @ values["gates/kernel"] + values["gates/bias"]), 2, axis=1)
  joined = np.concatenate([x, r * h], 1)
  c = squash(joined @ values["candidate/kernel"] + values["candidate/bias"])
  return (u * h + (1 - u) * c,)


def gru_reset_after(x, state, values, squash=np.tanh, gate=sigmoid):
  (h,) = state
  joined = np.concatenate([x, h], 1)
  r, u = np.split(gate(joined @ values["gates/kernel"] + values["gates/bias"]), 2, axis=1)
  from_input = x @ values["candidate/input_projection/kernel"] + values["candidate/input_projection/bias"]
  from_state = h @ values["candidate/hidden_projection/kernel"] + values["candidate/hidden_projection/bias"]
  return (u * h + (1 - u) * squash(from_input + r * from_state),)


def lstm(x, state, values, squash=np.tanh, gate=sigmoid):
  h, c = state
  i, j, f, o = np.split(np.concatenate([x, h], 1) @ values["kernel"] + values["bias"], 4, axis=1)
  c = c * gate(f + 1) + gate(i) * squash(j)
  return squash(c) * gate(o), c


def rnn(x, state, values, squash=np.tanh, gate=None):
  return (squash(np.concatenate([x, state[0]], 1) @ values["kernel"] + values["bias"]),)


FORMULAS = {"gru": gru, "gru_reset_after": gru_reset_after, "lstm": lstm, "rnn": rnn}


def random_numbers(cell):
  """Return inputs, a state and values of the variables."""
  generator = np.random.default_rng(2)
  values = {name: generator.normal(0, 0.8, shape) for name, (shape, _) in cell.variables(DEPTH).items()}
  state = tuple(generator.normal(0, 0.8, [BATCH, HIDDEN]) for _ in range(cell.num_states))
  return generator.normal(size=[BATCH, DEPTH]), state, values


def test_every_cell_has_a_formula():
  assert FORMULAS.keys() == cells.SUPPORTED_RNNS.keys()


with_every_activation = pytest.mark.parametrize(
  ("activation", "gate"), [("tanh", "sigmoid"), ("relu", "sigmoid"), ("tanh", "hard_sigmoid"), ("relu", "hard_sigmoid")]
)


@with_every_activation
@pytest.mark.parametrize("rnn_type", FORMULAS)
def test_a_step_is_the_formula(rnn_type, activation, gate):
  cell = cells.SUPPORTED_RNNS[rnn_type](HIDDEN, activation, gate)
  inputs, state, values = random_numbers(cell)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    projected, weights = cell.project(tf.constant(inputs), {name: tf.constant(value) for name, value in values.items()})
    new_state, saved = session.run(
      cell.step(projected, [tf.constant(each) for each in state], products.prepare(weights))
    )
  formula = FORMULAS[rnn_type](inputs, state, values, FUNCTIONS[activation], FUNCTIONS[gate])
  for ours, expected in zip(new_state, formula, strict=True):
    np.testing.assert_allclose(ours, expected, atol=1e-14)
  assert [each.shape[1] for each in saved] == [HIDDEN * width for width in cell.saved_widths]


@with_every_activation
@pytest.mark.parametrize("rnn_type", FORMULAS)
def test_derivatives_of_a_step_equal_automatic_differentiation(rnn_type, activation, gate):
  cell = cells.SUPPORTED_RNNS[rnn_type](HIDDEN, activation, gate)
  inputs, state, values = random_numbers(cell)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    state = [tf.constant(each) for each in state]
    projected, weights = cell.project(tf.constant(inputs), {name: tf.constant(value) for name, value in values.items()})
    new_state, saved = cell.step(projected, state, products.prepare(weights))
    generator = np.random.default_rng(3)
    d_state = [tf.constant(generator.normal(size=[BATCH, HIDDEN])) for _ in state]
    expected = tf.gradients(new_state, [*state, *projected, *weights], d_state)
    factors = cell.factors(state, new_state, saved)
    d_previous, recorded = cell.step_gradient(d_state, factors, products.transpose(products.prepare(weights)))
    d_projected, d_weights = cell.gradients(recorded, state, saved)
    ours, expected = session.run([[*d_previous, *d_projected, *d_weights], expected])
    widths = [each.shape[1] for each in recorded]
  assert widths == [HIDDEN * width for width in cell.recorded_widths]
  for left, right in zip(ours, expected, strict=True):
    np.testing.assert_allclose(left, right, atol=1e-13)


def test_variables_of_the_reset_after_cell():
  assert cells.GruResetAfter(5).variables(4) == {
    "gates/kernel": ([9, 10], None),
    "gates/bias": ([10], 1.0),
    "candidate/input_projection/kernel": ([4, 5], None),
    "candidate/input_projection/bias": ([5], 0.0),
    "candidate/hidden_projection/kernel": ([5, 5], None),
    "candidate/hidden_projection/bias": ([5], 0.0),
  }


@pytest.mark.parametrize("rnn_type", FORMULAS)
def test_orthogonal_first_values(rnn_type):
  cell = cells.SUPPORTED_RNNS[rnn_type](HIDDEN, init="orthogonal")
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    shapes = cell.variables(DEPTH)
    values = session.run(
      {name: start(shape, tf.float64) for name, (shape, start) in shapes.items() if name.endswith("kernel")}
    )
    assert {start for name, (_, start) in shapes.items() if name.endswith("bias")} == {0.0}
    (again,) = session.run([start(shape, tf.bfloat16) for shape, start in [next(iter(shapes.values()))]])
  assert again.dtype == tf.bfloat16.as_numpy_dtype
  num_state_rows = 0
  for name, value in values.items():
    num_inputs = 0 if "hidden_projection" in name else DEPTH
    inputs, state = value[:num_inputs], value[num_inputs:]
    assert np.abs(inputs).max(initial=0) <= np.sqrt(6 / (DEPTH + value.shape[1]))
    assert value.std() > 0.1
    np.testing.assert_allclose(state @ state.T, np.eye(len(state)), atol=1e-12)
    num_state_rows += len(state)
  assert num_state_rows == HIDDEN * (1 if rnn_type in ("lstm", "rnn") else 2)
