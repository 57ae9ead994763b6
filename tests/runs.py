"""Starts the program with small settings, in this process or as a user would."""

import os
import subprocess
import sys

import small_network
from absl import flags

import deep_speech
from official_utils.flags import core as flags_core

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = small_network.options(batch_size=8, num_gpus=0)


def arguments(tones_dir: str, model_dir: str, *more: str) -> list[str]:
  """Return the flags of a short run on the tones corpus."""
  paths = [
    f"--train_data_dir={tones_dir}/train.tsv",
    f"--eval_data_dir={tones_dir}/dev.tsv",
    f"--model_dir={model_dir}",
  ]
  return [*paths, *SMALL, "--train_epochs=1", *more]


def parse(*options: str) -> flags.FlagValues:
  """Parse a command line into flags of its own."""
  values = flags.FlagValues()
  deep_speech.define_deep_speech_flags(values)
  return flags_core.parse_flags(["deep_speech.py", *options], values)


def start(cwd, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
  """Run `python deep_speech.py` in another folder, to its end; None for this process's environment."""
  command = [sys.executable, os.path.join(ROOT, "deep_speech.py"), *options]
  return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)
