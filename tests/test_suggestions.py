"""Tests the suggestions of how to train: the table, and what it comes to for few utterances and for several GPUs."""

import math

import pytest
import runs

import settings
from data import suggestions
from data.suggestions import ON_CPU, ON_GPUS, ORIGINAL, SMALL, TONES


def steps_of(flags: dict, num_utterances: int) -> tuple[int, int]:
  """Count the steps of an epoch and of the whole run that flags ask for."""
  values = suggestions.DEFAULTS | flags
  steps = math.ceil(num_utterances / values["batch_size"])
  return steps, steps * values["train_epochs"]


@pytest.mark.parametrize("table", [ON_CPU, ON_GPUS])
def test_there_is_a_size_for_every_number_of_hours(table):
  assert [size.hours for size in table] == sorted({size.hours for size in table})
  assert table[-1].hours == math.inf
  assert table[0] == SMALL


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_more_hours_get_no_smaller_network(num_gpus):
  networks = [
    settings.make_settings(suggestions.choose_size(hours, num_gpus).flags).network for hours in (0.01, 3, 5, 100, 960)
  ]
  sizes = [network.rnn_hidden_layers * network.rnn_hidden_size**2 for network in networks]
  assert sizes == sorted(sizes)
  assert sizes[0] == sizes[1] < sizes[2] < sizes[3]


def test_the_size_of_a_thousand_hours_depends_on_the_device():
  assert settings.make_settings(suggestions.choose_size(960, 8).flags) == settings.make_settings({})
  on_cpu = settings.make_settings(suggestions.choose_size(960, 0).flags).network
  assert (on_cpu.rnn_hidden_layers, on_cpu.rnn_hidden_size) == (3, 512)


def test_the_demo_gets_what_was_measured():
  assert suggestions.choose_size(0.41, 0) is SMALL
  assert suggestions.suggest_flags(SMALL, 810, 0) == {
    "num_gpus": 0,
    "rnn_hidden_layers": 2,
    "rnn_hidden_size": 256,
    "conv_layout": "paper",
    "stride_ms": 20,
    "batch_size": 8,
    "learning_rate": 0.0008,
    "train_epochs": 20,
    "epochs_between_evals": 2,
    "dtype": "auto",
    "clip_norm": 5,
    "learning_rate_schedule": "cosine",
  }


def test_librispeech_gets_the_defaults_of_the_original_on_gpus():
  assert suggestions.suggest_flags(ORIGINAL, 132553, 8) == {
    "num_gpus": -1,
    "warmup_steps": 1000,
    "dtype": "auto",
    "clip_norm": 5,
    "learning_rate_schedule": "cosine",
  }


@pytest.mark.parametrize("size", [*ON_CPU, *ON_GPUS, ORIGINAL, TONES])
@pytest.mark.parametrize("num_utterances", [1, 7, 27, 99, 400, 810, 1519, 12000, 130000, 1000000])
def test_no_corpus_is_too_small_to_be_learned(size, num_utterances):
  flags = suggestions.DEFAULTS | suggestions.suggest_flags(size, num_utterances, 0)
  steps, total = steps_of(flags, num_utterances)
  assert total >= size.steps
  assert flags["train_epochs"] >= size.epochs
  assert steps * flags["epochs_between_evals"] >= size.steps_a_cycle
  # Every cycle is whole, and none is longer than it must be.
  assert flags["train_epochs"] % flags["epochs_between_evals"] == 0
  assert flags["epochs_between_evals"] == 1 or steps * (flags["epochs_between_evals"] - 1) < size.steps_a_cycle
  assert suggestions.LEAST_BATCH <= flags["batch_size"] <= size.batch_size
  assert steps >= suggestions.LEAST_STEPS_AN_EPOCH or flags["batch_size"] == suggestions.LEAST_BATCH
  assert flags["warmup_steps"] <= min(size.warmup_steps, total / 10)


def test_27_recordings_do_not_make_cycles_of_one_step():
  flags = suggestions.suggest_flags(SMALL, 27, 0)
  assert (flags["batch_size"], flags["train_epochs"], flags["epochs_between_evals"]) == (4, 290, 29)
  assert steps_of(flags, 27) == (7, 2030)


@pytest.mark.parametrize(
  ("num_utterances", "num_gpus", "batch_size"),
  [(810, 1, 8), (810, 3, 9), (27, 8, 8), (130000, 3, 129), (130000, 8, 128)],
)
def test_gpus_can_share_a_batch(num_utterances, num_gpus, batch_size):
  size = ON_GPUS[-1] if num_utterances > 10000 else SMALL
  flags = suggestions.DEFAULTS | suggestions.suggest_flags(size, num_utterances, num_gpus)
  assert (flags["num_gpus"], flags["batch_size"]) == (-1, batch_size)


def test_what_is_left_out_is_the_default():
  flags = runs.parse()
  known = {name: value for name, value in suggestions.DEFAULTS.items() if name in flags}
  assert {"batch_size", "learning_rate", "train_epochs", "epochs_between_evals"} <= known.keys()
  assert {name: flags[name].default for name in known} == known


@pytest.mark.parametrize("size", [*ON_CPU, *ON_GPUS, ORIGINAL, TONES])
def test_the_network_is_one_that_the_program_makes(size):
  runs.parse(*(f"--{name}={value}" for name, value in size.flags.items()))
  settings.make_settings(size.flags)
  assert size.flags.keys() - {"wer_threshold"} <= settings.make_settings({}).values().keys()


def test_estimates_how_long_a_cpu_takes():
  flags = suggestions.suggest_flags(SMALL, 810, 0)
  # README: four minutes on 2 cores.
  assert 200 < suggestions.training_seconds(SMALL, flags, 0.41, 2) < 330
  (*_, large) = ON_CPU
  flags = suggestions.suggest_flags(large, 132553, 0)
  assert suggestions.training_seconds(large, flags, 464, 2) == 2 * suggestions.training_seconds(large, flags, 464, 4)
  assert suggestions.training_seconds(large, {}, 464, 2) == 20 * suggestions.training_seconds(large, flags, 464, 2)


@pytest.mark.parametrize(
  ("seconds", "words"),
  [
    (1, "2 minutes"),
    (290, "5 minutes"),
    (7199, "120 minutes"),
    (7200, "2 hours"),
    (172000, "48 hours"),
    (3e5, "3 days"),
  ],
)
def test_says_a_duration_in_one_unit(seconds, words):
  assert suggestions.say_duration(seconds) == words
