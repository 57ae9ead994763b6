"""Uses a model_dir and exports that the version before settings.json had a format number wrote, with equal numbers."""

import os
import tarfile

import fixture_files
import numpy as np
import pytest
import runs

import deep_speech
import exports
import inference
from data import manifest
from official_utils import checkpoints
from official_utils.lazy import tf
from training.model_dir import ModelDir
from transcribe import load_model

EXPECTED = fixture_files.load_json("earlier_version")


@pytest.fixture
def model_dir(tmp_path) -> str:
  with tarfile.open(os.path.join(fixture_files.FOLDER, "earlier_version.tar.xz")) as archive:
    archive.extractall(tmp_path, filter="data")
  return str(tmp_path / "model")


def chirp() -> np.ndarray:
  """Make half a second of a rising tone."""
  frequencies = np.linspace(300, 3000, 8000)
  return (0.1 * np.sin(2 * np.pi * np.cumsum(frequencies) / 16000)).astype(np.float32)


def test_it_is_evaluated(model_dir, tones_dir):
  sets = f"--eval_data_dir={tones_dir}/dev.tsv", f"--test_data_dir={tones_dir}/train.tsv"
  rows = deep_speech.evaluate_checkpoint(
    runs.parse("--mode=evaluate", f"--model_dir={model_dir}", *sets, "--num_gpus=0")
  )
  for row, expected in zip(rows, EXPECTED["evaluated"], strict=True):
    assert {key: row[key] for key in expected} == pytest.approx(expected)


def test_it_goes_on_training(model_dir, tones_dir, capsys):
  options = runs.arguments(tones_dir, model_dir, "--learning_rate=0.01", "--train_epochs=2")
  deep_speech.run_deep_speech(runs.parse(*options))
  assert "1 epochs are done already" in capsys.readouterr().out
  row, expected = ModelDir(model_dir).evaluations()[-1], EXPECTED["resumed"]
  assert (row["epoch"], row["global_step"]) == (expected["epoch"], expected["global_step"])
  assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)
  assert {key: row[key] for key in ("WER", "CER")} == pytest.approx({key: expected[key] for key in ("WER", "CER")})
  after = tf.train.load_checkpoint(model_dir)
  assert set(after.get_variable_to_shape_map()) == set(EXPECTED["norms"])
  for name, norm in EXPECTED["norms"].items():
    assert np.linalg.norm(after.get_tensor(name)) == pytest.approx(norm, rel=2e-3, abs=1e-6), name


def test_it_is_exported_and_transcribes(model_dir, tones_dir, tmp_path):
  paths = [entry.path for entry in manifest.read_manifest(f"{tones_dir}/dev.tsv")]
  # Its own export, its checkpoint, and an export that is made of it now.
  folders = deep_speech.export_checkpoint(
    runs.parse("--mode=export", f"--model_dir={model_dir}", f"--export_dir={tmp_path / 'exports'}")
  )
  os.rename(os.path.join(model_dir, "export"), tmp_path / "earlier")
  for path in (str(tmp_path / "earlier"), model_dir, folders[0]):
    model = load_model(path)
    assert model(paths) == EXPECTED["texts"]
    np.testing.assert_allclose(model.model.log_probs([chirp()])[0], EXPECTED["log_probs"], atol=1e-3)


def test_its_settings_mean_the_same(model_dir):
  settings, labels = inference.read_description(model_dir)
  assert settings.values() | {"rnn_hidden_layers": 5, "rnn_hidden_size": 800} == inference.ModelSettings().values()
  assert "".join(labels) == " abcdefghijklmnopqrstuvwxyz'-"
  assert exports.load_export(exports.find_export(f"{model_dir}/export")).settings == settings
  assert checkpoints.newest_checkpoint(model_dir).endswith("model.ckpt-3")
