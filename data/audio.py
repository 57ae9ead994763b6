"""Reads audio of any kind as mono samples at the wanted rate, whole or in blocks."""

import itertools
import math
import numbers
import os
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from official_utils.misc.errors import UserError

if TYPE_CHECKING:
  import soundfile

# Above this, full scale being 1, samples are no audio, and the power of them no number in single precision.
LARGEST_SAMPLE = 1e10
# How the names of recordings end.
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64", ".sph")
# Full scale of 16-bit samples.
FULL_SCALE = np.float32(32768)
# What libsndfile calls the length of a FLAC stream whose encoder could not go back to write it down.
UNKNOWN_FRAMES = 2**63 - 1
# Its log where a WAV header and the file's size disagree.
DATA_SIZES = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Writers into a pipe put a size near 2 or 4 GiB into a WAV header, as they do not know the true one; others include the
# header in the size.
PLACEHOLDER_BYTES = 0x7F000000
SLOPPY_BYTES = 1024


def read_audio(path: str, sample_rate: int) -> np.ndarray:
  """Read a file (WAV, FLAC, OGG, MP3), mix it down to one channel and convert it to the wanted rate.

  Args:
    path: the audio file.
    sample_rate: samples a second of the result.

  Returns:
    float32 [samples], full scale being 1. A 16-bit mono file at that very rate gives exactly value / 32768.
  """
  blocks = list(stream_audio(path, sample_rate, None))
  return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def stream_audio(
  source: str | os.PathLike | BinaryIO,
  sample_rate: int,
  block_seconds: float | None = 30.0,
  name: str = "standard input",
) -> Iterator[np.ndarray]:
  """Read audio block by block, in memory that does not grow with its length.

  Args:
    source: the audio file, or a seekable binary file object with its bytes.
    sample_rate: samples a second of the result.
    block_seconds: the most that a block holds, all channels of the source counted; None for all at once.
    name: what errors call a file object.

  Yields:
    float32 [samples]; joined, they are what `read_audio` gives.
  """
  blocks = _mono_blocks(source, block_seconds, name if hasattr(source, "read") else os.fspath(source))
  file_rate = next(blocks)
  yield from blocks if file_rate == sample_rate else _resample(blocks, file_rate, sample_rate)


def audio_duration(path: str) -> float:
  """Tell the length of an audio file in seconds from its header alone."""
  import soundfile

  try:
    info = soundfile.info(os.fsencode(path))
  except (soundfile.SoundFileError, TypeError) as error:
    raise _unreadable(path, path, error) from error
  if info.frames == UNKNOWN_FRAMES:
    raise UserError(f"{path}: the header does not tell the length; encode the file again, not into a pipe")
  return info.duration


def pcm_samples(data: bytes, name: str = "standard input") -> np.ndarray:
  """Turn raw 16-bit little-endian mono samples into float32 [samples], full scale being 1."""
  if len(data) % 2:
    raise UserError(f"{name}: raw 16-bit audio has two bytes a sample, but there are {len(data)}; send whole samples")
  return np.frombuffer(data, "<i2") / FULL_SCALE


def stream_pcm(
  file: BinaryIO, file_rate: int, sample_rate: int, block_seconds: float = 30.0, name: str = "standard input"
) -> Iterator[np.ndarray]:
  """Read raw 16-bit little-endian mono samples block by block.

  Args:
    file: what the samples are read from; it need not be seekable.
    file_rate: their samples a second.
    sample_rate: samples a second of the result.
    block_seconds: the most that a block holds.
    name: what errors call the file.

  Yields:
    float32 [samples].
  """
  size = 2 * max(1, int(block_seconds * file_rate))
  blocks: Iterator[np.ndarray] = (pcm_samples(data, name) for data in iter(lambda: file.read(size), b""))
  first = next(blocks, None)
  if first is None:
    raise UserError(f"{name}: no samples came; send some")
  if first[:2].tobytes() == pcm_samples(b"RIFF").tobytes():
    raise UserError(f"{name}: this is a WAV file, not raw samples; leave --raw_rate out")
  blocks = itertools.chain([first], blocks)
  yield from blocks if file_rate == sample_rate else _resample(blocks, file_rate, sample_rate)


def convert_samples(samples: np.ndarray, file_rate: float, sample_rate: int, name: str = "array") -> np.ndarray:
  """Bring samples in memory to the form of `read_audio`.

  Args:
    samples: [samples] or [samples, channels], in any byte order: floats with 1 as full scale, int8, int16 or int32 with
      the full scale of their type, or uint8 as 8-bit WAV files have it, with silence at 128.
    file_rate: their samples a second.
    sample_rate: samples a second of the result.
    name: what errors call them.

  Returns:
    float32 [samples].
  """
  if not isinstance(file_rate, numbers.Real) or not 1 <= file_rate < math.inf:
    raise UserError(f"{name}: {file_rate!r} is not a sample rate; give a number of samples per second, such as 16000")
  try:
    samples = np.asarray(samples)
  except (RuntimeError, TypeError, ValueError) as error:
    reason = " ".join(_reason(error).split())
    raise UserError(
      f"{name}: {type(samples).__name__} cannot be made an array ({reason}); give a numpy array"
    ) from error
  mono = _mono(_as_floats(samples, name), name)
  return mono if file_rate == sample_rate else np.concatenate(list(_resample(iter([mono]), file_rate, sample_rate)))


