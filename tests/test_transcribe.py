"""Transcribes with a small trained network: in Python, and as a user would."""

import io
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import recordings
import runs
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import decoder
import scoring
import transcribe
import transcripts
from data import audio, manifest
from official_utils.misc.errors import UserError

RATE = 16000


@pytest.fixture(scope="module")
def model(tones_model) -> transcribe.Transcriber:
  return transcribe.load_model(tones_model)


@pytest.fixture(scope="module")
def paths(tones_dir) -> list[str]:
  return [entry.path for entry in manifest.read_manifest(f"{tones_dir}/train.tsv")][:12]


@pytest.fixture(scope="module")
def texts(model, paths) -> list[str]:
  """Transcribe each file by the plainest means."""
  greedy = decoder.GreedyDecoder(model.model.labels)
  log_probs = [model.model.log_probs([audio.read_audio(path, RATE)])[0] for path in paths]
  plain = [greedy.decode(each[np.newaxis], [len(each)])[0].text for each in log_probs]
  assert len(set(plain)) > 3
  return [" ".join(text.split()) for text in plain]


def command(*arguments, cwd=None, **options) -> subprocess.CompletedProcess:
  """Run transcribe.py to its end."""
  program = os.path.join(runs.ROOT, "transcribe.py")
  options = {"text": True, **options}
  return subprocess.run([sys.executable, program, *arguments], cwd=cwd, capture_output=True, **options)


def test_texts_are_in_the_order_of_the_files(model, paths, texts):
  assert model(paths) == texts
  assert model(paths[::-1]) == texts[::-1]
  assert model([]) == []


@pytest.mark.parametrize("seconds_at_once", [1, 5, 1000])
def test_how_much_is_computed_at_once_changes_nothing(seconds_at_once, model, paths, texts):
  assert transcribe.Transcriber(model.model, model.decoder, seconds_at_once=seconds_at_once)(paths) == texts


def test_transcript_of_a_file_and_of_arrays(model, paths, texts):
  transcript = model.transcribe(paths[0])
  samples = audio.read_audio(paths[0], RATE)
  assert (transcript.name, transcript.text) == (paths[0], texts[0])
  assert transcript.duration == len(samples) / RATE
  assert [(segment.start, segment.end) for segment in transcript.segments] == [(0, transcript.duration)]
  starts = [word.start for word in transcript.words]
  assert starts == sorted(starts)
  assert all(0 <= word.start <= word.end <= transcript.duration for word in transcript.words)
  whole = np.round(samples * 32768).astype(np.int16)
  for array in (samples, samples.astype(">f8"), whole, whole.astype(">i2"), np.stack([whole, whole], 1)):
    assert model.transcribe(array).words == transcript.words
    assert model([array]) == [texts[0]]
  assert model.transcribe(np.repeat(samples, 3), 3 * RATE).duration == pytest.approx(transcript.duration, abs=1e-3)


def test_log_probs_are_those_of_the_model(model, paths):
  for path, log_probs in zip(paths, model.log_probs(paths), strict=True):
    (alone,) = model.model.log_probs([audio.read_audio(path, RATE)])
    np.testing.assert_allclose(log_probs, alone, atol=1e-4)


@pytest.mark.parametrize(
  "samples",
  [
    np.zeros(0),
    np.array([1.0, np.nan]),
    np.array([1e30, 0.0]),
    np.array([1e300, 0.0]),
    np.array("text"),
    np.zeros([2, 2, 2]),
    np.zeros([2, 1000]),
    [100, 200, 300],
    [[0.0, 0.1], [0.2]],
    None,
  ],
)
def test_arrays_that_are_no_samples(samples, model):
  with pytest.raises(UserError, match="^array: "):
    model.transcribe(samples)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "8000"])
def test_rates_that_are_none(rate, model):
  with pytest.raises(UserError, match="is not a sample rate"):
    model.transcribe(np.zeros(RATE), rate)


def test_open_files_and_bytes_are_recordings(model, paths, texts):
  content = pathlib.Path(paths[1]).read_bytes()
  with open(paths[0], "rb") as file:
    several = [file, content, paths[2], io.BytesIO(content), pathlib.Path(paths[2])]
    assert model(several) == [texts[0], texts[1], texts[2], texts[1], texts[2]]
    for log_probs, expected in zip(model.log_probs(several[:2]), model.log_probs(paths[:2]), strict=True):
      np.testing.assert_array_equal(log_probs, expected)
    assert model.transcribe(file) == model.transcribe(paths[0])
  assert (model.transcribe(content).name, model.transcribe(content).text) == ("audio", texts[1])
  with open(os.devnull, "rb") as empty, pytest.raises(UserError, match="^/dev/null: the audio file is empty"):
    model.transcribe(empty)


