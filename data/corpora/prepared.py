"""Remembers how a manifest was made, so that one that is finished is not made again."""

import hashlib
import os
import re

from official_utils.misc import files

# The usual name of a marker, the file that says how a manifest was made.
MARKER = ".prepared"


def is_current(marker: str, path: str, options: str) -> bool:
  """Tell whether a manifest is still what was last written with these options; if so, print that.

  What a process that was killed has left beside the two files is removed.

  Args:
    marker: the file that `remember` has written.
    path: the manifest.
    options: what the manifest depends on, in any words.
  """
  for unfinished in (marker, path):
    _remove_leftovers(unfinished)
  if not (os.path.exists(marker) and os.path.exists(path)):
    return False
  with open(marker, encoding="utf-8") as file:
    current = file.read() == _state(path, options)
  if current:
    print(f"{os.path.basename(path)}: is there already")
  return current


def remember(marker: str, path: str, options: str) -> None:
  """Write down how a manifest was made; see `is_current`."""
  files.write_atomically(marker, _state(path, options))


def digest(path: str) -> str:
  """Compute the MD5 of a manifest."""
  with open(path, "rb") as file:
    return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()


def _state(path: str, options: str) -> str:
  """Describe a manifest and how it was made."""
  return f"{options} {digest(path)}\n"


def _remove_leftovers(path: str) -> None:
  """Remove the temporary files in which a process that was killed was writing a file."""
  folder, name = os.path.split(path)
  for other in os.listdir(folder or "."):
    if re.fullmatch(re.escape(f".{name}.") + r"\w{8}", other):
      os.remove(os.path.join(folder, other))
