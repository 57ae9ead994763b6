"""Adds up the gradients of several batches before an update."""

import math
from collections.abc import Callable, Sequence

from official_utils.lazy import tf

# The variables that hold, below the name of each weight, the sum of its gradients, and the number of batches in it.
SUM = "accumulated"
COUNT = "accumulated_batches"


def add_up(
  gradients: Sequence["tf.Tensor | None"],
  variables: Sequence["tf.Variable"],
  num_batches: int,
  update: Callable[[list], tuple["tf.Operation", "tf.Tensor"]],
  loss_scale: "tf.compat.v1.mixed_precision.DynamicLossScale | None" = None,
) -> tuple["tf.Operation", "tf.Tensor"]:
  """Add a batch's gradients to those of the batches before, and after some batches do an update with their mean.

  Each replica adds up its own gradients, so that they are exchanged only for the update. The sums are variables, and a
  checkpoint between two updates holds them.

  Args:
    gradients: those of a batch, on this replica.
    variables: the weights that they belong to.
    num_batches: how many batches there are to an update.
    update: builds the update on a replica from the means, in the order of the gradients; returns its operation and the
      norm of the gradients.
    loss_scale: judges whether gradients are finite, and adapts to that; a batch whose gradients are not is left out and
      not counted. None if there is none to adapt.

  Returns:
    The operation that does all this, and the norm of the update's gradients, NaN if there was no update.
  """
  sums = [None if gradient is None else _make_sum(each) for gradient, each in zip(gradients, variables, strict=True)]
  count = tf.compat.v1.get_variable(
    COUNT,
    [],
    tf.int64,
    tf.compat.v1.zeros_initializer(),
    trainable=False,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
  )
  replica = tf.distribute.get_replica_context()
  known, is_good = [gradient for gradient in gradients if gradient is not None], True
  if loss_scale is not None:
    is_good = replica.merge_call(lambda _, *values: _judge(loss_scale, values), args=known)
    gradients = [None if each is None else tf.where(is_good, each, tf.zeros_like(each)) for each in gradients]
  added = [each.assign_add(part) for each, part in zip(sums, gradients, strict=True) if each is not None]
  # Counted only then: at the end of the input, a step is begun that has no gradients.
  with tf.control_dependencies(added):
    counted = count.assign_add(tf.cast(is_good, tf.int64))

  def update_all(strategy):
    norms = strategy.extended.call_for_each_replica(lambda: _update_with_means(sums, count, update))
    return _first(strategy, norms)

  def update_if_due(strategy, counted):
    number = _first(strategy, counted)
    return tf.cond(number >= num_batches, lambda: update_all(strategy), lambda: tf.constant(math.nan))

  norm = replica.merge_call(update_if_due, args=[counted])
  return norm.op, norm


def _make_sum(variable):
  """Make the variable in which each replica adds up its own gradients; a checkpoint has the sum over the replicas."""
  return tf.compat.v1.get_variable(
    f"{variable.name.partition(':')[0]}/{SUM}",
    variable.shape,
    variable.dtype,
    tf.compat.v1.zeros_initializer(),
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.SUM,
  )


def _judge(loss_scale, gradients):
  """Adapt the loss scale to the gradients of all replicas; return whether they are finite."""
  adapt, is_finite = loss_scale.update(gradients)
  with tf.control_dependencies([adapt]):
    return tf.identity(is_finite)


def _update_with_means(sums, count, update):
  """Do the update on a replica and begin anew; return the norm."""
  number = tf.cast(count, tf.float32)
  means = [None if each is None else each.read_value() / number for each in sums]
  applied, norm = update(means)
  with tf.control_dependencies([applied]):
    cleared = [each.assign(tf.zeros_like(each)) for each in sums if each is not None]
    with tf.control_dependencies([*cleared, count.assign(tf.zeros_like(count))]):
      return tf.identity(norm)


def _first(strategy, values):
  """Return the first replica's value, once all replicas have theirs."""
  values = strategy.experimental_local_results(values)
  with tf.control_dependencies(values):
    return tf.identity(values[0])
