"""Records of a run, for later comparison."""

from absl import flags

from official_utils.flags._conventions import definer

LOGGER_TYPES = ("BaseBenchmarkLogger", "BenchmarkFileLogger", "BenchmarkBigQueryLogger")

_BIGQUERY_FLAGS = (
  ("gcp_project", "gp", None, "The name of the Google Cloud project."),
  ("bigquery_data_set", "bds", "test_benchmark", "The name of the BigQuery data set."),
  ("bigquery_run_table", "brt", "benchmark_run", "The BigQuery table for the description of a run."),
  ("bigquery_run_status_table", "brst", "benchmark_run_status", "The BigQuery table for how a run ended."),
  ("bigquery_metric_table", "bmt", "benchmark_metric", "The BigQuery table for the metrics of a run."),
)


def define_benchmark(
  benchmark_log_dir: bool = True, bigquery_uploader: bool = True, flag_values: flags.FlagValues = flags.FLAGS
) -> list[str]:
  """Define the flags of the benchmark logger.

  Args:
    benchmark_log_dir: whether to define a flag for the folder of BenchmarkFileLogger.
    bigquery_uploader: whether to define the flags of the BigQuery logger, which have no effect.
    flag_values: where to define them.

  Returns:
    The names of the key flags: none of these is one.
  """
  define = definer(flag_values)
  define(
    flags.DEFINE_enum,
    "benchmark_logger_type",
    "BaseBenchmarkLogger",
    """Where the metrics and the description of a run go: BaseBenchmarkLogger writes to the screen, BenchmarkFileLogger
    to JSON files in benchmark_log_dir. BenchmarkBigQueryLogger is refused: this port does not have it.""",
    enum_values=LOGGER_TYPES,
  )
  define(
    flags.DEFINE_string,
    "benchmark_test_id",
    None,
    "A name for the run, for people who compare runs later. It is only recorded.",
    short_name="bti",
  )
  if benchmark_log_dir:
    define(
      flags.DEFINE_string,
      "benchmark_log_dir",
      None,
      "The folder for the files of BenchmarkFileLogger.",
      short_name="bld",
    )
  if bigquery_uploader:
    for name, short_name, default, text in _BIGQUERY_FLAGS:
      define(flags.DEFINE_string, name, default, f"{text} Accepted without effect.", short_name=short_name)
  _register_validators(benchmark_log_dir, flag_values)
  return []


def _register_validators(benchmark_log_dir: bool, flag_values: flags.FlagValues) -> None:
  """Refuse loggers that cannot work with the given flags."""
  flags.register_validator(
    "benchmark_logger_type",
    lambda logger_type: logger_type != "BenchmarkBigQueryLogger",
    message="this port has no BigQuery logger; take BenchmarkFileLogger with --benchmark_log_dir",
    flag_values=flag_values,
  )
  if benchmark_log_dir:
    flags.register_multi_flags_validator(
      ["benchmark_logger_type", "benchmark_log_dir"],
      lambda values: values["benchmark_logger_type"] != "BenchmarkFileLogger" or values["benchmark_log_dir"],
      message="BenchmarkFileLogger needs a folder for its files; give --benchmark_log_dir",
      flag_values=flag_values,
    )
