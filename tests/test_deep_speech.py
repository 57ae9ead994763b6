"""Tries the run loop's parts: losses, modes, metrics, replicas, and what stops a run."""

import gc
import math
import os
import re
import shutil

import fixture_files
import numpy as np
import pytest
import runs
from small_corpora import generate_batches, ordered_input_fn

import deep_speech
from data import dataset as speech_dataset
from data import manifest
from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training import progress
from training.model_dir import ModelDir
from transcribe import load_model

RATE = 16000


def test_length_after_conv_equals_the_original():
  cases = fixture_files.load_json("lengths")["compute_length_after_conv"]
  assert cases
  for case in cases:
    lengths = tf.constant(case["input_length"], tf.int32)
    result = deep_speech.compute_length_after_conv(case["max_time_steps"], case["ctc_time_steps"], lengths)
    np.testing.assert_array_equal(result, case["result"])


def test_ctc_loss_of_a_single_utterance():
  logits = tf.constant(np.random.default_rng(0).normal(size=[1, 6, 5]), tf.float32)
  arguments = tf.constant([[2]]), tf.constant([[6]]), tf.constant([[1, 3, 0]])
  alone = deep_speech.ctc_loss(*arguments, logits)
  twice = deep_speech.ctc_loss(*(tf.repeat(value, 2, 0) for value in arguments), tf.repeat(logits, 2, 0))
  assert alone.shape == [1, 1]
  np.testing.assert_allclose(twice, np.repeat(alone, 2, 0), rtol=1e-6)


def make_estimator(flags_obj, devices=("/cpu:0",)):
  labels = deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj).speech_labels
  return deep_speech.make_estimator(flags_obj, labels, devices)


def bind_input_fn(flags_obj, orders, num_replicas=1):
  chosen = deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj)
  return chosen, lambda: ordered_input_fn(flags_obj.batch_size, chosen, orders, num_replicas)


def test_predictions_are_consistent(tones_dir, tmp_path):
  flags_obj = runs.parse(*runs.arguments(tones_dir, str(tmp_path)))
  estimator = make_estimator(flags_obj)
  estimator.train(bind_input_fn(flags_obj, [range(8)])[1])
  for each in estimator.predict(bind_input_fn(flags_obj, [range(8)])[1]):
    np.testing.assert_allclose(np.exp(each["log_probs"]), each["probabilities"], atol=1e-6)
    np.testing.assert_array_equal(each["logits"].argmax(1), each["classes"])
    assert 0 < each["length"] <= len(each["logits"])


def mirrored(num_pairs: int, first: int = 0) -> list[int]:
  """Order utterances so that each global batch of four holds the same two twice: one pair a replica."""
  return [index for pair in range(first, first + num_pairs) for index in (2 * pair, 2 * pair + 1) * 2]


def test_two_replicas_equal_one(tones_dir, tmp_path):
  """Batch statistics are each replica's own: both replicas get the same two utterances, so that the statistics agree."""
  losses, values = [], []
  for devices in (["/cpu:0"], ["/cpu:0", "/cpu:1"]):
    model_dir = str(tmp_path / str(len(devices)))
    flags_obj = runs.parse(*runs.arguments(tones_dir, model_dir, "--batch_size=4"))
    estimator = make_estimator(flags_obj, devices)
    hooks = [progress.ProgressHook(len(devices)) for _ in range(2)]
    estimator.train(bind_input_fn(flags_obj, [mirrored(1)], len(devices))[1], hooks[:1])
    values.append({name: estimator.get_variable_value(name) for name in estimator.get_variable_names()})
    estimator.train(bind_input_fn(flags_obj, [mirrored(3, first=1)], len(devices))[1], hooks[1:])
    assert [hook.steps for hook in hooks] == [1, 3]
    losses.append([hook.mean_loss for hook in hooks])
  assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-6)
  # From the second step on the weights differ: Adam blows the rounding of vanishing gradients up to whole steps.
  assert losses[1][1] == pytest.approx(losses[0][1], rel=1e-3)
  assert set(values[0]) == set(values[1])
  # After one step Adam's first moment is a tenth of the gradient.
  for name, value in values[0].items():
    if name.endswith("/Adam") or "moving_mean" in name:
      assert np.linalg.norm(values[1][name] - value) <= 1e-3 * np.linalg.norm(value), name
    elif "moving_variance" in name:
      # The correction n / (n - 1) is that of a replica's own frames; n is above 4000 here.
      np.testing.assert_allclose(values[1][name], value, rtol=1 / 4000, err_msg=name)


