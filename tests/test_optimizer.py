"""Steps a tiny problem whose gradient can be made to overflow, on one device and on two replicas."""

import numpy as np
import pytest

from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from training import optimizer
from training.schedules import Schedule

SCALE = optimizer.INITIAL_SCALE


class Problem:
  """Minimises factor * weight ** 2 by gradient descent, and shows what the step did."""

  def __init__(self, scale, doubling_period: int = 3, clip_norm: float | None = None):
    with tf.Graph().as_default() as graph:
      self.factor = tf.compat.v1.placeholder(tf.float32, [])
      self.weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.constant_initializer(2.0))
      loss = self.factor * tf.square(self.weight)
      step = tf.compat.v1.train.get_or_create_global_step()
      descent = tf.compat.v1.train.GradientDescentOptimizer(0.125)
      self.train_op = optimizer.minimize_scaled(descent, loss, step, scale, doubling_period, clip_norm)
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


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_norm_that_hooks_see_is_that_before_clipping(clip_norm):
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    weights = [tf.compat.v1.get_variable(name, [], initializer=tf.compat.v1.zeros_initializer()) for name in "ab"]
    train_op = optimizer.Optimizer(0.1, clip_norm=clip_norm).minimize(3 * weights[0] - 4 * weights[1])
    session.run(tf.compat.v1.global_variables_initializer())
    assert session.run(["gradient_norm:0", train_op])[0] == 5


def test_between_updates_there_is_no_norm():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
    train_op = optimizer.Optimizer(0.1, accumulate_steps=3).minimize(-2 * weight)
    session.run(tf.compat.v1.global_variables_initializer())
    norms = [session.run(["gradient_norm:0", train_op])[0] for _ in range(6)]
  np.testing.assert_array_equal(norms, [np.nan, np.nan, 2, np.nan, np.nan, 2])


def test_a_schedule_counts_updates():
  chosen = optimizer.Optimizer(0.1, accumulate_steps=4, schedule=Schedule("cosine"))
  assert chosen.of_run(lambda: 17).schedule.total_steps == 5
  assert chosen.of_run(None) == chosen


def clipped(gradients, clip_norm):
  """Clip by the plain rule."""
  norm = np.sqrt(sum(np.sum(np.square(gradient, dtype=np.float64)) for gradient in gradients))
  return [gradient * min(1, clip_norm / norm) for gradient in gradients]


