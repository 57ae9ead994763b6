"""Times forms of the same work in turns and prints medians, spread, ratios and a line of JSON.

Turns keep what else the machine does from falling on one form alone.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from absl import flags

OURS = "ours"


def define_timing_flags(peers: Sequence[str]) -> None:
  """Define what is compared with, and how often.

  Args:
    peers: the names of all peers that the benchmark knows; the first is compared with unless --peer says otherwise.
  """
  flags.DEFINE_list("peer", [peers[0]], f"What to compare with, separated by commas: {', '.join(peers)}.")
  flags.register_validator(
    "peer",
    lambda names: all(name in peers for name in names),
    f"the peers are {', '.join(peers)}",
  )
  flags.DEFINE_integer("runs", 5, "Runs of each form, taken in turns.", lower_bound=1)


def choose(forms: Mapping[str, Callable], peers: Sequence[str]) -> dict[str, Callable]:
  """Take ours and the chosen peers out of what makes the forms, in this order."""
  return {name: forms[name] for name in (OURS, *dict.fromkeys(peers))}


def measure(forms: Mapping[str, Callable[[], object]], runs: int, warm_up: int = 1) -> dict[str, list[float]]:
  """Run forms in turns.

  Args:
    forms: what to run, by name.
    runs: how many turns count.
    warm_up: how many turns come before those: the first plans graphs and fills caches.

  Returns:
    For each form its seconds, a number a turn.
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
    values: for each form its seconds, a number a turn.
    scale: for a form that did a part of the work, by what its values are multiplied; 1 for any other.
    summary: makes one number of a form's.

  Returns:
    Peer to ratio.
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
  """Print a line a form, a line a ratio, and everything as JSON in one line, which `table.py` reads.

  Args:
    benchmark: its name.
    setting: what was measured, in words: shapes, sizes.
    values: for each form what `measure` returns, or other numbers of which less is better.
    scale: as for `ratios`.
    unit: of the values.
    gain: what ours is when its values are lower.
    **details: what else belongs into the JSON line; a `note` goes into the table.
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
      f"other programs are at work (load {load:.1f}): trust no ratio, least of all to a peer that spins while it waits"
    )
  result = {"benchmark": benchmark, "setting": setting, "load": round(load, 1)}
  result |= {"ratios": {name: round(times[name], 3) for name in times}}
  result |= {"best_ratios": {name: round(best[name], 3) for name in best}}
  rounded = {name: [round(number, 6) for number in numbers] for name, numbers in values.items()}
  print(json.dumps(result | {"unit": unit, "values": rounded, "scale": scale} | details), flush=True)
