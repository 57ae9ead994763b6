"""Asks which number format --dtype takes on processors, of which only the description is there, and on this machine."""

import json
import os
import pathlib

import pytest
import runs

from official_utils.misc import number_formats
from official_utils.misc.errors import UserError

CPU = ["/cpu:0"]
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS")
# One list of instructions for each processor, as Linux shows them.
AMX = "fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile"
AVX512_BF16 = "fpu avx2 avx512f avx512_bf16"
AVX2 = "fpu avx2 avx_vnni"


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch):
  for name in LIMITS:
    monkeypatch.delenv(name, raising=False)


def write_processor(root: pathlib.Path, instructions: str, label: str = "flags") -> str:
  """Write the description of a processor with two cores; return its root folder."""
  (root / "proc").mkdir(exist_ok=True)
  core = f"model name\t: of a test\n{label}\t\t: {instructions}\nbugs\t\t: spectre_v1\n\n"
  (root / "proc/cpuinfo").write_text(f"processor\t: 0\n{core}processor\t: 1\n{core}")
  return str(root)


def announced(name: str, devices=CPU) -> list[str]:
  """Return the lines that `announce` says."""
  lines: list[str] = []
  number_formats.announce(name, lines.append, devices)
  return lines


@pytest.mark.parametrize(
  ("instructions", "is_fast", "reason"),
  [
    (AMX, True, "this processor multiplies in hardware (amx_bf16)"),
    (AVX512_BF16, True, "this processor multiplies in hardware (avx512_bf16)"),
    (AVX2, False, "this processor is not known to multiply bf16 in hardware"),
    ("fpu xamx_bf16 avx512_bf16x", False, "this processor is not known to multiply bf16 in hardware"),
  ],
)
def test_processors(instructions, is_fast, reason, tmp_path):
  found = number_formats.find_support(CPU, write_processor(tmp_path, instructions))
  assert found == (is_fast, reason, True)


def test_other_systems_are_not_known(tmp_path):
  # No file, as on macOS; and ARM's, with other names.
  for root in (str(tmp_path), write_processor(tmp_path, "fp asimd bf16", "Features")):
    assert not number_formats.find_support(CPU, root).is_fast


@pytest.mark.parametrize(
  ("variable", "value", "reason"),
  [
    ("ONEDNN_MAX_CPU_ISA", "DEFAULT", "(amx_bf16)"),
    ("ONEDNN_MAX_CPU_ISA", "", "(amx_bf16)"),
    ("ONEDNN_MAX_CPU_ISA", "AVX1024", "(amx_bf16)"),
    ("ONEDNN_MAX_CPU_ISA", "AVX10_1_512_AMX", "(amx_bf16)"),
    ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", "(amx_bf16)"),
    ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16", "(avx512_bf16)"),
    ("ONEDNN_MAX_CPU_ISA", "avx512_core_bf16", "(avx512_bf16)"),
    ("TF_ENABLE_ONEDNN_OPTS", "1", "(amx_bf16)"),
  ],
)
def test_limits_that_leave_bf16(variable, value, reason, tmp_path, monkeypatch):
  monkeypatch.setenv(variable, value)
  found = number_formats.find_support(CPU, write_processor(tmp_path, AMX))
  assert found.is_fast and found.reason.endswith(reason)


@pytest.mark.parametrize(
  ("variable", "value", "works"),
  [
    ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
    ("ONEDNN_MAX_CPU_ISA", "sse41", False),
    ("DNNL_MAX_CPU_ISA", "AVX2_VNNI", False),
    ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", True),
    ("TF_ENABLE_ONEDNN_OPTS", "0", True),
    ("TF_ENABLE_ONEDNN_OPTS", "false", True),
  ],
)
def test_limits_that_rule_bf16_out(variable, value, works, tmp_path, monkeypatch):
  root = write_processor(tmp_path, AMX)
  monkeypatch.setenv(variable, value)
  found = number_formats.find_support(CPU, root)
  assert not found.is_fast and found.works == works
  assert variable in found.reason
  # A limit does nothing to a processor that has nothing to lose.
  assert number_formats.find_support(CPU, write_processor(tmp_path, AVX2)).works


def test_the_newer_name_of_the_limit_counts(tmp_path, monkeypatch):
  monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "DEFAULT")
  monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
  assert number_formats.find_support(CPU, write_processor(tmp_path, AMX)).is_fast


