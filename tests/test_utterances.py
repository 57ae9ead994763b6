"""Tests what the preparation of all corpora shares."""

import collections
import functools
import hashlib
import http.server
import os
import shutil
import tarfile
import threading

import numpy as np
import pytest
import recordings
import soundfile

from data.corpora import utterances
from data.corpora.utterances import Options, Utterance
from data.manifest import read_manifest
from official_utils.misc.errors import UserError


def test_every_key_has_one_split_and_about_a_twentieth_goes_to_dev_and_test_each():
  splits = collections.Counter(utterances.split_of_key(f"key {number}") for number in range(4000))
  assert 150 < splits["dev"] < 250 and 150 < splits["test"] < 250
  assert splits.total() == 4000
  assert utterances.split_of_key("key 7") == utterances.split_of_key("key 7")
  assert utterances.split_of_key(os.fsdecode(b"caf\xe9.wav")) in utterances.SPLITS


def test_writes_sorted_manifests_and_counts_what_it_leaves_out(tmp_path, capsys):
  for name, seconds in (("a.wav", 0.5), ("b.flac", 0.2), ("c.wav", 0.3), ("e.wav", 0.0)):
    recordings.write(tmp_path / name, seconds)
  recordings.write_text(tmp_path / "d.wav", "no audio")
  texts = {"a.wav": "A-b!", "b.flac": "b", "c.wav": "no. 3", "d.wav": "d", "e.wav": "e", "missing.wav": "f"}
  found = [Utterance(str(tmp_path / name), text) for name, text in texts.items()]
  manifests = utterances.prepare_splits(str(tmp_path / "out"), {"train": found, "dev": []}, Options())
  assert manifests == {"train": str(tmp_path / "out" / "train.tsv")}
  entries = read_manifest(manifests["train"])
  assert [(os.path.basename(entry.path), entry.size, entry.transcript) for entry in entries] == [
    ("b.flac", 44 + 6400, "b"),
    ("a.wav", 44 + 16000, "a b"),
  ]
  out, err = capsys.readouterr()
  assert "3 of 5 recordings of train that cannot be read" in out
  assert "1 with digits" in out
  for name in ("d.wav", "e.wav", "missing.wav"):
    assert name in err


def test_a_split_without_utterances_does_not_keep_an_old_manifest(tmp_path):
  recordings.write(tmp_path / "a.wav")
  one = [Utterance(str(tmp_path / "a.wav"), "a")]
  utterances.prepare_splits(str(tmp_path), {"train": one, "dev": one}, Options())
  assert utterances.prepare_splits(str(tmp_path), {"train": one, "dev": []}, Options()).keys() == {"train"}
  assert not os.path.exists(tmp_path / "dev.tsv")
  with pytest.raises(UserError, match="no utterance is left.*1 with digits"):
    utterances.prepare_splits(str(tmp_path), {"train": [one[0]._replace(text="7")]}, Options())


def test_copies_as_wav_have_names_of_their_own(tmp_path):
  paths = [tmp_path / "one" / "a.flac", tmp_path / "two" / "a.wav", tmp_path / "two" / "b.wav"]
  for path in paths:
    recordings.write(path, 0.4, 8000)
  found = [Utterance(str(path), "x") for path in paths] + [Utterance(str(paths[2]), "y")]
  options = Options(to_wav=True)
  manifests = utterances.prepare_splits(str(tmp_path / "out"), {"dev": found}, options)
  entries = read_manifest(manifests["dev"])
  assert len(entries) == 4 and len({entry.path for entry in entries}) == 3
  for entry in entries:
    info = soundfile.info(entry.path)
    assert (info.samplerate, info.subtype, os.path.getsize(entry.path)) == (16000, "PCM_16", entry.size)
  assert {"b.wav"} < set(os.listdir(tmp_path / "out" / "wav" / "dev"))
  assert len(os.listdir(tmp_path / "out" / "wav" / "dev")) == 3
  copies = {entry.path: os.stat(entry.path).st_ino for entry in entries}
  again = utterances.prepare_splits(str(tmp_path / "out"), {"dev": found}, options)
  assert read_manifest(again["dev"]) == entries
  assert {path: os.stat(path).st_ino for path in copies} == copies


def test_no_copy_passes_for_one_of_another_recording(tmp_path):
  def copied(path) -> list:
    manifests = utterances.prepare_splits(str(tmp_path / "out"), {"dev": [Utterance(str(path), "x")]}, to_wav)
    (entry,) = read_manifest(manifests["dev"])
    assert os.listdir(tmp_path / "out" / "wav" / "dev") == ["a.wav"]
    return soundfile.read(entry.path, dtype="int16")[0].tolist()

  to_wav = Options(to_wav=True)
  first, second = tmp_path / "first" / "a.flac", tmp_path / "second" / "a.flac"
  samples = recordings.write(first)
  assert copied(first) == samples.tolist()
  soundfile.write(first, samples[::-1], 16000)
  assert copied(first) == samples[::-1].tolist()
  samples = recordings.write(second, 0.2)
  assert copied(second) == samples.tolist()
  os.remove(second)
  with pytest.raises(UserError, match="no utterance is left for a dev set"):
    copied(second)


