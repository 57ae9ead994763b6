"""Tests the preparation of Common Voice on a small release of the real layout."""

import os
import tarfile

import pytest
import recordings
import soundfile

from data.corpora import common_voice
from data.corpora.utterances import Options
from data.manifest import read_manifest, size_to_duration
from official_utils.misc.errors import UserError

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment\n"
SENTENCES = {
  "train": {"common_voice_en_1.mp3": 'He said: "Naïve, isn’t it?"', "common_voice_en_2": '"Go" home.'},
  "dev": {"common_voice_en_3.mp3": "Well-known facts.", "common_voice_en_4.mp3": "In 1984"},
  "test": {"common_voice_en_5.mp3": '"Quoted to the end', "common_voice_en_6.mp3": "Gone."},
}


@pytest.fixture
def release(tmp_path) -> str:
  root = tmp_path / "cv-corpus-17.0" / "en"
  for split, sentences in SENTENCES.items():
    rows = [f"{'c' * 64}\t{path}\t{sentence}\t2\t0\t\t\t\t\ten\t\n" for path, sentence in sentences.items()]
    recordings.write_text(root / f"{split}.tsv", HEADER + "".join(rows))
  for number in range(1, 6):
    recordings.write(root / "clips" / f"common_voice_en_{number}.mp3", 0.5 + 0.1 * number, 48000)
  return str(root)


def test_takes_the_tables_as_they_are(release, tmp_path, capsys):
  manifests = common_voice.prepare_common_voice(str(tmp_path / "data"), release)
  assert recordings.transcripts(manifests) == {
    "train": {"common_voice_en_1.mp3": "he said naive isn't it", "common_voice_en_2.mp3": "go home"},
    "dev": {"common_voice_en_3.mp3": "well known facts"},
    "test": {"common_voice_en_5.mp3": "quoted to the end"},
  }
  for entry in read_manifest(manifests["train"]):
    number = int(entry.path[-5])
    # MP3 consists of frames of 24 ms, the first and the last of them padded.
    assert size_to_duration(entry.size) == pytest.approx(0.5 + 0.1 * number, abs=0.08)
  out, err = capsys.readouterr()
  assert "1 with digits" in out and "1 of 2 recordings of test" in out
  assert "common_voice_en_6.mp3" in err
  assert f"left out: {release}/dev.tsv, line 3: digits in 'In 1984'" in err.splitlines()


def test_takes_any_line_end_and_any_order_of_columns(release, tmp_path):
  rows = "sentence\tpath\r\nOne\rtwo\tcommon_voice_en_3.mp3\r\n"
  recordings.write_text(os.path.join(release, "dev.tsv"), rows)
  manifests = common_voice.prepare_common_voice(str(tmp_path / "data"), release, ["dev"])
  assert recordings.transcripts(manifests) == {"dev": {"common_voice_en_3.mp3": "one two"}}
  recordings.write_text(os.path.join(release, "dev.tsv"), rows + "Three\n")
  with pytest.raises(UserError, match=r"dev\.tsv, line 3: the row ends before its path and sentence"):
    common_voice.prepare_common_voice(str(tmp_path / "data"), release, ["dev"])


def test_takes_an_archive_or_a_folder_above_and_writes_wav(release, tmp_path):
  archive = tmp_path / "cv.tar.gz"
  with tarfile.open(archive, "w:gz") as tar:
    tar.add(os.path.dirname(release), "cv-corpus-17.0")
  data_dir = str(tmp_path / "data")
  expected = recordings.transcripts(common_voice.prepare_common_voice(data_dir, os.path.dirname(release), ["dev"]))
  assert recordings.transcripts(common_voice.prepare_common_voice(data_dir, str(archive), ["dev"])) == expected
  manifests = common_voice.prepare_common_voice(data_dir, None, ["train"], Options(to_wav=True))
  for entry in read_manifest(manifests["train"]):
    assert soundfile.info(entry.path).samplerate == 16000
    assert os.path.getsize(entry.path) == entry.size


def test_names_what_is_wrong(release, tmp_path):
  with pytest.raises(UserError, match=r"commonvoice\.mozilla\.org.*--source"):
    common_voice.download_common_voice()
  common_voice.download_common_voice(release)
  os.rename(release, tmp_path / "common_voice")
  with pytest.raises(UserError, match="would overwrite the tables"):
    common_voice.prepare_common_voice(str(tmp_path), str(tmp_path / "common_voice"))
  assert (tmp_path / "common_voice" / "train.tsv").read_text().startswith(HEADER)
  release = str(tmp_path / "common_voice")
  os.remove(tmp_path / "common_voice" / "dev.tsv")
  with pytest.raises(UserError, match=r"dev\.tsv: cannot read"):
    common_voice.prepare_common_voice(str(tmp_path / "data"), release)
  wrong_columns, cut_off = "a\tb\n1\t2\n", HEADER + "\nc\tx.mp3\n"
  for content, words in ((wrong_columns, "expected columns path and sentence"), (cut_off, "line 3: the row ends")):
    recordings.write_text(tmp_path / "common_voice" / "dev.tsv", content)
    with pytest.raises(UserError, match=words):
      common_voice.prepare_common_voice(str(tmp_path / "data"), release, ["dev"])
