"""Adds up gradients over batches, and compares with plain numpy and with larger batches."""

import numpy as np
import plain_training
import pytest

from training.optimizer import Optimizer
from training.schedules import Schedule

ONE, TWO = ["/cpu:0"], ["/cpu:0", "/cpu:1"]


@pytest.mark.parametrize("devices", [ONE, TWO], ids=["one device", "two devices"])
@pytest.mark.parametrize("scale", [1, "dynamic"])
def test_an_update_takes_the_mean_of_its_batches(scale, devices, tmp_path):
  """Of 12 batches, the sixth is left out if the scale is dynamic: then the last makes no whole update of three."""
  schedule = Schedule("cosine", warmup_steps=1, total_steps=6)
  chosen = Optimizer(0.1, ema_decay=0.7, accumulate_steps=3, clip_norm=2.0, loss_scale=scale, schedule=schedule)
  inputs = plain_training.bad(10) if scale == "dynamic" else plain_training.INPUTS
  found = plain_training.train(tmp_path, chosen, 2, devices, inputs)
  rates = [0.0, *(0.05 * (1 + np.cos(np.pi * np.arange(5) / 5)))]
  plain = plain_training.train_plainly(chosen, 2, rates, inputs)
  plain_training.assert_close(found, plain)
  left_over = 2 if scale == "dynamic" else 0
  assert (found["global_step"], found["accumulated_batches"]) == (12, left_over)
  rows = slice(len(inputs) - 2 * left_over, None)
  last = plain_training.gradients(plain.weights, inputs[rows], plain_training.TARGETS[rows]) if left_over else {}
  for name in plain.weights:
    # The checkpoint has the sum of both batches, of all devices.
    wanted = left_over * last[name] if left_over else np.zeros_like(plain.weights[name])
    np.testing.assert_allclose(found[f"layer/{name}/accumulated"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adam", "nesterov"])
def test_two_small_batches_are_one_large(name, tmp_path):
  options = {"optimizer": name, "weight_decay": 0.1, "ema_decay": 0.5, "clip_norm": 1.0}
  schedule = Schedule("noam", warmup_steps=2, total_steps=6)
  large = plain_training.train(tmp_path / "large", Optimizer(0.1, schedule=schedule, **options), 4)
  small = Optimizer(0.1, schedule=schedule, accumulate_steps=2, **options)
  small = plain_training.train(tmp_path / "small", small, 2)
  assert (small.pop("global_step"), large.pop("global_step")) == (12, 6)
  assert {each.rpartition("/")[2] for each in small.keys() - large.keys()} == {"accumulated", "accumulated_batches"}
  for each, value in large.items():
    np.testing.assert_allclose(small[each], value, rtol=1e-5, atol=1e-7, err_msg=each)


@pytest.mark.parametrize("scale", [1, "dynamic"])
def test_a_run_resumed_within_an_update_ends_with_the_same_bits(scale, tmp_path):
  chosen = Optimizer(0.1, ema_decay=0.9, accumulate_steps=4, clip_norm=1.0, loss_scale=scale)
  whole = plain_training.train(tmp_path / "whole", chosen, 2)
  first = plain_training.train(tmp_path / "parts", chosen, 2, rows=slice(0, 12))
  assert (first["global_step"], first["accumulated_batches"]) == (6, 2)
  resumed = plain_training.train(tmp_path / "parts", chosen, 2, rows=slice(12, None))
  assert resumed.keys() == whole.keys()
  for name, value in whole.items():
    np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@pytest.mark.parametrize("devices", [ONE, TWO], ids=["one device", "two devices"])
def test_replicas_resume_within_an_update(devices, tmp_path):
  """The checkpoint has the sum of both; then both go on with half of it, or one with all of it."""
  chosen = Optimizer(0.1, accumulate_steps=4)
  whole = plain_training.train(tmp_path / "whole", chosen, 2, TWO)
  plain_training.train(tmp_path / "parts", chosen, 2, TWO, rows=slice(0, 12))
  resumed = plain_training.train(tmp_path / "parts", chosen, 2, devices, rows=slice(12, None))
  assert resumed.keys() == whole.keys()
  for name, value in whole.items():
    np.testing.assert_allclose(resumed[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


def test_fewer_batches_to_an_update_than_are_waiting(tmp_path):
  """A run goes on with another number: the next batch makes an update of all that wait."""
  plain_training.train(tmp_path, Optimizer(0.1, accumulate_steps=9), 2, rows=slice(0, 10))
  found = plain_training.train(tmp_path, Optimizer(0.1, accumulate_steps=2), 2, rows=slice(10, 12))
  plain = plain_training.train_plainly(Optimizer(0.1), 12, [0.1] * 2)
  first = plain_training.PlainOptimizer(Optimizer(0.1))
  first.update(plain_training.gradients(first.weights, plain_training.INPUTS[:12], plain_training.TARGETS[:12]), 0, 0.1)
  plain_training.assert_close(found, first)
  assert plain.norms[0] == pytest.approx(first.norms[0])
