"""Holds masked batch normalisation against numpy over the real frames."""

import numpy as np
import pytest

from layers import convolution, normalization
from official_utils.lazy import tf

LENGTHS = [3, 7, 5]


def run(inputs, mask, training: bool, updates: int = 0, dtype=None):
  """Return the outputs, and the moving averages after some updates."""
  with tf.Graph().as_default():
    mask = None if mask is None else tf.constant(mask, inputs.dtype)
    outputs = normalization.batch_norm(tf.constant(inputs, dtype), training, "bn", mask)
    update_ops = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
    averages = [variable for variable in tf.compat.v1.global_variables() if "moving" in variable.op.name]
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      for _ in range(updates):
        session.run(update_ops)
      return session.run([outputs, averages])


@pytest.mark.parametrize("shape", [[3, 7, 4], [3, 7, 6, 4]])
def test_masked_statistics_equal_numpy_over_real_frames(shape):
  inputs = np.random.default_rng(1).normal(3, 2, shape)
  mask = np.array(convolution.sequence_mask(LENGTHS, 7, tf.float64, len(shape)))
  real = np.concatenate([row[:length].reshape(-1, 4) for row, length in zip(inputs, LENGTHS, strict=True)])
  outputs, (mean, variance) = run(inputs, mask, training=True, updates=1)
  expected = (inputs - real.mean(0)) / np.sqrt(real.var(0) + normalization.EPSILON) * mask
  np.testing.assert_allclose(outputs, expected, atol=1e-12)
  correction = len(real) / (len(real) - 1) if len(shape) == 4 else 1
  rate = 1 - normalization.MOMENTUM
  np.testing.assert_allclose(mean, rate * real.mean(0), atol=1e-12)
  np.testing.assert_allclose(variance, 1 - rate + rate * correction * real.var(0), atol=1e-12)


@pytest.mark.parametrize("shape", [[3, 7, 4], [3, 7, 6, 4]])
def test_a_full_mask_is_no_mask(shape):
  inputs = np.random.default_rng(2).normal(3, 2, shape).astype(np.float32)
  full = np.ones(shape[:2] + [1] * (len(shape) - 2), np.float32)
  masked, masked_averages = run(inputs, full, training=True, updates=2)
  plain, plain_averages = run(inputs, None, training=True, updates=2)
  np.testing.assert_allclose(masked, plain, atol=1e-5)
  np.testing.assert_allclose(masked_averages, plain_averages, atol=1e-5)


def test_inference_uses_the_moving_averages():
  inputs = np.random.default_rng(3).normal(3, 2, [2, 5, 4])
  outputs, averages = run(inputs, None, training=False)
  np.testing.assert_allclose(outputs, inputs / np.sqrt(1 + normalization.EPSILON), atol=1e-12)
  np.testing.assert_array_equal(averages, [np.zeros(4), np.ones(4)])


# Images without a mask go through TensorFlow's own kernel.
@pytest.mark.parametrize(("shape", "is_masked"), [([3, 7, 4], True), ([3, 7, 6, 4], True), ([3, 7, 4], False)])
def test_gradients_equal_automatic_differentiation(shape, is_masked):
  rng = np.random.default_rng(4)
  inputs, weights = rng.normal(3, 2, shape), rng.normal(size=shape)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = tf.constant(inputs)
    mask = convolution.sequence_mask(LENGTHS, 7, tf.float64, len(shape)) if is_masked else None
    outputs = normalization.batch_norm(inputs, True, "bn", mask)
    variables = tf.compat.v1.trainable_variables()
    real = tf.ones_like(inputs) * (1.0 if mask is None else mask)
    axes = list(range(len(shape) - 1))
    mean = tf.reduce_sum(inputs * real, axes) / tf.reduce_sum(real, axes)
    variance = tf.reduce_sum((inputs - mean) ** 2 * real, axes) / tf.reduce_sum(real, axes)
    gamma, beta = variables
    expected = ((inputs - mean) / tf.sqrt(variance + normalization.EPSILON) * gamma + beta) * real
    session.run(tf.compat.v1.global_variables_initializer())
    for variable in variables:
      variable.load(rng.normal(size=4), session)
    pairs = [tf.gradients(tf.reduce_sum(each * weights), [inputs, *variables]) for each in (outputs, expected)]
    ours, plain = session.run([[outputs, *pairs[0]], [expected, *pairs[1]]])
  for our, other in zip(ours, plain, strict=True):
    np.testing.assert_allclose(our, other, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "dtype"), [([30, 4], None), ([5, 6, 1, 4], None), ([30, 4], "bfloat16")])
def test_another_epsilon_is_added_to_variances(shape, dtype, training):
  inputs = np.random.default_rng(7).integers(-8, 9, shape) / 4
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    outputs = normalization.batch_norm(tf.constant(inputs, dtype or tf.float32), training, epsilon=2.0)
    session.run(tf.compat.v1.global_variables_initializer())
    result = session.run(tf.cast(outputs, tf.float32))
  axes = tuple(range(len(shape) - 1))
  mean, variance = (inputs.mean(axes), inputs.var(axes)) if training else (0, 1)
  np.testing.assert_allclose(result, (inputs - mean) / np.sqrt(variance + 2), atol=1e-5 if dtype is None else 2**-7)