@pytest.mark.parametrize(("num_replicas", "left_over"), [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)])
def test_every_utterance_counts_once_however_many_are_left_over(tones_dir, tmp_path, num_replicas, left_over):
  """The loss at frozen weights is the mean over the utterances of each global batch, whoever computes it."""
  batch_size = 2 * num_replicas
  devices = [f"/cpu:{number}" for number in range(num_replicas)]
  order = range(batch_size + left_over)
  options = ["--learning_rate=1e-12", f"--batch_size={batch_size}"]
  flags_obj = runs.parse(*runs.arguments(tones_dir, str(tmp_path), *options))
  estimator = make_estimator(flags_obj, devices)
  hook = progress.ProgressHook(num_replicas)
  estimator.train(bind_input_fn(flags_obj, [order], num_replicas)[1], hooks=[hook])
  assert hook.steps == 1 + -(-left_over // batch_size)
  assert estimator.get_variable_value("global_step") == hook.steps
  batches = list(
    generate_batches(
      batch_size, deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj), [order], num_replicas
    )
  )
  trained = [index for features, _ in batches for index in features["index"][features["weight"] > 0]]
  assert sorted(trained) == list(order)
  assert hook.mean_loss == pytest.approx(mean_loss(batches, estimator, num_replicas), rel=1e-3)


def mean_loss(batches, estimator, num_replicas: int) -> float:
  """Compute each replica's loss by the network's training mode, alone, and average as the run should."""
  losses = []
  for features, labels in batches:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      features = {key: tf.constant(value) for key, value in features.items()}
      spec = deep_speech.model_fn(features, tf.constant(labels), tf_estimator.ModeKeys.TRAIN, estimator.params)
      for variable in tf.compat.v1.trainable_variables():
        variable.load(estimator.get_variable_value(variable.op.name), session)
      losses.append(session.run(spec.loss))
  rounds = len(losses) // num_replicas
  return sum(losses) / num_replicas / rounds


def test_run_writes_rows_and_returns_the_test_results(tones_dir, tmp_path, capsys):
  model_dir = str(tmp_path / "model")
  options = [
    "--train_epochs=3",
    "--epochs_between_evals=2",
    f"--test_data_dir={tones_dir}/test.tsv",
    "--show_samples=3",
  ]
  results = deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, model_dir, *options)))
  rows = ModelDir(model_dir).evaluations()
  assert [row["epoch"] for row in rows] == [2, 3]
  assert [row["global_step"] for row in rows] == [6, 9]
  best = min(rows, key=lambda row: (row["WER"], row["CER"]))
  assert results["global_step"] == best["global_step"]
  assert [row["learning_rate"] for row in rows] == [0.0005, 0.0005]
  output = capsys.readouterr().out
  assert "epoch 2/3  loss" in output
  assert "stopped: 3 epochs are done, --train_epochs=3" in output
  which = f"epoch {best['epoch']}, the best of the evaluation set"
  assert f"test: WER {results['WER']:.4f}  CER {results['CER']:.4f}  ({which})\n" in output
  said = [entry.transcript for entry in manifest.read_manifest(f"{tones_dir}/test.tsv")]
  samples = re.findall(r"  said:  (.*)\n  heard: .*\n", output)
  assert len(set(samples)) == 3
  assert set(samples) <= set(said)


