"""Tries what happens at the end of a cycle."""

import pytest
import sessions

import scoring
from official_utils.logs import logger
from training import actions
from training.actions import Cycle
from training.evaluation import Evaluation
from training.model_dir import ModelDir

EVALUATION = Evaluation(scoring.score(["a b", "c d"], ["a b", "c"]), 2.5, 70)


def test_an_evaluation_adds_its_numbers_and_its_time():
  cycle = Cycle(3, {"epoch": 3, "loss": 1.5})
  actions.evaluate(lambda: EVALUATION)(cycle)
  assert cycle.evaluation is EVALUATION
  rates = ["WER", "CER", "mean_WER", "mean_CER"]
  assert list(cycle.row) == ["epoch", "loss", *rates, "eval_loss", "global_step", "eval_seconds"]
  assert (cycle.row["WER"], cycle.row["global_step"]) == (0.25, 70)
  assert cycle.row["eval_seconds"] >= 0


@pytest.mark.parametrize(("earlier", "is_best"), [([], True), ([0.2], False), ([0.3], True)])
def test_an_export_knows_whether_it_is_the_best(earlier, is_best, tmp_path):
  def publish(checkpoint, step, is_best):
    published.append((checkpoint, step, is_best))

  published = []
  model_dir = ModelDir(str(tmp_path))
  for wer in earlier:
    model_dir.append_evaluation({"epoch": 1, "WER": wer})
  cycle = Cycle(2, {"epoch": 2, **EVALUATION.results()})
  actions.export(lambda: "model.ckpt-70", model_dir, None)(cycle)
  assert not published
  actions.export(lambda: "model.ckpt-70", model_dir, publish)(cycle)
  assert published == [("model.ckpt-70", 70, is_best)]


def test_only_the_best_checkpoint_is_kept(tmp_path):
  def latest():
    for kind in ("index", "data-00000-of-00001"):
      (tmp_path / f"model.ckpt-{step}.{kind}").write_text(str(step))
    return str(tmp_path / f"model.ckpt-{step}")

  model_dir, kept = ModelDir(str(tmp_path)), []
  for step, wer in ((10, 0.5), (20, 0.25), (30, 0.25), (40, 0.125)):
    cycle = Cycle(step // 10, {"epoch": step // 10, "global_step": step, "WER": wer})
    actions.keep_best(latest, model_dir)(cycle)
    actions.keep_row(model_dir)(cycle)
    kept.append(model_dir.best_checkpoint())
  assert kept == [f"{tmp_path}/best_checkpoint/model.ckpt-{step}" for step in (10, 20, 20, 40)]


def test_a_row_is_kept(tmp_path):
  actions.keep_row(ModelDir(str(tmp_path)))(Cycle(1, {"epoch": 1, "WER": 0.5}))
  assert ModelDir(str(tmp_path)).evaluations() == [{"epoch": 1, "WER": 0.5}]


@pytest.mark.parametrize(
  ("training", "line"),
  [
    ({}, "epoch 3/9  WER 0.2500  CER 0.3333"),
    (
      {"loss": 1.23456, "utterances_per_second": 7.77, "input_wait": 0.01},
      "epoch 3/9  loss 1.235  7.8 utterances/s  WER 0.2500  CER 0.3333",
    ),
    (
      {"loss": 1.0, "utterances_per_second": 7.0, "input_wait": 0.5},
      "epoch 3/9  loss 1.000  7.0 utterances/s (50% of the time waiting for input)  WER 0.2500  CER 0.3333",
    ),
  ],
)
def test_a_line_tells_of_the_cycle(training, line, capsys):
  actions.print_line(9)(Cycle(3, {**training, **EVALUATION.results()}))
  assert capsys.readouterr().out == f"{line}\n"


def test_the_benchmark_logger_gets_the_rates(tmp_path):
  actions.log_benchmark(logger.BenchmarkFileLogger(str(tmp_path)))(Cycle(3, EVALUATION.results()))
  assert sessions.metrics(tmp_path) == [("CER", pytest.approx(1 / 3), 70), ("WER", 0.25, 70)]
