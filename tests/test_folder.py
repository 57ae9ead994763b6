"""Tests the preparation of recordings of any origin."""

import os
import zipfile

import pytest
import recordings

from data.corpora import folder, utterances
from data.corpora.utterances import Options
from data.manifest import read_manifest
from official_utils.misc.errors import UserError


def merged(manifests: dict[str, str]) -> dict[str, str]:
  return {name: text for part in recordings.transcripts(manifests).values() for name, text in part.items()}


def make_tree(root) -> None:
  for name in ("a.wav", "b/c.flac", "b/d.ogg", "b/e.MP3", "f.wav"):
    recordings.write(root / name.lower(), 0.5)
  os.rename(root / "b" / "e.mp3", root / "b" / "e.MP3")
  recordings.write_text(root / "a.txt", "\ufeffHello,\nWorld!\n")
  recordings.write_text(root / "b" / "c.lab", "see")
  recordings.write_text(root / "b" / "d.txt", "from the text")
  recordings.write_text(root / "b" / "d.lab", "from the lab")
  recordings.write_text(root / "b" / "e.txt", "Chapter 12")
  recordings.write_text(root / "readme.txt", "nothing of that name")


def test_takes_audio_with_a_transcript_beside_it(tmp_path, capsys):
  make_tree(tmp_path / "mine")
  manifests = folder.prepare_folder(str(tmp_path / "data"), str(tmp_path / "mine"), options=Options(digits="spell"))
  assert merged(manifests) == {
    "a.wav": "hello world",
    "c.flac": "see",
    "d.ogg": "from the text",
    "e.MP3": "chapter twelve",
  }
  assert set(manifests.values()) <= {str(tmp_path / "data" / "folder" / f"{split}.tsv") for split in folder.SPLITS}
  out, err = capsys.readouterr()
  assert "1 audio files without a transcript" in out
  assert "left out: 1 texts (.txt, .lab) without audio beside them" in out
  assert f"left out: {tmp_path}/mine/f.wav: no text of the same name is beside it" in err.splitlines()
  assert f"left out: {tmp_path}/mine/readme.txt: no audio of the same name is beside it" in err.splitlines()
  assert "e.MP3" not in merged(folder.prepare_folder(str(tmp_path / "data"), str(tmp_path / "mine")))


