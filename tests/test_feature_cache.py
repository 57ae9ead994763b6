"""Tests the features kept on disk: equal to what is computed, whoever writes, whatever is killed, full or damaged."""

import contextlib
import glob
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest

from data.feature_cache import RECORD, FeatureCache
from official_utils.misc.errors import UserError

SETTINGS = {"sample_rate": 16000, "window_ms": 20.0, "normalize": True}
BINS = 7


def audio_files(folder, count: int) -> list[str]:
  """Make files that are looked at by name, size and time only."""
  os.makedirs(folder, exist_ok=True)
  paths = [os.path.join(folder, f"{number}.wav") for number in range(count)]
  for path in paths:
    with open(path, "w") as file:
      file.write("audio")
  return paths


def features_of(path: str) -> np.ndarray:
  number = int(os.path.basename(path).removesuffix(".wav"))
  return np.random.default_rng(number).normal(size=(1 + number % 50, BINS)).astype(np.float32)


def read(cache: FeatureCache, path: str) -> tuple[np.ndarray, bool]:
  """Return a file's features and whether they were computed."""
  computed = []

  def compute():
    computed.append(True)
    return features_of(path)

  return cache.features(path, compute), bool(computed)


def check(cache: FeatureCache, paths: list[str]) -> int:
  """Read all files, hold them against what is computed, and count those that were stored."""
  num_stored = 0
  for path in paths:
    features, was_computed = read(cache, path)
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, features_of(path).astype(np.float16))
    num_stored += not was_computed
  return num_stored


def open_cache(folder, settings=SETTINGS) -> FeatureCache:
  return FeatureCache(str(folder), settings, BINS)


def files(folder, extension: str) -> list[str]:
  return sorted(glob.glob(os.path.join(folder, "*", f"*.{extension}")))


def content_of(path: str) -> bytes:
  with open(path, "rb") as file:
    return file.read()


def test_what_is_read_is_what_was_computed_rounded(tmp_path):
  paths = audio_files(tmp_path / "audio", 100)
  cache = open_cache(tmp_path / "cache")
  assert check(cache, paths) == 0
  assert check(cache, paths) == 100
  assert check(open_cache(tmp_path / "cache"), paths[::-1]) == 100


def test_half_precision_keeps_three_digits():
  values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
  np.testing.assert_allclose(values.astype(np.float16), values, rtol=2**-11, atol=2**-25)


def test_relative_and_absolute_names_are_one(tmp_path, monkeypatch):
  (path,) = audio_files(tmp_path / "audio", 1)
  cache = open_cache(tmp_path / "cache")
  read(cache, path)
  monkeypatch.chdir(tmp_path)
  assert read(cache, os.path.join("audio", "..", "audio", "0.wav"))[1] is False


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changed_is_computed_anew(change, tmp_path):
  paths = audio_files(tmp_path / "audio", 3)
  check(open_cache(tmp_path / "cache"), paths)
  if change == "size":
    status = os.stat(paths[1])
    with open(paths[1], "a") as file:
      file.write("more")
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
  else:
    os.utime(paths[1], ns=(0, os.stat(paths[1]).st_mtime_ns + 1))
  cache = open_cache(tmp_path / "cache")
  assert [read(cache, path)[1] for path in paths] == [False, True, False]
  assert check(open_cache(tmp_path / "cache"), paths) == 3


def test_a_file_that_changes_while_it_is_read_is_not_stored(tmp_path):
  (path,) = audio_files(tmp_path / "audio", 1)

  def compute():
    os.utime(path, ns=(1, 1))
    return features_of(path)

  open_cache(tmp_path / "cache").features(path, compute)
  assert not files(tmp_path / "cache", "features")


def test_a_missing_file_is_left_to_whoever_reads_it(tmp_path):
  with pytest.raises(UserError, match="who reads"):
    open_cache(tmp_path).features(str(tmp_path / "0.wav"), lambda: (_ for _ in ()).throw(UserError("who reads")))
  assert not files(tmp_path, "features")


