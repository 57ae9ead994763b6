"""Runs each benchmark on small shapes, from another folder, as a user would, and holds the peers against the original."""

import dataclasses
import glob
import json
import os
import re
import subprocess
import sys

import fixture_files
import numpy as np
import pytest
import small_network

import deep_speech
import networks
import scoring
from benchmarks import (
  child,
  evaluation,
  findings,
  floor,
  gpu_profile,
  gpu_throughput,
  input_pipeline,
  original_evaluation,
  original_form,
  original_input,
  recipes,
  step_profile,
  table,
  timing,
  transcribe,
)
from data import manifest
from data.augmentation.augmenter import KINDS
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import make_settings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "benchmarks")
SMALL_STEP = small_network.options(rnn_hidden_layers=2, rnn_hidden_size=4, batch_size=2, frames=48, runs=2)


SMALL_TRAINING = small_network.options(batch_size=8, num_gpus=0, train_epochs=1)


def start(tmp_path, name: str, *arguments: str) -> subprocess.CompletedProcess:
  command = [sys.executable, os.path.join(FOLDER, name), *arguments]
  return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)


def run(tmp_path, name: str, *arguments: str) -> list[str]:
  done = start(tmp_path, name, *arguments)
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()


def check_report(lines: list[str], runs: int) -> dict:
  result = json.loads(lines[-1])
  printed = dict(re.findall(r"^ours is (\S+) times as \w+ as (\w+) \(best", "\n".join(lines), re.MULTILINE))
  assert {peer: float(ratio) for ratio, peer in printed.items()} == pytest.approx(result["ratios"], abs=0.006)
  assert [len(values) for values in result["values"].values()] == [runs] * (1 + len(result["ratios"]))
  return result


# The commands.


def test_recurrent_prints_a_ratio(tmp_path):
  shape = ["--hidden=8", "--depth=8", "--batch=2", "--steps=5", "--layers=1"]
  check_report(run(tmp_path, "recurrent.py", "--runs=2", *shape), 2)


def test_train_step_prints_ratio_and_floor(tmp_path):
  lines = run(tmp_path, "train_step.py", "--shape=B", "--ragged", "--dtype=bf16", "--peer=fp32", *SMALL_STEP)
  result = check_report(lines, 2)
  assert result["setting"] == "gru 2 x 4, batch 2, ours in bf16, 48 frames, lengths from half of that on"
  assert lines[0].startswith(
    f"a step takes {result['gflop']:.1f} GFLOP at {result['product_gflop_per_second']:.1f} GFLOP/s"
  )
  assert result["share_of_product_rate"] > 0
  assert result["share_of_floor"] == pytest.approx(
    sum(result["floors"].values()) / np.median(result["values"]["ours"]), abs=1e-3
  )


def test_train_step_shows_where_time_goes(tmp_path):
  lines = run(tmp_path, "train_step.py", "--profile=ours", *SMALL_STEP)
  kinds = next(number for number, line in enumerate(lines) if "kind of operation" in line)
  seconds = [float(line.split()[1]) for line in lines[kinds + 1 : kinds + 6]]
  assert seconds == sorted(seconds, reverse=True)
  assert "Conv2D" in "".join(lines[kinds + 1 : kinds + 6])


def test_train_step_measures_memory(tmp_path):
  result = check_report(run(tmp_path, "train_step.py", "--memory", *SMALL_STEP), 1)
  assert result["unit"] == "MiB"
  assert all(values[0] > 0 for values in result["values"].values())


def test_a_missing_torch_is_said_in_one_line(tmp_path):
  done = start(tmp_path, "train_step.py", "--peer=torch_bf16", f"--torch_python={tmp_path}/python")
  assert done.returncode == 1
  assert done.stderr.startswith("error: --peer=torch_bf16 needs PyTorch")
  assert "make bench-venv" in done.stderr
  assert done.stderr.count("\n") == 1


def test_an_unknown_peer_is_refused(tmp_path):
  done = start(tmp_path, "evaluation.py", "--peer=sphinx")
  assert done.returncode == 2
  assert "the peers are original_form" in done.stderr