@pytest.mark.parametrize(
  ("capability", "is_fast", "reason"),
  [
    ((8, 0), True, "/gpu:1 multiplies in hardware (compute capability 8.0)"),
    ((9, 0), True, "/gpu:1 multiplies in hardware (compute capability 9.0)"),
    ((10, 0), True, "/gpu:1 multiplies in hardware (compute capability 10.0)"),
    ((7, 5), False, "/gpu:1 has compute capability 7.5, and only GPUs from 8.0 on multiply bf16"),
    (None, False, "/gpu:1 has no compute capability that would say whether it multiplies bf16"),
  ],
)
def test_gpus(capability, is_fast, reason):
  assert number_formats.support_of_capability("/gpu:1", capability) == (is_fast, reason, True)


def test_auto_says_what_it_takes(monkeypatch):
  (line,) = announced("auto")
  support = number_formats.find_support(CPU)
  assert line == f"--dtype=auto: {'bf16, which' if support.is_fast else 'fp32:'} {support.reason}"
  assert number_formats.resolve("auto", CPU) == ("bf16" if support.is_fast else "fp32")
  # By itself, TensorFlow takes the same device where there is no GPU.
  assert number_formats.resolve("auto", None) in ("bf16", "fp32")
  monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
  assert number_formats.resolve("auto", CPU) == "fp32"
  (line,) = announced("auto")
  assert line.startswith("--dtype=auto: fp32: ")


def test_what_is_asked_for_is_taken(caplog, monkeypatch):
  assert [number_formats.resolve(name, CPU) for name in number_formats.FORMATS] == list(number_formats.FORMATS)
  assert announced("fp32") == announced("fp16", ["/gpu:0"]) == []
  monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
  assert announced("fp32") == []
  assert caplog.messages == []


def test_bf16_without_hardware_is_warned_of(caplog, monkeypatch):
  monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
  assert announced("bf16") == []
  (message,) = caplog.messages
  assert message == f"--dtype=bf16 is slower here than fp32: {number_formats.find_support(CPU).reason}."


def test_fp16_on_a_cpu_is_refused():
  for devices in (CPU, ["/cpu:0", "/cpu:1"]):
    with pytest.raises(UserError, match="^--dtype=fp16 takes minutes a step on a CPU; give --dtype=bf16, or"):
      announced("fp16", devices)


def start_limited(tmp_path, *options: str, **limits: str):
  """Run the command with an environment of its own."""
  return runs.start(tmp_path, *options, env=os.environ | limits)


def test_training_takes_what_auto_says(tones_dir, tmp_path):
  """The limits stand in for a processor without bf16."""
  # Without oneDNN a step in bf16 takes seconds.
  few = f"--train_data_dir={tones_dir}/dev.tsv"
  options = runs.arguments(tones_dir, "model", few, "--dtype=auto", "--keep_exports=0")
  result = start_limited(tmp_path, *options, ONEDNN_MAX_CPU_ISA="AVX2")
  assert result.returncode == 0, result.stderr
  assert result.stdout.count("--dtype=auto: fp32: ") == result.stdout.count("--dtype=") == 1
  assert json.loads((tmp_path / "model/flags.json").read_text())["dtype"] == "fp32"
  # It goes on in another format.
  result = start_limited(tmp_path, *options, "--train_epochs=2", "--dtype=bf16", TF_ENABLE_ONEDNN_OPTS="0")
  assert result.returncode == 0, result.stderr
  assert result.stderr.count("warning: --dtype=bf16 is slower here than fp32: ") == 1
  assert json.loads((tmp_path / "model/flags.json").read_text())["dtype"] == "bf16"


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_the_command_refuses_fp16_on_a_cpu(mode, tones_dir, tones_model, tmp_path):
  model_dir = tones_model if mode == "evaluate" else "model"
  result = runs.start(tmp_path, *runs.arguments(tones_dir, model_dir, "--dtype=fp16", f"--mode={mode}"))
  message = "error: --dtype=fp16 takes minutes a step on a CPU; give --dtype=bf16, or --dtype=auto\n"
  assert (result.returncode, result.stdout, result.stderr) == (1, "", message)
  assert not os.path.exists(tmp_path / "model")
