"""Prints what a program finds out, each finding as a line of JSON as soon as it is known."""

import json
import time
import traceback
from collections.abc import Callable


class Findings:
  """The findings of a program that has little time.

  Attributes:
    all_ok: whether no bound was missed and nothing failed so far.
  """

  def __init__(self, minutes: float):
    """Begin.

    Args:
      minutes: after them no further work is begun.
    """
    self.all_ok = True
    self._end = time.monotonic() + 60 * minutes

  def add(self, name: str, value: float, bound: float | None = None, **details: object) -> None:
    """Print a number.

    Args:
      name: what it is.
      value: the number.
      bound: the largest value that is right; None for a number that is only of interest.
      **details: further items of the line.
    """
    is_ok = bound is None or bool(value <= bound)
    self._print({"name": name, "value": float(f"{value:.4g}"), "bound": bound, "ok": is_ok} | details)

  def attempt(self, name: str, work: Callable, *arguments: object) -> None:
    """Call `work(findings, *arguments)` if there is still time.

    A failure is printed and counts like a bound that was missed, and what comes next can still be done.

    Args:
      name: what is done.
      work: does it.
      *arguments: what `work` needs.
    """
    start = time.monotonic()
    if start > self._end:
      self.leave_out(name, "the time is over")
      return
    try:
      work(self, *arguments)
    except Exception as error:  # Whatever it is, it keeps nothing else from being tried.
      traceback.print_exc()
      self._print({"name": name, "failure": traceback.format_exception_only(error)[-1].strip(), "ok": False})
    self.add(f"{name}: seconds", time.monotonic() - start)

  def leave_out(self, name: str, reason: str) -> None:
    """Say that something is not done."""
    self._print({"name": name, "left_out": reason, "ok": True})

  def _print(self, line: dict[str, object]) -> None:
    """Print a line and remember whether all is well."""
    self.all_ok = self.all_ok and bool(line["ok"])
    print(json.dumps(line), flush=True)