def test_evaluation_prints_a_ratio(tmp_path):
  lines = run(tmp_path, "evaluation.py", "--utterances=8", "--part=2", "--seconds=2", "--runs=2")
  assert check_report(lines, 2)["scale"] == {"original_form": 4.0}


def test_transcribe_prints_a_ratio(tmp_path):
  lines = run(tmp_path, "transcribe.py", "--network=demo", "--clips=2", "--batch_size=1", "--runs=2")
  result = check_report(lines, 2)
  assert result["setting"] == "demo: gru 2 x 256, 2 clips, 18 s of audio"
  rates = dict(re.findall(r"(\w+) (\d+\.\d)(?:,|$)", result["note"]))
  for name, values in result["values"].items():
    assert float(rates[name]) == pytest.approx(18 / np.median(values), rel=0.01, abs=0.06)
  assert not os.listdir(tmp_path)


def test_make_bench_runs_every_benchmark():
  with open(os.path.join(ROOT, ".ci", "bench"), encoding="utf-8") as file:
    named = re.findall(r"^(\w+\.py)", file.read(), re.MULTILINE)
  commands = set()
  for path in glob.glob(os.path.join(FOLDER, "*.py")):
    with open(path, encoding="utf-8") as file:
      if 'if __name__ == "__main__":' in file.read():
        commands.add(os.path.basename(path))
  assert set(named) == commands - {"gpu.py", "recipes.py", "table.py", "torch_network.py"}


# The program for GPUs, as far as it goes without one.


@pytest.mark.parametrize(
  ("part", "words"),
  [
    (
      "parity",
      ["original gru_l1_bias, native, padded: worst gradient", "gru, compiled against native", "padding, gru"],
    ),
    ("tones", ["tones, gru, native: WER", "tones, gru, native: texts that differ between GPU and CPU"]),
    (
      "throughput",
      ["throughput, ours, gru, auto, tf32, from a cache", "throughput, input", "throughput, original_form"],
    ),
    ("profile", ["profile, gru, native, tf32: step", "profile, gru, native, tf32: gradients/Conv2D_grad"]),
  ],
)
def test_gpu_tries_each_part(part, words, tmp_path):
  # What is no PyTorch fails in its turn, and everything else is tried all the same.
  done = start(tmp_path, "gpu.py", "--small", f"--part={part}", "--torch_python=/bin/false")
  lines = [json.loads(line) for line in done.stdout.splitlines()]
  failed = [(line["name"], line["failure"]) for line in lines if not line["ok"]]
  expected = (
    "RuntimeError: UserError: /bin/false ended with exit code 1 instead of answering; see its own messages above"
  )
  assert failed == ([("throughput, torch, gru, tf32", expected)] if part == "throughput" else []), done.stderr
  assert done.returncode == len(failed)
  found = {line["name"]: line["value"] for line in lines if "value" in line}
  for word in words:
    assert any(name.startswith(word) and value >= 0 for name, value in found.items()), word
  assert lines[-1]["name"] == f"{part}: seconds"


def test_gpu_begins_nothing_once_the_time_is_over(tmp_path):
  lines = [json.loads(line) for line in run(tmp_path, "gpu.py", "--small", "--minutes=0")]
  assert [line["name"] for line in lines[1:]] == ["parity", "tones", "throughput", "profile"]
  assert {line["left_out"] for line in lines[1:]} == {"the time is over"}


def test_gpu_needs_a_gpu(tmp_path):
  done = start(tmp_path, "gpu.py")
  assert (done.returncode, done.stderr.count("\n")) == (1, 1)
  assert "TensorFlow sees no GPU here; give --small" in done.stderr


def test_findings_are_held_against_their_bounds(capsys):
  for value, bound, expected in ((1.0, 2.0, True), (3.0, None, True), (3.0, 2.0, False), (float("nan"), 2.0, False)):
    made = findings.Findings(minutes=1)
    made.add("error", value, bound, device="gpu")
    line = json.loads(capsys.readouterr().out)
    assert (made.all_ok, line["ok"], line["bound"], line["device"]) == (expected, expected, bound, "gpu")


