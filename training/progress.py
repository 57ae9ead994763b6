"""Follows one call of train step by step, and saves checkpoints."""

import math
import os
import sys
import time
from typing import Any

from official_utils.lazy import tf
from official_utils.logs import input_wait

SECONDS_BETWEEN_LINES = 0.5
STEPS_BETWEEN_POINTS = 100


class ProgressHook(tf.compat.v1.train.SessionRunHook):
  """Adds up the loss and the time of all steps; on a terminal, shows a line about them.

  Attributes:
    steps: steps so far.
    seconds: seconds since the session was ready.
    input_wait: the share of those seconds that steps spent waiting for their input.
    loss: that of the last step.
    learning_rate: that of the last step.
    gradient_norm: that of the last update of the weights whose norm is known, before clipping; None before the first.
    largest_gradient_norm: the largest so far; None before the first.
  """

  def __init__(self, num_replicas: int, title: str = "training", num_steps: int = 0):
    """Prepare for one call of train.

    Args:
      num_replicas: how many devices share a step.
      title: the beginning of the line on the terminal.
      num_steps: how many steps there will be.
    """
    self.steps = 0
    self.seconds = 0.0
    self.loss = 0.0
    self.learning_rate = 0.0
    self.gradient_norm: float | None = None
    self.largest_gradient_norm: float | None = None
    self._total_norm = 0.0
    self._num_norms = 0
    self._total_loss = 0.0
    self._seconds_waited = 0.0
    self._num_replicas = num_replicas
    self._title = title
    self._num_steps = num_steps
    self._shown_at = 0.0

  @property
  def mean_loss(self) -> float:
    """The mean loss of the steps so far."""
    return self._total_loss / max(1, self.steps)

  @property
  def mean_gradient_norm(self) -> float | None:
    """The mean norm of the updates so far whose norm is known; None if there is none."""
    return self._total_norm / self._num_norms if self._num_norms else None

  @property
  def input_wait(self) -> float:
    """The share of the time that steps spent waiting for their input."""
    return self._seconds_waited / self.seconds if self.steps else 0.0

  def begin(self) -> None:
    """Find each replica's loss and waiting time in the graph, the learning rate and the norm of the gradients."""
    graph = tf.compat.v1.get_default_graph()
    scopes = [""] + [f"replica_{number}/" for number in range(1, self._num_replicas)]
    self._fetches: list[Any] = [
      [graph.get_tensor_by_name(f"{scope}{name}:0") for scope in scopes]
      for name in ("cross_entropy", input_wait.TENSOR_NAME)
    ]
    self._fetches += [graph.get_tensor_by_name(f"{name}:0") for name in ("learning_rate", "gradient_norm")]

  def after_create_session(self, session: "tf.compat.v1.Session", coord: "tf.train.Coordinator") -> None:
    """Start the clock."""
    self._start = time.perf_counter()

  def before_run(self, run_context: Any) -> "tf.compat.v1.train.SessionRunArgs":
    """Ask for the losses, the waiting times, the learning rate and the norm."""
    return tf.compat.v1.train.SessionRunArgs(self._fetches)

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Count the step; thanks to the weights, the mean of the replicas' losses is the mean of the global batch."""
    self.steps += 1
    self.seconds = time.perf_counter() - self._start
    losses, waits, rate, norm = run_values.results
    self.learning_rate = float(rate)
    # Else there was no update, or nobody needed the norm.
    if math.isfinite(norm):
      self.gradient_norm = float(norm)
      self.largest_gradient_norm = max(self.gradient_norm, self.largest_gradient_norm or 0.0)
      self._total_norm += self.gradient_norm
      self._num_norms += 1
    self.loss = float(sum(losses)) / self._num_replicas
    self._total_loss += self.loss
    # All replicas wait for the slowest.
    self._seconds_waited += float(max(waits))
    if sys.stderr.isatty() and self.seconds - self._shown_at >= SECONDS_BETWEEN_LINES:
      self._shown_at = self.seconds
      left = (self._num_steps - self.steps) * self.seconds / self.steps
      self._show(f"{self._title}  step {self.steps}/{self._num_steps}  loss {self.mean_loss:.3f}  {left:.0f} s left")

  def clear_line(self) -> None:
    """Erase the line."""
    if sys.stderr.isatty():
      self._show("")

  def _show(self, line: str) -> None:
    """Write over the terminal's last line."""
    # Erases to the end of the line, so that nothing of a longer line stays behind a shorter one.
    sys.stderr.write(f"\r{line}\x1b[K")
    sys.stderr.flush()


