"""Compares the optimizers with plain numpy over several steps."""

import numpy as np
import plain_training
import pytest

from official_utils.lazy import tf
from training import updates
from training.optimizer import Optimizer

OPTIONS = {
  "adam": {},
  "adam with an L2 penalty and averages": {"weight_decay": 0.3, "ema_decay": 0.4},
  "adamw": {"optimizer": "adamw", "weight_decay": 0.3},
  "adamw with averages": {"optimizer": "adamw", "weight_decay": 0.3, "ema_decay": 0.4, "clip_norm": 1.0},
  "nesterov": {"optimizer": "nesterov", "momentum": 0.8},
  "nesterov with an L2 penalty and averages": {"optimizer": "nesterov", "weight_decay": 0.3, "ema_decay": 0.4},
  "momentum": {"optimizer": "momentum", "clip_norm": 1.0},
  "momentum with averages": {"optimizer": "momentum", "momentum": 0.5, "ema_decay": 0.9, "loss_scale": "dynamic"},
  "plain descent": {"optimizer": "momentum", "momentum": 0.0, "weight_decay": 0.3, "loss_scale": 128.0},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_updates_are_those_of_numpy(options, tmp_path):
  chosen = Optimizer(0.05, **options)
  found = plain_training.train(tmp_path, chosen, batch_size=4)
  plain_training.assert_close(found, plain_training.train_plainly(chosen, 4, [0.05] * 6))
  assert ("layer/bias/average" in found) == ("ema_decay" in options)


@pytest.mark.parametrize("scale", [1, "dynamic"])
@pytest.mark.parametrize(
  "options",
  [{"optimizer": "adamw"}, {"optimizer": "nesterov", "clip_norm": 1.0}, {}],
  ids=["adamw", "nesterov", "adam"],
)
def test_two_replicas_update_as_one_device_does(options, scale, tmp_path):
  chosen = Optimizer(0.05, weight_decay=0.3, ema_decay=0.4, loss_scale=scale, **options)
  found = plain_training.train(tmp_path, chosen, 4, ["/cpu:0", "/cpu:1"])
  plain_training.assert_close(found, plain_training.train_plainly(chosen, 4, [0.05] * 6))


def test_a_step_that_is_skipped_lets_nothing_decay_and_no_average_move(tmp_path):
  chosen = Optimizer(0.05, "adamw", weight_decay=0.3, ema_decay=0.4, loss_scale="dynamic")
  inputs = plain_training.bad(9)
  found = plain_training.train(tmp_path, chosen, 4, inputs=inputs)
  plain_training.assert_close(found, plain_training.train_plainly(chosen, 4, [0.05] * 6, inputs))
  assert found["global_step"] == 6


def test_averages_forget_the_first_weights_early():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    found = session.run([updates.early_decay(0.99, tf.constant(done, tf.int64)) for done in (0, 5, 890, 10**6)])
  np.testing.assert_allclose(found, [0.1, 0.4, 0.99, 0.99], rtol=1e-6)
