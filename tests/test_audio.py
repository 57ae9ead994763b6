"""Tests reading audio files."""

import io
import os
import re
import tempfile
import tracemalloc

import numpy as np
import pytest
import recordings
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.audio import audio_duration, convert_samples, pcm_samples, read_audio, stream_audio, stream_pcm
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


def half_a_wav(folder) -> str:
  path = saved(folder, np.zeros(RATE), name="half.wav")
  os.truncate(path, os.path.getsize(path) // 2)
  return path


FAULTS = {
  "missing": (lambda folder: os.path.join(folder, "missing.wav"), "No such file"),
  "folder": (str, "Is a directory"),
  "no_audio": (no_audio, "cannot be read as audio"),
  "no_bytes": (nothing, "0 bytes"),
  "no_samples": (lambda folder: saved(folder, np.zeros(0)), "no samples"),
  "half": (half_a_file, "cut short"),
  "half_wav": (half_a_wav, "cut short"),
  "nan": (lambda folder: saved(folder, [0.0, np.nan], subtype="FLOAT"), "NaN"),
  "infinite": (lambda folder: saved(folder, [0.0, np.inf], subtype="FLOAT"), "infinite"),
}


@pytest.mark.parametrize(("make", "words"), FAULTS.values(), ids=FAULTS)
def test_names_the_file_that_cannot_be_read(make, words, tmp_path):
  path = make(tmp_path)
  for read in (read_audio, lambda path, rate: list(stream_audio(path, rate, 0.1))):
    with pytest.raises(UserError, match=words) as caught:
      read(path, RATE)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ("missing", "folder")])
def test_names_standard_input(name, tmp_path):
  make, words = FAULTS[name]
  with open(make(tmp_path), "rb") as file:
    content = io.BytesIO(file.read())
  with pytest.raises(UserError, match=f"^standard input: .*{words}"):
    list(stream_audio(content, RATE))


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


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("file_rate", [8000, RATE, 44100, 192000])
def test_joined_blocks_are_the_whole(file_rate, channels, tmp_path):
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, (file_rate + 13, channels))
  path = saved(tmp_path, noise, file_rate)
  blocks = list(stream_audio(path, RATE, 0.3))
  assert len(blocks) >= 4
  assert max(map(len, blocks)) <= 0.5 * RATE
  assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
  np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path, RATE))


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_joined_blocks_of_compressed_files(name, tmp_path):
  path = saved(tmp_path, tone(2, 22050), 22050, name=name)
  np.testing.assert_array_equal(np.concatenate(list(stream_audio(path, RATE, 0.25))), read_audio(path, RATE))


@pytest.mark.parametrize("make", [io.BytesIO, tempfile.TemporaryFile, tempfile.SpooledTemporaryFile])
def test_a_file_object_reads_like_its_file(make, tmp_path):
  path = saved(tmp_path, tone(0.5, 44100), 44100)
  with make() as file:
    with open(path, "rb") as original:
      file.write(original.read())
    file.seek(0)
    read = np.concatenate(list(stream_audio(file, RATE)))
  np.testing.assert_array_equal(read, read_audio(path, RATE))


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000], ids=hex)
def test_a_wav_written_into_a_pipe_has_no_true_size(size, tmp_path):
  path = saved(tmp_path, tone(0.5, RATE))
  expected = read_audio(path, RATE)
  with open(path, "r+b") as file:
    file.seek(40)
    file.write(size.to_bytes(4, "little"))
  np.testing.assert_array_equal(read_audio(path, RATE), expected)


def test_a_wav_whose_size_counts_its_header_is_whole(tmp_path):
  path = saved(tmp_path, tone(0.5, RATE))
  with open(path, "r+b") as file:
    file.seek(40)
    file.write(os.path.getsize(path).to_bytes(4, "little"))
  assert len(read_audio(path, RATE)) == RATE // 2


def test_a_flac_written_into_a_pipe_does_not_tell_its_length(tmp_path):
  path = saved(tmp_path, tone(0.5, RATE), name="pipe.flac")
  expected = read_audio(path, RATE)
  with open(path, "r+b") as file:
    file.seek(22)
    file.write(bytes(4))
  np.testing.assert_array_equal(read_audio(path, RATE), expected)
  np.testing.assert_array_equal(np.concatenate(list(stream_audio(path, RATE, 0.1))), expected)
  with pytest.raises(UserError, match="pipe.flac: the header does not tell the length"):
    audio_duration(path)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
def test_a_flac_cut_short_anywhere_is_refused(part, tmp_path):
  path = saved(tmp_path, np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE), name="a.flac")
  os.truncate(path, round(part * os.path.getsize(path)))
  for read in (read_audio, lambda path, rate: list(stream_audio(path, rate, 0.1))):
    with pytest.raises(UserError, match="cut short"):
      read(path, RATE)


