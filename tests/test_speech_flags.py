"""Tests of the speech flags: against those of the original, and of what they refuse."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import fixture_files
import pytest
from absl import flags

import deep_speech_model
import settings
import speech_flags
from data import batches
from layers import cudnn
from official_utils.flags import core as flags_core
from official_utils.misc.errors import UserError
from speech_flags import data_flags, model_flags, training_flags
from training import model_dir, optimizer, schedules

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_ORIGINAL = fixture_files.load_json("flags")["deep_speech"]

# Flag to the default of the original (as it was run for the fixture) and ours.
_OTHER_DEFAULTS = {
  "num_gpus": (0, None),
  "export_dir": ("/tmp/deep_speech_saved_model/", None),
  "train_data_dir": (
    "/tmp/librispeech_data/test-clean/LibriSpeech/test-clean-20.csv",
    "/tmp/librispeech_data/train-clean-100+360.csv",
  ),
  "eval_data_dir": (
    "/tmp/librispeech_data/test-clean/LibriSpeech/test-clean-20.csv",
    "/tmp/librispeech_data/dev-clean.csv",
  ),
  "vocabulary_file": ("<directory of deep_speech.py>/data/vocabulary.txt", str(_ROOT / "data/vocabulary.txt")),
}

_NEW_FLAGS = {
  "recipe": None,
  "list_recipes": False,
  "mode": "train",
  "checkpoint": None,
  "keep_exports": 1,
  "test_data_dir": None,
  "learning_rate_schedule": "constant",
  "warmup_steps": 0,
  "final_learning_rate": 0.0,
  "plateau_patience": 3,
  "plateau_factor": 0.5,
  "optimizer": "adam",
  "momentum": 0.9,
  "weight_decay": None,
  "clip_norm": None,
  "accumulate_steps": 1,
  "ema_decay": None,
  "average_checkpoints": 1,
  "on_unknown": "error",
  "min_text_length": None,
  "max_text_length": None,
  "max_duration": None,
  "show_samples": 0,
  "rnn_kernel": "auto",
  "dtype": "fp32",
  "loss_scale": None,
  "batch_seconds": None,
  "epoch_order": "batches",
  "eval_every_minutes": None,
  "best_metric": "wer",
  "feature_cache_dir": None,
  "augment": [],
  "seed": 1,
  "num_parallel_calls": None,
  "inter_op_parallelism_threads": 0,
  "intra_op_parallelism_threads": 0,
}


def _define():
  values = flags.FlagValues()
  speech_flags.define_deep_speech_flags(values)
  return values


def _parse(*arguments):
  return flags_core.parse_flags(["deep_speech.py", *arguments], _define())


def test_flags_are_those_of_the_original_and_the_new_ones():
  expected = set(_ORIGINAL["flags"]) | set(_NEW_FLAGS) | settings.declarations().keys()
  assert set(speech_flags.flag_values(_parse())) == expected


@pytest.mark.parametrize("name", sorted(_ORIGINAL["flags"]))
def test_flag_is_defined_as_in_the_original(name):
  original, ours = _ORIGINAL["flags"][name], _define()[name]
  assert ours.flag_type() == original["type"]
  assert ours.short_name == original["short_name"]
  # A choice more does no harm.
  offered, wanted = getattr(ours.parser, "enum_values", None), original["enum_values"]
  assert offered and offered[: len(wanted)] == wanted if wanted else offered is None
  assert getattr(ours.parser, "case_sensitive", None) == original["case_sensitive"]
  assert bool(ours.boolean) == original["boolean"]
  if name in _OTHER_DEFAULTS:
    assert (original["default"], ours.default) == _OTHER_DEFAULTS[name]
  else:
    assert ours.default == original["default"]


def test_defaults_of_new_flags():
  values = _parse()
  assert {name: values[name].value for name in _NEW_FLAGS} == _NEW_FLAGS


def test_key_flags_include_those_of_the_original():
  values = _define()
  modules = (speech_flags, data_flags, model_flags, training_flags)
  key_flags = {flag.name for module in modules for flag in values.get_key_flags_for_module(module)}
  assert key_flags >= set(_ORIGINAL["key_flags_of_main_module"])
  assert not key_flags & {"num_gpus", "stop_threshold", "benchmark_log_dir"}


def test_every_flag_has_help():
  values = _define()
  for of_module in flags_core.own_flags(values).values():
    for flag in of_module:
      endings = (".", "ProfilerHook,ExamplesPerSecondHook", "repeat this option to specify a list of values")
      assert flag.help.rstrip().endswith(endings), flag.name


def test_what_has_no_effect_is_said():
  values = _define()
  for name in ("gcp_project", "bigquery_data_set"):
    assert "without effect" in " ".join(values[name].help.split())


def test_the_default_vocabulary_exists():
  assert os.path.isfile(_parse().vocabulary_file)


def test_help_of_the_program_lists_every_flag_without_tensorflow():
  code = (
    "import atexit, runpy, sys\n"
    "atexit.register(lambda: print('tensorflow' in sys.modules, 'numpy' in sys.modules))\n"
    f"sys.path.insert(0, {str(_ROOT)!r})\n"
    "sys.argv = ['deep_speech.py', '--help']\n"
    "import speech_flags\n"
    "from official_utils.flags import core as flags_core\n"
    "speech_flags.define_deep_speech_flags()\n"
    "flags_core.run(print, 'Help.')\n"
  )
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
  assert (result.returncode, result.stderr) == (0, "")
  for name, flag in ((flag.name, flag) for of in flags_core.own_flags(_define()).values() for flag in of):
    head = next(line for line in result.stdout.splitlines() if line.startswith((f"  --{name} ", f"  --{name},")))
    assert head.endswith("default: none)") == (flag.default in (None, [], ""))
  assert result.stdout.endswith("False False\n")


def test_the_defaults_pass():
  speech_flags.check_flags(_parse())


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--train_data_dir="], "--train_data_dir is empty; give a path, such as --train_data_dir=/tmp/librispeech_data/"),
    (["--eval_data_dir="], "--eval_data_dir is empty; give a path, such as --eval_data_dir=/tmp/librispeech_data/"),
    (["--show_samples=3"], "--show_samples=3 shows utterances of a test set; give --test_data_dir"),
    (["--batch_size=0"], "--batch_size=0 is out of range; give 1 or more"),
    (["--train_epochs=0"], "--train_epochs=0"),
    (["--epochs_between_evals=-1"], "--epochs_between_evals=-1"),
    (["--rnn_hidden_size=0"], "--rnn_hidden_size=0"),
    (["--rnn_hidden_layers=0"], "--rnn_hidden_layers=0"),
    (["--sample_rate=0"], "--sample_rate=0"),
    (["--window_ms=0"], "--window_ms=0"),
    (["--stride_ms=-3"], "--stride_ms=-3"),
    (["--num_parallel_calls=0"], "--num_parallel_calls=0"),
    (["--inter_op_parallelism_threads=-1"], "--inter_op_parallelism_threads=-1"),
    (["--intra_op_parallelism_threads=-1"], "--intra_op_parallelism_threads=-1"),
    (["--learning_rate=0"], "--learning_rate=0.0 is out of range; give a number above 0, such as 0.0005"),
    (["--learning_rate=nan"], "--learning_rate=nan"),
    (["--learning_rate=inf"], "--learning_rate=inf"),
    (["--warmup_steps=-1"], "--warmup_steps=-1 is out of range; give 0 or more"),
    (["--clip_norm=0"], "--clip_norm=0.0 is out of range; give a number above 0, such as 5"),
    (["--clip_norm=inf"], "--clip_norm=inf"),
    (["--momentum=1"], "--momentum=1.0 is out of range; give 0 or more and less than 1, such as 0.9"),
    (["--weight_decay=0"], "--weight_decay=0.0 is out of range; give a number above 0, such as 0.01"),
    (["--ema_decay=1"], "--ema_decay=1.0 is out of range; give a number between 0 and 1, such as 0.999"),
    (["--accumulate_steps=0"], "--accumulate_steps=0 is out of range; give 1 or more"),
    (["--average_checkpoints=0"], "--average_checkpoints=0 is out of range; give 1 or more"),
    (["--final_learning_rate=1.5"], "--final_learning_rate=1.5 is out of range; give a share of --learning_rate"),
    (["--plateau_patience=0"], "--plateau_patience=0 is out of range; give 1 or more"),
    (["--plateau_factor=0"], "--plateau_factor=0.0 is out of range; give a number between 0 and 1, such as 0.5"),
    (
      ["--momentum=0.8"],
      "--momentum=0.8 means nothing with --optimizer=adam; leave it out, or give --optimizer=nesterov",
    ),
    (["--optimizer=adamw"], "--optimizer=adamw without --weight_decay is adam; give it, such as --weight_decay=0.01"),
    (["--learning_rate_schedule=noam"], "--learning_rate_schedule=noam has its peak at the end of the warm-up"),
    (["--learning_rate_schedule=exponential"], "never falls to 0; give --final_learning_rate, such as 0.01"),
    (["--final_learning_rate=0.1"], "means nothing with --learning_rate_schedule=constant; leave it out, or give"),
    (["--plateau_patience=9", "--learning_rate_schedule=cosine"], "--plateau_patience=9 means nothing with --learning"),
    (
      ["--mode=evaluate", "--average_checkpoints=2", "--checkpoint=best"],
      "--average_checkpoints=2 takes the newest checkpoints, but --checkpoint=best names one; leave one of them out",
    ),
    (["--wer_threshold=-0.1"], "--wer_threshold=-0.1"),
    (["--wer_threshold=nan"], "--wer_threshold=nan"),
    (["--stop_threshold=-1"], "--stop_threshold=-1"),
    (["--num_gpus=-2"], "--num_gpus=-2 is out of range; give a number of GPUs, 0 for the CPU or -1 for all GPUs"),
    (["--seed=-1"], "--seed=-1"),
    (["--min_text_length=0"], "--min_text_length=0 is out of range; give a number of characters, 1 or more"),
    (["--max_text_length=-3"], "--max_text_length=-3"),
    (["--max_duration=0"], "--max_duration=0.0 is out of range; give a number of seconds above 0, such as 20"),
    (["--max_duration=nan"], "--max_duration=nan"),
    (["--eval_every_minutes=0"], "--eval_every_minutes=0.0 is out of range; give a number of minutes above 0"),
    (["--eval_every_minutes=inf"], "--eval_every_minutes=inf"),
    (["--epoch_order=sorted", "--nosortagrad"], "--nosortagrad means nothing with --epoch_order=sorted"),
    (
      ["--epochs_between_evals=1", "--eval_every_minutes=30"],
      "--epochs_between_evals=1 and --eval_every_minutes=30 both say when to evaluate; give one of them",
    ),
    (
      ["--min_text_length=5", "--max_text_length=4"],
      "--min_text_length=5 is above --max_text_length=4, which leaves nothing to train on",
    ),
    (["--model_dir="], "--model_dir is empty"),
    (["--stride_ms=21"], "--stride_ms=21 is longer than --window_ms=20"),
    (["--sample_rate=100"], "--window_ms=20 is 2 samples at 100 Hz"),
    (["--sample_rate=100", "--window_ms=40", "--stride_ms=5"], "--stride_ms=5 is 0 samples at 100 Hz"),
    (["--hooks=ProfilerHook,NoHook"], "--hooks names 'NoHook', which does not exist; the hooks are loggingtensorhook"),
    (["--all_reduce_alg=ring"], "give one of nccl, hierarchical_copy, reduce_to_one"),
    (["--wer_threshold=0.2", "--stop_threshold=0.3"], "--wer_threshold=0.2 and --stop_threshold=0.3 disagree"),
    (["--augment=gain", "--augment=echo"], "--augment=echo: 'echo' does not exist; give one of shift, stretch, speed"),
  ],
)
def test_wrong_values_are_refused(arguments, message):
  with pytest.raises(UserError) as caught:
    speech_flags.check_flags(_parse(*arguments))
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


def test_edges_pass():
  speech_flags.check_flags(_parse("--num_gpus=-1", "--stride_ms=20", "--wer_threshold=0", "--hooks=PROFILERHOOK"))
  speech_flags.check_flags(
    _parse("--momentum=0", "--optimizer=momentum", "--weight_decay=1", "--average_checkpoints=9")
  )
  speech_flags.check_flags(_parse("--learning_rate_schedule=exponential", "--final_learning_rate=1"))
  speech_flags.check_flags(_parse("--sample_rate=1000", "--window_ms=3", "--stride_ms=1", "--all_reduce_alg=nccl"))
  speech_flags.check_flags(_parse("--min_text_length=4", "--max_text_length=4", "--eval_every_minutes=0.1"))
  speech_flags.check_flags(_parse("--epoch_order=sorted", "--sortagrad"))
  speech_flags.check_flags(_parse("--epoch_order=utterances", "--nosortagrad"))


def test_wer_threshold_has_two_names():
  assert speech_flags.wer_threshold(_parse()) is None
  assert speech_flags.wer_threshold(_parse("--wer_threshold=0.23")) == 0.23
  assert speech_flags.wer_threshold(_parse("--stop_threshold=0.3")) == 0.3
  assert speech_flags.wer_threshold(_parse("--stop_threshold=0.3", "--wer_threshold=0.3")) == 0.3
  assert speech_flags.wer_threshold(_parse("--wer_threshold=0")) == 0


def test_augmentations_follow_from_flags_and_flag_files(tmp_path):
  recipe = tmp_path / "recipe"
  recipe.write_text("--augment=gain[db=-3..3]\n--train_epochs=5\n--augment=noise[p=0.5,snr=10..20]\n")
  values = _parse(f"--flagfile={recipe}", "--augment=time_masks", "--seed=7")
  assert speech_flags.flag_values(values)["augment"] == ["gain[db=-3..3]", "noise[p=0.5,snr=10..20]", "time_masks"]
  chosen = speech_flags.dataset_options(values, is_training=True)["augmenter"]
  assert [each.kind for each in chosen.augmentations] == ["gain", "noise", "time_masks"]
  assert (chosen.seed, chosen.num_epochs) == (7, 5)
  assert not {"augmenter", "limits"} & speech_flags.dataset_options(values, is_training=False).keys()
  without = _parse(f"--flagfile={recipe}", "--augment=none")
  assert speech_flags.dataset_options(without, is_training=True)["augmenter"] is None
  assert speech_flags.dataset_options(_parse(), is_training=True)["augmenter"] is None


def test_settings():
  values = _parse("--rnn_type=LSTM", "--nouse_bias", "--stride_ms=5", "--nomask_padding", "--conv_layout=paper")
  chosen = speech_flags.model_settings(values)
  assert chosen.network == settings.DeepSpeech2Settings(
    mask_padding=False, rnn_type="lstm", use_bias=False, conv_layout="paper"
  )
  assert chosen.features == settings.SpectrogramSettings(stride_ms=5)
  names = {"rnn_type", "use_bias", "stride_ms", "mask_padding", "conv_layout"}
  assert speech_flags.given_settings(values) == {name: chosen.values()[name] for name in names}


def test_settings_of_another_network():
  values = _parse("--network=speech_net", "--stacks=3", "--stack_dilation_rates=1,2", "--nocausal_convolutions")
  assert speech_flags.model_settings(values).network == settings.SpeechNetSettings(
    stacks=3, stack_dilation_rates="1,2", causal_convolutions=False
  )
  with pytest.raises(UserError, match="--stacks means nothing with --network=deep_speech and .*; leave it out"):
    speech_flags.check_flags(_parse("--stacks=3"))


def test_a_setting_is_given_too_by_a_program_that_sets_its_flag():
  values = _parse("--rnn_hidden_size=800")
  values.rnn_hidden_layers = 2
  assert speech_flags.given_settings(values) == {"rnn_hidden_size": 800, "rnn_hidden_layers": 2}


@pytest.mark.parametrize("name", ["rnn_hidden_layers", "rnn_hidden_size"])
def test_two_ways_to_size_the_network_are_refused_even_with_the_default(name):
  assert speech_flags.model_settings(_parse("--rnn_sizes=16,8")).network.layer_sizes == (16, 8)
  given = f"--{name}={_define()[name].default}"
  with pytest.raises(UserError, match=f"--rnn_sizes=16,8 and {given} disagree"):
    speech_flags.check_flags(_parse("--rnn_sizes=16,8", given))


def test_settings_of_features_go_with_their_kind():
  values = _parse("--features=log_mel", "--num_mel_bins=40", "--feature_norm=corpus")
  assert speech_flags.model_settings(values).features == settings.LogMelSettings(feature_norm="corpus", num_mel_bins=40)
  with pytest.raises(UserError, match="--num_mel_bins means nothing .* --features=magnitude; leave it out"):
    speech_flags.check_flags(_parse("--features=magnitude", "--num_mel_bins=40"))
  with pytest.raises(UserError, match="--num_mel_bins=160 is too many .*; raise --fft_length to 512"):
    speech_flags.check_flags(_parse("--features=log_mel", "--num_mel_bins=160"))


def test_every_setting_has_its_flag():
  values = _define()
  for name, declared in settings.declarations().items():
    assert values[name].default == declared.default
    assert getattr(values[name].parser, "enum_values", None) == (declared.choices and list(declared.choices))


def test_plain_values_are_those_of_the_flags():
  @dataclasses.dataclass
  class Wanted:
    seed: int
    export_dir: str
    wer_threshold: float

  values = speech_flags.plain_values(_parse("--seed=3", "--model_dir=m", "--stop_threshold=0.2"), Wanted)
  assert values == {"seed": 3, "export_dir": os.path.join("m", "export"), "wer_threshold": 0.2}


def test_plain_values_of_a_dataclass_within_another():
  @dataclasses.dataclass
  class Part:
    warmup_steps: int
    not_a_flag: int = 7

  @dataclasses.dataclass
  class Whole:
    loss_scale: float
    part: Part

  values = speech_flags.plain_values(_parse("--warmup_steps=3", "--loss_scale=4"), Whole)
  assert values == {"loss_scale": 4.0, "part": Part(3, 7)}


def test_the_vocabulary_is_given_only_by_the_command_line():
  assert speech_flags.given_vocabulary(_parse()) is None
  assert speech_flags.given_vocabulary(_parse("--vocabulary_file=v.txt")) == "v.txt"


def test_flag_values_can_be_written_as_json():
  values = speech_flags.flag_values(_parse("--hooks=ProfilerHook", "--num_gpus=0"))
  assert json.loads(json.dumps(values)) == values
  assert (values["hooks"], values["num_gpus"], values["train_epochs"]) == (["ProfilerHook"], 0, 200)


def test_the_choices_are_those_of_what_they_choose():
  """Flags are defined without loading layers or training, so the names stand twice."""
  assert set(settings.declarations()["rnn_type"].choices) == set(deep_speech_model.SUPPORTED_RNNS)
  assert training_flags.RNN_KERNELS == cudnn.RNN_KERNELS
  assert tuple(schedules.SHAPES) == training_flags.LEARNING_RATE_SCHEDULES
  assert optimizer.OPTIMIZERS == training_flags.OPTIMIZERS
  assert batches.ORDERS == training_flags.EPOCH_ORDERS
  assert tuple(model_dir.BEST_METRICS) == training_flags.BEST_METRICS
