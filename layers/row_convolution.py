"""The row convolution, which lets layers that only read forward see a few steps ahead."""

import math

from layers import packing, variables
from official_utils.lazy import tf


def row_convolution(rows: "tf.Tensor", batch: packing.Packing, width: int) -> "tf.Tensor":
  """Weigh and add up a step and those after it, each unit by itself; beyond an utterance's end there are zeros.

  Args:
    rows: [rows, units].
    batch: where the rows are.
    width: the steps that are added up, 1 for the step alone.

  Returns:
    Rows of the same shape and number format; in half precision, computed in single precision.
  """
  units, dtype = rows.shape[1], variables.stored_dtype(rows.dtype)
  with tf.compat.v1.variable_scope("row_convolution"):
    weights = variables.make_value("weights", [width, units], dtype, variables.Drawn(_draw))
  ahead = tf.cast(rows, dtype)
  outputs = ahead * weights[0]
  for number in range(1, width):
    ahead = packing.later(ahead, batch)
    outputs += ahead * weights[number]
  return tf.cast(outputs, rows.dtype)


def _draw(shape, dtype, seed):
  """Draw glorot weights: every number has as many inputs as outputs, the width."""
  limit = math.sqrt(3 / shape[0])
  return tf.random.uniform(shape, -limit, limit, dtype, seed=seed)