def test_the_test_set_is_scored_with_the_best_model_though_it_got_worse(tones_dir, tmp_path, capsys):
  model_dir, test_set = str(tmp_path / "model"), f"{tones_dir}/test.tsv"
  options = [*runs.arguments(tones_dir, model_dir, "--keep_exports=0"), f"--test_data_dir={test_set}"]
  deep_speech.run_deep_speech(runs.parse(*options, "--learning_rate=0.05"))
  # Such steps leave nothing of what was learned.
  worse = [*options, "--learning_rate=3", "--train_epochs=6"]
  results = deep_speech.run_deep_speech(runs.parse(*worse))
  first, *others = ModelDir(model_dir).evaluations()
  assert all((row["WER"], row["CER"]) > (first["WER"], first["CER"]) for row in others)
  # TensorFlow keeps five.
  assert not os.path.exists(f"{model_dir}/model.ckpt-3.index")
  assert results["global_step"] == first["global_step"] == 3
  assert capsys.readouterr().out.splitlines()[-1].endswith("(epoch 1, the best of the evaluation set)")
  in_mode = [f"--model_dir={model_dir}", f"--eval_data_dir={test_set}", "--num_gpus=0"]
  (row,) = deep_speech.evaluate_checkpoint(runs.parse("--mode=evaluate", "--checkpoint=best", *in_mode))
  assert row == {"manifest": test_set, **results}
  (row,) = deep_speech.evaluate_checkpoint(runs.parse("--mode=evaluate", *in_mode))
  assert row["global_step"] == 18
  folders = deep_speech.export_checkpoint(runs.parse("--mode=export", "--checkpoint=best", *in_mode))
  assert folders == [f"{model_dir}/export/last/3", f"{model_dir}/export/best/3"]
  # Whoever removes it still gets a result, and is told of what.
  shutil.rmtree(f"{model_dir}/best_checkpoint")
  capsys.readouterr()
  assert deep_speech.run_deep_speech(runs.parse(*worse))["global_step"] == 18
  told = "(the newest checkpoint; that of the best, epoch 1, is gone)"
  assert capsys.readouterr().out.splitlines()[-1].endswith(told)
  with pytest.raises(UserError, match="the checkpoint of the best evaluation is not there.*--checkpoint=best"):
    deep_speech.export_checkpoint(runs.parse("--mode=export", "--checkpoint=best", *in_mode))


SCHEDULED = ["--learning_rate_schedule=cosine", "--warmup_steps=2", "--clip_norm=5", "--learning_rate=0.01"]


@pytest.mark.parametrize(("metric", "key"), [("cer", "CER"), ("loss", "eval_loss")])
def test_the_best_model_goes_by_the_metric_asked_for(metric, key, tones_dir, tmp_path, capsys):
  model_dir, test_set = str(tmp_path / "model"), f"{tones_dir}/test.tsv"
  options = [f"--best_metric={metric}", "--train_epochs=4", "--learning_rate=0.02", f"--test_data_dir={test_set}"]
  results = deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, model_dir, *options)))
  rows = ModelDir(model_dir).evaluations()
  best = min(rows, key=lambda row: (row[key], row["WER"]))
  assert results["global_step"] == best["global_step"]
  assert f"(epoch {best['epoch']}, the best of the evaluation set)" in capsys.readouterr().out
  assert os.listdir(f"{model_dir}/export/best") == [str(best["global_step"])]
  # What was trained with this metric needs not be told again.
  in_mode = ["--mode=evaluate", "--checkpoint=best", f"--model_dir={model_dir}", f"--eval_data_dir={test_set}"]
  (row,) = deep_speech.evaluate_checkpoint(runs.parse(*in_mode, "--num_gpus=0"))
  assert row == {"manifest": test_set, **results}


def test_an_interrupted_run_follows_the_same_learning_rate(tones_dir, tmp_path):
  """The threshold ends the first run after an epoch; what is told apart is the weights to the last bit."""
  weights = {}
  for name, stops in {"at once": [], "in parts": ["--wer_threshold=1000"]}.items():
    options = [*runs.arguments(tones_dir, str(tmp_path / name), *SCHEDULED), "--train_epochs=3", "--keep_exports=0"]
    for more in [*([stops] if stops else []), []]:
      deep_speech.run_deep_speech(runs.parse(*options, *more))
    reader = tf.train.load_checkpoint(str(tmp_path / name))
    weights[name] = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    rates = [row["learning_rate"] for row in ModelDir(str(tmp_path / name)).evaluations()]
    expected = [0.01 * (1 + math.cos(math.pi * (step - 2) / 7)) / 2 for step in (2, 5, 8)]
    assert rates == pytest.approx(expected, rel=1e-4)
  for key, value in weights["at once"].items():
    np.testing.assert_array_equal(weights["in parts"][key], value, err_msg=key)
  # Neither option adds a variable: the run goes on without them, and with more epochs, along the new curve.
  options = [*runs.arguments(tones_dir, str(tmp_path / "in parts"), "--keep_exports=0"), "--train_epochs=4"]
  deep_speech.run_deep_speech(runs.parse(*options, "--learning_rate_schedule=cosine"))
  row = ModelDir(str(tmp_path / "in parts")).evaluations()[-1]
  assert row["learning_rate"] == pytest.approx(0.0005 * (1 + math.cos(math.pi * 11 / 12)) / 2, rel=1e-4)