def test_names_that_no_manifest_can_hold_are_left_out_and_named(tmp_path, capsys):
  names = ["good.wav", "a\tb.wav", "a\nb.wav", os.fsdecode(b"caf\xe9.wav"), "café.wav"]
  found = [Utterance(str(tmp_path / name), "x") for name in names]
  recordings.write(found[0].path)
  for utterance in found[1:]:
    shutil.copy(found[0].path, utterance.path)
  manifests = utterances.prepare_splits(str(tmp_path), {"dev": found}, Options())
  assert {os.path.basename(entry.path) for entry in read_manifest(manifests["dev"])} == {"good.wav", "café.wav"}
  out, err = capsys.readouterr()
  assert "3 of 5 recordings of dev" in out
  assert [line for line in err.splitlines() if "rename it" in line and r"caf\udce9.wav" in line]


def test_wav_files_hold_the_very_samples_that_were_read(tmp_path):
  samples = np.array([0, 1, -1, 32767, -32768, 12345], np.int16)
  for number, values in enumerate([samples, samples / np.float32(32768)]):
    path = str(tmp_path / f"{number}.wav")
    utterances.write_wav(path, values)
    assert soundfile.read(path, dtype="int16")[0].tolist() == samples.tolist()
    assert os.path.getsize(path) == 44 + 2 * len(samples)
  utterances.write_wav(path, np.array([2.0, -2.0]))
  assert soundfile.read(path, dtype="int16")[0].tolist() == [32767, -32768]


def test_finds_the_corpus_in_a_folder_an_archive_or_what_was_fetched(tmp_path):
  recordings.write_text(tmp_path / "have" / "below" / "etc" / "list", "x")
  archive = tmp_path / "corpus.tar.gz"
  with tarfile.open(archive, "w:gz") as tar:
    tar.add(tmp_path / "have" / "below", "below")
  data_dir = str(tmp_path / "data")
  have = utterances.locate_source(str(tmp_path / "have"), data_dir, "c")
  assert utterances.find_folder(have, "etc/list") == str(tmp_path / "have" / "below")
  with pytest.raises(UserError, match=r"source: there is no such folder; say with --source where c lies"):
    utterances.locate_source(None, data_dir, "c")
  for source in (str(archive), str(archive), None):
    unpacked = utterances.locate_source(source, data_dir, "c")
    assert utterances.find_folder(unpacked, "etc/list") == os.path.join(data_dir, "c", "source", "below")
  os.rename(archive, tmp_path / "other.tar.gz")
  with pytest.raises(UserError, match="holds corpus.tar.gz, not .*other.tar.gz"):
    utterances.locate_source(str(tmp_path / "other.tar.gz"), data_dir, "c")
  with pytest.raises(UserError, match="--source=nowhere: there is no such folder or archive"):
    utterances.locate_source("nowhere", data_dir, "c")
  with pytest.raises(UserError, match="neither it nor a folder below holds metadata.csv"):
    utterances.find_folder(have, "metadata.csv")


@pytest.fixture
def served(tmp_path):
  """Serve a folder; return it and its address."""
  folder = tmp_path / "served"
  folder.mkdir()
  handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def test_fetches_and_unpacks_an_archive_once(served, tmp_path, capsys):
  folder, address = served
  recordings.write_text(tmp_path / "a.txt", "x")
  archive = folder / "corpus.tar.gz"
  with tarfile.open(archive, "w:gz") as tar:
    tar.add(tmp_path / "a.txt", "a.txt")
  data_dir, url = str(tmp_path / "data"), f"{address}/corpus.tar.gz"
  with pytest.raises(UserError, match="the corpus takes"):
    utterances.fetch_archive(data_dir, "c", url, None, 10**18)
  utterances.fetch_archive(data_dir, "c", url, hashlib.sha256(archive.read_bytes()).hexdigest(), 10**4)
  assert os.listdir(tmp_path / "data" / "c") == ["source"]
  assert os.path.exists(tmp_path / "data" / "c" / "source" / "a.txt")
  os.remove(archive)
  utterances.fetch_archive(data_dir, "c", url, None, 10**4)
  assert "nothing to fetch" in capsys.readouterr().out


def test_what_has_come_already_needs_no_room_any_more(tmp_path):
  with pytest.raises(UserError, match="no room: the corpus takes 10 TB"):
    utterances.check_room(str(tmp_path / "c"), 10**13)
  part = recordings.write_text(tmp_path / "c" / "corpus.tar.gz.part", "")
  os.symlink("nowhere", tmp_path / "c" / "link")
  # It has holes, and takes no room itself.
  os.truncate(part, 10**13)
  utterances.check_room(str(tmp_path / "c"), 10**13)


def test_a_damaged_archive_does_not_stay_to_be_taken_again(served, tmp_path):
  folder, address = served
  (folder / "corpus.tar.gz").write_bytes(b"<html>Please log in</html>")
  for _ in range(2):
    with pytest.raises(UserError, match="corpus.tar.gz: is damaged or cut short"):
      utterances.fetch_archive(str(tmp_path / "data"), "c", f"{address}/corpus.tar.gz", None, 10**4)
    assert os.listdir(tmp_path / "data" / "c") == []
