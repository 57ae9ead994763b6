"""Tries the real Estimator on the TensorFlow at hand: train, evaluate, predict, two replicas."""

import gc
import weakref

import numpy as np
import pytest

from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError


def linear_model_fn(features, labels, mode):
  weights = tf.compat.v1.get_variable("w", [2, 1], initializer=tf.compat.v1.zeros_initializer())
  outputs = tf.matmul(features["x"], weights)
  if mode == tf_estimator.ModeKeys.PREDICT:
    return tf_estimator.EstimatorSpec(mode, predictions={"y": outputs})
  loss = tf.reduce_mean(tf.math.squared_difference(outputs, labels))
  metrics = {"bias": tf.compat.v1.metrics.mean(outputs - labels)}
  optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
  train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
  return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops=metrics)


def ones_input_fn():
  pair = ({"x": np.ones((4, 2), np.float32)}, np.full((4, 1), 3, np.float32))
  return tf.data.Dataset.from_tensors(pair).repeat(40)


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_trains_evaluates_and_predicts(tmp_path, num_replicas):
  devices = [f"/cpu:{number}" for number in range(num_replicas)]
  # In a graph: the process's eager context may have begun with one CPU already.
  with tf.Graph().as_default():
    strategy = tf.distribute.MirroredStrategy(devices)
  config = tf_estimator.RunConfig(
    train_distribute=strategy if num_replicas > 1 else None,
    session_config=tf.compat.v1.ConfigProto(device_count={"CPU": num_replicas}, allow_soft_placement=True),
  )
  estimator = tf_estimator.Estimator(linear_model_fn, str(tmp_path), config)
  estimator.train(ones_input_fn)
  assert estimator.get_variable_value("global_step") == 40 // num_replicas
  assert abs(estimator.evaluate(ones_input_fn)["bias"]) < 1e-3
  np.testing.assert_allclose(next(estimator.predict(ones_input_fn))["y"], 3, atol=1e-3)


def test_graphs_with_gradients_of_their_own_are_released():
  @tf.custom_gradient
  def twice(inputs):
    return 2 * inputs, lambda gradient: 2 * gradient

  with tf_estimator.released_graphs():
    with tf.Graph().as_default() as graph:
      inputs = tf.constant(3.0)
      gradients = tf.gradients(twice(inputs), inputs)
      assert tf.compat.v1.Session().run(gradients) == [2.0]
    kept = weakref.ref(graph)
    del graph, inputs, gradients
  gc.collect()
  assert kept() is None


def test_nothing_but_our_names():
  with pytest.raises(AttributeError, match="no attribute 'DNNClassifier'"):
    tf_estimator.DNNClassifier  # noqa: B018


def test_version_window():
  for version in ("2.15.1", "2.21.0", "2.18.0-rc1"):
    tf_estimator.check_version(version)
  with pytest.raises(UserError, match="2.14.1 is too old.*make venv"):
    tf_estimator.check_version("2.14.1")
