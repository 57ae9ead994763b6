"""Tries models in memory: clips of odd lengths, the variables they need, and what they cannot do."""

import multiprocessing
import os

import numpy as np

import inference
from official_utils import checkpoints
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

# How far products in bfloat16, with 8 bits, may move a log-probability of a small network.
BOUND = 0.1


def of_checkpoint(model_dir: str, *dtype: str) -> inference.SpeechModel:
  """Load the newest checkpoint of a model_dir."""
  description = inference.read_description(model_dir)
  return inference.load_checkpoint(checkpoints.newest_checkpoint(model_dir), *description, *dtype)


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


def test_in_bfloat16_every_kernel_is_kept_rounded_and_never_widened(tones_model):
  checkpoint, description = checkpoints.newest_checkpoint(tones_model), inference.read_description(tones_model)
  with inference.restored(checkpoint, *description, "bfloat16") as (session, tensors), session:
    graph = session.graph
    variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
    values = session.run(variables)
    # The dense layer multiplies in float32, with a kernel of a few columns.
    small = variables["dense/kernel"].shape
    widened = [op for op in graph.get_operations() if op.type == "Cast" and op.inputs[0].dtype == tf.bfloat16]
    kept = [variable.shape for variable in variables.values() if variable.dtype.base_dtype == tf.bfloat16]
    assert [op.inputs[0].shape for op in widened if op.inputs[0].shape in kept] == [small]
    assert tensors.log_probs.dtype == tf.float32
  assert "cnn_1/kernel" in values
  for name, value in values.items():
    exact = checkpoints.read_variable(checkpoint, name)
    is_kernel = exact.ndim > 1
    assert value.dtype == (tf.bfloat16.as_numpy_dtype if is_kernel else np.float32), name
    np.testing.assert_array_equal(value, exact.astype(value.dtype), err_msg=name)


def test_bfloat16_comes_close(tones_model):
  generator = np.random.default_rng(1)
  clips = [generator.normal(0, 0.1, length).astype(np.float32) for length in (16000, 40000, 1)]
  exact, close = (of_checkpoint(tones_model, dtype).log_probs(clips) for dtype in ("float32", "bfloat16"))
  for left, right in zip(exact, close, strict=True):
    assert right.dtype == np.float32
    np.testing.assert_allclose(np.exp(right).sum(axis=1), 1, rtol=1e-4)
    assert 0 < np.abs(left - right).max() < BOUND
