"""Tests of the benchmark loggers."""

import datetime
import json
import math
import os

import numpy as np
import pytest
from absl import flags

from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.logs import logger
from official_utils.misc.errors import UserError


def _read(folder, name):
  return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def _parse(*arguments):
  values = flags.FlagValues()
  flags_core.define_benchmark(flag_values=values)
  return flags_core.parse_flags(["program", *arguments], values)


@pytest.fixture(name="file_logger")
def _file_logger(tmp_path):
  return logger.BenchmarkFileLogger(str(tmp_path / "log"))


def test_metrics_are_json_lines(tmp_path, file_logger):
  before = datetime.datetime.now(datetime.timezone.utc)
  file_logger.log_metric("loss", np.float32(2.5), unit="nats", global_step=np.int64(7), extras={"b": 1, "a": "x"})
  file_logger.log_metric("accuracy", 1)
  after = datetime.datetime.now(datetime.timezone.utc)
  first, second = _read(tmp_path / "log", logger.METRIC_FILE)
  time = datetime.datetime.strptime(first.pop("timestamp"), "%Y-%m-%dT%H:%M:%S.%fZ")
  assert before <= time.replace(tzinfo=datetime.timezone.utc) <= after
  extras = [{"name": "a", "value": "x"}, {"name": "b", "value": 1}]
  assert first == {"name": "loss", "value": 2.5, "unit": "nats", "global_step": 7, "extras": extras}
  del second["timestamp"]
  assert second == {"name": "accuracy", "value": 1.0, "unit": None, "global_step": None, "extras": []}
  assert isinstance(second["value"], float)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_know_is_null(tmp_path, file_logger, value):
  file_logger.log_metric("loss", value)
  assert _read(tmp_path / "log", logger.METRIC_FILE)[0]["value"] is None


@pytest.mark.parametrize("value", ["high", None, [1, 2]])
def test_a_metric_is_a_number(file_logger, value):
  with pytest.raises((TypeError, ValueError)):
    file_logger.log_metric("loss", value)


def test_an_evaluation_is_a_metric_a_number(tmp_path, file_logger):
  file_logger.log_evaluation_result({"WER": 0.5, "global_step": 12, "CER": 0.25})
  records = _read(tmp_path / "log", logger.METRIC_FILE)
  assert [(each["name"], each["value"], each["global_step"]) for each in records] == [
    ("CER", 0.25, 12),
    ("WER", 0.5, 12),
  ]


def test_an_evaluation_has_a_step(tmp_path, file_logger):
  for each in (file_logger, logger.BaseBenchmarkLogger()):
    with pytest.raises(ValueError, match="global_step is missing from the results of an evaluation: \\['WER'\\]"):
      each.log_evaluation_result({"WER": 0.5})
  assert os.listdir(tmp_path / "log") == []


def test_lines_are_appended(tmp_path, file_logger):
  file_logger.log_metric("loss", 1)
  logger.BenchmarkFileLogger(str(tmp_path / "log")).log_metric("loss", 2)
  assert [each["value"] for each in _read(tmp_path / "log", logger.METRIC_FILE)] == [1.0, 2.0]


def test_run_info(tmp_path, file_logger, monkeypatch):
  monkeypatch.setenv("TF_OF_TESTS", "yes")
  monkeypatch.setenv("TF_VAR_password", "secret of Terraform")
  settings = {"rnn_type": "gru", "use_bias": True, "batch_size": 4, "learning_rate": 0.5, "hooks": ["a"], "seed": None}
  file_logger.log_run_info("deep_speech", "tones", settings, test_id="first")
  (record,) = _read(tmp_path / "log", logger.RUN_FILE)
  assert (record["model_name"], record["dataset"], record["test_id"]) == ("deep_speech", {"name": "tones"}, "first")
  assert record["tensorflow_version"] == {"version": tf.version.VERSION, "git_hash": tf.version.GIT_VERSION}
  assert {"name": "TF_OF_TESTS", "value": "yes"} in record["tensorflow_environment_variables"]
  assert all(each["name"].startswith("TF_") for each in record["tensorflow_environment_variables"])
  assert "Terraform" not in json.dumps(record)
  assert record["run_parameters"] == [
    {"name": "batch_size", "long_value": 4},
    {"name": "hooks", "string_value": "['a']"},
    {"name": "learning_rate", "float_value": 0.5},
    {"name": "rnn_type", "string_value": "gru"},
    {"name": "seed", "string_value": "None"},
    {"name": "use_bias", "bool_value": True},
  ]


