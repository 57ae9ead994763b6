"""Work in other processes: a peer that does a piece of it for each line it is sent, or one call."""

import atexit
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from absl import flags

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
    atexit.register(self.close)
    self._answer()

  def ask(self, line: str) -> str:
    """Send a line and return the answer.

    Raises:
      UserError: the process has ended; its own standard error says why.
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
    """Return the error for a process that ended too early."""
    return UserError(
      f"{self._program} ended with exit code {self._process.wait()} instead of answering; see its own messages above"
    )

  def close(self) -> None:
    """End the process, if it has not ended yet."""
    self._process.terminate()
    self._process.wait()


def in_own_process(function: Callable, *arguments: Any) -> Any:
  """Call a function in a new process, which gives back all its memory, and return what it returns.

  Raises:
    RuntimeError: the function raised an exception, whose type and message are the error's message.
    BrokenProcessPool: the process was killed.
  """
  with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    return pool.submit(_call, function, arguments).result()


def _call(function, arguments):
  """Call a function; its exception, which perhaps cannot travel between processes, becomes a text."""
  try:
    return function(*arguments)
  except Exception as error:
    raise RuntimeError(f"{type(error).__name__}: {error}") from None


def define_torch_flag() -> None:
  """Define the flag for where PyTorch is."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  torch_python = os.path.join(root, ".venv-bench", "bin", "python")
  flags.DEFINE_string("torch_python", torch_python, "A Python with PyTorch, for --peer=torch.")


def check_torch(options: flags.FlagValues) -> None:
  """Refuse PyTorch as a peer where there is none."""
  peers = [peer for peer in options.peer if peer.startswith("torch")]
  if peers and not os.path.exists(options.torch_python):
    raise UserError(
      f"--peer={peers[0]} needs PyTorch, and --torch_python={options.torch_python} does not exist; make it with "
      "`make bench-venv`, or name a Python with PyTorch"
    )
