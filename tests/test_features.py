"""Holds both twins of each kind of features against each other."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.features import make_features
from official_utils.lazy import tf
from settings import FEATURES, SpectrogramSettings


@hypothesis.given(
  kind=st.sampled_from(sorted(FEATURES)),
  feature_norm=st.sampled_from(["utterance", "none"]),
  rate=st.sampled_from([8000, 16000]),
  lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=3),
  seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=20)
def test_the_graph_computes_what_numpy_computes(kind, feature_norm, rate, lengths, seed):
  features = make_features(FEATURES[kind](sample_rate=rate, feature_norm=feature_norm))
  rng = np.random.default_rng(seed)
  clips = [rng.normal(0, 0.1, length).astype(np.float32) for length in lengths]
  batch = np.full([len(clips), max(lengths) + 9], np.nan, np.float32)
  for row, clip in zip(batch, clips, strict=True):
    row[: len(clip)] = clip
  values, frames = features.build(tf.constant(batch), tf.constant(lengths))
  assert values.shape[::2] == [len(clips), features.num_bins]
  for row, count, clip in zip(values.numpy(), frames.numpy(), clips, strict=True):
    expected = features.compute(clip)
    assert expected.shape == (count, features.num_bins)
    assert count == features.num_frames(len(clip))
    np.testing.assert_allclose(row[:count], expected, atol=1e-3)
    assert not row[count:].any()


def test_the_cache_key_of_spectrograms_is_that_of_earlier_caches():
  key = make_features(SpectrogramSettings(window_ms=25)).cache_key()
  assert key == {"sample_rate": 16000, "window_ms": 25, "stride_ms": 10, "normalize": True}
  assert not make_features(SpectrogramSettings(feature_norm="none")).cache_key()["normalize"]


@pytest.mark.parametrize(("settings", "bins"), [({}, 161), ({"sample_rate": 8000}, 81), ({"window_ms": 25}, 201)])
def test_bins_follow_from_the_settings(settings, bins):
  assert make_features(SpectrogramSettings(**settings)).num_bins == bins