def test_does_not_search_the_model_that_was_trained_beside_the_recordings(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  recordings.write(tmp_path / "a.wav")
  recordings.write_text(tmp_path / "a.txt", "a")
  first = folder.prepare_folder(".", str(tmp_path))
  assert "left out" not in capsys.readouterr().err
  model_dir = utterances.model_folder(".", "folder")
  recordings.write_text(tmp_path / model_dir / "vocabulary.txt", "a\n-\n")
  recordings.write_text(tmp_path / model_dir / "export" / "best" / "1" / "assets" / "vocabulary.txt", "a\n-\n")
  assert folder.prepare_folder(".", str(tmp_path)) == first
  assert "left out" not in capsys.readouterr().err
  # One of that name elsewhere has recordings like any other.
  recordings.write(tmp_path / "more" / "model-folder" / "b.wav")
  recordings.write_text(tmp_path / "more" / "model-folder" / "b.txt", "b")
  assert merged(folder.prepare_folder(".", str(tmp_path))) == {"a.wav": "a", "b.wav": "b"}


def test_takes_an_archive(tmp_path):
  make_tree(tmp_path / "mine")
  archive = tmp_path / "mine.zip"
  with zipfile.ZipFile(archive, "w") as packed:
    for path in (tmp_path / "mine").rglob("*.*"):
      packed.write(path, path.relative_to(tmp_path))
  manifests = folder.prepare_folder(str(tmp_path / "data"), str(archive))
  assert len(merged(manifests)) == 3


def test_names_the_first_few_of_each_kind_that_it_leaves_out(tmp_path, capsys):
  recordings.write(tmp_path / "mine" / "good.wav")
  recordings.write_text(tmp_path / "mine" / "good.txt", "good")
  for number in range(10):
    recordings.write(tmp_path / "mine" / f"{number}.wav")
    recordings.write_text(tmp_path / "mine" / f"{number}.lab", f"No. {number}")
    recordings.write(tmp_path / "mine" / f"audio {number}.wav")
    recordings.write_text(tmp_path / "mine" / f"text {number}.txt", "text")
  assert merged(folder.prepare_folder(str(tmp_path), str(tmp_path / "mine"))) == {"good.wav": "good"}
  out, err = capsys.readouterr()
  for words in ("10 audio files without", "10 texts (.txt, .lab) without", "left out: 10 with digits"):
    assert words in out
  place = f"left out: {tmp_path}/mine"
  shown = [line for line in err.splitlines() if line.startswith("left out")]
  assert shown[:10] == [
    *(f"{place}/audio {number}.wav: no text of the same name is beside it" for number in range(5)),
    *(f"{place}/text {number}.txt: no audio of the same name is beside it" for number in range(5)),
  ]
  assert len(shown) == 13
  assert set(shown[10:]) < {f"{place}/{number}.lab: digits in 'No. {number}'" for number in range(10)}


def test_names_the_rows_of_a_table_that_it_leaves_out(tmp_path, capsys):
  for name in "abc":
    recordings.write(tmp_path / f"{name}.wav")
  table = recordings.write_text(tmp_path / "t.csv", "path,text,split\na.wav,7,dev\nb.wav,b,train\nc.wav,,train\n")
  assert merged(folder.prepare_folder(str(tmp_path / "data"), table)) == {"b.wav": "b"}
  shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
  assert sorted(shown) == [
    f"left out: {table}, row 2: digits in '7'",
    f"left out: {table}, row 4: nothing is said in ''",
  ]


def test_folders_named_after_splits_are_the_splits(tmp_path):
  for name in ("train/x/a", "train/b", "Valid/c", "test/d", "else/e"):
    recordings.write(tmp_path / "mine" / f"{name}.wav")
    recordings.write_text(tmp_path / "mine" / f"{name}.txt", "text")
  manifests = folder.prepare_folder(str(tmp_path), str(tmp_path / "mine"))
  names = {split: sorted(part) for split, part in recordings.transcripts(manifests).items()}
  assert names == {"train": ["a.wav", "b.wav"], "dev": ["c.wav"], "test": ["d.wav"]}
  assert folder.prepare_folder(str(tmp_path), str(tmp_path / "mine"), ["dev"]).keys() == {"dev"}


def test_a_folder_named_test_alone_divides_nothing(tmp_path):
  for name in ("test/a", "b"):
    recordings.write(tmp_path / "mine" / f"{name}.wav")
    recordings.write_text(tmp_path / "mine" / f"{name}.txt", "text")
  manifests = folder.prepare_folder(str(tmp_path), str(tmp_path / "mine"))
  assert merged(manifests).keys() == {"a.wav", "b.wav"}


def test_other_folders_are_divided_the_same_each_time(tmp_path):
  for number in range(60):
    recordings.write(tmp_path / "mine" / f"{number}.wav", 0.05)
    recordings.write_text(tmp_path / "mine" / f"{number}.txt", "x")
  first = recordings.transcripts(folder.prepare_folder(str(tmp_path), str(tmp_path / "mine")))
  assert {split: len(part) > 0 for split, part in first.items()} == dict.fromkeys(folder.SPLITS, True)
  assert len(first["train"]) > 45
  os.rename(tmp_path / "mine", tmp_path / "moved")
  assert recordings.transcripts(folder.prepare_folder(str(tmp_path), str(tmp_path / "moved"))) == first


@pytest.mark.parametrize(
  ("name", "header", "row"),
  [
    ("list.csv", "id,path,text", '1,{path},"Yes, no"'),
    ("list.tsv", "wav_filename\twav_filesize\ttranscript", "{path}\t10\tYes, no"),
    ("list.csv", "File|Sentence", "{path}|Yes, no"),
    ("list.csv", "path|text", '{path}|"Yes," no'),
    ("list.tsv", "path\ttext", '{path}\t"Yes, no\r'),
    ("list.csv", "path,text", '{path},"Yes,\n""no"""'),
    ("list.CSV", "transcription;audio_filepath", "Yes, no;{path}\r"),
  ],
)
def test_takes_a_table(name, header, row, tmp_path):
  recordings.write(tmp_path / "wavs" / "a.wav")
  recordings.write(tmp_path / "b.wav")
  rows = [header, row.format(path="wavs/a.wav"), "", row.format(path=tmp_path / "b.wav"), ""]
  table = recordings.write_text(tmp_path / name, "\n".join(rows))
  manifests = folder.prepare_folder(str(tmp_path / "data"), table)
  assert merged(manifests) == {"a.wav": "yes no", "b.wav": "yes no"}


def test_a_table_can_say_the_split(tmp_path, monkeypatch):
  for name in "abc":
    recordings.write(tmp_path / f"{name}.wav")
  recordings.write_text(tmp_path / "t.csv", "path,text,split\na.wav,a,train\nb.wav,b,validation\nc.wav,c,Test\n")
  monkeypatch.chdir(tmp_path)
  manifests = folder.prepare_folder("data", "t.csv", options=Options(to_wav=True))
  assert {split: list(part) for split, part in recordings.transcripts(manifests).items()} == {
    "train": ["a.wav"],
    "dev": ["b.wav"],
    "test": ["c.wav"],
  }
  assert read_manifest(manifests["dev"])[0].path == str(tmp_path / "data" / "folder" / "wav" / "dev" / "b.wav")


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ("a,b\n1,2\n", "line 1: the header 'a,b' must name a column of paths"),
    ("path,text\na.wav\n", "row 2: has 1 fields, the header 2"),
    ('path,text\na.wav,x\nb.wav,"y\nc.wav,z\n', "line 4: unexpected end of data; quote the row as CSV"),
    ('path,text\na.wav,"yes" he said\n', "line 2: .*; quote the row as CSV"),
    ("path,text,split\na.wav,x,mine\n", "row 2: split 'mine' is none of"),
    ("", "line 1: the header ''"),
  ],
)
def test_names_a_fault_of_a_table(content, words, tmp_path):
  table = recordings.write_text(tmp_path / "t.csv", content)
  with pytest.raises(UserError, match=words):
    folder.prepare_folder(str(tmp_path), table)


def test_does_not_write_over_the_table(tmp_path):
  recordings.write(tmp_path / "a.wav")
  table = recordings.write_text(tmp_path / "folder" / "dev.tsv", "path\ttext\n../a.wav\tx\n")
  with pytest.raises(UserError, match=r"--source=.*dev\.tsv: the manifests would overwrite it"):
    folder.prepare_folder(str(tmp_path), table)
  assert os.listdir(tmp_path / "folder") == ["dev.tsv"]
  assert merged(folder.prepare_folder(str(tmp_path / "data"), table)) == {"a.wav": "x"}


def test_names_what_is_missing(tmp_path):
  with pytest.raises(UserError, match="give the folder, archive or table .*--source"):
    folder.download_folder()
  folder.download_folder("mine")
  with pytest.raises(UserError, match="--source=nowhere: there is no such"):
    folder.prepare_folder(str(tmp_path), "nowhere")
  with pytest.raises(UserError, match="nowhere.csv: cannot read"):
    folder.prepare_folder(str(tmp_path), "nowhere.csv")
  with pytest.raises(UserError, match="no audio file there has a transcript"):
    folder.prepare_folder(str(tmp_path), str(tmp_path))
