"""Tests what is known of NVIDIA devices without TensorFlow, on folders that look like a system's root."""

import pytest

from official_utils.misc import nvidia


def make_root(folder, *traces: str) -> str:
  for trace in traces:
    (folder / trace).parent.mkdir(parents=True, exist_ok=True)
    (folder / trace).touch()
  return str(folder)


def test_a_device_seen_in_both_folders_is_one(tmp_path, monkeypatch):
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  root = make_root(tmp_path, "dev/nvidia0", "dev/nvidia1", "dev/nvidiactl", "proc/driver/nvidia/gpus/0000:01:00.0")
  assert nvidia.list_devices(root) == [f"{root}/dev/nvidia0", f"{root}/dev/nvidia1"]


def test_a_device_in_the_drivers_folder_alone_is_found(tmp_path, monkeypatch):
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  root = make_root(tmp_path, "dev/nvidiactl", "proc/driver/nvidia/gpus/0000:01:00.0")
  assert nvidia.list_devices(root) == [f"{root}/proc/driver/nvidia/gpus/0000:01:00.0"]


@pytest.mark.parametrize(("visible", "number"), [("", 0), ("-1", 0), ("1", 1), ("0,2", 2), ("0,1,2,3", 3)])
def test_the_environment_hides_devices(visible, number, tmp_path, monkeypatch):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
  root = make_root(tmp_path, "dev/nvidia0", "dev/nvidia1", "dev/nvidia2")
  assert len(nvidia.list_devices(root)) == number


def test_no_device_where_there_is_no_trace(tmp_path, monkeypatch):
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  assert nvidia.list_devices(make_root(tmp_path, "dev/nvidiactl", "dev/null")) == []
