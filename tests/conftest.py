"""Settings that all tests share."""

import os

import hypothesis
import pytest

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
