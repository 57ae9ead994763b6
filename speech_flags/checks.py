"""Refuses values of flags, and combinations of them, that cannot work."""

import math

from absl import flags

from official_utils.flags import core as flags_core
from official_utils.logs.hooks_helper import HOOKS
from official_utils.misc.errors import UserError
from speech_flags import values

# Flags, the condition that a given value must meet, and the condition in words.
_RANGES = (
  (
    (
      "batch_size",
      "train_epochs",
      "epochs_between_evals",
      "accumulate_steps",
      "average_checkpoints",
      "plateau_patience",
    ),
    lambda value: value >= 1,
    "1 or more",
  ),
  (("show_samples", "keep_exports", "warmup_steps"), lambda value: value >= 0, "0 or more"),
  (("min_text_length", "max_text_length"), lambda value: value >= 1, "a number of characters, 1 or more"),
  (("max_duration",), lambda value: 0 < value < math.inf, "a number of seconds above 0, such as 20"),
  (("eval_every_minutes",), lambda value: 0 < value < math.inf, "a number of minutes above 0, such as 30"),
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
  (("momentum",), lambda value: 0 <= value < 1, "0 or more and less than 1, such as 0.9"),
  (("weight_decay",), lambda value: 0 < value < math.inf, "a number above 0, such as 0.01"),
  (("ema_decay",), lambda value: 0 < value < 1, "a number between 0 and 1, such as 0.999"),
  (("plateau_factor",), lambda value: 0 < value < 1, "a number between 0 and 1, such as 0.5"),
  (("final_learning_rate",), lambda value: 0 <= value <= 1, "a share of --learning_rate from 0 to 1, such as 0.01"),
  (("batch_seconds",), lambda value: 0 < value < math.inf, "a number of seconds above 0, such as 120"),
  (("wer_threshold", "stop_threshold"), lambda value: 0 <= value < math.inf, "0 or more, such as 0.23"),
)
# Flags that mean something only with certain values of another flag.
_MEANT_FOR = (
  (("momentum",), "optimizer", ("nesterov", "momentum")),
  (("final_learning_rate",), "learning_rate_schedule", ("cosine", "exponential")),
  (("plateau_patience", "plateau_factor"), "learning_rate_schedule", ("plateau",)),
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
  _check_training(flags_obj)
  flags_core.get_loss_scale(flags_obj)
  if flags_obj.mode == "train":
    values.model_settings(flags_obj)
    values.augmenter(flags_obj)
  _check_names(flags_obj)
  _check_contradictions(flags_obj)
  values.wer_threshold(flags_obj)


def _check_training(flags_obj: flags.FlagValues) -> None:
  """Refuse options of training that mean nothing together, or lack another."""
  for names, other, meaningful in _MEANT_FOR:
    chosen = flags_obj[other].value
    for name in names:
      flag = flags_obj[name]
      if flag.value != flag.default and chosen not in meaningful:
        raise UserError(
          f"--{name}={flag.value} means nothing with --{other}={chosen}; leave it out, or give "
          f"{' or '.join(f'--{other}={value}' for value in meaningful)}"
        )
  if flags_obj.optimizer == "adamw" and not flags_obj.weight_decay:
    raise UserError("--optimizer=adamw without --weight_decay is adam; give it, such as --weight_decay=0.01")
  if flags_obj.learning_rate_schedule == "noam" and not flags_obj.warmup_steps:
    raise UserError(
      "--learning_rate_schedule=noam has its peak at the end of the warm-up; give --warmup_steps, such as 10000"
    )
  if flags_obj.learning_rate_schedule == "exponential" and not flags_obj.final_learning_rate:
    raise UserError("--learning_rate_schedule=exponential never falls to 0; give --final_learning_rate, such as 0.01")
  if flags_obj.average_checkpoints > 1 and flags_obj.checkpoint:
    raise UserError(
      f"--average_checkpoints={flags_obj.average_checkpoints} takes the newest checkpoints, but "
      f"--checkpoint={flags_obj.checkpoint} names one; leave one of them out"
    )


def _check_contradictions(flags_obj: flags.FlagValues) -> None:
  """Refuse pairs of flags of which one says the opposite of the other."""
  sortagrad = flags_obj["sortagrad"]
  if flags_obj.epoch_order == "sorted" and not sortagrad.value and sortagrad.value != sortagrad.default:
    raise UserError(
      "--nosortagrad means nothing with --epoch_order=sorted, where the first epoch goes from short to long like all "
      "others; leave one of them out"
    )
  epochs, minutes = flags_obj["epochs_between_evals"], flags_obj.eval_every_minutes
  if minutes is not None and values.is_given(epochs):
    raise UserError(
      f"--epochs_between_evals={epochs.value} and --eval_every_minutes={minutes:g} both say when to evaluate; give one "
      "of them"
    )
  shortest, longest = flags_obj.min_text_length, flags_obj.max_text_length
  if shortest is not None and longest is not None and shortest > longest:
    raise UserError(
      f"--min_text_length={shortest} is above --max_text_length={longest}, which leaves nothing to train on; lower the "
      "first or raise the second"
    )


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
