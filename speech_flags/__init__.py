"""The flags of the program: defined here, checked, and turned into plain arguments."""

from absl import flags

from official_utils.flags import core as flags_core
from speech_flags import data_flags, model_flags, recipes, training_flags
from speech_flags.checks import check_flags
from speech_flags.values import (
  choose_devices,
  dataset_options,
  export_dir,
  flag_values,
  given_settings,
  given_vocabulary,
  manifests_to_score,
  model_settings,
  plain_values,
  wer_threshold,
)

__all__ = [
  "check_flags",
  "choose_devices",
  "dataset_options",
  "define_deep_speech_flags",
  "export_dir",
  "flag_values",
  "given_settings",
  "given_vocabulary",
  "manifests_to_score",
  "model_settings",
  "plain_values",
  "recipes",
  "wer_threshold",
]


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
  recipes.define_recipe_flags(define)
  data_flags.define_mode_flags(define)
  data_flags.define_data_flags(define)
  data_flags.define_limit_flags(define)
  model_flags.define_setting_flags(define)
  training_flags.define_training_flags(define)
  training_flags.define_run_flags(define)
