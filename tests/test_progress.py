"""Follows real sessions with the progress hook."""

import pytest

from official_utils.lazy import tf
from training import progress


def test_adds_up_losses_and_waits_of_all_replicas():
  with tf.Graph().as_default():
    step = tf.compat.v1.train.get_or_create_global_step()
    tf.identity(tf.cast(step, tf.float32), name="cross_entropy")
    tf.constant(0.5, tf.float64, name="input_wait")
    tf.identity(0.25, name="learning_rate")
    with tf.name_scope("replica_1"):
      tf.identity(10.0, name="cross_entropy")
      tf.constant(2.0, tf.float64, name="input_wait")
    hook = progress.ProgressHook(num_replicas=2)
    advance = tf.compat.v1.assign_add(step, 1)
    with tf.compat.v1.train.MonitoredSession(hooks=[hook]) as session:
      losses = [session.run(["cross_entropy:0", advance])[0] for _ in range(4)]
  assert hook.steps == 4
  assert hook.mean_loss == pytest.approx((sum(losses) / 4 + 10) / 2, abs=0.5)
  assert hook.seconds > 0
  assert hook.learning_rate == 0.25
  assert hook.input_wait == pytest.approx(4 * 2.0 / hook.seconds)


def test_no_step_is_no_loss():
  hook = progress.ProgressHook(num_replicas=1)
  assert hook.mean_loss == hook.input_wait == 0