def test_time_may_end_a_cycle_anywhere_and_training_goes_on_with_the_next_batch(tones_dir, tmp_path, capsys):
  """Each cycle is a step, as no step takes less time; in the end the weights are the same to the last bit."""
  weights = {}
  for name, options in {"at once": ["--epochs_between_evals=2"], "in parts": ["--eval_every_minutes=1e-9"]}.items():
    options += [*SCHEDULED, "--train_epochs=2", "--epoch_order=utterances", "--keep_exports=0"]
    deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, str(tmp_path / name), *options)))
    reader = tf.train.load_checkpoint(str(tmp_path / name))
    weights[name] = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
  for key, value in weights["at once"].items():
    np.testing.assert_array_equal(weights["in parts"][key], value, err_msg=key)
  model_dir = ModelDir(str(tmp_path / "in parts"))
  rows = model_dir.evaluations()
  assert [(row["epoch"], row["global_step"]) for row in rows] == list(
    zip([0.333, 0.666, 1, 1.333, 1.666, 2], range(1, 7), strict=True)
  )
  assert [round(row["utterances_per_second"] * row["train_seconds"]) for row in rows] == [8, 8, 6] * 2
  output = capsys.readouterr().out
  assert "epoch 0.333/2  loss" in output
  assert "epoch 2/2  loss" in output
  # The file says where epochs end, as it does for any other run.
  assert [model_dir.ends_epoch(epoch) for epoch in (1, 2)] == [False, True]
  assert model_dir.completed_epochs(3) == 2
  options = runs.arguments(tones_dir, str(tmp_path / "in parts"), "--train_epochs=3", "--keep_exports=0")
  deep_speech.run_deep_speech(runs.parse(*options))
  assert model_dir.evaluations()[-1]["epoch"] == 3


def test_a_threshold_met_within_an_epoch_ends_training_for_good(tones_dir, tmp_path, capsys):
  options = ["--eval_every_minutes=1e-9", "--wer_threshold=1000", "--train_epochs=5", "--keep_exports=0"]
  options = runs.arguments(tones_dir, str(tmp_path), *options)
  for _ in range(2):
    deep_speech.run_deep_speech(runs.parse(*options))
    assert "after epoch 0.333 is at or below the threshold 1000" in capsys.readouterr().out
  assert ModelDir(str(tmp_path)).global_step() == 1


def test_a_warm_up_longer_than_the_run_is_refused(tones_dir, tmp_path):
  options = runs.arguments(tones_dir, str(tmp_path / "model"), "--warmup_steps=3")
  with pytest.raises(UserError, match="--warmup_steps=3 leaves nothing of the 3 steps of the run"):
    deep_speech.run_deep_speech(runs.parse(*options))
  assert not (tmp_path / "model").exists()


def test_stops_at_the_threshold_and_stays_stopped(tones_dir, tmp_path, capsys):
  options = runs.arguments(tones_dir, str(tmp_path), "--train_epochs=5", "--wer_threshold=1000")
  deep_speech.run_deep_speech(runs.parse(*options))
  assert "after epoch 1 is at or below the threshold 1000" in capsys.readouterr().out
  deep_speech.run_deep_speech(runs.parse(*options))
  assert "after epoch 1 is at or below the threshold 1000" in capsys.readouterr().out
  assert ModelDir(str(tmp_path)).global_step() == 3


