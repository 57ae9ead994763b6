"""Follows one call of train, step by step."""

import time
from typing import Any

from official_utils.lazy import tf


class ProgressHook(tf.compat.v1.train.SessionRunHook):
  """Adds up the loss and the time of all steps.

  Attributes:
    steps: steps so far.
    seconds: since the session was ready.
  """

  def __init__(self, num_replicas: int):
    """Take how many devices share a step."""
    self.steps = 0
    self.seconds = 0.0
    self._total_loss = 0.0
    self._num_replicas = num_replicas

  @property
  def mean_loss(self) -> float:
    """Average the loss over the steps."""
    return self._total_loss / max(1, self.steps)

  def begin(self) -> None:
    """Find each replica's loss in the graph."""
    graph = tf.compat.v1.get_default_graph()
    scopes = [""] + [f"replica_{number}/" for number in range(1, self._num_replicas)]
    self._losses = [graph.get_tensor_by_name(f"{scope}cross_entropy:0") for scope in scopes]

  def after_create_session(self, session: "tf.compat.v1.Session", coord: "tf.train.Coordinator") -> None:
    """Start the clock."""
    self._start = time.perf_counter()

  def before_run(self, run_context: Any) -> "tf.compat.v1.train.SessionRunArgs":
    """Ask for the losses."""
    return tf.compat.v1.train.SessionRunArgs(self._losses)

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Count the step; the replicas' utterances are weighted so that their mean is that of the global batch."""
    self.steps += 1
    self.seconds = time.perf_counter() - self._start
    self._total_loss += float(sum(run_values.results)) / self._num_replicas
