"""Folders, length of training, batch and devices."""

from absl import flags

from official_utils.flags._conventions import definer
from official_utils.logs.hooks_helper import HOOKS

_NOT_KEY = ("stop_threshold", "num_gpus")


# In the order of the arguments of define_base.
_FLAGS = (
  (flags.DEFINE_string, "data_dir", "dd", "/tmp", "The folder of the input data."),
  (
    flags.DEFINE_string,
    "model_dir",
    "md",
    "/tmp",
    "The folder of the checkpoints and of everything else that a run leaves behind.",
  ),
  (
    flags.DEFINE_boolean,
    "clean",
    None,
    False,
    "Whether to remove model_dir first, provided that an earlier run made it.",
  ),
  (
    flags.DEFINE_integer,
    "train_epochs",
    "te",
    1,
    "The number of epochs in total, including those of earlier runs in the same model_dir.",
  ),
  (
    flags.DEFINE_integer,
    "epochs_between_evals",
    "ebe",
    1,
    "The number of epochs from one evaluation to the next.",
  ),
  (
    flags.DEFINE_float,
    "stop_threshold",
    "st",
    None,
    "Stop before train_epochs once the metric of the evaluation is at or below this value.",
  ),
  (
    flags.DEFINE_integer,
    "batch_size",
    "bs",
    32,
    "The number of examples in one step, on all devices together: with 32 examples, each of 4 GPUs takes 8.",
  ),
  (
    flags.DEFINE_integer,
    "num_gpus",
    "ng",
    None,
    "The number of GPUs to use; 0 for the CPU, -1 for all GPUs. Not given: one GPU if there is any, else the CPU.",
  ),
  (
    flags.DEFINE_list,
    "hooks",
    "hk",
    "LoggingTensorHook",
    f"""The names of training hooks, in upper or lower case: {", ".join(HOOKS)}. Example:
    --hooks=ProfilerHook,ExamplesPerSecondHook""",
  ),
  (
    flags.DEFINE_string,
    "export_dir",
    "ed",
    None,
    "The folder for the exported models. Not given: the folder export in model_dir.",
  ),
)


def define_base(
  data_dir: bool = True,
  model_dir: bool = True,
  clean: bool = True,
  train_epochs: bool = True,
  epochs_between_evals: bool = True,
  stop_threshold: bool = True,
  batch_size: bool = True,
  num_gpu: bool = True,
  hooks: bool = True,
  export_dir: bool = True,
  flag_values: flags.FlagValues = flags.FLAGS,
) -> list[str]:
  """Define the flags that every training program asks for.

  Args:
    data_dir: whether to define a flag for the folder of the input data.
    model_dir: whether to define a flag for the folder of checkpoints.
    clean: whether to define a flag that starts from an empty model_dir.
    train_epochs: whether to define a flag for the number of epochs.
    epochs_between_evals: whether to define a flag for the epochs of one cycle.
    stop_threshold: whether to define a flag for the value of the metric at which training ends early.
    batch_size: whether to define a flag for the batch size.
    num_gpu: whether to define a flag for the number of GPUs.
    hooks: whether to define a flag for the names of training hooks.
    export_dir: whether to define a flag for the folder of the exported model.
    flag_values: where to define them.

  Returns:
    The names of the key flags.
  """
  asked = (
    data_dir,
    model_dir,
    clean,
    train_epochs,
    epochs_between_evals,
    stop_threshold,
    batch_size,
    num_gpu,
    hooks,
    export_dir,
  )
  asked_for = [definition for definition, is_asked in zip(_FLAGS, asked, strict=True) if is_asked]
  define = definer(flag_values)
  for kind, name, short_name, default, text in asked_for:
    define(kind, name, default, text, short_name=short_name)
  return [name for _, name, *_ in asked_for if name not in _NOT_KEY]
