"""Tests the order of epochs and the batches that they are cut into."""

import random

import fixture_files
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.batches import (
  ORDERS,
  SORTED,
  UTTERANCES,
  Batching,
  PlannedBatch,
  Position,
  batch_wise_dataset_shuffle,
  cut,
  epoch_order,
)

SHUFFLES = fixture_files.load_json("shuffle")


@pytest.mark.parametrize("case", SHUFFLES["cases"], ids=str)
def test_one_shuffle_equals_the_originals(case):
  settings = case["epoch_index"], case["sortagrad"], case["batch_size"]
  order = batch_wise_dataset_shuffle(range(case["size"]), *settings, random.Random(case["seed"]))
  assert order == case["order"]


@pytest.mark.parametrize("chain", SHUFFLES["chains"], ids=lambda chain: f"{chain['seed']}-{chain['size']}")
def test_shuffling_again_and_again_equals_the_originals(chain):
  rng, order = random.Random(chain["seed"]), list(range(chain["size"]))
  for epoch, expected in enumerate(chain["orders"]):
    order = batch_wise_dataset_shuffle(order, epoch, chain["sortagrad"], chain["batch_size"], rng)
    assert order == expected


@hypothesis.given(
  size=st.integers(0, 40), epoch=st.integers(0, 5), batch_size=st.integers(1, 9), seed=st.integers(0, 10**6)
)
def test_an_epoch_holds_every_utterance_once_and_keeps_neighbours_together(size, epoch, batch_size, seed):
  order = epoch_order(size, epoch, False, batch_size, seed)
  assert sorted(order) == list(range(size))
  assert order == epoch_order(size, epoch, False, batch_size, seed)
  for start in range(0, size - batch_size + 1, batch_size):
    batch = order[start : start + batch_size]
    assert all((after - before) % size == 1 % size for before, after in zip(batch, batch[1:], strict=False))


def test_with_sortagrad_the_first_epoch_goes_from_short_to_long():
  assert epoch_order(50, 0, True, 4, 3) == list(range(50))
  assert epoch_order(50, 1, True, 4, 3) == epoch_order(50, 1, False, 4, 3) != list(range(50))


def test_epochs_and_seeds_differ_in_order_and_in_the_composition_of_batches():
  def composition(order):
    return {frozenset(order[start : start + 8]) for start in range(0, len(order), 8)}

  orders = [epoch_order(100, epoch, True, 8, seed) for seed in (1, 2) for epoch in range(1, 50)]
  assert len(set(map(tuple, orders))) == len(orders)
  # Every offset within a batch occurs: as many compositions, and as many remainders, which are not always the longest.
  assert len({frozenset(composition(order)) for order in orders}) == 8
  assert len({frozenset(order[96:]) for order in orders}) == 8


def test_the_offset_cuts_the_list_like_a_deck_of_cards():
  order = batch_wise_dataset_shuffle("abcdefg", 1, True, 3, random.Random(0), offset=2)
  batches = random.Random(0)
  numbers = [0, 1]
  batches.shuffle(numbers)
  assert order == [letter for number in numbers for letter in ("cde", "fga")[number]] + ["b"]


def test_by_number_an_epoch_is_its_order_cut_into_batches():
  batching = Batching(np.linspace(1, 2, 50), 8, sortagrad=True, seed=3)
  for epoch in range(4):
    batches = batching.epoch(epoch)
    assert batches == cut(epoch_order(50, epoch, True, 8, 3), 8)
    assert list(map(len, batches)) == [8] * 6 + [2]
    assert batching.num_batches(epoch) == 7


LENGTHS = st.lists(st.floats(0.1, 30), min_size=1, max_size=60).map(sorted)