def test_resumes_with_the_next_epoch(tones_dir, tmp_path, capsys):
  for epochs in (1, 3):
    flags_obj = runs.parse(*runs.arguments(tones_dir, str(tmp_path), f"--train_epochs={epochs}"))
    deep_speech.run_deep_speech(flags_obj)
  assert "1 epochs are done already" in capsys.readouterr().out
  assert [row["epoch"] for row in ModelDir(str(tmp_path)).evaluations()] == [1, 2, 3]
  assert ModelDir(str(tmp_path)).global_step() == 9
  # What can be drawn again is not written.
  assert {path.stem for path in tmp_path.glob("*.index")} == {f"model.ckpt-{step}" for step in (3, 6, 9)}


def test_a_batch_that_the_devices_do_not_divide_is_refused(tones_dir, tmp_path):
  flags_obj = runs.parse(*runs.arguments(tones_dir, str(tmp_path), "--batch_size=7"))
  with pytest.raises(UserError, match="--batch_size=7 .*try --batch_size="):
    deep_speech.run_deep_speech(flags_obj, devices=["/cpu:0", "/cpu:1"])


def test_runs_from_end_to_end_on_three_replicas(tones_dir, tmp_path, capsys):
  flags_obj = runs.parse(*runs.arguments(tones_dir, str(tmp_path), "--batch_size=6"))
  deep_speech.run_deep_speech(flags_obj, devices=["/cpu:0", "/cpu:1", "/cpu:2"])
  assert "epoch 1/1  loss" in capsys.readouterr().out
  assert ModelDir(str(tmp_path)).global_step() == 4


def test_a_run_goes_on_with_another_number_of_replicas(tones_dir, tmp_path):
  for epochs, devices in enumerate((["/cpu:0", "/cpu:1"], ["/cpu:0"], ["/cpu:0", "/cpu:1"]), start=1):
    options = runs.arguments(tones_dir, str(tmp_path), f"--train_epochs={epochs}", "--keep_exports=0")
    deep_speech.run_deep_speech(runs.parse(*options), devices=devices)
  rows = ModelDir(str(tmp_path)).evaluations()
  assert [(row["epoch"], row["global_step"]) for row in rows] == [(1, 3), (2, 6), (3, 9)]


def test_a_network_that_came_to_nan_is_said(tones_dir, tmp_path):
  options = ["--batch_size=22", "--learning_rate=1e30"]
  with pytest.raises(UserError, match="NaN.*--learning_rate"):
    deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, str(tmp_path), *options)))


def test_a_faulty_file_met_while_training_is_named(tones_dir, tmp_path):
  faulty = tmp_path / "faulty.wav"
  faulty.write_text("no audio")
  manifest = tmp_path / "train.tsv"
  manifest.write_text(f"wav_filename\twav_filesize\ttranscript\n{faulty}\t64044\tabc\n")
  options = runs.arguments(tones_dir, str(tmp_path / "model"), f"--train_data_dir={manifest}")
  with pytest.raises(UserError, match="faulty.wav"):
    deep_speech.run_deep_speech(runs.parse(*options))


def test_batches_by_duration_half_precision_and_a_cache(tones_dir, tmp_path, capsys):
  options = ["--train_epochs=2", "--batch_seconds=8", "--dtype=bf16", "--loss_scale=dynamic"]
  options += ["--rnn_type=gru_reset_after", f"--feature_cache_dir={tmp_path / 'cache'}"]
  flags_obj = runs.parse(*runs.arguments(tones_dir, str(tmp_path / "model"), *options))
  deep_speech.run_deep_speech(flags_obj)
  rows = ModelDir(str(tmp_path / "model")).evaluations()
  assert [row["epoch"] for row in rows] == [1, 2]
  assert all(0 <= row["input_wait"] < 1 for row in rows)
  seconds = deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj).seconds
  batching = speech_dataset.Batching(seconds, 8, 8.0)
  assert rows[-1]["global_step"] == batching.num_batches(0) + batching.num_batches(1) > 2 * sum(seconds) / 8
  # The same run goes on with the scale that it had.
  flags_obj.train_epochs = 3
  deep_speech.run_deep_speech(flags_obj)
  assert "2 epochs are done already" in capsys.readouterr().out
  flags_obj.loss_scale = None
  flags_obj.train_epochs = 4
  with pytest.raises(
    UserError, match="holds loss_scale/current_loss_scale, .* give --optimizer.* --loss_scale as before"
  ):
    deep_speech.run_deep_speech(flags_obj)


