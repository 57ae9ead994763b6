"""Speech: data, features, network, training."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

import settings
from data.vocabulary import DEFAULT_VOCABULARY
from official_utils.flags import core as flags_core
from official_utils.logs.hooks_helper import HOOKS
from official_utils.misc import distribution_utils, number_formats
from official_utils.misc.errors import UserError

RNN_KERNELS = ("auto", "native", "cudnn", "compiled")
LEARNING_RATE_SCHEDULES = ("constant", "cosine")
UNKNOWN_POLICIES = ("error", "drop")
MODES = ("train", "evaluate", "export")

# Flags, the condition that a given value must meet, and the condition in words.
_RANGES = (
  (("batch_size", "train_epochs", "epochs_between_evals"), lambda value: value >= 1, "1 or more"),
  (("show_samples", "keep_exports", "warmup_steps"), lambda value: value >= 0, "0 or more"),
  (("num_parallel_calls",), lambda value: 1 <= value <= 1024, "1 to 1024"),
  (
    ("inter_op_parallelism_threads", "intra_op_parallelism_threads"),
    lambda value: 0 <= value <= 1024,
    "0 to 1024",
  ),
  (("num_gpus",), lambda value: value >= -1, "a number of GPUs, 0 for the CPU or -1 for all GPUs"),
  (("seed",), lambda value: 0 <= value < 2**31, "0 to 2147483647"),
  (("learning_rate",), lambda value: 0 < value < math.inf, "a number above 0, such as 0.0005"),
  (("clip_norm",), lambda value: 0 < value < math.inf, "a number above 0, such as 5"),
  (("batch_seconds",), lambda value: 0 < value < math.inf, "a number of seconds above 0, such as 120"),
  (("wer_threshold", "stop_threshold"), lambda value: 0 <= value < math.inf, "0 or more, such as 0.23"),
)


def define_deep_speech_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Define every flag of the program.

  Args:
    flag_values: where to define them.
  """
  flags_core.define_base(data_dir=False, flag_values=flag_values)
  flags_core.define_performance(max_train_steps=False, flag_values=flag_values)
  flags_core.define_benchmark(flag_values=flag_values)
  flags.adopt_module_key_flags(flags_core, flag_values)
  flags_core.set_defaults(
    flag_values,
    model_dir="/tmp/deep_speech_model/",
    train_epochs=200,
    batch_size=128,
    hooks="",
  )
  define = flags_core.definer(flag_values)
  _define_mode_flags(define)
  _define_data_flags(define)
  _define_setting_flags(define)
  _define_training_flags(define)


def _define_mode_flags(define: Callable[..., None]) -> None:
  """Define the flags for what to do and what to export."""
  define(
    flags.DEFINE_enum,
    "mode",
    "train",
    """What to do: 'train' trains, evaluates and exports in turn; 'evaluate' scores a checkpoint on the manifests of
    eval_data_dir, separated by commas, and of test_data_dir; 'export' writes a checkpoint as a SavedModel.""",
    enum_values=MODES,
  )
  define(
    flags.DEFINE_string,
    "checkpoint",
    None,
    """The checkpoint to evaluate or export, such as MODEL_DIR/model.ckpt-1200, or 'best', the one in model_dir with the
    lowest word error rate on the evaluation set. Not given: the newest in model_dir.""",
  )
  define(
    flags.DEFINE_integer,
    "keep_exports",
    1,
    """How many exports to keep, both of the best models (by word error rate on the evaluation set) and of the last;
    0 exports nothing while training.""",
  )


def _define_data_flags(define: Callable[..., None]) -> None:
  """Define the flags for where utterances come from and how they become features and labels."""
  define(
    flags.DEFINE_string,
    "train_data_dir",
    "/tmp/librispeech_data/train-clean-100+360.csv",
    "The manifest of the training set: a file with one row per utterance, as data/download.py writes it.",
  )
  define(
    flags.DEFINE_string,
    "eval_data_dir",
    "/tmp/librispeech_data/dev-clean.csv",
    "The manifest of the set that is evaluated after each cycle of training.",
  )
  define(
    flags.DEFINE_string,
    "test_data_dir",
    None,
    "The manifest of a set that is scored once, at the end, with the best model. Not given: no test set.",
  )
  define(
    flags.DEFINE_integer,
    "show_samples",
    0,
    "How many utterances of each set that is scored (in training, of the test set) to print, as said and as heard.",
  )
  define(
    flags.DEFINE_string,
    "vocabulary_file",
    DEFAULT_VOCABULARY,
    "The file with the labels, one per line; the last one is the CTC blank.",
  )
  define(
    flags.DEFINE_enum,
    "on_unknown",
    "error",
    """What to do with utterances whose transcript has characters outside the vocabulary: 'error' names them and stops
    before training, 'drop' leaves them out.""",
    enum_values=UNKNOWN_POLICIES,
  )
  define(
    flags.DEFINE_string,
    "feature_cache_dir",
    None,
    """A folder that keeps computed features for this and later runs, in half precision; any number of runs may share
    it. Not given: features are computed again in every epoch.""",
  )


