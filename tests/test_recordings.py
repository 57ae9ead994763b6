"""Tests how recordings of noise are found, cut and kept."""

import threading

import numpy as np
import pytest
import recordings
import soundfile

from data.augmentation.recordings import Recordings
from official_utils.misc.errors import UserError

RATE = 16000


@pytest.fixture
def folder(tmp_path):
  """Two recordings, one of them below; and what is none."""
  for name in ("b.wav", "a/c.flac"):
    recordings.write(str(tmp_path / name), 0.5)
  (tmp_path / "notes.txt").write_text("no audio")
  return tmp_path


def test_a_folder_is_searched(folder):
  found = Recordings.in_folder(str(folder))
  assert found.paths == [str(folder / "a/c.flac"), str(folder / "b.wav")]
  assert len(found) == 2


def test_a_folder_without_recordings_is_refused(tmp_path):
  with pytest.raises(UserError, match="no recording is in this folder"):
    Recordings.in_folder(str(tmp_path))
  with pytest.raises(UserError, match="there is no such folder of recordings; correct dir="):
    Recordings.in_folder(str(tmp_path / "missing"))


@pytest.mark.parametrize("length", [1, 5000, 8000, 30000])
def test_an_excerpt_begins_anywhere_and_repeats_the_recording(folder, length):
  whole = soundfile.read(folder / "b.wav", dtype="float32")[0]
  found = Recordings.in_folder(str(folder))
  for seed in range(5):
    piece = found.excerpt(1, RATE, length, np.random.default_rng(seed))
    start = np.random.default_rng(seed).integers(len(whole))
    np.testing.assert_array_equal(piece, np.take(whole, range(start, start + length), mode="wrap"))


def test_at_another_rate_it_is_converted(folder):
  piece = Recordings.in_folder(str(folder)).excerpt(0, 8000, 8000, np.random.default_rng(0))
  # Half a second, twice.
  np.testing.assert_array_equal(piece[:4000], piece[4000:])


def test_what_was_used_last_is_kept_in_memory(folder):
  found = Recordings.in_folder(str(folder))
  only_one = Recordings(found.paths, kept_samples=12000)
  for each in (found, only_one):
    for place in (0, 1):
      each.excerpt(place, RATE, 10, np.random.default_rng(0))
  for path in found.paths:
    open(path, "w").close()
  for place in (0, 1):
    found.excerpt(place, RATE, 10, np.random.default_rng(0))
  only_one.excerpt(1, RATE, 10, np.random.default_rng(0))
  with pytest.raises(UserError, match="a/c.flac: the audio file is empty"):
    only_one.excerpt(0, RATE, 10, np.random.default_rng(0))


def test_threads_get_what_one_gets(folder):
  found = Recordings(Recordings.in_folder(str(folder)).paths, kept_samples=8000)
  expected = [found.excerpt(place, RATE, 900, np.random.default_rng(3)) for place in (0, 1)]
  faults = []

  def read():
    for number in range(60):
      piece = found.excerpt(number % 2, RATE, 900, np.random.default_rng(3))
      if not np.array_equal(piece, expected[number % 2]):
        faults.append(number)

  threads = [threading.Thread(target=read) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not faults
