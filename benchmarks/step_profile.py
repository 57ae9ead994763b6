"""Where a step spends its time, according to TensorFlow's own trace of every operation."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from official_utils.lazy import tf

# "[mklcpu 0.2MB 0.2MB] scope/MatMul = _MklMatMul(scope/left, scope/right:1)"
_LABEL = re.compile(r"(\[.*\] *)?(?P<name>\S+) = (?P<kind>\w+)\((?P<inputs>.*)\)")

_NUM_ROWS = 40


@dataclass
class Row:
  """The totals of a group of operations."""

  count: int = 0
  seconds: float = 0.0
  operations: float = 0.0

  def add(self, seconds: float, operations: float) -> None:
    """Count one more run of an operation."""
    self.count += 1
    self.seconds += seconds
    self.operations += operations


def trace(session: "tf.compat.v1.Session", fetches: object, feeds: dict) -> list:
  """Run a step under TensorFlow's full trace; return the statistics of each operation that ran."""
  return [node for nodes in trace_devices(session, fetches, feeds).values() for node in nodes]


def trace_devices(session: "tf.compat.v1.Session", fetches: object, feeds: dict) -> dict[str, list]:
  """Run a step under TensorFlow's full trace; return the statistics by device: processors, and streams of GPUs."""
  options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
  metadata = tf.compat.v1.RunMetadata()
  session.run(fetches, feeds, options=options, run_metadata=metadata)
  return {device.device: list(device.node_stats) for device in metadata.step_stats.dev_stats}


def group(nodes: Iterable, key: Callable[[str, str], str]) -> dict[str, Row]:
  """Add up the time and the work of operations by group.

  Args:
    nodes: from `trace`.
    key: returns the group of an operation from its name and its kind.

  Returns:
    The row of each group, by its name.
  """
  nodes = [(match, node) for node in nodes if (match := _LABEL.match(node.timeline_label))]
  shapes = {
    (match["name"], output.slot): tuple(dim.size for dim in output.tensor_description.shape.dim)
    for match, node in nodes
    for output in node.output
  }
  rows = defaultdict(Row)
  for match, node in nodes:
    inputs = [shapes.get(_tensor(source)) for source in match["inputs"].split(", ")]
    operations = count_products(match["kind"], shapes.get((match["name"], 0)), inputs)
    rows[key(match["name"], match["kind"])].add((node.op_end_rel_micros - node.op_start_rel_micros) / 1e6, operations)
  return dict(rows)


def _tensor(source: str) -> tuple[str, int]:
  """Split an input such as "scope/name:1" into the name and the number of the output, 0 if there is none."""
  name, _, slot = source.partition(":")
  return name, int(slot or 0)


def count_products(kind: str, output: tuple | None, inputs: list[tuple | None]) -> int:
  """Count the floating-point operations of a matrix product or convolution from its shapes.

  Args:
    kind: the operation's type.
    output: the shape of its first output.
    inputs: the shapes of its inputs, None for unknown ones.

  Returns:
    The number; 0 for any other operation or if a shape is missing.
  """
  if output is None:
    return 0
  # The names of fused kinds and of oneDNN's kinds contain the plain kind's name.
  if "MatMul" in kind and inputs[0]:
    return 2 * math.prod(output) * (math.prod(inputs[0]) // max(1, math.prod(output[:-1])))
  if "Conv2DBackpropFilter" in kind and inputs[2]:
    return 2 * math.prod(inputs[2]) * math.prod(output[:3])
  if "Conv2DBackpropInput" in kind and inputs[1] and inputs[2]:
    return 2 * math.prod(inputs[2]) * math.prod(inputs[1][:3])
  if kind.endswith("Conv2D") and inputs[1]:
    return 2 * math.prod(output) * math.prod(inputs[1][:3])
  return 0


def busy_seconds(nodes: Iterable) -> tuple[float, float]:
  """Return the seconds from a step's first operation to its last, and for how many of them any operation ran."""
  starts = [node.all_start_micros + node.op_start_rel_micros for node in nodes]
  ends = [node.all_start_micros + node.op_end_rel_micros for node in nodes]
  busy, reached = 0, min(starts)
  for start, end in sorted(zip(starts, ends, strict=True)):
    busy += max(0, end - max(start, reached))
    reached = max(reached, end)
  return (max(ends) - min(starts)) / 1e6, busy / 1e6


def show(nodes: Sequence) -> None:
  """Print a table of the kinds of operations and a table of single operations, the slowest first.

  Seconds are from an operation's start to its end, so if several run side by side they add up to more than the step.

  Args:
    nodes: from `trace`.
  """
  seconds, busy = busy_seconds(nodes)
  print(f"traced step: {seconds:.3f} s, including {seconds - busy:.3f} s in which no operation ran")
  tables = {"kind of operation": lambda name, kind: kind, "operation": lambda name, kind: f"{name} ({kind})"}
  for title, key in tables.items():
    rows = sorted(group(nodes, key).items(), key=lambda item: -item[1].seconds)
    total = sum(row.seconds for _, row in rows)
    print(f"{'share':>7} {'seconds':>9} {'runs':>7} {'GFLOP':>8} {'GFLOP/s':>8}  {title}, {total:.3f} s in all")
    for name, row in rows[:_NUM_ROWS]:
      rate = row.operations / max(row.seconds, 1e-9) / 1e9
      numbers = f"{row.seconds:9.4f} {row.count:7d} {row.operations / 1e9:8.2f} {rate:8.1f}"
      print(f"{row.seconds / total:7.1%} {numbers}  {name}")
