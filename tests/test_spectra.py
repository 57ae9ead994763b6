"""Holds frames, windows, bands and power spectra against their definitions, and bands against published numbers."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.spectra import BandSums, Framing, mel_matrix, periodic_hann, power_blocks
from settings import LogMelSettings

# librosa.filters.mel(sr=22050, n_fft=2048), the first weights of its first two bands, as they are published in the
# documentation of its port mel_filter (docs.rs).
PUBLISHED = [
  [0, 0.016182853208219942, 0.032365706416439884, 0.028990088037379964, 0.012807234829160026, 0],
  [
    *(0, 0, 0, 0.009779235793639925, 0.025962089001859864, 0.035393705451959974),
    *(0.01921085224374004, 0.003027999035520103, 0),
  ],
]


@pytest.mark.parametrize(("pads_end", "frames"), [(False, [1, 1, 1, 1, 1, 2, 3]), (True, [1, 1, 1, 2, 4, 5, 6])])
def test_counts_frames(pads_end, frames):
  framing = Framing(np.ones(8), 2, 8, pads_end)
  sizes = np.array([0, 1, 2, 3, 8, 10, 12])
  assert framing.num_frames(sizes).tolist() == frames
  assert [framing.num_frames(size) for size in sizes.tolist()] == frames


@pytest.mark.parametrize("size", [3, 4, 25, 400])
def test_a_periodic_window_goes_on_with_its_first_sample(size):
  window = periodic_hann(size)
  np.testing.assert_allclose(window, 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size), atol=1e-12)


def test_bands_written_by_hand():
  # Frequencies 0, 1, ... 5 Hz; triangles over 0 to 2, 1 to 4 and 2 to 5 Hz.
  rising, falling = 1 / 2, 1 / 2
  expected = [
    [0, 1, 0, 0, 0, 0],
    [0, 0, 1, falling, 0, 0],
    [0, 0, 0, rising, 1, 0],
  ]
  areas = [2 / 2, 2 / 3, 2 / 3]
  np.testing.assert_allclose(mel_matrix([0, 1, 2, 4, 5], 10, 10).T, np.array(expected) * np.array(areas)[:, None])


def test_bands_are_those_that_are_published_of_librosa():
  settings = LogMelSettings(sample_rate=22050, window_ms=50, fft_length=2048, num_mel_bins=128)
  weights = mel_matrix(settings.edges(), 22050, 2048)
  assert weights.shape == (1025, 128)
  for band, expected in enumerate(PUBLISHED):
    np.testing.assert_allclose(weights[: len(expected), band], expected, atol=1e-8)


@pytest.mark.parametrize(("fft_length", "empty"), [(320, 15), (512, 0), (640, 0), (1280, 0)])
def test_which_bands_are_empty(fft_length, empty):
  """The edges do not depend on the transform; 160 bands are refused where some are empty, and wanted here."""
  edges = LogMelSettings(fft_length=512, num_mel_bins=160).edges()
  assert sum(~mel_matrix(edges, 16000, fft_length).any(axis=0)) == empty


@hypothesis.given(num_bands=st.integers(1, 40), num_frames=st.integers(1, 9), seed=st.integers(0, 9))
@hypothesis.settings(max_examples=20)
def test_sums_of_bands_are_products_with_their_weights(num_bands, num_frames, seed):
  weights = mel_matrix(LogMelSettings(num_mel_bins=num_bands).edges(), 16000, 320)
  power = np.random.default_rng(seed).random((num_frames, 161)).astype(np.float32)
  sums = np.empty((num_frames, num_bands), np.float32)
  BandSums(weights).add_up(power, sums)
  np.testing.assert_allclose(sums, power @ weights, rtol=1e-5)


@hypothesis.given(
  size=st.integers(3, 40),
  hop=st.integers(1, 40),
  more=st.integers(0, 30),
  pads_end=st.booleans(),
  num_samples=st.integers(0, 300),
)
@hypothesis.settings(max_examples=40)
def test_power_is_that_of_the_plain_sum(size, hop, more, pads_end, num_samples):
  hop = min(hop, size)
  framing = Framing(periodic_hann(size), hop, size + more, pads_end)
  samples = np.random.default_rng(size).uniform(-1, 1, num_samples).astype(np.float32)
  blocks = list(power_blocks(samples, framing))
  frequencies, points = np.arange((size + more) // 2 + 1), np.arange(size)
  waves = np.exp(-2j * np.pi * np.outer(frequencies, points) / (size + more))
  padded = np.concatenate([samples, np.zeros(size + hop)])
  starts = range(0, framing.num_frames(num_samples) * hop, hop)
  expected = [np.abs(waves @ (padded[start : start + size] * framing.window)) ** 2 for start in starts]
  power = np.concatenate([power for _, power in blocks])
  assert [frames.start for frames, _ in blocks] == [0]
  assert power.dtype == np.float32
  np.testing.assert_allclose(power, expected, rtol=1e-5, atol=1e-9)


def test_a_long_clip_comes_in_blocks():
  framing = Framing(periodic_hann(320), 160, 512)
  samples = np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32)
  blocks = list(power_blocks(samples, framing))
  assert len(blocks) > 3
  for frames, power in blocks:
    (_, alone) = next(power_blocks(samples[frames.start * 160 :][: (len(power) + 1) * 160], framing))
    np.testing.assert_array_equal(alone, power)