def _define_setting_flags(define: Callable[..., None]) -> None:
  """Define a flag for each setting of a model."""
  kinds = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
  # By the default and not by the type: window_ms is a flag of whole numbers, as in the original.
  for declared in settings.declarations().values():
    if declared.choices:
      choices = {"enum_values": declared.choices, "case_sensitive": declared.case_sensitive}
      define(flags.DEFINE_enum, declared.name, declared.default, declared.help, **choices)
    else:
      define(kinds[type(declared.default)], declared.name, declared.default, declared.help)


def _define_training_flags(define: Callable[..., None]) -> None:
  """Define the flags for how the network is trained and when training ends."""
  define(
    flags.DEFINE_enum,
    "rnn_kernel",
    "auto",
    """What computes the recurrent layers: 'cudnn' needs NVIDIA GPUs and an rnn_type of lstm or gru_reset_after, 'auto'
    takes cudnn if possible, 'native' is our own code, 'compiled' has XLA compile it, for the other rnn_types on GPUs.
    Checkpoints are the same.""",
    enum_values=RNN_KERNELS,
  )
  define(flags.DEFINE_float, "learning_rate", 5e-4, "The learning rate of Adam.")
  define(
    flags.DEFINE_enum,
    "learning_rate_schedule",
    "constant",
    """What the learning rate does after the warm-up: 'constant' keeps it, 'cosine' lets it fall to 0 over the steps of
    train_epochs, slowly at first and at the end.""",
    enum_values=LEARNING_RATE_SCHEDULES,
  )
  define(
    flags.DEFINE_integer,
    "warmup_steps",
    0,
    "The steps at the beginning of training in which the learning rate rises from 0 to learning_rate.",
  )
  define(
    flags.DEFINE_float,
    "clip_norm",
    None,
    """The largest global norm of the gradients of a batch, all devices together; longer ones are shortened to it, so
    that no batch changes the weights by too much. Not given: they are left as they are.""",
  )
  define(
    flags.DEFINE_boolean,
    "sortagrad",
    True,
    "Whether the first epoch goes from the shortest to the longest utterance, instead of shuffling the batches.",
  )
  define(
    flags.DEFINE_float,
    "batch_seconds",
    None,
    """The seconds of audio, padding included, that a batch may hold on all devices together. It replaces batch_size, so
    that batches of short utterances become larger. Not given: batch_size decides.""",
  )
  define(flags.DEFINE_integer, "seed", 1, "The seed of the initial weights and of the shuffling.")
  define(
    flags.DEFINE_float,
    "wer_threshold",
    None,
    """Stop before train_epochs once the word error rate of the evaluation is at or below this value; MLPerf asked for
    0.23 on LibriSpeech. stop_threshold means the same here.""",
  )


def check_flags(flags_obj: flags.FlagValues) -> None:
  """Refuse values and combinations of values that cannot work.

  Args:
    flags_obj: the parsed flags.

  Raises:
    UserError: names the flag, its value and the remedy.
  """
  for names, is_allowed, wanted in _RANGES:
    for name in names:
      value = flags_obj[name].value
      if value is not None and not is_allowed(value):
        raise UserError(f"--{name}={value} is out of range; give {wanted}")
  for name in ("model_dir", "train_data_dir", "eval_data_dir"):
    if not flags_obj[name].value:
      raise UserError(f"--{name} is empty; give a path, such as --{name}={flags_obj[name].default or 'PATH'}")
  if flags_obj.show_samples and not flags_obj.test_data_dir and flags_obj.mode == "train":
    raise UserError(f"--show_samples={flags_obj.show_samples} shows utterances of a test set; give --test_data_dir")
  if flags_obj.checkpoint and flags_obj.mode == "train":
    raise UserError(
      "--checkpoint is for --mode=evaluate and --mode=export, while training continues from the newest checkpoint of "
      "--model_dir; leave it out"
    )
  flags_core.get_loss_scale(flags_obj)
  model_settings(flags_obj)
  _check_names(flags_obj)
  wer_threshold(flags_obj)


