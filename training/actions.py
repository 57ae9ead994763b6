"""What happens at the end of a training cycle. A run is given a list of actions and does them in order.

An action is a function of the cycle: it reads what is known and adds what it finds out. Anything else it needs is given
to the function that makes it, as below.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from official_utils.logs import logger
from training.evaluation import CER_KEY, WER_KEY, Evaluation
from training.model_dir import ModelDir

# From this share of the time on, the line mentions waiting for input.
WAIT_TO_SAY = 0.05


@dataclass
class Cycle:
  """A cycle of training that has ended.

  Attributes:
    epoch: epochs done so far; a fraction where the cycle ended within one.
    row: what is known, by name: at first the results of training, if it trained at all; in the end a row of eval.jsonl.
    evaluation: the evaluation, once there is one.
  """

  epoch: float
  row: dict[str, Any] = field(default_factory=dict)
  evaluation: Evaluation | None = None


Action = Callable[[Cycle], None]


def evaluate(run_evaluation: Callable[[], Evaluation]) -> Action:
  """Make the action that evaluates the newest checkpoint."""

  def action(cycle: Cycle) -> None:
    start = time.perf_counter()
    cycle.evaluation = run_evaluation()
    cycle.row |= {**cycle.evaluation.results(), "eval_seconds": time.perf_counter() - start}

  return action


def export(latest_checkpoint: Callable[[], str], model_dir: ModelDir, publish: Callable | None) -> Action:
  """Make the action that exports the newest checkpoint.

  It comes before the action that keeps the row: without the row, the next run does again what a killed run left undone.

  Args:
    latest_checkpoint: finds the checkpoint.
    model_dir: knows the earlier evaluations.
    publish: exports; called with the checkpoint, its `step` and whether it `is_best`. None exports nothing.
  """

  def action(cycle: Cycle) -> None:
    if publish:
      publish(latest_checkpoint(), step=cycle.row["global_step"], is_best=model_dir.is_best(cycle.row))

  return action


def keep_best(latest_checkpoint: Callable[[], str], model_dir: ModelDir) -> Action:
  """Make the action that keeps the newest checkpoint if it is the best; like `export`, it comes before `keep_row`.

  Args:
    latest_checkpoint: finds the checkpoint.
    model_dir: knows the earlier evaluations, and keeps the checkpoint.
  """

  def action(cycle: Cycle) -> None:
    if model_dir.is_best(cycle.row):
      model_dir.keep_best(latest_checkpoint())

  return action


def log_benchmark(benchmark_logger: logger.BaseBenchmarkLogger) -> Action:
  """Make the action that hands the rates to the benchmark logger."""
  return lambda cycle: benchmark_logger.log_evaluation_result(
    {key: cycle.row[key] for key in (WER_KEY, CER_KEY, "global_step")}
  )


def keep_row(model_dir: ModelDir) -> Action:
  """Make the action that adds the row to eval.jsonl."""
  return lambda cycle: model_dir.append_evaluation(cycle.row)


def print_line(num_epochs: int) -> Action:
  """Make the action that prints a line about the cycle.

  Args:
    num_epochs: how many epochs there will be in total.
  """

  def action(cycle: Cycle) -> None:
    row, line = cycle.row, f"epoch {cycle.epoch}/{num_epochs}"
    if "loss" in row:
      line += f"  loss {row['loss']:.3f}  {row['utterances_per_second']:.1f} utterances/s"
      if row["input_wait"] >= WAIT_TO_SAY:
        line += f" ({row['input_wait']:.0%} of the time waiting for input)"
    print(f"{line}  WER {row[WER_KEY]:.4f}  CER {row[CER_KEY]:.4f}", flush=True)

  return action
