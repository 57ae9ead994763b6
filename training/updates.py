"""The rules by which a gradient changes a weight. Loads TensorFlow; import it inside functions."""

from dataclasses import dataclass
from typing import Any

from official_utils.checkpoints import AVERAGE
from official_utils.lazy import tf


@dataclass(frozen=True)
class Around:
  """What is done to a weight beside the optimizer's own update.

  Attributes:
    learning_rate: that of the optimizer.
    weight_decay: None for none. Only kernels decay, which have more than one axis, and not biases or normalisations.
    is_decoupled: whether a decaying weight loses this share of itself, times the learning rate, in each update; if not,
      this share of the weight is added to its gradient.
    average_decay: which share of its average is kept; None to keep no average.
  """

  learning_rate: "tf.Tensor | float"
  weight_decay: float | None = None
  is_decoupled: bool = False
  average_decay: "tf.Tensor | None" = None


def early_decay(decay: float, num_updates: "tf.Tensor") -> "tf.Tensor":
  """Lower the decay of averages at first, so that they soon forget the initial weights.

  Args:
    decay: the decay in the long run.
    num_updates: the updates done so far, an integer scalar.
  """
  done = tf.cast(num_updates, tf.float32)
  return tf.minimum(decay, (1.0 + done) / (10.0 + done))


def make_optimizer(
  name: str, learning_rate: "tf.Tensor | float", momentum: float, around: Around
) -> "tf.compat.v1.train.Optimizer":
  """Make an optimizer.

  Args:
    name: "adam" or "adamw"; "momentum", with the velocity v = momentum v + gradient and weight -= learning_rate v; or
      "nesterov", with weight -= learning_rate (gradient + momentum v).
    learning_rate: the learning rate.
    momentum: that of the last two.
    around: what else is done to a weight.
  """
  if name in ("momentum", "nesterov"):
    return _Momentum(around, learning_rate, momentum, use_nesterov=name == "nesterov")
  return _Adam(around, learning_rate)


class _AroundUpdates(tf.compat.v1.train.Optimizer):
  """Lets weights decay and keeps their averages, in front of the base class that does the update."""

  def __init__(self, around: Around, *arguments: Any, **options: Any):
    super().__init__(*arguments, **options)
    self._around = around

  def _create_slots(self, var_list):
    super()._create_slots(var_list)
    if self._around.average_decay is not None:
      for variable in var_list:
        self._get_or_make_slot(variable, variable.initial_value, AVERAGE, AVERAGE)

  def _resource_apply_dense(self, grad, handle):
    around, variable, before = self._around, handle, []
    if around.weight_decay and variable.shape.rank > 1:
      if around.is_decoupled:
        # Not before there is a gradient: at the end of the input, a step is begun that has none.
        with tf.control_dependencies([grad]):
          before = [variable.assign_sub(variable * (around.learning_rate * around.weight_decay), read_value=False)]
      else:
        grad += around.weight_decay * variable
    with tf.control_dependencies(before):
      update = super()._resource_apply_dense(grad, variable)
    if around.average_decay is None:
      return update
    with tf.control_dependencies([update]):
      average = self.get_slot(variable, AVERAGE)
      return average.assign_sub((average - variable) * (1.0 - around.average_decay), read_value=False)


class _Adam(_AroundUpdates, tf.compat.v1.train.AdamOptimizer):
  pass


class _Momentum(_AroundUpdates, tf.compat.v1.train.MomentumOptimizer):
  pass
