"""Tests of recipes: what a command line with one becomes, what is refused, and the recipes of this repository."""

import glob
import math
import os
import re

import pytest
import runs
from absl import flags

import deep_speech
import inference
import speech_flags
from official_utils.flags import core as flags_core
from official_utils.misc.errors import UserError
from speech_flags import recipes
from transcribe import load_model

NAMES = sorted(os.path.basename(path).removesuffix(".flags") for path in glob.glob(f"{recipes.FOLDER}/*.flags"))


def parse(*options: str) -> flags.FlagValues:
  """Parse a command line with its recipe into flags of its own."""
  values = flags.FlagValues()
  deep_speech.define_deep_speech_flags(values)
  flags.DEFINE_multi_string("many", [], "Something to be given several times.", flag_values=values)
  flags_core.parse_flags(["deep_speech.py", *options], values)
  recipes.apply(values)
  return values


def write(folder, text: str, name: str = "mine.flags") -> str:
  """Write a recipe; return its path."""
  path = folder / name
  path.write_text(text)
  return str(path)


def test_a_recipe_sets_flags_and_the_command_line_has_the_last_word(tmp_path):
  path = write(tmp_path, "# Mine.\n--batch_size=4\n\n  --seed=7\n--nosortagrad\n--learning_rate=0.001\n--hooks=a,b\n")
  values = parse(f"--recipe={path}")
  assert (values.batch_size, values.seed, values.sortagrad, values.hooks) == (4, 7, False, ["a", "b"])
  assert values.recipe == path
  for options in (
    ["--recipe", path, "--seed=3", "-bs=5"],
    ["-bs", "5", "--seed", "3", f"--recipe={path}", "--sortagrad"],
    [f"-recipe={path}", "--seed=3", "--batch_size=5", "--nosortagrad"],
  ):
    values = parse(*options)
    assert (values.batch_size, values.seed, values.learning_rate) == (5, 3, 0.001)
    assert values.sortagrad == ("--sortagrad" in options)


def test_a_flag_that_may_be_given_several_times_is_replaced_whole(tmp_path):
  path = write(tmp_path, "--many=a\n--many=b\n")
  assert parse(f"--recipe={path}").many == ["a", "b"]
  assert parse(f"--recipe={path}", "--many=c").many == ["c"]


def test_a_recipe_may_build_on_another(tmp_path):
  base = write(tmp_path, "--batch_size=4\n--seed=7\n--many=a\n--many=b\n", "base.flags")
  path = write(tmp_path, f"--seed=8\n--many=c\n--recipe={base}\n")
  values = parse(f"--recipe={path}")
  assert (values.batch_size, values.seed, values.many, values.recipe) == (4, 8, ["c"], path)


def test_a_recipe_is_found_from_the_file_that_builds_on_it(tmp_path):
  (tmp_path / "below").mkdir()
  write(tmp_path / "below", "--seed=7\n", "base.flags")
  path = write(tmp_path / "below", "--recipe=base.flags\n--batch_size=4\n")
  assert (parse(f"--recipe={path}").seed, parse(f"--recipe={path}").batch_size) == (7, 4)


def test_values_of_a_recipe_do_not_count_as_given(tmp_path):
  """They may be about what the command line replaces."""
  for options in (
    ["--recipe=log_mel_lstm", "--features=spectrogram"],
    ["--recipe=first_version", "--network=speech_net"],
    ["--recipe=speech_net", "--epoch_order=sorted"],
    ["--recipe=streaming", "--rnn_sizes=512,256"],
    [f"--recipe={write(tmp_path, '--epochs_between_evals=2')}", "--eval_every_minutes=30"],
  ):
    deep_speech.speech_flags.check_flags(parse(*options))
  sizes = parse(f"--recipe={write(tmp_path, '--rnn_sizes=8,16')}", "--rnn_hidden_layers=3")
  assert speech_flags.model_settings(sizes).network.layer_sizes == (800,) * 3
  assert speech_flags.model_settings(parse("--recipe=streaming", "--rnn_sizes=8,16")).network.layer_sizes == (8, 16)


def test_a_recipe_may_be_named_in_a_file_of_flags(tmp_path):
  values = parse(f"--flagfile={write(tmp_path, '--recipe=first_version')}")
  assert (values.features, values.batch_size) == ("magnitude", 32)