def test_eight_bits_of_speech(model, paths):
  samples = audio.read_audio(paths[0], RATE)
  content = io.BytesIO()
  soundfile.write(content, samples, RATE, "PCM_U8", format="WAV")
  # A WAV file's header has 44 bytes.
  array = np.frombuffer(content.getvalue(), np.uint8)[44:][: len(samples)]
  assert model.transcribe(array).words == model.transcribe(content).words


def test_one_recording_is_no_list(model, paths):
  with open(paths[0], "rb") as file:
    one = [paths[0], pathlib.Path(paths[0]), file, b"RIFF", bytearray(4), io.BytesIO(), np.zeros(RATE), np.zeros([])]
    one.append(transcribe.Recording("a", lambda rate: []))
    for method in (model, model.log_probs, lambda sources: list(model.transcribe_all(sources))):
      for source in one:
        with pytest.raises(UserError, match=r"one recording and no list; put it into \[\]"):
          method(source)


def test_lists_of_every_kind(model, paths, texts):
  for several in (tuple(paths[:2]), iter(paths[:2]), np.array(paths[:2]), np.array(paths[:2], object)):
    assert model(several) == texts[:2]
  # The rows of an array.
  assert model(np.zeros([2, RATE])) == ["", ""]


def test_what_is_done_comes_out_before_a_long_recording_is_read(model, paths, texts):
  num_read = 0

  def endless(rate):
    nonlocal num_read
    while True:
      num_read += 1
      yield np.random.default_rng(num_read).normal(size=10 * rate).astype(np.float32)

  results = model.transcribe_all([paths[0], transcribe.Recording("endless", endless)])
  assert next(results).text == texts[0]
  assert num_read < 200


def test_several_threads_at_once(model, paths, texts):
  with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(lambda number: model(paths[number : number + 4]), [0, 4, 8, 0, 4, 8])) == 2 * [
      texts[:4],
      texts[4:8],
      texts[8:],
    ]


def test_a_bad_file_does_not_stop_the_others(model, paths, texts, tmp_path):
  half = tmp_path / "half.flac"
  soundfile.write(half, recordings.samples_of("half", 40, RATE), RATE)
  half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
  sources = [paths[0], str(half), "nowhere.wav", paths[1]]
  first, cut, missing, last = model.transcribe_all(sources)
  assert (first.text, last.text) == (texts[0], texts[1])
  assert str(half) in str(cut)
  assert "nowhere.wav" in str(missing)
  with pytest.raises(transcribe.RecordingsError, match=rf"^2 of 4 recordings .* the first reason: {half}: ") as caught:
    model(sources)
  for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
    assert "\n" not in str(error)
    assert (error.results[0], error.results[3]) == (texts[0], texts[1])
    assert [str(result) for result in error.results[1:3]] == [str(cut), str(missing)]
    assert all(isinstance(result, UserError) for result in error.results[1:3])
  # Nobody asks which one it was, or how many, of one.
  for alone in (lambda: model(["nowhere.wav"]), lambda: model.transcribe("nowhere.wav")):
    with pytest.raises(UserError, match="^nowhere.wav: "):
      alone()