def test_a_failure_counts_and_keeps_nothing_from_being_tried(capsys):
  def fail(made):
    raise OSError("no room")

  made = findings.Findings(minutes=1)
  made.attempt("first", fail)
  made.attempt("second", lambda made, number: made.add("number", number), 7)
  lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert lines[0] == {"name": "first", "failure": "OSError: no room", "ok": False}
  assert [line["name"] for line in lines] == ["first", "first: seconds", "number", "second: seconds"]
  assert not made.all_ok


def test_an_exception_in_an_own_process_is_told():
  assert child.in_own_process(max, 2, 3) == 3
  with pytest.raises(RuntimeError, match="ValueError: invalid literal"):
    child.in_own_process(int, "x")


def test_every_way_to_train_has_a_name_of_its_own():
  names = [setting.name for setting in gpu_throughput.list_settings(is_small=False, cache="cache")]
  assert len(names) == len(set(names))
  for rnn_type in gpu_throughput.KERNELS:
    assert sum(f", {rnn_type}, " in name and "ours" in name for name in names) >= 3


def test_the_trace_of_all_streams_is_chosen():
  traced = {"/device:CPU:0": [1] * 9, "/device:GPU:0": [2] * 8, "/device:GPU:0/stream:7": [3], "/gpu:0/stream:all": [4]}
  assert gpu_profile.choose_device(traced) == ("/gpu:0/stream:all", [4])
  assert gpu_profile.choose_device({"/device:CPU:0": [1]}) == ("/device:CPU:0", [1])


# The original's form, held against numbers of the original and against ours.


class Forms:
  """The network in the original's form and in ours without masks, over the variables of a fixture file."""

  def __init__(self, name: str):
    self.numbers, meta = fixture_files.load_model(name)
    config, self.trainable = meta["config"], meta["trainable"]
    settings = small_network.of_original(config)
    with tf.Graph().as_default():
      self.features = tf.compat.v1.placeholder(tf.float32, [None, None, 161, 1])
      self.lengths = [tf.compat.v1.placeholder(tf.int32, [None, 1]) for _ in range(2)]
      self.labels = tf.compat.v1.placeholder(tf.int32, [None, None])
      flat = [tf.squeeze(length, 1) for length in self.lengths]
      num_frames = tf.shape(self.features)[1]
      values = dataclasses.asdict(settings)
      logits = original_form.network(self.features, values, config["num_classes"], training=True)
      losses = original_form.ctc_losses(logits, num_frames, flat[0], self.labels, flat[1])
      with tf.compat.v1.variable_scope("", reuse=True):
        logits, _ = networks.make_network(settings, config["num_classes"])(self.features, flat[0], training=True)
      steps = deep_speech.compute_length_after_conv(num_frames, tf.shape(logits)[1], self.lengths[0])
      our_losses = deep_speech.ctc_loss(self.lengths[1], steps, self.labels, logits)
      variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
      chosen = [variables[name] for name in self.trainable]
      self.fetches = []
      for each in (losses, tf.squeeze(our_losses, 1)):
        self.fetches.append([each, *tf.gradients(tf.reduce_mean(each), chosen)])
      self.session = tf.compat.v1.Session()
      for name in meta["variable_order"]:
        variables[name].load(self.numbers[f"var/{name}"], self.session)

  def run(self, batch: str) -> list:
    keys = ("in_features", "in_input_length", "in_label_length", "in_labels")
    values = [self.numbers[f"{batch}/{key}"] for key in keys]
    return self.session.run(self.fetches, dict(zip([self.features, *self.lengths, self.labels], values, strict=True)))


