"""Shows where a training step spends its time on a GPU, by the names of its slowest operations and kernels."""

from collections.abc import Mapping, Sequence

from benchmarks import child, gpu_throughput, step_profile, train_step
from benchmarks.findings import Findings
from benchmarks.gpu_throughput import Setting, Sizes
from official_utils.lazy import tf

NUM_ROWS = 20


def run(findings: Findings, is_small: bool) -> None:
  """Trace a step of each cell.

  Args:
    findings: take the rows.
    is_small: whether one cell on a small network will do.
  """
  sizes = gpu_throughput.SMALL if is_small else Sizes()
  for rnn_type, kernels in list(gpu_throughput.KERNELS.items())[: 1 if is_small else None]:
    setting = Setting("ours", rnn_type, "tf32" if is_small else "bf16", kernels[-1 if is_small else 0])
    name = f"profile, {rnn_type}, {setting.kernel}, {setting.number_format}"
    findings.attempt(name, _report, name, setting, sizes)


def _report(findings: Findings, name: str, setting: Setting, sizes: Sizes) -> None:
  """Add the time of the slowest operations in milliseconds a step."""
  device, seconds, busy, rows = child.in_own_process(_profile, setting, sizes)
  findings.add(f"{name}: step", 1e3 * seconds, unit="ms", busy=round(1e3 * busy, 3), device=device)
  for title, row, label in rows:
    findings.add(f"{name}: {title}", 1e3 * row.seconds, unit="ms", runs=row.count, label=label)


def _profile(setting: Setting, sizes: Sizes) -> tuple[str, float, float, list[tuple[str, step_profile.Row, str]]]:
  """Trace a step; return what ran it, its seconds, those in which anything ran, and its slowest operations."""
  tf.config.experimental.enable_tensor_float_32_execution(setting.number_format == "tf32")
  options = gpu_throughput.parse_options(setting, sizes)
  batch = train_step.make_batch(sizes.batch, sizes.seconds * gpu_throughput.FRAME_RATE, is_ragged=False)
  step = train_step.build_ours(options, batch)
  # The first steps compile and choose kernels.
  for _ in range(gpu_throughput.WARM_UP):
    step.run()
  device, nodes = choose_device(step_profile.trace_devices(*step))
  rows, labels = {}, {}
  for node in nodes:
    row = rows.setdefault(node.node_name, step_profile.Row())
    row.add((node.op_end_rel_micros - node.op_start_rel_micros) / 1e6, 0)
    labels.setdefault(node.node_name, node.timeline_label[:160])
  slowest = sorted(rows, key=lambda name: -rows[name].seconds)[:NUM_ROWS]
  return device, *step_profile.busy_seconds(nodes), [(name, rows[name], labels[name]) for name in slowest]


def choose_device(traced: Mapping[str, Sequence]) -> tuple[str, Sequence]:
  """Choose the device whose trace tells most: all streams of a GPU together, else one, else the busiest of all."""

  def rank(name):
    return "stream:all" in name, "stream" in name, len(traced[name])

  name = max(traced, key=rank)
  return name, traced[name]
