"""Tests data sets and the batches that are made of them."""

import dataclasses
import logging
import os
import random
import threading

import fixture_files
import numpy as np
import pytest
import soundfile
from small_corpora import (
  RATE,
  VOCABULARY,
  generate_batches,
  make_corpus,
  names_of,
  open_dataset,
  ordered_input_fn,
  output_length,
)

from data import audio, manifest
from data.augmentation.augmenter import make_augmenter
from data.batches import Batching
from data.dataset import (
  AudioConfig,
  DatasetConfig,
  DeepSpeechDataset,
  batch_wise_dataset_shuffle,
  batched_input_fn,
  input_fn,
)
from data.features import make_features
from data.loading import load_batches
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import FeatureStatistics, LogMelSettings


def run_in_graph(make_input) -> list:
  """Fetch all batches the way an Estimator does."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    iterator = tf.compat.v1.data.make_initializable_iterator(make_input())
    session.run(iterator.initializer)
    following, batches = iterator.get_next(), []
    while True:
      try:
        batches.append(session.run(following))
      except tf.errors.OutOfRangeError:
        return batches


ORIGINAL = fixture_files.load_json("dataset")


def test_entries_come_in_the_originals_order():
  dataset = open_dataset(fixture_files.MANIFEST)
  expected = [
    (os.path.join(fixture_files.FOLDER, path), int(size), text.lower().strip())
    for path, size, text in ORIGINAL["entries"]
  ]
  assert dataset.entries == expected
  assert dataset.speech_labels == ORIGINAL["speech_labels"]
  assert dataset.num_feature_bins == ORIGINAL["num_feature_bins"]
  assert dataset.num_upper_case == 1
  assert not dataset.left_out


@pytest.mark.parametrize("run", ORIGINAL["runs"], ids=lambda run: run["key"])
def test_batches_equal_the_originals(run):
  numbers = fixture_files.load_arrays("dataset")
  dataset = open_dataset(fixture_files.MANIFEST, normalize=run["normalize"])
  # As the original's run loop orders them.
  if run["order"] == "reversed":
    dataset.entries.reverse()
  elif run["order"] == "shuffled":
    random.seed(5)
    dataset.entries = batch_wise_dataset_shuffle(dataset.entries, 1, False, 2)
  assert [os.path.join("wavs", name) for name in names_of(dataset)] == run["entry_order"]

  batches = run_in_graph(lambda: input_fn(run["batch_size"], dataset, run["repeat"]))
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


def test_another_vocabulary_knows_other_characters(tmp_path):
  vocabulary = tmp_path / "v.txt"
  vocabulary.write_text("é\n-\n2\n_\n", encoding="utf-8")
  data_path = make_corpus(tmp_path, [(0.5, "é-2")])
  dataset = open_dataset(data_path, vocabulary=str(vocabulary))
  _, labels = next(generate_batches(1, dataset, [[0]]))
  assert labels.tolist() == [[0, 1, 2]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """Twelve utterances whose transcripts tell them apart."""
  utterances = [(0.2 + 0.02 * number, "abcdefghijkl"[: 1 + number % 5]) for number in range(12)]
  return open_dataset(make_corpus(tmp_path_factory.mktemp("corpus"), utterances))


def test_files_of_any_kind_give_features_at_the_rate_asked_for(tmp_path):
  data_path = make_corpus(tmp_path, [(0.5, "ab")])
  soundfile.write(tmp_path / "0.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (22050, 2)), 44100)
  config = DatasetConfig(
    AudioConfig(sample_rate=8000, window_ms=25, stride_ms=12.5, normalize=True), data_path, VOCABULARY
  )
  inputs, _ = next(generate_batches(1, DeepSpeechDataset(config, output_length), [[0]]))
  assert inputs["features"].shape == (1, 39, 101, 1)
  assert inputs["weight"].tolist() == [[1.0]]


def test_the_batch_size_must_suit_the_replicas(corpus):
  with pytest.raises(ValueError, match="batch_size 4 is not divisible by num_replicas 3"):
    input_fn(4, corpus, num_replicas=3)


def test_tensorflow_gets_what_the_generator_yields(corpus):
  orders = [[4, 3, 2, 1, 0], [5]]
  fetched = run_in_graph(lambda: ordered_input_fn(4, corpus, orders, num_replicas=2, num_threads=2))
  expected = list(generate_batches(4, corpus, orders, num_replicas=2))
  assert len(fetched) == len(expected) == 6
  for (inputs, labels), (expected_inputs, expected_labels) in zip(fetched, expected, strict=True):
    np.testing.assert_array_equal(labels, expected_labels)
    for name, values in expected_inputs.items():
      np.testing.assert_array_equal(inputs[name], values)
  assert corpus.failure is None


def test_two_iterators_do_not_disturb_each_other_and_no_thread_is_left(corpus):
  before = set(threading.enumerate())
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    made = ordered_input_fn(1, corpus, [range(12)], num_threads=2)
    iterators = [tf.compat.v1.data.make_initializable_iterator(made) for _ in range(2)]
    following = [iterator.get_next()[0]["index"] for iterator in iterators]
    for _ in range(2):
      session.run([iterator.initializer for iterator in iterators])
      first = [session.run(following[0]).item() for _ in range(6)]
      second = [session.run(following[1]).item() for _ in range(12)]
      first += [session.run(following[0]).item() for _ in range(6)]
      assert first == second == list(range(12))
  left = {thread for thread in set(threading.enumerate()) - before if "ThreadPoolExecutor" in thread.name}
  assert not left


def test_an_iterator_that_is_left_before_its_end_can_be_closed(corpus):
  before = set(threading.enumerate())
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    iterator = tf.compat.v1.data.make_initializable_iterator(ordered_input_fn(1, corpus, [range(12)], num_threads=2))
    following = iterator.get_next()[0]["index"]
    session.run(iterator.initializer)
    assert session.run(following).item() == 0
    corpus.close_passes()
    left = {thread for thread in set(threading.enumerate()) - before if "ThreadPoolExecutor" in thread.name}
    assert not left
    # Those that TensorFlow has fetched already are still there.
    with pytest.raises(tf.errors.OpError, match="this pass over the data is closed"):
      for _ in range(11):
        session.run(following)
  assert corpus.failure is None


@pytest.mark.parametrize("num_replicas", [1, 3])
def test_batches_by_duration_reach_tensorflow_for_any_number_of_replicas(corpus, num_replicas):
  seconds = [manifest.size_to_duration(entry.size) for entry in corpus.entries]
  batches = Batching(seconds, 4, batch_seconds=1.0).of_epochs([1, 2])
  fetched = run_in_graph(lambda: batched_input_fn(corpus, batches, num_replicas))
  assert len(fetched) == num_replicas * len(batches)
  for number, batch in enumerate(batches):
    parts = [inputs for inputs, _ in fetched[number * num_replicas : (number + 1) * num_replicas]]
    weights = np.concatenate([part["weight"][:, 0] for part in parts])
    indices = np.concatenate([part["index"][:, 0] for part in parts])
    assert indices[weights > 0].tolist() == list(batch.indices)
    assert np.isclose(weights.sum(), num_replicas)
    padded = sum(part["features"].shape[0] * part["features"].shape[1] for part in parts if part["weight"].any())
    assert padded <= 100 or len(batch.indices) == 1


def test_with_a_cache_batches_are_rounded_whether_they_come_from_it_or_not(corpus, tmp_path):
  config = dataclasses.replace(corpus.config, feature_cache_dir=str(tmp_path / "cache"))
  plain = run_in_graph(lambda: ordered_input_fn(5, corpus, [range(12)]))
  runs = []
  for _ in range(2):
    cached = DeepSpeechDataset(config, output_length)
    runs += [run_in_graph(lambda dataset=cached: ordered_input_fn(5, dataset, [range(12)])) for _ in range(2)]
  for run in runs:
    for (inputs, labels), (expected, expected_labels) in zip(run, plain, strict=True):
      assert inputs["features"].dtype == np.float32
      np.testing.assert_array_equal(inputs["features"], expected["features"].astype(np.float16))
      np.testing.assert_array_equal(inputs["input_length"], expected["input_length"])
      np.testing.assert_array_equal(labels, expected_labels)
  assert len(list((tmp_path / "cache").glob("*/*.index"))) == 1


def with_augmentations(dataset, *texts: str, num_epochs: int = 1, **options) -> DeepSpeechDataset:
  config = dataclasses.replace(dataset.config, augmenter=make_augmenter(texts, 1, num_epochs), **options)
  return DeepSpeechDataset(config, output_length)


EVERYTHING = ("shift", "stretch", "speed", "gain", "noise", "babble", "reverb", "band", "codec", "time_masks")


def test_augmented_batches_are_the_same_in_any_thread_order_and_restart(corpus):
  orders = [[4, 3, 2, 1, 0], [5, 0, 7]]
  first = with_augmentations(corpus, *EVERYTHING, num_epochs=2)
  batches = list(generate_batches(4, first, orders, num_threads=3))
  again = with_augmentations(corpus, *EVERYTHING, num_epochs=2)
  for (inputs, labels), (expected, expected_labels) in zip(
    generate_batches(4, again, orders, num_threads=1), batches, strict=True
  ):
    np.testing.assert_array_equal(inputs["features"], expected["features"])
    np.testing.assert_array_equal(labels, expected_labels)
  # Alone, and begun in the middle.
  for epoch, index, place in ((1, 7, 2), (1, 0, 1)):
    np.testing.assert_array_equal(first.load(epoch, index).features, again.load(epoch, index).features)
    row = batches[2][0]["features"][place, :, :, 0]
    np.testing.assert_array_equal(row[: len(again.load(epoch, index).features)], again.load(epoch, index).features)
  assert not np.array_equal(first.load(0, 0).features, first.load(1, 0).features)


def test_what_augments_samples_does_so_before_the_features(corpus):
  dataset = with_augmentations(corpus, "speed[rate=0.8]", "noise[snr=3]")
  samples = audio.read_audio(dataset.entries[2].path, 16000)
  augmented = dataset.config.augmenter.augment_samples(samples, 16000, 5, 2)
  np.testing.assert_array_equal(dataset.load(5, 2).features, dataset.audio_featurizer.compute(augmented))


def test_masks_are_zeros_where_features_are_normalised(corpus):
  dataset = with_augmentations(corpus, "time_masks[count=1,width=50]")
  masked, plain = dataset.load(0, 3).features, corpus.load(0, 3).features
  rows = ~masked.any(axis=1)
  assert rows.sum() == 5
  np.testing.assert_array_equal(masked[~rows], plain[~rows])
  raw = open_dataset(corpus.config.data_path, normalize=False)
  masked, plain = with_augmentations(raw, "time_masks[count=1,width=50]").load(0, 3).features, raw.load(0, 3).features
  np.testing.assert_allclose(masked[rows], np.tile(plain.mean(axis=0), (5, 1)), rtol=1e-5)


def test_an_utterance_that_would_no_longer_fit_keeps_its_length(tmp_path):
  # 0.4 s are 39 frames and 10 steps; at double speed they are 19 frames and 5 steps.
  data_path = make_corpus(tmp_path, [(0.4, "abcd"), (0.4, "abcdefg")])
  plain = open_dataset(data_path)
  dataset = with_augmentations(plain, "gain[db=6]", "speed[rate=2]", "time_masks[count=0]")
  lengths = [len(dataset.load(0, index).features) for index in (0, 1)]
  assert lengths == [19, 39]
  (inputs, _), *_ = generate_batches(2, dataset, [[0, 1]])
  assert inputs["weight"].tolist() == [[0.5], [0.5]]
  assert not dataset.left_out
  # The rest is done all the same.
  raw = with_augmentations(open_dataset(data_path, normalize=False), "gain[db=6]", "speed[rate=2]")
  louder = raw.load(0, 1).features - open_dataset(data_path, normalize=False).load(0, 1).features
  np.testing.assert_allclose(louder, 0.6 * np.log(10), atol=1e-3)


def test_batches_by_duration_hold_what_utterances_may_become(corpus):
  dataset = with_augmentations(corpus, "shift[ms=-200..200]", "speed[rate=0.5..1.5]")
  assert dataset.seconds == [2 * (seconds + 0.2) for seconds in corpus.seconds]
  batches = Batching(dataset.seconds, 4, batch_seconds=3.0).of_epochs([1, 2, 3])
  for inputs, _ in load_batches(dataset, batches):
    assert inputs["features"].shape[0] * inputs["features"].shape[1] <= 300 or len(inputs["features"]) == 1
  assert with_augmentations(corpus, "gain", "time_masks").seconds == corpus.seconds


def test_the_cache_serves_masks_and_not_what_changes_samples(corpus, tmp_path, caplog):
  folder = str(tmp_path / "cache")
  cached = open_dataset(corpus.config.data_path, feature_cache_dir=folder)
  for _ in range(2):
    masked = with_augmentations(cached, "time_masks[width=50]")
    for index in range(12):
      once, again = masked.load(0, index).features, masked.load(0, index).features
      assert once.dtype == np.float16 == masked.feature_dtype
      np.testing.assert_array_equal(once, again)
      # What is stored was never masked.
      np.testing.assert_array_equal(cached.load(0, index).features, corpus.load(0, index).features.astype(np.float16))
  assert not caplog.records
  with caplog.at_level(logging.WARNING):
    noisy = with_augmentations(cached, "time_masks", "noise")
  assert "is not used for" in caplog.text and "--augment=noise makes other samples in each epoch." in caplog.text
  assert len(caplog.records) == 1
  assert noisy.load(0, 0).features.dtype == np.float32 == noisy.feature_dtype


def test_features_follow_the_statistics_that_they_are_given(corpus, tmp_path):
  settings = LogMelSettings(feature_norm="corpus")
  cache = str(tmp_path / "cache")
  config = dataclasses.replace(corpus.config, audio_config=settings, feature_cache_dir=cache)
  dataset = DeepSpeechDataset(config, output_length)
  assert (dataset.num_feature_bins, len(dataset.entries)) == (80, len(corpus.entries))
  # Nothing can be stored before it is known what is stored.
  assert not os.path.exists(cache)
  for mean in (1.0, 2.0):
    statistics = FeatureStatistics((mean,) * 80, (4.0,) * 80)
    dataset.use_statistics(statistics)
    given_at_once = DeepSpeechDataset(dataclasses.replace(config, statistics=statistics), output_length)
    features = dataset.load(0, 0).features
    np.testing.assert_array_equal(features, given_at_once.load(0, 0).features)
    samples = audio.read_audio(dataset.entries[0].path, RATE)
    np.testing.assert_array_equal(features, make_features(settings, statistics).compute(samples).astype(np.float16))
  assert len(os.listdir(cache)) == 2


def test_a_failure_within_the_generator_is_kept_for_the_run_loop(tmp_path):
  data_path = make_corpus(tmp_path, [(0.3, "a"), (0.4, "b"), (0.5, "c")])
  dataset = open_dataset(data_path)
  os.remove(dataset.entries[1].path)
  with pytest.raises(tf.errors.OpError):
    run_in_graph(lambda: ordered_input_fn(1, dataset, [[0, 1, 2]]))
  assert isinstance(dataset.failure, UserError)
  assert dataset.entries[1].path in str(dataset.failure)


def test_evaluation_keeps_them_without_weight(tmp_path, caplog):
  data_path = make_corpus(tmp_path, [(0.3, "abcdefgh"), (0.3, "abcdefghi")])
  with caplog.at_level(logging.WARNING):
    dataset = open_dataset(data_path, leave_out_infeasible=False)
    inputs, _ = next(generate_batches(2, dataset, [[0, 1]]))
  assert names_of(dataset) == ["0.wav", "1.wav"]
  assert inputs["weight"].tolist() == [[1.0], [0.0]]
  assert not dataset.left_out
  assert not caplog.records


def test_without_a_rule_for_lengths_every_utterance_is_long_enough(corpus):
  dataset = DeepSpeechDataset(corpus.config)
  assert dataset.is_feasible(0, 0)
  assert len(dataset.entries) == 12
