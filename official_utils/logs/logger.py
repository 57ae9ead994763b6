"""Benchmark loggers: they record what a run was, which metrics it reached and how it ended."""

import contextlib
import datetime
import json
import math
import os
import platform
import re
import statistics
from collections.abc import Iterator, Mapping

from absl import flags, logging

from official_utils.lazy import tf
from official_utils.misc.errors import UserError

METRIC_FILE = "metric.log"
RUN_FILE = "benchmark_run.log"
STATUS_FILE = "benchmark_status.log"

RUNNING = "running"
SUCCESS = "success"
FAILURE = "failure"

# TensorFlow's variables, but not Terraform's, which begin with the same letters and may hold secrets.
_ENVIRONMENT = re.compile("TF_(?!VAR_|TOKEN_|CLI_)")


class BaseBenchmarkLogger:
  """Writes to the screen; records that repeat the program's own output appear only with --verbosity=1."""

  def log_metric(
    self,
    name: str,
    value: float,
    unit: str | None = None,
    global_step: int | None = None,
    extras: Mapping[str, object] | None = None,
  ) -> None:
    """Record one number.

    Args:
      name: what was measured.
      value: the number.
      unit: the unit of the number.
      global_step: the training step that it belongs to.
      extras: any other values that belong to it.
    """
    logging.info("benchmark metric: %s", json.dumps(metric_record(name, value, unit, global_step, extras)))

  def log_evaluation_result(self, eval_results: Mapping[str, float]) -> None:
    """Record the numbers of an evaluation.

    Args:
      eval_results: the numbers by name, including the global_step that was evaluated.
    """
    logging.debug("benchmark evaluation: %s", json.dumps(_evaluation_records(eval_results)))

  def log_run_info(
    self, model_name: str, dataset_name: str, run_params: Mapping[str, object], test_id: str | None = None
  ) -> None:
    """Record the model, the data set and the settings of the run.

    Args:
      model_name: the name of the model.
      dataset_name: the name of the data set.
      run_params: the settings of the run.
      test_id: the user's name for the run.
    """
    logging.debug("benchmark run: %s", json.dumps(run_record(model_name, dataset_name, run_params, test_id)))

  def log_status(self, status: str) -> None:
    """Record the status of the run.

    Args:
      status: RUNNING, SUCCESS or FAILURE.
    """
    logging.debug("benchmark status: %s", status)


class BenchmarkFileLogger(BaseBenchmarkLogger):
  """Appends JSON objects, one per line, to three files of a folder."""

  def __init__(self, log_dir: str):
    """Make the folder.

    Args:
      log_dir: the folder.
    """
    self._log_dir = log_dir
    try:
      os.makedirs(log_dir, exist_ok=True)
    except OSError as error:
      raise UserError(f"cannot make --benchmark_log_dir={log_dir}: {error.strerror}; give another folder") from error

  def log_metric(
    self,
    name: str,
    value: float,
    unit: str | None = None,
    global_step: int | None = None,
    extras: Mapping[str, object] | None = None,
  ) -> None:
    """Record one number in metric.log."""
    self._append(METRIC_FILE, metric_record(name, value, unit, global_step, extras))

  def log_evaluation_result(self, eval_results: Mapping[str, float]) -> None:
    """Record the numbers of an evaluation in metric.log."""
    for record in _evaluation_records(eval_results):
      self._append(METRIC_FILE, record)

  def log_run_info(
    self, model_name: str, dataset_name: str, run_params: Mapping[str, object], test_id: str | None = None
  ) -> None:
    """Record the model, the data set and the settings of the run in benchmark_run.log."""
    self._append(RUN_FILE, run_record(model_name, dataset_name, run_params, test_id))

  def log_status(self, status: str) -> None:
    """Record the status of the run in benchmark_status.log."""
    self._append(STATUS_FILE, {"status": status, "timestamp": _utc_now()})

  def _append(self, file_name: str, record: Mapping[str, object]) -> None:
    """Add one line to a file."""
    path = os.path.join(self._log_dir, file_name)
    try:
      with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    except OSError as error:
      raise UserError(f"cannot write {path}: {error.strerror}; give another --benchmark_log_dir") from error


def config_benchmark_logger(flags_obj: flags.FlagValues) -> BaseBenchmarkLogger:
  """Make the logger that the flags ask for.

  Args:
    flags_obj: the parsed flags.

  Returns:
    The logger.

  Raises:
    UserError: this port does not have the logger.
  """
  logger_type = flags_obj.benchmark_logger_type
  if logger_type == "BaseBenchmarkLogger":
    return BaseBenchmarkLogger()
  if logger_type == "BenchmarkFileLogger":
    return BenchmarkFileLogger(flags_obj.benchmark_log_dir)
  raise UserError(f"--benchmark_logger_type={logger_type} is not part of this port; give BenchmarkFileLogger")


