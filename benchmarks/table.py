"""Writes the output of benchmarks into a document as a table."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import statistics
from collections.abc import Iterable

from absl import flags

from benchmarks import timing
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.misc import files
from official_utils.misc.errors import UserError

BEGIN, END = "<!-- make bench -->", "<!-- end of make bench -->"


def define_table_flags() -> None:
  """Define the flags for what to read and write."""
  flags.DEFINE_string("results", None, "The file with the output of the benchmarks.", required=True)
  flags.DEFINE_string("document", None, f"The file with the lines {BEGIN} and {END} around the table.", required=True)


def make_table(results: Iterable[dict]) -> str:
  """Lay out results in Markdown, one row per peer.

  Args:
    results: the JSON that `timing.report` prints, parsed.
  """
  rows = ["| benchmark | setting | ours | peer | peer : ours | best : best |", "|---|---|---|---|---|---|"]
  for result in results:
    cells = {name: _spread(values, result, name) for name, values in result["values"].items()}
    setting = "; ".join(filter(None, [result["setting"], result.get("note")]))
    for peer, ratio in result["ratios"].items():
      row = [result["benchmark"], setting, cells[timing.OURS], f"{peer} {cells[peer]}", f"{ratio:.2f}"]
      row.append(f"{result['best_ratios'][peer]:.2f}")
      rows.append(f"| {' | '.join(row)} |")
  return "\n".join(rows)


def _spread(values: list[float], result: dict, name: str) -> str:
  """Write the median with the lowest and the highest value."""
  scale = result["scale"].get(name, 1)
  median, low, high = (f"{scale * value:.3g}" for value in (statistics.median(values), min(values), max(values)))
  return f"{median} {result['unit']}" + (f" ({low} to {high})" if len(values) > 1 else "")


def read_results(path: str) -> list[dict]:
  """Read the lines of JSON in a file."""
  try:
    with open(path, encoding="utf-8") as file:
      results = [json.loads(line) for line in file if line.startswith("{")]
  except (OSError, ValueError) as error:
    raise UserError(f"--results={path} cannot be read ({error}); give the output of benchmarks") from error
  if not results:
    raise UserError(f"--results={path} holds no results; give the output of benchmarks")
  return results


def replace_between_marks(document: str, text: str) -> None:
  """Put a text between the two marks of a document.

  Raises:
    UserError: the document does not have both marks, each on its own line.
  """
  try:
    with open(document, encoding="utf-8") as file:
      lines = file.read().split("\n")
    begin, end = lines.index(BEGIN), lines.index(END)
  except (OSError, ValueError) as error:
    raise UserError(
      f"--document={document} must be a file with the lines {BEGIN} and {END} around the table ({error}); add them"
    ) from error
  files.write_atomically(document, "\n".join([*lines[: begin + 1], "", text, "", *lines[end:]]))


def main(_: list[str]) -> None:
  """Print the table and write it."""
  options = flags.FLAGS
  table = make_table(read_results(options.results))
  versions = (
    f"TensorFlow {tf.__version__}, {os.cpu_count()} CPU cores. Medians, and in brackets the spread of the runs."
  )
  # Printed first, so that minutes of measuring are not lost if the document cannot be written.
  print(table)
  replace_between_marks(options.document, f"{versions}\n\n{table}")


if __name__ == "__main__":
  define_table_flags()
  flags_core.run(main, __doc__)
