"""Tests each kind of augmentation of samples by what it promises, and all of them on clips of any length."""

import dataclasses

import hypothesis
import numpy as np
import pytest
import recordings
import soundfile
from hypothesis import strategies as st

from data.augmentation import signals, waveforms
from data.augmentation.augmenter import KINDS
from data.augmentation.parameters import Draw, Strength, parse
from data.augmentation.recordings import Recordings
from data.augmentation.waveforms import OnSamples
from official_utils.misc.errors import UserError

RATE = 16000
KINDS_ON_SAMPLES = [name for name, kind in KINDS.items() if issubclass(kind, OnSamples)]
# One of each, and what a parameter makes another of.
TEXTS = [*KINDS_ON_SAMPLES, "noise[color=pink]", "noise[color=brown,mix=0.3]", "codec[format=ogg]", "codec[format=mp3]"]


def speech(length: int = RATE, seed: int = 0) -> np.ndarray:
  """Make sound whose loudness rises and falls."""
  swell = np.sin(2 * np.pi * 2.5 * np.arange(length) / RATE) ** 2
  return (0.2 * swell * np.random.default_rng(seed).normal(size=length)).astype(np.float32)


def apply(text: str, samples: np.ndarray, seed: int = 1, others: Recordings | None = None) -> tuple[np.ndarray, dict]:
  """Return the samples, augmented, and what was drawn."""
  augmentation = parse(text, KINDS)
  draw = Draw(augmentation, (seed,), 0.0, RATE, 0, others)
  before = samples.copy()
  augmented = augmentation.apply(samples, draw)
  np.testing.assert_array_equal(samples, before)
  return augmented, dict(draw.drawn)


def snr(samples: np.ndarray, augmented: np.ndarray) -> float:
  return 10 * np.log10(signals.power(samples) / signals.power(augmented.astype(np.float64) - samples))


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Recordings:
  """Three recordings of tones, which can be told apart."""
  paths = []
  for hertz in (500, 1000, 2000):
    paths.append(str(tmp_path_factory.mktemp("others") / f"{hertz}.wav"))
    soundfile.write(paths[-1], 0.1 * np.sin(2 * np.pi * hertz * np.arange(9000) / RATE), RATE)
  return Recordings(paths)


@hypothesis.given(
  text=st.sampled_from(TEXTS), length=st.integers(1, 3000), seed=st.integers(0, 99), is_silent=st.booleans()
)
@hypothesis.settings(max_examples=100)
def test_any_clip_can_be_augmented_and_bounds_hold(others, text, length, seed, is_silent):
  samples = np.zeros(length, np.float32) if is_silent else speech(length, seed)
  augmented, _ = apply(text, samples, seed, others)
  assert augmented.dtype == np.float32 and augmented.ndim == 1
  assert np.isfinite(augmented).all()
  chosen = parse(text, KINDS)
  assert 1 <= len(augmented) <= round(chosen.longest(length / RATE) * RATE) + 1
  if not chosen.changes_length:
    assert len(augmented) == length
  if is_silent and "mp3" not in text:
    assert not augmented.any()


def test_defaults_hold_for_the_loudest_and_quietest_of_sounds(others):
  for text in TEXTS:
    for level in (1e-20, 1e9):
      assert np.isfinite(apply(text, np.float32(level) * speech(2000), others=others)[0]).all(), text


def test_shift_puts_zeros_before_or_after():
  samples = speech(100)
  before, drawn = apply("shift[ms=-10]", samples)
  assert drawn == {"ms": -10}
  np.testing.assert_array_equal(before, np.concatenate([np.zeros(160), samples]))
  after, _ = apply("shift[ms=10]", samples)
  np.testing.assert_array_equal(after, np.concatenate([samples, np.zeros(160)]))
  assert waveforms.Shift().longest(2.0) == 2.25


def test_shifts_of_4000_samples_are_whole_and_even():
  lengths = [len(apply("shift[ms=-0.125..0.125]", np.ones(1, np.float32), seed)[0]) for seed in range(1200)]
  # From -2 to 1 samples, like integers drawn from [-2, 2).
  np.testing.assert_allclose(np.bincount(lengths, minlength=4) / 1200, [0, 0.25, 0.5, 0.25], atol=0.05)


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_speed_changes_pitch_and_length(rate):
  samples = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
  faster, drawn = apply(f"speed[rate={rate}]", samples)
  assert drawn == {"rate": rate}
  assert len(faster) == pytest.approx(RATE / rate, abs=1)
  spectrum = np.abs(np.fft.rfft(faster))
  assert np.argmax(spectrum) * RATE / len(faster) == pytest.approx(1000 * rate, abs=RATE / len(faster))
  # The same wave, sampled at other times.
  wanted = np.sin(2 * np.pi * 1000 * rate * np.arange(len(faster)) / RATE)
  np.testing.assert_allclose(faster[500:-500], wanted[500:-500], atol=0.01)
  assert parse("speed[rate=0.8..1.2]", KINDS).longest(4.0) == parse("stretch[rate=0.8..1.2]", KINDS).longest(4.0) == 5.0
  assert parse("speed[rate=1.1..1.2]", KINDS).longest(4.0) == 4.0


def test_gain_is_in_decibels():
  samples = speech()
  np.testing.assert_allclose(apply("gain[db=6]", samples)[0], samples * 10**0.3, rtol=1e-6)
  np.testing.assert_allclose(apply("gain[db=-20]", samples)[0], samples / 10, rtol=1e-6)


