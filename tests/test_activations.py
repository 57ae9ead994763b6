"""Holds each activation against numpy, and its chain rule against automatic differentiation."""

import numpy as np
import pytest

from layers.activations import ACTIVATIONS
from official_utils.lazy import tf

FORMULAS = {
  "tanh": np.tanh,
  "relu": lambda x: np.maximum(x, 0),
  "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
  "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("num_factors", [0, 1, 2])
def test_values_and_derivatives(name, num_factors):
  # Beyond both ends of the hard sigmoid, and not on its kinks or that of relu.
  sums = np.linspace(-4.1, 4.3, 50)
  factors = np.random.default_rng(1).normal(size=[num_factors, 50])
  activation = ACTIVATIONS[name]
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = tf.constant(sums)
    outputs = activation.apply(inputs)
    ours = activation.chain(outputs, *map(tf.constant, factors))
    expected = tf.gradients(outputs, inputs, tf.constant(factors.prod(axis=0)))
    values, ours, (expected,) = session.run([outputs, ours, expected])
  np.testing.assert_allclose(values, FORMULAS[name](sums), atol=1e-14)
  np.testing.assert_allclose(ours, expected, atol=1e-13)
  assert np.ptp(ours) > 0.1
