"""The scripts that find interpreters and make environments, run for real in folders of their own."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
THIS_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def run(script, *arguments, folder, **variables):
  """Run a script of .ci in a folder, with nothing on PATH but the system's tools and what `variables` say."""
  environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **variables}
  command = ["bash", str(ROOT / ".ci" / script), *arguments]
  return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def fake_python(path, script):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
  path.chmod(0o755)


@pytest.fixture
def names(tmp_path):
  """A folder first on PATH; the versions 9.x exist nowhere else."""
  folder = tmp_path / "names"
  folder.mkdir()
  return folder


def find(tmp_path, names, *versions, **variables):
  return run("find_python", *versions, folder=tmp_path, PATH=f"{names}:/usr/bin:/bin", **variables)


def test_a_shim_that_does_not_run_is_passed_over(tmp_path, names):
  fake_python(names / "python9.1", "echo 'command not found' >&2; exit 127")
  fake_python(names / "python9.2", "echo 9.2 /real/python9.2")
  found = find(tmp_path, names, "9.1", "9.2")
  assert (found.returncode, found.stdout, found.stderr) == (0, "/real/python9.2\n", "")


def test_path_comes_before_pyenv_and_pyenv_is_searched(tmp_path, names):
  fake_python(tmp_path / ".pyenv/versions/9.1.7/bin/python", "echo 9.1 /pyenv/python")
  assert find(tmp_path, names, "9.1").stdout == "/pyenv/python\n"
  fake_python(names / "python3", "echo 9.1 /path/python3")
  assert find(tmp_path, names, "9.1").stdout == "/path/python3\n"


def test_an_interpreter_of_another_version_is_not_taken(tmp_path, names):
  fake_python(names / "python9.1", "echo 9.11 /real/python")
  found = find(tmp_path, names, "9.1")
  assert found.returncode == 1
  assert found.stdout == ""
  assert "NOT RUN: no Python 9.1 that runs" in found.stderr


def test_py_is_the_only_candidate(tmp_path, names):
  fake_python(names / "python9.1", "echo 9.1 /real/python9.1")
  fake_python(names / "mine", "echo 9.2 /mine")
  assert find(tmp_path, names, "9.1", "9.2", PY="mine").stdout == "/mine\n"
  refused = find(tmp_path, names, "9.1", PY=str(names / "mine"))
  assert refused.returncode == 1
  assert f"NOT RUN: PY={names / 'mine'} is no Python 9.1" in refused.stderr


def test_an_environment_is_made_once_and_again_when_half_made(tmp_path):
  (tmp_path / "requirements.txt").write_text("# nothing\n", encoding="utf-8")

  def venv(*requirements):
    done = run("venv", ".venv", THIS_VERSION, *requirements, folder=tmp_path, PY=sys.executable)
    assert done.returncode == 0, done.stderr
    return done.stdout

  assert f".venv: Python {THIS_VERSION} at " in venv("requirements.txt")
  marker = tmp_path / ".venv" / "marker"
  marker.touch()
  assert venv("requirements.txt") == ""

  # More than before is installed on top, and what was there stays known.
  (tmp_path / "requirements-gpu.txt").write_text("# nothing more\n", encoding="utf-8")
  assert venv("requirements.txt", "requirements-gpu.txt").startswith(".venv: installing")
  assert venv("requirements.txt") == ""
  (tmp_path / "requirements.txt").write_text("# nothing, in other words\n", encoding="utf-8")
  assert venv("requirements.txt").startswith(".venv: installing")
  assert marker.exists()

  os.remove(tmp_path / ".venv" / ".ready")
  assert f".venv: Python {THIS_VERSION} at " in venv("requirements.txt")
  assert not marker.exists()


def test_a_requirement_that_cannot_be_installed_fails_and_leaves_no_stamp(tmp_path):
  (tmp_path / "requirements.txt").write_text("./missing\n", encoding="utf-8")
  done = run("venv", ".venv", THIS_VERSION, "requirements.txt", folder=tmp_path, PY=sys.executable)
  assert done.returncode != 0
  assert "missing" in done.stderr
  assert not (tmp_path / ".venv" / ".ready").exists()