def test_limits_are_for_training_alone(tones_dir, tmp_path, capsys):
  texts = [len(entry.transcript) for entry in manifest.read_manifest(f"{tones_dir}/train.tsv")]
  shortest, longest = sorted(texts)[5], sorted(texts)[-5]
  kept = sum(shortest <= length <= longest for length in texts)
  options = [f"--min_text_length={shortest}", f"--max_text_length={longest}", "--epoch_order=utterances"]
  options += [f"--test_data_dir={tones_dir}/test.tsv", "--train_epochs=2", "--batch_seconds=9", "--keep_exports=0"]
  deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, str(tmp_path / "model"), *options)))
  lines = capsys.readouterr().out.splitlines()
  assert [re.sub(" of .*,", ",", line) for line in lines[:3]] == [
    f"train: {kept} utterances, {22 - kept} left out",
    "eval: 6 utterances, 0 left out",
    "test: 5 utterances, 0 left out",
  ]
  flags_obj = runs.parse(*runs.arguments(tones_dir, str(tmp_path / "model"), *options))
  seconds = deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj).seconds
  batching = speech_dataset.Batching(seconds, 8, 9.0, order="utterances")
  row = ModelDir(str(tmp_path / "model")).evaluations()[-1]
  assert row["global_step"] == batching.num_batches(0) + batching.num_batches(1)
  too_short = runs.arguments(tones_dir, str(tmp_path / "none"), "--max_duration=0.1")
  with pytest.raises(UserError, match=r"all 22 utterances are left out.*lasts .* more than --max_duration=0\.1"):
    deep_speech.run_deep_speech(runs.parse(*too_short))


def test_a_kernel_that_cannot_be_had_is_refused(tones_dir, tmp_path):
  options = runs.arguments(tones_dir, str(tmp_path), "--rnn_kernel=cudnn")
  with pytest.raises(UserError, match="--rnn_kernel=cudnn .*--rnn_kernel=auto"):
    deep_speech.run_deep_speech(runs.parse(*options))


def test_lets_go_of_the_graph_of_each_cycle(tones_dir, tmp_path):
  def count_graphs():
    gc.collect()
    return sum(issubclass(type(each), tf.Graph) for each in gc.get_objects())

  before = count_graphs()
  options = runs.arguments(tones_dir, str(tmp_path / "model"), "--train_epochs=2")
  deep_speech.run_deep_speech(runs.parse(*options))
  assert count_graphs() == before


def test_evaluates_a_checkpoint_on_several_manifests(tones_dir, tones_model, capsys):
  paths = [f"{tones_dir}/{name}.tsv" for name in ("dev", "train", "test")]
  options = [f"--model_dir={tones_model}", f"--eval_data_dir={paths[0]}, {paths[1]}", f"--test_data_dir={paths[2]}"]
  flags_obj = runs.parse("--mode=evaluate", "--num_gpus=0", *options)
  rows = deep_speech.evaluate_checkpoint(flags_obj)
  assert [row["manifest"] for row in rows] == paths
  last = ModelDir(tones_model).evaluations()[-1]
  assert {key: rows[0][key] for key in ("WER", "CER", "global_step")} == {
    key: last[key] for key in ("WER", "CER", "global_step")
  }
  lines = capsys.readouterr().out.splitlines()
  assert [line.split(":")[0] for line in lines] == paths
  assert f"WER {rows[1]['WER']:.4f}  CER {rows[1]['CER']:.4f}  22 utterances" in lines[1]


