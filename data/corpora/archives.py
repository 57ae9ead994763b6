"""Unpacks archives of any origin: never outside of the folder given, and either all of an archive or nothing."""

import bz2
import errno
import functools
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from official_utils.misc.errors import UserError
from official_utils.misc.progress_bar import progress_bar

# Lies in each folder that an archive was unpacked to, with the name of the archive in it.
MARKER = ".unpacked"
STAGING_SUFFIX = ".unpacking"
BLOCK = 1 << 20
# First bytes of a file -> what opens it.
COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
ZIP_MAGIC = b"PK\x03\x04"
# A tar archive ends with zeros, two blocks of 512 bytes at least. The reader takes the first of them.
TAR_END_BYTES = 512
# What the readers raise, beside an OSError, at bytes that make no sense; sizes can be such bytes, too.
DAMAGE = (
  tarfile.TarError,
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
  EOFError,
  ValueError,
  OverflowError,
  NotImplementedError,
)


class Member(NamedTuple):
  """A file or folder in an archive.

  Attributes:
    name: its path, as the archive has it.
    kind: "file", "folder", or in words what else it is.
    content: the bytes of a file.
  """

  name: str
  kind: str
  content: IO[bytes] | None


def is_unpacked(folder: str) -> bool:
  """Tell whether `unpack` has filled a folder."""
  return os.path.exists(os.path.join(folder, MARKER))


def unpack(archive: str, folder: str) -> bool:
  """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into a folder of its own, all of it or nothing.

  The files are written to a folder beside the wanted one, which takes its name when all are there. What an interrupted
  run has left there is removed first.

  Args:
    archive: the file.
    folder: the folder to make.

  Returns:
    Whether there was anything to do: False if the folder was unpacked before.

  Raises:
    UserError: the archive is damaged or cut short, or holds links, devices, or names that lead out of the folder; or
      there is a folder of that name that was not made here.
  """
  folder = os.path.abspath(folder)
  staging = os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}{STAGING_SUFFIX}")
  if os.path.lexists(staging):
    shutil.rmtree(staging)
  if is_unpacked(folder):
    return False
  if os.path.lexists(folder):
    raise UserError(f"{folder}: is in the way of unpacking {archive}; move it, or remove it")
  os.makedirs(staging)
  try:
    _unpack_members(archive, staging)
    with open(os.path.join(staging, MARKER), "w", encoding="utf-8") as marker:
      marker.write(os.path.basename(archive) + "\n")
    # Should the power fail, the new name must not be on the disk before the files are.
    os.sync()
    os.rename(staging, folder)
  except BaseException:
    shutil.rmtree(staging)
    raise
  return True


def _unpack_members(archive: str, folder: str) -> None:
  """Write all files of an archive below a folder, or raise at the first that cannot be."""
  name = os.path.basename(archive)
  with open(archive, "rb") as raw, progress_bar(f"unpacking {name}", os.path.getsize(archive)) as bar:
    try:
      for member in _members(raw):
        path = os.path.join(folder, *_parts(archive, member))
        if member.content is None:  # A folder.
          os.makedirs(path, exist_ok=True)
          continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
          for block in iter(functools.partial(member.content.read, BLOCK), b""):
            file.write(block)
        bar.update(max(0, raw.tell() - bar.n))
    except (*DAMAGE, OSError) as error:
      refusal = _explain(archive, folder, error)
      if refusal is None:
        raise
      raise refusal from error


def _explain(archive: str, folder: str, error: Exception) -> UserError | None:
  """Say what is wrong with an archive that was being unpacked to a folder; None if the fault is the system's."""
  if isinstance(error, NotImplementedError):
    return UserError(f"{archive}: cannot be unpacked here ({error}); unpack it with another program")
  if isinstance(error, FileExistsError | NotADirectoryError):
    return _refused(archive, f"holds {os.path.relpath(error.filename, folder)!r} twice")
  if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
    return _refused(archive, f"holds a name that is too long, {os.path.relpath(error.filename, folder)[:50]!r}...")
  # What comes from the system has a number; bz2 and gzip have none for data that make no sense. Where no file is named,
  # EINVAL is a place before the archive's first byte.
  if isinstance(error, OSError) and error.errno and not (error.errno == errno.EINVAL and error.filename is None):
    return None
  return _refused(archive, f"is damaged or cut short ({error})")


