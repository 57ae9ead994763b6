"""Tests the checks before training, the order of epochs and the batches."""

import json
import logging
import os
import random
import threading

import hypothesis
import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st

from data import manifest
from data.dataset import (
  AudioConfig,
  DatasetConfig,
  DeepSpeechDataset,
  batch_wise_dataset_shuffle,
  epoch_order,
  generate_batches,
  input_fn,
)
from data.featurizer import steps_needed
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

FIXTURES = os.path.join(os.path.dirname(__file__), "fixtures")
VOCABULARY = os.path.join(os.path.dirname(__file__), "..", "data", "vocabulary.txt")
RATE = 16000


def output_length(frames):
  return (frames + 3) // 4


def open_dataset(data_path: str, normalize: bool = True, **options) -> DeepSpeechDataset:
  config = DatasetConfig(AudioConfig(normalize=normalize), data_path, options.pop("vocabulary", VOCABULARY), **options)
  return DeepSpeechDataset(config, output_length)


def make_corpus(folder, utterances, sizes=None) -> str:
  """Write noise of the given (seconds, transcript) and a manifest, with true sizes unless others are given."""
  rng = np.random.default_rng(0)
  entries = []
  for number, (seconds, transcript) in enumerate(utterances):
    path = os.path.join(folder, f"{number}.wav")
    soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
    size = sizes[number] if sizes else manifest.duration_to_size(seconds)
    entries.append(manifest.Entry(path, size, transcript))
  data_path = os.path.join(folder, "m.tsv")
  manifest.write_manifest(data_path, entries)
  return data_path