def test_evaluation_by_mode_is_that_of_the_run(tones_dir, tmp_path):
  """With padding that counts, results depend on what shares a batch: as much as one of the devices of training is given."""
  devices = ["/cpu:0", "/cpu:1"]
  options = runs.arguments(tones_dir, str(tmp_path), "--nomask_padding", "--learning_rate=0.01", "--keep_exports=0")
  deep_speech.run_deep_speech(runs.parse(*options), devices)
  (row,) = deep_speech.evaluate_checkpoint(runs.parse(*options, "--mode=evaluate"), devices)
  (kept,) = ModelDir(str(tmp_path)).evaluations()
  keys = ("WER", "CER", "mean_WER", "mean_CER", "global_step")
  assert {key: row[key] for key in keys} == {key: kept[key] for key in keys}


def test_the_batch_size_need_not_suit_the_devices_where_seconds_replace_it(tones_dir, tmp_path):
  options = runs.arguments(tones_dir, str(tmp_path), "--batch_size=7", "--batch_seconds=9", "--keep_exports=0")
  deep_speech.run_deep_speech(runs.parse(*options), devices=["/cpu:0", "/cpu:1"])
  assert ModelDir(str(tmp_path)).evaluations()[0]["epoch"] == 1


def test_exports_any_checkpoint(tones_dir, tones_model, tmp_path):
  export_dir = str(tmp_path / "exports")
  options = ["--mode=export", f"--model_dir={tones_model}", f"--export_dir={export_dir}"]
  earlier = f"{tones_model}/model.ckpt-3"
  rows = ModelDir(tones_model).evaluations()
  best = min(rows, key=lambda row: (row["WER"], row["CER"]))["global_step"]
  folders = deep_speech.export_checkpoint(runs.parse(*options, f"--checkpoint={earlier}"))
  assert folders == [f"{export_dir}/last/3"] + ([f"{export_dir}/best/3"] if best == 3 else [])
  assert f"{export_dir}/last/9" in deep_speech.export_checkpoint(runs.parse(*options))
  # Nothing that is there is removed.
  assert sorted(os.listdir(f"{export_dir}/last")) == ["3", "9"]
  ours, theirs = (
    load_model(path).model.log_probs([np.zeros(RATE, np.float32)])[0] for path in (f"{export_dir}/last/9", tones_model)
  )
  np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mode", ["evaluate", "export"])
@pytest.mark.parametrize(
  ("option", "message"),
  [
    ("--model_dir=/nowhere", "/nowhere: no checkpoint is there"),
    ("--checkpoint=/nowhere/model.ckpt-1", "/nowhere/model.ckpt-1: no checkpoint is there"),
    ("--rnn_hidden_size=9", "trained with --rnn_hidden_size=8, but --rnn_hidden_size=9"),
  ],
)
def test_refuses_what_is_no_checkpoint_of_these_flags(mode, option, message, tones_dir, tones_model):
  options = [
    f"--mode={mode}",
    f"--model_dir={tones_model}",
    f"--eval_data_dir={tones_dir}/dev.tsv",
    "--num_gpus=0",
    option,
  ]
  run = {"evaluate": deep_speech.evaluate_checkpoint, "export": deep_speech.export_checkpoint}[mode]
  with pytest.raises(UserError, match=message):
    run(runs.parse(*options))


def test_each_cycle_exports_the_last_model_and_the_best(tones_dir, tones_model, tmp_path):
  rows = ModelDir(tones_model).evaluations()
  best = min(rows, key=lambda row: (row["WER"], row["CER"]))["global_step"]
  assert os.listdir(f"{tones_model}/export/last") == [str(rows[-1]["global_step"])]
  assert os.listdir(f"{tones_model}/export/best") == [str(best)]
  options = runs.arguments(tones_dir, str(tmp_path / "model"), "--keep_exports=0")
  deep_speech.run_deep_speech(runs.parse(*options))
  assert not os.path.exists(tmp_path / "model" / "export")


