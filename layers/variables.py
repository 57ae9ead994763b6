"""How the variables of a network begin, and in which number format they are kept."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from official_utils.lazy import tf


@dataclass(frozen=True)
class Drawn:
  """An initializer that draws numbers at random.

  Attributes:
    draw: (shape, number format, seed) -> the numbers; the format is single precision at least.
    seed: None leaves it to TensorFlow.
  """

  draw: Callable
  seed: int | None = None

  def __call__(self, shape: Sequence[int], dtype: "tf.DType" = None) -> "tf.Tensor":
    """Draw the initial value of a variable."""
    return tf.cast(self.draw(shape, stored_dtype(dtype), self.seed), dtype)


def is_half(dtype: "tf.DType") -> bool:
  """Tell whether a number format has 16 bits."""
  return dtype.size == 2


def stored_dtype(dtype: "tf.DType") -> "tf.DType":
  """Return the number format of the variables of a layer that computes in the given one: single precision at least."""
  return tf.float32 if is_half(dtype) else dtype


def make_value(name: str, shape: Sequence[int], dtype: "tf.DType", initializer: Any = None) -> "tf.Tensor":
  """Make a variable and return its value in the number format that a layer computes in.

  Args:
    name: the variable's name.
    shape: its shape.
    dtype: the layer's number format.
    initializer: None for TensorFlow's default, glorot uniform.
  """
  return tf.cast(tf.compat.v1.get_variable(name, shape, stored_dtype(dtype), initializer), dtype)


def seeded_by_name(getter: Callable, name: str, initializer: Any = None, **settings: Any) -> "tf.Variable":
  """Make a variable whose initial value depends on the graph's seed and its own name, not on the rest of the graph.

  Args:
    getter: makes it; variable scopes call this function as a custom getter.
    name: the variable's name.
    initializer: None for TensorFlow's default, which draws at random; one that is Drawn gets its seed here.
    **settings: passed on to the getter.
  """
  seed = zlib.crc32(name.encode()) // 2
  if initializer is None:
    initializer = tf.compat.v1.glorot_uniform_initializer(seed=seed)
  elif isinstance(initializer, Drawn):
    initializer = replace(initializer, seed=seed)
  return getter(name, initializer=initializer, **settings)
