"""Shows the progress of a task: in place on a terminal, as a line from time to time in a log."""

import shutil
import sys

from tqdm import tqdm

# Seconds from one update of a bar to the next: on a terminal, and in a log, where each update is a line.
TERMINAL_SECONDS = 0.1
LOG_SECONDS = 10.0
# The most columns that a bar takes.
WIDEST = 100


def progress_bar(task: str, total: int | None, unit: str = "B", start: int = 0) -> tqdm:
  """Make a progress bar with rate and time left, on stderr.

  Args:
    task: what is being done.
    total: how many units there are; None if that is not known.
    unit: "B" for bytes; else the name of the units, for instance " files".
    start: how many units were done before.

  Returns:
    The bar: a context manager with `update(count)`.
  """
  seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
  # Left to itself, tqdm shows nothing on a terminal that does not know its size.
  columns, lines = shutil.get_terminal_size()
  look = {"ncols": min(WIDEST, columns), "nrows": lines, "unit_scale": unit == "B"}
  return tqdm(desc=task, total=total, unit=unit, initial=start, mininterval=seconds, maxinterval=seconds, **look)
