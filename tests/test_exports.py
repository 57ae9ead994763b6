"""Holds exports against the checkpoints that they are made of, and breaks them."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import recordings
import runs
import soundfile

import decoder
import deep_speech
import exports
import inference
from data import audio, manifest
from data.batches import cut_all
from official_utils import checkpoints
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


def of_checkpoint(model_dir: str) -> inference.SpeechModel:
  """Load the newest checkpoint of a model_dir."""
  return inference.load_checkpoint(checkpoints.newest_checkpoint(model_dir), *inference.read_description(model_dir))


def load(path: str) -> inference.SpeechModel:
  """Load what a path stands for."""
  return exports.load_export(exports.find_export(path))


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
  from_checkpoint = of_checkpoint(tones_model)
  from_export = load(f"{tones_model}/export/last/9")
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
  for each in estimator.predict(calls.bind_input_fn(chosen, cut_all([range(22)], 22), 1)):
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


def test_an_export_in_bfloat16_is_its_checkpoint_in_bfloat16(tones_dir, tones_model):
  _, clips = read_clips(tones_dir)
  description = inference.read_description(tones_model)
  checkpoint = inference.load_checkpoint(checkpoints.newest_checkpoint(tones_model), *description, "bfloat16")
  export = exports.load_export(f"{tones_model}/export/last/9", "bfloat16")
  for ours, exported in zip(checkpoint.log_probs(clips), export.log_probs(clips), strict=True):
    np.testing.assert_array_equal(ours, exported)


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
  model = of_checkpoint(tones_model)
  (expected,) = model.log_probs([half.astype(np.float32)])
  np.testing.assert_allclose(log_probs[0], expected, atol=1e-3)
  assert [text.decode() for text in texts] == texts_of(model, [expected])


def test_a_network_that_counts_padding_is_exported_without(tones_dir, tmp_path):
  options = runs.arguments(tones_dir, str(tmp_path / "model"), "--nomask_padding", "--learning_rate=0.01")
  deep_speech.run_deep_speech(runs.parse(*options))
  model = load(str(tmp_path / "model" / "export"))
  _, clips = read_clips(tones_dir)
  for together, clip in zip(model.log_probs(clips), clips, strict=True):
    np.testing.assert_allclose(model.log_probs([clip])[0], together, atol=1e-4)


def test_exports_are_published_pruned_and_found(tones_model, tmp_path):
  model = of_checkpoint(tones_model)
  checkpoint = tf.train.latest_checkpoint(tones_model)
  folder = str(tmp_path / "exports")
  abandoned = tmp_path / "exports" / "last" / ".unfinished-1"
  abandoned.mkdir(parents=True)
  os.utime(abandoned, (0, 0))

  def publish(step, is_best, keep=2):
    return exports.publish(checkpoint, model.settings, model.labels, folder, step, is_best, keep)

  def there():
    return {kind: sorted(os.listdir(f"{folder}/{kind}")) for kind in os.listdir(folder)}

  assert publish(8, is_best=False) == [f"{folder}/last/8"]
  assert exports.find_export(folder) == f"{folder}/last/8"
  assert publish(10, is_best=True) == [f"{folder}/last/10", f"{folder}/best/10"]
  publish(12, is_best=False)
  assert there() == {"best": ["10"], "last": ["10", "12"]}
  assert exports.find_export(folder) == f"{folder}/best/10"
  assert exports.find_export(f"{folder}/last") == f"{folder}/last/12"
  # Once more over the same step, as after a kill; then a new run in the same folder, with lower steps.
  publish(12, is_best=True, keep=None)
  publish(3, is_best=True, keep=1)
  assert there() == {"best": ["3"], "last": ["3"]}
  # The second copy costs no space.
  assert os.path.samefile(f"{folder}/best/3/saved_model.pb", f"{folder}/last/3/saved_model.pb")
  assert load(folder).labels == model.labels


def test_a_failed_export_leaves_nothing(tones_model, tmp_path):
  settings, labels = inference.read_description(tones_model)
  other = dataclasses.replace(settings, network=dataclasses.replace(settings.network, rnn_hidden_size=9))
  with pytest.raises(UserError, match="does not fit the network that its settings describe"):
    checkpoint = tf.train.latest_checkpoint(tones_model)
    exports.export_model(checkpoint, other, labels, str(tmp_path / "out" / "1"))
  assert os.listdir(tmp_path / "out") == []
  recordings.write_text(str(tmp_path / "file"), "")
  with pytest.raises(UserError, match="choose another --export_dir"):
    exports.export_model(checkpoint, settings, labels, str(tmp_path / "file" / "1"))


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
    (write("assets/settings.json", "[]"), "is damaged: it holds no settings"),
    (write("assets/vocabulary.txt", "-\n"), r"assets/vocabulary.txt is damaged \(the vocabulary has 1 characters"),
    (write("assets/vocabulary.txt", "a\n-\n"), "2 labels for 29 classes"),
    (change("rnn_hidden_size", -1), "settings.json is damaged .*rnn_hidden_size"),
    (change("rnn_type", "tree"), "settings.json is damaged"),
    (change("sample_rate", "fast"), "settings.json is damaged"),
    (change("depth", 3), "settings.json: the setting 'depth' is not known here.*newer version"),
    (change("format", 2), "settings.json: the format 2 is not known here.*newer version"),
  ],
)
def test_damage_is_said_in_one_line(damage, message, tones_model, tmp_path):
  folder = str(tmp_path / "export")
  shutil.copytree(f"{tones_model}/export/last/9", folder)
  damage(folder)
  with pytest.raises(UserError, match=message) as caught:
    load(folder)
  assert "\n" not in str(caught.value)


def test_an_export_names_no_folder_of_the_machine_that_wrote_it(tones_model, tmp_path):
  with open(f"{exports.find_export(tones_model + '/export')}/saved_model.pb", "rb") as file:
    content = file.read()
  for folder in (str(tmp_path), tempfile.gettempdir() + "/", runs.ROOT, os.path.dirname(tones_model)):
    assert folder.encode() not in content