class StopHook(tf.compat.v1.train.SessionRunHook):
  """Ends one call of train at the first step after some time of training, as if there were no more batches."""

  def __init__(self, follower: ProgressHook, seconds: float):
    """Prepare for one call of train.

    Args:
      follower: knows how long training has taken; it comes before this hook.
      seconds: the time.
    """
    self._follower = follower
    self._seconds = seconds

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Ask for the end if it is time."""
    if self._follower.seconds >= self._seconds:
      run_context.request_stop()


class CurvesHook(tf.compat.v1.train.SessionRunHook):
  """Writes loss, learning rate, norm of the gradients and steps a second for TensorBoard.

  TensorFlow's own hooks fetch more in the steps in which they write than in others, and for each set of fetched tensors
  it prepares the whole graph anew. In each cycle that would take as long as some steps.
  """

  def __init__(self, follower: ProgressHook, model_dir: str):
    """Prepare for one call of train.

    Args:
      follower: knows the numbers of each step; it comes before this hook.
      model_dir: where TensorBoard finds them.
    """
    self._follower = follower
    self._model_dir = model_dir

  def begin(self) -> None:
    """Open the file, which all hooks share."""
    self._writer = tf.compat.v1.summary.FileWriterCache.get(self._model_dir)

  def after_create_session(self, session: "tf.compat.v1.Session", coord: "tf.train.Coordinator") -> None:
    """Find out how many steps other calls of train did."""
    self._first_step = int(session.run(tf.compat.v1.train.get_global_step()))

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Write a point of each curve."""
    follower = self._follower
    if (follower.steps - 1) % STEPS_BETWEEN_POINTS == 0:
      speed = follower.steps / follower.seconds
      values = {"loss": follower.loss, "learning_rate": follower.learning_rate, "global_step/sec": speed}
      if follower.gradient_norm is not None:
        values["gradient_norm"] = follower.gradient_norm
      points = [tf.compat.v1.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
      self._writer.add_summary(tf.compat.v1.Summary(value=points), self._first_step + follower.steps)


class SaverHook(tf.compat.v1.train.CheckpointSaverHook):
  """Saves like its base class, but never before the first step, and describes the graph once.

  Weights just read from a checkpoint are on the disk already, and initial weights follow from the seed. Writing them in
  each cycle would take as long as a few steps, and so would the description of the same graph.
  """

  def __init__(self, model_dir: str, save_secs: float):
    """Save to a folder.

    Args:
      model_dir: the folder.
      save_secs: seconds from one checkpoint to the next; there is one at the end in any case.
    """
    super().__init__(model_dir, save_secs)
    self._is_described = os.path.exists(os.path.join(model_dir, "graph.pbtxt"))

  def after_create_session(self, session: "tf.compat.v1.Session", coord: "tf.train.Coordinator") -> None:
    """Describe the graph unless an earlier cycle did, and start the clock."""
    if self._is_described:
      self._timer.update_last_triggered_step(session.run(self._global_step_tensor))
    else:
      super().after_create_session(session, coord)

  def _save(self, session, step):
    """Write a checkpoint; return whether to stop."""
    is_first = self._timer.last_triggered_step() is None
    return False if is_first else super()._save(session, step)