@pytest.mark.parametrize("scale", [1, 128, "dynamic"])
@pytest.mark.parametrize("clip_norm", [0.5, 5.0, 1e6])
def test_gradients_are_clipped_by_the_norm_of_all_variables(clip_norm, scale):
  rng = np.random.default_rng(0)
  targets = [rng.normal(size=shape).astype(np.float32) for shape in ([3, 2], [4], [])]
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    weights = [tf.compat.v1.get_variable(f"weight_{n}", target.shape) for n, target in enumerate(targets)]
    # Has no gradient, and no part in the norm.
    tf.compat.v1.get_variable("idle", [2])
    losses = [tf.reduce_sum(tf.square(each - target)) for each, target in zip(weights, targets, strict=True)]
    step = tf.compat.v1.train.get_or_create_global_step()
    descent = tf.compat.v1.train.GradientDescentOptimizer(0.25)
    train_op = optimizer.minimize_scaled(descent, tf.add_n(losses), step, scale, clip_norm=clip_norm)
    session.run(tf.compat.v1.global_variables_initializer())
    expected = session.run(weights)
    for _ in range(4):
      gradients = clipped([2 * (each - target) for each, target in zip(expected, targets, strict=True)], clip_norm)
      expected = [each - 0.25 * gradient for each, gradient in zip(expected, gradients, strict=True)]
      session.run(train_op)
      for value, wanted in zip(session.run(weights), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_bad_step_is_skipped_with_clipping_too(bad):
  problem = Problem("dynamic", clip_norm=1.0)
  weights = [problem.step(factor) for factor in (1, bad, 1)]
  # Each step goes 0.125 x 1 down.
  assert weights == [1.875, 1.875, 1.75]
  assert problem.value("loss_scale/current_loss_scale") == SCALE / 2
  assert problem.value("global_step") == 3


# Utterances of a batch of four: of the first two, of the last two, and of all, the gradients are long, long and short.
INPUTS = np.float32([[8, 1], [6, -1], [-7, 1], [-6, 0.5]] * 3)


def train_on(folder, devices, scale, clip_norm):
  """Train three steps of four inputs on one device or on two; return the variables by name."""

  def model_fn(features, labels, mode):
    weight = tf.compat.v1.get_variable("weight", [2], initializer=tf.compat.v1.constant_initializer(2.0))
    bias = tf.compat.v1.get_variable("bias", [], initializer=tf.compat.v1.constant_initializer(1.0))
    loss = tf.reduce_mean(tf.linalg.matvec(features, weight) + bias * features[:, 1])
    chosen = optimizer.Optimizer(
      0.125, loss_scale=scale, clip_norm=clip_norm, schedule=Schedule("cosine", 1, total_steps=4)
    )
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=chosen.minimize(loss))

  config = tf_estimator.RunConfig(
    session_config=distribution_utils.session_config(devices),
    train_distribute=distribution_utils.get_distribution_strategy(devices),
  )
  estimator = tf_estimator.Estimator(model_fn, model_dir=str(folder), config=config)
  estimator.train(lambda: tf.data.Dataset.from_tensor_slices(INPUTS).batch(4 // len(devices)))
  return {name: estimator.get_variable_value(name) for name in estimator.get_variable_names()}


@pytest.mark.parametrize("scale", [1, 128, "dynamic"])
@pytest.mark.parametrize("clip_norm", [0.25, 1.0])
def test_two_replicas_clip_as_one_device_does(clip_norm, scale, tmp_path):
  """The whole gradient is about 0.6 long: 1.0 leaves it alone, though each replica's part is longer than that."""
  one = train_on(tmp_path / "one", ["/cpu:0"], scale, clip_norm)
  two = train_on(tmp_path / "two", ["/cpu:0", "/cpu:1"], scale, clip_norm)
  assert one.keys() == two.keys()
  for name, value in one.items():
    np.testing.assert_allclose(two[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
  gradients = INPUTS[:4].mean(0), INPUTS[:4].mean(0)[1]
  moments = [0.1 * (1 + 0.9 + 0.81) * gradient for gradient in clipped(gradients, clip_norm)]
  np.testing.assert_allclose(two["weight/Adam"], moments[0], rtol=1e-4)
  np.testing.assert_allclose(two["bias/Adam"], moments[1], rtol=1e-4)


def graph_of(build) -> list:
  with tf.Graph().as_default() as graph:
    step = tf.compat.v1.train.get_or_create_global_step()
    weight = tf.compat.v1.get_variable("weight", [3, 2])
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, tf.no_op())
    build(tf.reduce_sum(weight), step)
    return list(graph.as_graph_def().node)


@pytest.mark.parametrize("scale", [1, 128.0])
def test_the_default_builds_the_graph_of_plain_adam(scale):
  def build_plainly(loss, step):
    tf.identity(0.1, name="learning_rate")
    tf.identity(loss, name="cross_entropy")
    adam = tf.compat.v1.train.AdamOptimizer(0.1)
    precision = tf.compat.v1.mixed_precision
    with tf.control_dependencies(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)):
      if scale == 1:
        return adam.minimize(loss, step)
      update = precision.MixedPrecisionLossScaleOptimizer(adam, precision.FixedLossScale(scale)).minimize(loss)
      with tf.control_dependencies([update]):
        return tf.group(step.assign_add(1))

  plain = graph_of(build_plainly)
  found = graph_of(lambda loss, _: optimizer.Optimizer(0.1, loss_scale=scale).minimize(loss))
  # Only the norm is new.
  assert [node for node in found if "norm" not in node.name] == plain


def test_the_learning_rate_that_hooks_see_is_that_of_the_step():
  """Adam's first steps along a gradient that never changes are as long as the learning rate."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
    train_op = optimizer.Optimizer(0.5, schedule=Schedule("cosine", 2, total_steps=6)).minimize(weight)
    session.run(tf.compat.v1.global_variables_initializer())
    rates, weights = [], [0.0]
    for _ in range(7):
      rates.append(session.run(["learning_rate:0", train_op])[0])
      weights.append(session.run(weight))
  expected = [0, 0.25, *(0.25 * (1 + np.cos(np.pi * np.arange(5) / 4)))]
  np.testing.assert_allclose(rates, expected, atol=1e-7)
  np.testing.assert_allclose(-np.diff(weights), expected, atol=1e-5)


OPTIONS = {
  "plain": {},
  "clipped": {"clip_norm": 5.0},
  "cosine": {"schedule": Schedule("cosine", 10, total_steps=100)},
  "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
  "nesterov": {"optimizer": "nesterov"},
  "momentum with averages": {"optimizer": "momentum", "ema_decay": 0.9},
  "adam with averages of updates by three batches": {"ema_decay": 0.9, "accumulate_steps": 3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("scale", [1, 128, "dynamic"])
def test_the_state_is_what_a_checkpoint_holds_beside_the_weights(scale, options):
  chosen = optimizer.Optimizer(0.1, loss_scale=scale, **options)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    weight = tf.compat.v1.get_variable("layer/weight", [3, 2])
    bias = tf.compat.v1.get_variable("bias", [2])
    train_op = chosen.minimize(tf.reduce_sum(weight) + tf.reduce_sum(bias))
    names = ("learning_rate:0", "cross_entropy:0", "gradient_norm:0")
    assert [tf.compat.v1.get_default_graph().get_tensor_by_name(name).shape for name in names] == [[], [], []]
    shapes = {variable.op.name: variable.shape.as_list() for variable in tf.compat.v1.global_variables()}
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(train_op)
    assert session.run(tf.compat.v1.train.get_global_step()) == 1
  trainable = {"layer/weight": [3, 2], "bias": [2]}
  assert shapes == trainable | chosen.state_shapes(trainable)
