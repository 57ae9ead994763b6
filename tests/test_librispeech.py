"""Tests fetching and preparing LibriSpeech from a server in this process: whole, killed, cheated, and without room."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading

import archive_server
import numpy as np
import pytest
import soundfile
from archive_server import SAMPLE_RATE, make_subset, make_tar, publish

from data import download
from data.corpora import archives, librispeech, prepared
from data.manifest import Entry, read_manifest
from official_utils.misc.errors import UserError

COMMAND = os.path.abspath(download.__file__)
# Just as long as combined manifests take them, and one sample longer.
LONGEST, TOO_LONG = 27 * SAMPLE_RATE, 27 * SAMPLE_RATE + 1
SUBSETS = {
  name: make_subset(name, seed, num_utterances=2, lengths=(LONGEST, TOO_LONG) if name in ("dev-other",) else ())
  for seed, name in enumerate(librispeech.LIBRISPEECH.subsets, start=1)
}
ARCHIVES = {name: make_tar(contents) for name, contents in SUBSETS.items()}
PAIR = ["dev-clean", "dev-other"]


@pytest.fixture
def served(monkeypatch):
  # Whatever proxy this machine uses, it does not lead to this server.
  monkeypatch.setenv("no_proxy", "*")
  with archive_server.serve(publish(ARCHIVES)) as served:
    yield served


def download_and_prepare(served, data_dir, subsets=None, **options) -> dict[str, str]:
  librispeech.download_librispeech(str(data_dir), subsets, mirror=served.url)
  return librispeech.prepare_librispeech(str(data_dir), subsets, **options)


def command(served, data_dir, *arguments: str) -> list[str]:
  return [COMMAND, f"--mirror={served.url}", f"--data_dir={data_dir}", *arguments]


def run(arguments: list[str]) -> subprocess.CompletedProcess:
  return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300)


def rows_of_the_original(contents: dict[str, bytes], folder) -> list[tuple[str, int, str]]:
  """List the utterances with the size that they have as WAV files, as converting them one by one gives it."""
  rows = []
  for path in sorted(name for name in contents if name.endswith(".trans.txt")):
    for line in contents[path].decode().splitlines():
      name, transcript = line.split(" ", 1)
      samples, rate = soundfile.read(io.BytesIO(contents[f"{os.path.dirname(path)}/{name}.flac"]), dtype="int16")
      wav = folder / f"{name}.wav"
      soundfile.write(wav, samples, rate, subtype="PCM_16")
      assert wav.stat().st_size == 44 + 2 * len(samples)
      rows.append((name, wav.stat().st_size, transcript.lower()))
  return rows


def rows_of(path) -> list[tuple[str, int, str]]:
  """Read a manifest, and see that its audio is there."""
  entries = read_manifest(str(path))
  assert all(os.path.isfile(entry.path) for entry in entries)
  return [(os.path.splitext(os.path.basename(entry.path))[0], entry.size, entry.transcript) for entry in entries]


def by_size(rows):
  return sorted(rows, key=lambda row: row[1])


def tree(folder) -> dict[str, bytes]:
  """All files below a folder but the lock."""
  return {
    os.path.relpath(os.path.join(parent, name), folder): open(os.path.join(parent, name), "rb").read()
    for parent, _, names in os.walk(folder)
    for name in names
    if name != ".download.lock"
  }


def test_all_of_it_equals_what_the_original_makes_of_the_same_utterances(served, tmp_path, capsys):
  data_dir = tmp_path / "data"
  manifests = download_and_prepare(served, data_dir)
  rows = {name: rows_of_the_original(contents, tmp_path) for name, contents in SUBSETS.items()}
  assert any(len({size for _, size, _ in of_subset}) < len(of_subset) for of_subset in rows.values())
  for name in rows:
    assert rows_of(data_dir / f"{name}.csv") == by_size(rows[name])
  for name, parts in librispeech.COMBINED.items():
    together = [row for part in parts for row in rows[part] if row[1] <= 44 + 2 * LONGEST]
    assert rows_of(data_dir / f"{name}.csv") == by_size(together)
  assert len(rows_of(data_dir / "dev.csv")) == len(rows["dev-clean"] + rows["dev-other"]) - 1
  shown = capsys.readouterr().out
  assert "dev.csv: 15 utterances, 0.01 hours; 1 longer than 27 s left out" in shown
  assert "dev-clean: has 8 utterances, 2703 were published" in shown
  # What deep_speech.py takes without any flag.
  assert manifests["train"] == str(data_dir / "train-clean-100+360.csv")
  assert manifests["dev"] == str(data_dir / "dev-clean.csv")
  assert manifests["test"] == str(data_dir / "test-clean.csv")
  assert len(set(manifests.values())) == len(rows) + len(librispeech.COMBINED)
  # Archives are gone, and so is all else that is no part of the corpus.
  listed = {name for name in os.listdir(data_dir) if not name.startswith(".")}
  assert listed == {*rows, *(f"{name}.csv" for name in (*rows, *librispeech.COMBINED))}
  with open(data_dir / "dev-clean.csv") as file:
    assert file.readline() == "wav_filename\twav_filesize\ttranscript\n"


def test_a_second_run_does_nothing_and_says_so(served, tmp_path, capsys):
  download_and_prepare(served, tmp_path, PAIR)
  before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
  content = tree(tmp_path)
  served.log.clear()
  capsys.readouterr()
  download_and_prepare(served, tmp_path, PAIR)
  assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
  assert tree(tmp_path) == content
  assert served.log == []
  shown = capsys.readouterr().out.splitlines()
  assert shown == [
    f"dev-clean: is already in {tmp_path}/dev-clean",
    f"dev-other: is already in {tmp_path}/dev-other",
    "dev-clean.csv: is there already",
    "dev-other.csv: is there already",
    "dev.csv: is there already",
  ]


def test_makes_again_what_was_changed_or_is_wanted_otherwise(served, tmp_path):
  download_and_prepare(served, tmp_path, PAIR)
  content = tree(tmp_path)
  (tmp_path / "dev-clean.csv").write_text("damaged")
  (tmp_path / "dev.csv").unlink()
  librispeech.prepare_librispeech(str(tmp_path), PAIR)
  assert tree(tmp_path) == content
  librispeech.prepare_librispeech(str(tmp_path), PAIR, max_duration=26.9)
  assert len(rows_of(tmp_path / "dev.csv")) == 14
  librispeech.prepare_librispeech(str(tmp_path), PAIR)
  assert tree(tmp_path) == content


def test_combined_manifests_are_made_when_their_last_subset_comes(served, tmp_path):
  manifests = download_and_prepare(served, tmp_path, ["dev-clean"])
  assert manifests == dict.fromkeys(["dev", "dev-clean.csv"], str(tmp_path / "dev-clean.csv"))
  assert "dev.csv" not in os.listdir(tmp_path)
  manifests = download_and_prepare(served, tmp_path, ["dev-other"])
  assert manifests["dev.csv"] == str(tmp_path / "dev.csv")
  assert len(rows_of(tmp_path / "dev.csv")) == 15


@pytest.mark.parametrize(
  ("splits", "expected"),
  [
    (("train",), {"train-clean-5"}),
    (("dev",), {"dev-clean-2"}),
    (("train", "dev", "test"), {"train-clean-5", "dev-clean-2"}),
  ],
)
def test_mini_librispeech(splits, expected, served, tmp_path):
  subsets = {name: make_subset(name, 1) for name in librispeech.MINI_LIBRISPEECH.subsets}
  served.files |= publish({name: make_tar(contents) for name, contents in subsets.items()}, number=31)
  librispeech.download_mini_librispeech(str(tmp_path), splits, served.url)
  manifests = librispeech.prepare_mini_librispeech(str(tmp_path), splits)
  assert set(manifests) == {f"{name}.csv" for name in expected} | {name.split("-")[0] for name in expected}
  for name in expected:
    assert len(rows_of(manifests[f"{name}.csv"])) == 12


def test_writes_wav_copies_if_asked_to(served, tmp_path):
  manifests = download_and_prepare(served, tmp_path, ["dev-clean"], to_wav=True)
  with_wav = read_manifest(manifests["dev"])
  stamps = {entry.path: os.stat(entry.path).st_mtime_ns for entry in with_wav}
  with_flac = read_manifest(librispeech.prepare_librispeech(str(tmp_path), ["dev-clean"])["dev"])
  for wav, flac in zip(with_wav, with_flac, strict=True):
    assert wav.path == str(tmp_path / "dev-clean-wav" / os.path.basename(flac.path).replace(".flac", ".wav"))
    assert (wav.size, wav.transcript) == (os.path.getsize(wav.path), flac.transcript) == flac[1:]
    assert (soundfile.read(wav.path, dtype="int16")[0] == soundfile.read(flac.path, dtype="int16")[0]).all()
  # One that was cut short is written again, the others stay.
  damaged = with_wav[3].path
  os.truncate(damaged, 50)
  assert read_manifest(librispeech.prepare_librispeech(str(tmp_path), ["dev-clean"], to_wav=True)["dev"]) == with_wav
  assert [path for path, stamp in stamps.items() if os.stat(path).st_mtime_ns != stamp] == [damaged]
  # When all are gone, the manifest alone does not count.
  shutil.rmtree(os.path.dirname(damaged))
  assert read_manifest(librispeech.prepare_librispeech(str(tmp_path), ["dev-clean"], to_wav=True)["dev"]) == with_wav
  assert all(os.path.exists(entry.path) for entry in with_wav)


def test_takes_what_the_user_has(served, tmp_path, capsys):
  """A folder unpacked by hand and an archive brought along; neither is removed, only the latter unpacked."""
  with tarfile.open(fileobj=io.BytesIO(ARCHIVES["dev-clean"])) as tar:
    tar.extractall(tmp_path, filter="data")
  (tmp_path / "dev-other.tar.gz").write_bytes(ARCHIVES["dev-other"])
  own = tree(tmp_path)
  download_and_prepare(served, tmp_path, PAIR)
  assert f"dev-clean: is already in {tmp_path}/LibriSpeech/dev-clean" in capsys.readouterr().out
  assert served.requests("tar.gz") == []
  assert own.items() <= tree(tmp_path).items()
  assert not any(name.startswith(".") for name in os.listdir(tmp_path / "LibriSpeech" / "dev-clean"))
  assert len(rows_of(tmp_path / "dev.csv")) == 15
  # The user may change what is the user's: it is read again each time.
  shutil.rmtree(tmp_path / "LibriSpeech" / "dev-clean" / "49")
  librispeech.prepare_librispeech(str(tmp_path), PAIR)
  assert len(rows_of(tmp_path / "dev-clean.csv")) == 4
  assert len(rows_of(tmp_path / "dev.csv")) == 11


# Servers that cheat, break down or have nothing.


def refuse(served, data_dir, words: str, subsets=("dev-clean",)) -> None:
  with pytest.raises(UserError, match=words) as caught:
    download_and_prepare(served, data_dir, list(subsets))
  assert "\n" not in str(caught.value)
  assert tree(data_dir) == {}


def with_evil_member(**fields) -> bytes:
  """The archive of dev-clean with one more member."""
  buffer = io.BytesIO()
  with (
    tarfile.open(fileobj=buffer, mode="w:gz") as tar,
    tarfile.open(fileobj=io.BytesIO(ARCHIVES["dev-clean"])) as good,
  ):
    for info in good:
      tar.addfile(info, good.extractfile(info) if info.isreg() else None)
    evil = tarfile.TarInfo("LibriSpeech/dev-clean/evil")
    for key, value in fields.items():
      setattr(evil, key, value)
    tar.addfile(evil)
  return buffer.getvalue()


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: ARCHIVES["dev-clean"][:-3000], "damaged or cut short"),
    (lambda: ARCHIVES["dev-clean"][:9000] + b"\0" * 50 + ARCHIVES["dev-clean"][9050:], "damaged or cut short"),
    (lambda: with_evil_member(name="../evil"), r"'\.\./evil', which leads out"),
    (lambda: with_evil_member(name="/tmp/evil"), "'/tmp/evil', which leads out"),
    (lambda: with_evil_member(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a symbolic link"),
    (lambda: with_evil_member(type=tarfile.LNKTYPE, linkname="/etc/passwd"), "a hard link"),
    (lambda: with_evil_member(type=tarfile.CHRTYPE, devmajor=1, devminor=3), "a device"),
    (lambda: b"<html>Please log in</html>", "damaged or cut short"),
  ],
  ids=["truncated", "corrupted", "above", "absolute", "symbolic link", "hard link", "device", "no archive"],
)
def test_refuses_a_bad_archive_and_leaves_nothing(make, words, served, tmp_path):
  """Even where the list of checksums is just as bad."""
  served.files |= publish({"dev-clean": make()})
  refuse(served, tmp_path / "data", words)
  assert os.listdir(tmp_path) == ["data"]


@pytest.mark.parametrize("with_list", [True, False], ids=["server's list", "built-in list"])
def test_refuses_a_wrong_checksum_and_leaves_nothing(with_list, served, tmp_path):
  expected = hashlib.md5(ARCHIVES["dev-clean"]).hexdigest()
  if with_list:
    served.files["/12/dev-clean.tar.gz"] = ARCHIVES["dev-other"]
  else:
    del served.files["/12/md5sum.txt"]
    expected = librispeech.LIBRISPEECH.subsets["dev-clean"].md5
  refuse(served, tmp_path, f"wrong checksum, {expected} was expected")


def test_says_that_the_servers_list_differs_from_the_built_in_one(served, tmp_path, capsys):
  download_and_prepare(served, tmp_path, ["dev-clean"])
  assert "dev-clean: the mirror's md5sum.txt has another checksum" in capsys.readouterr().out


def test_does_without_a_list_that_is_none(served, tmp_path):
  served.files["/12/md5sum.txt"] = b"<html>Please log in</html>"
  refuse(served, tmp_path, f"{librispeech.LIBRISPEECH.subsets['dev-clean'].md5} was expected")


def test_survives_a_bad_line(served, tmp_path):
  served.ranges = False
  served.drop_after = [2000, 3000, 3500]
  download_and_prepare(served, tmp_path, ["dev-clean"])
  assert len(rows_of(tmp_path / "dev-clean.csv")) == 8


def test_checks_the_room_for_all_of_it_before_the_first_byte(served, tmp_path):
  served.claimed["/12/dev-other.tar.gz"] = 10**16
  refuse(served, tmp_path, r"no room: unpacking dev-clean, dev-other takes 2\.05e\+04 TB, its disk has", PAIR)
  assert served.log == [(f"/12/{name}.tar.gz", "HEAD", 0) for name in PAIR]


def test_says_at_once_that_a_mirror_cannot_be_reached(tmp_path):
  with pytest.raises(UserError, match=r"cannot reach .*127\.0\.0\.1:1/12/dev-clean\.tar\.gz: Connection refused"):
    librispeech.download_librispeech(str(tmp_path), ["dev-clean"], mirror="http://127.0.0.1:1")


@pytest.mark.parametrize("place", ["unpacking", "writing WAV"])
def test_a_full_disk_is_named_and_nothing_half_accepted(place, served, tmp_path):
  """On a disk of its own where this process may make one; elsewhere files cannot grow beyond a limit."""
  data_dir = tmp_path / "data"
  data_dir.mkdir()
  # Zeros take far less room in the archive than on the disk.
  contents = make_subset("dev-clean", 1, num_utterances=1)
  if place == "unpacking":
    contents["LibriSpeech/dev-clean/zeros"] = bytes(4_000_000)
  else:
    contents = {name: text for name, text in contents.items() if not name.endswith(".flac")}
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(2_000_000, np.int16), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    contents |= {
      f"{os.path.dirname(name)}/{text.decode().split()[0]}.flac": buffer.getvalue()
      for name, text in list(contents.items())
      if name.endswith(".trans.txt")
    }
  served.files |= publish({"dev-clean": make_tar(contents)})
  arguments = [sys.executable, *command(served, data_dir, "--subsets=dev-clean", "--to_wav")]
  # In a mount namespace of its own, which takes its disk with it: what is left there is listed before.
  inside = 'mount -t tmpfs -o size=3m none "$0" && { "$@"; status=$?; cd "$0"; find . -type f -size +0; exit $status; }'
  with_disk = ["unshare", "--map-root-user", "--mount", "sh", "-c", inside, str(data_dir)]
  with_limit = [
    "sh",
    "-c",
    'ulimit -f 2000; "$@"; status=$?; cd "$0"; find . -type f -size +0; exit $status',
    str(data_dir),
  ]
  may_mount = shutil.which("unshare") and subprocess.run([*with_disk, "true"], capture_output=True).returncode == 0
  done = subprocess.run(
    [*(with_disk if may_mount else with_limit), *arguments], capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 1
  reason = "No space left on device" if may_mount else "File too large"
  assert f"error: --data_dir={data_dir}: {reason}" in done.stderr.splitlines()[-1]
  assert "make room and run the same command again" in done.stderr.splitlines()[-1]
  left = [line for line in done.stdout.splitlines() if line.startswith("./")]
  if place == "unpacking":
    # What was fetched is whole, and need not be fetched again.
    assert left == ["./.fetched/dev-clean.tar.gz"]
  else:
    assert not any(line.endswith((".csv", prepared.MARKER)) for line in left)


# Killed with -9.

# Runs the command, and kills it at the given change of the file system in the data directory, before it happens.
KILLED = """
import os, runpy, signal, sys
left, folder = int(sys.argv[1]), sys.argv[2]
def watch(event, arguments):
  global left
  writes = event == "open" and (
    arguments[2] & (os.O_WRONLY | os.O_RDWR) if isinstance(arguments[2], int) else set("wxa") & set(arguments[1])
  )
  if (writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")) and folder in str(arguments[0]):
    left -= 1
    if not left:
      os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("first", [1, 2, 3])
def test_killed_anywhere_and_run_again_gives_the_same_files(first, served, tmp_path):
  # One of the three writes WAV copies, too.
  to_wav = first == 3
  contents = {name: make_subset(name, seed, num_utterances=1) for seed, name in enumerate(PAIR)}
  served.files |= publish({name: make_tar(files) for name, files in contents.items()})
  download_and_prepare(served, tmp_path / "whole", PAIR, to_wav=to_wav)
  expected = tree(tmp_path / "whole")
  for left in range(first, 200, 9):
    data_dir = tmp_path / f"killed-{left:03d}"
    arguments = command(served, data_dir, f"--subsets={','.join(PAIR)}", f"--to_wav={to_wav}")
    done = run(["-c", KILLED, str(left), str(data_dir), *arguments])
    if done.returncode == 0:
      break
    assert done.returncode == -signal.SIGKILL, done.stderr
    # A manifest that is there is whole.
    for path in data_dir.glob("*.csv"):
      assert path.read_bytes() == expected[path.name]
    download_and_prepare(served, data_dir, PAIR, to_wav=to_wav)
    assert tree(data_dir) == expected
    assert archives.is_unpacked(str(data_dir / "dev-clean"))
  assert left > 40


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_killed_while_fetching_goes_on_from_there(share, served, tmp_path):
  archive = ARCHIVES["dev-clean"]
  sent = int(share * len(archive))
  served.drop_after = [sent]
  served.stalled = threading.Event()
  arguments = command(served, tmp_path / "killed", "--subsets=dev-clean")
  process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  assert served.stalled.wait(60)
  part = tmp_path / "killed" / ".fetched" / "dev-clean.tar.gz.part"
  while sent and not (part.exists() and part.stat().st_size == sent):
    assert process.poll() is None
  process.kill()
  process.wait()
  served.log.clear()
  done = run(arguments)
  assert done.returncode == 0, done.stderr
  fetched = served.requests("dev-clean.tar.gz")[-1]
  assert fetched[1] == len(archive) - max(0, sent - 1)
  download_and_prepare(served, tmp_path / "whole", ["dev-clean"])
  assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


# Mistakes of the user.


@pytest.mark.parametrize(
  ("options", "words"),
  [
    (
      {"subsets": ["train-clean-100", "dev"]},
      r"--subsets: there is no 'dev'; choose among train-clean-100, .*test-other",
    ),
    ({"subsets": ["dev-clean"], "splits": ["train"]}, r"dev-clean has no train set"),
    ({"mirror": "nonsense"}, r"--mirror=nonsense is not an address; .*official, europe, china"),
  ],
)
def test_names_what_cannot_be_chosen(options, words, tmp_path):
  with pytest.raises(UserError, match=words):
    librispeech.download_librispeech(str(tmp_path / "data"), **options)
  assert os.listdir(tmp_path) == []


def test_names_a_subset_that_is_not_there(tmp_path):
  with pytest.raises(UserError, match=r"has no folder dev-clean; `python data/download\.py --subsets=dev-clean`"):
    librispeech.prepare_librispeech(str(tmp_path), ["dev-clean"])


def test_names_what_a_folder_lacks(served, tmp_path):
  download_and_prepare(served, tmp_path, ["dev-clean"])
  (tmp_path / "dev-clean.csv").unlink()
  chapter = tmp_path / "dev-clean" / "LibriSpeech" / "dev-clean" / "49" / "227"
  (chapter / "49-227-0001.flac").unlink()
  with pytest.raises(UserError, match=r"49-227\.trans\.txt, line 2: there is no 49-227-0001\.flac beside it"):
    librispeech.prepare_librispeech(str(tmp_path), ["dev-clean"])
  (chapter / "49-227.trans.txt").write_bytes(b"49-227-0000 CAF\xc9\n")
  librispeech.prepare_librispeech(str(tmp_path), ["dev-clean"])
  assert "caf\ufffd" in {entry.transcript for entry in read_manifest(str(tmp_path / "dev-clean.csv"))}
  (tmp_path / "test-clean").mkdir()
  with pytest.raises(UserError, match=r"test-clean: holds no \*\.trans\.txt"):
    librispeech.prepare_librispeech(str(tmp_path), ["test-clean"])


def test_an_entry_of_the_manifest_is_complete(served, tmp_path):
  path = download_and_prepare(served, tmp_path, ["dev-clean"])["dev"]
  name = "49-1240-0000"
  folder = tmp_path / "dev-clean" / "LibriSpeech" / "dev-clean" / "49" / "1240"
  lines = SUBSETS["dev-clean"]["LibriSpeech/dev-clean/49/1240/49-1240.trans.txt"].decode().splitlines()
  flac = str(folder / f"{name}.flac")
  size = 44 + 2 * soundfile.info(flac).frames
  assert Entry(flac, size, lines[0].split(" ", 1)[1].lower()) in read_manifest(path)
