"""Synthetic speech: each letter is a short pair of tones, so that training can be tried without any download."""

import contextlib
import os
import zlib
from collections.abc import Sequence

import numpy as np

from data import audio, manifest
from data.corpora import utterances
from data.corpora.utterances import SAMPLE_RATE, SPLITS
from official_utils.misc import files
from official_utils.misc.errors import UserError

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Every letter is one low and one high tone. All lie on multiples of 50 Hz, the bins of a 20 ms window, at least three
# bins apart, and low enough for a sample rate of 8 kHz.
LOW_TONES = (300, 450, 600, 750, 900)
HIGH_TONES = (1200, 1600, 2000, 2400, 2800, 3200)
# Shortest and longest, in seconds. A doubled letter can be hardly longer than a long single one: the gap tells.
LETTER_SECONDS = (0.08, 0.16)
GAP_SECONDS = (0.01, 0.03)
DOUBLED_GAP_SECONDS = (0.03, 0.05)
PAUSE_SECONDS = (0.12, 0.24)
MARGIN_SECONDS = (0.06, 0.2)
RAMP_SECONDS = 0.005
SIGNAL_TO_NOISE_DB = 20.0
# The loudest an utterance can get, and how much softer utterances and letters can be.
LOUDEST = 0.5
UTTERANCE_RANGE_DB = 20.0
LETTER_RANGE_DB = 6.0
WORDS = (2, 4)
WORD_LETTERS = (2, 7)
DOUBLED_SHARE = 0.3


def download_tones(
  data_dir: str,
  splits: Sequence[str] = SPLITS,
  seed: int = 0,
  num_train: int = 800,
  num_dev: int = 100,
  num_test: int = 100,
) -> None:
  """Make the audio files and transcripts, in place of a download.

  Args:
    data_dir: they go to `<data_dir>/tones/<split>/`, as `<number>.wav` and `transcripts.txt`.
    splits: which of train, dev and test.
    seed: the same seed makes the same corpus.
    num_train: utterances of the training set.
    num_dev: utterances of the development set.
    num_test: utterances of the test set. No word of these two sets occurs in the training set or in the other.
  """
  counts = {"train": num_train, "dev": num_dev, "test": num_test}
  for split in splits:
    folder = os.path.join(_corpus_folder(data_dir), split)
    utterances.make_clean(folder)
    # A manifest must not outlive the audio that it was made for, should this be interrupted.
    for outdated in (_manifest_path(data_dir, split), os.path.join(folder, "transcripts.txt")):
      with contextlib.suppress(FileNotFoundError):
        os.remove(outdated)
    lines = []
    for number in range(counts[split]):
      rng = np.random.default_rng([seed, SPLITS.index(split), number])
      text = draw_text(rng, split)
      samples = np.rint(speak(text, rng) * 32767).astype(np.int16)
      utterances.write_wav(os.path.join(folder, f"{number:05d}.wav"), samples)
      lines.append(f"{number:05d} {text}\n")
    files.write_atomically(os.path.join(folder, "transcripts.txt"), "".join(lines))


def prepare_tones(data_dir: str, splits: Sequence[str] = SPLITS) -> dict[str, str]:
  """Write the manifests of what `download_tones` made.

  Args:
    data_dir: the folder that was given to `download_tones`.
    splits: which of train, dev and test.

  Returns:
    The manifest of each split, `<data_dir>/tones/<split>.tsv`.
  """
  manifests = {}
  for split in splits:
    manifests[split] = _manifest_path(data_dir, split)
    manifest.write_manifest(manifests[split], _read_split(os.path.join(_corpus_folder(data_dir), split)))
  return manifests


def draw_text(rng: np.random.Generator, split: str) -> str:
  """Draw the words of an utterance from those that belong to the split."""
  num_words = rng.integers(WORDS[0], WORDS[1] + 1)
  return " ".join(_draw_word(rng, split) for _ in range(num_words))


