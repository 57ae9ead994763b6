"""Suggests how to train on a corpus: a network and a length of training that fit its hours and the machine.

Measured, on 2 CPU cores in float32: SMALL on the 0.4 hours of `mrt`, which it learns in 2000 steps; TONES, up to its
speed; the speeds of SMALL and of 3 x 256 units. Everything else is a rule of thumb. 3 x 256 was the size of the first
official DeepSpeech2 in TensorFlow; 5 x 512 is what others train on the 1000 hours of LibriSpeech with one GPU of 12 GB;
5 x 800 in batches of 128 is the original's. Others stop after some 15 epochs of 960 hours. A large network learns a few
hours by heart, costs more, and writes checkpoints of 752 MB (5 x 800), where those of SMALL have 46. Nothing was
measured on GPUs.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Size(NamedTuple):
  """How to train on corpora up to some size.

  Attributes:
    hours: the hours of training speech that it is for, at most.
    flags: what makes the network, as flags of deep_speech.py by name; a flag not named has its default.
    batch_size: utterances of a step, at most.
    learning_rate: the highest of the schedule.
    epochs: at least.
    warmup_steps: at most.
    steps: at least, however few the utterances are.
    steps_a_cycle: at least. The end of a cycle takes seconds: graphs are built, the evaluation set is scored, a model is
      exported.
    speed: seconds of audio that training gets through in a second on one core of a CPU.
  """

  hours: float
  flags: Mapping[str, Any]
  batch_size: int
  learning_rate: float
  epochs: int
  warmup_steps: int = 0
  steps: int = 2000
  steps_a_cycle: int = 100
  speed: float = math.nan


# A step is 40 ms, as with the default layout and stride, but of half the frames: twice the epochs in the same time.
# 200 of them take 13 seconds in bfloat16, the end of a cycle three.
SMALL = Size(
  3,
  {"rnn_hidden_layers": 2, "rnn_hidden_size": 256, "conv_layout": "paper", "stride_ms": 20},
  batch_size=16,
  learning_rate=0.0008,
  epochs=20,
  steps_a_cycle=200,
  speed=50,
)
# From the fewest hours to the most. On a CPU networks are smaller and epochs fewer, so that it ends within days.
ON_CPU = (
  SMALL,
  Size(30, {"rnn_hidden_layers": 3, "rnn_hidden_size": 256}, 16, 0.0005, 30, 500, speed=45),
  Size(300, {"rnn_hidden_layers": 3, "rnn_hidden_size": 512}, 32, 0.0005, 20, 1000, speed=30),
  Size(math.inf, {"rnn_hidden_layers": 3, "rnn_hidden_size": 512}, 64, 0.0005, 10, 1000, speed=30),
)
ON_GPUS = (
  SMALL,
  Size(30, {"rnn_hidden_layers": 3, "rnn_hidden_size": 512}, 32, 0.0005, 40, 500),
  Size(300, {"rnn_hidden_layers": 5, "rnn_hidden_size": 512}, 64, 0.0005, 30, 1000),
  Size(math.inf, {}, 128, 0.0005, 20, 1000),
)
# Of single corpora.
ORIGINAL = Size(math.inf, {}, 128, 0.0005, 200, 1000)
TONES = Size(
  math.inf,
  {"rnn_hidden_layers": 2, "rnn_hidden_size": 128, "wer_threshold": 0.05},
  batch_size=8,
  learning_rate=0.001,
  epochs=8,
  steps=800,
  speed=40,
)

# bfloat16 where the hardware multiplies it. With a constant rate and gradients of any size, the loss of `mrt` burst late
# in training; with these two it fell to the end.
RECIPE = {"dtype": "auto", "clip_norm": 5, "learning_rate_schedule": "cosine"}
# Flags that may be left out where deep_speech.py has these values anyway.
DEFAULTS = {
  "batch_size": 128,
  "learning_rate": 0.0005,
  "train_epochs": 200,
  "epochs_between_evals": 1,
  "warmup_steps": 0,
}
# A network needs some thousands of steps, however little there is to learn: few utterances make small batches first,
# and then more epochs.
LEAST_BATCH = 4
LEAST_STEPS_AN_EPOCH = 100


def choose_size(hours: float, num_gpus: int) -> Size:
  """Return the row of the table for an amount of training speech.

  Args:
    hours: the training speech.
    num_gpus: how many GPUs share the work; 0 for the CPU.
  """
  return next(size for size in (ON_GPUS if num_gpus else ON_CPU) if hours <= size.hours)


def suggest_flags(size: Size, num_utterances: int, num_gpus: int) -> dict[str, Any]:
  """Return the flags of deep_speech.py, by name, that train on a corpus.

  Args:
    size: how to train on corpora of this size.
    num_utterances: the number of utterances to train on.
    num_gpus: how many GPUs share a batch; 0 for the CPU.
  """
  batch_size = _batch_size(size.batch_size, num_utterances, num_gpus)
  steps = math.ceil(num_utterances / batch_size)
  cycle = math.ceil(size.steps_a_cycle / steps)
  num_cycles = math.ceil(max(size.epochs, size.steps / steps) / cycle)
  values = {
    "batch_size": batch_size,
    "learning_rate": size.learning_rate,
    "warmup_steps": min(size.warmup_steps, num_cycles * cycle * steps // 10),
    "train_epochs": num_cycles * cycle,
    "epochs_between_evals": cycle,
  }
  spoken = {name: value for name, value in values.items() if value != DEFAULTS[name]}
  return {"num_gpus": -1 if num_gpus else 0, **size.flags, **spoken, **RECIPE}


def _batch_size(most: int, num_utterances: int, num_gpus: int) -> int:
  """Choose a power of two, or the next number that the GPUs can share."""
  wanted = max(1, num_utterances // LEAST_STEPS_AN_EPOCH)
  batch_size = min(most, max(LEAST_BATCH, 1 << wanted.bit_length() - 1))
  return math.ceil(batch_size / max(1, num_gpus)) * max(1, num_gpus)


def training_seconds(size: Size, flags: Mapping[str, Any], hours: float, num_cores: int) -> float:
  """Estimate how long training takes on a CPU.

  Args:
    size: how to train on corpora of this size.
    flags: those that `suggest_flags` made of it.
    hours: the training speech.
    num_cores: the cores that share the work.
  """
  return flags.get("train_epochs", DEFAULTS["train_epochs"]) * hours * 3600 / (size.speed * num_cores)


def say_duration(seconds: float) -> str:
  """Say a duration in one unit, roughly."""
  for unit, length in (("days", 86400), ("hours", 3600)):
    if seconds >= 2 * length:
      return f"{seconds / length:.0f} {unit}"
  return f"{max(2, math.ceil(seconds / 60))} minutes"
