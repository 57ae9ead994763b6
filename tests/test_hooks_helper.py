"""Tests of hooks by name, in the Estimator on one and on two devices."""

import subprocess
import sys

import pytest
from sessions import metrics

from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.logs import hooks, hooks_helper, logger, metric_hook
from official_utils.misc import distribution_utils


def _model_fn(features, labels, mode, params):
  """Fit a line; name the tensors that hooks look for."""
  weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
  loss = tf.reduce_mean(tf.square(features * weight - labels))
  tf.identity(loss, name="cross_entropy")
  tf.identity(params["learning_rate"], name="learning_rate")
  optimizer = tf.compat.v1.train.GradientDescentOptimizer(params["learning_rate"])
  train_op = optimizer.minimize(loss, global_step=tf.compat.v1.train.get_or_create_global_step())
  return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@pytest.mark.parametrize("devices", [["/cpu:0"], ["/cpu:0", "/cpu:1"]])
def test_every_hook_works_in_the_estimator(tmp_path, caplog, devices):
  model_dir, log_dir = tmp_path / "model", tmp_path / "log"
  config = tf_estimator.RunConfig(
    session_config=distribution_utils.session_config(devices),
    train_distribute=distribution_utils.get_distribution_strategy(devices),
  )
  estimator = tf_estimator.Estimator(_model_fn, str(model_dir), config, {"learning_rate": 0.25})
  hook_list = hooks_helper.get_train_hooks(
    ["LoggingTensorHook", "ProfilerHook", "examplespersecondhook", "LOGGINGMETRICHOOK"],
    model_dir=str(model_dir),
    batch_size=2,
    every_n_iter=4,
    every_n_steps=3,
    warm_steps=1,
    save_steps=4,
    metric_logger=logger.BenchmarkFileLogger(str(log_dir)),
  )
  with caplog.at_level("INFO", logger="absl"):
    estimator.train(lambda: tf.data.Dataset.from_tensors(([1.0], [1.0])).repeat(), hooks=hook_list, steps=6)
  # Each step halves the distance from the weight to 1, with any number of replicas: their gradients are averaged.
  assert [line for line in caplog.messages if line.startswith("step ")] == [
    "step 1: learning_rate = 0.25, cross_entropy = 1",
    "step 5: learning_rate = 0.25, cross_entropy = 0.00390625",
  ]
  assert sorted(path.name for path in model_dir.glob("timeline-*.json")) == ["timeline-2.json", "timeline-6.json"]
  names_and_steps = [(name, step) for name, _, step in metrics(log_dir)]
  assert names_and_steps == [
    ("learning_rate", 1),
    ("cross_entropy", 1),
    ("average_examples_per_sec", 4),
    ("current_examples_per_sec", 4),
    ("average_examples_per_sec", 6),
    ("current_examples_per_sec", 6),
  ]


def test_names_of_hooks():
  assert hooks_helper.get_train_hooks(None) == []
  assert hooks_helper.get_train_hooks([]) == []
  with pytest.raises(ValueError, match="no training hook 'NoHook'; the hooks are loggingtensorhook, profilerhook"):
    hooks_helper.get_train_hooks(["ProfilerHook", "NoHook"], model_dir="/tmp")


def test_each_name_makes_its_hook(tmp_path):
  made = hooks_helper.get_train_hooks(list(hooks_helper.HOOKS), model_dir=str(tmp_path), batch_size=4)
  assert [type(hook) for hook in made] == [
    hooks.LoggingTensorHook,
    hooks.ProfilerHook,
    hooks.ExamplesPerSecondHook,
    metric_hook.LoggingMetricHook,
  ]


def test_the_registry_does_not_load_tensorflow():
  code = "import sys; from official_utils.logs import hooks_helper; assert 'tensorflow' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], check=True)
