"""Fetches files over HTTP: goes on where it stopped, tries mirrors, and accepts nothing whose checksum is wrong."""

import functools
import hashlib
import http
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from official_utils.misc.errors import UserError
from official_utils.misc.progress_bar import progress_bar

BLOCK = 1 << 20
TEXT_LIMIT = 1 << 20
PART_SUFFIX = ".part"
# Answers that may change when asked again: too slow, too many requests, and faults of the server.
PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 60.0

Result = TypeVar("Result")


class Patience(NamedTuple):
  """How long to put up with a server.

  Attributes:
    attempts: how often in a row a mirror may fail without one new byte before the next one is tried.
    pause: seconds before the second attempt; each further one waits twice as long, but never longer than a minute.
    timeout: seconds that a server may be silent.
  """

  attempts: int = 6
  pause: float = 1.0
  timeout: float = 60.0


PATIENT = Patience()
# For a first question: an address that does not answer should be known at once.
BRIEF = Patience(attempts=2)


class _MirrorError(Exception):
  """A mirror cannot give what is wanted; asking another one may help."""


class _PassingError(_MirrorError):
  """Asking the same mirror again may help as well."""


class _Answer(NamedTuple):
  """An answered request.

  Attributes:
    response: what the body is read from.
    start: the position in the file of the body's first byte.
    total: the size of the whole file, None where the server does not tell.
  """

  response: http.client.HTTPResponse
  start: int
  total: int | None


def fetch(urls: Sequence[str], path: str, checksum: str | None = None, patience: Patience = PATIENT) -> None:
  """Bring a file to the disk.

  It grows as `<path>.part` and gets its name when it is whole and its checksum right, so that a file of that name is
  complete. What an earlier run has left is completed, from any mirror.

  Args:
    urls: where it can be had, in the order to be tried.
    path: the file. If it is there, only its checksum is compared.
    checksum: its MD5 or SHA-256 in hexadecimal digits; None to check nothing.
    patience: how long to put up with a server.

  Raises:
    UserError: no mirror gave the file, its checksum is wrong, or there is no room for it.
  """
  if os.path.exists(path):
    if not has_checksum(path, checksum):
      raise UserError(f"{path}: its checksum is not {checksum}; remove it, and the same command fetches it again")
    return
  part = path + PART_SUFFIX
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  problems = []
  for url in urls:
    # What was there before may itself be what is wrong: then the mirror gets a second chance, from the start.
    for _ in range(2 if _size(part) else 1):
      try:
        fetch_rest = functools.partial(_fetch_rest, url, part, patience.timeout)
        _patiently(fetch_rest, url, patience, lambda: _size(part))
      except _MirrorError as problem:
        problems.append(f"{url}: {problem}")
        break
      if has_checksum(part, checksum):
        os.replace(part, path)
        return
      os.remove(part)
      problems.append(f"{url}: wrong checksum, {checksum} was expected")
  kept = f"the {_human(_size(part))} that came are kept; " if _size(part) else ""
  raise UserError(
    f"cannot fetch {os.path.basename(path)} ({'; '.join(problems)}); {kept}run the same command again later"
  )


def remote_size(urls: Sequence[str], patience: Patience = BRIEF) -> int | None:
  """Ask for the size of a file without fetching it.

  Args:
    urls: where it can be had, in the order to be tried.
    patience: how long to put up with a server.

  Returns:
    Its size in bytes, None if the server does not tell.

  Raises:
    UserError: no mirror has the file.
  """

  def ask(url: str) -> int | None:
    try:
      answer = _request(url, 0, patience.timeout, "HEAD")
    except _PassingError:
      raise
    except _MirrorError:
      # Not every server knows the question.
      answer = _request(url, 0, patience.timeout)
    answer.response.close()
    return answer.total

  problems = []
  for url in urls:
    try:
      return _patiently(functools.partial(ask, url), url, patience, lambda: 0)
    except _MirrorError as problem:
      problems.append(f"{url}: {problem}")
  raise UserError(f"cannot reach what is to be fetched ({'; '.join(problems)}); check the connection and the address")


def fetch_text(url: str, timeout: float = 20.0) -> str | None:
  """Fetch a small text that one can do without.

  Args:
    url: where it lies.
    timeout: seconds that the server may be silent.

  Returns:
    The text, or None if it cannot be had.
  """
  content = b""
  try:
    answer = _request(url, 0, timeout)
    with answer.response:
      while len(content) < TEXT_LIMIT and (block := _read(answer, len(content))):
        content += block
  except _MirrorError:
    return None
  return content.decode("utf-8", errors="replace")


def has_checksum(path: str, checksum: str | None) -> bool:
  """Tell whether a file has an MD5 or SHA-256, told apart by their length; any file does if it is None."""
  if checksum is None:
    return True
  found = hashlib.new("sha256" if len(checksum) == 64 else "md5", usedforsecurity=False)
  name = os.path.basename(path).removesuffix(PART_SUFFIX)
  with open(path, "rb") as file, progress_bar(f"checking {name}", _size(path)) as bar:
    while block := file.read(BLOCK):
      found.update(block)
      bar.update(len(block))
  return found.hexdigest() == checksum.lower()