def _check_names(flags_obj: flags.FlagValues) -> None:
  """Refuse unknown names in flags that take any text."""
  for hook in flags_obj.hooks:
    if hook.lower() not in HOOKS:
      raise UserError(f"--hooks names {hook!r}, which does not exist; the hooks are {', '.join(HOOKS)}")
  algorithm = flags_obj.all_reduce_alg
  if algorithm is not None and algorithm not in flags_core.ALL_REDUCE_ALGORITHMS:
    raise UserError(
      f"--all_reduce_alg={algorithm} does not exist; give one of {', '.join(flags_core.ALL_REDUCE_ALGORITHMS)}"
    )


def choose_devices(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> list[str]:
  """Return the device of each replica, the given ones or those of --num_gpus, once --dtype is said to suit them.

  Raises:
    UserError: there are no such devices, or they cannot compute in the number format.
  """
  devices = list(devices or distribution_utils.list_devices(flags_obj.num_gpus))
  number_formats.announce(flags_obj.dtype, functools.partial(print, flush=True), devices)
  return devices


def wer_threshold(flags_obj: flags.FlagValues) -> float | None:
  """Return the word error rate at which training ends early, or None.

  Args:
    flags_obj: the parsed flags; stop_threshold and wer_threshold mean the same in this program.

  Returns:
    The given one; None if neither is.

  Raises:
    UserError: both are given, with different values.
  """
  given = {flags_obj.wer_threshold, flags_obj.stop_threshold} - {None}
  if len(given) > 1:
    raise UserError(
      f"--wer_threshold={flags_obj.wer_threshold} and --stop_threshold={flags_obj.stop_threshold} disagree, "
      "and both name the word error rate at which training stops; give one of them"
    )
  return given.pop() if given else None


def given_settings(flags_obj: flags.FlagValues) -> dict[str, Any]:
  """Return the model settings given on the command line, by name."""
  chosen = {name: flags_obj[name] for name in settings.declarations()}
  # A program of one's own may set a value without a command line.
  return {name: flag.value for name, flag in chosen.items() if flag.present or flag.value != flag.default}


def given_vocabulary(flags_obj: flags.FlagValues) -> str | None:
  """Return the vocabulary given on the command line, None if there is none."""
  return flags_obj.vocabulary_file if flags_obj["vocabulary_file"].present else None


def model_settings(flags_obj: flags.FlagValues) -> settings.ModelSettings:
  """Return the settings of the model that the flags ask for."""
  chosen = settings.make_settings({name: flags_obj[name].value for name in settings.declarations()})
  known = chosen.values()
  for name in given_settings(flags_obj):
    if name not in known:
      raise UserError(
        f"--{name} means nothing with --network={flags_obj.network} and --features={flags_obj.features}; leave it out"
      )
  return chosen


def manifests_to_score(flags_obj: flags.FlagValues) -> list[str]:
  """List the manifests that --mode=evaluate goes through."""
  paths = flags_obj.eval_data_dir
  # A single path may contain commas.
  listed = [paths] if os.path.exists(paths) else [path.strip() for path in paths.split(",") if path.strip()]
  if not listed:
    raise UserError(f"--eval_data_dir={paths} names no manifest; give one, or several separated by commas")
  return listed + ([flags_obj.test_data_dir] if flags_obj.test_data_dir else [])


def export_dir(flags_obj: flags.FlagValues) -> str:
  """Return the folder where exports go."""
  return flags_obj.export_dir or os.path.join(flags_obj.model_dir, "export")


def plain_values(flags_obj: flags.FlagValues, wanted: type) -> dict[str, Any]:
  """Return values for a dataclass whose fields have the names of flags."""
  derived = {"export_dir": export_dir(flags_obj), "wer_threshold": wer_threshold(flags_obj)}
  names = [field.name for field in dataclasses.fields(wanted)]
  return {name: derived[name] if name in derived else flags_obj[name].value for name in names}


def flag_values(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> dict[str, object]:
  """Return every flag of this repository with its value in a run on the devices, in order of definition."""
  values = {flag.name: flag.value for of_module in flags_core.own_flags(flags_obj).values() for flag in of_module}
  return values | {"dtype": number_formats.resolve(flags_obj.dtype, devices)}
