"""Tries the first values of variables."""

import numpy as np

from layers import variables
from official_utils.lazy import tf


def first_values(seed: int, names, before: int = 0, initializer=None) -> list[np.ndarray]:
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.set_random_seed(seed)
    for _ in range(before):
      tf.constant(0)
    with tf.compat.v1.variable_scope("", custom_getter=variables.seeded_by_name):
      made = [tf.compat.v1.get_variable(name, [3, 4], initializer=initializer) for name in names]
      zeros = tf.compat.v1.get_variable("zeros", [2], initializer=tf.compat.v1.zeros_initializer())
    session.run(tf.compat.v1.global_variables_initializer())
    assert not session.run(zeros).any()
    return session.run(made)


def test_they_follow_from_the_seed_and_the_name_alone():
  one, two = first_values(1, ["one", "two"])
  (again,) = first_values(1, ["two"], before=5)
  np.testing.assert_array_equal(two, again)
  assert not np.array_equal(one, two)
  assert not np.array_equal(one, first_values(2, ["one"])[0])


def test_what_is_drawn_follows_from_the_seed_and_the_name_too():
  def draw(shape, dtype, seed):
    assert dtype == tf.float32
    return tf.random.normal(shape, dtype=dtype, seed=seed)

  def first_values(seed, name, dtype=tf.float32):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      tf.compat.v1.set_random_seed(seed)
      with tf.compat.v1.variable_scope("", custom_getter=variables.seeded_by_name):
        made = tf.compat.v1.get_variable(name, [3, 4], dtype, variables.Drawn(draw))
      session.run(tf.compat.v1.global_variables_initializer())
      return session.run(made)

  one = first_values(1, "one")
  np.testing.assert_array_equal(one, first_values(1, "one"))
  assert not np.array_equal(one, first_values(2, "one"))
  assert not np.array_equal(one, first_values(1, "two"))
  rounded = first_values(1, "one", tf.bfloat16)
  np.testing.assert_array_equal(rounded, one.astype(rounded.dtype))
