"""Trains on one corpus with several sets of flags and seeds, and compares what each makes of the test set.

python benchmarks/recipes.py --rows=FILE --data_dir=demo/mrt --out_dir=/tmp/recipes

A row is a line "NAME FLAGS..."; the first is what the others are compared with: differences of the last word, the one
that matters in `mrt`, are paired by utterances. What is in out_dir already is not trained again.
"""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import concurrent.futures
import math
import queue
import re
import shlex
import statistics
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

import inference
import scoring
from data.manifest import read_manifest
from official_utils.flags import core as flags_core
from official_utils.misc import files
from official_utils.misc.errors import UserError
from training.model_dir import ModelDir

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "deep_speech.py")
RESAMPLES = 10_000
SAMPLE = re.compile(r"^(.+)\n  said:  (.*)\n  heard: (.*)$", re.MULTILINE)


class Row(NamedTuple):
  """A set of flags.

  Attributes:
    name: its name.
    arguments: flags of deep_speech.py, without data and seed.
  """

  name: str
  arguments: list[str]


class Result(NamedTuple):
  """What one training made of the test set.

  Attributes:
    word_errors: [utterances], the number of wrong words.
    words: [utterances], the number of words that were said.
    key_errors: [utterances], 1 where the last word is wrong.
    minutes: how long training took, without evaluation.
    epoch: that of the best evaluation, whose model it was.
    parameters: the trained numbers.
  """

  word_errors: np.ndarray
  words: np.ndarray
  key_errors: np.ndarray
  minutes: float
  epoch: int
  parameters: int


def define_recipes_flags() -> None:
  """Define the flags for what to train and where."""
  flags.DEFINE_string("rows", None, "The file with a set of flags a line.", required=True)
  flags.DEFINE_string("data_dir", None, "The folder with train.tsv, dev.tsv and test.tsv.", required=True)
  flags.DEFINE_string("out_dir", None, "The folder for models and output.", required=True)
  flags.DEFINE_list("seeds", ["1", "2", "3"], "The seeds.")
  flags.DEFINE_integer(
    "jobs", 1, "How many trainings run side by side, each on its share of the CPU cores.", lower_bound=1
  )


def read_rows(path: str) -> list[Row]:
  """Read sets of flags, a line each; lines that begin with # are comments."""
  try:
    with open(path, encoding="utf-8") as file:
      lines = [shlex.split(line, comments=True) for line in file]
  except (OSError, ValueError) as error:
    raise UserError(f"--rows={path} cannot be read ({error}); give a file with NAME FLAGS... a line") from error
  rows = [Row(name, arguments) for name, *arguments in filter(None, lines)]
  if not rows or len({row.name for row in rows}) < len(rows):
    raise UserError(f"--rows={path} names {'a set twice' if rows else 'no set'}; give each set of flags a name")
  return rows


def train(row: Row, seed: str, data_dir: str, out_dir: str, cores: Sequence[int]) -> str:
  """Train and score the test set, unless that was done; return the model_dir, which then has the output beside it.

  Args:
    row: the flags.
    seed: the seed.
    data_dir: the corpus.
    out_dir: where the model_dir is made.
    cores: the CPU cores to use.
  """
  model_dir = os.path.join(out_dir, f"{row.name}-{seed}")
  sets = {name: os.path.join(data_dir, f"{name}.tsv") for name in ("train", "dev", "test")}
  count = len(read_manifest(sets["test"]))
  command = [
    *(sys.executable, PROGRAM, f"--train_data_dir={sets['train']}", f"--eval_data_dir={sets['dev']}"),
    *(f"--test_data_dir={sets['test']}", f"--show_samples={count}", "--keep_exports=0", f"--seed={seed}"),
    *(f"--model_dir={model_dir}", "--clean", *row.arguments),
  ]
  line = shlex.join(command)
  if os.path.exists(f"{model_dir}.txt"):
    with open(f"{model_dir}.txt", encoding="utf-8") as file:
      if file.readline().rstrip("\n") == line:
        return model_dir
    raise UserError(f"{model_dir}.txt is of other flags than those of {row.name}; remove it or take another name")
  # A process inherits the cores of the thread that starts it.
  os.sched_setaffinity(0, cores)
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise UserError(f"{line}: {done.stderr.strip() or done.stdout[-500:]}")
  files.write_atomically(f"{model_dir}.txt", f"{line}\n{done.stdout}")
  return model_dir


