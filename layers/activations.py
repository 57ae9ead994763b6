"""The activations of recurrent cells, each with its derivative in terms of its own output, which is all that is kept."""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

from official_utils.lazy import tf


class Activation(NamedTuple):
  """An activation.

  Attributes:
    apply: from sums to outputs.
    chain: from (outputs, *factors) to the product of the factors and the derivative: the chain rule.
  """

  apply: Callable
  chain: Callable


def _product(*factors):
  """Multiply from left to right, an order that keeps every bit of a network of an earlier version."""
  return functools.reduce(operator.mul, factors)


def _hard_sigmoid(sums):
  """Approximate the sigmoid by a line of slope 0.2 between 0 and 1."""
  return tf.clip_by_value(0.2 * sums + 0.5, 0.0, 1.0)


ACTIVATIONS: dict[str, Activation] = {
  "tanh": Activation(lambda sums: tf.tanh(sums), lambda outputs, *factors: _product(*factors, 1 - outputs * outputs)),
  "relu": Activation(
    lambda sums: tf.nn.relu(sums),
    lambda outputs, *factors: _product(*factors, tf.cast(outputs > 0, outputs.dtype)),
  ),
  "sigmoid": Activation(
    lambda sums: tf.sigmoid(sums), lambda outputs, *factors: _product(outputs, *factors, 1 - outputs)
  ),
  "hard_sigmoid": Activation(
    _hard_sigmoid,
    lambda outputs, *factors: _product(*factors, 0.2 * tf.cast((outputs > 0) & (outputs < 1), outputs.dtype)),
  ),
}
