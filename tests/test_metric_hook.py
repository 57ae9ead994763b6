"""Tests of the hook that records metrics, in real sessions."""

from sessions import metrics, train

from official_utils.logs import logger, metric_hook


def test_tensors_become_metrics(tmp_path):
  file_logger = logger.BenchmarkFileLogger(str(tmp_path))
  train([metric_hook.LoggingMetricHook(["cross_entropy"], every_n_iter=2, metric_logger=file_logger)], 4)
  assert metrics(tmp_path) == [("cross_entropy", 100.0, 1), ("cross_entropy", 102.0, 3)]


def test_seconds_may_count_instead_of_steps(tmp_path):
  file_logger = logger.BenchmarkFileLogger(str(tmp_path))
  train([metric_hook.LoggingMetricHook(["cross_entropy"], every_n_secs=3600, metric_logger=file_logger)], 4)
  assert metrics(tmp_path) == [("cross_entropy", 100.0, 1)]