def _as_floats(samples: np.ndarray, name: str) -> np.ndarray:
  """Bring an array of any type that holds samples to float32 [samples, channels], full scale being 1."""
  dtype, shape = samples.dtype, list(samples.shape)
  # Integers of 64 bits are what other numbers become by accident: nobody means their full scale.
  is_integer = dtype == np.uint8 or (dtype.kind == "i" and dtype.itemsize <= 4)
  if dtype.kind != "f" and not is_integer:
    raise UserError(
      f"{name}: samples cannot be of the type {dtype}; give floats with 1 as full scale, int8, int16, int32 or uint8"
    )
  if samples.ndim not in (1, 2) or not samples.size or shape[-1] > shape[0]:
    raise UserError(
      f"{name}: samples cannot be of the shape {shape}; give [samples] or [samples, channels], at least one sample and no "
      "more channels than samples"
    )
  # What is too large becomes infinite, and is refused as such.
  with np.errstate(over="ignore"):
    floats = samples.astype(np.float32).reshape(len(samples), -1)
  if not is_integer:
    return floats
  full_scale = np.float32(2 ** (8 * dtype.itemsize - 1))
  return (floats - full_scale if dtype == np.uint8 else floats) / full_scale


def _mono_blocks(source: str | os.PathLike | BinaryIO, block_seconds: float | None, name: str) -> Iterator:
  """Read a source: first its rate, then float32 [samples] after float32 [samples]."""
  import soundfile

  try:
    # As bytes: a name need not be text.
    file = soundfile.SoundFile(source if hasattr(source, "read") else os.fsencode(source))
  except (soundfile.SoundFileError, TypeError, ValueError) as error:  # What names ending in .raw, and with \0, give.
    raise _unreadable(source, name, error) from error
  with file:
    # Otherwise soundfile seeks to where it is after every read, which garbles MP3 and fails on FLAC out of a pipe.
    file.seekable = lambda: False
    yield file.samplerate
    if block_seconds is None and file.frames != UNKNOWN_FRAMES:
      most = file.frames
    else:
      most = max(1, int((block_seconds or 30.0) * file.samplerate / file.channels))
    count = 0
    while count < file.frames:
      samples = _read_mono(file, min(most, file.frames - count), name)
      if not len(samples):
        break
      count += len(samples)
      yield samples
    _check_complete(file, count, name)


def _read_mono(file: "soundfile.SoundFile", frames: int, name: str) -> np.ndarray:
  """Read the next float32 [samples], mixed down to one channel."""
  import soundfile

  # libsndfile takes three times as long to turn 16 bits into floats.
  is_16_bit = file.subtype == "PCM_16"
  try:
    channels = file.read(frames, dtype="int16" if is_16_bit else "float32", always_2d=True)
  except soundfile.SoundFileError as error:
    reason = f"cannot be read as audio to its end ({_reason(error)})"
    raise UserError(f"{name}: {reason}; it is damaged or cut short: restore it or leave it out") from error
  return _mono(channels / FULL_SCALE if is_16_bit else channels, name)


def _mono(channels: np.ndarray, name: str) -> np.ndarray:
  """Mix float32 [samples, channels] down to [samples]."""
  # NaN fails every comparison.
  if channels.size and not (channels.min() >= -LARGEST_SAMPLE and channels.max() <= LARGEST_SAMPLE):
    raise UserError(f"{name}: the audio holds NaN, infinite or absurdly large samples; convert it again")
  return channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)


def _check_complete(file: "soundfile.SoundFile", count: int, name: str) -> None:
  """Refuse what held nothing, or less than its header promises where that can be relied on: in FLAC and WAV."""
  missing = ""
  if file.format == "FLAC" and count < file.frames != UNKNOWN_FRAMES:
    missing = f"{count} of {file.frames} samples are there"
  elif file.format.startswith("WAV") and (sizes := DATA_SIZES.search(file.extra_info)):
    promised, present = map(int, sizes.groups())
    if present + SLOPPY_BYTES < promised < PLACEHOLDER_BYTES:
      missing = f"{present} of {promised} bytes of samples are there"
  if missing:
    raise UserError(f"{name}: the audio file is cut short ({missing}); restore it or leave it out")
  if not count:
    raise UserError(f"{name}: the audio file holds no samples; restore it or leave it out")


def _resample(blocks: Iterator[np.ndarray], file_rate: float, sample_rate: int) -> Iterator[np.ndarray]:
  """Convert float32 [samples] from one rate to another as they come."""
  import soxr

  stream = soxr.ResampleStream(file_rate, sample_rate, 1, dtype="float32", quality="HQ")
  found = False
  following = next(blocks, None)
  while following is not None:
    samples, following = following, next(blocks, None)
    resampled = stream.resample_chunk(samples, last=following is None)
    if len(resampled):
      found = True
      yield resampled
  if not found:
    # A handful of samples can come out as none at all.
    yield np.zeros(1, np.float32)


def _unreadable(source: str | os.PathLike | BinaryIO, name: str, error: Exception) -> UserError:
  """Find out why the audio library gave up: a missing file and a wrong format look alike to it."""
  try:
    if _is_empty(source):
      return UserError(f"{name}: the audio file is empty (0 bytes); restore it or leave it out")
  except (OSError, ValueError) as reason:
    reason = getattr(reason, "strerror", reason)
    return UserError(f"{name}: cannot read the audio file ({reason}); correct the path or leave it out")
  return UserError(
    f"{name}: cannot be read as audio ({_reason(error)}); restore the file, or convert it to WAV or FLAC"
  )


def _is_empty(source: str | os.PathLike | BinaryIO) -> bool:
  """Tell whether there is not a single byte."""
  if not isinstance(source, (str, os.PathLike)):
    return source.seek(0, os.SEEK_END) == 0
  # A pipe would keep us waiting.
  if pathlib.Path(source).is_fifo():
    return False
  with open(source, "rb") as file:
    return not file.read(1)


def _reason(error: Exception) -> str:
  """Take the audio library's words from its error."""
  return str(getattr(error, "error_string", error)).rstrip(".")
