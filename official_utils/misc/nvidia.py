"""NVIDIA devices as the operating system shows them, for what must know of them without TensorFlow."""

import glob
import os

# Either shows every device; a container may have one of the two folders only.
_TRACES = ("dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*")


def list_devices(root: str = "/") -> list[str]:
  """List the devices that CUDA_VISIBLE_DEVICES does not hide.

  Args:
    root: the folder to search for the system's traces of them.

  Returns:
    A path for each device.
  """
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  if visible in ("", "-1"):
    return []
  found = (sorted(glob.glob(os.path.join(root, pattern))) for pattern in _TRACES)
  devices = next(filter(None, found), [])
  return devices if visible is None else devices[: len(visible.split(","))]