def test_an_unfinished_mp3_gives_what_there_is(tmp_path):
  path = saved(tmp_path, tone(2, RATE), name="a.mp3")
  os.truncate(path, os.path.getsize(path) // 2)
  read = np.concatenate(list(stream_audio(path, RATE, 0.3)))
  assert 0.5 * RATE < len(read) < 1.5 * RATE
  np.testing.assert_array_equal(read, read_audio(path, RATE))


def test_memory_does_not_grow_with_the_file(tmp_path):
  path = os.path.join(tmp_path, "long.wav")
  with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
    for _ in range(60):
      file.write(np.zeros((44100, 2), np.int16))
  tracemalloc.start()
  length = sum(map(len, stream_audio(path, RATE, 2.0)))
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert length == 60 * RATE
  assert peak < 5 * RATE * 4 * 5


def test_raw_samples():
  read = pcm_samples(np.array([-32768, 0, 16384, 32767], "<i2").tobytes())
  assert read.dtype == np.float32
  np.testing.assert_array_equal(read, [-1, 0, 0.5, 32767 / 32768])
  assert len(pcm_samples(b"")) == 0
  with pytest.raises(UserError, match="socket: raw .* there are 3"):
    pcm_samples(bytes(3), "socket")


@pytest.mark.parametrize("file_rate", [8000, 16000, 44100])
def test_raw_samples_in_blocks(file_rate):
  samples = recordings.samples_of("raw", 0.7, file_rate)
  expected = convert_samples(samples, file_rate, 16000)
  blocks = stream_pcm(io.BytesIO(samples.tobytes()), file_rate, 16000, block_seconds=0.1)
  np.testing.assert_array_equal(np.concatenate(list(blocks)), expected)


def test_raw_samples_that_are_none():
  for data, message in ((b"", "no samples came"), (b"123", "two bytes a sample")):
    with pytest.raises(UserError, match=f"^pipe: .*{message}"):
      list(stream_pcm(io.BytesIO(data), 16000, 16000, name="pipe"))


@pytest.mark.parametrize("dtype", [bool, complex, np.int64, np.uint16, np.uint32, np.uint64, object, "M8[s]", "S1"])
def test_arrays_of_other_types_are_refused_with_those_that_are_taken(dtype):
  with pytest.raises(UserError, match=r"^array: .* type .*; give floats with 1 as full scale, int8, int16, int32 or"):
    convert_samples(np.zeros(9, dtype), RATE, RATE)


@pytest.mark.parametrize("shape", [(), (0,), (0, 1), (9, 0), (2, 9), (9, 3, 2)])
def test_arrays_of_other_shapes_are_refused(shape):
  with pytest.raises(UserError, match=rf"^array: .* the shape {re.escape(str(list(shape)))}; give \[samples\] or"):
    convert_samples(np.zeros(shape), RATE, RATE)


def test_what_no_array_can_be_made_of_is_named():
  with pytest.raises(UserError, match="^array: list cannot be made an array"):
    convert_samples([[0.0, 0.1], [0.2]], RATE, RATE)


# Types of samples with half of full scale in each, and with silence.
TYPES = {
  "f2": (0.5, 0),
  "f4": (0.5, 0),
  "f8": (0.5, 0),
  "i1": (64, 0),
  "i2": (2**14, 0),
  "i4": (2**30, 0),
  "u1": (192, 128),
}


@pytest.mark.parametrize("order", "<>=")
@pytest.mark.parametrize("dtype", TYPES)
def test_full_scale_and_silence_of_every_type(dtype, order):
  half, silent = TYPES[dtype]
  converted = convert_samples(np.array([half, silent] * 5, order + dtype), RATE, RATE)
  assert converted.dtype == np.dtype("=f4")
  np.testing.assert_array_equal(converted, [0.5, 0] * 5)


@given(
  samples=st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i4", ">i4", "u1"]).flatmap(
    lambda dtype: arrays(
      dtype,
      st.one_of(st.tuples(st.integers(1, 50)), st.tuples(st.integers(4, 50), st.integers(1, 4))),
      elements={"min_value": -1, "max_value": 1} if "f" in dtype else None,
    )
  )
)
def test_an_array_is_what_its_file_would_be(samples):
  subtype = {"f4": "FLOAT", "f8": "DOUBLE", "i2": "PCM_16", "i4": "PCM_32", "u1": "PCM_U8"}[samples.dtype.str[1:]]
  content = io.BytesIO()
  if subtype == "PCM_U8":
    # soundfile takes no bytes as samples: it takes integers of 16 bits and keeps the upper half.
    written = (samples.astype(np.int16) - 128) * 256
  else:
    written = samples.astype(samples.dtype.newbyteorder("="))
  soundfile.write(content, written, RATE, subtype, format="WAV")
  content.seek(0)
  (expected,) = stream_audio(content, RATE)
  np.testing.assert_array_equal(convert_samples(samples, RATE, RATE), expected)
