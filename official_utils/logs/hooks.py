"""Hooks that follow a training session. Importing this module loads TensorFlow."""

from collections.abc import Sequence

import numpy as np
from absl import logging

from official_utils.lazy import tf
from official_utils.logs.logger import BaseBenchmarkLogger


class TensorHook(tf.compat.v1.train.SessionRunHook):
  """Fetches tensors at the first step and then every so often; a subclass says what becomes of them."""

  def __init__(self, tensors: Sequence[str], every_n_iter: int | None = None, every_n_secs: float | None = None):
    """Choose what to fetch and when.

    Args:
      tensors: names that the model gave with tf.identity(..., name=...).
      every_n_iter: steps from one time to the next.
      every_n_secs: seconds from one time to the next. One of the two must be given, and only one.
    """
    self._names = tuple(tensors)
    self._timer = tf.compat.v1.train.SecondOrStepTimer(every_secs=every_n_secs, every_steps=every_n_iter)

  def begin(self) -> None:
    """Find the tensors in the graph; a hook may serve one session after the other."""
    graph = tf.compat.v1.get_default_graph()
    self._tensors = {name: graph.get_tensor_by_name(f"{name}:0") for name in self._names}
    self._global_step = tf.identity(tf.compat.v1.train.get_global_step())
    self._timer.reset()
    self._num_steps = 0

  def before_run(self, run_context):
    """Ask for the tensors where they are due."""
    self._num_steps += 1
    self._is_due = self._timer.should_trigger_for_step(self._num_steps)
    return tf.compat.v1.train.SessionRunArgs(self._tensors) if self._is_due else None

  def after_run(self, run_context, run_values) -> None:
    """Hand on what was fetched."""
    if self._is_due:
      self._timer.update_last_triggered_step(self._num_steps)
      self.report(run_values.results, int(run_context.session.run(self._global_step)))

  def report(self, values: dict[str, np.ndarray], global_step: int) -> None:
    """Do what the subclass is for.

    Args:
      values: the tensors by name.
      global_step: the number of the step that has just ended.
    """
    raise NotImplementedError


class LoggingTensorHook(TensorHook):
  """Writes tensors to the screen, a line a time."""

  def report(self, values: dict[str, np.ndarray], global_step: int) -> None:
    """Write one line."""
    shown = ", ".join(f"{name} = {value:g}" for name, value in values.items())
    logging.info("step %d: %s", global_step, shown)


class ExamplesPerSecondHook(tf.compat.v1.train.SessionRunHook):
  """Records how many examples a second are trained: since the last record, and on average since the warm steps."""

  def __init__(
    self,
    batch_size: int,
    every_n_steps: int | None = None,
    every_n_secs: float | None = None,
    warm_steps: int = 0,
    metric_logger: BaseBenchmarkLogger | None = None,
  ):
    """Choose when to record, and where.

    Args:
      batch_size: examples of one step, on all devices together.
      every_n_steps: steps from one record to the next.
      every_n_secs: seconds from one record to the next. One of the two must be given, and only one.
      warm_steps: steps at the start of each session that do not count.
      metric_logger: where the numbers go; to the screen if None.
    """
    self._batch_size = batch_size
    self._warm_steps = warm_steps
    self._metric_logger = metric_logger or BaseBenchmarkLogger()
    self._timer = tf.compat.v1.train.SecondOrStepTimer(every_secs=every_n_secs, every_steps=every_n_steps)

  def begin(self) -> None:
    """Start counting anew; a hook may serve one session after the other."""
    self._global_step = tf.identity(tf.compat.v1.train.get_global_step())
    self._timer.reset()
    self._num_steps = 0
    self._total_steps = 0
    self._total_seconds = 0.0

  def after_run(self, run_context, run_values) -> None:
    """Count the step, and record the speed where it is due."""
    self._num_steps += 1
    if self._num_steps < self._warm_steps or not self._timer.should_trigger_for_step(self._num_steps):
      return
    seconds, steps = self._timer.update_last_triggered_step(self._num_steps)
    if seconds is None:
      # The clock starts at the end of the last warm step.
      return
    self._total_steps += steps
    self._total_seconds += seconds
    global_step = int(run_context.session.run(self._global_step))
    average = self._batch_size * self._total_steps / self._total_seconds
    self._metric_logger.log_metric("average_examples_per_sec", average, global_step=global_step)
    current = self._batch_size * steps / seconds
    self._metric_logger.log_metric("current_examples_per_sec", current, global_step=global_step)
