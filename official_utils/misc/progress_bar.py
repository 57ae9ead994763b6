"""Shows the progress of a task: in place on a terminal, as a line now and then in a log."""

import shutil
import sys

from tqdm import tqdm

# Seconds between two states of a bar: on a terminal, and where each stays as a line of a log.
TERMINAL_SECONDS = 0.1
LOG_SECONDS = 10.0
# Columns of a bar.
WIDEST = 100


def progress_bar(task: str, total: int | None, unit: str = "B", start: int = 0) -> tqdm:
  """Make a progress bar with rate and time left, on stderr.

  Args:
    task: what is being done.
    total: how many units there are, None if nobody knows.
    unit: "B" for bytes; else the name of what is counted, for instance " files".
    start: how many units were done before.

  Returns:
    The bar: a context manager with `update(count)`.
  """
  seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
  # tqdm itself shows nothing on a terminal that does not know its size.
  columns, lines = shutil.get_terminal_size()
  look = {"ncols": min(WIDEST, columns), "nrows": lines, "unit_scale": unit == "B"}
  return tqdm(desc=task, total=total, unit=unit, initial=start, mininterval=seconds, maxinterval=seconds, **look)
