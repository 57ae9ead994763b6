"""Takes a checkpoint that the original wrote, by name and without a mapping: predicts from it, and trains on from it."""

import os

import fixture_files
import numpy as np
import pytest
import runs
from fixture_files import MANIFEST

import deep_speech
from data import dataset as speech_dataset
from official_utils.lazy import tf
from training.model_dir import ModelDir


@pytest.fixture
def flags_obj(tmp_path):
  fixture_files.copy_checkpoint(tmp_path / "model")
  paths = [f"--train_data_dir={MANIFEST}", f"--eval_data_dir={MANIFEST}", f"--model_dir={tmp_path / 'model'}"]
  return runs.parse(*paths, *runs.SMALL, "--batch_size=3", "--nomask_padding", "--train_epochs=2")


def test_predictions_equal_the_original(flags_obj):
  chosen = deep_speech.generate_dataset(MANIFEST, flags_obj, is_training=False)
  estimator = deep_speech.make_estimator(flags_obj, chosen.speech_labels, ["/cpu:0"])
  expected = fixture_files.load_arrays("checkpoint_predictions")
  predictions = list(estimator.predict(lambda: speech_dataset.input_fn(3, chosen)))
  assert len(predictions) == len(chosen.entries) == 7
  for number, prediction in enumerate(predictions):
    for key in ("logits", "probabilities"):
      np.testing.assert_allclose(prediction[key], expected[f"{number}/{key}"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(prediction["classes"], expected[f"{number}/classes"])
  recorded = fixture_files.load_json("evaluate")["checkpoint"]
  assert [prediction["length"] for prediction in predictions] == recorded["frames"]


def test_training_goes_on(flags_obj):
  model_dir = flags_obj.model_dir
  before = tf.train.load_checkpoint(os.path.join(model_dir, "model.ckpt-4"))
  deep_speech.run_deep_speech(flags_obj)
  after = tf.train.load_checkpoint(model_dir)
  assert set(after.get_variable_to_shape_map()) == set(before.get_variable_to_shape_map())
  # Four steps of three a epoch are one whole epoch of its own: the second is trained from its beginning.
  assert after.get_tensor("global_step") == 7
  assert [row["epoch"] for row in ModelDir(model_dir).evaluations()] == [1, 2]
  # Adam counts on where it was.
  assert after.get_tensor("beta1_power") == pytest.approx(before.get_tensor("beta1_power") * 0.9**3, rel=1e-5)
  slot = "dense/kernel/Adam_1"
  assert np.all(after.get_tensor(slot) >= before.get_tensor(slot) * 0.999**3 * (1 - 1e-5))
