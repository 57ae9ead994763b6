"""A hook that passes tensors to the benchmark logger. Importing this module loads TensorFlow."""

from collections.abc import Sequence

import numpy as np

from official_utils.logs.hooks import TensorHook
from official_utils.logs.logger import BaseBenchmarkLogger


class LoggingMetricHook(TensorHook):
  """Records tensors as metrics, under their own names."""

  def __init__(
    self,
    tensors: Sequence[str],
    every_n_iter: int | None = None,
    every_n_secs: float | None = None,
    metric_logger: BaseBenchmarkLogger | None = None,
  ):
    """Choose what to record, when, and where.

    Args:
      tensors: names that the model gave with tf.identity(..., name=...).
      every_n_iter: steps from one record to the next.
      every_n_secs: seconds from one record to the next. Give exactly one of the two.
      metric_logger: takes the numbers; None writes them to the screen.
    """
    super().__init__(tensors, every_n_iter=every_n_iter, every_n_secs=every_n_secs)
    self._metric_logger = metric_logger or BaseBenchmarkLogger()

  def report(self, values: dict[str, np.ndarray], global_step: int) -> None:
    """Record each tensor."""
    for name, value in values.items():
      self._metric_logger.log_metric(name, float(value), global_step=global_step)
