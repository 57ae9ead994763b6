"""Shows what dropout leaves out, how much, and what it depends on."""

import numpy as np
import pytest

from layers import packing
from layers.dropout import dropout
from official_utils.lazy import tf
from official_utils.misc import distribution_utils

FEATURES = 400


def drop(lengths=(3, 5, 1), num_steps=6, rate=0.4, layer=1, seed=7, step=3, dtype=tf.float32):
  """Drop of rows that are all one; return [batch, time, features]."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.set_random_seed(seed)
    if step is not None:
      tf.compat.v1.train.get_or_create_global_step().load(step, session)
    batch = packing.plan(tf.constant(lengths), num_steps)
    rows = tf.ones([sum(lengths), FEATURES], dtype)
    outputs = dropout(rows, batch, rate, layer)
    assert outputs.dtype == dtype
    return session.run(tf.cast(packing.unpack(outputs, batch), tf.float32))


def test_the_mean_stays_and_the_share_is_the_rate():
  outputs = drop(lengths=[1] * 100, num_steps=1, rate=0.3)
  assert set(np.unique(outputs)) == {0, np.float32(1 / 0.7)}
  assert outputs.mean() == pytest.approx(1, abs=0.02)
  assert (outputs == 0).mean() == pytest.approx(0.3, abs=0.01)
  assert np.ptp((outputs == 0).mean(axis=0)) < 0.4


def test_all_steps_of_an_utterance_have_the_same_features():
  outputs = drop()
  for row, length in zip(outputs, (3, 5, 1), strict=True):
    np.testing.assert_array_equal(row[:length], np.tile(row[:1], [length, 1]))
    assert not row[length:].any()
  assert (outputs[0, 0] != outputs[1, 0]).any()


def test_it_can_be_drawn_again_whatever_the_lengths_and_the_padding():
  outputs = drop()
  np.testing.assert_array_equal(drop(), outputs)
  np.testing.assert_array_equal(drop(num_steps=40)[:, :6], outputs)
  # Other lengths, and another utterance behind them.
  np.testing.assert_array_equal(drop(lengths=(2, 2, 6, 4))[:3, :1], outputs[:, :1])


@pytest.mark.parametrize("change", [{"seed": 8}, {"step": 4}, {"layer": 2}, {"step": None}])
def test_what_it_depends_on(change):
  outputs, other = drop()[:, 0], drop(**change)[:, 0]
  # As often alike as two independent draws: 0.6 squared and 0.4 squared.
  assert ((outputs == 0) == (other == 0)).mean() == pytest.approx(0.52, abs=0.06)


def test_replicas_draw_differently():
  devices = ["/cpu:0", "/cpu:1"]
  strategy = distribution_utils.get_distribution_strategy(devices)
  with tf.Graph().as_default(), strategy.scope():
    batch = packing.plan(tf.constant([2, 1]), 2)
    outputs = strategy.run(lambda: dropout(tf.ones([3, FEATURES]), batch, 0.4, 1))
    with tf.compat.v1.Session(config=distribution_utils.session_config(devices)) as session:
      first, second = session.run(strategy.experimental_local_results(outputs))
  assert ((first == 0) == (second == 0)).mean() == pytest.approx(0.52, abs=0.06)


def test_nothing_is_dropped_at_rate_zero():
  rows = object()
  assert dropout(rows, None, 0.0, 1) is rows


def test_half_precision_drops_the_same():
  np.testing.assert_array_equal(drop(dtype=tf.bfloat16) == 0, drop() == 0)


def test_gradients_pass_through_what_is_kept():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    batch, rows = packing.plan(tf.constant([2, 1]), 2), tf.ones([3, FEATURES])
    outputs = dropout(rows, batch, 0.4, 1)
    values, (gradient,) = session.run([outputs, tf.gradients(outputs, rows)])
  np.testing.assert_array_equal(gradient, values)
