"""Tries what is put around calls of the Estimator."""

import gc
import weakref

import pytest
import runs

import deep_speech
from data.batches import cut_all
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training import calls


@pytest.fixture
def chosen(tones_dir):
  flags_obj = runs.parse(*runs.arguments(tones_dir, "unused"))
  return deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj)


def test_the_inputs_own_failure_comes_out(chosen):
  error = tf.errors.UnknownError(None, None, "what TensorFlow makes of it")
  with pytest.raises(tf.errors.UnknownError), calls.one_graph(chosen):
    raise error
  chosen.failure = UserError("the file is gone")
  with pytest.raises(UserError, match="the file is gone"), calls.one_graph(chosen):
    raise error
  with pytest.raises(UserError, match="lower --learning_rate"), calls.one_graph(chosen):
    raise tf.compat.v1.train.NanLossDuringTrainingError


@pytest.mark.parametrize(
  ("message", "remedy"),
  [("model/graph.pbtxt; No space left on device", "make room"), ("OOM when allocating tensor", "lower --batch_size")],
)
def test_what_runs_out_is_said(message, remedy, chosen):
  with pytest.raises(UserError, match=remedy), calls.one_graph(chosen):
    raise tf.errors.ResourceExhaustedError(None, None, message)


def test_the_graph_is_let_go(chosen):
  with calls.one_graph(chosen), tf.Graph().as_default() as graph:
    tf.custom_gradient(lambda value: (value, lambda gradient: gradient))(tf.constant(1.0))
    kept = weakref.ref(graph)
    del graph
  gc.collect()
  assert kept() is None


def test_binds_the_batches(chosen):
  batches = list(calls.bind_input_fn(chosen, cut_all([[0, 1, 2]], 2), 1)())
  assert [inputs["index"].numpy()[:, 0].tolist() for inputs, _ in batches] == [[0, 1], [2]]


@pytest.mark.parametrize(("asked", "kept"), [(1, 5), (9, 9)])
def test_enough_checkpoints_are_kept_for_their_mean(asked, kept):
  config = calls.run_config(asked, tf_random_seed=3)
  assert (config.keep_checkpoint_max, config.tf_random_seed, config.save_summary_steps) == (kept, 3, 0)