@contextlib.contextmanager
def benchmark_context(flags_obj: flags.FlagValues) -> Iterator[BaseBenchmarkLogger]:
  """Make the logger that the flags ask for, and record at the end whether the block ended well.

  Args:
    flags_obj: the parsed flags.

  Yields:
    The logger.
  """
  benchmark_logger = config_benchmark_logger(flags_obj)
  benchmark_logger.log_status(RUNNING)
  try:
    yield benchmark_logger
  except BaseException:
    benchmark_logger.log_status(FAILURE)
    raise
  benchmark_logger.log_status(SUCCESS)


def metric_record(
  name: str,
  value: float,
  unit: str | None = None,
  global_step: int | None = None,
  extras: Mapping[str, object] | None = None,
) -> dict[str, object]:
  """Return one line of metric.log; a value that is not finite becomes null, since JSON has no such numbers."""
  value = float(value)
  return {
    "name": name,
    "value": value if math.isfinite(value) else None,
    "unit": unit,
    "global_step": None if global_step is None else int(global_step),
    "timestamp": _utc_now(),
    "extras": [{"name": key, "value": extra} for key, extra in sorted((extras or {}).items())],
  }


def run_record(
  model_name: str, dataset_name: str, run_params: Mapping[str, object], test_id: str | None = None
) -> dict[str, object]:
  """Return one line of benchmark_run.log: the run, its settings, the software and the machine."""
  environment = sorted(item for item in os.environ.items() if _ENVIRONMENT.match(item[0]))
  return {
    "model_name": model_name,
    "dataset": {"name": dataset_name},
    "test_id": test_id,
    "run_date": _utc_now(),
    "run_parameters": [_run_parameter(name, value) for name, value in sorted(run_params.items())],
    "tensorflow_version": {"version": tf.version.VERSION, "git_hash": tf.version.GIT_VERSION},
    "tensorflow_environment_variables": [{"name": name, "value": value} for name, value in environment],
    "machine_config": machine_config(),
  }


def machine_config() -> dict[str, object]:
  """Return the machine's processors, memory in bytes and GPUs."""
  details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
  page = os.sysconf("SC_PAGE_SIZE")
  memory: dict[str, object] = {"memory_total": os.sysconf("SC_PHYS_PAGES") * page}
  if "SC_AVPHYS_PAGES" in os.sysconf_names:  # Not on macOS.
    memory["memory_available"] = os.sysconf("SC_AVPHYS_PAGES") * page
  return {
    "cpu_info": cpu_info(),
    **memory,
    "gpu_info": {"count": len(details), "model": details[0].get("device_name") if details else None},
  }


def cpu_info(path: str = "/proc/cpuinfo") -> dict[str, object]:
  """Return the number and kind of the processors, with their mean clock rate in MHz if the system reports it."""
  info: dict[str, object] = {"num_cores": os.cpu_count(), "cpu_info": platform.processor() or platform.machine()}
  if not os.path.exists(path):
    return info
  with open(path, encoding="utf-8") as file:
    fields = [[word.strip() for word in line.split(":", 1)] for line in file if ":" in line]
  models = [value for name, value in fields if name == "model name"]
  clocks = [float(value) for name, value in fields if name == "cpu MHz"]
  if models:
    info["cpu_info"] = models[0]
  if clocks:
    info["mhz_per_cpu"] = statistics.fmean(clocks)
  return info


def _run_parameter(name: str, value: object) -> dict[str, object]:
  """Return a setting with its value under a key that names its type."""
  if isinstance(value, bool):
    return {"name": name, "bool_value": value}
  if isinstance(value, int):
    return {"name": name, "long_value": value}
  if isinstance(value, float):
    return {"name": name, "float_value": value}
  return {"name": name, "string_value": value if isinstance(value, str) else str(value)}


def _evaluation_records(eval_results: Mapping[str, float]) -> list[dict[str, object]]:
  """Return a line of metric.log for each number of an evaluation."""
  if "global_step" not in eval_results:
    raise ValueError(f"global_step is missing from the results of an evaluation: {sorted(eval_results)}")
  step = int(eval_results["global_step"])
  return [
    metric_record(name, value, global_step=step)
    for name, value in sorted(eval_results.items())
    if name != "global_step"
  ]


def _utc_now() -> str:
  """Return the time as ISO 8601 with microseconds."""
  return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
