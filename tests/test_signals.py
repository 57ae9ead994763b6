"""Tests signal processing against exact properties and plain, slow forms."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.augmentation import signals

RATE = 16000


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
  return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def noise(length: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)


def loudest_hertz(samples: np.ndarray) -> float:
  inside = samples[len(samples) // 8 : -len(samples) // 8]
  spectrum = np.abs(np.fft.rfft(inside * np.hanning(len(inside))))
  return float(np.argmax(spectrum) * RATE / len(inside))


@hypothesis.given(st.integers(1, 10**7))
def test_fast_lengths_suffice_and_are_near(length):
  size = signals.fast_length(length)
  assert length <= size <= max(1.25 * length, length + 1)
  odd = size
  while odd % 2 == 0:
    odd //= 2
  assert odd in (1, 3, 5, 9, 15)


def test_power():
  assert signals.power(np.array([1, -1, 3, 0], np.float32)) == 2.75


@pytest.mark.parametrize("rate", [0.5, 0.7, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("hertz", [110, 440, 3000])
def test_stretching_keeps_pitch_and_level(hertz, rate):
  samples = tone(hertz)
  stretched = signals.stretch(samples, rate, RATE)
  assert len(stretched) == round(len(samples) / rate)
  assert loudest_hertz(stretched) == pytest.approx(hertz, abs=RATE / (0.7 * len(stretched)))
  assert signals.power(stretched) == pytest.approx(signals.power(samples), rel=1e-4)


def test_stretching_moves_events_in_time():
  samples = np.zeros(2 * RATE, np.float32)
  samples[RATE // 2 : RATE] = tone(300, 0.5)
  for rate in (0.8, 1.25):
    energy = np.cumsum(signals.stretch(samples, rate, RATE) ** 2)
    edges = np.searchsorted(energy / energy[-1], [0.02, 0.98]) / RATE
    np.testing.assert_allclose(edges, [0.5 / rate, 1 / rate], atol=0.02)


def plain_vocoder(spectra: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """Keep angles, frame by frame and bin by bin, as textbooks do."""
  frames = []
  phases = np.angle(spectra[0])
  for position in positions:
    place = int(position)
    share = position - place
    sizes = (1 - share) * np.abs(spectra[place]) + share * np.abs(spectra[place + 1])
    frames.append(sizes * np.exp(1j * phases))
    phases = phases + np.angle(spectra[place + 1]) - np.angle(spectra[place])
  return np.array(frames)


@pytest.mark.parametrize("rate", [0.6, 1.0, 1.7])
def test_phases_are_those_of_a_plain_vocoder(rate):
  rng = np.random.default_rng(1)
  spectra = rng.normal(size=(40, 9)) + 1j * rng.normal(size=(40, 9))
  positions = np.arange(0, 39, rate)
  ours = signals._resynthesize(spectra.astype(np.complex64), positions)
  np.testing.assert_allclose(ours, plain_vocoder(spectra, positions), atol=1e-4)


def test_stretching_by_nothing_changes_nothing():
  samples = noise(5000)
  np.testing.assert_allclose(signals.stretch(samples, 1.0, RATE), samples, atol=1e-6)


@hypothesis.given(
  length=st.integers(1, 3000), rate=st.floats(0.5, 2), sample_rate=st.sampled_from([1000, 8000, 16000, 44100])
)
@hypothesis.settings(max_examples=50)
def test_any_clip_is_stretched(length, rate, sample_rate):
  stretched = signals.stretch(noise(length), rate, sample_rate)
  assert stretched.shape == (max(1, round(length / rate)),)
  assert stretched.dtype == np.float32
  assert np.isfinite(stretched).all()
  assert not signals.stretch(np.zeros(length, np.float32), rate, sample_rate).any()


@pytest.mark.parametrize(("color", "decibels"), [(0, 0), (1, -3.01), (2, -6.02)])
def test_noise_falls_by_so_many_decibels_an_octave(color, decibels):
  made = signals.colored_noise(20 * RATE, color, RATE, np.random.default_rng(2))
  assert made.dtype == np.float32 and made.shape == (20 * RATE,)
  spectrum = np.abs(np.fft.rfft(made)) ** 2 / len(made)
  hertz = np.fft.rfftfreq(len(made), 1 / RATE)
  density = [np.mean(spectrum[(hertz >= low) & (hertz < 2 * low)]) for low in 100 * 2.0 ** np.arange(6)]
  np.testing.assert_allclose(np.diff(10 * np.log10(density)), decibels, atol=0.35)


def test_a_room_decays_by_60_decibels_in_its_time():
  response = signals.room(0.5, 3.0, RATE, np.random.default_rng(3))
  assert response[0] == 1 and len(response) == RATE // 2
  assert signals.power(response[1:]) * (len(response) - 1) == pytest.approx(10**-0.3, rel=1e-4)
  # The energy that is still to come, in decibels over time: its slope is the rate of the decay.
  rest = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1][: RATE // 4])
  slope = np.polyfit(np.arange(len(rest)) / RATE, rest, 1)[0]
  assert slope == pytest.approx(-60 / 0.5, rel=0.05)


@hypothesis.given(length=st.integers(1, 300), taps=st.integers(1, 300))
@hypothesis.settings(max_examples=30)
def test_convolution_equals_the_plain_one(length, taps):
  samples, response = noise(length), noise(taps, 1)
  convolved = signals.convolve(samples, response)
  assert convolved.dtype == np.float32
  np.testing.assert_allclose(convolved, np.convolve(samples, response)[:length], atol=1e-5)


def test_a_band_is_kept_and_the_rest_is_not():
  samples = noise(5 * RATE)
  hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
  before, after = (np.abs(np.fft.rfft(each)) ** 2 for each in (samples, signals.band_pass(samples, 300, 3400, RATE)))
  inside, outside = (hertz > 310) & (hertz < 3300), (hertz < 230) | (hertz > 4400)
  assert after[inside].sum() == pytest.approx(before[inside].sum(), rel=0.001)
  assert after[outside].sum() < 1e-4 * before[outside].sum()


def test_a_tone_within_the_band_is_neither_changed_nor_delayed():
  samples = tone(1000)
  np.testing.assert_allclose(signals.band_pass(samples, 300, 3400, RATE)[800:-800], samples[800:-800], atol=2e-3)
  assert signals.power(signals.band_pass(tone(150), 300, 3400, RATE)[800:-800]) < 1e-6


def test_mu_law_is_that_of_a_table():
  # The levels from the law itself, one by one.
  levels = [np.sign(code) * (256 ** abs(code / 127) - 1) / 255 for code in range(-127, 128)]
  samples = np.concatenate([np.linspace(-1, 1, 999), [-3, 2]]).astype(np.float32)
  rounded = signals.mu_law(samples)
  distance = np.abs(np.array(levels)[:, np.newaxis] - rounded)
  assert distance.min(axis=0).max() < 1e-6
  assert np.abs(rounded - np.clip(samples, -1, 1)).max() < 0.023
  quiet = np.abs(samples) < 0.01
  assert np.abs(rounded - samples)[quiet].max() < 4e-4
  assert not signals.mu_law(np.zeros(3, np.float32)).any()
