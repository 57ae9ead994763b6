"""Tests of devices and of a step on several, with logical CPUs in place of GPUs."""

import pytest

from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from official_utils.misc.errors import UserError


@pytest.mark.parametrize(
  ("num_gpus", "num_visible", "devices"),
  [
    (None, 0, ["/cpu:0"]),
    (None, 1, ["/gpu:0"]),
    (None, 8, ["/gpu:0"]),
    (-1, 0, ["/cpu:0"]),
    (-1, 1, ["/gpu:0"]),
    (-1, 3, ["/gpu:0", "/gpu:1", "/gpu:2"]),
    (0, 3, ["/cpu:0"]),
    (2, 3, ["/gpu:0", "/gpu:1"]),
    (3, 3, ["/gpu:0", "/gpu:1", "/gpu:2"]),
  ],
)
def test_choose_devices(num_gpus, num_visible, devices):
  assert distribution_utils.choose_devices(num_gpus, num_visible) == devices


def test_all_gpus_without_a_gpu_is_said_in_one_line(caplog):
  with caplog.at_level("INFO", logger="absl"):
    distribution_utils.choose_devices(-1, 0)
    distribution_utils.choose_devices(None, 0)
    distribution_utils.choose_devices(-1, 1)
  assert caplog.messages == ["--num_gpus=-1 finds no GPU on this machine: running on the CPU."]


@pytest.mark.parametrize(("num_gpus", "num_visible"), [(1, 0), (2, 1), (9, 8)])
def test_more_gpus_than_there_are(num_gpus, num_visible):
  with pytest.raises(UserError, match=f"--num_gpus={num_gpus}, .* sees {num_visible} .* try --num_gpus={num_visible}"):
    distribution_utils.choose_devices(num_gpus, num_visible)


def _make_trace(root, trace):
  path = root / trace
  path.parent.mkdir(parents=True)
  path.touch()


@pytest.mark.parametrize("trace", ["dev/nvidia0", "dev/nvidia3", "proc/driver/nvidia/gpus/0000:01:00.0"])
def test_an_nvidia_device_that_tensorflow_does_not_see(tmp_path, monkeypatch, trace):
  _make_trace(tmp_path, trace)
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  with pytest.raises(UserError, match=f"{trace}.*make venv GPU=1.*requirements-gpu.txt.*--num_gpus=0"):
    distribution_utils.refuse_unused_nvidia_device(str(tmp_path))
  for hidden in ("", "-1"):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    distribution_utils.refuse_unused_nvidia_device(str(tmp_path))


def test_other_devices_are_no_nvidia_gpus(tmp_path, monkeypatch):
  _make_trace(tmp_path, "dev/nvidiactl")
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  distribution_utils.refuse_unused_nvidia_device(str(tmp_path))


def test_devices_of_this_machine(tmp_path, monkeypatch):
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  num_visible = len(tf.config.list_physical_devices("GPU"))
  for num_gpus in (None, 0, -1):
    expected = distribution_utils.choose_devices(num_gpus, num_visible)
    assert distribution_utils.list_devices(num_gpus, str(tmp_path)) == expected
  _make_trace(tmp_path, "dev/nvidia0")
  assert distribution_utils.list_devices(0, str(tmp_path)) == ["/cpu:0"]
  if num_visible:
    assert distribution_utils.list_devices(None, str(tmp_path)) == ["/gpu:0"]
  else:
    for num_gpus in (None, -1, 1):
      with pytest.raises(UserError, match="TensorFlow does not see it"):
        distribution_utils.list_devices(num_gpus, str(tmp_path))


def test_a_cluster_is_refused():
  distribution_utils.refuse_cluster(None)
  distribution_utils.refuse_cluster('{"task": {"type": "worker", "index": 0}}')
  for content in ("{bad", "[]"):
    with pytest.raises(UserError, match="is not a JSON object; unset TF_CONFIG"):
      distribution_utils.refuse_cluster(content)
  with pytest.raises(UserError, match="one machine; unset TF_CONFIG"):
    distribution_utils.refuse_cluster('{"cluster": {"worker": ["a:1"]}}')


