"""Follows real sessions with the progress hook."""

import glob
import os

import pytest

from official_utils import checkpoints
from official_utils.lazy import tf
from training import progress


def test_adds_up_losses_and_waits_of_all_replicas():
  with tf.Graph().as_default():
    step = tf.compat.v1.train.get_or_create_global_step()
    tf.identity(tf.cast(step, tf.float32), name="cross_entropy")
    tf.constant(0.5, tf.float64, name="input_wait")
    tf.identity(0.25, name="learning_rate")
    # Not known in every other step.
    norm = tf.where(tf.equal(step % 2, 0), float("nan"), 10.0 * tf.cast(step, tf.float32))
    tf.identity(norm, name="gradient_norm")
    with tf.name_scope("replica_1"):
      tf.identity(10.0, name="cross_entropy")
      tf.constant(2.0, tf.float64, name="input_wait")
    hook = progress.ProgressHook(num_replicas=2)
    with tf.control_dependencies([tf.identity(norm)]):
      advance = tf.compat.v1.assign_add(step, 1)
    with tf.compat.v1.train.MonitoredSession(hooks=[hook]) as session:
      losses = [session.run(["cross_entropy:0", advance])[0] for _ in range(4)]
  assert hook.steps == 4
  assert hook.mean_loss == pytest.approx((sum(losses) / 4 + 10) / 2, abs=0.5)
  assert hook.seconds > 0
  assert hook.learning_rate == 0.25
  assert (hook.gradient_norm, hook.mean_gradient_norm, hook.largest_gradient_norm) == (30, 20, 30)
  assert hook.input_wait == pytest.approx(4 * 2.0 / hook.seconds)


def test_no_step_is_no_loss():
  hook = progress.ProgressHook(num_replicas=1)
  assert hook.mean_loss == hook.input_wait == 0
  assert hook.gradient_norm is hook.mean_gradient_norm is hook.largest_gradient_norm is None


def train(model_dir, num_steps: int, seconds: float | None = None) -> progress.ProgressHook:
  """Count steps in one session, as one call of train does."""
  with tf.Graph().as_default():
    step = tf.compat.v1.train.get_or_create_global_step()
    tf.identity(tf.cast(step, tf.float32) + 3.0, name="cross_entropy")
    tf.constant(0.0, tf.float64, name="input_wait")
    tf.identity(0.25, name="learning_rate")
    tf.identity(7.0, name="gradient_norm")
    advance = tf.compat.v1.assign_add(step, 1)
    follower = progress.ProgressHook(num_replicas=1)
    hooks = [follower, progress.CurvesHook(follower, model_dir), progress.SaverHook(model_dir, 600)]
    if seconds is not None:
      hooks.append(progress.StopHook(follower, seconds))
    session = tf.compat.v1.train.MonitoredTrainingSession(
      checkpoint_dir=model_dir, hooks=hooks, save_checkpoint_secs=None, save_summaries_steps=0, log_step_count_steps=0
    )
    with session:
      while follower.steps < num_steps and not session.should_stop():
        session.run(advance)
  return follower


def test_time_ends_training_after_the_step_in_progress_and_what_was_learned_is_saved(tmp_path):
  model_dir = str(tmp_path)
  assert train(model_dir, 3, seconds=0.0).steps == 1
  assert checkpoints.newest_checkpoint(model_dir).endswith("-1")
  assert train(model_dir, 3, seconds=1e6).steps == 3
  follower = train(model_dir, 10**9, seconds=0.2)
  assert follower.seconds >= 0.2
  assert checkpoints.newest_checkpoint(model_dir).endswith(f"-{4 + follower.steps}")


def read_events(model_dir) -> list:
  """Read what TensorBoard would show."""
  with tf.Graph().as_default():
    tf.compat.v1.summary.FileWriterCache.get(model_dir).flush()
  paths = glob.glob(os.path.join(model_dir, "events.*"))
  return [event for path in paths for event in tf.compat.v1.train.summary_iterator(path)]


def test_curves_have_a_point_every_hundred_steps_and_the_graph_is_described_once(tmp_path):
  model_dir = str(tmp_path)
  follower = train(model_dir, 101)
  described, graphs = os.stat(tmp_path / "graph.pbtxt"), [event for event in read_events(model_dir) if event.graph_def]
  train(model_dir, 2)
  events = read_events(model_dir)
  points = [(event.step, value.tag) for event in events for value in event.summary.value]
  tags = ["loss", "learning_rate", "gradient_norm", "global_step/sec"]
  assert sorted(points) == sorted((step, tag) for step in (1, 101, 102) for tag in tags)
  assert follower.loss == pytest.approx(103, abs=1)
  assert len([event for event in events if event.graph_def]) == len(graphs) > 0
  assert os.stat(tmp_path / "graph.pbtxt") == described
  assert checkpoints.newest_checkpoint(model_dir).endswith("-103")
