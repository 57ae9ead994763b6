"""Threads, several devices, number formats."""

from collections.abc import Sequence

from absl import flags

from official_utils.flags._conventions import definer
from official_utils.lazy import tf
from official_utils.misc import number_formats
from official_utils.misc.errors import UserError

# The loss scale that suits a number format; 1 suits all others.
_LOSS_SCALES = {"fp16": 128}

DYNAMIC = "dynamic"

ALL_REDUCE_ALGORITHMS = ("nccl", "hierarchical_copy", "reduce_to_one")


# Whole numbers, in the order of the arguments of define_performance.
_NUMBERS = (
  (
    "num_parallel_calls",
    "npc",
    None,
    "The number of threads that prepare the input. Not given: as many as there are CPU cores.",
  ),
  (
    "inter_op_parallelism_threads",
    "inter",
    0,
    "The number of operations that TensorFlow runs side by side on the CPU; 0 leaves it to TensorFlow.",
  ),
  (
    "intra_op_parallelism_threads",
    "intra",
    0,
    "The number of threads that TensorFlow uses within an operation on the CPU; 0 leaves it to TensorFlow.",
  ),
  (
    "max_train_steps",
    "mts",
    None,
    "Stop after this many training steps, whatever the number of epochs. Not given: no limit.",
  ),
)


def get_tf_dtype(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> "tf.DType":
  """Return the TensorFlow type that --dtype stands for on the devices; see `number_formats.resolve`."""
  return tf.as_dtype(number_formats.FORMATS[number_formats.resolve(flags_obj.dtype, devices)])


def get_loss_scale(flags_obj: flags.FlagValues) -> float | str:
  """Return --loss_scale, a number or "dynamic"; if it is not given, the scale that suits --dtype.

  Raises:
    UserError: it is neither a number above 0 nor "dynamic".
  """
  value = flags_obj.loss_scale
  if value is None:
    return _LOSS_SCALES.get(flags_obj.dtype, 1)
  if value == DYNAMIC:
    return value
  try:
    scale = float(value)
  except ValueError:
    scale = 0.0
  # Single precision holds no more.
  if not 0 < scale < 2.0**127:
    raise UserError(f"--loss_scale={value} is not a valid factor; give a number above 0, such as 128, or {DYNAMIC}")
  return scale


def define_performance(
  num_parallel_calls: bool = True,
  inter_op: bool = True,
  intra_op: bool = True,
  max_train_steps: bool = True,
  dtype: bool = True,
  all_reduce_alg: bool = True,
  flag_values: flags.FlagValues = flags.FLAGS,
) -> list[str]:
  """Define the flags for speed.

  Args:
    num_parallel_calls: whether to define a flag for the threads that prepare the input.
    inter_op: whether to define a flag for the threads that run operations side by side.
    intra_op: whether to define a flag for the threads within one operation.
    max_train_steps: whether to define a flag that limits the number of training steps.
    dtype: whether to define flags for the number format and its loss scale.
    all_reduce_alg: whether to define a flag for how devices add up their gradients.
    flag_values: where to define them.

  Returns:
    The names of the key flags: none of these is one.
  """
  define = definer(flag_values)
  asked = (num_parallel_calls, inter_op, intra_op, max_train_steps)
  for is_asked, (name, short_name, default, text) in zip(asked, _NUMBERS, strict=True):
    if is_asked:
      define(flags.DEFINE_integer, name, default, text, short_name=short_name)
  if dtype:
    define(
      flags.DEFINE_enum,
      "dtype",
      "fp32",
      f"""The number format of the computation; '{number_formats.AUTO}' takes bf16 if the devices multiply it in
      hardware, else fp32. Variables are fp32 in any case.""",
      enum_values=[*number_formats.FORMATS, number_formats.AUTO],
      short_name="dt",
    )
    define(
      flags.DEFINE_string,
      "loss_scale",
      None,
      f"""The loss is multiplied by this factor before the gradient is taken, and the gradient divided by it afterwards,
      so that small gradients survive fp16; '{DYNAMIC}' finds it while training. Not given: the factor that suits
      dtype.""",
      short_name="ls",
    )
  if all_reduce_alg:
    define(
      flags.DEFINE_string,
      "all_reduce_alg",
      None,
      f"""How several devices add up their gradients: {", ".join(ALL_REDUCE_ALGORITHMS)}. Not given: TensorFlow
      chooses.""",
      short_name="ara",
    )
  return []
