"""Tries a GPU: whether its numbers are right, what it learns, how fast it trains and where a step's time goes.

Needs neither network nor corpus. Each finding is a line of JSON with name, value, bound (null where none applies) and ok,
printed as soon as it is known. Ends with status 1 if a bound was missed or something failed. --small tries the program
itself, on a CPU too.
"""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import tempfile
from collections.abc import Callable

from absl import flags

from benchmarks import child, gpu_parity, gpu_profile, gpu_throughput, gpu_tones
from benchmarks.findings import Findings
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from official_utils.misc.errors import UserError

PARTS: dict[str, Callable] = {
  "parity": lambda findings, options, folder: gpu_parity.run(findings, _devices(options), options.small),
  "tones": lambda findings, options, folder: gpu_tones.run(findings, options.small, folder),
  "throughput": lambda findings, options, folder: gpu_throughput.run(
    findings, options.small, folder, options.torch_python
  ),
  "profile": lambda findings, options, folder: gpu_profile.run(findings, options.small),
}


def define_gpu_flags() -> None:
  """Define the flags for what is tried."""
  flags.DEFINE_list("part", list(PARTS), f"What is tried, separated by commas: {', '.join(PARTS)}.")
  flags.register_validator(
    "part", lambda names: all(name in PARTS for name in names), f"the parts are {', '.join(PARTS)}"
  )
  flags.DEFINE_boolean("small", False, "Whether to try a little of everything, which shows that the program works.")
  flags.DEFINE_float("minutes", 8, "After this time nothing new is begun.", lower_bound=0)
  child.define_torch_flag()


def _devices(options: flags.FlagValues) -> list[str]:
  """Return the first GPU, or the CPU where there is none and little is tried."""
  devices = distribution_utils.list_devices(None)[:1]
  if devices == ["/cpu:0"] and not options.small:
    raise UserError("TensorFlow sees no GPU here; give --small to try the program on the CPU")
  return devices


def main(_: list[str]) -> int:
  """Try the parts in turn; return the exit code."""
  options = flags.FLAGS
  details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
  _devices(options)
  findings = Findings(options.minutes)
  findings.add("GPUs", len(details), details=details, tensorflow=tf.__version__)
  for name in options.part:
    with tempfile.TemporaryDirectory() as folder:
      findings.attempt(name, PARTS[name], options, folder)
  return 0 if findings.all_ok else 1


if __name__ == "__main__":
  define_gpu_flags()
  flags_core.run(main, __doc__)
