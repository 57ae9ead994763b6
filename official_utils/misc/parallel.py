"""Maps a function over items in threads, in order and with bounded memory."""

import collections
import contextlib
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from official_utils.misc.progress_bar import progress_bar


def available_cpus() -> int:
  """Count the processors that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
  function: Callable[[Any], Any], items: Iterable[Any], num_threads: int, window: int
) -> Generator[Any, None, None]:
  """Yield `function(item)` for each item, in the order of the items.

  Closing the generator drops calls that have not begun, waits for the others, and ends the threads.

  Args:
    function: called in `num_threads` threads; its exceptions are raised here, in place of its results.
    items: read only by the consumer's thread, never more than `window` ahead of it; may be endless.
    num_threads: number of threads.
    window: largest number of items begun or finished but not yet yielded.

  Yields:
    The results.
  """
  pool = ThreadPoolExecutor(num_threads)
  try:
    items = iter(items)
    pending = collections.deque(pool.submit(function, item) for item in itertools.islice(items, window))
    while pending:
      result = pending.popleft().result()
      # Refilled before the result is yielded, so that the threads work while the consumer does.
      pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
      yield result
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def in_parallel(function: Callable[[Any], Any], items: Sequence[Any], task: str) -> Iterator[Any]:
  """Yield `function(item)` for each item, in the order of the items, using all processors.

  Args:
    function: called in threads; its exceptions are raised here, in place of its results.
    items: files, or items that stand for files; a progress bar on stderr counts them.
    task: the name of the bar, which says what is being done.

  Yields:
    The results.
  """
  num_threads = available_cpus()
  results = ordered_map(function, items, num_threads, 8 * num_threads)
  with contextlib.closing(results), progress_bar(task, len(items), unit=" files") as bar:
    for result in results:
      bar.update()
      yield result
