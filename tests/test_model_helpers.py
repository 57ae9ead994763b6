"""Tests of stopping and cleaning."""

import math
import os

import pytest

from official_utils.misc import model_helpers
from official_utils.misc.errors import UserError

_MARKERS = ["flags.json", "checkpoint"]


@pytest.mark.parametrize(
  ("threshold", "metric", "stops"),
  [
    (None, 0.0, False),
    (0.23, 0.22, True),
    (0.23, 0.23, True),
    (0.23, 0.24, False),
    (0, 0, True),
    (0, 1e-9, False),
    (1, 0.5, True),
    (0.23, math.nan, False),
    (0.23, math.inf, False),
  ],
)
def test_stops_at_or_below_the_threshold(threshold, metric, stops):
  assert model_helpers.past_stop_threshold(threshold, metric) is stops


@pytest.mark.parametrize("threshold", ["0.23", [0.23], {}])
def test_a_threshold_is_a_number(threshold):
  with pytest.raises(ValueError, match="must be a number or None"):
    model_helpers.past_stop_threshold(threshold, 0.1)


def test_removes_a_folder_of_ours_and_names_it(tmp_path, caplog):
  folder = tmp_path / "model"
  (folder / "inner").mkdir(parents=True)
  (folder / "inner" / "file").touch()
  for marker in _MARKERS:
    (folder / marker).touch()
  with caplog.at_level("INFO", logger="absl"):
    model_helpers.clean_model_dir(f"{folder}/", _MARKERS)
  assert not folder.exists()
  assert caplog.messages == [f"--clean removes {folder}."]


def test_missing_and_empty_folders_are_fine(tmp_path):
  model_helpers.clean_model_dir(str(tmp_path / "missing"), _MARKERS)
  (tmp_path / "empty").mkdir()
  model_helpers.clean_model_dir(str(tmp_path / "empty"), _MARKERS)


@pytest.mark.parametrize("name", ["thesis.tex", *_MARKERS])
def test_leaves_a_folder_of_others_alone(tmp_path, name):
  (tmp_path / name).touch()
  with pytest.raises(UserError, match="does not hold flags.json, checkpoint.*give another --model_dir"):
    model_helpers.clean_model_dir(str(tmp_path), _MARKERS)
  assert os.listdir(tmp_path) == [name]


def test_leaves_links_and_files_alone(tmp_path):
  folder, link, file = tmp_path / "folder", tmp_path / "link", tmp_path / "file"
  folder.mkdir()
  (folder / "flags.json").touch()
  link.symlink_to(folder)
  file.touch()
  for path in (f"{link}/", str(link), str(file)):
    with pytest.raises(UserError, match="--clean removes folders only"):
      model_helpers.clean_model_dir(path, _MARKERS)
  assert (folder / "flags.json").exists()
  assert file.exists()


def test_a_relative_name_is_fine(tmp_path, monkeypatch):
  (tmp_path / "model").mkdir()
  for marker in _MARKERS:
    (tmp_path / "model" / marker).touch()
  monkeypatch.chdir(tmp_path)
  model_helpers.clean_model_dir("model", _MARKERS)
  assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_removed():
  # Nobody may remove what the kernel shows there, whoever runs the tests.
  with pytest.raises(UserError, match="--clean cannot remove /proc/self/fdinfo: .*give another --model_dir"):
    model_helpers.clean_model_dir("/proc/self/fdinfo", ["0"])
