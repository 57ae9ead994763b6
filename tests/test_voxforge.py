"""Tests the preparation of VoxForge on small submissions of the real layout."""

import os
import tarfile

import pytest
import recordings

from data.corpora import utterances, voxforge
from data.corpora.utterances import Options
from data.manifest import read_manifest
from official_utils.misc.errors import UserError


def make_submission(folder, name: str, form: str = "wav", prompts: str = "PROMPTS", texts=("ONE", "IT'S TWO")) -> str:
  root = folder / name
  place = f"{name}/mfc/" if prompts == "PROMPTS" else ""
  rows = [f"{place}a{number:04d} {text}\n" for number, text in enumerate(texts)]
  recordings.write_text(root / "etc" / prompts, "".join(rows))
  for number in range(len(texts)):
    recordings.write(root / form / f"a{number:04d}.{form}", 0.2 + 0.1 * number)
  return str(root)


def pack(root: str, archive) -> None:
  with tarfile.open(archive, "w:gz") as tar:
    tar.add(root, os.path.basename(root))


def entries_of(manifests: dict[str, str]) -> list:
  return [entry for path in manifests.values() for entry in read_manifest(path)]


def test_takes_archives_and_unpacked_ones_and_leaves_damaged_ones_out(tmp_path, capsys):
  mine, work = tmp_path / "mine", tmp_path / "work"
  mine.mkdir()
  pack(make_submission(work, "Aaron-20080318-kdl"), mine / "Aaron-20080318-kdl.tgz")
  pack(make_submission(work, "anna-20090101-abc", "flac", "prompts-original"), mine / "anna-20090101-abc.tar.gz")
  make_submission(mine, "bob-20100202-xyz", texts=("ROOM 7", "TWO", "THREE"))
  whole = (mine / "Aaron-20080318-kdl.tgz").read_bytes()
  (mine / "cut-20110303-cut.tgz").write_bytes(whole[: len(whole) // 2])

  found = entries_of(voxforge.prepare_voxforge(str(tmp_path / "data"), str(mine)))
  assert sorted((entry.path.split(os.sep)[-3], entry.transcript) for entry in found) == [
    ("Aaron-20080318-kdl", "it's two"),
    ("Aaron-20080318-kdl", "one"),
    ("anna-20090101-abc", "it's two"),
    ("anna-20090101-abc", "one"),
    ("bob-20100202-xyz", "three"),
    ("bob-20100202-xyz", "two"),
  ]
  out, err = capsys.readouterr()
  assert "1 archives that cannot be unpacked" in out and "cut-20110303-cut.tgz" in err
  assert "1 with digits" in out
  assert f"left out: {mine}/bob-20100202-xyz/etc/PROMPTS, line 1: digits in 'ROOM 7'" in err.splitlines()
  assert sorted(os.listdir(tmp_path / "data" / "voxforge" / "source")) == ["Aaron-20080318-kdl", "anna-20090101-abc"]
  assert entries_of(voxforge.prepare_voxforge(str(tmp_path / "data"), str(mine))) == found


def test_what_is_packed_and_unpacked_counts_once_and_copies_keep_apart(tmp_path):
  mine = tmp_path / "mine"
  for name in ("Aaron-20080318-kdl", "Aaron-20080318-abc"):
    pack(make_submission(mine, name), mine / f"{name}.tgz")
  manifests = voxforge.prepare_voxforge(str(tmp_path / "data"), str(mine), options=Options(to_wav=True))
  assert len(manifests) == 1
  found = entries_of(manifests)
  assert len({entry.path for entry in found}) == len(found) == 4


def test_no_speaker_is_in_two_sets(tmp_path):
  speakers = [f"speaker{number}" for number in range(40)]
  for speaker in speakers:
    for code in ("abc", "xyz"):
      make_submission(tmp_path / "mine", f"{speaker}-20080318-{code}", texts=("ONE",))
  manifests = voxforge.prepare_voxforge(str(tmp_path / "data"), str(tmp_path / "mine"))
  sets = {
    split: {voxforge.speaker_of(entry.path.split(os.sep)[-3]) for entry in read_manifest(path)}
    for split, path in manifests.items()
  }
  assert set(sets) == set(voxforge.SPLITS)
  assert sum(map(len, sets.values())) == 40
  assert all(sets[utterances.split_of_key(speaker)] >= {speaker} for speaker in speakers)
  assert voxforge.prepare_voxforge(str(tmp_path / "data"), str(tmp_path / "mine"), ["dev"]).keys() == {"dev"}


@pytest.mark.parametrize(
  ("submission", "speaker"),
  [
    ("Aaron-20080318-kdl", "Aaron"),
    ("J-P-20080318-kdl", "J-P"),
    ("anonymous-20080318-kdl", "anonymous-20080318-kdl"),
    ("mine", "mine"),
  ],
)
def test_tells_the_speaker_from_the_name(submission, speaker):
  assert voxforge.speaker_of(submission) == speaker


def test_names_what_is_missing(tmp_path):
  with pytest.raises(UserError, match=r"no stable address.*--source"):
    voxforge.download_voxforge()
  voxforge.download_voxforge("mine")
  with pytest.raises(UserError, match="--source=nowhere: there is no such folder"):
    voxforge.prepare_voxforge(str(tmp_path), "nowhere")
  with pytest.raises(UserError, match="holds no submission with etc/PROMPTS"):
    voxforge.prepare_voxforge(str(tmp_path / "data"), str(tmp_path))
