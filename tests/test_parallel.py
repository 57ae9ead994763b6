"""Tests the ordered map over threads."""

import itertools
import threading
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from official_utils.misc.parallel import available_cpus, in_parallel, ordered_map


def other_threads() -> set[threading.Thread]:
  return set(threading.enumerate()) - {threading.current_thread()}


@hypothesis.given(
  delays=st.lists(st.integers(0, 3), max_size=20), num_threads=st.integers(1, 4), window=st.integers(1, 10)
)
def test_results_come_in_order_whatever_takes_longest(delays, num_threads, window):
  def work(item):
    number, delay = item
    time.sleep(delay / 2000)
    return number

  assert list(ordered_map(work, enumerate(delays), num_threads, window)) == list(range(len(delays)))


def test_reads_at_most_a_window_ahead_of_the_consumer_even_from_an_endless_source():
  taken = 0

  def source():
    nonlocal taken
    while True:
      taken += 1
      yield taken

  results = ordered_map(lambda item: item, source(), num_threads=3, window=5)
  for consumed in range(1, 50):
    assert next(results) == consumed
    assert taken <= consumed + 5
  results.close()


def test_several_items_are_worked_on_at_once():
  # Each of the three waits for the other two: one after the other, none would ever end.
  together = threading.Barrier(3, timeout=30)
  assert sorted(ordered_map(lambda _: together.wait(), range(3), num_threads=3, window=3)) == [0, 1, 2]


def test_an_exception_reaches_the_consumer_in_its_place_and_ends_the_threads():
  before = other_threads()

  def work(item):
    if item == 3:
      raise ValueError("item 3")
    return item

  results = ordered_map(work, range(10), 2, 4)
  assert [next(results) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(ValueError, match="item 3"):
    next(results)
  assert other_threads() == before


def test_an_exception_of_the_source_reaches_the_consumer():
  def source():
    yield 1
    raise OSError("source")

  with pytest.raises(OSError, match="source"):
    list(ordered_map(lambda item: item, source(), 2, 4))


def test_threads_end_when_the_consumer_stops_early():
  before = other_threads()
  results = ordered_map(lambda item: item, itertools.count(), num_threads=3, window=6)
  assert next(results) == 0
  assert other_threads() != before
  results.close()
  assert other_threads() == before


def test_a_bar_counts_the_files_of_which_the_results_come_in_order(capsys):
  assert list(in_parallel(str.upper, ["a", "b", "c"], "shouting")) == ["A", "B", "C"]
  assert "shouting: 100%" in (shown := capsys.readouterr().err)
  assert "3/3" in shown


def test_in_parallel_raises_in_place_of_a_result_and_ends_its_threads_when_nobody_reads_on():
  before = other_threads()
  results = in_parallel(lambda item: 1 // item, [1, 2, 0, 3], "dividing")
  assert [next(results), next(results)] == [1, 0]
  with pytest.raises(ZeroDivisionError):
    next(results)
  results = in_parallel(lambda item: item, range(1000), "counting")
  assert next(results) == 0
  results.close()
  assert other_threads() == before


def test_counts_processors():
  assert available_cpus() >= 1