def _members(raw: IO[bytes]) -> Iterator[Member]:
  """Yield what an archive holds, in its order."""
  start = raw.read(max(map(len, COMPRESSIONS)))
  raw.seek(0)
  if start.startswith(ZIP_MAGIC):
    yield from _zip_members(raw)
    return
  for magic, opener in COMPRESSIONS.items():
    if start.startswith(magic):
      with opener(raw) as stream:
        yield from _tar_members(stream)
      return
  yield from _tar_members(raw)


def _tar_members(stream: IO[bytes]) -> Iterator[Member]:
  """Yield what a tar archive holds, reading it once from front to end."""
  with tarfile.open(fileobj=stream, mode="r:") as tar:
    while (info := tar.next()) is not None:
      yield Member(info.name, _tar_kind(info), tar.extractfile(info) if info.isreg() else None)
      # It would keep the headers of all files, in a list that the types of the standard library leave out.
      tar.members.clear()  # type: ignore[attr-defined]
  # The reader takes any header that it cannot make sense of, and a sudden end between two files, for the end of the
  # archive. Reading on also lets the decompressor compare its checksum.
  num_zeros = 0
  for block in iter(lambda: stream.read(BLOCK), b""):
    if block.strip(b"\0"):
      raise tarfile.ReadError("no header where a file should begin")
    num_zeros += len(block)
  if num_zeros < TAR_END_BYTES:
    raise tarfile.ReadError("it has no end")


def _tar_kind(info: tarfile.TarInfo) -> str:
  """Name the kind of a member of a tar archive."""
  if info.isreg():
    return "a sparse file" if info.issparse() else "file"
  if info.isdir():
    return "folder"
  kinds = {"a symbolic link": info.issym, "a hard link": info.islnk, "a device": info.isdev}
  return next((kind for kind, holds in kinds.items() if holds()), f"of unknown type {info.type!r}")


def _zip_members(raw: IO[bytes]) -> Iterator[Member]:
  """Yield what a zip archive holds."""
  with zipfile.ZipFile(raw) as archive:
    for info in archive.infolist():
      kind = _zip_kind(info)
      if kind != "file":
        yield Member(info.filename, kind, None)
        continue
      with archive.open(info) as content:
        yield Member(info.filename, kind, content)


def _zip_kind(info: zipfile.ZipInfo) -> str:
  """Name the kind of a member of a zip archive."""
  # Systems with such things keep their mode in the upper half.
  mode = info.external_attr >> 16
  if stat.S_ISLNK(mode):
    return "a symbolic link"
  if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
    return "a device"
  if info.flag_bits & 1:
    return "encrypted"
  return "folder" if info.is_dir() else "file"


def _parts(archive: str, member: Member) -> list[str]:
  """Split a member's name into folders and file, refusing anything but plain files and folders below the top."""
  name = member.name
  if member.kind not in ("file", "folder"):
    raise _refused(archive, f"holds {name!r}, which is {member.kind}")
  parts = [part for part in name.split("/") if part not in ("", ".")]
  if name.startswith("/") or ".." in parts or re.search(r"[\\\0]|^[A-Za-z]:", name):
    raise _refused(archive, f"holds {name!r}, which leads out of its folder")
  if parts[:1] == [MARKER] or (member.kind == "file" and not parts):
    raise _refused(archive, f"holds a file named {name!r}, which is not a valid file name")
  return parts


def _refused(archive: str, reason: str) -> UserError:
  """Say why an archive is not taken."""
  return UserError(f"{archive}: {reason}; none of it was unpacked: remove it and fetch it again")
