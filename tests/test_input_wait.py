"""Tests the time that steps wait for their input."""

import time

import numpy as np

from official_utils.lazy import tf
from official_utils.logs import input_wait

SECONDS = 0.2


def run_steps(make_batch, num_steps: int) -> tuple[list[float], list[float]]:
  """Run steps over an input that is prefetched; return the seconds that each waited, and took."""

  def make(number):
    return tf.ensure_shape(tf.numpy_function(make_batch, [number], tf.float32), [])

  with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
    batches = tf.data.Dataset.range(num_steps).map(make).prefetch(2)
    batch = tf.compat.v1.data.make_one_shot_iterator(batches).get_next()
    with tf.name_scope("replica_1"):
      waited = input_wait.seconds_waited(batch)
    assert graph.get_tensor_by_name(f"replica_1/{input_wait.TENSOR_NAME}:0") is waited
    all_waited, all_took = [], []
    for _ in range(num_steps):
      start = time.perf_counter()
      # Work that can begin before the input is there does not hide the wait.
      all_waited.append(session.run([waited, batch + tf.random.uniform([])])[0])
      all_took.append(time.perf_counter() - start)
    return all_waited, all_took


def test_a_step_waits_as_long_as_a_slow_input_takes():
  def slow(number):
    time.sleep(SECONDS)
    return np.float32(number)

  waited, took = run_steps(slow, 3)
  assert max(waited) > SECONDS / 2
  assert all(each <= whole for each, whole in zip(waited, took, strict=True))


def test_no_step_waits_less_than_nothing_or_longer_than_it_takes():
  waited, took = run_steps(np.float32, 50)
  assert all(0 <= each <= whole for each, whole in zip(waited, took, strict=True))
