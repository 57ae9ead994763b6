"""Compares learning rates with those of plain formulas."""

import math

import numpy as np
import pytest

from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training.schedules import SHAPES, Schedule


def factors(schedule: Schedule, steps) -> list[float]:
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    return session.run([schedule.factor(tf.constant(step, tf.int64)) for step in steps])


def test_a_cosine_falls_from_one_to_nothing():
  found = factors(Schedule("cosine", 0, 1000), [0, 250, 500, 750, 999, 1000, 5000])
  expected = [1, 0.5 + 0.5 * math.sqrt(0.5), 0.5, 0.5 - 0.5 * math.sqrt(0.5), 2.4674e-6, 0, 0]
  np.testing.assert_allclose(found, expected, atol=2e-7)


@pytest.mark.parametrize("warmup_steps", [0, 1, 30, 999])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_what_follows_a_warm_up(shape, warmup_steps):
  steps = np.arange(0, 1201, 3)
  rising = np.minimum(1, steps / max(1, warmup_steps)) if warmup_steps else np.ones(len(steps))
  progress = np.clip((steps - warmup_steps) / (1000 - warmup_steps), 0, 1)
  falling = {"constant": np.ones(len(steps)), "cosine": (1 + np.cos(np.pi * progress)) / 2}[shape]
  schedule = Schedule(shape, warmup_steps, 1000)
  found = [schedule.factor(steps[0])] * len(steps) if schedule.is_constant else factors(schedule, steps)
  np.testing.assert_allclose(found, rising * falling, atol=1e-6)


def test_large_steps_are_told_apart():
  (last, end) = factors(Schedule("cosine", 0, 10_000_000), [9_999_000, 10_000_000])
  assert last > end == 0


def count_no_steps():
  raise AssertionError("nothing depends on the steps")


def test_steps_are_counted_only_if_the_learning_rate_changes():
  assert Schedule().of_run(count_no_steps) == Schedule()
  assert Schedule().factor(tf.constant(7)) == 1
  assert Schedule("cosine").of_run(lambda: 70) == Schedule("cosine", 0, 70)
  assert Schedule(warmup_steps=69).of_run(lambda: 70) == Schedule("constant", 69, 70)


def test_a_warm_up_longer_than_the_run_is_refused():
  with pytest.raises(UserError, match="--warmup_steps=70 leaves nothing of the 70 steps.*--train_epochs"):
    Schedule("constant", 70).of_run(lambda: 70)


def test_steps_that_nobody_counted_are_asked_for():
  with pytest.raises(UserError, match="--learning_rate_schedule=cosine with --warmup_steps=0 .* run_deep_speech"):
    Schedule("cosine").factor(tf.constant(0))
