"""Settings that all tests share."""

import os

import hypothesis
import pytest
import runs

import deep_speech
from data.corpora import tones

# How long an example takes says nothing about whether it is right, and a machine may be busy.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def tones_dir(tmp_path_factory) -> str:
  """Make a tones corpus of 22 utterances to train on, 6 to evaluate on and 5 to test on; return the manifests' folder."""
  data_dir = str(tmp_path_factory.mktemp("data"))
  tones.download_tones(data_dir, num_train=22, num_dev=6, num_test=5)
  tones.prepare_tones(data_dir)
  return os.path.join(data_dir, "tones")


@pytest.fixture(scope="session")
def tones_model(tones_dir, tmp_path_factory) -> str:
  """Train on the tones until different recordings give different texts; return the model_dir, with its exports."""
  model_dir = str(tmp_path_factory.mktemp("trained") / "model")
  options = runs.arguments(tones_dir, model_dir, "--learning_rate=0.01", "--train_epochs=3")
  deep_speech.run_deep_speech(runs.parse(*options))
  return model_dir
