"""Tests of the flags that all programs share, and of the program that runs on them."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags

from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.misc import number_formats
from official_utils.misc.errors import UserError

_ROOT = pathlib.Path(__file__).resolve().parent.parent

_PROGRAM = '''"""A program for tests."""

import sys

sys.path[0] = {root!r}
from absl import flags, logging

from official_utils.flags import core as flags_core
from official_utils.misc.errors import UserError


def main(argv):
  if flags.FLAGS.fail == "user":
    raise UserError("the cup is empty; fill it with --tea")
  if flags.FLAGS.fail == "bug":
    raise RuntimeError("a bug")
  if flags.FLAGS.fail == "interrupt":
    raise KeyboardInterrupt
  logging.info("all is well")
  logging.warning("mind the %s", "step")
  print(argv[1:], flags.FLAGS.batch_size, flags.FLAGS.clean, flags.FLAGS.tea)
  return 7 if flags.FLAGS.fail == "code" else None


if __name__ == "__main__":
  flags_core.define_base()
  flags_core.define_performance()
  flags_core.define_benchmark()
  flags.DEFINE_string("tea", None, "The kind of tea.")
  flags.DEFINE_string("fail", "", "How to fail.")
  if "--check" in sys.argv:
    sys.argv.remove("--check")
    import atexit
    atexit.register(lambda: print("loaded:", "tensorflow" in sys.modules))
  flags_core.run(main, description="Makes tea.\\n\\npython tea.py --tea=green\\n")
'''


@pytest.fixture(name="run_program")
def _run_program(tmp_path):
  path = tmp_path / "tea.py"
  path.write_text(_PROGRAM.format(root=str(_ROOT)))

  def run(*arguments):
    command = [sys.executable, str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

  return run


def _define(**asked):
  values = flags.FlagValues()
  flags_core.define_base(flag_values=values, **asked)
  return values


def test_every_flag_of_base_can_be_left_out():
  names = {
    "data_dir": "data_dir",
    "model_dir": "model_dir",
    "clean": "clean",
    "train_epochs": "train_epochs",
    "epochs_between_evals": "epochs_between_evals",
    "stop_threshold": "stop_threshold",
    "batch_size": "batch_size",
    "num_gpu": "num_gpus",
    "hooks": "hooks",
    "export_dir": "export_dir",
  }
  everything = _define()
  for keyword, name in names.items():
    assert name in everything
    assert set(_names(everything)) - set(_names(_define(**{keyword: False}))) == {name}


def test_every_flag_of_performance_can_be_left_out():
  def define(**asked):
    values = flags.FlagValues()
    flags_core.define_performance(flag_values=values, **asked)
    return set(_names(values))

  left_out = {
    "num_parallel_calls": {"num_parallel_calls"},
    "inter_op": {"inter_op_parallelism_threads"},
    "intra_op": {"intra_op_parallelism_threads"},
    "max_train_steps": {"max_train_steps"},
    "dtype": {"dtype", "loss_scale"},
    "all_reduce_alg": {"all_reduce_alg"},
  }
  assert define() == set().union(*left_out.values())
  for keyword, names in left_out.items():
    assert define() - define(**{keyword: False}) == names


def test_parts_of_benchmark_can_be_left_out():
  def define(**asked):
    values = flags.FlagValues()
    flags_core.define_benchmark(flag_values=values, **asked)
    return set(_names(values))

  assert define() - define(benchmark_log_dir=False) == {"benchmark_log_dir"}
  assert define(bigquery_uploader=False) == {"benchmark_logger_type", "benchmark_test_id", "benchmark_log_dir"}


def _names(values):
  return [flag.name for of_module in flags_core.own_flags(values).values() for flag in of_module]


def test_own_flags_are_those_of_this_repository():
  modules = flags_core.own_flags(_define())
  assert list(modules) == ["official_utils.flags._base"]
  # The process's own flags hold those of absl, and whatever test runners and TensorFlow define.
  assert not any(name.startswith("absl") for name in flags_core.own_flags())


def test_key_flags_are_adopted_from_core():
  values = _define()
  key_flags = {flag.name for flag in values.get_key_flags_for_module(flags_core)}
  assert key_flags == set(_names(values)) - {"stop_threshold", "num_gpus"}


def test_set_defaults_and_parse():
  values = _define()
  flags_core.set_defaults(values, batch_size=7, hooks="")
  flags_core.parse_flags(["program"], values)
  assert (values.batch_size, values.hooks, values.num_gpus, values.train_epochs) == (7, [], None, 1)
  flags_core.parse_flags(["program", "-bs", "9", "--ng=2", "--hk=a,b", "--clean"], values)
  assert (values.batch_size, values.num_gpus, values.hooks, values.clean) == (9, 2, ["a", "b"], True)
  assert flags_core.parse_flags(["program"], values) is values
  assert (values.batch_size, values.num_gpus, values.hooks, values.clean) == (7, None, [], False)


def test_set_defaults_of_a_flag_that_does_not_exist():
  with pytest.raises(flags.UnrecognizedFlagError, match="no_such_flag"):
    flags_core.set_defaults(_define(), no_such_flag=1)


def test_benchmark_validators():
  values = flags.FlagValues()
  flags_core.define_benchmark(flag_values=values)
  with pytest.raises(flags.IllegalFlagValueError, match="give --benchmark_log_dir"):
    flags_core.parse_flags(["program", "--benchmark_logger_type=BenchmarkFileLogger"], values)
  with pytest.raises(flags.IllegalFlagValueError, match="no BigQuery logger"):
    flags_core.parse_flags(["program", "--benchmark_logger_type=BenchmarkBigQueryLogger"], values)
  flags_core.parse_flags(["program", "--benchmark_logger_type=BenchmarkFileLogger", "-bld", "/tmp/log"], values)
  assert values.benchmark_log_dir == "/tmp/log"


def test_dtype_and_loss_scale():
  values = flags.FlagValues()
  flags_core.define_performance(flag_values=values)
  flags_core.parse_flags(["program"], values)
  assert (flags_core.get_tf_dtype(values), flags_core.get_loss_scale(values)) == (tf.float32, 1)
  flags_core.parse_flags(["program", "--dtype=fp16"], values)
  assert (flags_core.get_tf_dtype(values), flags_core.get_loss_scale(values)) == (tf.float16, 128)
  flags_core.parse_flags(["program", "--dtype=fp16", "-ls", "8"], values)
  assert flags_core.get_loss_scale(values) == 8
  flags_core.parse_flags(["program", "--dtype=bf16"], values)
  assert (flags_core.get_tf_dtype(values), flags_core.get_loss_scale(values)) == (tf.bfloat16, 1)
  flags_core.parse_flags(["program", "--dtype=auto"], values)
  taken = getattr(tf, number_formats.FORMATS[number_formats.resolve("auto", ["/cpu:0"])])
  assert (flags_core.get_tf_dtype(values, ["/cpu:0"]), flags_core.get_loss_scale(values)) == (taken, 1)
  flags_core.parse_flags(["program", "--loss_scale=dynamic"], values)
  assert flags_core.get_loss_scale(values) == "dynamic"
  for wrong in ("0", "-1", "much", "inf"):
    flags_core.parse_flags(["program", f"--loss_scale={wrong}"], values)
    with pytest.raises(UserError, match=rf"--loss_scale={wrong} is not a valid factor"):
      flags_core.get_loss_scale(values)


def test_help_wrap_lays_out_anew():
  words = "word " * 40
  wrapped = flags_core.help_wrap(f"  one\n     two {words}")
  assert wrapped.split() == ["one", "two", *words.split()]
  assert all(len(line) <= 80 for line in wrapped.splitlines())
  assert wrapped.startswith("one two word")


@pytest.mark.parametrize("argument", ["--help", "-h", "-help", "--helpfull", "--helpshort", "-?"])
def test_help_lists_every_flag_by_module(run_program, argument):
  result = run_program("--check", "--batch_size=nonsense", argument)
  assert result.returncode == 0
  assert result.stderr == ""
  text = result.stdout
  assert text.startswith("Makes tea.\n\npython tea.py --tea=green\n\nusage: python ")
  for module in ("_base", "_performance", "_benchmark"):
    title = (_ROOT / f"official_utils/flags/{module}.py").read_text().splitlines()[0].strip('"').rstrip(".")
    assert f"\n\n{title}:\n  --" in text
  assert "\n\nA program for tests:\n  --tea (string; default: none)\n      The kind of tea.\n" in text
  values = flags.FlagValues()
  flags_core.define_base(flag_values=values)
  flags_core.define_performance(flag_values=values)
  flags_core.define_benchmark(flag_values=values)
  heads = [line.split(" (")[0] for line in text.splitlines() if line.startswith("  --")]
  expected = []
  for name in _names(values):
    short_name = values[name].short_name
    negative = f", --no{name}" if values[name].boolean else ""
    expected.append(f"  --{name}{negative}" + (f", -{short_name}" if short_name else ""))
  assert heads == [*expected, "  --tea", "  --fail"]
  assert "--clean, --noclean (bool; default: false)" in text
  assert "--batch_size, -bs (int; default: 32)" in text
  assert "--num_gpus, -ng (int; default: none)" in text
  assert "<fp16|bf16|fp32|auto>" in text
  assert "--verbosity" not in text
  assert all(len(line) <= 100 for line in text.splitlines()[5:])
  assert text.endswith("loaded: False\n")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--bach_size=3"], "Unknown command line flag 'bach_size'. Did you mean: batch_size ? (see --help)"),
    (["--batch_size=three"], "flag --batch_size=three: not an integer (see --help)"),
    (["--stop_threshold=low"], "flag --stop_threshold=low: not a number (see --help)"),
    (["--clean=perhaps"], "flag --clean=perhaps: neither true nor false (see --help)"),
    (["--noclean=1"], "--noclean=1 does not take an argument (see --help)"),
    (["--dtype=fp8"], "flag --dtype=fp8: value should be one of <fp16|bf16|fp32|auto> (see --help)"),
    (["--batch_size"], "Missing value for flag --batch_size (see --help)"),
    (["--clean", "false"], "unexpected argument 'false'; write a flag and its value as --flag=value (see --help)"),
    (["--", "-h"], "unexpected argument '-h'; write a flag and its value as --flag=value (see --help)"),
  ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(run_program, arguments, message):
  result = run_program(*arguments)
  assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: {message}\n")


def test_a_failed_validator_is_one_line_and_exit_code_2(run_program):
  result = run_program("--benchmark_logger_type=BenchmarkFileLogger")
  assert result.returncode == 2
  assert result.stderr.count("\n") == 1
  assert "give --benchmark_log_dir" in result.stderr


@pytest.mark.parametrize(
  ("how", "code", "message"),
  [
    ("user", 1, "error: the cup is empty; fill it with --tea\n"),
    ("interrupt", 130, "error: interrupted from the keyboard\n"),
  ],
)
def test_main_fails_in_one_line(run_program, how, code, message):
  result = run_program(f"--fail={how}")
  assert (result.returncode, result.stdout, result.stderr) == (code, "", message)


def test_a_bug_keeps_its_traceback(run_program):
  result = run_program("--fail=bug")
  assert result.returncode == 1
  assert "Traceback" in result.stderr
  assert result.stderr.endswith("RuntimeError: a bug\n")


def test_main_runs_with_plain_log_lines(run_program):
  result = run_program("-bs", "5", "--clean", "--tea", "mint")
  assert (result.returncode, result.stdout) == (0, "[] 5 True mint\n")
  assert result.stderr == "all is well\nwarning: mind the step\n"


def test_main_chooses_the_exit_code_and_absl_flags_work(run_program):
  result = run_program("--fail=code", "--verbosity=-1")
  assert (result.returncode, result.stderr) == (7, "warning: mind the step\n")