@pytest.mark.parametrize("name", SETTINGS)
def test_other_settings_do_not_find_them(name, tmp_path):
  paths = audio_files(tmp_path / "audio", 5)
  check(open_cache(tmp_path / "cache"), paths)
  other = SETTINGS | {name: SETTINGS[name] / 2}
  assert check(open_cache(tmp_path / "cache", other), paths) == 0
  for settings in (other, SETTINGS):
    assert check(open_cache(tmp_path / "cache", settings), paths) == 5
  described = [json.loads(content_of(path)) for path in files(tmp_path / "cache", "json")]
  assert sorted(each[name] for each in described) == sorted([SETTINGS[name], other[name]])


def test_whole_numbers_and_others_of_the_same_value_are_the_same_settings(tmp_path):
  (path,) = audio_files(tmp_path / "audio", 1)
  read(open_cache(tmp_path / "cache"), path)
  assert read(open_cache(tmp_path / "cache", SETTINGS | {"window_ms": 20, "normalize": 1}), path)[1] is False


def test_threads_share_a_cache(tmp_path):
  paths = audio_files(tmp_path / "audio", 200)
  cache, failures = open_cache(tmp_path / "cache"), []

  def work(seed):
    try:
      check(cache, list(np.random.default_rng(seed).permutation(paths)))
    except BaseException as error:
      failures.append(error)

  threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not failures
  assert check(open_cache(tmp_path / "cache"), paths) == 200


WRITER = """
import sys
from test_feature_cache import audio_files, check, open_cache
cache_dir, audio_dir, first, last = sys.argv[1:]
paths = audio_files(audio_dir, 0) or [f"{audio_dir}/{number}.wav" for number in range(int(first), int(last))]
cache = open_cache(cache_dir)
print("ready", flush=True)
sys.stdin.readline()
check(cache, paths)
print("done", flush=True)
"""


def start_writer(cache_dir, audio_dir, first: int, last: int) -> subprocess.Popen:
  """Start a process that reads files of these numbers through the cache once it gets a line."""
  folder = os.path.dirname(os.path.abspath(__file__))
  environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, os.path.dirname(folder)])}
  command = [sys.executable, "-c", WRITER, str(cache_dir), str(audio_dir), str(first), str(last)]
  return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(writers: list[subprocess.Popen]) -> None:
  for writer in writers:
    assert writer.stdout.readline() == "ready\n"
  for writer in writers:
    writer.stdin.write("\n")
    writer.stdin.flush()


def test_processes_write_at_once(tmp_path):
  paths = audio_files(tmp_path / "audio", 300)
  writers = [start_writer(tmp_path / "cache", tmp_path / "audio", *part) for part in ((0, 200), (100, 300), (0, 300))]
  begin(writers)
  assert [writer.communicate()[0] for writer in writers] == ["done\n"] * 3
  assert all(writer.returncode == 0 for writer in writers)
  assert check(open_cache(tmp_path / "cache"), paths) == 300


def test_what_another_process_has_stored_is_found_without_opening_the_cache_again(tmp_path, monkeypatch):
  paths = audio_files(tmp_path / "audio", 20)
  monkeypatch.setattr("data.feature_cache.PAUSE", 0.0)
  ours, other = (open_cache(tmp_path / "cache") for _ in range(2))
  assert check(other, paths) == 0
  assert check(ours, paths) == 20


def test_a_process_that_is_killed_leaves_nothing_that_is_wrong(tmp_path):
  paths = audio_files(tmp_path / "audio", 3000)
  num_stored = 0
  for _ in range(4):
    writer = start_writer(tmp_path / "cache", tmp_path / "audio", 0, 3000)
    begin([writer])
    # Not before it has stored something of its own, and then at whatever it is doing.
    while sum(map(os.path.getsize, files(tmp_path / "cache", "index"))) <= num_stored * RECORD.itemsize:
      assert writer.poll() is None or writer.stdout.read() == "done\n"
      time.sleep(0.001)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdin.close()
    writer.stdout.close()
    num_stored = sum(map(os.path.getsize, files(tmp_path / "cache", "index"))) // RECORD.itemsize
  assert check(open_cache(tmp_path / "cache"), paths) >= 4