def speak(text: str, rng: np.random.Generator, signal_to_noise_db: float = SIGNAL_TO_NOISE_DB) -> np.ndarray:
  """Render a text as tones.

  Args:
    text: lower-case letters and spaces.
    rng: draws durations, levels and the noise.
    signal_to_noise_db: power of the letters over that of the white noise.

  Returns:
    float64 [samples] at 16 kHz, within -1 to 1.
  """
  pieces = [_silence(rng, MARGIN_SECONDS)]
  for previous, letter in zip(" " + text, text, strict=False):
    if letter == " ":
      pieces.append(_silence(rng, PAUSE_SECONDS))
      continue
    if previous != " ":
      pieces.append(_silence(rng, DOUBLED_GAP_SECONDS if previous == letter else GAP_SECONDS))
    pieces.append(_letter(letter, rng))
  pieces.append(_silence(rng, MARGIN_SECONDS))

  clean = np.concatenate(pieces)
  sounding_power = np.mean(clean[clean != 0] ** 2)
  noise = rng.standard_normal(len(clean)) * np.sqrt(sounding_power / 10 ** (signal_to_noise_db / 10))
  level = LOUDEST * _softening(rng, UTTERANCE_RANGE_DB)
  return np.clip(level * (clean + noise), -1.0, 1.0)


def tones_of(letter: str) -> tuple[int, int]:
  """Give the low and the high frequency of a letter in hertz."""
  high, low = divmod(LETTERS.index(letter), len(LOW_TONES))
  return LOW_TONES[low], HIGH_TONES[high]


def split_of_word(word: str) -> str:
  """Tell which split a word belongs to, whatever the seed: a tenth of all words each to dev and test."""
  return {0: "dev", 1: "test"}.get(zlib.crc32(word.encode()) % 10, "train")


def _draw_word(rng: np.random.Generator, split: str) -> str:
  """Draw a word that belongs to the split."""
  while True:
    letters = rng.integers(len(LETTERS), size=rng.integers(WORD_LETTERS[0], WORD_LETTERS[1] + 1))
    if rng.random() < DOUBLED_SHARE:
      second = rng.integers(1, len(letters))
      letters[second] = letters[second - 1]
    word = "".join(LETTERS[letter] for letter in letters)
    if split_of_word(word) == split:
      return word


def _letter(letter: str, rng: np.random.Generator) -> np.ndarray:
  """Render one letter, its ends softened so that they do not click."""
  num_samples = round(rng.uniform(*LETTER_SECONDS) * SAMPLE_RATE)
  seconds = np.arange(num_samples) / SAMPLE_RATE
  low, high = (np.sin(2 * np.pi * (frequency * seconds + rng.random())) for frequency in tones_of(letter))
  from_end = np.minimum(seconds, seconds[::-1]) + 0.5 / SAMPLE_RATE
  envelope = np.sin(np.pi / 2 * np.minimum(1.0, from_end / RAMP_SECONDS)) ** 2
  return _softening(rng, LETTER_RANGE_DB) * envelope * (low + high) / 2


def _silence(rng: np.random.Generator, seconds: tuple[float, float]) -> np.ndarray:
  """Make zeros of a random length."""
  return np.zeros(round(rng.uniform(*seconds) * SAMPLE_RATE))


def _softening(rng: np.random.Generator, range_db: float) -> float:
  """Draw a factor of at most 1."""
  return 10 ** (-rng.uniform(0.0, range_db) / 20)


def _read_split(folder: str) -> list[manifest.Entry]:
  """List the utterances of a split."""
  transcripts = os.path.join(folder, "transcripts.txt")
  if not os.path.exists(transcripts):
    raise UserError(f"{transcripts}: is missing; make the corpus with `python data/download.py --corpus=tones`")
  entries = []
  with open(transcripts, encoding="utf-8") as file:
    for line in file:
      number, text = line.rstrip("\n").split(" ", 1)
      path = os.path.abspath(os.path.join(folder, f"{number}.wav"))
      entries.append(manifest.Entry(path, manifest.duration_to_size(audio.audio_duration(path)), text))
  return entries


def _corpus_folder(data_dir: str) -> str:
  """Name the folder that holds everything."""
  return os.path.join(data_dir, "tones")


def _manifest_path(data_dir: str, split: str) -> str:
  """Name the manifest of a split."""
  return os.path.join(_corpus_folder(data_dir), f"{split}.tsv")
