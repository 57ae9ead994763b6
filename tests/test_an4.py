"""Tests the preparation of AN4 on a small corpus of the real layout."""

import os
import tarfile

import numpy as np
import pytest
import recordings
import soundfile

from data.corpora import an4
from data.manifest import read_manifest
from official_utils.misc.errors import UserError

# "mmap" is one of the speakers whose recordings go to dev.
TRAIN = {
  "an4_clstk/fash/an251-fash-b": ("<s> YES </s>", "yes"),
  "an4_clstk/fash/an253-fash-b": ("<s> GO </s>", "go"),
  "an4_clstk/fbbh/an86-fbbh-b": ("<s> R U B(2) O U T ++BREATH++ G </s>", "r u b o u t g"),
  "an4_clstk/{dev}/an1-{dev}-b": ("<s> M C FOUR </s>", "m c four"),
}
TEST = {"an4test_clstk/fcaw/an406-fcaw-b": ("RUBOUT G M E THREE NINE", "rubout g m e three nine")}


def dev_speaker() -> str:
  """Find a name that falls to dev, and make sure that the others do not."""
  import zlib

  def is_dev(folder):
    return zlib.crc32(folder.encode()) % an4.DEV_SHARE == 0

  assert not is_dev("an4_clstk/fash") and not is_dev("an4_clstk/fbbh")
  return next(f"m{letter}ab" for letter in "abcdefghijklmnopqrstuvwxyz" if is_dev(f"an4_clstk/m{letter}ab"))


def make_corpus(root, order: str = ">") -> dict[str, np.ndarray]:
  """Write the corpus; return the samples of each recording by name."""
  samples = {}
  for published, utterances in (("train", TRAIN), ("test", TEST)):
    ids, lines = [], []
    for place, (text, _) in utterances.items():
      place = place.format(dev=dev_speaker())
      name = os.path.basename(place)
      samples[name] = recordings.samples_of(name, 0.25, 16000)
      path = root / "an4" / "wav" / f"{place}.raw"
      os.makedirs(path.parent, exist_ok=True)
      path.write_bytes(samples[name].astype(f"{order}i2").tobytes())
      ids.append(place)
      lines.append(f"{text} ({name})\n")
    recordings.write_text(root / "an4" / "etc" / f"an4_{published}.fileids", "\n".join(ids) + "\n")
    recordings.write_text(root / "an4" / "etc" / f"an4_{published}.transcription", "".join(lines))
  return samples


@pytest.mark.parametrize("order", [">", "<"])
def test_makes_wav_files_of_both_orders_of_bytes(order, tmp_path):
  samples = make_corpus(tmp_path / "mine", order)
  manifests = an4.prepare_an4(str(tmp_path / "data"), str(tmp_path / "mine"))
  dev = dev_speaker()
  assert recordings.transcripts(manifests) == {
    "train": {f"{os.path.basename(place)}.wav": text for place, (_, text) in TRAIN.items() if "{dev}" not in place},
    "dev": {f"an1-{dev}-b.wav": "m c four"},
    "test": {"an406-fcaw-b.wav": "rubout g m e three nine"},
  }
  for path in manifests.values():
    for entry in read_manifest(path):
      heard, rate = soundfile.read(entry.path, dtype="int16")
      assert rate == 16000 and entry.size == os.path.getsize(entry.path)
      assert heard.tolist() == samples[os.path.basename(entry.path).removesuffix(".wav")].tolist()


def test_makes_wav_files_anew_when_their_recordings_change(tmp_path):
  make_corpus(tmp_path / "mine")
  manifests = an4.prepare_an4(str(tmp_path / "data"), str(tmp_path / "mine"), ["test"])
  copy = read_manifest(manifests["test"])[0].path
  recordings.write_text(f"{copy}.1.part", "what a killed process leaves")
  before = os.stat(copy).st_ino
  an4.prepare_an4(str(tmp_path / "data"), str(tmp_path / "mine"), ["test"])
  assert os.stat(copy).st_ino == before
  assert os.listdir(os.path.dirname(copy)) == [os.path.basename(copy)]
  raw = tmp_path / "mine" / "an4" / "wav" / "an4test_clstk" / "fcaw" / "an406-fcaw-b.raw"
  raw.write_bytes(raw.read_bytes()[:1000])
  manifests = an4.prepare_an4(str(tmp_path / "data"), str(tmp_path / "mine"), ["test"])
  assert read_manifest(manifests["test"])[0].size == 1044


def test_takes_an_archive_and_other_forms_of_audio(tmp_path):
  samples = make_corpus(tmp_path / "mine")
  name = "an406-fcaw-b"
  folder = tmp_path / "mine" / "an4" / "wav" / "an4test_clstk" / "fcaw"
  os.remove(folder / f"{name}.raw")
  recordings.write(folder / f"{name}.sph", format="NIST")
  archive = tmp_path / "an4_raw.bigendian.tar.gz"
  with tarfile.open(archive, "w:gz") as tar:
    tar.add(tmp_path / "mine" / "an4", "an4")
  data_dir = str(tmp_path / "data")
  manifests = an4.prepare_an4(data_dir, str(archive), ["test"])
  assert list(recordings.transcripts(manifests)["test"]) == [f"{name}.sph"]
  assert an4.prepare_an4(data_dir, None, ["train"]).keys() == {"train"}
  assert len(samples) == 5


def test_names_what_is_wrong(tmp_path):
  an4.download_an4(str(tmp_path), "mine")
  assert os.listdir(tmp_path) == []
  make_corpus(tmp_path / "mine")
  etc = tmp_path / "mine" / "an4" / "etc"
  data_dir, source = str(tmp_path / "data"), str(tmp_path / "mine")
  raw = tmp_path / "mine" / "an4" / "wav" / "an4_clstk" / "fash" / "an251-fash-b.raw"
  raw.write_bytes(b"\0" * 7)
  with pytest.raises(UserError, match="an251-fash-b.raw: has an odd number of bytes"):
    an4.prepare_an4(data_dir, source)
  os.remove(raw)
  assert len(read_manifest(an4.prepare_an4(data_dir, source)["train"])) == 2
  recordings.write_text(etc / "an4_test.fileids", "an4test_clstk/fcaw/an1-fcaw-b\n")
  with pytest.raises(UserError, match=r"an4_test.fileids, line 1: .*an1-fcaw-b has no transcript"):
    an4.prepare_an4(data_dir, source)
  recordings.write_text(etc / "an4_test.transcription", "\nNO NAME\n")
  with pytest.raises(UserError, match=r"an4_test.transcription, line 2: 'NO NAME'"):
    an4.prepare_an4(data_dir, source)
