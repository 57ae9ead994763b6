"""Holds exports against the checkpoints that they are made of, and breaks them."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import recordings
import runs
import soundfile

import decoder
import deep_speech
import inference
from data import audio, manifest
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training import calls

# What somebody without any of our code does with an export.
BARE = """
import json, sys
import numpy as np
import tensorflow as tf
export, clips, *wavs = sys.argv[1:]
signatures = tf.saved_model.load(export).signatures
given = np.load(clips)
by_samples = signatures["serving_default"](audio=tf.constant(given["audio"]), length=tf.constant(given["length"]))
contents = tf.constant([open(path, "rb").read() for path in wavs])
by_bytes = signatures["wav_bytes"](wav_bytes=contents)
np.savez(clips + ".out.npz", log_probs=by_samples["log_probs"], lengths=by_samples["lengths"])
texts = [[text.decode() for text in each["text"].numpy()] for each in (by_samples, by_bytes)]
ours = [name for name in sys.modules if name in ("inference", "deep_speech_model", "layers")]
print(json.dumps(texts + [ours]))
"""


def read_clips(tones_dir: str) -> tuple[list[str], list[np.ndarray]]:
  """Return the paths of the training set's clips, from the shortest to the longest, and their samples."""
  paths = [
    entry.path for entry in sorted(manifest.read_manifest(f"{tones_dir}/train.tsv"), key=lambda entry: entry.size)
  ]
  return paths, [audio.read_audio(path, 16000) for path in paths]


def texts_of(model: inference.SpeechModel, log_probs: list[np.ndarray]) -> list[str]:
  greedy = decoder.GreedyDecoder(model.labels)
  return [greedy.decode(each[np.newaxis], [len(each)])[0].text for each in log_probs]


def test_checkpoint_export_estimator_and_bare_signature_agree(tones_dir, tones_model, tmp_path):
  paths, clips = read_clips(tones_dir)
  from_checkpoint = inference.load_model(tones_model)
  from_export = inference.load_model(f"{tones_model}/export/last/9")
  log_probs = from_checkpoint.log_probs(clips)
  for ours, exported in zip(log_probs, from_export.log_probs(clips), strict=True):
    np.testing.assert_array_equal(ours, exported)
  for ours, clip in zip(log_probs, clips, strict=True):
    np.testing.assert_allclose(from_export.log_probs([clip])[0], ours, atol=1e-4)
  texts = texts_of(from_export, log_probs)
  assert len(set(texts)) > 5

  # The Estimator with the featurizer's features.
  flags_obj = runs.parse(*runs.arguments(tones_dir, tones_model))
  chosen = deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj)
  estimator = deep_speech.make_estimator(flags_obj, chosen.speech_labels, ["/cpu:0"])
  for each in estimator.predict(calls.bind_input_fn(chosen, [range(22)], 1)):
    # Features in the graph are within 1e-3 of the featurizer's.
    index = paths.index(chosen.entries[each["index"]].path)
    np.testing.assert_allclose(each["log_probs"][: each["length"]], log_probs[index], atol=5e-3)

  length = np.array([len(clip) for clip in clips], np.int32)
  padded = np.full([len(clips), length.max() + 99], 0.5, np.float32)
  for row, clip in zip(padded, clips, strict=True):
    row[: len(clip)] = clip
  np.savez(tmp_path / "clips.npz", audio=padded, length=length)
  command = [sys.executable, "-c", BARE, f"{tones_model}/export/last/9", str(tmp_path / "clips.npz"), *paths]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout.splitlines()[-1]) == [texts, texts, []]
  bare = np.load(f"{tmp_path}/clips.npz.out.npz")
  for ours, other, steps in zip(log_probs, bare["log_probs"], bare["lengths"], strict=True):
    np.testing.assert_allclose(other[:steps], ours, atol=1e-4)