def test_every_place_at_which_writing_can_end_is_safe(tmp_path):
  """A crash may leave any beginning of either file, and, if the machine went down, the index without its features."""
  paths = audio_files(tmp_path / "audio", 3)
  check(open_cache(tmp_path / "cache"), paths)
  (features,), (index,) = files(tmp_path / "cache", "features"), files(tmp_path / "cache", "index")
  whole = {name: content_of(name) for name in (features, index)}
  sizes = [features_of(path).size * 2 for path in paths]
  ends = np.cumsum([0, *sizes])
  for index_size in range(len(whole[index]) + 1):
    num_records = index_size // RECORD.itemsize
    for features_size in {0, ends[num_records], ends[num_records] - 1, len(whole[features])} - {-1}:
      for name, size in ((features, features_size), (index, index_size)):
        with open(name, "wb") as file:
          file.write(whole[name][:size])
      expected = sum(end <= features_size for end in ends[1 : num_records + 1])
      # Only those that are whole are read; the others are computed, and stored by the side.
      cache = open_cache(tmp_path / "cache")
      assert check(cache, paths) == expected
      assert check(cache, paths) == 3
      for name in files(tmp_path / "cache", "*"):
        if name not in whole and not name.endswith(".json"):
          os.remove(name)


@pytest.mark.parametrize("damage", ["zeros", "one byte", "gone"])
def test_damaged_features_are_computed_anew(damage, tmp_path):
  paths = audio_files(tmp_path / "audio", 10)
  check(open_cache(tmp_path / "cache"), paths)
  (path,) = files(tmp_path / "cache", "features")
  if damage == "gone":
    os.remove(path)
  else:
    with open(path, "r+b") as file:
      content = file.read()
      file.seek(0)
      file.write(bytes(len(content)) if damage == "zeros" else bytes([content[0] ^ 1]))
  assert check(open_cache(tmp_path / "cache"), paths) == {"zeros": 0, "one byte": 9, "gone": 0}[damage]
  # The newer pair of files holds them now.
  assert check(open_cache(tmp_path / "cache"), paths) == 10


@pytest.mark.parametrize(("field", "value"), [("frames", 2**32 - 1), ("offset", 2**63), ("offset", 2**64 - 1)])
def test_a_damaged_record_is_computed_anew(field, value, tmp_path):
  paths = audio_files(tmp_path / "audio", 3)
  check(open_cache(tmp_path / "cache"), paths)
  (index,) = files(tmp_path / "cache", "index")
  records = np.fromfile(index, RECORD)
  records[field][1] = value
  records.tofile(index)
  assert check(open_cache(tmp_path / "cache"), paths) == 2
  assert check(open_cache(tmp_path / "cache"), paths) == 3


def test_a_full_disk_is_said_once_and_training_goes_on(tmp_path, caplog):
  paths = audio_files(tmp_path / "audio", 60)
  cache = open_cache(tmp_path / "cache")
  check(cache, paths[:30])
  (path,) = files(tmp_path / "cache", "features")
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  try:
    # The largest size of a file: writing beyond it fails after a part, as on a disk without room.
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 100, limits[1]))
    with caplog.at_level(logging.WARNING):
      num_stored = check(cache, paths)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)
  assert num_stored == 30
  assert caplog.text.count("cannot store more features") == 1
  assert "--feature_cache_dir" in caplog.text
  assert check(cache, paths) >= 30
  again = open_cache(tmp_path / "cache")
  assert check(again, paths) < 60
  assert check(again, paths) == 60