@pytest.mark.parametrize("name", ["gru_l1_bias", "gru_l2_nobias_c12", "lstm_l1_bias", "patched_rnn_l2_bias"])
def test_original_form_equals_the_original_and_ours(name):
  forms = Forms(name)
  for batch, tolerance in (("equal", 1e-3), ("padded", 2e-2)):
    (losses, *gradients), (our_losses, *our_gradients) = forms.run(batch)
    np.testing.assert_allclose(losses, forms.numbers[f"{batch}/ctc_loss_each"].ravel(), rtol=2e-5)
    np.testing.assert_allclose(our_losses, losses, rtol=2e-5)
    for key, gradient, ours in zip(forms.trainable, gradients, our_gradients, strict=True):
      assert np.linalg.norm(ours - gradient) <= tolerance * np.linalg.norm(gradient), key
      expected, gradient = fixture_files.sampled(forms.numbers, f"{batch}/grad", key, gradient)
      assert np.linalg.norm(gradient - expected) <= tolerance * np.linalg.norm(expected), key


def test_original_evaluation_equals_the_originals_numbers():
  expected = fixture_files.load_json("evaluate")["given_probabilities"]
  stored = fixture_files.load_arrays("evaluate_probs")
  utterances = [stored[str(number)] for number in range(len(expected["decoded"]))]
  targets = [transcript for _, _, transcript in expected["entries"]]
  texts = [original_evaluation.decode(each, evaluation.LABELS) for each in utterances]
  assert texts == expected["decoded"]
  pairs = list(zip(texts, targets, strict=True))
  assert [original_evaluation.word_errors(*pair) for pair in pairs] == expected["word_errors"]
  assert [original_evaluation.char_errors(*pair) for pair in pairs] == expected["char_errors"]
  rates = original_evaluation.evaluate(utterances, targets, evaluation.LABELS)
  assert rates == (expected["result"]["WER"], expected["result"]["CER"])


def test_original_evaluation_of_the_checkpoint_equals_the_originals_rates():
  expected = fixture_files.load_json("evaluate")["checkpoint"]
  stored = fixture_files.load_arrays("checkpoint_predictions")
  targets = [transcript for _, _, transcript in expected["entries"]]
  utterances = [stored[f"{number}/probabilities"] for number in range(len(targets))]
  rates = original_evaluation.evaluate(utterances, targets, evaluation.LABELS)
  assert rates == (expected["result"]["WER"], expected["result"]["CER"])


def test_both_evaluations_agree_on_a_corpus_with_plausible_errors():
  corpus = evaluation.make_corpus(20, 4)
  np.testing.assert_allclose(np.exp(corpus.log_probs).sum(2), 1, rtol=1e-5)
  score = evaluation.build_ours(corpus, 8)()
  assert isinstance(score, scoring.Score)
  expected = original_evaluation.evaluate(corpus.log_probs, corpus.references, evaluation.LABELS)
  assert (score.mean_wer, score.mean_cer) == pytest.approx(expected)
  assert 0.02 < score.cer < 0.15


@pytest.mark.parametrize("conv_layout", ["official", "paper"])
def test_both_ways_of_transcribing_give_the_same_texts(conv_layout, tmp_path):
  """On clips alone: in a batch the original's form lets padding into the results."""
  small = {"rnn_hidden_size": 8, "rnn_hidden_layers": 2, "conv_layout": conv_layout}
  entries = manifest.read_manifest(input_pipeline.make_corpus(str(tmp_path), ".wav", 3))
  transcribe.write_model(make_settings(transcribe.read_settings("demo").values() | small), str(tmp_path))
  texts = transcribe.build_ours(str(tmp_path), 160)()
  assert transcribe.build_original_form(str(tmp_path), 1)() == texts
  assert len(entries) == len(texts)
  assert all(texts)


# What they are made of.


def test_forms_take_turns_and_warm_up_is_not_counted():
  order = []
  forms = {name: lambda name=name: order.append(name) for name in ("ours", "peer")}
  seconds = timing.measure(forms, runs=2, warm_up=1)
  assert order == ["ours", "peer"] * 3
  assert {name: len(values) for name, values in seconds.items()} == {"ours": 2, "peer": 2}


def test_ratios_compare_medians_and_scale_parts():
  values = {"ours": [1.0, 2.0, 9.0], "whole": [3.0, 5.0, 4.0], "part": [1.0]}
  assert timing.ratios(values, {"part": 10}) == {"whole": 2.0, "part": 5.0}
  assert timing.ratios(values, {"part": 10}, min) == {"whole": 3.0, "part": 10.0}


