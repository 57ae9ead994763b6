"""Tests how planned batches are loaded: ahead in threads, shared among replicas, padded into arrays."""

import logging
import threading

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from small_corpora import generate_batches, make_corpus, open_dataset, output_length

from data.batches import Batching, epoch_order
from data.dataset import DeepSpeechDataset
from data.loading import load_batches


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """Twelve utterances whose transcripts tell them apart."""
  utterances = [(0.2 + 0.02 * number, "abcdefghijkl"[: 1 + number % 5]) for number in range(12)]
  return open_dataset(make_corpus(tmp_path_factory.mktemp("corpus"), utterances))


@hypothesis.given(
  epochs=st.lists(st.integers(0, 12), min_size=1, max_size=3),
  per_replica=st.integers(1, 4),
  num_replicas=st.integers(1, 4),
  num_threads=st.integers(1, 3),
)
@hypothesis.settings(max_examples=60)
def test_every_utterance_counts_once_for_any_number_of_replicas(corpus, epochs, per_replica, num_replicas, num_threads):
  batch_size = per_replica * num_replicas
  orders = [epoch_order(size, epoch, False, batch_size, 1) for epoch, size in enumerate(epochs)]
  batches = list(generate_batches(batch_size, corpus, orders, num_replicas, num_threads))
  assert len(batches) == num_replicas * sum(-(-size // batch_size) for size in epochs)

  counted = []
  for start in range(0, len(batches), num_replicas):
    parts = [inputs for inputs, _ in batches[start : start + num_replicas]]
    weights = np.concatenate([part["weight"][:, 0] for part in parts])
    indices = np.concatenate([part["index"][:, 0] for part in parts])
    assert np.isclose(weights.sum(), num_replicas)
    assert len(set(weights[weights > 0])) == 1
    sizes = [int((part["weight"] > 0).sum()) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(part["weight"]) == max(1, size) for part, size in zip(parts, sizes, strict=True))
    counted += indices[weights > 0].tolist()
  assert counted == [index for order in orders for index in order]


def test_rows_hold_their_utterance_and_zeros(corpus):
  for inputs, labels in generate_batches(5, corpus, [[11, 0, 4, 7, 2], [3]]):
    assert inputs["features"].dtype == inputs["weight"].dtype == np.float32
    assert {inputs[name].dtype for name in ("input_length", "label_length", "index")} == {np.dtype(np.int32)}
    for row, index in enumerate(inputs["index"][:, 0]):
      alone, text = next(generate_batches(1, corpus, [[index]]))
      frames, letters = inputs["input_length"][row, 0], inputs["label_length"][row, 0]
      np.testing.assert_array_equal(inputs["features"][row, :frames], alone["features"][0])
      np.testing.assert_array_equal(labels[row, :letters], text[0])
      assert not inputs["features"][row, frames:].any()
      assert not labels[row, letters:].any()
      assert letters == len(corpus.entries[index].transcript)


def test_a_batch_of_empty_transcripts_has_a_column_of_labels(tmp_path):
  dataset = open_dataset(make_corpus(tmp_path, [(0.3, ""), (0.3, " ")]))
  inputs, labels = next(generate_batches(2, dataset, [[0, 1]]))
  assert labels.tolist() == [[0], [0]]
  assert inputs["label_length"].tolist() == [[0], [0]]


def test_audio_shorter_than_its_size_promised_gets_no_weight_and_is_named_once(tmp_path, caplog):
  data_path = make_corpus(tmp_path, [(0.3, "abcdefghi"), (0.4, "a"), (0.5, "b")], sizes=[20000, 30000, 40000])
  dataset = open_dataset(data_path)
  with caplog.at_level(logging.WARNING):
    batches = list(generate_batches(3, dataset, [[0, 1, 2], [2, 1, 0]]))
    batches += generate_batches(3, dataset, [[0, 1, 2]])
  assert [inputs["weight"][:, 0].tolist() for inputs, _ in batches] == [[0, 0.5, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]]
  assert [entry for entry, _ in dataset.left_out] == [dataset.entries[0]]
  assert caplog.text.count("0.wav") == 1
  (inputs, _), *_ = generate_batches(1, dataset, [[0]])
  assert inputs["weight"].tolist() == [[0.0]]


def test_threads_end_when_batches_are_no_longer_wanted(corpus):
  before = set(threading.enumerate())
  batches = generate_batches(2, corpus, [list(range(12))] * 100, num_threads=3)
  next(batches)
  assert set(threading.enumerate()) - before
  batches.close()
  assert not set(threading.enumerate()) - before


def test_epoch_and_index_reach_the_place_where_an_utterance_is_loaded(corpus):
  class Recording(DeepSpeechDataset):
    """Keeps what is loaded; may be called by several threads."""

    def load(self, epoch, index):
      loaded.append((epoch, index))
      return super().load(epoch, index)

  loaded: list[tuple[int, int]] = []
  dataset = Recording(corpus.config, output_length)
  batching = Batching(dataset.seconds, 5, seed=3)
  whole = list(load_batches(dataset, batching.of_epochs([4, 5])))
  places = [(batch.epoch, index) for batch in batching.of_epochs([4, 5]) for index in batch.indices]
  assert sorted(loaded) == sorted(places)
  assert {epoch for epoch, _ in loaded} == {4, 5}

  # From any position on: the same batches, and nothing that comes before is loaded.
  for skip in (1, 3, 5):
    loaded.clear()
    rest = list(load_batches(dataset, batching.of_epochs([4, 5], skip)))
    assert len(rest) == len(whole) - skip == len(batching.of_epochs([4, 5], skip))
    for (inputs, labels), (expected, expected_labels) in zip(rest, whole[skip:], strict=True):
      np.testing.assert_array_equal(inputs["features"], expected["features"])
      np.testing.assert_array_equal(labels, expected_labels)
    assert sorted(loaded) == sorted(places[len(places) - len(loaded) :])
