"""Devices, and how several of them train one model."""

import json
import os
from collections.abc import Sequence

from absl import logging

from official_utils.lazy import tf
from official_utils.misc import nvidia
from official_utils.misc.errors import UserError


def list_devices(num_gpus: int | None, root: str = "/") -> list[str]:
  """Return the devices that --num_gpus stands for.

  Args:
    num_gpus: a number of GPUs; 0 for the CPU, -1 for all GPUs, None for one GPU if there is any and else the CPU.
    root: the folder to search for the operating system's traces of NVIDIA devices.

  Returns:
    Names such as "/gpu:0"; ["/cpu:0"] to use no GPU.

  Raises:
    UserError: there are fewer GPUs than asked for, or there is one that TensorFlow cannot use.
  """
  refuse_cluster(os.environ.get("TF_CONFIG"))
  if num_gpus == 0:
    return ["/cpu:0"]
  num_visible = len(tf.config.list_physical_devices("GPU"))
  if not num_visible:
    refuse_unused_nvidia_device(root)
  return choose_devices(num_gpus, num_visible)


def refuse_cluster(tf_config: str | None) -> None:
  """Refuse a description of several machines: all replicas are on one.

  Args:
    tf_config: the environment variable TF_CONFIG, None if it is not set.

  Raises:
    UserError: it names a cluster.
  """
  try:
    content = json.loads(tf_config or "{}")
  except ValueError:
    content = None
  if not isinstance(content, dict):
    raise UserError(f"TF_CONFIG={tf_config} is not a JSON object; unset TF_CONFIG")
  if "cluster" in content:
    raise UserError(f"TF_CONFIG={tf_config} names a cluster, but training runs on one machine; unset TF_CONFIG")


def choose_devices(num_gpus: int | None, num_visible: int) -> list[str]:
  """Return the devices that --num_gpus stands for on a machine with a given number of GPUs.

  Args:
    num_gpus: as for list_devices.
    num_visible: how many GPUs TensorFlow sees.

  Returns:
    Names such as "/gpu:0"; ["/cpu:0"] to use no GPU.

  Raises:
    UserError: there are fewer GPUs than asked for.
  """
  if num_gpus is None:
    num_gpus = min(num_visible, 1)
  elif num_gpus == -1:
    num_gpus = num_visible
    if not num_visible:
      logging.info("--num_gpus=-1 finds no GPU on this machine: running on the CPU.")
  elif num_gpus > num_visible:
    raise UserError(
      f"--num_gpus={num_gpus}, but TensorFlow sees {num_visible} on this machine; try --num_gpus={num_visible}"
    )
  return [f"/gpu:{number}" for number in range(num_gpus)] or ["/cpu:0"]


def refuse_unused_nvidia_device(root: str = "/") -> None:
  """Refuse a machine with an NVIDIA device that TensorFlow does not see.

  Args:
    root: the folder to search for the operating system's traces of NVIDIA devices.

  Raises:
    UserError: there is such a device, and CUDA_VISIBLE_DEVICES does not hide it.
  """
  devices = nvidia.list_devices(root)
  if devices:
    raise UserError(
      f"this machine has an NVIDIA device ({devices[0]}), but TensorFlow does not see it; install TensorFlow's CUDA "
      "libraries (make venv GPU=1, or pip install -r requirements-gpu.txt), or take the CPU with --num_gpus=0"
    )


def get_distribution_strategy(
  devices: Sequence[str], all_reduce_alg: str | None = None
) -> "tf.distribute.MirroredStrategy | None":
  """Return the strategy that spreads a training step over devices.

  Args:
    devices: the devices, each with a replica of the model.
    all_reduce_alg: how they add up their gradients: nccl, hierarchical_copy or reduce_to_one; None for TensorFlow's
      choice.

  Returns:
    None for a single device, which needs no strategy.

  Raises:
    UserError: there is no such all_reduce_alg, or it does not work between these devices.
  """
  algorithms = {
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical_copy": tf.distribute.HierarchicalCopyAllReduce,
    "reduce_to_one": tf.distribute.ReductionToOneDevice,
  }
  if all_reduce_alg is not None and all_reduce_alg not in algorithms:
    raise UserError(f"--all_reduce_alg={all_reduce_alg} does not exist; give one of {', '.join(algorithms)}")
  if len(devices) == 1:
    return None
  if all_reduce_alg == "nccl" and any(device.startswith("/cpu:") for device in devices):
    raise UserError("--all_reduce_alg=nccl works between GPUs only; try --all_reduce_alg=reduce_to_one")
  if all_reduce_alg == "hierarchical_copy" and len(devices) % 2:
    # TensorFlow adds up two halves of equal size and silently leaves out the device in the middle.
    raise UserError(
      f"--all_reduce_alg=hierarchical_copy needs an even number of devices, not {len(devices)}; "
      "try --all_reduce_alg=reduce_to_one"
    )
  cross_device_ops = algorithms[all_reduce_alg]() if all_reduce_alg else None
  # Outside a graph, the strategy would prepare for eager execution, which takes the devices before the session does.
  with tf.Graph().as_default():
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=cross_device_ops)


def per_device_batch_size(batch_size: int, num_devices: int) -> int:
  """Return each device's share of a batch.

  An Estimator asks its input_fn for one batch per replica, so the batch size of the flags is divided first.

  Args:
    batch_size: the number of examples of all devices together.
    num_devices: the number of devices.

  Returns:
    The number of examples of one device.

  Raises:
    UserError: the batch cannot be divided evenly.
  """
  share, left_over = divmod(batch_size, num_devices)
  if left_over:
    raise UserError(
      f"--batch_size={batch_size} is not a multiple of the {num_devices} devices that share a batch; "
      f"try --batch_size={max(share, 1) * num_devices}"
    )
  return share


def session_config(devices: Sequence[str], inter_op: int = 0, intra_op: int = 0) -> "tf.compat.v1.ConfigProto":
  """Return the settings of the sessions that run on `devices`.

  Args:
    devices: the devices, each with a replica of the model.
    inter_op: how many operations run side by side on the CPU; 0 leaves it to TensorFlow.
    intra_op: how many threads an operation uses on the CPU; 0 leaves it to TensorFlow.

  Returns:
    The settings.
  """
  num_gpus = sum(device.startswith("/gpu:") for device in devices)
  config = tf.compat.v1.ConfigProto(
    allow_soft_placement=True,
    # A replica on a logical CPU unknown to the session waits for ever; a GPU known to it is used even unasked.
    device_count={"CPU": max(len(devices) - num_gpus, 1), "GPU": num_gpus},
    inter_op_parallelism_threads=inter_op,
    intra_op_parallelism_threads=intra_op,
    gpu_options=tf.compat.v1.GPUOptions(allow_growth=True),
  )
  # A second pass over a graph finds nothing more to optimise and takes as long as some steps, again in every cycle.
  config.graph_options.rewrite_options.meta_optimizer_iterations = 1
  return config
