"""Compares learning rates with those of plain formulas."""

import math

import numpy as np
import pytest

from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training.model_dir import ModelDir
from training.schedules import Schedule, count_plateaus


def factors(schedule: Schedule, steps) -> list[float]:
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    return session.run([tf.identity(schedule.factor(tf.constant(step, tf.int64))) for step in steps])


def test_a_cosine_falls_from_one_to_nothing():
  found = factors(Schedule("cosine", total_steps=1000), [0, 250, 500, 750, 999, 1000, 5000])
  expected = [1, 0.5 + 0.5 * math.sqrt(0.5), 0.5, 0.5 - 0.5 * math.sqrt(0.5), 2.4674e-6, 0, 0]
  np.testing.assert_allclose(found, expected, atol=2e-7)


def plainly(shape: str, final: float, steps, warmup_steps: int):
  """Compute the factor after the warm-up for a run of 1000 steps."""
  progress = np.clip((steps - warmup_steps) / (1000 - warmup_steps), 0, 1)
  return {
    "constant": np.ones(len(steps)),
    "cosine": final + (1 - final) * (1 + np.cos(np.pi * progress)) / 2,
    "noam": np.sqrt(warmup_steps / np.maximum(steps, max(1, warmup_steps))),
    "exponential": final**progress,
    "plateau": np.ones(len(steps)),
  }[shape]


@pytest.mark.parametrize("warmup_steps", [0, 1, 30, 999])
@pytest.mark.parametrize(
  ("shape", "final"),
  [("constant", 0), ("cosine", 0), ("cosine", 0.2), ("noam", 0), ("exponential", 0.01), ("plateau", 0)],
)
def test_what_follows_a_warm_up(shape, final, warmup_steps, tmp_path):
  steps = np.arange(0, 1201, 3)
  if shape == "noam" and not warmup_steps:
    warmup_steps = 2
  rising = np.minimum(1, steps / max(1, warmup_steps)) if warmup_steps else np.ones(len(steps))
  schedule = Schedule(shape, warmup_steps, final, model_dir=str(tmp_path), total_steps=1000)
  expected = rising * plainly(shape, final, steps, warmup_steps)
  np.testing.assert_allclose(factors(schedule, steps), expected, atol=1e-6)


def test_noam_is_one_formula_with_its_peak_after_the_warm_up():
  steps = np.arange(1, 200)
  found = factors(Schedule("noam", 40, total_steps=300), steps)
  np.testing.assert_allclose(found, np.minimum(steps / 40, np.sqrt(40 / steps)), rtol=1e-6)
  assert steps[np.argmax(found)] == 40


def test_large_steps_are_told_apart():
  (last, end) = factors(Schedule("cosine", total_steps=10_000_000), [9_999_000, 10_000_000])
  assert last > end == 0


@pytest.mark.parametrize(
  ("rates", "patience", "plateaus"),
  [
    ([], 1, 0),
    ([0.5, 0.4, 0.3], 1, 0),
    ([0.5, 0.5], 1, 1),
    ([0.5, 0.6, 0.55], 1, 2),
    ([0.5, 0.6, 0.4, 0.4], 2, 0),
    ([0.5, 0.6, 0.5, 0.7], 2, 1),
    ([0.5, 0.6, 0.5, 0.7, 0.5], 2, 2),
    ([0.5, 0.6, 0.5, 0.7, 0.45, 0.5, 0.5], 2, 2),
  ],
)
def test_plateaus_are_counted(rates, patience, plateaus):
  assert count_plateaus(rates, patience) == plateaus


def test_a_plateau_lowers_the_rate_by_what_eval_jsonl_holds(tmp_path):
  def rate():
    return factors(Schedule("plateau", 0, 0.0, 1, 0.25, str(tmp_path), total_steps=100), [50])[0]

  model_dir = ModelDir(str(tmp_path))
  found = [rate()]
  for step, wer in ((10, 0.5), (20, 0.5), (30, 0.25), (40, 0.5)):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      tf.compat.v1.train.get_or_create_global_step().load(step, session)
      tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), global_step=step)
    model_dir.append_evaluation({"epoch": step // 10, "global_step": step, "WER": wer})
    found.append(rate())
  assert found == [1, 1, 0.25, 0.25, 0.0625]
  # Gone back to the checkpoint of step 30: what was evaluated later does not count.
  (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-30"')
  assert rate() == 0.25


def count_no_steps():
  raise AssertionError("nothing depends on the steps")


def test_steps_are_counted_only_if_the_learning_rate_changes():
  assert Schedule().of_run(count_no_steps) == Schedule()
  assert Schedule().factor(tf.constant(7)) == 1
  assert Schedule("cosine").of_run(lambda: 70) == Schedule("cosine", total_steps=70)
  assert Schedule(warmup_steps=69).of_run(lambda: 70) == Schedule("constant", 69, total_steps=70)


def test_a_warm_up_longer_than_the_run_is_refused():
  with pytest.raises(UserError, match="--warmup_steps=70 leaves nothing of the 70 steps.*--train_epochs"):
    Schedule("constant", 70).of_run(lambda: 70)


@pytest.mark.parametrize("shape", ["cosine", "exponential"])
def test_steps_that_nobody_counted_are_asked_for(shape):
  with pytest.raises(UserError, match=f"--learning_rate_schedule={shape} follows .* run_deep_speech"):
    Schedule(shape).factor(tf.constant(0))