@hypothesis.given(
  seconds=LENGTHS, limit=st.floats(1, 200), epoch=st.integers(0, 5), sortagrad=st.booleans(), seed=st.integers(0, 1000)
)
def test_by_duration_every_utterance_comes_once_and_no_batch_is_too_long(seconds, limit, epoch, sortagrad, seed):
  batches = Batching(seconds, 8, limit, sortagrad, seed).epoch(epoch)
  assert sorted(index for batch in batches for index in batch) == list(range(len(seconds)))
  for batch in batches:
    # Neighbours in length stay together.
    assert list(batch) == list(range(batch[0], batch[-1] + 1))
    assert len(batch) * max(seconds[index] for index in batch) <= limit or len(batch) == 1


@hypothesis.given(
  seconds=LENGTHS, limit=st.one_of(st.none(), st.floats(1, 200)), epoch=st.integers(0, 5), seed=st.integers(0, 1000)
)
def test_an_epoch_depends_on_its_number_alone_and_its_batches_are_counted(seconds, limit, epoch, seed):
  batching = Batching(seconds, 8, limit, True, seed)
  expected = [list(batch) for batch in Batching(seconds, 8, limit, True, seed).epoch(epoch)]
  batching.epoch(epoch + 1)
  assert [list(batch) for batch in batching.epoch(epoch)] == expected
  assert batching.num_batches(epoch) == len(expected)


def test_by_duration_batches_are_as_large_as_may_be():
  batches = Batching([1.0, 1.0, 1.0, 2.0, 2.0, 5.0, 9.0], 8, batch_seconds=6.0).epoch(0)
  assert batches == [range(3), range(3, 5), range(5, 6), range(6, 7)]
  whole = Batching([2.0] * 10, 8, batch_seconds=6.0).epoch(0)
  assert list(map(len, whole)) == [3, 3, 3, 1]


def test_by_duration_with_sortagrad_the_first_epoch_goes_from_short_to_long():
  seconds = np.linspace(1, 15, 200)
  order = [index for batch in Batching(seconds, 8, 60.0, sortagrad=True).epoch(0) for index in batch]
  assert order == list(range(200))
  shuffled = [index for batch in Batching(seconds, 8, 60.0, sortagrad=False).epoch(0) for index in batch]
  assert shuffled != order


def test_by_duration_epochs_and_seeds_differ_in_order_and_in_the_composition_of_batches():
  seconds = np.linspace(4, 5, 300)
  epochs = [Batching(seconds, 8, 40.0, seed=seed).epoch(epoch) for seed in (1, 2) for epoch in range(1, 40)]
  assert len({tuple(batches) for batches in epochs}) == len(epochs)
  # Nine fit into the first batch, and so many beginnings lead to other batches; eight fit into the last.
  assert len({frozenset(batches) for batches in epochs}) == 9
  assert len({max(batch.start for batch in batches) for batches in epochs}) == 8


def test_utterances_without_length_do_not_make_a_batch_without_end():
  batches = Batching([0.0] * 50_000, 8, batch_seconds=1.0).epoch(0)
  assert max(map(len, batches)) == 10_000


@pytest.mark.parametrize("limit", [None, 30.0])
def test_the_batches_of_several_epochs_come_one_after_the_other_as_often_as_wanted(limit):
  batching = Batching(np.linspace(1, 9, 100), 8, limit)
  batches = batching.of_epochs([2, 3])
  for _ in range(2):
    expected = [PlannedBatch(epoch, indices) for epoch in (2, 3) for indices in batching.epoch(epoch)]
    assert list(batches) == expected
  assert len(batches) == len(list(batches)) == batching.num_batches(2) + batching.num_batches(3)


@hypothesis.given(
  size=st.integers(1, 40),
  limit=st.one_of(st.none(), st.floats(1, 60)),
  skip=st.integers(0, 200),
  seed=st.integers(0, 99),
  order=st.sampled_from(ORDERS),
)
def test_batches_can_begin_anywhere(size, limit, skip, seed, order):
  batching = Batching(np.linspace(1, 9, size), 3, limit, seed=seed, order=order)
  whole, rest = batching.of_epochs([0, 1, 2]), batching.of_epochs([0, 1, 2], skip)
  assert list(rest) == list(whole)[skip:]
  assert len(rest) == len(list(rest))


