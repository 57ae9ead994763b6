"""How a command begins and ends: a traceback only for a mistake in the code."""

import errno
import os
import signal
import sys
from collections.abc import Callable

from official_utils.misc.errors import UserError

# Exit codes: the run failed, the user interrupted it (128 + SIGINT).
FAILED = 1
INTERRUPTED = 130


def begin() -> None:
  """Let Ctrl-C end the process at once and silently while modules are imported; `run` changes that.

  A process that was started to ignore Ctrl-C still ignores it.
  """
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(main: Callable[[], int | None]) -> int | str | None:
  """Call `main`, and write one line to stderr for every error that is not a mistake in the code.

  Args:
    main: called without arguments; returns the exit code or gives it to sys.exit, None for 0.

  Returns:
    The exit code: that of `main`; 1 after a UserError, on a full disk, or when nobody reads the output any more; 130
    after Ctrl-C.
  """
  if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)
  _prepare_streams()
  code = _guarded(main)
  if sys.stdout:
    # Python's own flush at the end would show errors with a traceback.
    code = _guarded(sys.stdout.flush) or code
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
    _discard(sys.stdout.fileno())
    return FAILED
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    if error.filename is None:
      _discard(sys.stdout.fileno())
    return complain(f"{error.filename or 'the output'}: {error.strerror}; make room and start again", FAILED)


def _prepare_streams() -> None:
  """Let stdout and stderr take any character, whatever their encoding, and open a stderr that was closed."""
  if sys.stderr is None:
    # Otherwise the next file opened would get descriptor 2.
    _discard(2)
    sys.stderr = os.fdopen(2, "w", closefd=False)
  for stream in filter(None, (sys.stdout, sys.stderr)):
    stream.reconfigure(errors="backslashreplace")


def _discard(descriptor: int) -> None:
  """Discard everything written to a descriptor from now on."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
