"""The only module of this folder to import from outside: `from official_utils.flags import core as flags_core`."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from official_utils.flags import _base, _benchmark, _conventions, _performance, _program

definer = _conventions.definer
help_wrap = _conventions.help_wrap
own_flags = _conventions.own_flags
ALL_REDUCE_ALGORITHMS = _performance.ALL_REDUCE_ALGORITHMS
get_tf_dtype = _performance.get_tf_dtype
get_loss_scale = _performance.get_loss_scale
run = _program.run


def register_key_flags_in_core(define: Callable[..., list[str]]) -> Callable[..., None]:
  """Wrap a function that defines flags so that its key flags count as key flags of this module.

  A program makes them its own with `flags.adopt_module_key_flags(flags_core)`.

  Args:
    define: a function that defines flags and returns the names of the key ones.

  Returns:
    A function with the same arguments that returns nothing.
  """

  @functools.wraps(define)
  def define_in_core(*args: Any, flag_values: flags.FlagValues = flags.FLAGS, **kwargs: Any) -> None:
    for name in define(*args, flag_values=flag_values, **kwargs):
      flags.declare_key_flag(name, flag_values=flag_values)

  return define_in_core


define_base = register_key_flags_in_core(_base.define_base)
define_benchmark = register_key_flags_in_core(_benchmark.define_benchmark)
define_performance = register_key_flags_in_core(_performance.define_performance)


def set_defaults(flag_values: flags.FlagValues = flags.FLAGS, **defaults: Any) -> None:
  """Give existing flags the defaults of one program.

  Args:
    flag_values: where the flags are defined.
    **defaults: flag name to its new default.
  """
  for name, value in defaults.items():
    flag_values.set_default(name, value)


def parse_flags(argv: list[str] | None = None, flag_values: flags.FlagValues = flags.FLAGS) -> flags.FlagValues:
  """Parse a command line from scratch, forgetting earlier values.

  Args:
    argv: the program's name and its arguments; None for the process's own.
    flag_values: where the flags are defined.

  Returns:
    flag_values, with the parsed values.
  """
  flag_values.unparse_flags()
  flag_values(sys.argv if argv is None else argv)
  return flag_values
