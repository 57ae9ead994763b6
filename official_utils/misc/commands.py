"""How a command begins and ends: a traceback only for a mistake in the code."""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from official_utils.misc.errors import UserError

# Exit codes: the run failed, the user interrupted it (128 + SIGINT).
FAILED = 1
INTERRUPTED = 130


def begin() -> None:
  """Let Ctrl-C end the process at once and silently while modules are imported; `run` changes that.

  A process that was started to ignore Ctrl-C still ignores it.
  """
  _exchange_handler(signal.default_int_handler, signal.SIG_DFL)


def _exchange_handler(there: object, wanted: Any) -> bool:
  """Set what Ctrl-C does if it does `there` now; tell whether. Only the main thread may."""
  if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not there:
    return False
  signal.signal(signal.SIGINT, wanted)
  return True


def run(main: Callable[[], int | None]) -> int | str | None:
  """Call `main`, and write one line to stderr for every error that is not a mistake in the code.

  Args:
    main: called without arguments; returns the exit code or gives it to sys.exit, None for 0.

  Returns:
    The exit code: that of `main`; 1 after a UserError, on a full disk, or when nobody reads the output any more; 130
    after Ctrl-C.
  """
  has_begun = _exchange_handler(signal.SIG_DFL, signal.default_int_handler)
  _prepare_streams()
  code = _guarded(main)
  if sys.stdout:
    # Python's own flush at the end would show errors with a traceback.
    code = _guarded(sys.stdout.flush) or code
  if has_begun:
    begin()
  return code


def complain(message: str, exit_code: int) -> int:
  """Write one line to stderr and return the exit code."""
  sys.stderr.write(f"error: {message}\n")
  return exit_code


def _guarded(action: Callable[[], int | None]) -> int | str | None:
  """Call a function and return the exit code for its result or its exception."""
  try:
    return action()
  except SystemExit as end:
    return end.code
  except UserError as error:
    return complain(str(error), FAILED)
  except KeyboardInterrupt:
    return complain("interrupted from the keyboard", INTERRUPTED)
  except BrokenPipeError:
    # The reader of the output has seen enough, like `head`.
    _discard_output()
    return FAILED
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    if error.filename is None:
      _discard_output()
    return complain(f"{error.filename or 'the output'}: {error.strerror}; make room and start again", FAILED)


def _prepare_streams() -> None:
  """Let stdout and stderr take any character, whatever their encoding, and open a stderr that was closed."""
  if sys.stderr is None:
    # Otherwise the next file opened would get descriptor 2.
    _discard(2)
    sys.stderr = os.fdopen(2, "w", closefd=False)
  for stream in (sys.stdout, sys.stderr):
    # What stands in for a stream, as in a notebook, may have no encoding.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
  """Discard what stdout still holds and gets, if it cannot take it."""
  if sys.stdout is None:
    return
  try:
    sys.stdout.flush()
  except OSError:
    _discard(sys.stdout.fileno())


def _discard(descriptor: int) -> None:
  """Discard everything written to a descriptor from now on."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