@pytest.mark.parametrize("kind", ["noise[color=white,snr=12]", "noise[color=brown,snr=12]", "babble[snr=12]"])
def test_noise_has_its_ratio(others, kind):
  samples = speech()
  noisy, drawn = apply(kind, samples, others=others)
  assert drawn["snr"] == 12
  assert snr(samples, noisy) == pytest.approx(12, abs=0.01)


def test_noise_comes_from_the_recordings_of_a_folder(tmp_path):
  recordings.write(str(tmp_path / "short.wav"), 0.1)
  samples = speech()
  noisy, drawn = apply(f"noise[dir={tmp_path},snr=0..20]", samples)
  assert drawn["file"] == str(tmp_path / "short.wav")
  added = noisy - samples
  assert 0 <= drawn["snr"] <= 20
  assert snr(samples, noisy) == pytest.approx(drawn["snr"], abs=0.01)
  # The short recording, again and again.
  np.testing.assert_allclose(added[1600:], added[:-1600], atol=1e-6)


def test_noise_mixed_at_peaks_is_a_weighted_mean(tmp_path):
  recordings.write(str(tmp_path / "short.wav"), 0.1)
  samples = speech()
  mixed, drawn = apply(f"noise[dir={tmp_path},mix=0.1..0.5]", samples)
  share = drawn["mix"]
  noise = (mixed - (1 - share) * samples) / share
  assert 0.1 <= share <= 0.5
  assert noise.max() == pytest.approx(samples.max(), rel=1e-4)


def test_silent_noise_leaves_a_clip_as_it_is():
  samples = speech(500)
  for quiet in (np.zeros(500, np.float32), np.full(500, -1, np.float32)):
    np.testing.assert_array_equal(waveforms.mix_at_peaks(samples, quiet, 0.3), samples)
  np.testing.assert_array_equal(waveforms.mix_at_snr(samples, np.zeros(500, np.float32), 3), samples)


def test_babble_is_of_others_equally_loud(others):
  babble, _ = apply("babble[voices=2,snr=0]", speech(), others=others)
  spectrum = np.abs(np.fft.rfft(babble - speech()))
  hertz = np.fft.rfftfreq(RATE, 1 / RATE)
  found = {each: spectrum[np.abs(hertz - each) < 20].max() for each in (500, 1000, 2000)}
  # The first of the three recordings is the clip's own.
  assert found[500] < 0.1 * max(found[1000], found[2000])
  assert apply("babble", speech())[1] == {}


def test_reverb_keeps_the_direct_sound_and_adds_what_decays():
  click = np.zeros(RATE, np.float32)
  click[100] = 1
  room, drawn = apply("reverb[rt60=0.3,drr=5]", click)
  assert drawn == {"rt60": 0.3, "drr": 5}
  assert room[100] == pytest.approx(1, abs=1e-5)
  np.testing.assert_allclose(room[:100], 0, atol=1e-6)
  assert np.sum(room[101:].astype(np.float64) ** 2) == pytest.approx(10**-0.5, rel=1e-3)
  parts = [signals.power(room[100 + start :][:800]) for start in (800, 2400)]
  assert 10 * np.log10(parts[0] / parts[1]) == pytest.approx(60 * 0.1 / 0.3, abs=1.5)


@pytest.mark.parametrize(("container", "least"), [("mulaw", 30), ("ogg", 10), ("mp3", 10)])
def test_what_was_encoded_is_still_there_and_not_delayed(container, least):
  t = np.arange(RATE) / RATE
  samples = sum(0.1 * np.sin(2 * np.pi * hertz * t * (1 + t)) for hertz in (200, 500, 900)).astype(np.float32)
  decoded, _ = apply(f"codec[format={container}]", samples)
  assert snr(samples, decoded) > least
  assert not np.array_equal(decoded, samples)


def test_a_long_clip_is_encoded_block_by_block():
  samples = speech(60 * RATE)
  for container in ("ogg", "mp3"):
    assert len(waveforms.round_trip(samples, RATE, container)) == len(samples)


def test_a_rate_that_a_codec_does_not_know_is_said():
  with pytest.raises(
    UserError, match=r"--augment=codec\[format=mp3\]: cannot encode at 10000 Hz \(.*\); choose another"
  ):
    waveforms.round_trip(speech(500), 10000, "mp3")


def test_the_same_seed_gives_the_same_samples(others):
  for text in TEXTS:
    first, second, other = (apply(text, speech(), seed, others)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    has_draws = not text.startswith(("codec", "band"))
    assert has_draws != (first.shape == other.shape and np.array_equal(first, other)), text


def test_what_another_system_did_can_be_said(tmp_path):
  """Shift by up to 4000 samples, stretch, then noise at a share of the peaks, with its probability."""
  recordings.write(str(tmp_path / "noise.wav"), 0.4)
  shift, stretch, noise = (
    parse(text, KINDS)
    for text in ("shift[ms=-250..250]", "stretch[rate=0.8..1.2]", f"noise[dir={tmp_path},p=0.75,mix=0.1..0.15]")
  )
  assert (shift.ms.lowest * 16, shift.ms.highest * 16) == (-4000, 4000)
  assert stretch == dataclasses.replace(waveforms.Stretch())
  assert noise.p == Strength.parse("0.75") and noise.snr is None