def test_operations_are_counted_as_by_hand():
  settings = small_network.settings(rnn_hidden_size=3, rnn_hidden_layers=2)
  counts = floor.count_operations(settings, num_bins=5, num_classes=7, lengths=[9, 4])
  # 9 and 4 frames make 5 and 2 after the first convolution, 3 and 1 after the second; 5 bins make 3.
  assert counts == {
    "convolution 1": 2 * 2 * 7 * 3 * 41 * 11 * 32,
    "convolution 2": 2 * 3 * 4 * 3 * 21 * 11 * 32 * 32,
    "inputs of recurrent layers": 2 * 3 * 4 * (3 * 32 + 6) * 18,
    "states of recurrent layers": 2 * 3 * 4 * 3 * 18 * 2,
    "dense layer": 2 * 3 * 4 * 6 * 7,
  }


def test_bytes_are_counted_as_by_hand():
  settings = small_network.settings(rnn_hidden_size=3, rnn_hidden_layers=2)
  counts = floor.count_bytes(settings, num_bins=5, num_classes=7, lengths=[9, 4], width=2)
  assert counts == {
    "convolution 1": 5 * 2 * (13 * 5 + 2 * 7 * 3 * 32),
    "convolution 2": 5 * 2 * (7 * 3 * 32 + 2 * 4 * 3 * 32),
    "inputs of recurrent layers": 5 * 2 * 4 * (96 + 18 + 6 + 18) + 3 * 2 * (96 + 6) * 18,
    "states of recurrent layers": 2 * 2 * 3 * 2 * 3 * 18,
    "dense layer": 5 * 2 * 4 * (6 + 7),
    "optimizer": (96 + 3 + 6 + 3) * 18 * (4 * 7 + 2 * (4 + 2)),
  }
  single = floor.count_bytes(settings, num_bins=5, num_classes=7, lengths=[9, 4], width=4)
  assert single["optimizer"] == (96 + 3 + 6 + 3) * 18 * 4 * 7


def test_the_profile_counts_the_operations_of_a_step():
  """Of a step whose operations are all plain: the original's form."""
  settings = small_network.settings(rnn_hidden_size=4, rnn_hidden_layers=2, use_bias=False)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    spectrograms = tf.compat.v1.placeholder(tf.float32, [None, None, 161, 1])
    logits = original_form.network(spectrograms, settings, 29, training=True)
    step = original_form.train_op(tf.reduce_sum(logits * logits), 1e-3)
    session.run(tf.compat.v1.global_variables_initializer())
    nodes = step_profile.trace(session, step, {spectrograms: np.ones([2, 40, 161, 1], np.float32)})
  rows = step_profile.group(nodes, lambda name, kind: kind)
  expected = floor.count_operations(settings, 161, 29, [40, 40])
  assert sum(row.operations for row in rows.values()) == sum(expected.values())
  seconds, busy = step_profile.busy_seconds(nodes)
  assert 0 < busy <= seconds <= sum(row.seconds for row in rows.values()) + seconds - busy + 1e-6


def test_a_child_answers_line_by_line():
  program = "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(line.strip() * 2, flush=True)"
  process = child.Child([sys.executable, "-c", program])
  assert [process.ask("a"), process.ask("b")] == ["aa", "bb"]


def test_a_child_that_ends_is_reported():
  with pytest.raises(UserError, match="ended with exit code 3"):
    child.Child([sys.executable, "-c", "raise SystemExit(3)"])
  process = child.Child([sys.executable, "-c", "print('ready', flush=True); input(); raise SystemExit(4)"])
  for _ in range(2):
    with pytest.raises(UserError, match="ended with exit code 4"):
      process.ask("step")
  with pytest.raises(UserError, match="does not start"):
    child.Child(["/nonexistent/python"])