def test_a_long_recording_is_its_clips(model, paths, texts, tmp_path):
  rng = np.random.default_rng(1)
  pieces, starts, length = [], [], 0
  for path in paths * 4:
    samples = audio.read_audio(path, RATE)
    pieces += [samples, np.zeros(rng.integers(RATE * 6 // 10, 2 * RATE), np.float32)]
    starts.append(length / RATE)
    length += len(pieces[-2]) + len(pieces[-1])
  soundfile.write(tmp_path / "long.wav", np.concatenate(pieces), RATE, subtype="FLOAT")
  # Small batches: several pools.
  transcript = transcribe.Transcriber(model.model, model.decoder, 8).transcribe(str(tmp_path / "long.wav"))
  assert transcript.duration == length / RATE
  assert transcript.text == " ".join(text for text in texts * 4 if text)
  alone = [model.transcribe(path) for path in paths]
  expected = [
    (word.text, word.start + start) for start, clip in zip(starts, alone * 4, strict=True) for word in clip.words
  ]
  assert [word.text for word in transcript.words] == [text for text, _ in expected]
  np.testing.assert_allclose([word.start for word in transcript.words], [start for _, start in expected], atol=0.1)


@given(
  dtype=st.sampled_from(["<i2", ">i2", "i4", "<f4", ">f8", "u1"]),
  length=st.one_of(st.integers(1, 3 * RATE), st.integers(29 * RATE, 61 * RATE)),
  rate=st.sampled_from([8000, RATE, 44100]),
)
@settings(max_examples=30)
def test_digital_silence_gives_no_words(model, dtype, length, rate):
  transcript = model.transcribe(np.full(length, 128 if dtype == "u1" else 0, dtype), rate)
  assert (transcript.segments, transcript.text) == ((), "")
  assert transcript.duration == pytest.approx(length / rate, abs=1e-3)


def test_silent_files_give_empty_transcripts_in_every_format(model, paths, texts, tones_model, tmp_path):
  for name, seconds in (("short", 0.5), ("long", 45)):
    soundfile.write(tmp_path / f"{name}.wav", np.zeros(round(seconds * RATE)), RATE)
  silent = [str(tmp_path / "short.wav"), str(tmp_path / "long.wav")]
  assert model(silent) == ["", ""]
  assert model([silent[0], paths[0], silent[1]]) == ["", texts[0], ""]
  empty = {"txt": "\n", "srt": "", "vtt": "WEBVTT\n\n", "tsv": "file\tstart\tend\ttext\n", "ctm": ""}
  for path, duration in zip(silent, (0.5, 45), strict=True):
    transcript = model.transcribe(path)
    assert {name: transcripts.render(transcript, name) for name in empty} == empty
    form = {"name": path, "duration": duration, "text": "", "confidence": None, "segments": []}
    assert json.loads(transcripts.render(transcript, "json")) == form
  done = command(f"--model={tones_model}", *silent)
  assert (done.returncode, done.stdout) == (0, "".join(f"{path}\t\n" for path in silent))
  assert done.stderr.startswith("2 of 2 recordings, 45.5 s of audio")


def test_command_writes_every_format(paths, texts, tones_model, tmp_path):
  folder = tmp_path / "in"
  (folder / "deeper").mkdir(parents=True)
  shutil.copy(paths[0], folder / "a.wav")
  shutil.copy(paths[1], folder / "deeper" / "b.WAV")
  shutil.copy(paths[2], folder / "deeper" / "a.wav")
  recordings.write_text(str(folder / "notes.txt"), "no audio")
  done = command(f"--model={tones_model}/export/last/9", "in", str(folder / "a.wav"), cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  names = ["in/a.wav", "in/deeper/a.wav", "in/deeper/b.WAV", str(folder / "a.wav")]
  expected = [texts[0], texts[2], texts[1], texts[0]]
  assert done.stdout.splitlines() == [f"{name}\t{text}" for name, text in zip(names, expected, strict=True)]
  assert "4 of 4 recordings" in done.stderr.splitlines()[-1]
  done = command(
    "in", "--output_format=srt", f"--output_dir={tmp_path / 'out'}", f"--model={tones_model}", cwd=tmp_path
  )
  assert (done.returncode, done.stdout) == (0, ""), done.stderr
  assert sorted(os.listdir(tmp_path / "out")) == ["a-2.srt", "a.srt", "b.srt"]
  assert "-->" in (tmp_path / "out" / "b.srt").read_text(encoding="utf-8")


def test_standard_input(paths, texts, tones_model, tmp_path):
  with open(paths[0], "rb") as file:
    content = file.read()
  done = command(f"--model={tones_model}", "--output_format=json", "-", input=content, text=False)
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)["text"] == texts[0]
  raw, _ = soundfile.read(paths[0], dtype="int16")
  done = command(f"--model={tones_model}", f"--raw_rate={RATE}", "-", input=raw.tobytes(), text=False)
  assert done.returncode == 0, done.stderr
  assert done.stdout.decode() == texts[0] + "\n"


def bad_inputs(folder) -> dict[str, str]:
  """Make recordings that cannot be read; for each what its error says."""
  noise = recordings.samples_of("noise", 2, RATE)
  recordings.write_text(str(folder / "text.wav"), "this is no audio")
  soundfile.write(folder / "cut.flac", noise, RATE)
  (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:9000])
  soundfile.write(folder / "nothing.wav", noise[:0], RATE)
  soundfile.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
  (folder / "empty").mkdir()
  return {
    "nowhere.wav": "No such file",
    "text.wav": "cannot be read as audio",
    "cut.flac": "cut short",
    "nothing.wav": "no samples",
    "nan.wav": "NaN",
    "empty": "no recording is in this folder",
  }


def test_bad_recordings_are_named_and_the_others_transcribed(paths, texts, tones_model, tmp_path):
  bad = bad_inputs(tmp_path)
  samples, _ = soundfile.read(paths[0], dtype="float32")
  soundfile.write(tmp_path / "eight.wav", np.stack([samples] * 8, 1), RATE)
  soundfile.write(tmp_path / "fast.wav", np.repeat(samples, 12), 192000)
  done = command(f"--model={tones_model}", *bad, "eight.wav", "fast.wav", cwd=tmp_path)
  assert done.returncode == 1
  assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["eight.wav", "fast.wav"]
  assert done.stdout.splitlines()[0] == f"eight.wav\t{texts[0]}"
  errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
  assert len(errors) == len(bad)
  for name, reason in bad.items():
    assert sum(name in line and reason in line for line in errors) == 1, (name, errors)
  assert "2 of 8 recordings" in done.stderr.splitlines()[-1]
  assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
  ("arguments", "code", "message"),
  [
    (["--model=nowhere", "a.wav"], 1, "nowhere: no export and no checkpoint is there"),
    (["--output_format=vtt", "a.wav", "b.wav"], 1, "give --output_dir"),
    (["--output_dir=file/out", "a.wav"], 1, "choose another --output_dir"),
    (["--output_format=doc", "a.wav"], 2, "--output_format"),
    ([], 2, "give FILE..."),
    (["-dash.wav"], 2, "write ./ before a name that begins with -"),
    (["--model=", "a.wav"], 1, "--model is empty"),
    (["--output_dir=", "a.wav"], 1, "--output_dir is empty"),
    (["--longest_seconds=0", "a.wav"], 2, "--longest_seconds"),
    (["--seconds_at_once=0", "a.wav"], 2, "--seconds_at_once"),
    (["--dtype=fp16", "a.wav"], 2, "--dtype"),
  ],
)
def test_bad_command_lines(arguments, code, message, tmp_path):
  recordings.write_text(str(tmp_path / "file"), "")
  done = command(*arguments, cwd=tmp_path)
  assert (done.returncode, done.stdout) == (code, "")
  (line,) = done.stderr.splitlines()
  assert line.startswith("error: ")
  assert message in line


def test_a_reader_that_goes_away_is_no_fault(paths, tones_model):
  program = os.path.join(runs.ROOT, "transcribe.py")
  pipeline = " ".join([sys.executable, program, f"--model={tones_model}", paths[0], "| true; echo ${PIPESTATUS[0]}"])
  done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True)
  assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("path", ["", "export"])