def check_free_space(folder: str, num_bytes: int, purpose: str) -> None:
  """Raise a UserError if a folder's disk has not that much room.

  Args:
    folder: where the bytes are to go.
    num_bytes: how many.
    purpose: what for, in words.
  """
  free = shutil.disk_usage(folder).free
  if num_bytes > free:
    raise UserError(
      f"{folder}: no room: {purpose} takes {_human(num_bytes)}, its disk has {_human(free)} free; "
      "make room, or give another --data_dir"
    )


def _patiently(action: Callable[[], Result], url: str, patience: Patience, progress: Callable[[], int]) -> Result:
  """Repeat an action that fails in ways that may pass; give up after several failures in a row without progress."""
  failures, before = 0, progress()
  while True:
    try:
      return action()
    except _PassingError as error:
      after = progress()
      failures = 1 if after > before else failures + 1
      before = after
      if failures >= patience.attempts:
        raise
      pause = min(LONGEST_PAUSE, patience.pause * 2 ** (failures - 1))
      tqdm.write(f"{url}: {error}; trying again in {pause:g} s", file=sys.stderr)
    time.sleep(pause)


def _fetch_rest(url: str, part: str, timeout: float) -> None:
  """Append to a partial file what it lacks; raise if the connection ends too early."""
  name = os.path.basename(part).removesuffix(PART_SUFFIX)
  size = _size(part)
  # The last byte is asked for again: nothing to send would be an error to the server.
  answer = _request(url, max(0, size - 1), timeout)
  with answer.response:
    _check_fit(answer, part, size)
    if answer.total is not None:
      check_free_space(os.path.dirname(os.path.abspath(part)), answer.total - size, name)
    position = answer.start
    with progress_bar(f"fetching {name}", answer.total, start=size) as bar, open(part, "ab") as file:
      while block := _read(answer, position):
        # What is there already comes first, all of it where a server cannot start in the middle.
        new = block[max(0, size - position) :]
        position += len(block)
        file.write(new)
        # A full disk must show at once, and nothing be lost when the process is killed.
        file.flush()
        bar.update(len(new))
  if answer.total is not None and position < answer.total:
    raise _PassingError(f"the connection ended after {_human(position)} of {_human(answer.total)}")


def _check_fit(answer: _Answer, part: str, size: int) -> None:
  """Raise if an answer cannot be what the partial file lacks."""
  if answer.start > max(0, size - 1):
    raise _MirrorError(f"sends from byte {answer.start} on, {size} was asked for")
  if answer.total is not None and answer.total < size:
    raise _MirrorError(
      f"has {_human(answer.total)}, less than the {_human(size)} in {part}: remove that if it is wrong"
    )


def _request(url: str, start: int, timeout: float, method: str = "GET") -> _Answer:
  """Ask for a file from a position on."""
  headers = {"User-Agent": "deep-speech-download"} | ({"Range": f"bytes={start}-"} if start else {})
  try:
    request = urllib.request.Request(url, headers=headers, method=method)
    response = urllib.request.urlopen(request, timeout=timeout)
  except urllib.error.HTTPError as error:
    error.close()
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      raise _MirrorError(f"has less than the {_human(start)} that are here: remove those if they are wrong") from error
    kind = _PassingError if error.code in PASSING_STATUSES else _MirrorError
    raise kind(f"HTTP {error.code} {error.reason}") from error
  except ValueError as error:
    raise _MirrorError(str(error)) from error
  except (OSError, http.client.HTTPException) as error:
    raise _connection_error(error) from error
  return _locate(response)


def _locate(response: http.client.HTTPResponse) -> _Answer:
  """Find out which part of the file an answer holds."""
  if response.status == http.HTTPStatus.PARTIAL_CONTENT:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found:
      response.close()
      raise _MirrorError(f"Content-Range is {response.headers.get('Content-Range')!r}")
    return _Answer(response, int(found[1]), None if found[2] == "*" else int(found[2]))
  length = response.headers.get("Content-Length", "")
  return _Answer(response, 0, int(length) if length.isdecimal() else None)


def _read(answer: _Answer, position: int) -> bytes:
  """Read what has come of an answer whose bytes before `position` were read; nothing at its end."""
  wanted = BLOCK if answer.total is None else min(BLOCK, answer.total - position)
  if not wanted:
    return b""
  try:
    # Not `read`, which waits for all of it, and forgets what it has when the connection ends.
    return answer.response.read1(wanted)
  except (OSError, http.client.HTTPException) as error:
    raise _connection_error(error) from error


def _connection_error(error: Exception) -> _PassingError:
  """Say in words what happened to a connection."""
  reason = getattr(error, "reason", error)
  return _PassingError(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)


def _size(path: str) -> int:
  """Tell the size of a file, 0 if it is not there."""
  return os.path.getsize(path) if os.path.exists(path) else 0


def _human(num_bytes: float) -> str:
  """Write a number of bytes with three digits."""
  units = ("bytes", "kB", "MB", "GB", "TB")
  power = min(len(units) - 1, len(str(int(num_bytes))) // 3 - (len(str(int(num_bytes))) % 3 == 0))
  return f"{num_bytes / 1000**power:.3g} {units[power]}"
