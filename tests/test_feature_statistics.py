"""Holds the statistics of a training set against those of all its frames at once."""

import numpy as np
import pytest
import recordings

from data import audio, feature_statistics
from data.feature_statistics import measure_statistics
from data.features import make_features
from settings import FEATURES

LENGTHS = (0.01, 1.3, 0.2, 4.0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
  folder = tmp_path_factory.mktemp("statistics")
  found = [str(folder / f"{number}.wav") for number in range(len(LENGTHS))]
  for path, seconds in zip(found, LENGTHS, strict=True):
    recordings.write(path, seconds)
  return found


@pytest.mark.parametrize("kind", sorted(FEATURES))
@pytest.mark.parametrize("feature_norm", ["corpus", "running"])
def test_every_frame_counts_once(kind, feature_norm, paths):
  statistics, count = measure_statistics(FEATURES[kind](feature_norm=feature_norm), paths, 1)
  features = make_features(FEATURES[kind](feature_norm="none"))
  frames = np.concatenate([features.compute(audio.read_audio(path, 16000)) for path in paths]).astype(np.float64)
  assert count == len(paths)
  np.testing.assert_allclose(statistics.mean, frames.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(statistics.deviation, frames.std(axis=0), rtol=1e-12)


def test_of_a_large_set_the_seed_draws_some(paths, monkeypatch):
  monkeypatch.setattr(feature_statistics, "MOST_UTTERANCES", 2)
  settings = FEATURES["log_mel"](feature_norm="corpus")
  drawn = [measure_statistics(settings, paths, seed) for seed in (1, 1, 2, 3, 4)]
  assert {count for _, count in drawn} == {2}
  assert drawn[0] == drawn[1]
  assert len({statistics for statistics, _ in drawn}) > 1
