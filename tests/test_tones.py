"""Tests the synthetic corpus: what it promises of its words, and that its letters can be heard."""

import os

import numpy as np
import pytest
import recordings

from data.audio import read_audio
from data.corpora import tones
from data.featurizer import compute_spectrogram_feature
from data.manifest import read_manifest
from official_utils.misc.errors import UserError

COUNTS = {"num_train": 60, "num_dev": 8, "num_test": 8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  data_dir = str(tmp_path_factory.mktemp("data"))
  tones.download_tones(data_dir, **COUNTS)
  manifests = tones.prepare_tones(data_dir)
  return {split: read_manifest(path) for split, path in manifests.items()}


def draw_texts(split: str, number: int) -> list[str]:
  rng = np.random.default_rng(0)
  return [tones.draw_text(rng, split) for _ in range(number)]


def hear(samples: np.ndarray) -> str:
  """Read a rendering back: which tones sound when, letters being told apart by the gaps between them."""
  window_ms, stride_ms = 20.0, 2.0
  power = np.exp(compute_spectrogram_feature(samples.astype(np.float32), tones.SAMPLE_RATE, stride_ms, window_ms))
  low = power[:, [frequency // 50 for frequency in tones.LOW_TONES]]
  high = power[:, [frequency // 50 for frequency in tones.HIGH_TONES]]
  letters = {tones.tones_of(letter): letter for letter in tones.LETTERS}
  # A frame sounds if its loudest tones are within 20 dB of the loudest of all.
  sounding = low.max(1) * high.max(1) > 1e-4 * (low.max() * high.max())
  text, started, silent = "", False, 0
  for frame, sounds in enumerate(sounding):
    pair = tones.LOW_TONES[low[frame].argmax()], tones.HIGH_TONES[high[frame].argmax()]
    letter = letters.get(pair, "?")
    if not sounds:
      silent += 1
      continue
    if started and silent * stride_ms > 80:
      text += " "
    if not started or silent or letter != text[-1]:
      text += letter
    started, silent = True, 0
  return text


def test_the_same_seed_makes_the_same_files_and_another_seed_others(corpus, tmp_path):
  def audio_of(entries):
    return [open(entry.path, "rb").read() for entry in entries]

  again = {}
  for seed in (0, 1):
    data_dir = str(tmp_path / str(seed))
    tones.download_tones(data_dir, ["dev"], seed, **COUNTS)
    again[seed] = read_manifest(tones.prepare_tones(data_dir, ["dev"])["dev"])
  assert audio_of(again[0]) == audio_of(corpus["dev"])
  assert [entry.transcript for entry in again[0]] == [entry.transcript for entry in corpus["dev"]]
  assert not set(audio_of(again[1])) & set(audio_of(corpus["dev"]))
  assert sorted(os.listdir(tmp_path / "0" / "tones")) == ["dev", "dev.tsv"]


def test_manifests_name_every_file_with_its_true_size(corpus):
  assert {split: len(entries) for split, entries in corpus.items()} == {"train": 60, "dev": 8, "test": 8}
  for entry in sum(corpus.values(), []):
    assert os.path.getsize(entry.path) == entry.size
    assert len(read_audio(entry.path, 16000)) == (entry.size - 44) // 2


def test_words_have_the_promised_form():
  texts = draw_texts("train", 500)
  words = " ".join(texts).split(" ")
  assert {len(text.split(" ")) for text in texts} == {2, 3, 4}
  assert {len(word) for word in words} == set(range(2, 8))
  assert set("".join(words)) == set(tones.LETTERS)
  doubled = sum(any(map(str.__eq__, word, word[1:])) for word in words) / len(words)
  assert 0.25 < doubled < 0.55


def test_no_word_of_dev_or_test_occurs_elsewhere():
  words = {split: set(" ".join(draw_texts(split, 300)).split(" ")) for split in tones.SPLITS}
  for split, own in words.items():
    for other in words.keys() - {split}:
      assert not own & words[other]


def test_every_letter_has_tones_of_its_own_on_the_bins_of_a_window():
  pairs = [tones.tones_of(letter) for letter in tones.LETTERS]
  assert len(set(pairs)) == 26
  frequencies = sorted({frequency for pair in pairs for frequency in pair})
  assert all(frequency % 50 == 0 and frequency < 4000 for frequency in frequencies)
  assert min(np.diff(frequencies)) >= 150


def test_durations_vary_by_a_factor_of_two_and_leave_room_for_every_label():
  rng = np.random.default_rng(0)
  letters = [len(tones._letter("a", rng)) / tones.SAMPLE_RATE for _ in range(300)]
  assert min(letters) < 0.085 < 0.155 < max(letters)
  for text in ("aaaaaaa", "abcdefg", "bb cc", "zz"):
    # A step of output is 40 ms; a doubled letter takes one more.
    doubled = sum(map(str.__eq__, text, text[1:]))
    assert min(len(tones.speak(text, rng)) for _ in range(50)) / 640 > len(text) + doubled


def test_noise_is_20_db_below_the_letters():
  text, seed = "abc defgh", 7
  noisy = tones.speak(text, np.random.default_rng(seed))
  clean = tones.speak(text, np.random.default_rng(seed), signal_to_noise_db=400.0)
  sounding = np.abs(clean) > 1e-9
  ratio = np.mean(clean[sounding] ** 2) / np.mean((noisy - clean) ** 2)
  assert 10 * np.log10(ratio) == pytest.approx(20, abs=0.3)


def test_levels_vary():
  rng = np.random.default_rng(0)
  peaks = [np.abs(tones.speak("abc", rng)).max() for _ in range(100)]
  assert 4 < max(peaks) / min(peaks) < 40
  assert max(peaks) < 1


def test_what_is_spoken_can_be_heard():
  for number, text in enumerate(draw_texts("train", 30)):
    assert hear(tones.speak(text, np.random.default_rng(number))) == text


def test_an_interrupted_renewal_leaves_no_manifest(tmp_path):
  data_dir = str(tmp_path)
  recordings.write_text(tmp_path / "tones" / "dev" / "00001.wav.1.part", "what a killed process leaves")
  tones.download_tones(data_dir, ["dev"], **COUNTS)
  tones.prepare_tones(data_dir, ["dev"])
  assert len(os.listdir(tmp_path / "tones" / "dev")) == 8 + 1
  os.rename(tmp_path / "tones" / "dev" / "00003.wav", tmp_path / "kept.wav")
  os.mkdir(tmp_path / "tones" / "dev" / "00003.wav")
  with pytest.raises(IsADirectoryError):
    tones.download_tones(data_dir, ["dev"], seed=1, **COUNTS)
  assert not os.path.exists(tmp_path / "tones" / "dev.tsv")
  with pytest.raises(UserError, match=r"transcripts\.txt: is missing.*--corpus=tones"):
    tones.prepare_tones(data_dir, ["dev"])
