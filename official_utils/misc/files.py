"""Writes files so that a reader never sees half of one."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO

from official_utils.misc.errors import UserError

# Characters of a name that are kept in its temporary file's name, as a name may be as long as the file system allows.
_PREFIX = 40


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
