"""Opens the files of tests/fixtures, which tests/fixtures/README.md describes."""

import functools
import io
import json
import os
import shutil
import tarfile

import numpy as np

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
MANIFEST = os.path.join(FOLDER, "manifest.tsv")
MODELS = sorted(
  name.removesuffix(".tar.xz").removeprefix("model_") for name in os.listdir(FOLDER) if name.startswith("model_")
)


def load_json(name: str) -> dict:
  """Read `<name>.json`."""
  with open(os.path.join(FOLDER, f"{name}.json"), encoding="utf-8") as file:
    return json.load(file)


@functools.cache
def load_arrays(name: str) -> dict[str, np.ndarray]:
  """Read `<name>.tar.xz`: arrays by key, not to be changed, since all who ask get the same."""
  arrays = {}
  with tarfile.open(os.path.join(FOLDER, f"{name}.tar.xz")) as archive:
    for member in archive:
      array = np.load(io.BytesIO(archive.extractfile(member).read()))
      array.flags.writeable = False
      arrays[member.name.removesuffix(".npy")] = array
  return arrays


def load_model(name: str) -> tuple[dict[str, np.ndarray], dict]:
  """Read the numbers of one of MODELS, and what its `meta_json` says."""
  numbers = load_arrays(f"model_{name}")
  return numbers, json.loads(numbers["meta_json"].tobytes())


def sampled(numbers: dict[str, np.ndarray], group: str, name: str, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Return the numbers that are stored of a group's tensor, and those of `value` at the same places."""
  if f"{group}/{name}" in numbers:
    return numbers[f"{group}/{name}"], value
  return numbers[f"{group}_sample/{name}"], value.ravel()[numbers[f"{group}_index/{name}"]]


def copy_checkpoint(folder: str | os.PathLike) -> None:
  """Copy the original's checkpoint into a folder, which is made if need be."""
  shutil.copytree(os.path.join(FOLDER, "checkpoint"), folder, dirs_exist_ok=True)
