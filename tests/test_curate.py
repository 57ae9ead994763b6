"""Tests the command for manifests: faults found, none invented; statistics; merging, filtering and splitting."""

import collections
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from data import curate, manifest, splitting
from data.corpora import folder
from data.manifest import Entry, read_manifest, size_to_duration, write_manifest
from official_utils.misc.errors import UserError

COMMAND = os.path.abspath(curate.__file__)
RATE = 16000


def write_audio(path, seconds: float = 0.5, seed: int = 0, rate: int = RATE, channels: int = 1, **kwargs) -> str:
  samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))
  soundfile.write(path, samples, rate, **kwargs)
  return str(path)


def write_corpus(folder, number: int, seconds=lambda index: 0.5) -> list[Entry]:
  """Write sound recordings, each of other samples."""
  os.makedirs(folder, exist_ok=True)
  entries = []
  for index in range(number):
    path = write_audio(os.path.join(folder, f"{index:03d}.wav"), seconds(index), seed=index)
    entries.append(Entry(path, manifest.duration_to_size(seconds(index)), f"no {chr(97 + index % 26)}"))
  return entries


def write_rows(path, entries: list[Entry]) -> str:
  write_manifest(str(path), entries)
  return str(path)


def run(*arguments, cwd=None) -> subprocess.CompletedProcess:
  return subprocess.run([sys.executable, COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300)


def check(*arguments) -> tuple[int, list[tuple[str, int, str]], str]:
  """Run `curate.py check`; return the exit code, (manifest, line, kind) of the faults, and all that was printed."""
  done = run("check", *arguments)
  assert not done.stderr.startswith("error") and "Traceback" not in done.stderr, done.stderr
  faults = []
  for line in done.stdout.splitlines():
    if ", line " in line:
      place, kind, _ = line.split(": ", 2)
      path, number = place.split(", line ")
      faults.append((path, int(number), kind))
  return done.returncode, faults, done.stdout


def plant(folder, entries: list[Entry]) -> dict[int, str]:
  """Spoil one row each, and return the kind of the fault by index."""

  def replace(index, **kwargs):
    entries[index] = entries[index]._replace(**kwargs)

  def content(index, data: bytes):
    with open(entries[index].path, "wb") as file:
      file.write(data)

  planted = {}
  os.remove(entries[10].path)
  planted[10] = "missing audio"
  content(25, b"")
  planted[25] = "empty file"
  content(40, b"this is no audio at all\n" * 100)
  planted[40] = "unreadable audio"
  path = write_audio(folder / "cut.flac", 2.0, seed=1000)
  replace(55, path=path, size=manifest.duration_to_size(2.0))
  content(55, pathlib.Path(path).read_bytes()[:20000])
  planted[55] = "unreadable audio"
  write_audio(entries[70].path, 0.5, seed=1001, channels=2)
  planted[70] = "channels"
  write_audio(entries[85].path, 0.5, seed=1002, rate=8000)
  planted[85] = "sample rate"
  samples = np.random.default_rng(5).uniform(-0.1, 0.1, 8000).astype(np.float32)
  samples[777] = np.nan
  soundfile.write(entries[100].path, samples, RATE, subtype="FLOAT")
  planted[100] = "not a number"
  soundfile.write(entries[115].path, np.zeros(8000), RATE)
  planted[115] = "silence"
  soundfile.write(entries[130].path, np.zeros(0), RATE)
  planted[130] = "no samples"
  replace(145, size=entries[145].size + 32000)
  planted[145] = "wrong size"
  replace(160, transcript="café no. 7")
  planted[160] = "unknown characters"
  replace(175, transcript="  ")
  planted[175] = "no transcript"
  replace(190, transcript="mississippi")
  planted[190] = "text too long"
  replace(205, path=entries[3].path)
  planted[205] = "listed twice"
  content(220, pathlib.Path(entries[4].path).read_bytes())
  planted[220] = "same audio"
  write_audio(entries[235].path, 0.05, seed=1003)
  replace(235, size=manifest.duration_to_size(0.05), transcript="a")
  planted[235] = "too short"
  write_audio(entries[250].path, 37.0, seed=1004)
  replace(250, size=manifest.duration_to_size(37.0))
  planted[250] = "too long"
  return planted


def test_check_finds_each_planted_fault_among_300_rows_and_no_others(tmp_path):
  entries = write_corpus(tmp_path / "wavs", 300)
  # What training takes as it is, is no fault.
  entries[7] = entries[7]._replace(transcript=" No A ")
  planted = plant(tmp_path, entries)
  path = write_rows(tmp_path / "m.tsv", entries)
  lines = pathlib.Path(path).read_bytes().split(b"\n")
  lines[1 + 265] = b"wavs/265.wav\t16044"
  lines[1 + 275] = b"wavs/275.wav\tlong\tno a"
  lines[1 + 285] = b"wavs/285.wav\t16044\tcaf\xe9"
  with open(path, "wb") as file:
    file.write(b"\n".join(lines))
  planted |= dict.fromkeys((265, 275, 285), "broken row")
  assert len(set(planted.values())) >= 12

  code, faults, output = check(path, "--sample_rate=16000", "--channels=1")
  assert faults == [(path, index + 2, kind) for index, kind in sorted(planted.items())]
  assert code == 1
  assert f"300 rows, {len(planted)} faults" in output
  assert "3 broken row" in output
  shown = dict(zip(sorted(planted), output.splitlines(), strict=False))
  for index, words in {
    70: "2 channels",
    85: "8000 samples a second, not 16000",
    145: "lasts 0.50 s; the size in the manifest says 1.50 s",
    160: "'.7é'",
    190: "need 14 output steps; the audio gives 13 (0.50 s)",
    205: f"is listed in {path}, line 5 already",
    220: f"in {path}, line 6",
    265: "2 fields instead of 3",
    275: "'long'",
    285: "not UTF-8",
  }.items():
    assert words in shown[index]


def test_check_finds_no_fault_in_a_sound_manifest_from_another_folder(tmp_path):
  entries = write_corpus(tmp_path / "wavs", 6)
  path = write_rows(tmp_path / "m.tsv", entries)
  done = run("check", "m.tsv", cwd=tmp_path)
  assert (done.returncode, done.stdout) == (0, "6 rows, 0 faults\n"), done.stderr
  assert check(path, path.replace("m.tsv", "./m.tsv"))[1] == [
    (str(tmp_path) + "/./m.tsv", line, "listed twice") for line in range(2, 8)
  ]
  with open(path, "a") as file:
    file.write("./wavs/../wavs/003.wav\t16044\tno d\n")
  assert check(path)[1] == [(path, 8, "listed twice")]


def test_check_finds_no_fault_in_a_folder_of_stereo_recordings_at_44100_hertz(tmp_path):
  for number in range(6):
    write_audio(tmp_path / f"{number}.wav", seed=number, rate=44100, channels=2)
    (tmp_path / f"{number}.txt").write_text("Yes, no.")
  tables = folder.prepare_folder(str(tmp_path / "data"), str(tmp_path))
  assert check(*tables.values())[0] == 0
  (tmp_path / "0.wav").write_bytes(b"no audio")
  assert [kind for _, _, kind in check(*tables.values())[1]] == ["unreadable audio"]


def test_check_takes_other_rates_channels_limits_and_alphabets(tmp_path):
  audio = write_audio(tmp_path / "a.wav", 2.0, rate=8000, channels=2)
  path = write_rows(tmp_path / "m.tsv", [Entry(audio, manifest.duration_to_size(2.0), "ñandú")])
  vocabulary = tmp_path / "vocabulary.txt"
  vocabulary.write_text("ñ\na\nn\nd\nú\n-\n")
  assert {kind for _, _, kind in check(path)[1]} == {"unknown characters"}
  alphabet = f"--vocabulary_file={vocabulary}"
  assert check(path, alphabet)[:2] == (0, [])
  one_channel = [kind for _, _, kind in check(path, "--sample_rate=16000", "--channels=1", alphabet)[1]]
  assert one_channel == ["sample rate", "channels"]
  assert check(path, "--sample_rate=8000", "--channels=2", alphabet, "--max_duration=1.5")[1][0][2] == "too long"


@pytest.mark.parametrize("header", ["wav_filename,wav_filesize,transcript", None])
def test_check_goes_on_after_broken_rows_of_every_form(header, tmp_path):
  audio = write_audio(tmp_path / "a.wav")
  if header:
    rows = [header, f'{audio},1,"broken"quote', f"{audio},16044,no,no", f"{audio},16044,ok"]
  else:
    good = {"audio_filepath": audio, "duration": 0.5, "text": "ok"}
    rows = ["", json.dumps(good | {"duration": "long"}), '{"audio_filepath": ', json.dumps(good)]
    rows[0] = json.dumps(good | {"audio_filepath": str(tmp_path / "no.wav")})
  path = tmp_path / "m.csv"
  path.write_text("\n".join(rows) + "\n")
  expected = ["broken row"] * 2 if header else ["missing audio", "broken row", "broken row"]
  assert [kind for _, _, kind in check(str(path))[1]] == expected


def test_stats_count_and_draw(tmp_path):
  rows = [
    Entry(f"/d/{speaker}-1-{index:04d}.flac", manifest.duration_to_size(seconds), "ab ab c")
    for speaker in (1, 2)
    for index, seconds in enumerate([1.0, 1.5, 2.0, 12.0])
  ]
  first, second = write_rows(tmp_path / "a.tsv", rows[:4]), write_rows(tmp_path / "b.tsv", rows[4:])
  done = run("stats", first, second)
  assert done.returncode == 0, done.stderr
  parts = done.stdout.split("\n\n")
  assert [part.splitlines()[0] for part in parts] == [first, second, "all together"]
  for words in ("utterances   8", "0.01 hours (33.0 s)", "speakers     2\n", "words        24, 2 different", "56, 4"):
    assert words in parts[2]
  assert "speakers     1\n" in parts[0]
  bars = [line.split() for line in parts[2].splitlines() if " to " in line]
  assert ["1", "to", "2", "4", "#" * 40] in bars
  assert ["12", "to", "13", "2", "#" * 20] in bars
  assert "least 1.00, median 2.00, most 12.00" in parts[2]


def test_merge_sorts_and_takes_each_row_once(tmp_path):
  a, b, c = (Entry(str(tmp_path / name), size, name) for name, size in (("a", 300), ("b", 100), ("c", 200)))
  paths = write_rows(tmp_path / "1.tsv", [a, b]), write_rows(tmp_path / "2.tsv", [b, c])
  done = run("merge", *paths, f"--output={tmp_path}/out.tsv")
  assert done.returncode == 0, done.stderr
  assert read_manifest(str(tmp_path / "out.tsv")) == [b, c, a]
  assert "3 utterances" in done.stdout and "1 duplicates" in done.stdout

  write_rows(tmp_path / "2.tsv", [b._replace(transcript="else")])
  done = run("merge", *paths, f"--output={tmp_path}/out.tsv")
  assert done.returncode == 1
  assert done.stderr.count("\n") == 1 and "'else' here" in done.stderr and "1.tsv, line 3" in done.stderr
  assert len(read_manifest(str(tmp_path / "out.tsv"))) == 3


def test_filter_keeps_what_lies_within_the_limits(tmp_path):
  seconds = [0.5, 1.0, 5.0, 20.0, 21.0]
  entries = [Entry(f"/{length}", manifest.duration_to_size(length), "x" * 20) for length in seconds]
  path = write_rows(tmp_path / "m.tsv", entries)
  out = str(tmp_path / "out.tsv")
  limits = ("--min_duration=1", "--max_duration=20", "--max_chars_per_second=4")
  done = run("filter", path, f"--output={out}", *limits)
  assert [entry.path for entry in read_manifest(out)] == ["/5.0", "/20.0"]
  for words in ("1 too short", "1 too long", "1 too many characters a second", "2 utterances"):
    assert words in done.stdout
  done = run("filter", path, f"--output={out}", "--min_duration=30")
  assert done.returncode == 1 and "no utterance" in done.stderr
  assert len(read_manifest(out)) == 2


def test_measure_takes_the_sizes_from_the_audio(tmp_path):
  audio = write_audio(tmp_path / "a.flac", 1.25, rate=8000)
  path = write_rows(tmp_path / "m.tsv", [Entry(audio, os.path.getsize(audio), "a")])
  done = run("merge", path, f"--output={path}", "--measure")
  assert done.returncode == 0, done.stderr
  assert size_to_duration(read_manifest(path)[0].size) == 1.25
  write_rows(tmp_path / "m.tsv", [Entry(str(tmp_path / "no.wav"), 10, "a")])
  done = run("stats", path, "--measure")
  assert done.returncode == 1 and "no.wav" in done.stderr.splitlines()[-1]


def test_split_depends_on_the_seed_alone(tmp_path):
  entries = [Entry(f"/{index:02d}", 1000 - index % 7, "x") for index in range(50)]
  path = write_rows(tmp_path / "m.tsv", entries)

  def parts(*arguments) -> dict[str, list[Entry]]:
    done = run("split", path, f"--output_dir={tmp_path}/parts", *arguments)
    assert done.returncode == 0, done.stderr
    return {part: read_manifest(str(tmp_path / "parts" / f"{part}.tsv")) for part in ("train", "dev", "test")}

  first = parts("--seed=3", "--dev=0.1", "--test=0.2")
  assert [len(first[part]) for part in ("train", "dev", "test")] == [35, 5, 10]
  assert sorted(sum(first.values(), [])) == sorted(entries)
  assert all(part == sorted(part, key=lambda entry: entry.size) for part in first.values())
  write_rows(tmp_path / "m.tsv", entries[::-1])
  assert parts("--seed=3", "--dev=0.1", "--test=0.2") == first
  assert parts("--seed=4", "--dev=0.1", "--test=0.2") != first


def test_split_by_speaker_keeps_speakers_apart(tmp_path):
  entries = [Entry(f"/d/{speaker}-1-{index:04d}.flac", 1000, "x") for speaker in range(10) for index in range(5)]
  path = write_rows(tmp_path / "m.tsv", entries)
  assert run("split", path, f"--output_dir={tmp_path}/parts", "--by_speaker").returncode == 0
  part_of = collections.defaultdict(set)
  for part in ("train", "dev", "test"):
    for entry in read_manifest(str(tmp_path / "parts" / f"{part}.tsv")):
      part_of[splitting.speaker_of(entry.path)].add(part)
  assert len(part_of) == 10 and all(len(parts) == 1 for parts in part_of.values())


def test_split_gives_each_part_something_and_leaves_nothing_of_an_earlier_run(tmp_path):
  entries = [Entry(f"/{index:02d}", 1000, "x") for index in range(3)]
  path = write_rows(tmp_path / "m.tsv", entries)
  parts = tmp_path / "parts"
  assert run("split", path, f"--output_dir={parts}").returncode == 0
  assert sorted(sum((read_manifest(str(part)) for part in parts.iterdir()), [])) == entries
  assert len(list(parts.iterdir())) == 3
  assert run("split", path, f"--output_dir={parts}", "--test=0", "--seed=1").returncode == 0
  assert sorted(os.listdir(parts)) == ["dev.tsv", "train.tsv"]
  write_rows(tmp_path / "m.tsv", entries[:2])
  done = run("split", path, f"--output_dir={parts}")
  assert done.returncode == 1 and "leave no training set; give more rows" in done.stderr
  assert sorted(os.listdir(parts)) == ["dev.tsv", "train.tsv"]


def test_ends_quietly_when_its_reader_has_seen_enough(tmp_path):
  entries = [Entry(f"/none/{index}.wav", 16044, "x") for index in range(3000)]
  command = [sys.executable, COMMAND, "check", write_rows(tmp_path / "m.tsv", entries)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
    assert "m.tsv, line 2: missing audio" in process.stdout.readline()
    process.stdout.close()
    assert "Error" not in process.stderr.read()
  assert process.returncode == 1


@pytest.mark.parametrize(
  ("arguments", "code", "words"),
  [
    ((), 2, "command"),
    (("sort", "m.tsv"), 2, "'sort'"),
    (("check",), 2, "M"),
    (("check", "m.tsv", "--chanels=1"), 2, "--chanels"),
    (("check", "m.tsv", "--frames_per_step=0"), 2, "--frames_per_step"),
    (("check", "m.tsv", "--vocabulary_file=letters.txt"), 1, "letters.txt: the last line is 'b'"),
    (("check", "no.tsv"), 1, "no.tsv: cannot read the manifest"),
    (("stats", "empty.tsv"), 1, "has no rows"),
    (("merge", "m.tsv"), 2, "--output"),
    (("merge", "m.tsv", "--output=m.tsv/x.tsv"), 1, "m.tsv/x.tsv: cannot write"),
    (("split", "m.tsv", "--output_dir=parts", "--dev=0.6", "--test=0.4"), 1, "leave no training set"),
    (("split", "m.tsv", "--output_dir=parts", "--dev=nan"), 1, "--dev=nan"),
    (("split", "m.tsv", "--output_dir=parts", "--by_speaker"), 1, "line 2: no speaker"),
    (("split", "train.tsv", "--output_dir=."), 1, "is the manifest to be split"),
  ],
)
def test_names_a_mistake_in_one_line(arguments, code, words, tmp_path):
  for name in ("m.tsv", "train.tsv"):
    write_rows(tmp_path / name, [Entry("/a", 100, "x")])
  (tmp_path / "empty.tsv").write_text("\t".join(manifest.COLUMNS) + "\n")
  (tmp_path / "letters.txt").write_text("a\nb\n")
  done = run(*arguments, cwd=tmp_path)
  assert done.returncode == code
  assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
  assert words in done.stderr


def test_main_runs_in_a_process_of_its_callers(tmp_path, capsys):
  path = write_rows(tmp_path / "m.tsv", write_corpus(tmp_path, 2))
  assert curate.main(["check", path]) == 0
  assert capsys.readouterr().out == "2 rows, 0 faults\n"
  with pytest.raises(UserError):
    read_manifest(str(tmp_path / "none.tsv"))
