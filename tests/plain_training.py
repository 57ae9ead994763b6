"""A tiny problem of training, solved by the product and by plain numpy."""

import numpy as np

from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from training.optimizer import Optimizer

_RNG = np.random.default_rng(3)
INPUTS = _RNG.normal(size=[24, 3]).astype(np.float32)
TARGETS = _RNG.normal(size=[24, 2]).astype(np.float32)
KERNEL = _RNG.normal(size=[3, 2]).astype(np.float32)
BIAS = np.float32([0.5, -0.5])
HUGE = 1e20


def bad(row: int) -> np.ndarray:
  """Return the inputs with a row so large that its gradient is infinite."""
  inputs = INPUTS.copy()
  inputs[row] = HUGE
  return inputs


def train(folder, chosen: Optimizer, batch_size: int, devices=("/cpu:0",), inputs=INPUTS, rows=slice(0, None)) -> dict:
  """Train on rows in one call of the Estimator; return the variables by name."""

  def model_fn(features, labels, mode):
    kernel = tf.compat.v1.get_variable("layer/kernel", initializer=KERNEL)
    bias = tf.compat.v1.get_variable("layer/bias", initializer=BIAS)
    loss = tf.reduce_mean(tf.reduce_sum(tf.square(features @ kernel + bias - labels), axis=1))
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=chosen.minimize(loss))

  config = tf_estimator.RunConfig(
    session_config=distribution_utils.session_config(devices),
    train_distribute=distribution_utils.get_distribution_strategy(devices),
  )
  estimator = tf_estimator.Estimator(model_fn, model_dir=str(folder), config=config)
  data = inputs[rows], TARGETS[rows]
  estimator.train(lambda: tf.data.Dataset.from_tensor_slices(data).batch(batch_size // len(devices)))
  return {name: estimator.get_variable_value(name) for name in estimator.get_variable_names()}


def gradients(weights: dict, inputs, targets) -> dict:
  """Compute the gradient of the mean loss of a batch."""
  errors = 2 * (inputs @ weights["kernel"] + weights["bias"] - targets) / len(inputs)
  return {"kernel": inputs.T @ errors, "bias": errors.sum(0)}


class PlainOptimizer:
  """The rules in numpy, in double precision; `weights` and `averages` are by name."""

  def __init__(self, chosen: Optimizer):
    self._chosen = chosen
    self.weights = {"kernel": KERNEL.astype(np.float64), "bias": BIAS.astype(np.float64)}
    self.averages = dict(self.weights)
    self.norms: list[float] = []
    self._first = dict.fromkeys(self.weights, 0.0)
    self._second = dict.fromkeys(self.weights, 0.0)
    self._times = 0

  def update(self, mean: dict, done: int, rate: float) -> None:
    """Update the weights with a gradient, after `done` steps, with a learning rate."""
    chosen = self._chosen
    norm = np.sqrt(sum(np.square(each).sum() for each in mean.values()))
    self.norms.append(norm)
    shrink = min(1, chosen.clip_norm / norm) if chosen.clip_norm else 1
    self._times += 1
    keep = min(chosen.ema_decay or 0, (1 + done) / (10 + done))
    for name, before in self.weights.items():
      gradient, after = mean[name] * shrink, before
      decay = chosen.weight_decay or 0 if name == "kernel" else 0
      if chosen.optimizer == "adamw":
        after = before - rate * decay * before
      else:
        gradient = gradient + decay * before
      self.weights[name] = after - rate * self._direction(name, gradient)
      self.averages[name] = keep * self.averages[name] + (1 - keep) * self.weights[name]

  def _direction(self, name, gradient):
    if self._chosen.optimizer in ("momentum", "nesterov"):
      velocity = self._first[name] = self._chosen.momentum * self._first[name] + gradient
      return velocity if self._chosen.optimizer == "momentum" else gradient + self._chosen.momentum * velocity
    self._first[name] = 0.9 * self._first[name] + 0.1 * gradient
    self._second[name] = 0.999 * self._second[name] + 0.001 * gradient**2
    first, second = self._first[name] / (1 - 0.9**self._times), self._second[name] / (1 - 0.999**self._times)
    # TensorFlow adds its epsilon to the root before the correction.
    return first / (np.sqrt(second) + 1e-8 / np.sqrt(1 - 0.999**self._times))


def train_plainly(chosen: Optimizer, batch_size: int, rates, inputs=INPUTS) -> PlainOptimizer:
  """Train on all rows; the rates are those of the updates, and batches with a bad row are left out."""
  plain, waiting = PlainOptimizer(chosen), []
  for number, start in enumerate(range(0, len(inputs), batch_size)):
    rows = slice(start, start + batch_size)
    if HUGE in inputs[rows]:
      continue
    waiting.append(gradients(plain.weights, inputs[rows].astype(np.float64), TARGETS[rows]))
    if len(waiting) == chosen.accumulate_steps:
      done = number // chosen.accumulate_steps
      plain.update(
        {name: np.mean([each[name] for each in waiting], axis=0) for name in plain.weights}, done, rates[done]
      )
      waiting = []
  return plain


def assert_close(found: dict, plain: PlainOptimizer) -> None:
  """Compare the variables of a checkpoint with those of numpy."""
  for name, value in plain.weights.items():
    np.testing.assert_allclose(found[f"layer/{name}"], value, rtol=2e-5, atol=2e-6, err_msg=name)
    if f"layer/{name}/average" in found:
      np.testing.assert_allclose(found[f"layer/{name}/average"], plain.averages[name], rtol=2e-5, atol=2e-6)
