"""Trains with the options of optimizers, stops in between, goes on, evaluates and exports, as users would."""

import os
import re

import numpy as np
import pytest
import runs

import deep_speech
from official_utils import checkpoints
from official_utils.misc.errors import UserError
from training.model_dir import ModelDir
from training.schedules import count_plateaus
from transcribe import load_model

PLATEAU = ["--optimizer=nesterov", "--learning_rate=0.001", "--momentum=0.8", "--clip_norm=5", "--weight_decay=0.001"]
PLATEAU += ["--learning_rate_schedule=plateau", "--plateau_patience=1", "--plateau_factor=0.25", "--keep_exports=0"]
# An epoch has three batches, so it ends within an update.
AVERAGES = [
  "--optimizer=adamw",
  "--learning_rate=0.01",
  "--weight_decay=0.01",
  "--ema_decay=0.9",
  "--accumulate_steps=2",
]
AVERAGES += ["--loss_scale=dynamic", "--clip_norm=400"]


def variables(checkpoint: str) -> dict:
  return {name: checkpoints.read_variable(checkpoint, name) for name in checkpoints.read_shapes(checkpoint)}


def assert_same_bits(left: str, right: str) -> None:
  """Compare the newest checkpoints of two runs."""
  one, other = (variables(checkpoints.newest_checkpoint(model_dir)) for model_dir in (left, right))
  assert one.keys() == other.keys()
  for name, value in one.items():
    np.testing.assert_array_equal(other[name], value, err_msg=name)


@pytest.fixture(scope="module")
def averages_model(tones_dir, tmp_path_factory) -> str:
  """Train two epochs with averages, decay and updates by two batches; return the model_dir."""
  model_dir = str(tmp_path_factory.mktemp("averages") / "model")
  deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, model_dir, *AVERAGES, "--train_epochs=2")))
  return model_dir


def test_a_plateau_is_the_same_after_a_restart(tones_dir, tmp_path):
  whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
  for model_dir, epochs in ((whole, 3), (parts, 2), (parts, 3)):
    options = runs.arguments(tones_dir, model_dir, *PLATEAU, f"--train_epochs={epochs}")
    deep_speech.run_deep_speech(runs.parse(*options))
  assert_same_bits(whole, parts)
  rows = ModelDir(whole).evaluations()
  rates = [0.001 * 0.25 ** count_plateaus([row["WER"] for row in rows[:epoch]], 1) for epoch in range(3)]
  assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
  for row in rows:
    assert 0 < row["gradient_norm"] <= row["largest_gradient_norm"]


def test_the_command_goes_on_within_an_update(averages_model, tones_dir, tmp_path):
  for epochs, waiting in ((1, 1), (2, 0)):
    done = runs.start(tmp_path, *runs.arguments(tones_dir, "model", *AVERAGES, f"--train_epochs={epochs}"))
    assert done.returncode == 0, done.stderr
    found = variables(checkpoints.newest_checkpoint(str(tmp_path / "model")))
    assert (found["global_step"], found["accumulated_batches"]) == (3 * epochs, waiting)
  assert_same_bits(averages_model, str(tmp_path / "model"))


def test_what_is_evaluated_and_exported_are_the_averages(averages_model, tones_dir):
  checkpoint = checkpoints.newest_checkpoint(averages_model)
  there = variables(checkpoint)
  assert np.any(there["dense/kernel"] != there["dense/kernel/average"])
  options = [f"--model_dir={averages_model}", f"--eval_data_dir={tones_dir}/dev.tsv", "--num_gpus=0"]
  (row,) = deep_speech.evaluate_checkpoint(runs.parse("--mode=evaluate", *options))
  last = ModelDir(averages_model).evaluations()[-1]
  assert {key: row[key] for key in ("WER", "CER", "mean_CER")} == {key: last[key] for key in ("WER", "CER", "mean_CER")}
  exported = f"{averages_model}/export/last/6"
  for name, value in variables(f"{exported}/variables/variables").items():
    np.testing.assert_array_equal(value, there.get(f"{name}/average", there[name]), err_msg=name)
  clip = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
  ours, theirs = (load_model(path).model.log_probs([clip])[0] for path in (averages_model, exported))
  np.testing.assert_array_equal(ours, theirs)


def test_the_mean_of_checkpoints_is_evaluated_and_exported(averages_model, tones_dir, tmp_path, capsys):
  sources = [variables(f"{averages_model}/model.ckpt-{step}") for step in (3, 6)]
  common = [f"--model_dir={averages_model}", "--average_checkpoints=2", "--num_gpus=0"]
  (row,) = deep_speech.evaluate_checkpoint(
    runs.parse("--mode=evaluate", *common, f"--eval_data_dir={tones_dir}/dev.tsv")
  )
  assert row["global_step"] == 6
  assert re.search(r"utterances, .*/averaged_checkpoint/model.ckpt-6\n", capsys.readouterr().out)
  folders = deep_speech.export_checkpoint(runs.parse("--mode=export", *common, f"--export_dir={tmp_path}"))
  assert folders == [os.path.join(tmp_path, "last", "6")]
  for name, value in variables(f"{folders[0]}/variables/variables").items():
    wanted = sum(each.get(f"{name}/average", each[name]).astype(np.float64) for each in sources) / 2
    np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      "--accumulate_steps=1",
      "holds accumulated_batches, which training with these flags does not keep; give --optimizer",
    ),
    ("--optimizer=nesterov", "holds .*/Adam, which training with these flags does not keep"),
    ("--ema_decay=", "holds .*/average, which training with these flags does not keep"),
  ],
)
def test_another_state_of_training_is_refused(change, message, averages_model, tones_dir):
  name = change.partition("=")[0]
  options = [flag for flag in AVERAGES if not flag.startswith(name)] + ([] if change.endswith("=") else [change])
  with pytest.raises(UserError, match=message):
    deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, averages_model, *options, "--train_epochs=3")))


def test_training_does_not_begin_averages_later(tones_model, tones_dir):
  options = runs.arguments(tones_dir, tones_model, "--ema_decay=0.9", "--train_epochs=9")
  with pytest.raises(
    UserError, match="lacks .*/average, which training keeps: .* check --optimizer, --accumulate_steps"
  ):
    deep_speech.run_deep_speech(runs.parse(*options))
