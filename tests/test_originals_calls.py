"""Uses the modules as the original's own users did: its names, its calls, its shapes."""

import dataclasses
import os
import random

import fixture_files
import numpy as np
import pytest
import small_network
from absl import flags

import decoder
import deep_speech
import deep_speech_model
from data import dataset, featurizer
from official_utils import estimator as tf_estimator
from official_utils.flags import core as flags_core
from official_utils.lazy import tf

VOCABULARY = os.path.join(os.path.dirname(__file__), "..", "data", "vocabulary.txt")
LABELS = " abcdefghijklmnopqrstuvwxyz'-"


def test_decoder():
  for case in fixture_files.load_json("decoder")["decode"]:
    greedy_decoder = decoder.DeepSpeechDecoder(case["labels"], case["blank_index"])
    logits = np.reshape(np.asarray(case["logits"], np.float32), [-1, len(case["labels"])])
    assert greedy_decoder.decode(logits) == case["result"]
  greedy_decoder = decoder.DeepSpeechDecoder(LABELS)
  assert greedy_decoder.convert_to_string([3, 1, 20]) == "cat"
  assert greedy_decoder.int_to_char[3] == "c"
  for case in fixture_files.load_json("decoder")["metrics"]:
    assert greedy_decoder.wer(case["decode"], case["target"]) == case["wer"]
    assert greedy_decoder.cer(case["decode"], case["target"]) == case["cer"]


@pytest.mark.parametrize("name", ["gru_l2_bias", "lstm_l1_bias"])
def test_model(name):
  numbers, meta = fixture_files.load_model(name)
  config = meta["config"]
  assert config["rnn_type"] in deep_speech_model.SUPPORTED_RNNS
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = deep_speech_model.DeepSpeech2(
      config["rnn_hidden_layers"],
      config["rnn_type"],
      config["is_bidirectional"],
      config["rnn_hidden_size"],
      config["num_classes"],
      config["use_bias"],
    )
    features = tf.compat.v1.placeholder(tf.float32, [None, None, 161, 1])
    logits = model(features, training=False)
    for variable in tf.compat.v1.global_variables():
      variable.load(numbers[f"var/{variable.op.name}"], session)
    for batch in ("equal", "padded"):
      values = session.run(logits, {features: numbers[f"{batch}/in_features"]})
      np.testing.assert_allclose(values, numbers[f"{batch}/infer_logits"], rtol=0, atol=1e-5)


def test_batch_norm():
  inputs = np.random.default_rng(0).normal(3, 2, [2, 9, 5, 4]).astype(np.float32)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    outputs = deep_speech_model.batch_norm(tf.constant(inputs), training=True)
    session.run(tf.compat.v1.global_variables_initializer())
    values = session.run(outputs)
  np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=1e-4)


def test_featurizer():
  for case in fixture_files.load_json("features")["index"][:4]:
    arrays = fixture_files.load_arrays("features")
    samples = arrays[f"wave/{case['wave']}"] / 32768.0
    spectrogram = featurizer.compute_spectrogram_feature(
      samples, case["sample_rate"], stride_ms=case["stride_ms"], window_ms=case["window_ms"]
    )
    np.testing.assert_allclose(spectrogram, arrays[f"spec/{case['key']}"], rtol=0, atol=1e-5)
  audio_featurizer = featurizer.AudioFeaturizer(sample_rate=16000, window_ms=20.0, stride_ms=10.0)
  assert (audio_featurizer.sample_rate, audio_featurizer.window_ms, audio_featurizer.stride_ms) == (16000, 20.0, 10.0)
  text_featurizer = featurizer.TextFeaturizer(vocab_file=VOCABULARY)
  assert text_featurizer.speech_labels == LABELS
  assert featurizer.compute_label_feature(text=" Cat ", token_to_idx=text_featurizer.token_to_index) == [3, 1, 20]
  assert text_featurizer.index_to_token[3] == "c"


def open_dataset(normalize: bool) -> dataset.DeepSpeechDataset:
  audio_config = dataset.AudioConfig(sample_rate=16000, window_ms=20, stride_ms=10, normalize=normalize)
  config = dataset.DatasetConfig(audio_config, fixture_files.MANIFEST, VOCABULARY, sortagrad=True)
  return dataset.DeepSpeechDataset(dataset_config=config)


