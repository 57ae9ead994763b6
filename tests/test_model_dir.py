"""Tries the model_dir: what it refuses, and how epochs are counted from what the checkpoint holds."""

import json
import os

import fixture_files
import pytest

from data.vocabulary import DEFAULT_VOCABULARY
from inference import LABELS_FILE
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import (
  SETTINGS_FILE,
  STATISTICS_FILE,
  FeatureStatistics,
  ModelSettings,
  make_settings,
  read_settings,
  read_statistics,
)
from training import model_dir as run_folder
from training.model_dir import ModelDir

VOCABULARY = " abc-"
SETTINGS = {"rnn_type": "gru", "rnn_hidden_size": 8, "is_bidirectional": True, "sample_rate": 16000}
OTHERS = {"rnn_type": "lstm", "rnn_hidden_size": 9, "is_bidirectional": False, "sample_rate": 8000}


def save_global_step(path, step: int):
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    variable = tf.compat.v1.train.get_or_create_global_step()
    variable.load(step, session)
    tf.compat.v1.train.Saver().save(session, os.path.join(path, "model.ckpt"), global_step=step)


def prepare(path, settings=SETTINGS, vocabulary=VOCABULARY, flags=None) -> ModelDir:
  model_dir = ModelDir(str(path))
  model_dir.prepare(flags or {}, make_settings(settings), vocabulary, lambda: {"global_step": []})
  return model_dir


def test_prepare_writes_what_a_reader_needs(tmp_path):
  path = tmp_path / "new" / "dir"
  prepare(path, flags={"seed": 3})
  assert json.loads((path / run_folder.FLAGS_FILE).read_text()) == {"seed": 3}
  assert read_settings(str(path / SETTINGS_FILE)) == make_settings(SETTINGS)
  assert (path / LABELS_FILE).read_text() == " \na\nb\nc\n-\n"
  assert {*run_folder.MARKER_FILES, run_folder.LOCK_FILE} == set(os.listdir(path))


@pytest.mark.parametrize("name", list(SETTINGS))
def test_another_setting_is_refused_naming_both(tmp_path, name):
  prepare(tmp_path)
  save_global_step(tmp_path, 1)
  prepare(tmp_path)
  with pytest.raises(UserError, match=rf"--{name}={SETTINGS[name]}.*--{name}={OTHERS[name]}"):
    prepare(tmp_path, SETTINGS | {name: OTHERS[name]})


def test_another_vocabulary_is_refused_naming_both(tmp_path):
  prepare(tmp_path)
  save_global_step(tmp_path, 1)
  with pytest.raises(UserError, match="' abc-', but ' abd-'"):
    prepare(tmp_path, vocabulary=" abd-")


def test_a_run_that_failed_before_its_first_checkpoint_binds_nobody(tmp_path):
  prepare(tmp_path)
  prepare(tmp_path, SETTINGS | {"rnn_type": "lstm"}, " abd-")
  assert read_settings(str(tmp_path / SETTINGS_FILE)).network.rnn_type == "lstm"


@pytest.mark.parametrize("content", ["{", "[]", "\x80"])
def test_a_damaged_settings_file_is_named(tmp_path, content):
  save_global_step(tmp_path, 1)
  (tmp_path / SETTINGS_FILE).write_text(content)
  with pytest.raises(UserError, match="settings.json is damaged"):
    prepare(tmp_path)


def test_damaged_records_are_named(tmp_path):
  model_dir = ModelDir(str(tmp_path))
  for line in ("{", "[]", '{"WER": 1}'):
    (tmp_path / run_folder.EVAL_FILE).write_text('{"epoch": 1, "WER": 1}\n' + line + "\n")
    with pytest.raises(UserError, match="eval.jsonl, line 2"):
      model_dir.evaluations()
  for content in ("{}", '{"epoch_ends": 3}', '{"epoch_ends": ["1"]}'):
    (tmp_path / run_folder.PROGRESS_FILE).write_text(content)
    with pytest.raises(UserError, match="progress.json has no list"):
      model_dir.completed_epochs(10)


