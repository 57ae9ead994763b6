"""Tries the model_dir: what it refuses, and how epochs are counted from what the checkpoint holds."""

import json
import os
import shutil

import pytest

from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training import checkpoints

FIXTURES = os.path.join(os.path.dirname(__file__), "fixtures")
VOCABULARY = " abc-"
SETTINGS = {
  "rnn_type": "gru",
  "rnn_hidden_size": 8,
  "rnn_hidden_layers": 1,
  "is_bidirectional": True,
  "use_bias": True,
  "sample_rate": 16000,
}


def save_global_step(path, step: int):
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    variable = tf.compat.v1.train.get_or_create_global_step()
    variable.load(step, session)
    tf.compat.v1.train.Saver().save(session, os.path.join(path, "model.ckpt"), global_step=step)


def test_prepare_writes_what_a_reader_needs(tmp_path):
  path = str(tmp_path / "new" / "dir")
  model_dir = checkpoints.ModelDir(path)
  model_dir.prepare({"seed": 3}, SETTINGS, VOCABULARY)
  with open(os.path.join(path, checkpoints.FLAGS_FILE)) as file:
    assert json.load(file) == {"seed": 3}
  with open(os.path.join(path, checkpoints.SETTINGS_FILE)) as file:
    assert json.load(file) == SETTINGS
  with open(os.path.join(path, checkpoints.VOCABULARY_FILE)) as file:
    assert file.read() == " \na\nb\nc\n-\n"
  model_dir.prepare({"seed": 4}, SETTINGS, VOCABULARY)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_another_setting_is_refused_naming_both(tmp_path, name):
  model_dir = checkpoints.ModelDir(str(tmp_path))
  model_dir.prepare({}, SETTINGS, VOCABULARY)
  with pytest.raises(UserError, match=rf"--{name}={SETTINGS[name]}.*--{name}=other"):
    model_dir.prepare({}, SETTINGS | {name: "other"}, VOCABULARY)


def test_another_vocabulary_is_refused_naming_both(tmp_path):
  model_dir = checkpoints.ModelDir(str(tmp_path))
  model_dir.prepare({}, SETTINGS, VOCABULARY)
  with pytest.raises(UserError, match="' abc-' and now ' abd-'"):
    model_dir.prepare({}, SETTINGS, " abd-")


def test_a_damaged_settings_file_is_named(tmp_path):
  (tmp_path / checkpoints.SETTINGS_FILE).write_text("{")
  with pytest.raises(UserError, match="settings.json is damaged"):
    checkpoints.ModelDir(str(tmp_path)).prepare({}, SETTINGS, VOCABULARY)


def test_a_file_is_no_model_dir(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write into .*file.*--model_dir"):
    checkpoints.ModelDir(str(tmp_path / "file")).prepare({}, SETTINGS, VOCABULARY)


def test_epochs_follow_the_checkpoint(tmp_path):
  model_dir = checkpoints.ModelDir(str(tmp_path))
  assert model_dir.completed_epochs(10) == 0
  model_dir.plan_epochs(0, 2, 10)
  assert model_dir.completed_epochs(10) == 0
  save_global_step(tmp_path, 9)
  assert model_dir.completed_epochs(10) == 0
  # The interrupted epoch starts again and now ends later.
  model_dir.plan_epochs(0, 2, 10)
  save_global_step(tmp_path, 19)
  assert model_dir.completed_epochs(10) == 1
  save_global_step(tmp_path, 29)
  assert model_dir.completed_epochs(10) == 2
  # Another batch size changes what comes, not what was.
  assert model_dir.completed_epochs(5) == 2
  model_dir.plan_epochs(2, 1, 5)
  save_global_step(tmp_path, 34)
  assert model_dir.completed_epochs(5) == 3


def test_epochs_of_a_checkpoint_without_our_files(tmp_path):
  save_global_step(tmp_path, 25)
  model_dir = checkpoints.ModelDir(str(tmp_path))
  assert model_dir.global_step() == 25
  assert model_dir.completed_epochs(10) == 2
  model_dir.plan_epochs(2, 1, 10)
  assert model_dir.completed_epochs(10) == 2
  save_global_step(tmp_path, 35)
  assert model_dir.completed_epochs(10) == 3


def test_evaluations(tmp_path):
  model_dir = checkpoints.ModelDir(str(tmp_path))
  assert model_dir.evaluations() == []
  rows = [{"epoch": 1, "WER": 0.5}, {"epoch": 2, "WER": 0.25}, {"epoch": 2, "WER": 0.125}]
  for row in rows:
    model_dir.append_evaluation(row)
  assert model_dir.evaluations() == rows
  assert model_dir.evaluation_after(2) == rows[2]
  assert model_dir.evaluation_after(3) is None


def test_the_originals_checkpoint_is_checked_against_the_network(tmp_path):
  shutil.copytree(os.path.join(FIXTURES, "checkpoint"), tmp_path, dirs_exist_ok=True)
  model_dir = checkpoints.ModelDir(str(tmp_path))
  vocabulary = " abcdefghijklmnopqrstuvwxyz'-"
  with pytest.raises(UserError, match=r"dense/kernel of shape \[16, 29\].*\[32, 29\]"):
    model_dir.prepare({}, SETTINGS | {"rnn_hidden_size": 16}, vocabulary)
  with pytest.raises(UserError, match="dense/bias"):
    model_dir.prepare({}, SETTINGS | {"use_bias": False}, vocabulary)
  model_dir.prepare({}, SETTINGS, vocabulary)
  assert model_dir.global_step() == 4