def test_dataset():
  assert dataset.AudioConfig(16000, 20, 10) == dataset.AudioConfig(16000, 20, 10, normalize=False)
  assert dataset.AudioConfig(16000, 20, 10, normalize=True).normalize
  assert dataclasses.replace(dataset.AudioConfig(16000, 20, 10, True), window_ms=25) == dataset.AudioConfig(
    16000, 25, 10, normalize=True
  )
  recorded = fixture_files.load_json("dataset")
  for run in recorded["runs"]:
    speech_dataset = open_dataset(run["normalize"])
    assert speech_dataset.speech_labels == recorded["speech_labels"]
    assert speech_dataset.num_feature_bins == 161
    assert [int(size) for _, size, _ in recorded["entries"]] == [entry[1] for entry in speech_dataset.entries]
    if run["order"] == "reversed":
      speech_dataset.entries.reverse()
    elif run["order"] == "shuffled":
      random.seed(5)
      speech_dataset.entries = dataset.batch_wise_dataset_shuffle(speech_dataset.entries, 1, False, 2)
    shapes, order = [], []
    for features, labels in dataset.input_fn(
      batch_size=run["batch_size"], deep_speech_dataset=speech_dataset, repeat=run["repeat"]
    ):
      shapes.append(features["features"].shape.as_list())
      order += features["index"][:, 0].numpy().tolist()
      assert features["input_length"].shape == features["label_length"].shape == [shapes[-1][0], 1]
      assert labels.shape[0] == shapes[-1][0]
    assert shapes == run["shapes"]
    assert order == list(range(7)) * run["repeat"]


def test_lengths_and_loss():
  for case in fixture_files.load_json("lengths")["compute_length_after_conv"]:
    lengths = tf.constant(case["input_length"], tf.int32)
    result = deep_speech.compute_length_after_conv(case["max_time_steps"], case["ctc_time_steps"], lengths)
    np.testing.assert_array_equal(result, case["result"])
  numbers, _ = fixture_files.load_model("gru_l1_bias")
  losses = deep_speech.ctc_loss(
    tf.constant(numbers["padded/in_label_length"]),
    tf.constant(numbers["padded/ctc_input_length"]),
    tf.constant(numbers["padded/in_labels"]),
    tf.constant(numbers["padded/train_logits"]),
  )
  np.testing.assert_allclose(losses, numbers["padded/ctc_loss_each"], rtol=2e-5)


@pytest.fixture
def command_line(tmp_path):
  """Parse a command line into the flags of the process, as a program of one's own does, and take them away again."""
  deep_speech.define_deep_speech_flags()
  paths = [f"--{name}_data_dir={fixture_files.MANIFEST}" for name in ("train", "eval")]
  options = [*paths, f"--model_dir={tmp_path / 'model'}", *small_network.options(batch_size=3, num_gpus=0)]
  flags_core.parse_flags(["my_program.py", *options, "--train_epochs=2"])
  yield flags.FLAGS
  for name in list(flags_core.own_flags(flags.FLAGS).values()):
    for flag in name:
      delattr(flags.FLAGS, flag.name)


def test_a_program_of_ones_own(command_line, tmp_path, capsys):
  """Builds an Estimator by hand around model_fn, trains and evaluates it, and lets the run loop do the same."""
  train_set = deep_speech.generate_dataset(command_line.train_data_dir)
  estimator = tf_estimator.Estimator(
    deep_speech.model_fn, str(tmp_path / "by_hand"), params={"num_classes": len(train_set.speech_labels)}
  )
  for cycle in range(2):
    train_set.entries = dataset.batch_wise_dataset_shuffle(train_set.entries, cycle, command_line.sortagrad, 3)
    estimator.train(lambda: dataset.input_fn(3, train_set))
  results = deep_speech.evaluate_model(
    estimator, train_set.speech_labels, train_set.entries, lambda: dataset.input_fn(3, train_set)
  )
  assert results["global_step"] == 6
  assert results["WER"] > 0
  deep_speech.run_deep_speech(command_line)
  assert "stopped: 2 epochs are done" in capsys.readouterr().out
