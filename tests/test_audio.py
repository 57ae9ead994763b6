"""Tests reading audio files."""

import os

import numpy as np
import pytest
import soundfile

from data.audio import audio_duration, read_audio
from official_utils.misc.errors import UserError

RATE = 16000


def tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
  return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def saved(folder, samples, rate: int = RATE, name: str = "a.wav", **options) -> str:
  path = os.path.join(folder, name)
  soundfile.write(path, samples, rate, **options)
  return path


def test_sixteen_bit_mono_at_the_same_rate_is_exact(tmp_path):
  samples = np.arange(-32768, 32768, 7).astype(np.int16)
  for name in ("a.wav", "a.flac"):
    read = read_audio(saved(tmp_path, samples, name=name), RATE)
    assert read.dtype == np.float32
    assert read.ndim == 1
    np.testing.assert_array_equal(read, samples / 32768)


def test_channels_are_mixed_down_by_their_mean(tmp_path):
  channels = np.stack([tone(0.1, RATE), -0.5 * tone(0.1, RATE), tone(0.1, RATE, 1000)], axis=1)
  read = read_audio(saved(tmp_path, channels, subtype="FLOAT"), RATE)
  np.testing.assert_allclose(read, channels.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("file_rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_converted(file_rate, tmp_path):
  read = read_audio(saved(tmp_path, tone(0.5, file_rate), file_rate), RATE)
  assert read.dtype == np.float32
  assert abs(len(read) - RATE // 2) <= 1
  middle = slice(1000, 7000)
  np.testing.assert_allclose(read[middle], tone(0.5, RATE)[middle], atol=1e-3)


def test_stereo_at_another_rate(tmp_path):
  channels = np.stack([tone(0.5, 44100), tone(0.5, 44100)], axis=1)
  read = read_audio(saved(tmp_path, channels, 44100), RATE)
  np.testing.assert_allclose(read[1000:7000], tone(0.5, RATE)[1000:7000], atol=1e-3)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_compressed_files(name, tmp_path):
  read = read_audio(saved(tmp_path, tone(0.5, RATE), name=name), RATE)
  assert abs(len(read) - RATE // 2) < 2000
  assert 0.3 < np.abs(read).max() < 0.7


def test_a_single_sample_can_be_converted(tmp_path):
  assert len(read_audio(saved(tmp_path, np.zeros(1), 48000), RATE)) >= 1


def test_duration_is_that_of_the_file(tmp_path):
  assert audio_duration(saved(tmp_path, np.zeros((22050, 2)), 44100)) == 0.5
  assert audio_duration(saved(tmp_path, np.zeros(100), name="a.flac")) == 100 / RATE


def no_audio(folder) -> str:
  path = os.path.join(folder, "text.wav")
  with open(path, "w") as file:
    file.write("this is no audio\n" * 20)
  return path


def nothing(folder) -> str:
  path = os.path.join(folder, "nothing.wav")
  open(path, "w").close()
  return path


def half_a_file(folder) -> str:
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE)
  path = saved(folder, noise, name="half.flac")
  os.truncate(path, os.path.getsize(path) // 2)
  return path


FAULTS = {
  "missing": (lambda folder: os.path.join(folder, "missing.wav"), "No such file"),
  "folder": (str, "Is a directory"),
  "no_audio": (no_audio, "cannot be read as audio"),
  "no_bytes": (nothing, "0 bytes"),
  "no_samples": (lambda folder: saved(folder, np.zeros(0)), "no samples"),
  "half": (half_a_file, "cannot be read as audio"),
  "nan": (lambda folder: saved(folder, [0.0, np.nan], subtype="FLOAT"), "NaN"),
  "infinite": (lambda folder: saved(folder, [0.0, np.inf], subtype="FLOAT"), "infinite"),
}


@pytest.mark.parametrize(("make", "words"), FAULTS.values(), ids=FAULTS)
def test_names_the_file_that_cannot_be_read(make, words, tmp_path):
  path = make(tmp_path)
  with pytest.raises(UserError, match=words) as caught:
    read_audio(path, RATE)
  assert path in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "no_audio", "no_bytes"])
def test_duration_names_the_file_that_cannot_be_read(name, tmp_path):
  make, words = FAULTS[name]
  with pytest.raises(UserError, match=words):
    audio_duration(make(tmp_path))


def test_a_name_for_samples_without_header_is_refused(tmp_path):
  path = tmp_path / "clip.raw"
  path.write_bytes(bytes(320))
  for read in (lambda: read_audio(str(path), 16000), lambda: audio_duration(str(path))):
    with pytest.raises(UserError, match="clip.raw"):
      read()