@pytest.mark.parametrize(
  "text, message",
  [
    ("--seed=1\n--nonsense=3\n", r"mine.flags:2: '--nonsense=3' is no flag of this program; correct it \(see --help\)"),
    ("seed=1\n", "mine.flags:1: 'seed=1' is no flag"),
    ("--seed=1 --batch_size=3\n", r"mine.flags:1: --seed=1 --batch_size=3 is refused \(invalid literal"),
    ("--network=nonsense\n", r"mine.flags:1: --network=nonsense is refused \(value should be one of"),
    ("--seed\n", "mine.flags:1: '--seed' has no value; write --seed=VALUE"),
    ("--recipe=original\n--recipe=original\n", "mine.flags:2: '--recipe=original' is the second recipe to build on"),
    ("--recipe=nothing\n", "--recipe=nothing is neither a file nor a recipe; see --list_recipes"),
    ("--recipe=mine.flags\n", "mine.flags: --recipe=mine.flags leads back to where it came from"),
  ],
)
def test_refuses_what_is_no_flag(text, message, tmp_path, monkeypatch):
  write(tmp_path, text)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=message):
    parse("--recipe=mine.flags")


def test_refuses_what_cannot_be_read(tmp_path):
  with pytest.raises(UserError, match="is neither a file nor a recipe"):
    parse(f"--recipe={tmp_path}")
  (tmp_path / "mine.flags").write_bytes(b"\xff\xfe--seed=1")
  with pytest.raises(UserError, match="cannot be read"):
    parse(f"--recipe={tmp_path}/mine.flags")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_accepted_and_every_line_has_a_reason(name):
  values = parse(f"--recipe={name}")
  deep_speech.speech_flags.check_flags(values)
  with open(recipes.find(name), encoding="utf-8") as file:
    lines = file.read().splitlines()
  assert lines[0].startswith("# ") and not lines[0].endswith(".")
  assert all(line.startswith(("# ", "--")) for line in lines)
  # A reason stands above every few flags.
  assert all(any(line.startswith("# ") for line in lines[start : start + 8]) for start in range(len(lines) - 7))


def test_the_original_has_our_defaults():
  values, defaults = parse("--recipe=original"), parse()
  assert [flag for flag in defaults if values[flag].value != defaults[flag].value] == ["recipe"]


def test_the_program_lists_recipes_and_trains_by_one(tones_dir, tmp_path):
  listed = runs.start(tmp_path, "--list_recipes")
  assert (listed.returncode, listed.stderr) == (0, "")
  assert [line.split()[0] for line in listed.stdout.splitlines()] == NAMES
  write(tmp_path, "# Small\n" + "\n".join([*runs.SMALL, "--epochs_between_evals=2"]))
  done = runs.start(
    tmp_path,
    f"--train_data_dir={tones_dir}/train.tsv",
    f"--eval_data_dir={tones_dir}/dev.tsv",
    "--model_dir=model",
    "--recipe=mine.flags",
    "--train_epochs=1",
  )
  assert (done.returncode, done.stderr) == (0, "")
  kept = (tmp_path / "model" / "flags.json").read_text()
  assert '"recipe": "mine.flags"' in kept and '"epochs_between_evals": 2' in kept
  wrong = runs.start(tmp_path, "--recipe=yours")
  assert (wrong.returncode, wrong.stderr) == (
    1,
    "error: --recipe=yours is neither a file nor a recipe; see --list_recipes\n",
  )


@pytest.mark.parametrize(
  ("name", "num_classes", "count"),
  [("first_version", 29, 8_571_453), ("speech_net", 43, 53_209_707), ("speech_net_small", 29, 79_773)],
)
def test_recipes_of_other_systems_have_their_published_sizes(name, num_classes, count):
  model = speech_flags.model_settings(parse(f"--recipe={name}"))
  shapes = inference.variable_shapes(model, num_classes)
  assert sum(math.prod(shape) for variable, shape in shapes.items() if "/moving_" not in variable) == count


# What makes the network of any recipe small, by its kind, and its training short.
SMALLER = {
  "deep_speech": ["--rnn_hidden_layers=1", "--rnn_hidden_size=8"],
  "speech_net": ["--stacks=1", "--stack_filters=8", "--stack_dilation_rates=1,3"],
}
SHORTER = ["--batch_size=8", "--num_gpus=0", "--train_epochs=1", "--warmup_steps=2", "--dtype=fp32"]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_trains_from_its_file_and_transcribes(name, tones_dir, tmp_path):
  smaller = [f"--recipe={name}", *SMALLER[parse(f"--recipe={name}").network], *SHORTER, "--model_dir=model"]
  sets = [f"--train_data_dir={tones_dir}/train.tsv", f"--eval_data_dir={tones_dir}/dev.tsv"]
  done = runs.start(tmp_path, *smaller, *sets, f"--test_data_dir={tones_dir}/test.tsv", "--show_samples=3")
  assert done.returncode == 0, done.stderr
  samples = re.findall(r"^(.*)\n  said: .*\n  heard: (.*)$", done.stdout, re.MULTILINE)
  heard = {path: " ".join(text.split()) for path, text in samples}
  model = load_model(str(tmp_path / "model/export"))
  assert len(heard) == 3 and dict(zip(heard, model(list(heard)), strict=True)) == heard
