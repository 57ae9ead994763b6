"""Steps a tiny problem whose gradient can be made to overflow, on one device and on two replicas."""

import numpy as np
import pytest

from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from training import optimizer

SCALE = optimizer.INITIAL_SCALE


class Problem:
  """Minimises factor * weight ** 2 by gradient descent, and shows what the step did."""

  def __init__(self, scale, doubling_period: int = 3):
    with tf.Graph().as_default() as graph:
      self.factor = tf.compat.v1.placeholder(tf.float32, [])
      self.weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.constant_initializer(2.0))
      loss = self.factor * tf.square(self.weight)
      step = tf.compat.v1.train.get_or_create_global_step()
      descent = tf.compat.v1.train.GradientDescentOptimizer(0.125)
      self.train_op = optimizer.minimize_scaled(descent, loss, step, scale, doubling_period)
      self.variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
      self.session = tf.compat.v1.Session(graph=graph)
      self.session.run(tf.compat.v1.global_variables_initializer())

  def step(self, factor: float = 1.0) -> float:
    """Train one step; return the weight."""
    self.session.run(self.train_op, {self.factor: factor})
    return self.value("weight")

  def value(self, name: str) -> float:
    return self.session.run(self.variables[name])


@pytest.mark.parametrize("scale", [1, 128, "dynamic"])
def test_the_scale_does_not_show_in_the_update(scale):
  problem = Problem(scale)
  assert [problem.step() for _ in range(5)] == [2 * 0.75**count for count in range(1, 6)]
  assert problem.value("global_step") == 5


@pytest.mark.parametrize(("scale", "survives"), [(1, False), (2.0**14, True), ("dynamic", True)])
def test_a_gradient_too_small_for_half_precision_survives(scale, survives):
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.constant_initializer(1.0))
    # The gradient passes through fp16, whose smallest number is 2 ** -24.
    loss = tf.cast(tf.cast(weight, tf.float16), tf.float32) * 2.0**-26
    step = tf.compat.v1.train.get_or_create_global_step()
    train_op = optimizer.minimize_scaled(tf.compat.v1.train.GradientDescentOptimizer(2.0**25), loss, step, scale)
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(train_op)
    assert session.run(weight) == (0.5 if survives else 1.0)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_dynamic_scale_doubles_halves_and_skips(bad):
  problem = Problem("dynamic")
  scales, weights = [], []
  for factor in (1, 1, 1, bad, bad, 1, 1, bad, 1, 1, 1):
    weights.append(problem.step(factor))
    scales.append(problem.value("loss_scale/current_loss_scale") / SCALE)
  # A bad step also starts the count of good ones anew.
  assert scales == [1, 1, 2, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5]
  good = np.cumsum([1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 1])
  assert weights == [2 * 0.75**count for count in good]
  assert problem.value("global_step") == 11


def test_a_static_scale_has_no_variables_and_a_dynamic_one_goes_into_the_checkpoint():
  assert list(Problem(128).variables) == list(Problem(1).variables) == ["weight", "global_step"]
  added = ["loss_scale/current_loss_scale", "loss_scale/good_steps"]
  assert list(Problem("dynamic").variables) == ["weight", "global_step", *added]


def test_replicas_skip_together(tmp_path):
  """The third step overflows on the second replica alone."""
  devices = ["/cpu:0", "/cpu:1"]
  factors = np.float32([1, 1, 1, 1, 1, np.inf, 1, 1])

  def model_fn(features, labels, mode):
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.constant_initializer(2.0))
    loss = tf.reduce_sum(features) * tf.square(weight)
    descent, step = tf.compat.v1.train.GradientDescentOptimizer(0.125), tf.compat.v1.train.get_global_step()
    return tf_estimator.EstimatorSpec(
      mode, loss=loss, train_op=optimizer.minimize_scaled(descent, loss, step, "dynamic")
    )

  config = tf_estimator.RunConfig(
    session_config=distribution_utils.session_config(devices),
    train_distribute=distribution_utils.get_distribution_strategy(devices),
  )
  estimator = tf_estimator.Estimator(model_fn, model_dir=str(tmp_path), config=config)
  estimator.train(lambda: tf.data.Dataset.from_tensor_slices(factors).batch(1))
  assert estimator.get_variable_value("weight") == 2 * 0.75**3
  assert estimator.get_variable_value("loss_scale/current_loss_scale") == SCALE / 2
  assert estimator.get_variable_value("global_step") == 4


@pytest.mark.parametrize("scale", [1, 128, "dynamic"])
def test_the_state_is_what_a_checkpoint_holds_beside_the_weights(scale):
  chosen = optimizer.Optimizer(0.1, scale)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    weight = tf.compat.v1.get_variable("layer/weight", [3, 2])
    bias = tf.compat.v1.get_variable("bias", [2])
    train_op = chosen.minimize(tf.reduce_sum(weight) + tf.reduce_sum(bias))
    names = ("learning_rate:0", "cross_entropy:0")
    assert [tf.compat.v1.get_default_graph().get_tensor_by_name(name).shape for name in names] == [[], []]
    shapes = {variable.op.name: variable.shape.as_list() for variable in tf.compat.v1.global_variables()}
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(train_op)
    assert session.run(tf.compat.v1.train.get_global_step()) == 1
  trainable = {"layer/weight": [3, 2], "bias": [2]}
  assert shapes == trainable | chosen.state_shapes(trainable)
