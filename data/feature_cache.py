"""Keeps computed features on disk, for all runs that compute them with the same settings.

Each set of settings has a folder inside the cache. Every process that writes there has its own pair of files:
NAME.features holds the features of one utterance after another, and NAME.index holds a record for each. A record is
written after the features that it points to, and has their checksum. So no process waits for another, and data left
half written by a killed process or a crash is never mistaken for features.
"""

import hashlib
import json
import os
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from official_utils.misc.errors import UserError
from official_utils.misc.files import write_atomically

# To be raised when features are computed or stored in another way: older ones are then no longer found.
FORMAT = 1
# Half precision keeps 11 bits of a value and halves what is read from the disk.
STORED = np.dtype("<f2")
# A record of an index file: the identity of the audio file, and where its features are.
RECORD = np.dtype([("key", "<u8"), ("more", "<u8"), ("offset", "<u8"), ("frames", "<u4"), ("checksum", "<u4")])
# Seconds from one look at the files of other processes to the next.
PAUSE = 1.0

# Identifies one version of an audio file: a hash of path, size and modification time.
Identity = tuple[int, int]


class FeatureCache:
  """The stored features of one set of settings; threads may share it.

  Values are rounded when they are stored, and freshly computed ones are returned rounded too, so that training does not
  depend on what the cache holds.
  """

  def __init__(self, folder: str, settings: Mapping[str, Any], num_bins: int):
    """Open the cache, or make it.

    Args:
      folder: the cache's folder, which any number of data sets and runs may share.
      settings: everything besides the audio that features depend on, by name.
      num_bins: features per frame.

    Raises:
      UserError: the folder cannot be made or read.
    """
    # 20 and 20.0 are the same setting.
    values = {name: float(value) if isinstance(value, (int, float)) else value for name, value in settings.items()}
    described = json.dumps({"format": FORMAT, **values}, sort_keys=True)
    self._folder = os.path.join(folder, hashlib.blake2b(described.encode(), digest_size=8).hexdigest())
    self._num_bins = num_bins
    self._lock = threading.Lock()
    self._index = _Index(self._folder)
    self._writer: _Writer | None = None
    self._is_broken = False
    try:
      # A cache that another user has filled can be used without the right to write to it.
      if not os.path.exists(settings_file := os.path.join(self._folder, "settings.json")):
        os.makedirs(self._folder, exist_ok=True)
        write_atomically(settings_file, f"{described}\n")
      self._index.refresh()
    except OSError as error:
      raise UserError(
        f"{folder}: cannot keep features there ({error.strerror}); choose another --feature_cache_dir"
      ) from error

  def features(self, path: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the features of an audio file.

    Args:
      path: the file. Stored features are not used if its size or modification time has changed since.
      compute: makes float32 [frames, bins] if none are stored.

    Returns:
      float16 [frames, bins], the caller's own.
    """
    identity = _identify(path)
    stored = self._load(identity)
    if stored is None:
      stored = compute().astype(STORED)
      # The file may have been replaced in the meantime.
      if identity and identity == _identify(path):
        self._attempt(lambda: self._store(identity, stored))
    return stored

  def _load(self, identity: Identity | None) -> np.ndarray | None:
    """Read the features of a file, if they are stored and undamaged."""
    if identity is None:
      return None
    if self._index.find(identity) is None:
      self._attempt(lambda: self._index.refresh(PAUSE))
    place = self._index.find(identity)
    return place and _read(place, self._num_bins)

  def _store(self, identity: Identity, stored: np.ndarray) -> None:
    """Write features to the disk."""
    self._writer = self._writer or _Writer(self._folder)
    self._index.add(self._writer.name, self._writer.append(identity, stored))

  def _attempt(self, action: Callable[[], None]) -> None:
    """Do something in the folder, one thread at a time; once that fails, warn and do nothing there any more."""
    with self._lock:
      if self._is_broken:
        return
      try:
        action()
      except OSError as error:
        self._is_broken = True
        logging.warning(
          "%s: cannot store more features (%s); going on without. Make room or choose another --feature_cache_dir.",
          self._folder,
          error.strerror,
        )


class _Place(NamedTuple):
  """The place of stored features: a file, their first byte, the number of frames and the checksum of the bytes."""

  file: str
  offset: int
  frames: int
  checksum: int


class _Index:
  """The records of all index files of a folder: some 50 bytes each, in a few blocks sorted by key."""

  def __init__(self, folder: str):
    self._folder = folder
    # The pairs of files, and how many records of each are in the blocks.
    self._names: list[str] = []
    self._num_read: dict[str, int] = {}
    # (keys, records, the number of each record's pair of files), the oldest first.
    self._blocks: list[tuple[np.ndarray, ...]] = []
    # Pairs of files that this process may not read.
    self._unreadable: set[str] = set()
    self._refreshed_at = -np.inf

  def find(self, identity: Identity) -> _Place | None:
    """Find the newest record of a file."""
    for keys, records, writers in reversed(self._blocks):
      number = int(np.searchsorted(keys, np.uint64(identity[0]), side="right")) - 1
      if number >= 0:
        *found, offset, frames, checksum = records[number].item()
        if tuple(found) == identity:
          file = os.path.join(self._folder, f"{self._names[writers[number]]}.features")
          return _Place(file, offset, frames, checksum)
    return None

  def add(self, name: str, records: np.ndarray) -> None:
    """Add new records of a pair of files."""
    if name not in self._num_read:
      self._names.append(name)
    self._num_read[name] = self._num_read.get(name, 0) + len(records)
    writers = np.full(len(records), self._names.index(name), np.int32)
    blocks = [*self._blocks, (records["key"], records, writers)]
    # Blocks of similar size are merged, so that there are few of them and records are rarely moved.
    while len(blocks) > 1 and len(blocks[-2][0]) <= 2 * len(blocks[-1][0]):
      blocks[-2:] = [tuple(map(np.concatenate, zip(*blocks[-2:], strict=True)))]
    # Of several records for one audio file, the newest stays last.
    order = np.argsort(blocks[-1][0], kind="stable")
    blocks[-1] = tuple(column[order] for column in blocks[-1])
    # In one step, because other threads are searching at the same time.
    self._blocks = blocks

  def refresh(self, pause: float = 0.0) -> None:
    """Read new records from the folder, unless that was done less than `pause` seconds ago."""
    if time.monotonic() - self._refreshed_at < pause:
      return
    self._refreshed_at = time.monotonic()
    for file_name in sorted(os.listdir(self._folder)):
      name, extension = os.path.splitext(file_name)
      if extension == ".index":
        start = self._num_read.get(name, 0) * RECORD.itemsize
        path = os.path.join(self._folder, file_name)
        try:
          # A record that is only half written is left for the next time.
          records = np.fromfile(path, RECORD, offset=start)
        except OSError as error:
          if name not in self._unreadable:
            logging.warning("%s: cannot be read (%s); its features are computed again.", path, error.strerror)
          self._unreadable.add(name)
          continue
        if len(records):
          self.add(name, records)


class _Writer:
  """A pair of files that takes new features.

  Attributes:
    name: the name of both files; later names come later in the alphabet.
  """

  def __init__(self, folder: str):
    self.name = f"{time.time_ns():020d}-{secrets.token_hex(8)}"
    self._path = os.path.join(folder, self.name)
    self._size = 0

  def append(self, identity: Identity, stored: np.ndarray) -> np.ndarray:
    """Write the features of a file and then their record, which is returned as an array of one."""
    record = np.array([(*identity, self._size, len(stored), zlib.crc32(stored.data))], RECORD)
    try:
      _append(f"{self._path}.features", stored)
      _append(f"{self._path}.index", record)
    except OSError:
      # Features without a record would only waste space.
      if os.path.exists(f"{self._path}.features"):
        os.truncate(f"{self._path}.features", self._size)
      raise
    self._size += stored.nbytes
    return record


def _identify(path: str) -> Identity | None:
  """Make the identity of a file; None if there is no such file."""
  try:
    status = os.stat(path)
  except OSError:
    return None
  text = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
  digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).digest()
  return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _read(place: _Place, num_bins: int) -> np.ndarray | None:
  """Read features; None if they are gone or damaged."""
  try:
    # Not mapped into memory, which is slower and keeps a descriptor open per utterance until its batch is complete.
    with open(place.file, "rb", buffering=0) as file:
      size = place.frames * num_bins * STORED.itemsize
      if place.offset + size > os.fstat(file.fileno()).st_size:
        return None
      stored = np.empty((place.frames, num_bins), STORED)
      file.seek(place.offset)
      file.readinto(stored.data.cast("B"))
  except OSError:
    return None
  return stored if zlib.crc32(stored.data) == place.checksum else None


def _append(path: str, values: np.ndarray) -> None:
  """Write the bytes of an array to the end of a file."""
  # Without a buffer, nothing is written later than it seems to be, but one write may take only a part.
  with open(path, "ab", buffering=0) as file:
    rest = values.data.cast("B")
    while rest:
      rest = rest[file.write(rest) :]