def test_a_cache_that_is_removed_under_way_is_said_once_and_training_goes_on(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr("data.feature_cache.PAUSE", 0.0)
  paths = audio_files(tmp_path / "audio", 20)
  cache = open_cache(tmp_path / "cache")
  check(cache, paths[:10])
  shutil.rmtree(tmp_path / "cache")
  with caplog.at_level(logging.WARNING):
    assert check(cache, paths) == 0
  assert caplog.text.count("cannot store more features (No such file or directory)") == 1


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_folder_that_cannot_be_is_named(kind, tmp_path):
  (tmp_path / "file").write_text("")
  folder = tmp_path / "file" if kind == "file" else tmp_path / "file" / "cache"
  with pytest.raises(UserError, match=f"{folder}: cannot keep features there .*--feature_cache_dir") as caught:
    open_cache(folder)
  assert "\n" not in str(caught.value)


@contextlib.contextmanager
def only_reading(folder):
  """Take away the right to write in a folder and below it, from root as well."""
  kept = {path: os.stat(path).st_mode for path, _, _ in os.walk(folder)}
  for path in kept:
    os.chmod(path, 0o555)
  if is_root := os.geteuid() == 0:
    os.seteuid(65534)
  try:
    yield
  finally:
    if is_root:
      os.seteuid(0)
    for path, mode in kept.items():
      os.chmod(path, mode)


def test_a_filled_cache_serves_those_who_may_only_read_it(caplog):
  # Not below tmp_path, which is closed to other users.
  with tempfile.TemporaryDirectory() as folder:
    paths = audio_files(os.path.join(folder, "audio"), 20)
    check(open_cache(os.path.join(folder, "cache")), paths[:15])
    with only_reading(folder), caplog.at_level(logging.WARNING):
      assert check(open_cache(os.path.join(folder, "cache")), paths) == 15
      assert caplog.text.count("cannot store more features (Permission denied)") == 1
      with pytest.raises(UserError, match="cannot keep features there .Permission denied.*--feature_cache_dir"):
        open_cache(os.path.join(folder, "new"))


def test_an_index_that_cannot_be_read_is_said_once_and_the_others_serve(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr("data.feature_cache.PAUSE", 0.0)
  paths = audio_files(tmp_path / "audio", 20)
  check(open_cache(tmp_path / "cache"), paths[:10])
  (index,) = files(tmp_path / "cache", "index")
  os.mkdir(os.path.join(os.path.dirname(index), "other.index"))
  with caplog.at_level(logging.WARNING):
    cache = open_cache(tmp_path / "cache")
    assert check(cache, paths) == 10
    assert check(cache, paths) == 20
  assert caplog.text.count("other.index: cannot be read (Is a directory); its features are computed again.") == 1


def test_files_stay_few_and_closed(tmp_path):
  paths = audio_files(tmp_path / "audio", 200)
  for _ in range(5):
    cache = open_cache(tmp_path / "cache")
    check(cache, paths)
  assert len(files(tmp_path / "cache", "*")) == 3
  opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
  assert not [path for path in opened if path.startswith(str(tmp_path))]


def test_an_index_of_many_records_is_found_in_small_memory(tmp_path):
  """Records of many pairs of files, each found at its newest place."""
  paths = audio_files(tmp_path / "audio", 40)
  check(open_cache(tmp_path / "cache"), paths)
  (index,) = files(tmp_path / "cache", "index")
  records = np.fromfile(index, RECORD)
  many = np.zeros(300_000, RECORD)
  many["key"] = np.random.default_rng(0).integers(0, 2**63, len(many), np.uint64) * np.uint64(2)
  for number in range(3):
    # Older than what was written: what they say of the same files does not count.
    old = np.concatenate([records, many])
    old["checksum"] += 1
    old.tofile(index.replace(os.path.basename(index), f"{number:020d}-old.index"))
  assert check(open_cache(tmp_path / "cache"), paths) == 40
