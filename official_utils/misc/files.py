"""Writes files and folders so that a reader never sees half of one."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from official_utils.misc.errors import UserError

# Characters of a name that are kept in its temporary file's name, as a name may be as long as the file system allows.
_PREFIX = 40
# The prefix of folders that are being written, and the age at which unfinished ones are removed.
_UNFINISHED = ".unfinished-"
_SECONDS_TO_WRITE = 3600


@contextlib.contextmanager
def atomic_writer(path: str, mode: str = "w") -> Iterator[IO]:
  """Open a temporary file beside `path` that replaces it when the block ends well.

  Args:
    path: the file to write; its folder is made if missing.
    mode: "w" for UTF-8 text with bare newlines, "wb" for bytes.

  Yields:
    The open file. If the block raises, `path` is left as it was.
  """
  folder = os.path.dirname(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
  descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)[:_PREFIX]}.")
  try:
    with open(descriptor, mode, encoding=encoding, newline=newline) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    # mkstemp makes the file private, but a finished file should be as readable as any other.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise


def write_atomically(path: str, text: str) -> None:
  """Replace the content of `path` with `text` in one step."""
  with atomic_writer(path) as file:
    file.write(text)


@contextlib.contextmanager
def replaced_folder(folder: str) -> Iterator[str]:
  """Name a folder, not there yet, that replaces `folder` when the block ends well.

  Args:
    folder: the folder to write; the one that it lies in is made if missing.

  Yields:
    The path for the block to make and fill. If the block raises, `folder` is left as it was.
  """
  parent = os.path.dirname(os.path.abspath(folder))
  os.makedirs(parent, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=parent) as scratch:
    unfinished = os.path.join(scratch, "written")
    yield unfinished
    # A folder cannot be renamed over another: for a moment there is none, but never half of one.
    if os.path.lexists(folder):
      os.rename(folder, os.path.join(scratch, "replaced"))
    os.rename(unfinished, folder)


def remove_folder(folder: str) -> None:
  """Remove a folder, all of it at once for a reader."""
  with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=os.path.dirname(os.path.abspath(folder))) as scratch:
    os.rename(folder, os.path.join(scratch, "removed"))


def remove_unfinished(parent: str) -> None:
  """Remove folders within `parent` that were left unfinished long ago, as after a kill."""
  for name in os.listdir(parent) if os.path.isdir(parent) else []:
    path = os.path.join(parent, name)
    if name.startswith(_UNFINISHED) and time.time() - os.path.getmtime(path) > _SECONDS_TO_WRITE:
      shutil.rmtree(path)


def link(origin: str, copy: str) -> None:
  """Make a second name for a file, or a copy where the file system has no hard links."""
  try:
    os.link(origin, copy)
  except OSError:
    shutil.copy2(origin, copy)


def is_within(path: str, folder: str) -> bool:
  """Tell whether a path is a folder or lies somewhere below it."""
  path, folder = os.path.realpath(path), os.path.realpath(folder)
  return os.path.commonpath([path, folder]) == folder


def check_writable(folder: str, flag: str) -> None:
  """Make a folder and try to write into it.

  Args:
    folder: the folder.
    flag: the flag that names it, such as "--model_dir".
  """
  try:
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise UserError(f"cannot write into {folder}: {error.strerror}; choose another {flag}") from error
