"""Tests features and labels against numbers of the original and against a plain Fourier sum."""

import os

import fixture_files
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.featurizer import (
  AudioFeaturizer,
  TextFeaturizer,
  compute_label_feature,
  compute_spectrogram_feature,
  normalize,
)
from official_utils.misc.errors import UserError

VOCABULARY = os.path.join(os.path.dirname(__file__), "..", "data", "vocabulary.txt")
NUMBERS = fixture_files.load_arrays("features")


def case_of(case: dict) -> tuple[np.ndarray, dict]:
  samples = (NUMBERS[f"wave/{case['wave']}"] / 32768).astype(np.float32)
  return samples, {
    key: case[key] for key in ("sample_rate", "stride_ms", "window_ms", "max_freq", "eps") if key in case
  }


CASES = fixture_files.load_json("features")["index"]
LABELS = fixture_files.load_json("labels")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_spectrogram_equals_the_originals(case):
  samples, settings = case_of(case)
  expected = NUMBERS[f"spec/{case['key']}"]
  result = compute_spectrogram_feature(samples, **settings)
  assert result.dtype == np.float32
  assert list(result.shape) == case["shape"]
  np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
  "case", [case for case in CASES if f"norm/{case['key']}" in NUMBERS], ids=lambda case: case["key"]
)
def test_normalized_features_equal_the_originals(case):
  samples, _ = case_of(case)
  featurizer = AudioFeaturizer(case["sample_rate"], case["window_ms"], case["stride_ms"])
  result, expected = featurizer.featurize(samples), NUMBERS[f"norm/{case['key']}"]
  assert result.dtype == np.float32
  assert result.shape == (featurizer.num_frames(len(samples)), featurizer.num_feature_bins) == expected.shape
  np.testing.assert_allclose(result, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("num_samples", [1, 400, 5000, 16000 * 40])
def test_digital_silence_is_exactly_zero(num_samples):
  features = AudioFeaturizer().featurize(np.zeros(num_samples, np.float32))
  assert features.shape[0] == AudioFeaturizer().num_frames(num_samples)
  assert not features.any()


def test_moments_are_accumulated_in_double_precision():
  # The mean of these values is lost if a float32 sum goes over them.
  spectrogram = (np.random.default_rng(0).standard_normal((200_000, 3)) * 1e-3 - 30).astype(np.float32)
  result = normalize(spectrogram)
  exact = spectrogram.astype(np.float64)
  np.testing.assert_allclose(result, (exact - exact.mean(0)) / (exact.std(0) + 1e-6), atol=1e-5)


def test_without_normalization_the_spectrogram_comes_out():
  samples = np.random.default_rng(0).uniform(-1, 1, 4000).astype(np.float32)
  result = AudioFeaturizer(normalize=False).featurize(samples)
  np.testing.assert_array_equal(result, compute_spectrogram_feature(samples, 16000))


def plain_spectrogram(samples: np.ndarray, rate: int, window: int, hop: int) -> np.ndarray:
  """Compute the log power by the definition of the transform, window by window, in double precision."""
  hann = np.hanning(window)
  bins = np.arange(window // 2 + 1)
  waves = np.exp(-2j * np.pi * np.outer(bins, np.arange(window)) / window)
  doubled = np.where((bins == 0) | (bins == bins[-1]), 1.0, 2.0)
  rows = []
  for start in range(0, len(samples) - window + 1, hop):
    power = np.abs(waves @ (samples[start : start + window] * hann)) ** 2
    rows.append(np.log(power * doubled / (rate * np.sum(hann**2)) + 1e-14))
  return np.array(rows)


@hypothesis.given(
  rate=st.sampled_from([8000, 11025, 16000, 22050]),
  window_ms=st.sampled_from([5, 10, 12.5, 20, 25]),
  stride=st.floats(0.1, 1.0),
  num_samples=st.integers(1, 2000),
  seed=st.integers(0, 100),
)
@hypothesis.settings(max_examples=40)
def test_any_rate_window_and_length_equals_the_plain_sum(rate, window_ms, stride, num_samples, seed):
  stride_ms = window_ms * stride
  window, hop = int(0.001 * rate * window_ms), int(0.001 * rate * stride_ms)
  samples = np.random.default_rng(seed).uniform(-1, 1, num_samples).astype(np.float32)
  result = AudioFeaturizer(rate, window_ms, stride_ms, normalize=False).featurize(samples)
  padded = np.pad(samples, (0, max(0, window - num_samples)))
  expected = plain_spectrogram(padded.astype(np.float64), rate, window, hop)
  assert result.shape == expected.shape
  np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
  ("num_samples", "frames"), [(1, 1), (100, 1), (319, 1), (320, 1), (479, 1), (480, 2), (481, 2), (640, 3)]
)
def test_short_clips_are_padded_to_one_window(num_samples, frames):
  featurizer = AudioFeaturizer()
  assert featurizer.num_frames(num_samples) == frames
  assert featurizer.featurize(np.ones(num_samples, np.float32)).shape == (frames, 161)


def test_counts_frames_of_many_clips_at_once():
  featurizer = AudioFeaturizer()
  sizes = np.arange(0, 2000, 13)
  assert featurizer.num_frames(sizes).tolist() == [featurizer.num_frames(size) for size in sizes.tolist()]


@pytest.mark.parametrize(
  ("rate", "window_ms", "bins"),
  [(8000, 20, 81), (16000, 20, 161), (16000, 25, 201), (22050, 20, 221), (44100, 20, 442)],
)
def test_the_number_of_bins_follows_the_settings(rate, window_ms, bins):
  assert AudioFeaturizer(rate, window_ms).num_feature_bins == bins


@pytest.mark.parametrize(
  ("settings", "words"),
  [
    ({"window_ms": 0}, r"--window_ms=0 is 0 samples at 16000 Hz.*raise --window_ms"),
    ({"sample_rate": 100}, r"--window_ms=20.0 is 2 samples at 100 Hz.*raise --window_ms to 30"),
    ({"stride_ms": 0}, r"--stride_ms=0 is 0 samples at 16000 Hz.*raise --stride_ms to 0.0625"),
    ({"stride_ms": -10}, r"--stride_ms=-10"),
    ({"stride_ms": 21}, r"--stride_ms=21 is longer than --window_ms=20.0.*lower --stride_ms"),
    ({"max_freq": 8001}, r"8001 Hz.*8000"),
    ({"max_freq": -1}, r"-1 Hz"),
  ],
)
def test_impossible_settings_are_refused(settings, words):
  with pytest.raises(UserError, match=words):
    compute_spectrogram_feature(np.zeros(1000, np.float32), **{"sample_rate": 16000, **settings})


@pytest.mark.parametrize("samples", [np.zeros(1000, np.int16), np.zeros((1000, 2), np.float32)])
def test_samples_of_another_kind_are_refused(samples):
  with pytest.raises(ValueError, match="samples must be floating point"):
    compute_spectrogram_feature(samples, 16000)


def test_the_vocabulary_is_the_originals():
  text_featurizer, table = TextFeaturizer(VOCABULARY), LABELS["vocabularies"]["default"]["table"]
  assert text_featurizer.speech_labels == table["speech_labels"]
  assert text_featurizer.token_to_index == table["token_to_index"]
  assert text_featurizer.index_to_token == {int(index): token for index, token in table["index_to_token"].items()}
  assert (text_featurizer.num_classes, text_featurizer.blank_index) == (29, 28)
  assert text_featurizer.characters == set(table["speech_labels"][:-1])


@pytest.mark.parametrize("case", LABELS["default_vocabulary_cases"], ids=lambda case: repr(case["text"]))
def test_labels_equal_the_originals(case):
  token_to_index = TextFeaturizer(VOCABULARY).token_to_index
  if "result" in case:
    assert compute_label_feature(case["text"], token_to_index) == case["result"]
  else:
    with pytest.raises(UserError, match="is not in the vocabulary.*--vocabulary_file.*--on_unknown=drop"):
      compute_label_feature(case["text"], token_to_index)


def vocabulary(folder, content: str | bytes) -> str:
  path = os.path.join(folder, "v.txt")
  with open(path, "wb") as file:
    file.write(content if isinstance(content, bytes) else content.encode())
  return path


@pytest.mark.parametrize(
  ("content", "labels"),
  [
    ("a\nb\n-\n", "ab-"),
    ("a\nb\n-", "ab-"),
    ("a\r\nb\r\n-\r\n", "ab-"),
    ("\ufeffa\nb\n", "ab"),
    ("# one\n \na\n# two\n_\n# three", " a_"),
    ("ą\n\u2028\nß\n", "ą\u2028ß"),
  ],
)
def test_reads_vocabularies_of_any_line_ends(content, labels, tmp_path):
  text_featurizer = TextFeaturizer(vocabulary(tmp_path, content))
  assert text_featurizer.speech_labels == labels
  assert text_featurizer.blank_index == len(labels) - 1
  assert labels[-1] not in text_featurizer.characters


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ("a\nb\na\n", r"line 3: 'a' stands in line 1"),
    ("a\n# x\nbc\n", r"line 3: 'bc' has 2 characters"),
    ("a\n\nb\n", r"line 2: is empty.*space"),
    ("", r"has 0 characters"),
    ("# only comments\n", r"has 0 characters"),
    ("-\n", r"has 1 characters.*blank"),
    (b"a\n\xe9\n-\n", r"not UTF-8.*--vocabulary_file"),
  ],
)
def test_names_each_fault_of_a_vocabulary(content, words, tmp_path):
  path = vocabulary(tmp_path, content)
  with pytest.raises(UserError, match=words) as caught:
    TextFeaturizer(path)
  assert path in str(caught.value)


def test_a_missing_vocabulary_names_the_flag(tmp_path):
  with pytest.raises(UserError, match=r"no\.txt.*No such file.*--vocabulary_file"):
    TextFeaturizer(str(tmp_path / "no.txt"))
