"""Holds the row convolution against plain Python over each utterance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layers import packing, row_convolution
from official_utils.lazy import tf

UNITS = 3


def run(inputs, lengths, width, weights, dtype=tf.float64):
  """Return the outputs [batch, time, units]."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    padded = tf.constant(inputs)
    batch = packing.plan(tf.constant(lengths, tf.int32), inputs.shape[1])
    rows = row_convolution.row_convolution(tf.cast(packing.pack(padded, batch), dtype), batch, width)
    assert rows.dtype == dtype
    (variable,) = tf.compat.v1.trainable_variables()
    assert (variable.op.name, variable.dtype.base_dtype) == ("row_convolution/weights", padded.dtype)
    variable.load(weights, session)
    return session.run(tf.cast(packing.unpack(rows, batch), padded.dtype))


def plain(inputs, length, weights):
  outputs = np.zeros_like(inputs)
  for time in range(length):
    for ahead, factors in enumerate(weights[: length - time]):
      outputs[time] += factors * inputs[time + ahead]
  return outputs


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), width=st.integers(1, 5), more=st.integers(1, 3))
def test_values_equal_plain_python(lengths, width, more):
  generator = np.random.default_rng(len(lengths))
  weights = generator.normal(size=[width, UNITS])
  # What lies in the padding is not even a number.
  inputs = np.full([len(lengths), max(lengths) + more, UNITS], np.nan)
  for row, length in zip(inputs, lengths, strict=True):
    row[:length] = generator.normal(size=[length, UNITS])
  outputs = run(inputs, lengths, width, weights)
  for row, whole, length in zip(inputs, outputs, lengths, strict=True):
    np.testing.assert_allclose(whole, plain(np.nan_to_num(row), length, weights), atol=1e-13)


def test_gradients_equal_differences():
  generator = np.random.default_rng(5)
  lengths, weights = [4, 1, 3], generator.normal(size=[3, UNITS])
  inputs, factors = generator.normal(size=[2, 3, 5, UNITS])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    padded = tf.constant(inputs)
    batch = packing.plan(tf.constant(lengths), 5)
    outputs = packing.unpack(row_convolution.row_convolution(packing.pack(padded, batch), batch, 3), batch)
    (variable,) = tf.compat.v1.trainable_variables()
    gradients = tf.gradients(outputs, [padded, variable], tf.constant(factors))
    variable.load(weights, session)
    d_inputs, d_weights = session.run(gradients)

  def total(inputs, weights):
    return sum((plain(*each, weights) * factor).sum() for *each, factor in zip(inputs, lengths, factors, strict=True))

  for place in np.ndindex(*inputs.shape):
    step = np.zeros_like(inputs)
    step[place] = 0.5
    assert d_inputs[place] == pytest.approx(total(inputs + step, weights) - total(inputs - step, weights), abs=1e-12)
  for place in np.ndindex(*weights.shape):
    step = np.zeros_like(weights)
    step[place] = 0.5
    assert d_weights[place] == pytest.approx(total(inputs, weights + step) - total(inputs, weights - step), abs=1e-12)


def test_in_half_precision_sums_are_exact_and_rounded_once():
  generator = np.random.default_rng(6)
  inputs = (generator.integers(-8, 9, [2, 6, UNITS]) / 4).astype(np.float32)
  weights = (generator.integers(-8, 9, [4, UNITS]) / 64).astype(np.float32)
  outputs = run(inputs, [6, 4], 4, weights, tf.bfloat16)
  for row, whole, length in zip(inputs, outputs, [6, 4], strict=True):
    np.testing.assert_allclose(whole, plain(row, length, weights), rtol=2**-8)


def test_first_weights_are_small_and_keep_the_size_of_what_they_add():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    batch = packing.plan(tf.constant([2]), 2)
    row_convolution.row_convolution(tf.zeros([2, 4000]), batch, 5)
    session.run(tf.compat.v1.global_variables_initializer())
    (weights,) = session.run(tf.compat.v1.trainable_variables())
  assert weights.shape == (5, 4000)
  assert np.abs(weights).max() <= np.sqrt(3 / 5)
  assert weights.var() == pytest.approx(1 / 5, rel=0.05)