def test_an_early_momentum_makes_plain_averages_until_it_reaches_the_most():
  momenta = [float(normalization.early_momentum(tf.constant(step), momentum=0.6)) for step in range(4)]
  assert momenta == pytest.approx([0, 1 / 2, 0.6, 0.6])
  assert float(normalization.early_momentum(tf.constant(10**6))) == pytest.approx(normalization.MOMENTUM)


def test_without_names_layers_are_called_as_in_the_originals_checkpoints():
  with tf.Graph().as_default():
    for _ in range(3):
      normalization.batch_norm(tf.zeros([2, 3, 4]), training=False)
    names = {variable.op.name.split("/")[0] for variable in tf.compat.v1.global_variables()}
  assert names == {"batch_normalization", "batch_normalization_1", "batch_normalization_2"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [[40, 4], [2, 10, 6, 4]])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_keeps_variables_and_statistics_in_single_precision(shape, training, dtype):
  # Exact in both formats, so that only the outputs are rounded.
  inputs = np.random.default_rng(5).integers(-8, 9, shape) / 4.0
  outputs, averages = run(inputs, None, training=training, updates=3, dtype=dtype)
  exact, exact_averages = run(inputs.astype(np.float32), None, training=training, updates=3)
  assert (outputs.dtype, averages[0].dtype) == (tf.as_dtype(dtype).as_numpy_dtype, np.float32)
  np.testing.assert_allclose(averages, exact_averages, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(outputs.astype(np.float32), exact, atol=2**-7)


@pytest.mark.parametrize("shape", [[40, 4], [2, 10, 6, 4]])
def test_half_precisions_gradients_come_close(shape):
  rng = np.random.default_rng(6)
  inputs, weights = rng.integers(-8, 9, shape) / 4.0, rng.integers(-8, 9, shape) / 4.0
  gradients = []
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for dtype in (tf.float32, tf.bfloat16):
      with tf.compat.v1.variable_scope("", reuse=tf.compat.v1.AUTO_REUSE):
        rows = tf.constant(inputs, dtype)
        outputs = normalization.batch_norm(rows, True, "bn")
      variables = tf.compat.v1.trainable_variables()
      gradients.append(tf.gradients(outputs, [rows, *variables], tf.constant(weights, dtype)))
    session.run(tf.compat.v1.global_variables_initializer())
    exact, close = session.run(gradients)
  for left, right in zip(exact, close, strict=True):
    assert np.linalg.norm(left - right.astype(np.float32)) < 0.01 * np.linalg.norm(left)


def test_a_layers_norm_is_the_formula_for_each_row():
  rng = np.random.default_rng(7)
  inputs, weights, (gamma, beta) = rng.normal(3, 2, [6, 5]), rng.normal(size=[6, 5]), rng.normal(size=[2, 5])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    rows = tf.constant(inputs)
    outputs = normalization.layer_norm(rows, "norm")
    variables = tf.compat.v1.trainable_variables()
    assert [variable.op.name for variable in variables] == ["norm/gamma", "norm/beta"]
    variables[0].load(gamma, session)
    variables[1].load(beta, session)
    values, d_rows = session.run([outputs, tf.gradients(tf.reduce_sum(outputs * weights), rows)[0]])

  def plain(inputs):
    rate = 1 / np.sqrt(inputs.var(1, keepdims=True) + normalization.EPSILON)
    return (inputs - inputs.mean(1, keepdims=True)) * rate * gamma + beta

  np.testing.assert_allclose(values, plain(inputs), atol=1e-12)
  for place in np.ndindex(*inputs.shape):
    step = np.zeros_like(inputs)
    step[place] = 1e-5
    slope = ((plain(inputs + step) - plain(inputs - step)) * weights).sum() / 2e-5
    assert d_rows[place] == pytest.approx(slope, abs=1e-7)


def test_a_layers_norm_takes_all_axes_of_a_row():
  inputs = np.random.default_rng(9).normal(3, 2, [6, 4, 3])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    outputs = normalization.layer_norm(tf.constant(inputs), "norm")
    assert [variable.shape.as_list() for variable in tf.compat.v1.trainable_variables()] == [[12], [12]]
    session.run(tf.compat.v1.global_variables_initializer())
    values = session.run(outputs)
  rate = 1 / np.sqrt(inputs.var((1, 2), keepdims=True) + normalization.EPSILON)
  np.testing.assert_allclose(values, (inputs - inputs.mean((1, 2), keepdims=True)) * rate, atol=1e-12)


def test_a_layers_norm_in_half_precision_is_computed_in_single_precision():
  inputs = np.random.default_rng(8).integers(-8, 9, [6, 64]) / 4.0 + 100
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    outputs = normalization.layer_norm(tf.constant(inputs, tf.bfloat16), "norm")
    assert {variable.dtype.base_dtype for variable in tf.compat.v1.trainable_variables()} == {tf.float32}
    session.run(tf.compat.v1.global_variables_initializer())
    values = session.run(outputs).astype(np.float32)
  rounded = inputs.astype(tf.bfloat16.as_numpy_dtype).astype(np.float64)
  expected = (rounded - rounded.mean(1, keepdims=True)) / rounded.std(1, keepdims=True)
  np.testing.assert_allclose(values, expected, atol=2**-7)


def test_momentum_grows_to_the_one_of_choice():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    momenta = [normalization.early_momentum(tf.constant(step), 0.6) for step in (0, 1, 2, 100)]
    np.testing.assert_allclose(session.run(momenta), [0, 0.5, 0.6, 0.6], rtol=1e-6)