def test_a_checkpoint_that_is_gone_is_an_error_and_no_new_beginning(tmp_path):
  save_global_step(tmp_path, 7)
  model_dir = ModelDir(str(tmp_path))
  (tmp_path / "model.ckpt-7.data-00000-of-00001").write_bytes(b"")
  with pytest.raises(UserError, match="model.ckpt-7 is damaged or gone"):
    model_dir.global_step()
  (tmp_path / "model.ckpt-7.index").unlink()
  with pytest.raises(UserError, match="model.ckpt-7 is damaged or gone.*older one"):
    model_dir.global_step()


@pytest.mark.parametrize("content", [None, "", "garbage"])
def test_checkpoints_of_which_none_is_named_are_no_new_beginning(content, tmp_path):
  save_global_step(tmp_path, 7)
  (tmp_path / "checkpoint").unlink()
  if content is not None:
    (tmp_path / "checkpoint").write_text(content)
  with pytest.raises(UserError, match=r"checkpoint, which names .* missing or damaged.*path: \"model.ckpt-7\""):
    prepare(tmp_path)
  # The remedy that is named.
  (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"')
  assert ModelDir(str(tmp_path)).global_step() == 7


def test_a_file_is_no_model_dir(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write into .*file.*--model_dir"):
    prepare(tmp_path / "file")


def test_epochs_follow_the_checkpoint(tmp_path):
  model_dir = ModelDir(str(tmp_path))
  assert model_dir.completed_epochs(10) == 0
  model_dir.plan_epochs(0, [10, 10])
  assert model_dir.completed_epochs(10) == 0
  save_global_step(tmp_path, 9)
  assert model_dir.completed_epochs(10) == 0
  # The interrupted epoch starts again and now ends later.
  model_dir.plan_epochs(0, [10, 10])
  save_global_step(tmp_path, 19)
  assert model_dir.completed_epochs(10) == 1
  assert model_dir.ends_epoch(1)
  save_global_step(tmp_path, 22)
  assert not model_dir.ends_epoch(1)
  save_global_step(tmp_path, 29)
  assert model_dir.completed_epochs(10) == 2
  assert model_dir.ends_epoch(2)
  # Another batch size changes what comes, not what was.
  assert model_dir.completed_epochs(5) == 2
  model_dir.plan_epochs(2, [5])
  save_global_step(tmp_path, 34)
  assert model_dir.completed_epochs(5) == 3


def test_epochs_of_a_checkpoint_without_our_files(tmp_path):
  save_global_step(tmp_path, 25)
  model_dir = ModelDir(str(tmp_path))
  assert model_dir.global_step() == 25
  assert model_dir.completed_epochs(10) == 2
  model_dir.plan_epochs(2, [10])
  assert model_dir.completed_epochs(10) == 2
  save_global_step(tmp_path, 35)
  assert model_dir.completed_epochs(10) == 3


def test_evaluations(tmp_path):
  model_dir = ModelDir(str(tmp_path))
  assert model_dir.evaluations() == []
  rows = [{"epoch": 1, "WER": 0.5}, {"epoch": 2, "WER": 0.25}, {"epoch": 2, "WER": 0.125}]
  for row in rows:
    model_dir.append_evaluation(row)
  assert model_dir.evaluations() == rows
  assert model_dir.evaluation_after(2) == rows[2]
  assert model_dir.evaluation_after(3) is None
  # Within an epoch, and not later than the newest checkpoint.
  for epoch, step in ((2.25, 9), (2.5, 10), (2.75, 11)):
    model_dir.append_evaluation({"epoch": epoch, "WER": 0.5, "global_step": step})
  assert model_dir.evaluation_after(2) == rows[2]
  save_global_step(tmp_path, 10)
  assert model_dir.evaluation_after(2)["epoch"] == 2.5
  assert model_dir.evaluation_after(1) == rows[0]


def test_the_best_checkpoint_is_kept_whole(tmp_path):
  model_dir = ModelDir(str(tmp_path))
  assert (model_dir.best_evaluation(), model_dir.best_step(), model_dir.best_checkpoint()) == ({}, None, None)
  for step, wer in ((5, 0.5), (7, 0.25), (9, 0.25)):
    save_global_step(tmp_path, step)
    model_dir.append_evaluation({"epoch": step, "WER": wer, "global_step": step})
    if step < 9:
      model_dir.keep_best(f"{tmp_path}/model.ckpt-{step}")
  kept = f"{tmp_path}/best_checkpoint/model.ckpt-7"
  assert (model_dir.best_evaluation()["epoch"], model_dir.best_checkpoint()) == (7, kept)
  assert sorted(os.listdir(tmp_path / "best_checkpoint")) == [
    "model.ckpt-7.data-00000-of-00001",
    "model.ckpt-7.index",
  ]
  # A second name for the data, which takes no room.
  data = ".data-00000-of-00001"
  assert os.path.samefile(f"{kept}{data}", f"{tmp_path}/model.ckpt-7{data}")
  # Another checkpoint of the same step, or none, leaves it as it is.
  save_global_step(tmp_path, 7)
  for path in tmp_path.glob("model.ckpt-7.*"):
    path.write_bytes(b"")
  assert model_dir.global_step(kept) == 7
  # What is not kept may still be among TensorFlow's own; what is left of an unfinished one is removed in time.
  os.rename(tmp_path / "best_checkpoint", tmp_path / ".unfinished-1")
  assert model_dir.best_checkpoint() == f"{tmp_path}/model.ckpt-7"
  for path in tmp_path.glob("model.ckpt-7.*"):
    path.unlink()
  assert model_dir.best_checkpoint() is None
  os.utime(tmp_path / ".unfinished-1", (0, 0))
  save_global_step(tmp_path, 9)
  prepare(tmp_path)
  assert not os.path.exists(tmp_path / ".unfinished-1")


ROWS = [
  {"epoch": 1, "WER": 0.5, "CER": 0.1, "eval_loss": 9.0, "global_step": 10},
  {"epoch": 2, "WER": 0.4, "CER": 0.3, "eval_loss": 8.0, "global_step": 20},
  {"epoch": 3, "WER": 0.4, "CER": 0.2, "eval_loss": 8.5, "global_step": 30},
  {"epoch": 4, "WER": 0.6, "CER": 0.1, "eval_loss": 7.0, "global_step": 40},
]


@pytest.mark.parametrize(("metric", "bests"), [("wer", [10, 20, 30]), ("cer", [10]), ("loss", [10, 20, 40])])
def test_the_best_goes_by_what_the_run_was_trained_with(metric, bests, tmp_path):
  model_dir = ModelDir(str(tmp_path), metric)
  model_dir.prepare({"best_metric": metric}, make_settings(SETTINGS), VOCABULARY, dict)
  found = []
  for row in ROWS:
    if model_dir.is_best(row):
      found.append(row["global_step"])
    model_dir.append_evaluation(row)
  assert found == bests
  assert model_dir.best_step() == bests[-1]
  # The folder itself tells whoever comes later.
  assert ModelDir(str(tmp_path)).best_step() == bests[-1]


def test_a_row_of_an_earlier_version_is_never_the_best_by_a_number_that_it_lacks(tmp_path):
  old = {"epoch": 1, "WER": 0.1, "CER": 0.1, "global_step": 10}
  ModelDir(str(tmp_path)).append_evaluation(old)
  # Nothing says what the run went by.
  assert ModelDir(str(tmp_path)).best_step() == 10
  assert ModelDir(str(tmp_path), "loss").is_best(ROWS[0])
  prepare(tmp_path, flags={"seed": 3})
  assert not ModelDir(str(tmp_path)).is_best(ROWS[0])


@pytest.mark.parametrize("content", ["{", "[]", '{"best_metric": "luck"}'])
def test_a_folder_that_does_not_say_what_is_best_is_named_only_to_who_asks(content, tmp_path):
  model_dir = ModelDir(str(tmp_path))
  (tmp_path / run_folder.FLAGS_FILE).write_text(content)
  assert model_dir.global_step() == 0
  with pytest.raises(UserError, match="flags.json names no best_metric of wer, cer, loss; restore it or remove it"):
    model_dir.best_step()


@pytest.mark.parametrize("folder", ["model", "/models/1", ""])
def test_a_checkpoint_belongs_to_a_run(folder):
  assert run_folder.run_of(os.path.join(folder, "model.ckpt-7")).path == folder
  assert run_folder.run_of(os.path.join(folder, "best_checkpoint", "model.ckpt-7")).path == folder


def test_a_checkpoint_is_checked_against_the_network(tmp_path):
  fixture_files.copy_checkpoint(tmp_path)
  model_dir = ModelDir(str(tmp_path))
  shapes = dict(tf.train.list_variables(str(tmp_path)))
  for name, shape, message in [
    ("dense/kernel", [32, 29], r"dense/kernel is \[16, 29\] there and \[32, 29\] here"),
    ("dense/bias", None, r"dense/bias is \[29\] there and absent here"),
    ("new/kernel", [1], r"new/kernel is absent there and \[1\] here"),
  ]:
    wanted = {key: value for key, value in (shapes | {name: shape}).items() if value is not None}
    with pytest.raises(UserError, match=message):
      model_dir.prepare({}, ModelSettings(), VOCABULARY, lambda wanted=wanted: wanted)
    # A refusal leaves nothing behind that a second try would stumble over.
    assert not os.path.exists(tmp_path / SETTINGS_FILE)
  model_dir.prepare({}, ModelSettings(), VOCABULARY, lambda: shapes)
  assert model_dir.global_step() == 4


def test_the_vocabulary_beside_a_checkpoint_is_its_own(tmp_path):
  fixture_files.copy_checkpoint(tmp_path)
  original = " abcdefghijklmnopqrstuvwxyz'-"
  (tmp_path / LABELS_FILE).write_text("".join(f"{label}\n" for label in original.replace("x", "ß")))
  given = {"rnn_hidden_layers": 1, "rnn_hidden_size": 8}
  checkpoint, settings, labels = run_folder.find_checkpoint(str(tmp_path), None, given, None, DEFAULT_VOCABULARY)
  assert checkpoint.endswith("model.ckpt-4")
  model_dir = ModelDir(str(tmp_path))
  model_dir.append_evaluation({"epoch": 1, "WER": 0.5, "global_step": 4})
  model_dir.keep_best(checkpoint)
  best = run_folder.find_checkpoint(str(tmp_path), "best", given, None, DEFAULT_VOCABULARY)
  assert best == (f"{tmp_path}/best_checkpoint/model.ckpt-4", settings, labels)
  assert settings == make_settings(given)
  assert "".join(labels) == original.replace("x", "ß")
  with pytest.raises(UserError, match="was trained with the vocabulary"):
    run_folder.find_checkpoint(str(tmp_path), None, given, DEFAULT_VOCABULARY, DEFAULT_VOCABULARY)
  (tmp_path / LABELS_FILE).unlink()
  assert "".join(run_folder.find_checkpoint(str(tmp_path), None, given, None, DEFAULT_VOCABULARY)[2]) == original


def test_a_checkpoint_of_a_larger_network_is_refused(tmp_path):
  fixture_files.copy_checkpoint(tmp_path)
  given = {"rnn_hidden_layers": 1, "rnn_hidden_size": 8, "use_bias": False}
  with pytest.raises(UserError, match=r"dense/bias is \[29\] there and absent here; set --vocabulary_file"):
    run_folder.find_checkpoint(str(tmp_path), None, given, None, DEFAULT_VOCABULARY)


def test_a_checkpoint_without_what_training_keeps_is_no_beginning(tmp_path):
  save_global_step(tmp_path, 3)
  wanted = {"global_step": [], "beta1_power": []}
  with pytest.raises(UserError, match="model.ckpt-3 lacks beta1_power, which training keeps"):
    ModelDir(str(tmp_path)).prepare({}, ModelSettings(), VOCABULARY, lambda: wanted)


def test_statistics_of_features_are_measured_once(tmp_path):
  settings = make_settings(SETTINGS | {"feature_norm": "corpus"})
  measured = iter([FeatureStatistics((1.0,), (2.0,)), FeatureStatistics((3.0,), (4.0,))])
  model_dir = prepare(tmp_path, SETTINGS | {"feature_norm": "corpus"})

  def statistics():
    return model_dir.with_statistics(settings, VOCABULARY, lambda: next(measured)).statistics

  assert statistics().mean == (1,)
  # Without a checkpoint the run begins anew, perhaps with another training set.
  assert statistics().mean == (3,)
  save_global_step(tmp_path, 1)
  assert statistics() == read_statistics(str(tmp_path / STATISTICS_FILE)) == FeatureStatistics((3.0,), (4.0,))
  (tmp_path / STATISTICS_FILE).unlink()
  with pytest.raises(UserError, match=f"{STATISTICS_FILE}: cannot be read .* restore it"):
    statistics()


def test_a_checkpoint_without_settings_needs_its_statistics_all_the_same(tmp_path):
  fixture_files.copy_checkpoint(tmp_path)
  given = {"rnn_hidden_layers": 1, "rnn_hidden_size": 8, "feature_norm": "corpus"}
  with pytest.raises(UserError, match=f"{STATISTICS_FILE}: cannot be read"):
    run_folder.find_checkpoint(str(tmp_path), None, given, None, DEFAULT_VOCABULARY)


def test_the_rows_on_the_way_to_the_newest_checkpoint(tmp_path):
  model_dir = ModelDir(str(tmp_path))
  assert model_dir.evaluations_so_far() == []
  steps = [10, 20, 30, 20, 30, 40]
  for number, step in enumerate(steps):
    model_dir.append_evaluation({"epoch": step // 10, "WER": number, "global_step": step})
  for newest, numbers in ((5, []), (10, [0]), (29, [0, 3]), (30, [0, 3, 4]), (40, [0, 3, 4, 5])):
    save_global_step(tmp_path, newest)
    assert [row["WER"] for row in model_dir.evaluations_so_far()] == numbers


def test_too_few_checkpoints_for_a_mean_are_said(tmp_path):
  save_global_step(tmp_path, 3)
  with pytest.raises(UserError, match="holds 1 checkpoints, fewer than --average_checkpoints=2; lower it"):
    ModelDir(str(tmp_path)).average(2, ["global_step"])


def test_a_mean_belongs_to_its_run_and_is_not_the_best(tmp_path):
  save_global_step(tmp_path, 3)
  model_dir, checkpoint = ModelDir(str(tmp_path)), f"{tmp_path}/model.ckpt-3"
  mean = model_dir.average(1, [])
  assert mean == f"{tmp_path}/averaged_checkpoint/model.ckpt-3"
  assert run_folder.run_of(mean).path == str(tmp_path)
  assert model_dir.holds_best(checkpoint) and model_dir.holds_best(mean)
  model_dir.append_evaluation({"epoch": 1, "WER": 0.5, "global_step": 3})
  assert model_dir.holds_best(checkpoint) and not model_dir.holds_best(mean)
  model_dir.append_evaluation({"epoch": 2, "WER": 0.25, "global_step": 5})
  assert not model_dir.holds_best(checkpoint)
