"""How the variables of a network begin."""

import zlib
from collections.abc import Callable
from typing import Any

from official_utils.lazy import tf


def seeded_by_name(getter: Callable, name: str, initializer: Any = None, **settings: Any) -> "tf.Variable":
  """Make a variable whose initial value depends on the graph's seed and its own name, not on the rest of the graph.

  Args:
    getter: makes it; variable scopes call this function as a custom getter.
    name: the variable's name.
    initializer: None for TensorFlow's default, which draws at random.
    **settings: passed on to the getter.
  """
  if initializer is None:
    initializer = tf.compat.v1.glorot_uniform_initializer(seed=zlib.crc32(name.encode()) // 2)
  return getter(name, initializer=initializer, **settings)