def run_in_graph(dataset: DeepSpeechDataset, batch_size: int, orders, **options) -> list:
  """Fetch all batches the way an Estimator does."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    iterator = tf.compat.v1.data.make_initializable_iterator(input_fn(batch_size, dataset, orders, **options))
    session.run(iterator.initializer)
    following, batches = iterator.get_next(), []
    while True:
      try:
        batches.append(session.run(following))
      except tf.errors.OutOfRangeError:
        return batches


def names_of(dataset: DeepSpeechDataset) -> list[str]:
  return [os.path.basename(entry.path) for entry in dataset.entries]


with open(os.path.join(FIXTURES, "dataset.json")) as _file:
  ORIGINAL = json.load(_file)
with open(os.path.join(FIXTURES, "shuffle.json")) as _file:
  SHUFFLES = json.load(_file)


def test_entries_come_in_the_originals_order():
  dataset = open_dataset(os.path.join(FIXTURES, "manifest.tsv"))
  expected = [
    (os.path.join(FIXTURES, path), int(size), text.lower().strip()) for path, size, text in ORIGINAL["entries"]
  ]
  assert dataset.entries == expected
  assert dataset.speech_labels == ORIGINAL["speech_labels"]
  assert dataset.num_feature_bins == ORIGINAL["num_feature_bins"]
  assert dataset.num_upper_case == 1
  assert not dataset.left_out


@pytest.mark.parametrize("run", ORIGINAL["runs"], ids=lambda run: run["key"])
def test_batches_equal_the_originals(run):
  numbers = np.load(os.path.join(FIXTURES, "dataset.npz"))
  dataset = open_dataset(os.path.join(FIXTURES, "manifest.tsv"), normalize=run["normalize"])
  order = list(range(7))
  if run["order"] == "reversed":
    order.reverse()
  elif run["order"] == "shuffled":
    order = batch_wise_dataset_shuffle(order, 1, False, 2, random.Random(5))
  assert [os.path.join("wavs", names_of(dataset)[index]) for index in order] == run["entry_order"]

  # The original repeats within what it cuts into batches: for it, two repetitions are one long epoch.
  batches = run_in_graph(dataset, run["batch_size"], [order * run["repeat"]])
  assert len(batches) == run["batches"]
  for number, (inputs, labels) in enumerate(batches):
    expected = {name: numbers[f"{run['key']}/{number}/{name}"] for name in ("input_length", "label_length", "labels")}
    np.testing.assert_array_equal(inputs["input_length"], expected["input_length"])
    np.testing.assert_array_equal(inputs["label_length"], expected["label_length"])
    np.testing.assert_array_equal(labels, expected["labels"])
    features = inputs["features"]
    assert list(features.shape) == run["shapes"][number]
    if f"{run['key']}/{number}/features" in numbers:
      # Values of quiet bins are known to 1e-2 only, see test_featurizer.
      np.testing.assert_allclose(features, numbers[f"{run['key']}/{number}/features"], rtol=0, atol=1e-3)
    else:
      sums = features.sum(axis=(2, 3), dtype=np.float64)
      np.testing.assert_allclose(sums, numbers[f"{run['key']}/{number}/feature_sums"], rtol=0, atol=1e-3)


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


def test_names_missing_audio_files(tmp_path):
  data_path = make_corpus(tmp_path, [(0.5, "a")] * 9)
  for number in range(2, 9):
    os.remove(tmp_path / f"{number}.wav")
  with pytest.raises(UserError, match=r"7 of 9 audio files do not exist: .*2\.wav \(line 4\).*6\.wav.* and 2 more;"):
    open_dataset(data_path)


def test_unknown_characters_are_reported_before_training(tmp_path):
  data_path = make_corpus(tmp_path, [(0.5, "ab"), (0.4, "café é"), (0.3, "a-b"), (0.6, "2 É")])
  with pytest.raises(UserError) as caught:
    open_dataset(data_path)
  message = str(caught.value)
  for part in ("3 of 4 transcripts", "'é' (3 times)", "'2' (1 times)", "'-' (1 times)", "stands for the blank"):
    assert part in message
  for line in (3, 4, 5):
    assert f"{data_path}:{line}" in message
  assert "--on_unknown=drop" in message


def test_unknown_characters_can_be_left_out_by_name(tmp_path, caplog):
  data_path = make_corpus(tmp_path, [(0.5, "ab"), (0.4, "café"), (0.3, "a-b")])
  with caplog.at_level(logging.WARNING):
    dataset = open_dataset(data_path, on_unknown="drop")
  assert names_of(dataset) == ["0.wav"]
  reasons = {os.path.basename(entry.path): reason for entry, reason in dataset.left_out}
  assert "line 3: characters 'é'" in reasons["1.wav"]
  assert "line 4: characters '-'" in reasons["2.wav"]
  assert "1.wav" in caplog.text
  assert "2 of 3 utterances" in caplog.text


def test_another_vocabulary_knows_other_characters(tmp_path):
  vocabulary = tmp_path / "v.txt"
  vocabulary.write_text("é\n-\n2\n_\n", encoding="utf-8")
  data_path = make_corpus(tmp_path, [(0.5, "é-2")])
  dataset = open_dataset(data_path, vocabulary=str(vocabulary))
  _, labels = next(generate_batches(1, dataset, [[0]]))
  assert labels.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
  ("text", "steps"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("aaa", 5), ("aab", 4), ("a a", 3), ("hello  you", 12)]
)
def test_counts_the_steps_that_ctc_needs(text, steps):
  assert steps_needed(text) == steps


def test_utterances_that_cannot_be_aligned_are_left_out_with_the_numbers(tmp_path):
  # 0.3 s are 29 frames and 8 output steps.
  data_path = make_corpus(tmp_path, [(0.3, "abcdefgh"), (0.3, "abcdefghi"), (0.3, "aabbccd"), (0.3, "aabbc")])
  dataset = open_dataset(data_path)
  assert names_of(dataset) == ["0.wav", "3.wav"]
  (entry, reason), (_, doubled) = dataset.left_out
  assert os.path.basename(entry.path) == "1.wav"
  assert reason == "line 3: 9 labels, 0 of them doubled, need 9 output steps; 29 frames of audio give 8"
  assert "7 labels, 3 of them doubled, need 10 output steps" in doubled


def test_evaluation_keeps_them_without_weight(tmp_path, caplog):
  data_path = make_corpus(tmp_path, [(0.3, "abcdefgh"), (0.3, "abcdefghi")])
  with caplog.at_level(logging.WARNING):
    dataset = open_dataset(data_path, leave_out_infeasible=False)
    inputs, _ = next(generate_batches(2, dataset, [[0, 1]]))
  assert names_of(dataset) == ["0.wav", "1.wav"]
  assert inputs["weight"].tolist() == [[1.0], [0.0]]
  assert not dataset.left_out
  assert not caplog.records


def test_a_size_that_looks_too_small_is_checked_in_the_file(tmp_path):
  data_path = make_corpus(tmp_path, [(0.3, "abcdefgh"), (0.2, "abcdefgh")], sizes=[2000, 1000])
  dataset = open_dataset(data_path)
  assert names_of(dataset) == ["0.wav"]
  assert "19 frames" in dataset.left_out[0][1]


def test_nothing_left_is_an_error(tmp_path):
  data_path = make_corpus(tmp_path, [(0.3, "abcdefghi")])
  with pytest.raises(UserError, match=r"all 1 utterances are left out.*0\.wav because of line 2: 9 labels"):
    open_dataset(data_path)


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


def test_files_of_any_kind_give_features_at_the_rate_asked_for(tmp_path):
  data_path = make_corpus(tmp_path, [(0.5, "ab")])
  soundfile.write(tmp_path / "0.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (22050, 2)), 44100)
  config = DatasetConfig(AudioConfig(sample_rate=8000, window_ms=25, stride_ms=12.5), data_path, VOCABULARY)
  inputs, _ = next(generate_batches(1, DeepSpeechDataset(config, output_length), [[0]]))
  assert inputs["features"].shape == (1, 39, 101, 1)
  assert inputs["weight"].tolist() == [[1.0]]


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


def test_the_batch_size_must_suit_the_replicas(corpus):
  with pytest.raises(ValueError, match="batch_size 4 is not divisible by num_replicas 3"):
    input_fn(4, corpus, [[0]], num_replicas=3)


def test_tensorflow_gets_what_the_generator_yields(corpus):
  orders = [[4, 3, 2, 1, 0], [5]]
  fetched = run_in_graph(corpus, 4, orders, num_replicas=2, num_threads=2)
  expected = list(generate_batches(4, corpus, orders, num_replicas=2))
  assert len(fetched) == len(expected) == 6
  for (inputs, labels), (expected_inputs, expected_labels) in zip(fetched, expected, strict=True):
    np.testing.assert_array_equal(labels, expected_labels)
    for name, values in expected_inputs.items():
      np.testing.assert_array_equal(inputs[name], values)
  assert corpus.failure is None


def test_a_failure_within_the_generator_is_kept_for_the_run_loop(tmp_path):
  data_path = make_corpus(tmp_path, [(0.3, "a"), (0.4, "b"), (0.5, "c")])
  dataset = open_dataset(data_path)
  os.remove(dataset.entries[1].path)
  with pytest.raises(tf.errors.OpError):
    run_in_graph(dataset, 1, [[0, 1, 2]])
  assert isinstance(dataset.failure, UserError)
  assert dataset.entries[1].path in str(dataset.failure)


def test_threads_end_when_batches_are_no_longer_wanted(corpus):
  before = set(threading.enumerate())
  batches = generate_batches(2, corpus, [list(range(12))] * 100, num_threads=3)
  next(batches)
  assert set(threading.enumerate()) - before
  batches.close()
  assert not set(threading.enumerate()) - before
