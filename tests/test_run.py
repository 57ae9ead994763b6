"""Tries the run loop: cycles, their ends, and going on."""

import pytest
import runs

import deep_speech
from training.run import _end_cycle


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
  import speech_flags
  from decoder import GreedyDecoder
  from training.run import Options, Run

  flags_obj = runs.parse(*options)
  return Run(
    Options(**speech_flags.plain_values(flags_obj, Options)),
    speech_flags.model_settings(flags_obj),
    lambda path, is_training: deep_speech.generate_dataset(path, flags_obj, is_training),
    lambda labels: deep_speech.make_estimator(flags_obj, labels, ["/cpu:0"]),
    GreedyDecoder,
    1,
  )


def test_making_a_run_writes_nothing(tones_dir, tmp_path, capsys):
  run = make_run(runs.arguments(tones_dir, str(tmp_path / "model")))
  assert run.labels[-1] == "-"
  assert "train: 22 utterances of" in capsys.readouterr().out
  assert not list(tmp_path.iterdir())