def test_in_bfloat16_hardly_a_letter_changes(path, model, paths, texts, tones_model):
  close = transcribe.load_model(os.path.join(tones_model, path), dtype="bf16")
  # A network trained for seconds is undecided here and there.
  assert scoring.score(texts, close(paths)).cer < 0.05
  for left, right in zip(model.log_probs(paths), close.log_probs(paths), strict=True):
    assert 0 < np.abs(left - right).max() < 0.1


def test_a_number_format_that_is_none_for_transcribing(tones_model):
  with pytest.raises(UserError, match="^--dtype=fp16 is no .* for transcribing; give one of fp32, bf16, auto"):
    transcribe.load_model(tones_model, dtype="fp16")


def test_command_says_what_auto_takes(paths, texts, tones_model):
  # Stands in for a processor without bf16.
  environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
  done = command(f"--model={tones_model}", "--dtype=auto", *paths[:2], env=environment)
  assert (done.returncode, done.stdout) == (0, f"{paths[0]}\t{texts[0]}\n{paths[1]}\t{texts[1]}\n")
  first, _ = done.stderr.splitlines()
  assert first.startswith("--dtype=auto: fp32: ")
  done = command(f"--model={tones_model}", "--dtype=bf16", paths[0], env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"})
  assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
  first, _ = done.stderr.splitlines()
  assert first.startswith("warning: --dtype=bf16 is slower here than fp32: ")


@pytest.mark.parametrize("name", ["seconds_at_once", "longest_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_seconds_that_are_none(name, value, tones_model):
  with pytest.raises(UserError, match=f"--{name}=.* out of range"):
    transcribe.load_model(tones_model, **{name: value})


def test_odd_names_and_files_that_cannot_be_written(paths, texts, tones_model, tmp_path):
  folder = tmp_path / "in"
  folder.mkdir()
  for name in (b"bad\xff.wav", "ü.wav".encode(), b"new\nline.wav"):
    shutil.copy(os.fsencode(paths[0]), os.path.join(os.fsencode(folder), name))
  recordings.write_text(os.path.join(os.fsdecode(os.fsencode(folder)), "text\n.wav"), "no audio")
  environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
  done = command(f"--model={tones_model}", "in", cwd=tmp_path, env=environment, text=False)
  assert done.returncode == 1
  names = ["in/bad\ufffd.wav", "in/new\\nline.wav", "in/ü.wav"]
  lines = sorted(done.stdout.decode("utf-8").splitlines())
  assert lines == sorted(f"{name}\t{texts[0]}" for name in names)
  (error, _) = done.stderr.decode("utf-8", "replace").splitlines()
  assert error.startswith("error: in/text\\n.wav: cannot be read as audio")
  # One that cannot be written does not stop the next.
  os.makedirs(tmp_path / "out" / "a.txt")
  for name in "ab":
    shutil.copy(paths[0], tmp_path / f"{name}.wav")
  done = command(f"--model={tones_model}", "--output_dir=out", "a.wav", "b.wav", cwd=tmp_path)
  assert done.returncode == 1
  assert "error: out/a.txt: cannot be written" in done.stderr
  assert (tmp_path / "out" / "b.txt").read_text() == texts[0] + "\n"


def test_closed_standard_output_and_error(paths, texts, tones_model, tmp_path):
  program = os.path.join(runs.ROOT, "transcribe.py")

  def run(*arguments):
    line = " ".join([sys.executable, program, f"--model={tones_model}", paths[0], *arguments])
    return subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)

  done = run(">&-")
  assert (done.returncode, done.stderr) == (1, "error: standard output is closed; give --output_dir\n")
  assert run("--output_dir=out", ">&-").returncode == 0
  assert [path.read_text() for path in (tmp_path / "out").iterdir()] == [texts[0] + "\n"]
  done = run("2>&-")
  assert (done.returncode, done.stdout) == (0, texts[0] + "\n")


def test_files_are_numbered_whether_or_not_others_can_be_read(paths, tones_model, tmp_path):
  for name in ("1", "2"):
    (tmp_path / name).mkdir()
  (tmp_path / "1" / "same.wav").write_text("no audio")
  shutil.copy(paths[0], tmp_path / "2" / "same.wav")
  done = command(f"--model={tones_model}", "--output_dir=out", "1", "2", cwd=tmp_path)
  assert done.returncode == 1
  assert os.listdir(tmp_path / "out") == ["same-2.txt"]


def test_nothing_is_printed_where_nothing_was_heard(tones_model, tmp_path):
  done = command(f"--model={tones_model}", "--output_format=vtt", "nowhere.wav", cwd=tmp_path)
  assert (done.returncode, done.stdout) == (1, "")


def test_standard_input_that_is_none(tones_model):
  program = os.path.join(runs.ROOT, "transcribe.py")
  for redirection in ("<&-", "</dev/null", "--raw_rate=16000 </dev/null"):
    line = f"{sys.executable} {program} --model={tones_model} - {redirection}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0].startswith("error: standard input"), done.stderr


def test_bad_recordings_leave_no_audio_behind(model):
  bad = np.zeros(RATE * 40, np.float32)
  bad[-1] = np.nan

  def fails(rate):
    yield bad[:-1]
    raise UserError("bad")

  (result,) = model.transcribe_all([transcribe.Recording("bad", fails)])
  assert isinstance(result, UserError) and result.__traceback__ is None


def test_a_folder_without_a_model_is_refused(tones_model, tmp_path):
  for path in (str(tmp_path), str(tmp_path / "nowhere")):
    with pytest.raises(UserError, match="no export and no checkpoint"):
      transcribe.load_model(path)
  # A checkpoint as the original left it, without settings.
  shutil.copytree(tones_model, tmp_path / "original")
  os.remove(tmp_path / "original" / "settings.json")
  with pytest.raises(UserError, match="settings.json: cannot be read"):
    transcribe.load_model(str(tmp_path / "original"))
