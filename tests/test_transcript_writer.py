"""Tests where transcripts are written, and what is said where they cannot be."""

import os
import subprocess
import sys

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st

from official_utils.misc.errors import UserError
from transcript_writer import TranscriptWriter
from transcripts import Segment, Transcript, Word

HEARD = Transcript("talks/one.wav", 2.0, (Segment(0, 2, (Word("hello", 0.5, 1, 0.9), Word("world", 1, 1.5, 0.8))),))


def write_two(output_format: str, redirection: str = "") -> subprocess.CompletedProcess:
  """Write two transcripts to standard output in a process of its own, in a place where nothing is UTF-8."""
  code = f"""
from transcript_writer import TranscriptWriter
from transcripts import Segment, Transcript, Word
writer = TranscriptWriter({output_format!r}, None, 2)
for name in ("\\u00fc.wav", "b\\udcff.wav"):
  writer.write(Transcript(name, 2.0, (Segment(0, 1, (Word("\\u00e9t\\u00e9", 0, 1, 0.5),)),)), "")
"""
  environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
  line = f"exec {sys.executable} - {redirection}"
  return subprocess.run(["bash", "-c", line], cwd=runs.ROOT, env=environment, input=code.encode(), capture_output=True)


def test_each_recording_gets_its_file(tmp_path):
  writer = TranscriptWriter("txt", str(tmp_path / "new" / "out"), 3)
  paths = [writer.path(name) for name in ("a/one.wav", "b/one.flac", "two.wav")]
  assert [os.path.relpath(path, tmp_path) for path in paths] == [
    "new/out/one.txt",
    "new/out/one-2.txt",
    "new/out/two.txt",
  ]
  writer.write(HEARD, paths[1])
  assert os.listdir(tmp_path / "new" / "out") == ["one-2.txt"]
  with open(paths[1], encoding="utf-8") as file:
    assert file.read() == "hello world\n"


@given(names=st.lists(st.sampled_from(["a.wav", "a-2.wav", "b/a.flac", "a.b.wav", "a", "a-2-2.wav", "\n.wav", ".wav"])))
def test_no_two_recordings_share_a_file(tmp_path_factory, names):
  folder = str(tmp_path_factory.getbasetemp() / "shared")
  paths = list(map(TranscriptWriter("srt", folder, len(names)).path, names))
  assert len(set(paths)) == len(paths)
  assert all(os.path.dirname(path) == folder and path.endswith(".srt") and "\n" not in path for path in paths)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
  writer = TranscriptWriter("json", str(tmp_path), 1)
  path = writer.path(HEARD.name)
  os.makedirs(path)
  with pytest.raises(UserError, match=r"one.json: cannot be written \(Is a directory\); choose another --output_dir$"):
    writer.write(HEARD, path)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_transcribed(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="choose another --output_dir"):
    TranscriptWriter("txt", str(tmp_path / "file" / "out"), 1)


@pytest.mark.parametrize("output_format", ["srt", "vtt"])
def test_subtitles_of_several_recordings_need_a_folder(output_format, tmp_path):
  with pytest.raises(UserError, match=f"^--output_format={output_format} .* give --output_dir for several$"):
    TranscriptWriter(output_format, None, 2)
  TranscriptWriter(output_format, str(tmp_path), 2)


@pytest.mark.parametrize(
  ("output_format", "expected"),
  [
    ("txt", "\u00fc.wav\t\u00e9t\u00e9\nb\ufffd.wav\t\u00e9t\u00e9\n"),
    ("ctm", "\u00fc.wav 1 0.000 1.000 \u00e9t\u00e9 0.5000\nb\ufffd.wav 1 0.000 1.000 \u00e9t\u00e9 0.5000\n"),
    (
      "tsv",
      "file\tstart\tend\ttext\n\u00fc.wav\t0.000\t1.000\t\u00e9t\u00e9\nb\ufffd.wav\t0.000\t1.000\t\u00e9t\u00e9\n",
    ),
  ],
)
def test_standard_output_is_utf8_with_one_header(output_format, expected):
  done = write_two(output_format)
  assert (done.returncode, done.stdout.decode("utf-8"), done.stderr) == (0, expected, b"")


@pytest.mark.parametrize(
  ("redirection", "message"),
  [
    (">&-", "standard output is closed; give --output_dir"),
    (">/dev/full", "standard output: cannot be written (No space left on device); make room or give --output_dir"),
  ],
)
def test_standard_output_that_takes_nothing(redirection, message):
  done = write_two("txt", redirection)
  assert done.returncode != 0
  assert message in done.stderr.decode()