def test_a_table_of_nothing_is_refused(tmp_path):
  (tmp_path / "empty").write_text("no results\n")
  (tmp_path / "document.md").write_text(f"{table.BEGIN}\nold\n{table.END}\n")
  for name, message in (("empty", "holds no results"), ("nowhere", "cannot be read")):
    done = start(tmp_path, "table.py", f"--results={name}", "--document=document.md")
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
  assert "old" in (tmp_path / "document.md").read_text()


def test_the_table_goes_between_the_marks(tmp_path):
  document, results = tmp_path / "performance.md", tmp_path / "results"
  document.write_text(f"Before\n{table.BEGIN}\nold\n{table.END}\nAfter\n", encoding="utf-8")
  result = {
    "benchmark": "step",
    "setting": "gru",
    "note": "fast",
    "unit": "s",
    "ratios": {"torch": 3.0, "part": 20},
    "best_ratios": {"torch": 3.75, "part": 25},
    "values": {"ours": [1.0, 1.5, 1.25], "torch": [3.75], "part": [0.5, 0.25]},
    "scale": {"part": 100},
  }
  results.write_text(f"step\n{json.dumps(result)}\n", encoding="utf-8")
  run(tmp_path, "table.py", f"--results={results}", f"--document={document}")
  lines = document.read_text(encoding="utf-8").split("\n")
  assert lines[:2] == ["Before", table.BEGIN]
  assert lines[3].startswith(f"TensorFlow {tf.__version__}, ")
  assert lines[5:] == [
    "| benchmark | setting | ours | peer | peer : ours | best : best |",
    "|---|---|---|---|---|---|",
    "| step | gru; fast | 1.25 s (1 to 1.5) | torch 3.75 s | 3.00 | 3.75 |",
    "| step | gru; fast | 1.25 s (1 to 1.5) | part 37.5 s (25 to 50) | 20.00 | 25.00 |",
    "",
    table.END,
    "After",
    "",
  ]


def test_a_document_without_marks_is_left_alone(tmp_path):
  document = tmp_path / "performance.md"
  document.write_text("Nothing\n", encoding="utf-8")
  with pytest.raises(UserError, match="must be a file with the lines"):
    table.replace_between_marks(str(document), "table")
  assert document.read_text(encoding="utf-8") == "Nothing\n"


# The input.


def test_augmentation_times_every_kind(tmp_path):
  lines = run(tmp_path, "augmentation.py", "--seconds=0.5", "--runs=2")
  names = [line.split(": median")[0].strip() for line in lines]
  assert names == ["features", *KINDS, "noise[color=pink]", "codec[format=ogg]", "codec[format=mp3]"]


def test_an_augmented_input_is_held_against_the_plain_one(tmp_path):
  options = ["--source=cache", "--utterances=3", "--batch_size=2", "--runs=2", "--peer=plain", "--augment=time_masks"]
  result = check_report(run(tmp_path, "input_pipeline.py", *options), 2)
  assert list(result["values"]) == ["ours", "plain"]
  assert result["setting"].endswith(", batch 2, time_masks")


def test_features_prints_a_ratio(tmp_path):
  check_report(run(tmp_path, "features.py", "--clips=3", "--runs=2"), 2)


@pytest.mark.parametrize("source", ["flac", "wav", "cache"])
def test_input_pipeline_prints_a_ratio(source, tmp_path):
  arguments = ["--utterances=3", "--batch_size=2", "--passes=2", "--runs=2", f"--source={source}"]
  result = check_report(run(tmp_path, "input_pipeline.py", *arguments), 2)
  assert result["setting"] == f"{source}, 3 utterances, 54 s of audio, batch 2"
  assert not os.listdir(tmp_path)


def test_input_pipeline_times_the_start_on_many_rows(tmp_path):
  lines = run(tmp_path, "input_pipeline.py", "--rows=500", "--utterances=4", "--batch_size=3")
  assert check_report(lines, 1)["setting"].startswith("a manifest of 500 rows")


