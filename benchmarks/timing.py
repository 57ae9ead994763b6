"""Times forms of the same work in turn and prints medians, spread, ratios and a line of JSON.

Taking turns spreads the load of other programs over all forms.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from absl import flags

OURS = "ours"


def define_timing_flags(peers: Sequence[str]) -> None:
  """Define the flags for the peers and the number of runs.

  Args:
    peers: the names of all peers that the benchmark knows; the first one is the default of --peer.
  """
  flags.DEFINE_list("peer", [peers[0]], f"The peers to compare with, separated by commas: {', '.join(peers)}.")
  flags.register_validator(
    "peer",
    lambda names: all(name in peers for name in names),
    f"the peers are {', '.join(peers)}",
  )
  flags.DEFINE_integer("runs", 5, "The number of runs of each form, in turn.", lower_bound=1)


def choose(forms: Mapping[str, Callable], peers: Sequence[str]) -> dict[str, Callable]:
  """Choose ours and the given peers from the forms, in this order."""
  return {name: forms[name] for name in (OURS, *dict.fromkeys(peers))}


def measure(forms: Mapping[str, Callable[[], object]], runs: int, warm_up: int = 1) -> dict[str, list[float]]:
  """Run forms in turn.

  Args:
    forms: the functions to run, by name.
    runs: how many turns count.
    warm_up: how many turns come first without counting, because the first plans graphs and fills caches.

  Returns:
    For each form the seconds of each turn.
  """
  seconds = {name: [] for name in forms}
  for turn in range(warm_up + runs):
    for name, form in forms.items():
      start = time.perf_counter()
      form()
      if turn >= warm_up:
        seconds[name].append(time.perf_counter() - start)
  return seconds


def ratios(
  values: Mapping[str, Sequence[float]],
  scale: Mapping[str, float] | None = None,
  summary: Callable[[Sequence[float]], float] = statistics.median,
) -> dict[str, float]:
  """Compute how many times as fast ours is as each peer.

  Args:
    values: for each form the seconds of each turn.
    scale: for forms that did part of the work, the factor for their values; 1 for any other.
    summary: turns a form's values into one number.

  Returns:
    The ratio of each peer, by its name.
  """
  numbers = {name: summary(each) * (scale or {}).get(name, 1) for name, each in values.items()}
  return {name: number / numbers[OURS] for name, number in numbers.items() if name != OURS}


def report(
  benchmark: str,
  setting: str,
  values: Mapping[str, Sequence[float]],
  scale: Mapping[str, float] | None = None,
  unit: str = "s",
  gain: str = "fast",
  **details: object,
) -> None:
  """Print a line for each form and each ratio, and everything as one line of JSON, which `table.py` reads.

  Args:
    benchmark: the name of the benchmark.
    setting: a description of the measurement: shapes, sizes.
    values: for each form the seconds from `measure`, or other numbers where lower is better.
    scale: as for `ratios`.
    unit: the unit of the values.
    gain: the adjective for lower values, as in "2 times as fast".
    **details: further items of the JSON line; a `note` goes into the table.
  """
  scale = scale or {}
  print(setting)
  for name, numbers in values.items():
    median, low, high = statistics.median(numbers), min(numbers), max(numbers)
    spread = f", from {low:.3f} to {high:.3f} {unit} over {len(numbers)} runs" if len(numbers) > 1 else ""
    whole = f", times {scale[name]:g} for the whole" if name in scale else ""
    print(f"{name:>14}: median {median:.3f} {unit}{spread}{whole}")
  times, best = ratios(values, scale), ratios(values, scale, min)
  for name, ratio in times.items():
    print(f"ours is {ratio:.2f} times as {gain} as {name} (best to best {best[name]:.2f})")
  load = os.getloadavg()[0]
  if load > os.cpu_count() + 1:
    print(
      f"other programs are running (load {load:.1f}): do not trust the ratios, least of all against a peer that spins "
      "while it waits"
    )
  result = {"benchmark": benchmark, "setting": setting, "load": round(load, 1)}
  result |= {"ratios": {name: round(times[name], 3) for name in times}}
  result |= {"best_ratios": {name: round(best[name], 3) for name in best}}
  rounded = {name: [round(number, 6) for number in numbers] for name, numbers in values.items()}
  print(json.dumps(result | {"unit": unit, "values": rounded, "scale": scale} | details), flush=True)
