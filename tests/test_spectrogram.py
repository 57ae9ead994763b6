"""Holds the features computed in the graph against the featurizer."""

import math

import hypothesis
import numpy as np
import pytest
import soxr
from hypothesis import strategies as st

from data.featurizer import AudioFeaturizer
from layers import spectrogram
from official_utils.lazy import tf


def speech_like(num_samples: int, seed: int, loudness: float = 0.3) -> np.ndarray:
  """Make tones that come and go over faint noise."""
  rng = np.random.default_rng(seed)
  time = np.arange(num_samples) / 16000
  tones = sum(np.sin(2 * np.pi * frequency * time) for frequency in rng.uniform(80, 7000, 5))
  samples = loudness * tones / 5 * np.abs(np.sin(3 * time)) + 1e-3 * rng.normal(size=num_samples)
  return samples.astype(np.float32)


def in_graph(clips, featurizer: AudioFeaturizer, filling: float = 0.0, more: int = 0):
  """Compute the features of clips in one batch, padded with anything."""
  lengths = [len(clip) for clip in clips]
  batch = np.full([len(clips), max(lengths) + more], filling, np.float32)
  for row, clip in zip(batch, clips, strict=True):
    row[: len(clip)] = clip
  settings = featurizer.sample_rate, *featurizer.window_and_hop
  values, frames = spectrogram.log_spectrograms(tf.constant(batch), tf.constant(lengths), *settings)
  values = spectrogram.normalize(values, frames) if featurizer.normalize else values + math.log(spectrogram.EPSILON)
  return spectrogram.without_padding(values, frames).numpy(), frames.numpy()


@pytest.mark.parametrize("settings", [(16000, 20, 10), (16000, 25, 10), (8000, 20, 20), (22050, 20, 7)])
@pytest.mark.parametrize("normalize", [False, True])
def test_equals_the_featurizer(settings, normalize):
  featurizer = AudioFeaturizer(*settings, normalize=normalize)
  clips = [speech_like(num_samples, seed) for seed, num_samples in enumerate([16000, 12345, 500, 30001])]
  features, frames = in_graph(clips, featurizer)
  assert features.shape == (4, frames.max(), featurizer.num_feature_bins)
  for row, count, clip in zip(features, frames, clips, strict=True):
    expected = featurizer.featurize(clip)
    assert count == len(expected) == featurizer.num_frames(len(clip))
    np.testing.assert_allclose(row[:count], expected, atol=1e-4)
    assert not row[count:].any()


@hypothesis.given(
  lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=4),
  filling=st.sampled_from([0.0, 1e4, np.nan, np.inf]),
  more=st.integers(0, 500),
)
@hypothesis.settings(max_examples=25)
def test_padding_changes_nothing(lengths, filling, more):
  featurizer = AudioFeaturizer()
  clips = [speech_like(length, seed) for seed, length in enumerate(lengths)]
  features, frames = in_graph(clips, featurizer, filling, more)
  for row, count, clip in zip(features, frames, clips, strict=True):
    alone, (alone_count,) = in_graph([clip], featurizer)
    assert count == alone_count
    np.testing.assert_allclose(row[:count], alone[0], atol=1e-4)
    assert not row[count:].any()


def test_what_never_changes_is_zero():
  features, _ = in_graph([np.zeros(1600, np.float32), np.full(100, 0.5, np.float32)], AudioFeaturizer())
  np.testing.assert_array_equal(features, np.zeros_like(features))


def test_a_long_clip_keeps_its_precision():
  """Single precision would lose a bin's mean over 60,000 frames if it were added up carelessly."""
  featurizer = AudioFeaturizer(8000, 20, 20)
  clip = np.tile(speech_like(8000 * 60, 3), 20)
  features, _ = in_graph([clip], featurizer)
  np.testing.assert_allclose(features[0], featurizer.featurize(clip), atol=1e-3)


@pytest.mark.parametrize("normalize", [False, True])
def test_bins_without_sound_are_no_rounding(normalize):
  """Audio that came at half the rate has half its bins like that, and normalisation makes what is there as loud as speech."""
  featurizer = AudioFeaturizer(normalize=normalize)
  clips = [soxr.resample(speech_like(4000 + 900 * seed, seed), 8000, 16000) for seed in range(5)]
  features, frames = in_graph(clips, featurizer)
  for row, count, clip in zip(features, frames, clips, strict=True):
    np.testing.assert_allclose(row[:count], in_graph([clip], featurizer)[0][0], atol=1e-4)
    np.testing.assert_allclose(row[:count], featurizer.featurize(clip), atol=2e-3)
