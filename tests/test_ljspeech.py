"""Tests the preparation of LJ Speech on a small corpus of the real layout."""

import os
import tarfile

import pytest
import recordings

from data.corpora import ljspeech
from data.corpora.utterances import Options
from data.manifest import read_manifest, size_to_duration
from official_utils.misc.errors import UserError

ROWS = {
  "LJ001-0001": ('Printing, "in 1455"', "Printing, “in fourteen fifty-five”", "printing in fourteen fifty five"),
  "LJ001-0002": ("Dr. Who's", "Doctor Who's", "doctor who's"),
  "LJ001-0003": ("only as printed", "", "only as printed"),
}


@pytest.fixture
def corpus(tmp_path) -> str:
  root = tmp_path / "mine" / "LJSpeech-1.1"
  table = [f"{name}|{printed}|{read}\n" for name, (printed, read, _) in ROWS.items()]
  table += [f"LJ002-{number:04d}|x|x\n" for number in range(60)]
  recordings.write_text(root / "metadata.csv", "".join(table))
  for row in table:
    recordings.write(root / "wavs" / f"{row.split('|')[0]}.wav", 0.1, 22050)
  return str(root)


def test_takes_the_text_as_it_was_read(corpus, tmp_path):
  manifests = ljspeech.prepare_ljspeech(str(tmp_path / "data"), os.path.dirname(corpus))
  parts = recordings.transcripts(manifests)
  assert {split: len(part) > 0 for split, part in parts.items()} == dict.fromkeys(ljspeech.SPLITS, True)
  texts = {name: text for part in parts.values() for name, text in part.items()}
  assert len(texts) == 63 == sum(map(len, parts.values()))
  for name, (_, _, expected) in ROWS.items():
    assert texts[f"{name}.wav"] == expected
  assert size_to_duration(read_manifest(manifests["train"])[0].size) == pytest.approx(0.1, abs=1e-4)
  assert ljspeech.prepare_ljspeech(str(tmp_path / "data"), corpus, ["test"]).keys() == {"test"}
  assert recordings.transcripts({"test": manifests["test"]}) == {"test": parts["test"]}


def test_names_the_line_of_a_transcript_that_it_leaves_out(corpus, tmp_path, capsys):
  table = os.path.join(corpus, "metadata.csv")
  with open(table, "a") as file:
    file.write("LJ001-0001|in 1984|in 1984\n")
  ljspeech.prepare_ljspeech(str(tmp_path / "data"), corpus)
  assert f"left out: {table}, line 64: digits in 'in 1984'" in capsys.readouterr().err.splitlines()


def test_takes_the_archive(corpus, tmp_path):
  archive = tmp_path / "LJSpeech-1.1.tar.bz2"
  with tarfile.open(archive, "w:bz2") as tar:
    tar.add(corpus, "LJSpeech-1.1")
  ljspeech.download_ljspeech(str(tmp_path / "data"), str(archive))
  manifests = ljspeech.prepare_ljspeech(str(tmp_path / "data"), str(archive), options=Options(to_wav=True))
  entry = read_manifest(manifests["dev"])[0]
  assert os.path.getsize(entry.path) == entry.size
  assert ljspeech.prepare_ljspeech(str(tmp_path / "data")) == manifests


def test_names_a_broken_row(corpus, tmp_path):
  recordings.write_text(os.path.join(corpus, "metadata.csv"), "LJ001-0001|a|b\nLJ001-0002|a\n")
  with pytest.raises(UserError, match=r"metadata\.csv, line 2: has 2 fields between bars instead of 3"):
    ljspeech.prepare_ljspeech(str(tmp_path / "data"), corpus)