@pytest.mark.parametrize("wave", ["noise_16k", "chirp_8k", "real_16k"])
def test_original_features_equal_the_originals_numbers(wave):
  numbers = fixture_files.load_arrays("features")
  samples, rate = numbers[f"wave/{wave}"] / 32768, 8000 if wave.endswith("8k") else 16000
  spectrogram = original_input.spectrogram(samples, rate, rate // 50, rate // 100)
  np.testing.assert_allclose(spectrogram, numbers[f"spec/{wave}/w20_s10"], rtol=0, atol=1e-5)
  normalized = original_input.featurize(samples, rate)
  np.testing.assert_allclose(normalized, numbers[f"norm/{wave}/w20_s10"], rtol=0, atol=1e-5)


def test_both_inputs_make_the_same_batches():
  dataset = input_pipeline.open_dataset(fixture_files.MANIFEST)
  fetched = []
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for batches in (
      input_pipeline.speech_dataset.input_fn(3, dataset),
      original_input.input_fn(3, dataset),
    ):
      following = tf.compat.v1.data.make_one_shot_iterator(batches).get_next()
      fetched.append([session.run(following) for _ in range(3)])
  for (inputs, labels), (expected, expected_labels) in zip(*fetched, strict=True):
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(inputs["input_length"], expected["input_length"])
    np.testing.assert_array_equal(inputs["label_length"], expected["label_length"])
    # Values of quiet bins are known to 1e-2 only, see test_featurizer.
    np.testing.assert_allclose(inputs["features"], expected["features"], rtol=0, atol=1e-3)


def test_recipes_are_compared_by_seeds_and_resumed(tmp_path, tones_dir):
  (tmp_path / "rows.txt").write_text(
    f"# Two sets of flags.\nsmall {' '.join(SMALL_TRAINING)}\n\nlarger {' '.join(SMALL_TRAINING)} --rnn_hidden_size=12\n"
  )
  arguments = ["--rows=rows.txt", f"--data_dir={tones_dir}", "--out_dir=out", "--seeds=1,2"]
  first = run(tmp_path, "recipes.py", *arguments, "--jobs=2")
  assert [line.split(" | ")[0] for line in first] == [
    "| flags",
    "|---|---|---|---|---|---|---|---|",
    "| small",
    "| larger",
  ]
  parameters = [int(line.split(" | ")[1].replace(",", "")) for line in first[2:]]
  assert 0 < parameters[0] < parameters[1]
  written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
  assert run(tmp_path, "recipes.py", *arguments) == first
  assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
  result = recipes.read_result(str(tmp_path / "out/small-1"))
  test_set = manifest.read_manifest(f"{tones_dir}/test.tsv")
  assert sorted(result.words) == sorted(len(entry.transcript.split()) for entry in test_set)
  (tmp_path / "rows.txt").write_text("small --seed=3\n")
  done = start(tmp_path, "recipes.py", *arguments)
  assert done.returncode == 1 and "small-1.txt is of other flags than those of small; remove it" in done.stderr
  (tmp_path / "rows.txt").write_text("wrong --nonsense=1\n")
  done = start(tmp_path, "recipes.py", *arguments)
  assert done.returncode == 1 and "Unknown command line flag 'nonsense'" in done.stderr


def test_intervals_and_p_of_recipes():
  random = np.random.default_rng(3)
  wrong = (random.random(400) < 0.4).astype(float)
  low, high = recipes.interval(wrong, np.ones(400))
  deviation = np.sqrt(wrong.mean() * (1 - wrong.mean()) / 400)
  np.testing.assert_allclose([low, high], wrong.mean() + np.array([-1.96, 1.96]) * deviation, atol=0.006)
  # Of 10 differences that all point one way, 2 of 1024 choices of signs are as extreme.
  assert recipes.paired_p(np.ones(10)) == pytest.approx(2 / 1024, abs=1e-3)
  assert recipes.paired_p(np.array([1.0, -1.0])) == 1


def test_rows_of_recipes_are_checked(tmp_path):
  for text, message in (
    ("", "names no set"),
    ("a --x=1\na --x=2\n", "names a set twice"),
    ('a "b\n', "cannot be read"),
  ):
    (tmp_path / "rows.txt").write_text(text)
    with pytest.raises(UserError, match=message):
      recipes.read_rows(str(tmp_path / "rows.txt"))
