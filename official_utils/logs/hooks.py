"""Hooks that follow a training session. Importing this module loads TensorFlow."""

import time
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from absl import logging

from official_utils.lazy import tf
from official_utils.logs.logger import BaseBenchmarkLogger

SecondOrStepTimer = tf.compat.v1.train.SecondOrStepTimer
SessionRunArgs: TypeAlias = tf.compat.v1.train.SessionRunArgs
SessionRunContext: TypeAlias = tf.compat.v1.train.SessionRunContext
SessionRunHook: TypeAlias = tf.compat.v1.train.SessionRunHook
SessionRunValues: TypeAlias = tf.compat.v1.train.SessionRunValues


class TensorHook(SessionRunHook):
  """Fetches tensors at the first step and then at intervals; a subclass decides what to do with them."""

  def __init__(self, tensors: Sequence[str], every_n_iter: int | None = None, every_n_secs: float | None = None):
    """Choose what to fetch and when.

    Args:
      tensors: names that the model gave with tf.identity(..., name=...).
      every_n_iter: steps from one time to the next.
      every_n_secs: seconds from one time to the next. Give exactly one of the two.
    """
    self._names = tuple(tensors)
    self._timer = SecondOrStepTimer(every_secs=every_n_secs, every_steps=every_n_iter)

  def begin(self) -> None:
    """Find the tensors in the graph; a hook may serve several sessions, one after the other."""
    graph = tf.compat.v1.get_default_graph()
    self._tensors = {name: graph.get_tensor_by_name(f"{name}:0") for name in self._names}
    self._global_step = tf.identity(tf.compat.v1.train.get_global_step())
    self._timer.reset()
    self._num_steps = 0

  def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
    """Ask for the tensors if they are due."""
    self._num_steps += 1
    self._is_due = self._timer.should_trigger_for_step(self._num_steps)
    return SessionRunArgs(self._tensors) if self._is_due else None

  def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
    """Report the tensors if they were fetched."""
    if self._is_due:
      self._timer.update_last_triggered_step(self._num_steps)
      self.report(run_values.results, int(run_context.session.run(self._global_step)))

  def report(self, values: dict[str, np.ndarray], global_step: int) -> None:
    """Report fetched tensors; a subclass defines how.

    Args:
      values: the tensors by name.
      global_step: the number of the step that has just ended.
    """
    raise NotImplementedError


class LoggingTensorHook(TensorHook):
  """Writes numbers to the screen, one line each time."""

  def report(self, values: dict[str, np.ndarray], global_step: int) -> None:
    """Write one line."""
    shown = ", ".join(f"{name} = {value:g}" for name, value in values.items())
    logging.info("step %d: %s", global_step, shown)


class ExamplesPerSecondHook(SessionRunHook):
  """Records the training speed in examples per second: since the last record, and on average since the warm steps."""

  def __init__(
    self,
    batch_size: int,
    every_n_steps: int | None = None,
    every_n_secs: float | None = None,
    warm_steps: int = 0,
    metric_logger: BaseBenchmarkLogger | None = None,
  ):
    """Choose when to record, and where. Remaining steps are always recorded at the end of a session.

    Args:
      batch_size: examples in one step, on all devices together.
      every_n_steps: steps from one record to the next.
      every_n_secs: seconds from one record to the next. Give exactly one of the two.
      warm_steps: steps at the start of each session that do not count; the first one never does.
      metric_logger: takes the numbers; None writes them to the screen.
    """
    if (every_n_steps is None) == (every_n_secs is None):
      raise ValueError(f"give either every_n_steps or every_n_secs, not {every_n_steps} and {every_n_secs}")
    self._batch_size = batch_size
    self._every_n_steps = every_n_steps
    self._every_n_secs = every_n_secs
    self._warm_steps = warm_steps
    self._metric_logger = metric_logger or BaseBenchmarkLogger()

  def begin(self) -> None:
    """Start counting again; a hook may serve several sessions, one after the other."""
    self._global_step = tf.identity(tf.compat.v1.train.get_global_step())
    self._num_steps = 0
    # The moments of the last warm step, of the last record and of the last step; of step 0 where there was none.
    self._start = self._recorded = self._latest = _Moment(0, 0.0)

  def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
    """Count the step, and record the speed if it is due."""
    self._num_steps += 1
    if self._num_steps < self._warm_steps:
      return
    self._latest = _Moment(self._num_steps, time.perf_counter())
    if not self._start.steps:
      self._start = self._recorded = self._latest
    elif self._is_due():
      self._record(run_context.session)

  def end(self, session: tf.compat.v1.Session) -> None:
    """Record the speed of the remaining steps."""
    if self._latest != self._recorded:
      self._record(session)

  def _is_due(self) -> bool:
    """Tell whether enough steps or seconds have passed since the last record."""
    if self._every_n_secs is not None:
      return self._latest.seconds - self._recorded.seconds >= self._every_n_secs
    return self._every_n_steps is not None and self._latest.steps - self._recorded.steps >= self._every_n_steps

  def _record(self, session: tf.compat.v1.Session) -> None:
    """Pass both speeds to the logger."""
    global_step = int(session.run(self._global_step))
    for name, since in (("average_examples_per_sec", self._start), ("current_examples_per_sec", self._recorded)):
      steps_per_second = (self._latest.steps - since.steps) / (self._latest.seconds - since.seconds)
      self._metric_logger.log_metric(name, self._batch_size * steps_per_second, global_step=global_step)
    self._recorded = self._latest


class _Moment(NamedTuple):
  """A moment in a session: the number of steps so far, and the time on the clock."""

  steps: int
  seconds: float


class ProfilerHook(SessionRunHook):
  """Lets TensorFlow's profiler hook write a timeline at the second step of each session, and then at intervals."""

  def __init__(self, output_dir: str, save_steps: int = 1000):
    """Choose when to write, and where.

    Args:
      output_dir: the folder for timeline-STEP.json.
      save_steps: steps from one file to the next.
    """
    self._output_dir = output_dir
    self._save_steps = save_steps

  def begin(self) -> None:
    """Start counting again; a hook may serve several sessions, one after the other."""
    # TensorFlow's hook opens an event file as soon as it is made, which only works inside a graph.
    self._profiler = tf.compat.v1.train.ProfilerHook(save_steps=1, output_dir=self._output_dir)
    self._profiler.begin()
    self._num_steps = 0

  def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
    """Show the profiler the step if one is due, and always the first, at which it only starts its timer."""
    self._num_steps += 1
    self._is_due = self._num_steps == 1 or (self._num_steps - 2) % self._save_steps == 0
    return self._profiler.before_run(run_context) if self._is_due else None

  def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
    """Let the profiler write."""
    if self._is_due:
      self._profiler.after_run(run_context, run_values)