def test_machine_config():
  machine = logger.machine_config()
  assert machine["cpu_info"]["num_cores"] == os.cpu_count()
  assert isinstance(machine["cpu_info"]["cpu_info"], str)
  assert machine["memory_total"] > 2**28
  assert machine["gpu_info"]["count"] == len(tf.config.list_physical_devices("GPU"))


def test_cpu_info_is_that_of_the_system(tmp_path):
  path = tmp_path / "cpuinfo"
  path.write_text(
    "processor\t: 0\nmodel name\t: A: fast one\ncpu MHz\t\t: 1000.0\n\nprocessor\t: 1\ncpu MHz\t\t: 3000.0\n"
  )
  info = {"num_cores": os.cpu_count(), "cpu_info": "A: fast one", "mhz_per_cpu": 2000.0}
  assert logger.cpu_info(str(path)) == info
  path.write_text("CPU part\t: 0xd0c\n")
  assert set(logger.cpu_info(str(path))) == {"num_cores", "cpu_info"}
  assert set(logger.cpu_info(str(tmp_path / "missing"))) == {"num_cores", "cpu_info"}


def test_the_base_logger_writes_metrics_to_the_screen_and_the_rest_on_demand(caplog):
  base = logger.BaseBenchmarkLogger()

  def log_everything():
    caplog.clear()
    base.log_metric("loss", 2.5, global_step=3)
    base.log_evaluation_result({"WER": 0.5, "global_step": 3})
    base.log_run_info("deep_speech", "tones", {"seed": 1})
    base.log_status(logger.SUCCESS)
    return [message.split(": ")[0] for message in caplog.messages]

  with caplog.at_level("INFO", logger="absl"):
    assert log_everything() == ["benchmark metric"]
  assert '"name": "loss", "value": 2.5' in caplog.messages[0]
  with caplog.at_level("DEBUG", logger="absl"):
    assert log_everything() == ["benchmark metric", "benchmark evaluation", "benchmark run", "benchmark status"]


def test_the_logger_that_the_flags_ask_for(tmp_path):
  assert type(logger.config_benchmark_logger(_parse())) is logger.BaseBenchmarkLogger
  flags_obj = _parse("--benchmark_logger_type=BenchmarkFileLogger", f"--benchmark_log_dir={tmp_path}")
  assert type(logger.config_benchmark_logger(flags_obj)) is logger.BenchmarkFileLogger


def test_the_bigquery_logger_is_refused():
  values = flags.FlagValues()
  flags.DEFINE_string("benchmark_logger_type", "BenchmarkBigQueryLogger", "", flag_values=values)
  with pytest.raises(UserError, match="BenchmarkBigQueryLogger is not part of this port; give BenchmarkFileLogger"):
    logger.config_benchmark_logger(flags_core.parse_flags(["program"], values))


def test_a_run_that_ends_well(tmp_path):
  flags_obj = _parse("--benchmark_logger_type=BenchmarkFileLogger", f"--benchmark_log_dir={tmp_path}")
  with logger.benchmark_context(flags_obj) as benchmark_logger:
    assert [each["status"] for each in _read(tmp_path, logger.STATUS_FILE)] == ["running"]
    benchmark_logger.log_metric("loss", 1)
  assert [each["status"] for each in _read(tmp_path, logger.STATUS_FILE)] == ["running", "success"]
  assert all(set(each) == {"status", "timestamp"} for each in _read(tmp_path, logger.STATUS_FILE))


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, UserError])
def test_a_run_that_fails(tmp_path, kind):
  flags_obj = _parse("--benchmark_logger_type=BenchmarkFileLogger", f"--benchmark_log_dir={tmp_path}")
  with pytest.raises(kind, match="half way"), logger.benchmark_context(flags_obj):
    raise kind("half way")
  assert [each["status"] for each in _read(tmp_path, logger.STATUS_FILE)] == ["running", "failure"]


def test_a_folder_that_cannot_be_made(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="cannot make --benchmark_log_dir=.*file/log: .*; give another folder"):
    logger.BenchmarkFileLogger(str(tmp_path / "file" / "log"))


def test_a_file_that_cannot_be_written(tmp_path, file_logger):
  (tmp_path / "log" / logger.METRIC_FILE).mkdir()
  with pytest.raises(UserError, match="cannot write .*metric.log: .*; give another --benchmark_log_dir"):
    file_logger.log_metric("loss", 1)
