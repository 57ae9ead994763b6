"""Tests of training hooks in real sessions."""

import json

import pytest
from sessions import metrics, train

from official_utils.logs import hooks, logger


def test_tensors_are_logged_every_so_many_steps(caplog):
  with caplog.at_level("INFO", logger="absl"):
    train([hooks.LoggingTensorHook(["learning_rate", "cross_entropy"], every_n_iter=3)], 7)
  assert caplog.messages == [
    "step 1: learning_rate = 0.0005, cross_entropy = 100",
    "step 4: learning_rate = 0.0005, cross_entropy = 103",
    "step 7: learning_rate = 0.0005, cross_entropy = 106",
  ]


def test_a_hook_serves_one_session_after_the_other(tmp_path, caplog):
  file_logger = logger.BenchmarkFileLogger(str(tmp_path))
  hook_list = [
    hooks.LoggingTensorHook(["cross_entropy"], every_n_iter=100),
    hooks.ExamplesPerSecondHook(8, every_n_steps=1, warm_steps=2, metric_logger=file_logger),
  ]
  with caplog.at_level("INFO", logger="absl"):
    train(hook_list, 3)
    train(hook_list, 3)
  assert caplog.messages == ["step 1: cross_entropy = 100"] * 2
  assert [(name, step) for name, _, step in metrics(tmp_path)] == [
    ("average_examples_per_sec", 3),
    ("current_examples_per_sec", 3),
  ] * 2


def test_a_tensor_that_is_not_there():
  with pytest.raises(KeyError, match="train_accuracy"):
    train([hooks.LoggingTensorHook(["train_accuracy"], every_n_iter=1)], 1)


@pytest.mark.parametrize(
  ("warm_steps", "steps"), [(0, [3, 5, 7, 8]), (1, [3, 5, 7, 8]), (4, [6, 8]), (7, [8]), (8, []), (9, [])]
)
def test_examples_per_second_leave_out_the_warm_steps(tmp_path, warm_steps, steps):
  file_logger = logger.BenchmarkFileLogger(str(tmp_path))
  train([hooks.ExamplesPerSecondHook(8, every_n_steps=2, warm_steps=warm_steps, metric_logger=file_logger)], 8)
  records = metrics(tmp_path) if steps else []
  assert [step for name, _, step in records if name == "average_examples_per_sec"] == steps
  assert [step for name, _, step in records if name == "current_examples_per_sec"] == steps
  assert all(value > 0 for _, value, _ in records)
  # The first average is over the same steps as the first current number.
  assert not records or records[0][1] == records[1][1]


def test_examples_per_second_of_a_session_shorter_than_the_interval(tmp_path):
  for interval in ({"every_n_steps": 1000}, {"every_n_secs": 3600}):
    hook = hooks.ExamplesPerSecondHook(8, **interval, metric_logger=logger.BenchmarkFileLogger(str(tmp_path)))
    train([hook], 5)
  assert [step for _, _, step in metrics(tmp_path)] == [5, 5, 5, 5]


def test_examples_per_second_every_so_many_seconds(tmp_path):
  file_logger = logger.BenchmarkFileLogger(str(tmp_path))
  train([hooks.ExamplesPerSecondHook(8, every_n_secs=1e-9, metric_logger=file_logger)], 3)
  assert [step for _, _, step in metrics(tmp_path)] == [2, 2, 3, 3]


@pytest.mark.parametrize("interval", [{}, {"every_n_steps": 2, "every_n_secs": 3}])
def test_examples_per_second_needs_one_interval(interval):
  with pytest.raises(ValueError, match="give either every_n_steps or every_n_secs"):
    hooks.ExamplesPerSecondHook(8, **interval)


def test_average_is_over_all_steps_since_the_warm_ones(tmp_path):
  """Holds the average against the harmonic mean of the current speeds, which stand for equal numbers of steps."""
  file_logger = logger.BenchmarkFileLogger(str(tmp_path))
  train([hooks.ExamplesPerSecondHook(8, every_n_steps=1, metric_logger=file_logger)], 9)
  records = metrics(tmp_path)
  current = [value for name, value, _ in records if name == "current_examples_per_sec"]
  average = [value for name, value, _ in records if name == "average_examples_per_sec"]
  assert average[-1] == pytest.approx(len(current) / sum(1 / value for value in current))


def test_the_profiler_writes_at_the_second_step_and_then_every_so_often(tmp_path):
  hook = hooks.ProfilerHook(str(tmp_path), save_steps=3)
  train([hook], 6)
  assert sorted(path.name for path in tmp_path.glob("timeline-*")) == ["timeline-2.json", "timeline-5.json"]
  operations = {event["name"] for event in json.loads((tmp_path / "timeline-5.json").read_text())["traceEvents"]}
  assert "AssignAdd" in operations or "AssignAddVariableOp" in operations
