"""Types the first two commands that a user types, LibriSpeech coming from a server in this process."""

import os
import re
import subprocess
import sys

import runs
import small_network
from archive_server import SAMPLE_RATE, make_subset, make_tar, publish, serve

from data import download
from data.corpora import librispeech
from data.manifest import read_manifest

COMMAND = os.path.abspath(download.__file__)
SMALL = small_network.options(batch_size=4, train_epochs=1)


def run_download(folder, *arguments: str) -> subprocess.CompletedProcess:
  command = [sys.executable, COMMAND, *arguments]
  return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_downloads_and_trains_with_the_defaults(tmp_path, monkeypatch):
  """What is no default puts the folders elsewhere, names the server, and makes network, batch and run small."""
  # Whatever proxy this machine uses, it does not lead to this server.
  monkeypatch.setenv("no_proxy", "*")
  # What is suggested depends on the GPUs of the machine.
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
  defaults = {name: runs.parse()[name].default for name in ("train_data_dir", "eval_data_dir")}
  folder = re.search(r"--data_dir \(string; default: (\S+)\)", run_download(tmp_path, "--help").stdout)[1]
  assert {os.path.dirname(path) for path in defaults.values()} == {folder}
  manifests = {name: os.path.join("here", os.path.basename(path)) for name, path in defaults.items()}
  paths = [f"--{name}={path}" for name, path in manifests.items()]
  training = [*paths, "--model_dir=model", "--num_gpus=-1", *SMALL]

  refused = runs.start(tmp_path, *training)
  error = refused.stderr.splitlines()[-1]
  assert (refused.returncode, refused.stdout) == (1, "")
  assert error.startswith(f"error: {manifests['train_data_dir']}: cannot read the manifest")
  assert "`python data/download.py` makes manifests" in error

  subsets = {
    name: make_tar(make_subset(name, seed, num_utterances=1, lengths=4 * (2 * SAMPLE_RATE,)))
    for seed, name in enumerate(librispeech.LIBRISPEECH.subsets, start=1)
  }
  with serve(publish(subsets)) as served:
    arguments = [f"--mirror={served.url}", "--data_dir=here"]
    done = run_download(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    for name in subsets:
      assert f"fetching {name}.tar.gz: 100%" in done.stderr
    hint = done.stdout.splitlines()[-1]
    suggested = f" {' '.join(paths)} --test_data_dir=here/test-clean.csv --model_dir=here/model-librispeech"
    assert hint.startswith("  python deep_speech.py --num_gpus=0 --rnn_hidden_layers=2 ")
    assert hint.endswith(suggested)
    served.log.clear()
    again = run_download(tmp_path, *arguments)
    assert (again.returncode, again.stderr, served.log) == (0, "", [])
    assert "dev-clean: is already in here/dev-clean" in again.stdout
    assert again.stdout.splitlines()[-1] == hint
  assert [len(read_manifest(str(tmp_path / path))) for path in manifests.values()] == [8, 4]

  done = runs.start(tmp_path, *training)
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines[:2] == [
    f"train: 8 utterances of {manifests['train_data_dir']}, 0 left out",
    f"eval: 4 utterances of {manifests['eval_data_dir']}, 0 left out",
  ]
  assert re.fullmatch(
    r"epoch 1/1  loss \d+\.\d+  \S+ utterances/s(?: \(\d+% .* input\))?  WER \d\.\d{4}  CER \d\.\d{4}", lines[2]
  )
  assert lines[3:] == [line for line in lines[3:] if line.startswith("stopped: ")] != []
  assert {"checkpoint", "eval.jsonl"} <= set(os.listdir(tmp_path / "model"))