@pytest.mark.parametrize(("batch_size", "num_devices", "share"), [(128, 1, 128), (128, 4, 32), (7, 7, 1), (5, 1, 5)])
def test_per_device_batch_size(batch_size, num_devices, share):
  assert distribution_utils.per_device_batch_size(batch_size, num_devices) == share


@pytest.mark.parametrize(("batch_size", "num_devices", "remedy"), [(129, 4, 128), (131, 4, 128), (3, 4, 4), (7, 2, 6)])
def test_a_batch_that_cannot_be_divided(batch_size, num_devices, remedy):
  with pytest.raises(UserError, match=f"--batch_size={batch_size} .* {num_devices} devices.* --batch_size={remedy}$"):
    distribution_utils.per_device_batch_size(batch_size, num_devices)
  distribution_utils.per_device_batch_size(remedy, num_devices)


def test_session_config():
  config = distribution_utils.session_config(["/cpu:0"])
  assert config.allow_soft_placement
  assert config.gpu_options.allow_growth
  assert dict(config.device_count) == {"CPU": 1, "GPU": 0}
  assert (config.inter_op_parallelism_threads, config.intra_op_parallelism_threads) == (0, 0)
  config = distribution_utils.session_config(["/cpu:0", "/cpu:1"], inter_op=3, intra_op=2)
  assert dict(config.device_count) == {"CPU": 2, "GPU": 0}
  assert (config.inter_op_parallelism_threads, config.intra_op_parallelism_threads) == (3, 2)
  assert dict(distribution_utils.session_config(["/gpu:0", "/gpu:1"]).device_count) == {"CPU": 1, "GPU": 2}


@pytest.mark.parametrize("device", ["/cpu:0", "/gpu:0"])
def test_one_device_needs_no_strategy(device):
  assert distribution_utils.get_distribution_strategy([device]) is None


@pytest.mark.parametrize(
  ("num_devices", "algorithm"),
  [
    (2, None),
    (3, None),
    (2, "reduce_to_one"),
    (3, "reduce_to_one"),
    (2, "hierarchical_copy"),
    (4, "hierarchical_copy"),
  ],
)
def test_replicas_add_up(num_devices, algorithm):
  """Runs a step on logical CPUs: each replica contributes its number, and each sees the sum."""
  devices = [f"/cpu:{number}" for number in range(num_devices)]
  with tf.Graph().as_default():
    strategy = distribution_utils.get_distribution_strategy(devices, algorithm)
    assert strategy.num_replicas_in_sync == num_devices

    def step():
      replica = tf.distribute.get_replica_context()
      number = tf.cast(replica.replica_id_in_sync_group, tf.float32) + 1.0
      return replica.all_reduce(tf.distribute.ReduceOp.SUM, number)

    sums = strategy.experimental_local_results(strategy.run(step))
    with tf.compat.v1.Session(config=distribution_utils.session_config(devices)) as session:
      assert session.run(list(sums)) == [num_devices * (num_devices + 1) / 2] * num_devices


@pytest.mark.parametrize(
  ("devices", "algorithm", "message"),
  [
    (["/cpu:0"], "ring", "--all_reduce_alg=ring does not exist; give one of nccl, hierarchical_copy, reduce_to_one"),
    (["/cpu:0", "/cpu:1"], "nccl", "works between GPUs only"),
    (["/gpu:0", "/gpu:1", "/gpu:2"], "hierarchical_copy", "even number of devices, not 3"),
  ],
)
def test_algorithms_that_do_not_work(devices, algorithm, message):
  with pytest.raises(UserError, match=message):
    distribution_utils.get_distribution_strategy(devices, algorithm)
