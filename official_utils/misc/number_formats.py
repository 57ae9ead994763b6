"""Number formats to compute in: which of them the hardware multiplies, and which one --dtype=auto takes."""

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import logging

from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from official_utils.misc.errors import UserError

# Name of a number format: TensorFlow's name for it.
FORMATS = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
AUTO = "auto"

# The instructions of x86 processors for products in bf16, by their names in Linux's list, the fastest first.
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# The environment variables that limit oneDNN, which computes TensorFlow's products. The first that is set counts, in
# upper or lower case; a value that oneDNN does not know limits nothing.
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
_WITHOUT_BF16 = ("AVX512_CORE", "AVX512_CORE_VNNI")
_WITHOUT_AMX = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512")
# The oldest NVIDIA GPUs that multiply bf16.
_COMPUTE_CAPABILITY = (8, 0)


class Support(NamedTuple):
  """How a device computes in bf16.

  Attributes:
    is_fast: whether it multiplies bf16 in hardware, and TensorFlow makes use of it.
    reason: in words the hardware that does, or what is missing.
    works: whether TensorFlow can compute in bf16 at all.
  """

  is_fast: bool
  reason: str
  works: bool = True


def resolve(name: str, devices: Sequence[str] | None = None) -> str:
  """Return the number format that a value of --dtype stands for: itself, or the one that "auto" takes.

  Args:
    name: a name of FORMATS, or AUTO.
    devices: the devices that compute, such as "/gpu:0"; None for the one that TensorFlow takes by itself.
  """
  if name != AUTO:
    return name
  return "bf16" if find_support(devices).is_fast else "fp32"


def announce(name: str, say: Callable[[str], object], devices: Sequence[str] | None = None) -> None:
  """Say what "auto" takes and why, warn of a format that is slow on the devices, and refuse one that is hopeless.

  Args:
    name: as for `resolve`.
    say: is given the line about "auto".
    devices: as for `resolve`.

  Raises:
    UserError: fp16 is asked of a CPU, or bf16 where TensorFlow cannot compute in it.
  """
  devices = devices or _own_devices()
  if name == "fp16" and any(device.startswith("/cpu:") for device in devices):
    raise UserError("--dtype=fp16 takes minutes a step on a CPU; give --dtype=bf16, or --dtype=auto")
  if name not in (AUTO, "bf16"):
    return
  support = find_support(devices)
  if name == AUTO:
    say(f"--dtype=auto: bf16, which {support.reason}" if support.is_fast else f"--dtype=auto: fp32: {support.reason}")
  elif not support.works:
    raise UserError(f"--dtype=bf16 cannot be computed: {support.reason}; give --dtype=fp32, or --dtype=auto")
  elif not support.is_fast:
    logging.warning("--dtype=bf16 is slower here than fp32: %s.", support.reason)


def find_support(devices: Sequence[str] | None = None, root: str = "/") -> Support:
  """Find out how the device that is worst at bf16 computes in it.

  Args:
    devices: as for `resolve`.
    root: the folder with the operating system's description of the processor.
  """
  return min(
    _support_of_gpu(device) if device.startswith("/gpu:") else _support_of_cpu(root)
    for device in devices or _own_devices()
  )


def _own_devices() -> list[str]:
  """Return the device that TensorFlow takes by itself."""
  return distribution_utils.choose_devices(None, len(tf.config.list_physical_devices("GPU")))


def _support_of_gpu(device: str) -> Support:
  """Find out how a GPU computes in bf16."""
  gpu = tf.config.list_physical_devices("GPU")[int(device.removeprefix("/gpu:"))]
  return support_of_capability(device, tf.config.experimental.get_device_details(gpu).get("compute_capability"))


def support_of_capability(device: str, capability: tuple[int, int] | None) -> Support:
  """Find out from a GPU's compute capability, None if it has none, how it computes in bf16."""
  if capability is None:
    return Support(False, f"{device} has no compute capability that would say whether it multiplies bf16")
  version = ".".join(map(str, capability))
  if capability < _COMPUTE_CAPABILITY:
    return Support(False, f"{device} has compute capability {version}, and only GPUs from 8.0 on multiply bf16")
  return Support(True, f"{device} multiplies in hardware (compute capability {version})")


def _support_of_cpu(root: str) -> Support:
  """Find out how the processor computes in bf16."""
  try:
    with open(os.path.join(root, "proc/cpuinfo")) as file:
      listed = re.search(r"^flags\s*:(.*)$", file.read(), re.MULTILINE)
  except OSError:
    listed = None
  there = [name for name in _INSTRUCTIONS if listed and name in listed[1].split()]
  if not there:
    return Support(False, "this processor is not known to multiply bf16 in hardware")
  if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false"):
    return Support(False, "TF_ENABLE_ONEDNN_OPTS turns off the library that multiplies bf16 in hardware")
  variable = next((name for name in _LIMITS if os.environ.get(name)), _LIMITS[0])
  limit = os.environ.get(variable, "")
  if limit.upper() in (*_WITHOUT_AVX512, *_WITHOUT_BF16):
    # TensorFlow asks the processor and not oneDNN, which without AVX-512 then ends the process.
    reason = f"{variable}={limit} rules out this processor's instructions for bf16"
    return Support(False, reason, works=limit.upper() in _WITHOUT_BF16)
  if limit.upper() in _WITHOUT_AMX:
    there = there[-1:]
  return Support(True, f"this processor multiplies in hardware ({there[0]})")
