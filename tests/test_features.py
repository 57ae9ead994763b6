"""Holds both twins of each kind of features against each other, and what they compute against plain definitions."""

import dataclasses

import fixture_files
import hypothesis
import numpy as np
import pytest
import soxr
from hypothesis import strategies as st

from data.feature_norms import RunningNorm
from data.features import Features, make_features
from data.featurizer import compute_spectrogram_feature, normalize
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import (
  FEATURES,
  FeatureSettings,
  FeatureStatistics,
  LogMelSettings,
  MagnitudeSettings,
  SpectrogramSettings,
)

NORMS = ("utterance", "corpus", "running", "none")


def complete(settings: FeatureSettings) -> Features:
  """Make features, with statistics of noise if they need any."""
  raw = make_features(dataclasses.replace(settings, feature_norm="none"))
  noise = raw.compute(np.random.default_rng(5).normal(0, 0.1, 20_000).astype(np.float32))
  statistics = FeatureStatistics(tuple(noise.mean(axis=0).tolist()), tuple(noise.std(axis=0).tolist()))
  return make_features(settings, statistics if settings.needs_statistics else None)


def in_graph(features: Features, clips: list[np.ndarray], more: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Compute clips in the graph, in one batch whose padding is no number."""
  lengths = [len(clip) for clip in clips]
  batch = np.full([len(clips), max(lengths) + more], np.nan, np.float32)
  for row, clip in zip(batch, clips, strict=True):
    row[: len(clip)] = clip
  values, frames = features.build(tf.constant(batch), tf.constant(lengths))
  assert values.shape[2] == features.num_bins
  return values.numpy(), frames.numpy()


# Settings by kind, as functions of the sample rate.
TURNED = {
  "spectrogram": [{}, {"window_ms": 25}],
  "log_mel": [
    {},
    {"window_ms": 32, "fft_length": 700, "num_mel_bins": 31, "stride_ms": 7.5},
    {"window_ms": 40, "lower_edge_hertz": 300.0, "upper_edge_hertz": 3400.0, "log_offset": 1e-14, "num_mel_bins": 24},
  ],
  "magnitude": [{}, {"window_ms": 25, "fft_length": 401, "stride_ms": 25}],
}


@hypothesis.given(
  chosen=st.sampled_from([(kind, turned) for kind, several in TURNED.items() for turned in several]),
  feature_norm=st.sampled_from(NORMS),
  rate=st.sampled_from([8000, 16000]),
  lengths=st.lists(st.integers(0, 9000), min_size=1, max_size=3),
  more=st.integers(0, 900),
  seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=60)
def test_the_graph_computes_what_numpy_computes(chosen, feature_norm, rate, lengths, more, seed):
  kind, turned = chosen
  features = complete(FEATURES[kind](sample_rate=rate, feature_norm=feature_norm, **turned))
  rng = np.random.default_rng(seed)
  clips = [rng.normal(0, 0.1, length).astype(np.float32) for length in lengths]
  values, frames = in_graph(features, clips, more)
  for row, count, clip in zip(values, frames, clips, strict=True):
    expected = features.compute(clip)
    assert expected.dtype == np.float32
    assert expected.shape == (count, features.num_bins)
    assert count == features.num_frames(len(clip))
    np.testing.assert_allclose(row[:count], expected, atol=1e-3)
    assert not row[count:].any()


@pytest.mark.parametrize("kind", sorted(FEATURES))
@pytest.mark.parametrize("feature_norm", NORMS)
def test_padding_changes_nothing(kind, feature_norm):
  features = complete(FEATURES[kind](feature_norm=feature_norm))
  clips = [np.random.default_rng(length).normal(0, 0.1, length).astype(np.float32) for length in (0, 100, 4321, 9000)]
  values, frames = in_graph(features, clips, 1234)
  for row, count, clip in zip(values, frames, clips, strict=True):
    alone, (alone_count,) = in_graph(features, [clip])
    assert count == alone_count
    np.testing.assert_allclose(row[:count], alone[0], atol=1e-4)


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_bins_without_sound_are_no_rounding(kind):
  """Audio that came at half the rate has half its bins like that."""
  features = make_features(FEATURES[kind]())
  rng = np.random.default_rng(1)
  clip = soxr.resample(
    rng.normal(0, 0.1, 8000).astype(np.float32) * np.linspace(0, 1, 8000, dtype=np.float32), 8000, 16000
  )
  np.testing.assert_allclose(in_graph(features, [clip])[0][0], features.compute(clip), atol=2e-3)


def test_spectrograms_are_the_featurizers_to_the_last_bit():
  clip = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
  raw = compute_spectrogram_feature(clip, 16000)
  np.testing.assert_array_equal(make_features(SpectrogramSettings(feature_norm="none")).compute(clip), raw)
  np.testing.assert_allclose(make_features(SpectrogramSettings()).compute(clip), normalize(raw), atol=1e-4)


def plain_log_mel(samples: np.ndarray, settings: LogMelSettings, window: int, hop: int, points: int) -> np.ndarray:
  """Compute log-mel features by librosa's published definition: its STFT without padding, its mel matrix, a logarithm.

  Written without any of the product's functions: sums over waves, and the scale of Slaney's toolbox turned round by
  interpolation.
  """
  rate, count = settings.sample_rate, settings.num_mel_bins
  hertz = np.linspace(0, rate / 2, 2_000_001)
  mels = np.where(hertz < 1000, 3 * hertz / 200, 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4))
  low, high = np.interp([settings.lower_edge_hertz, settings.upper_edge_hertz or rate / 2], hertz, mels)
  edges = np.interp(np.linspace(low, high, count + 2), mels, hertz)
  matrix = np.zeros((points // 2 + 1, count))
  for band, (left, peak, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
    for number in range(points // 2 + 1):
      frequency = number * rate / points
      if left < frequency < right:
        height = (frequency - left) / (peak - left) if frequency < peak else (right - frequency) / (right - peak)
        matrix[number, band] = height * 2 / (right - left)
  waves = np.exp(-2j * np.pi * np.outer(np.arange(points // 2 + 1), np.arange(window)) / points)
  hann = np.sin(np.pi * np.arange(window) / window) ** 2
  starts = range(0, len(samples) - window + 1, hop)
  power = np.array([np.abs(waves @ (samples[start : start + window] * hann)) ** 2 for start in starts])
  return np.log(power @ matrix + settings.log_offset)


@pytest.mark.parametrize(
  ("settings", "sizes"),
  [
    (LogMelSettings(), (320, 160, 320)),
    (LogMelSettings(window_ms=80, stride_ms=40, num_mel_bins=160, upper_edge_hertz=8000), (1280, 640, 1280)),
    (LogMelSettings(window_ms=25, fft_length=512), (400, 160, 512)),
    (LogMelSettings(sample_rate=8000, num_mel_bins=40, lower_edge_hertz=60, log_offset=1e-10), (160, 80, 160)),
    (LogMelSettings(sample_rate=22050, window_ms=47, stride_ms=24, num_mel_bins=64), (1036, 529, 1036)),
  ],
)
def test_log_mel_is_librosas_definition(settings, sizes):
  rng = np.random.default_rng(3)
  samples = (rng.normal(0, 0.1, 9000) * np.sin(np.arange(9000) / 700)).astype(np.float32)
  result = make_features(dataclasses.replace(settings, feature_norm="none")).compute(samples)
  expected = plain_log_mel(samples.astype(np.float64), settings, *sizes)
  assert result.shape == expected.shape
  np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("case", fixture_files.load_json("log_mel")["index"], ids=lambda case: case["key"])
def test_log_mel_is_what_librosa_computed(case):
  samples = fixture_files.load_arrays("features")[case["wave"]].astype(np.float32) / 32768
  features = make_features(LogMelSettings(feature_norm="none", **case["settings"]))
  expected = fixture_files.load_arrays("log_mel")[case["key"]]
  result = features.compute(samples)
  assert result.shape == expected.shape
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_magnitudes_are_those_of_frames_that_fill_the_end_with_zeros():
  samples = np.random.default_rng(3).normal(0, 0.1, 1000).astype(np.float32)
  result = make_features(MagnitudeSettings(window_ms=25, feature_norm="none")).compute(samples)
  padded = np.concatenate([samples, np.zeros(400)])
  hann = np.sin(np.pi * np.arange(400) / 400) ** 2
  # 1000 samples are six and a quarter steps of 160.
  expected = [np.abs(np.fft.fft(padded[start : start + 400] * hann, 512))[:257] for start in range(0, 1000, 160)]
  assert result.shape == (7, 257)
  np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_running_features_do_not_know_the_future(kind):
  features = complete(FEATURES[kind](feature_norm="running"))
  before = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
  after = before.copy()
  after[8000:] = 0.9 * np.sin(np.arange(8000))
  # The frames that end before the change.
  untouched = (8000 - 320) // 160 + 1
  np.testing.assert_array_equal(features.compute(after)[:untouched], features.compute(before)[:untouched])
  assert (features.compute(after)[untouched:] != features.compute(before)[untouched:]).any()
  (changed, original), _ = in_graph(features, [after, before])
  np.testing.assert_array_equal(changed[:untouched], original[:untouched])
  # Nor does the end of the clip matter.
  np.testing.assert_allclose(features.compute(before[:8000])[:untouched], original[:untouched], atol=1e-5)


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_statistics_make_features_of_the_training_set_standard(kind):
  settings = FEATURES[kind](feature_norm="corpus")
  clip = np.random.default_rng(2).normal(0, 0.1, 30_000).astype(np.float32)
  raw = make_features(dataclasses.replace(settings, feature_norm="none")).compute(clip).astype(np.float64)
  statistics = FeatureStatistics(tuple(raw.mean(axis=0).tolist()), tuple(raw.std(axis=0).tolist()))
  standard = make_features(settings, statistics).compute(clip)
  np.testing.assert_allclose(standard, (raw - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-4)
  running = standard.copy()
  RunningNorm(len(statistics.mean)).normalize(running)
  settings = dataclasses.replace(settings, feature_norm="running")
  np.testing.assert_array_equal(make_features(settings, statistics).compute(clip), running)


def test_without_statistics_frames_and_bins_can_be_counted():
  features = make_features(LogMelSettings(feature_norm="corpus"))
  assert (features.num_bins, features.num_frames(16000), features.is_complete) == (80, 99, False)
  for use in (lambda: features.compute(np.zeros(99, np.float32)), features.cache_key):
    with pytest.raises(ValueError, match="corpus need the statistics of a training set"):
      use()


def test_statistics_of_other_features_are_refused():
  with pytest.raises(UserError, match=r"feature_statistics\.json is of 1 bins, but the features have 80; restore it"):
    make_features(LogMelSettings(feature_norm="corpus"), FeatureStatistics((1.0,), (1.0,)))


def test_the_cache_key_of_spectrograms_is_that_of_earlier_caches():
  key = make_features(SpectrogramSettings(window_ms=25)).cache_key()
  assert key == {"sample_rate": 16000, "window_ms": 25, "stride_ms": 10, "normalize": True}
  assert make_features(SpectrogramSettings(feature_norm="none")).cache_key() == {
    "sample_rate": 16000,
    "window_ms": 20,
    "stride_ms": 10,
    "normalize": False,
  }


def test_everything_that_features_depend_on_is_in_the_cache_key():
  settings = [FEATURES[kind](feature_norm=norm) for kind in FEATURES for norm in NORMS]
  settings += [FEATURES[kind](sample_rate=8000, **turned) for kind, several in TURNED.items() for turned in several]
  keys = [complete(each).cache_key() for each in settings]
  for statistics in (FeatureStatistics((0.0,) * 80, (1.0,) * 80), FeatureStatistics((0.0,) * 80, (2.0,) * 80)):
    keys.append(make_features(LogMelSettings(feature_norm="corpus"), statistics).cache_key())
  assert len({repr(sorted(key.items())) for key in keys}) == len(keys)


@pytest.mark.parametrize(
  ("settings", "bins"),
  [
    (SpectrogramSettings(), 161),
    (SpectrogramSettings(sample_rate=8000), 81),
    (SpectrogramSettings(window_ms=25), 201),
    (LogMelSettings(), 80),
    (LogMelSettings(num_mel_bins=13), 13),
    (MagnitudeSettings(), 257),
    (MagnitudeSettings(window_ms=25), 257),
    (MagnitudeSettings(window_ms=25, fft_length=400), 201),
  ],
)
def test_bins_follow_from_the_settings(settings, bins):
  assert make_features(settings).num_bins == bins