def read_result(model_dir: str) -> Result:
  """Read what a training left behind."""
  with open(f"{model_dir}.txt", encoding="utf-8") as file:
    samples = sorted(SAMPLE.findall(file.read()))
  score = scoring.score([said for _, said, _ in samples], [heard for _, _, heard in samples])
  run = ModelDir(model_dir)
  settings, labels = inference.read_description(model_dir)
  shapes = inference.variable_shapes(settings, len(labels))
  return Result(
    np.array([each.words.errors for each in score.utterances]),
    np.array([each.words.reference_length for each in score.utterances]),
    np.array([said.split()[-1:] != heard.split()[-1:] for _, said, heard in samples], int),
    sum(cycle["train_seconds"] for cycle in run.evaluations()) / 60,
    run.best_evaluation()["epoch"],
    sum(math.prod(shape) for name, shape in shapes.items() if "/moving_" not in name),
  )


def interval(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
  """Return the 95 % bootstrap interval of sum(values) / sum(weights), by drawing utterances.

  Args:
    values: [utterances].
    weights: [utterances].
  """
  drawn = np.random.default_rng(0).integers(len(values), size=[RESAMPLES, len(values)])
  low, high = np.quantile(values[drawn].sum(axis=1) / weights[drawn].sum(axis=1), [0.025, 0.975])
  return float(low), float(high)


def paired_p(differences: np.ndarray) -> float:
  """Return the two-sided p of no difference, by changing the sign of differences at random.

  Args:
    differences: [utterances], of two sets of flags, each a mean over seeds.
  """
  signs = np.random.default_rng(0).choice([-1, 1], size=[RESAMPLES, len(differences)])
  extreme = np.abs(signs @ differences) >= np.abs(differences.sum()) - 1e-9
  return (1 + int(extreme.sum())) / (RESAMPLES + 1)


def make_table(results: dict[str, list[Result]]) -> str:
  """Lay out the results in Markdown.

  Args:
    results: for each set of flags, a result a seed; the first set is what the others are compared with.
  """
  lines = [
    "| flags | parameters | minutes | best epochs | WER, each seed | WER | last word wrong | its p |",
    "|---|---|---|---|---|---|---|---|",
  ]
  base = np.mean([result.key_errors for result in next(iter(results.values()))], axis=0)
  for number, (name, seeds) in enumerate(results.items()):
    words = seeds[0].words
    errors, wrong = (np.mean([result[place] for result in seeds], axis=0) for place in (0, 2))
    cells = [
      name,
      f"{seeds[0].parameters:,}",
      f"{statistics.mean(result.minutes for result in seeds):.1f}",
      ", ".join(str(result.epoch) for result in seeds),
      ", ".join(f"{result.word_errors.sum() / words.sum():.4f}" for result in seeds),
      _with_interval(errors, words, 4),
      _with_interval(100 * wrong, np.ones_like(wrong), 1) + " %",
      f"{paired_p(wrong - base):.2g}" if number else "",
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def _with_interval(values, weights, digits):
  """Write a rate with its interval."""
  low, high = interval(values, weights)
  return f"{values.sum() / weights.sum():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main(_: list[str]) -> None:
  """Train what is missing, and print the table."""
  options = flags.FLAGS
  rows = read_rows(options.rows)
  os.makedirs(options.out_dir, exist_ok=True)
  free: queue.Queue[list[int]] = queue.Queue()
  cores = sorted(os.sched_getaffinity(0))
  for number in range(options.jobs):
    free.put(cores[number :: options.jobs] or cores)

  def work(row: Row, seed: str) -> str:
    share = free.get()
    try:
      return train(row, seed, options.data_dir, options.out_dir, share)
    finally:
      free.put(share)

  with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
    waiting = {(row.name, seed): pool.submit(work, row, seed) for row in rows for seed in options.seeds}
    # After a failure the others, most of which have not begun, are in vain.
    for future in concurrent.futures.wait(waiting.values(), return_when=concurrent.futures.FIRST_EXCEPTION).not_done:
      future.cancel()
  results: dict[str, list[Result]] = {}
  for (name, _), future in waiting.items():
    if not future.cancelled():
      results.setdefault(name, []).append(read_result(future.result()))
  print(make_table(results))


if __name__ == "__main__":
  define_recipes_flags()
  flags_core.run(main, __doc__)