def test_training_takes_no_checkpoint(tones_dir, tmp_path):
  with pytest.raises(UserError, match="--checkpoint is for --mode=evaluate"):
    deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, str(tmp_path), "--checkpoint=somewhere")))


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_a_damaged_checkpoint_is_said(mode, suffix, tones_dir, tones_model, tmp_path):
  model_dir = str(tmp_path / "model")
  shutil.copytree(tones_model, model_dir)
  with open(f"{model_dir}/model.ckpt-9.{suffix}", "r+b") as file:
    file.truncate(os.path.getsize(file.name) // 2)
  options = [f"--mode={mode}", f"--model_dir={model_dir}", f"--eval_data_dir={tones_dir}/dev.tsv", "--num_gpus=0"]
  run = {"evaluate": deep_speech.evaluate_checkpoint, "export": deep_speech.export_checkpoint}[mode]
  with pytest.raises(UserError, match="model.ckpt-9.* is damaged") as caught:
    run(runs.parse(*options))
  assert "\n" not in str(caught.value)


def test_training_says_what_evaluation_does_not_read(tones_dir, tones_model, tmp_path):
  model_dir = str(tmp_path / "model")
  shutil.copytree(tones_model, model_dir)
  data_file = tmp_path / "model" / "model.ckpt-9.data-00000-of-00001"
  content = bytearray(data_file.read_bytes())
  reader = tf.train.load_checkpoint(f"{model_dir}/model.ckpt-9")
  name = next(name for name in reader.get_variable_to_shape_map() if name.endswith("dense/kernel/Adam"))
  start = content.index(reader.get_tensor(name).tobytes())
  content[start] ^= 1
  data_file.write_bytes(content)
  options = runs.arguments(tones_dir, model_dir, "--train_epochs=9")
  with pytest.raises(UserError, match="model.ckpt-9 is damaged"):
    deep_speech.run_deep_speech(runs.parse(*options))


@pytest.mark.parametrize("option", ["--rnn_kernel=cudnn", "--export_dir=/proc/nowhere"])
def test_what_is_refused_cleans_nothing(option, tones_dir, tones_model, tmp_path):
  model_dir = str(tmp_path / "model")
  shutil.copytree(tones_model, model_dir)
  there = sorted(os.listdir(model_dir))
  with pytest.raises(UserError, match=option.split("=")[0]):
    deep_speech.run_deep_speech(runs.parse(*runs.arguments(tones_dir, model_dir, "--clean", option)))
  assert sorted(os.listdir(model_dir)) == there


def test_all_manifests_are_checked_before_the_first_is_scored(tones_dir, tones_model, capsys):
  options = ["--mode=evaluate", f"--model_dir={tones_model}", "--num_gpus=0"]
  with pytest.raises(UserError, match="nowhere.tsv"):
    deep_speech.evaluate_checkpoint(runs.parse(*options, f"--eval_data_dir={tones_dir}/dev.tsv,nowhere.tsv"))
  assert capsys.readouterr().out == ""


def test_half_precision_with_a_loss_scale_is_evaluated_and_exported(tones_dir, tmp_path):
  model_dir = str(tmp_path / "model")
  options = runs.arguments(tones_dir, model_dir, "--dtype=bf16", "--loss_scale=dynamic", "--keep_exports=0")
  deep_speech.run_deep_speech(runs.parse(*options))
  # Not --model_dir, but a checkpoint by the name of one of its files.
  option = f"--checkpoint={model_dir}/model.ckpt-3.index"
  scored = ["--mode=evaluate", option, f"--eval_data_dir={tones_dir}/dev.tsv", "--num_gpus=0"]
  (row,) = deep_speech.evaluate_checkpoint(runs.parse(*scored))
  assert row["global_step"] == 3
  assert deep_speech.export_checkpoint(runs.parse("--mode=export", option))[0] == f"{model_dir}/export/last/3"


def test_an_export_dir_that_cannot_be_is_said_before_training(tones_dir, tmp_path):
  (tmp_path / "file").write_text("")
  options = runs.arguments(tones_dir, str(tmp_path / "model"), f"--export_dir={tmp_path}/file/exports")
  with pytest.raises(UserError, match="choose another --export_dir"):
    deep_speech.run_deep_speech(runs.parse(*options))
  assert not list((tmp_path / "model").glob("*.index"))


def test_no_manifest_to_evaluate_is_said(tones_model):
  with pytest.raises(UserError, match="names no manifest"):
    deep_speech.evaluate_checkpoint(
      runs.parse("--mode=evaluate", f"--model_dir={tones_model}", "--eval_data_dir=,", "--num_gpus=0")
    )
