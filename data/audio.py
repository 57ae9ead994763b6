"""Reads audio files of any kind as mono samples at the wanted rate."""

import numpy as np

from official_utils.misc.errors import UserError


def read_audio(path: str, sample_rate: int) -> np.ndarray:
  """Read a file (WAV, FLAC, OGG, MP3), mix it down to one channel and convert it to the wanted rate.

  Args:
    path: the audio file.
    sample_rate: samples a second of the result.

  Returns:
    float32 [samples], full scale being 1. A 16-bit mono file at that very rate gives exactly value / 32768.
  """
  import soundfile

  try:
    channels, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
  except (soundfile.SoundFileError, TypeError) as error:  # A TypeError is what a name ending in .raw gives.
    raise _unreadable(path, error) from error
  if not len(channels):
    raise UserError(f"{path}: the audio file holds no samples; take its row out of the manifest")
  samples = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)
  if not np.isfinite(samples).all():
    raise UserError(f"{path}: the audio holds NaN or infinite samples; convert the file anew")
  return samples if file_rate == sample_rate else _resample(samples, file_rate, sample_rate)


def audio_duration(path: str) -> float:
  """Tell the length of an audio file in seconds from its header alone."""
  import soundfile

  try:
    return soundfile.info(path).duration
  except (soundfile.SoundFileError, TypeError) as error:
    raise _unreadable(path, error) from error


def _resample(samples: np.ndarray, file_rate: int, sample_rate: int) -> np.ndarray:
  """Convert float32 [samples] from one rate to another."""
  import soxr

  resampled = soxr.resample(samples, file_rate, sample_rate, quality="HQ")
  # A handful of samples can come out as none at all.
  return resampled if len(resampled) else np.zeros(1, np.float32)


def _unreadable(path: str, error: Exception) -> UserError:
  """Find out why the audio library gave up: a missing file and a wrong format look alike to it."""
  try:
    with open(path, "rb") as file:
      if not file.read(1):
        return UserError(f"{path}: the audio file is empty (0 bytes); restore it or take its row out of the manifest")
  except OSError as reason:
    return UserError(f"{path}: cannot read the audio file ({reason.strerror}); mend the path in the manifest")
  reason = str(error).rstrip(".")
  return UserError(f"{path}: cannot be read as audio ({reason}); restore the file, or convert it to WAV or FLAC")
