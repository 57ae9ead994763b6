"""Tests how every command begins and ends, as processes of their own."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from official_utils.misc import commands

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMANDS = [
  path.relative_to(ROOT).as_posix()
  for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("data/*.py"), *ROOT.glob("official_utils/**/*.py")])
  if '\nif __name__ == "__main__":\n' in path.read_text(encoding="utf-8")
]
ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
# How Python, asked for it, tells that it has imported a module.
IMPORTED = "import time:"


# Without a buffer, argparse passes over what goes wrong in writing.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def python(*arguments: str, **kwargs) -> subprocess.Popen:
  return subprocess.Popen([sys.executable, *arguments], env=BUFFERED, stderr=subprocess.PIPE, text=True, **kwargs)


def test_there_are_commands():
  assert {"deep_speech.py", "transcribe.py", "tflite_export.py", "data/download.py", "data/curate.py"} <= set(COMMANDS)


@pytest.mark.parametrize("number", [1, 30, 90, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_modules_are_imported_ends_a_command_without_a_word(command, number, tmp_path):
  """Send the signal when the command has imported so many modules after the one that prepares it for that."""
  with python("-X", "importtime", str(ROOT / command), "--help", cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
    started = False
    for line in process.stderr:
      started = started or line.endswith(" official_utils.misc.commands\n")
      number -= started
      if number < 0:
        break
    assert number < 0
    process.send_signal(signal.SIGINT)
    others = [line for line in process.stderr if not line.startswith(IMPORTED)]
  assert (process.returncode, others) == (-signal.SIGINT, [])


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_ctrl_c_at_work_is_one_line(delay, tmp_path):
  options = ["--corpus=tones", "--data_dir=."]
  with python(str(ROOT / "data/download.py"), *options, cwd=tmp_path, stdout=subprocess.PIPE) as process:
    while not (tmp_path / ".download.lock").exists() and process.poll() is None:
      time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
  assert (process.returncode, error) == (130, "error: interrupted from the keyboard\n")


def test_a_command_that_was_started_to_ignore_ctrl_c_does(tmp_path):
  program = "import signal, sys, official_utils.misc.commands as commands; commands.begin(); "
  program += "signal.raise_signal(signal.SIGINT); print('on'); "
  program += "sys.exit(commands.run(lambda: signal.raise_signal(signal.SIGINT)))"
  line = f'trap "" INT; exec {sys.executable} -c "{program}"'
  done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
  assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_who_has_gone_is_no_reason_for_a_traceback(command, tmp_path):
  reader, writer = os.pipe()
  os.close(reader)
  with python(str(ROOT / command), "--help", cwd=tmp_path, stdout=writer) as process:
    os.close(writer)
    _, error = process.communicate()
  assert (process.returncode, error) == (1, "")


def test_a_full_disk_is_one_line(tmp_path):
  with open("/dev/full", "w") as full, python(str(ROOT / "data/curate.py"), "--help", stdout=full) as process:
    _, error = process.communicate()
  assert (process.returncode, error) == (1, "error: the output: No space left on device; make room and start again\n")


@pytest.mark.parametrize("environment", ASCII, ids=["encoding", "locale"])
def test_an_ascii_terminal_shows_other_characters_by_number(environment, tmp_path):
  header = "wav_filename\twav_filesize\ttranscript\n"
  (tmp_path / "m.tsv").write_text(f"{header}/none.wav\t16044\tcafé\n", encoding="utf-8")
  environment = {**os.environ, **environment}
  command = [sys.executable, str(ROOT / "data/curate.py"), "check", "m.tsv"]
  done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
  assert done.returncode == 1
  assert rb"m.tsv, line 2: unknown characters: /none.wav: '\xe9' in 'caf\xe9'" in done.stdout
  assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("environment", ASCII, ids=["encoding", "locale"])
def test_any_program_with_flags_prints_any_text_on_an_ascii_terminal(environment):
  program = "from official_utils.flags import core; core.run(lambda _: print('caf\\u00e9'), 'Prints.')"
  environment = {**os.environ, **environment}
  done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True)
  assert (done.returncode, done.stdout, done.stderr) == (0, rb"caf\xe9" + b"\n", b"")


def test_run_leaves_signals_and_streams_of_others_alone():
  """As in a notebook: the command is called as a function, in any thread, and its output goes to an object."""
  handler = signal.getsignal(signal.SIGINT)
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    assert commands.run(lambda: print("done")) is None
  assert output.getvalue() == "done\n"
  codes = []
  thread = threading.Thread(target=lambda: codes.append(commands.run(lambda: 3)))
  thread.start()
  thread.join()
  assert codes == [3]
  assert signal.getsignal(signal.SIGINT) is handler
