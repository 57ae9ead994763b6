"""A peer in a process of its own that does one piece of work for each line that it is sent."""

import atexit
import subprocess
from collections.abc import Sequence

from official_utils.misc.errors import UserError


class Child:
  """A running process that answers lines with lines; it ends with this one."""

  def __init__(self, command: Sequence[str]):
    """Start it and wait for its first line.

    Args:
      command: the program and its arguments.

    Raises:
      UserError: it does not start, or ends at once.
    """
    self._program = command[0]
    try:
      # Without buffers nothing is left to be written once the process is gone.
      self._process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
      raise UserError(f"{self._program} does not start: {error.strerror}") from error
    atexit.register(self._close)
    self._answer()

  def ask(self, line: str) -> str:
    """Send a line and return the answer.

    Raises:
      UserError: the process has ended; it says why on its own standard error.
    """
    try:
      self._process.stdin.write(f"{line}\n".encode())
    except BrokenPipeError:
      raise self._end() from None
    return self._answer()

  def _answer(self) -> str:
    """Wait for a line."""
    line = self._process.stdout.readline()
    if not line:
      raise self._end()
    return line.decode().rstrip("\n")

  def _end(self) -> UserError:
    """Say how the process ended."""
    return UserError(f"{self._program} ended with exit code {self._process.wait()} where an answer was due")

  def _close(self) -> None:
    """Let the process find the end of its input."""
    self._process.terminate()
    self._process.wait()