@hypothesis.given(
  seconds=LENGTHS,
  limit=st.one_of(st.none(), st.floats(1, 200)),
  epoch=st.integers(0, 5),
  sortagrad=st.booleans(),
  seed=st.integers(0, 1000),
  order=st.sampled_from(ORDERS),
)
def test_in_each_order_an_utterance_comes_once_an_epoch_and_no_batch_is_too_large(
  seconds, limit, epoch, sortagrad, seed, order
):
  batching = Batching(seconds, 8, limit, sortagrad, seed, order)
  batches = batching.epoch(epoch)
  assert sorted(index for batch in batches for index in batch) == list(range(len(seconds)))
  assert len(batches) == batching.num_batches(epoch)
  assert all(batches)
  for batch in batches:
    if limit is None:
      assert len(batch) <= 8
    else:
      assert len(batch) * max(seconds[index] for index in batch) <= limit or len(batch) == 1
  # Another object knows the same of an epoch, whatever was asked of it before.
  again = Batching(seconds, 8, limit, sortagrad, seed, order)
  again.epoch(epoch + 1)
  assert list(map(list, again.epoch(epoch))) == list(map(list, batches))


@pytest.mark.parametrize("limit", [None, 60.0])
def test_the_orders_of_epochs(limit):
  def flat(order, epoch, sortagrad=False, seed=1):
    batches = Batching(np.linspace(1, 15, 200), 8, limit, sortagrad, seed, order).epoch(epoch)
    return [index for batch in batches for index in batch]

  in_turn = list(range(200))
  assert all(flat(SORTED, epoch) == in_turn for epoch in range(4))
  assert all(flat(order, 0, sortagrad=True) == in_turn for order in ORDERS)
  for order in ORDERS:
    assert flat(order, 1, sortagrad=True) == flat(order, 1)
  orders = {tuple(flat(UTTERANCES, epoch, seed=seed)) for epoch in range(20) for seed in (1, 2)}
  assert len(orders) == 40
  # Any utterance may follow any other.
  assert len({(order[0], order[1]) for order in orders}) > 35


def test_utterances_as_they_come_fill_batches_as_far_as_the_longest_allows():
  seconds = [1.0, 2.0, 3.0, 9.0]
  assert Batching(seconds, 8, 6.0)._fill([0, 1, 2, 3, 1, 0, 0, 0]) == [[0, 1], [2], [3], [1, 0, 0], [0]]


@hypothesis.given(
  size=st.integers(1, 40), limit=st.one_of(st.none(), st.floats(1, 60)), steps=st.lists(st.integers(0, 30), max_size=6)
)
def test_a_position_follows_from_the_number_of_steps(size, limit, steps):
  batching, position = Batching(np.linspace(1, 9, size), 3, limit), Position(0)
  whole = list(batching.of_epochs(range(200)))
  for count in steps:
    position = batching.advance(position, count)
  done = sum(steps)
  assert next(iter(batching.of_epochs(range(position.epoch, 200), position.batches))) == whole[done]
  assert sum(map(batching.num_batches, range(position.epoch))) + position.batches == done
  epochs = batching.epochs_done(position)
  assert int(epochs) == position.epoch
  assert position.batches or epochs == position.epoch
  assert epochs - position.epoch == pytest.approx(position.batches / batching.num_batches(position.epoch), abs=1e-3)


def test_a_part_of_an_epoch_is_a_fraction_that_never_makes_it_whole():
  batching = Batching([1.0] * 30_000, 1)
  done = [batching.epochs_done(position) for position in (Position(7), Position(7, 7500), Position(7, 29_999))]
  assert list(map(str, done)) == ["7", "7.25", "7.999"]


@pytest.mark.parametrize("case", SHUFFLES["cases"], ids=str)
def test_without_a_generator_pythons_own_is_drawn_from_as_the_original_does(case):
  random.seed(case["seed"])
  order = batch_wise_dataset_shuffle(range(case["size"]), case["epoch_index"], case["sortagrad"], case["batch_size"])
  assert order == case["order"]