def test_the_string_signature_mixes_channels_and_refuses_other_rates(tones_dir, tones_model, tmp_path):
  _, (clip, *_) = read_clips(tones_dir)
  for name, samples, rate in (("stereo", np.stack([clip, 0 * clip], 1), 16000), ("slow", clip, 8000)):
    soundfile.write(tmp_path / f"{name}.wav", samples, rate, subtype="PCM_16")
  half = np.round(clip * 2**15) / 2**16
  graph = tf.Graph()
  with graph.as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.saved_model.load(session, ["serve"], f"{tones_model}/export/last/9")
    texts, log_probs = session.run(
      ["ReduceJoin/ReduceJoin:0", "LogSoftmax:0"], {"wav_bytes:0": [(tmp_path / "stereo.wav").read_bytes()]}
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have 16000 samples a second"):
      session.run("LogSoftmax:0", {"wav_bytes:0": [(tmp_path / "slow.wav").read_bytes()]})
  model = inference.load_model(tones_model)
  (expected,) = model.log_probs([half.astype(np.float32)])
  np.testing.assert_allclose(log_probs[0], expected, atol=1e-3)
  assert [text.decode() for text in texts] == texts_of(model, [expected])


def test_a_network_that_counts_padding_is_exported_without(tones_dir, tmp_path):
  options = runs.arguments(tones_dir, str(tmp_path / "model"), "--nomask_padding", "--learning_rate=0.01")
  deep_speech.run_deep_speech(runs.parse(*options))
  model = inference.load_model(str(tmp_path / "model" / "export"))
  _, clips = read_clips(tones_dir)
  for together, clip in zip(model.log_probs(clips), clips, strict=True):
    np.testing.assert_allclose(model.log_probs([clip])[0], together, atol=1e-4)


def test_odd_clips(tones_model):
  model = inference.load_model(tones_model)
  clips = [np.zeros(1, np.float32), np.zeros(0, np.float32), np.ones(16000, np.float32)]
  log_probs = model.log_probs(clips)
  assert [len(each) for each in log_probs] == [1, 1, 25]
  for each in log_probs:
    np.testing.assert_allclose(np.exp(each).sum(axis=1), 1, rtol=1e-4)
  assert model.log_probs([]) == []
  assert model.step_seconds == 0.04


def test_exports_are_published_pruned_and_found(tones_model, tmp_path):
  model = inference.load_model(tones_model)
  checkpoint = tf.train.latest_checkpoint(tones_model)
  folder = str(tmp_path / "exports")
  abandoned = tmp_path / "exports" / "last" / ".unfinished-1"
  abandoned.mkdir(parents=True)
  os.utime(abandoned, (0, 0))

  def publish(step, is_best, keep=2):
    return inference.publish(checkpoint, model.settings, model.labels, folder, step, is_best, keep)

  def there():
    return {kind: sorted(os.listdir(f"{folder}/{kind}")) for kind in os.listdir(folder)}

  assert publish(8, is_best=False) == [f"{folder}/last/8"]
  assert inference.find_export(folder) == f"{folder}/last/8"
  assert publish(10, is_best=True) == [f"{folder}/last/10", f"{folder}/best/10"]
  publish(12, is_best=False)
  assert there() == {"best": ["10"], "last": ["10", "12"]}
  assert inference.find_export(folder) == f"{folder}/best/10"
  assert inference.find_export(f"{folder}/last") == f"{folder}/last/12"
  # Once more over the same step, as after a kill; then a new run in the same folder, with lower steps.
  publish(12, is_best=True, keep=None)
  publish(3, is_best=True, keep=1)
  assert there() == {"best": ["3"], "last": ["3"]}
  # The second copy costs no space.
  assert os.path.samefile(f"{folder}/best/3/saved_model.pb", f"{folder}/last/3/saved_model.pb")
  assert inference.load_model(folder).labels == model.labels


def test_a_failed_export_leaves_nothing(tones_model, tmp_path):
  settings, labels = inference.read_settings(tones_model)
  with pytest.raises(UserError, match="not of the network that the settings describe"):
    checkpoint = tf.train.latest_checkpoint(tones_model)
    inference.export_model(checkpoint, {**settings, "rnn_hidden_size": 9}, labels, str(tmp_path / "out" / "1"))
  assert os.listdir(tmp_path / "out") == []
  recordings.write_text(str(tmp_path / "file"), "")
  with pytest.raises(UserError, match="choose another --export_dir"):
    inference.export_model(checkpoint, settings, labels, str(tmp_path / "file" / "1"))


def remove(name):
  return lambda folder: os.remove(os.path.join(folder, name))


def write(name, text):
  return lambda folder: recordings.write_text(os.path.join(folder, name), text)


def change(name, value):
  def damage(folder):
    path = os.path.join(folder, "assets", "settings.json")
    with open(path, encoding="utf-8") as file:
      settings = json.load(file)
    recordings.write_text(path, json.dumps({**settings, name: value}))

  return damage


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (remove("assets/vocabulary.txt"), r"assets/vocabulary.txt: cannot be read .*--mode=export"),
    (remove("assets/settings.json"), r"assets/settings.json: cannot be read .*--mode=export"),
    (remove("variables/variables.index"), r"damaged .*--mode=export"),
    (remove("variables/variables.data-00000-of-00001"), r"damaged .*--mode=export"),
    (write("saved_model.pb", "\n"), r"damaged .*--mode=export"),
    (write("assets/settings.json", "{"), "is damaged"),
    (write("assets/settings.json", "[]"), "do not tell --rnn_type"),
    (write("assets/vocabulary.txt", "-\n"), "do not tell the labels"),
    (write("assets/vocabulary.txt", "a\n-\n"), "2 labels for 29 classes"),
    (change("rnn_hidden_size", -1), "settings.json: is damaged .*rnn_hidden_size"),
    (change("rnn_type", "tree"), "settings.json: is damaged"),
    (change("sample_rate", "fast"), "settings.json: is damaged"),
  ],
)
def test_damage_is_said_in_one_line(damage, message, tones_model, tmp_path):
  folder = str(tmp_path / "export")
  shutil.copytree(f"{tones_model}/export/last/9", folder)
  damage(folder)
  with pytest.raises(UserError, match=message) as caught:
    inference.load_model(folder)
  assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tones_model, tmp_path):
  for path in (str(tmp_path), str(tmp_path / "nowhere")):
    with pytest.raises(UserError, match="no export and no checkpoint"):
      inference.load_model(path)
  # A checkpoint as the original left it, without settings.
  shutil.copytree(tones_model, tmp_path / "original")
  os.remove(tmp_path / "original" / "settings.json")
  with pytest.raises(UserError, match="settings.json: cannot be read"):
    inference.load_model(str(tmp_path / "original"))


def test_variable_shapes_are_those_of_the_checkpoint(tones_model):
  settings, labels = inference.read_settings(tones_model)
  there = dict(tf.train.list_variables(tf.train.latest_checkpoint(tones_model)))
  for name, shape in inference.variable_shapes(settings, len(labels)).items():
    assert there[name] == shape
