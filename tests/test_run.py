"""Tries the run loop: cycles, their ends, and going on."""

import functools

import pytest
import runs

import deep_speech
import speech_flags
from decoder import GreedyDecoder
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import ModelSettings
from training.run import Options, Run, _end_cycle


def test_actions_are_done_in_order_and_make_the_row():
  def first(cycle):
    cycle.row["seen"] = [cycle.epoch]

  def second(cycle):
    cycle.row["seen"].append(len(cycle.row))

  assert _end_cycle(4, {"loss": 2.0}, [first, second]) == {"epoch": 4, "loss": 2.0, "seen": [4, 3]}


@pytest.mark.parametrize(
  ("cycle", "total", "starts"), [(1, 3, [0, 1, 2]), (2, 5, [0, 2, 4]), (3, 7, [0, 3, 6]), (4, 4, [0]), (9, 4, [0])]
)
def test_cycles_end_at_whole_multiples(cycle, total, starts, tones_dir, tmp_path):
  options = runs.arguments(tones_dir, str(tmp_path), f"--train_epochs={total}", f"--epochs_between_evals={cycle}")
  run = make_run(options)
  epoch, found = 0, []
  while epoch < total:
    found.append(epoch)
    epoch = run._next_epochs(epoch).stop
  assert found == starts
  # Also after a run that stopped elsewhere.
  assert run._next_epochs(1).stop == min(total, max(cycle, 2) if cycle > 1 else 2)


def make_run(options):
  """Make the run that a command line asks for, and nothing of it yet."""
  flags_obj = runs.parse(*options)
  return Run(
    Options(**speech_flags.plain_values(flags_obj, Options)),
    speech_flags.model_settings(flags_obj),
    lambda path, is_training: deep_speech.generate_dataset(path, flags_obj, is_training),
    functools.partial(deep_speech.make_estimator, flags_obj, devices=["/cpu:0"]),
    GreedyDecoder,
    1,
  )


def test_the_steps_of_a_run_are_those_done_and_those_to_come(tones_dir, tmp_path):
  model_dir = str(tmp_path / "model")
  options = runs.arguments(tones_dir, model_dir, "--train_epochs=4")
  assert make_run(options).count_steps() == 4 * 3
  run = make_run(options)
  run.model_dir.prepare({}, ModelSettings(), run.labels, dict)
  run.model_dir.plan_epochs(0, [3, 3])
  # The second epoch was cut off after one batch, and is trained anew.
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.train.get_or_create_global_step().load(4, session)
    tf.compat.v1.train.Saver().save(session, f"{model_dir}/model.ckpt", global_step=4)
  assert run.count_steps() == 4 + 3 * 3
  assert make_run([*options, "--clean"]).count_steps() == 4 * 3
  # By duration, epochs differ in their number of batches.
  run = make_run([*options, "--batch_seconds=8", "--clean"])
  assert run.count_steps() == sum(run._batching.num_batches(epoch) for epoch in range(4))


def test_making_a_run_writes_nothing(tones_dir, tmp_path, capsys):
  run = make_run(runs.arguments(tones_dir, str(tmp_path / "model")))
  assert run.labels[-1] == "-"
  assert "train: 22 utterances of" in capsys.readouterr().out
  assert not list(tmp_path.iterdir())


def test_a_vocabulary_without_a_blank_begins_no_training_and_goes_on(tones_dir, tmp_path):
  vocabulary = tmp_path / "v.txt"
  vocabulary.write_text("".join(f"{letter}\n" for letter in " -'abcdefghijklmnopqrstuvwxyz"))
  options = runs.arguments(tones_dir, str(tmp_path / "model"), f"--vocabulary_file={vocabulary}", "--on_unknown=drop")
  with pytest.raises(UserError, match="v.txt: the last line is 'z'"):
    deep_speech.run_deep_speech(runs.parse(*options))
  run = make_run(options)
  run.model_dir.prepare({}, ModelSettings(), run.labels, dict)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.train.get_or_create_global_step().load(3, session)
    tf.compat.v1.train.Saver().save(session, str(tmp_path / "model" / "model.ckpt"), global_step=3)
  # What was trained with it before the rule was made may go on: the next thing that is looked at is the network.
  with pytest.raises(UserError, match="was trained with --rnn_hidden_layers=5"):
    deep_speech.run_deep_speech(runs.parse(*options))
