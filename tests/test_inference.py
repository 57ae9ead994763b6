"""Tries models in memory: clips of odd lengths, the variables they need, and what they cannot do."""

import multiprocessing
import os

import numpy as np

import inference
from official_utils import checkpoints
from official_utils.lazy import tf
from official_utils.misc.errors import UserError


def of_checkpoint(model_dir: str) -> inference.SpeechModel:
  """Load the newest checkpoint of a model_dir."""
  return inference.load_checkpoint(checkpoints.newest_checkpoint(model_dir), *inference.read_description(model_dir))


def test_odd_clips(tones_model):
  model = of_checkpoint(tones_model)
  clips = [np.zeros(1, np.float32), np.zeros(0, np.float32), np.ones(16000, np.float32)]
  log_probs = model.log_probs(clips)
  assert [len(each) for each in log_probs] == [1, 1, 25]
  for each in log_probs:
    np.testing.assert_allclose(np.exp(each).sum(axis=1), 1, rtol=1e-4)
  assert model.log_probs([]) == []
  assert model.step_seconds == 0.04


def test_variable_shapes_are_those_of_the_checkpoint(tones_model):
  settings, labels = inference.read_description(tones_model)
  there = dict(tf.train.list_variables(tf.train.latest_checkpoint(tones_model)))
  for name, shape in inference.variable_shapes(settings, len(labels)).items():
    assert there[name] == shape


def test_descriptions_are_written_as_they_are_read(tones_model, tmp_path):
  description = inference.read_description(tones_model)
  os.makedirs(tmp_path / "copy")
  inference.write_description(str(tmp_path / "copy"), *description)
  assert inference.read_description(str(tmp_path / "copy")) == description


def test_a_forked_process_says_that_it_cannot_use_the_model(tones_model):
  model = of_checkpoint(tones_model)
  clip = np.zeros(16000, np.float32)
  expected = model.log_probs([clip])[0]

  def try_it(connection):
    try:
      connection.send(model.log_probs([clip]))
    except UserError as error:
      connection.send(str(error))

  ours, theirs = multiprocessing.Pipe()
  child = multiprocessing.get_context("fork").Process(target=try_it, args=[theirs])
  child.start()
  assert ours.poll(60)
  assert "was forked from it; load it after the fork" in ours.recv()
  child.join()
  np.testing.assert_array_equal(model.log_probs([clip])[0], expected)
