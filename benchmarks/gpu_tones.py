"""Lets the real commands learn the tones on a GPU, and transcribes with the exports on the GPU and on the CPU."""

import glob
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, NamedTuple

from benchmarks.findings import Findings
from data import manifest, suggestions
from data.corpora import tones
from training.model_dir import ModelDir

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The cells, with their kernels.
RUNS = (("gru", "native"), ("gru", "compiled"), ("gru_reset_after", "auto"), ("lstm", "auto"))
WER_BOUND = 0.05
NUM_TRANSCRIBED = 40
SMALL_CORPUS = {"num_train": 16, "num_dev": 4, "num_test": 4}
SMALL_NETWORK = ("--rnn_hidden_layers=1", "--rnn_hidden_size=8", "--train_epochs=1")


class Program(NamedTuple):
  """A program that runs, and the files that it writes to."""

  process: subprocess.Popen
  output: IO[str]
  errors: IO[str]


def run(findings: Findings, is_small: bool, folder: str) -> None:
  """Train all cells side by side and judge each.

  Args:
    findings: take the numbers.
    is_small: whether a network that learns nothing will do.
    folder: where everything is written.
  """
  tones.download_tones(folder, **(SMALL_CORPUS if is_small else {}))
  manifests = tones.prepare_tones(folder)
  num_utterances = len(manifest.read_manifest(manifests["train"]))
  suggested = suggestions.suggest_flags(suggestions.TONES, num_utterances, num_gpus=1)
  options = [f"--{name}={value}" for name, value in suggested.items()]
  options += [f"--{name}_data_dir={manifests[split]}" for name, split in (("train", "train"), ("eval", "dev"))]
  options += SMALL_NETWORK if is_small else ()
  programs = {}
  for rnn_type, kernel in RUNS[:1] if is_small else RUNS:
    name = f"tones, {rnn_type}, {kernel}"
    model_dir = os.path.join(folder, name.replace(", ", "_"))
    chosen = [f"--rnn_type={rnn_type}", f"--rnn_kernel={kernel}", f"--model_dir={model_dir}"]
    programs[name] = _start([os.path.join(ROOT, "deep_speech.py"), *options, *chosen]), model_dir
  recordings = sorted(glob.glob(os.path.join(os.path.dirname(manifests["test"]), "test", "*.wav")))[:NUM_TRANSCRIBED]
  try:
    for name, (program, model_dir) in programs.items():
      findings.attempt(name, _judge, name, program, model_dir, recordings, None if is_small else WER_BOUND)
  finally:
    # Where the time is over, nobody waits for the others.
    for program, _ in programs.values():
      program.process.kill()
      program.process.wait()


def _start(command: Sequence[str], **environment: str) -> Program:
  """Start a Python program."""
  # Into files: whoever writes much into a pipe waits until it is read.
  files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115 - `_finish` closes them.
  environ = os.environ | environment
  process = subprocess.Popen([sys.executable, *command], env=environ, stdout=files[0], stderr=files[1])
  return Program(process, *files)


def _finish(program: Program) -> str:
  """Wait for a program and return what it printed."""
  code = program.process.wait()
  with program.output, program.errors:
    if code:
      program.errors.seek(0)
      raise RuntimeError(f"exit code {code}: {program.errors.read().strip()[-300:]}")
    program.output.seek(0)
    return program.output.read()


def _judge(
  findings: Findings,
  name: str,
  program: Program,
  model_dir: str,
  recordings: Sequence[str],
  wer_bound: float | None,
) -> None:
  """Wait for a training, and transcribe with its last export on both devices."""
  _finish(program)
  rows = ModelDir(model_dir).evaluations()
  findings.add(f"{name}: WER", rows[-1]["WER"], wer_bound, epochs=len(rows))
  command = [os.path.join(ROOT, "transcribe.py"), f"--model={os.path.join(model_dir, 'export')}", *recordings]
  texts = [_finish(each).splitlines() for each in (_start(command), _start(command, CUDA_VISIBLE_DEVICES=""))]
  different = sum(first != second for first, second in zip(*texts, strict=True))
  findings.add(f"{name}: texts that differ between GPU and CPU", different, 0, texts=len(recordings))
