"""Runs each benchmark on small shapes, from another folder, as a user would."""

import json
import os
import subprocess
import sys

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "benchmarks")


def run(tmp_path, name: str, *arguments: str) -> str:
  command = [sys.executable, os.path.join(FOLDER, name), *arguments]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_recurrent_prints_a_ratio(tmp_path):
  shape = ["--hidden=8", "--depth=8", "--batch=2", "--steps=5", "--layers=1"]
  lines = run(tmp_path, "recurrent.py", "--runs=2", *shape).splitlines()
  result = json.loads(lines[-1])
  assert f"ours is {result['ratio']:.2f} times as fast" in lines[-2]
  assert [len(seconds) for seconds in result["seconds"].values()] == [2, 2]
