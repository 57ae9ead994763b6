"""Conventions for all modules with flags."""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

# Flags belong to the module that asks for them, not to this one.
flags.disclaim_key_flags()

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def help_wrap(text: str) -> str:
  """Lay a flag's help out in lines of 80 characters.

  Args:
    text: the help; its line breaks and runs of spaces do not matter.

  Returns:
    The same words, wrapped.
  """
  return flags.text_wrap(" ".join(text.split()), 80)


def definer(flag_values: flags.FlagValues) -> Callable[..., None]:
  """Return a function that defines one flag in `flag_values`.

  Args:
    flag_values: where to define flags.

  Returns:
    A function that takes absl's function for the kind of flag, the name, the default, the help and, by keyword, any
    other options of that kind.
  """

  def define(kind: Callable, name: str, default: Any, text: str, **options: Any) -> None:
    kind(name=name, default=default, help=help_wrap(text), flag_values=flag_values, **options)

  return define


def own_flags(flag_values: flags.FlagValues = flags.FLAGS) -> dict[str, list[flags.Flag]]:
  """Return the flags that this repository's modules have defined, without those of libraries.

  Args:
    flag_values: where the flags are defined.

  Returns:
    Module name to its flags, both in the order of definition.
  """
  defined = flag_values.flags_by_module_dict()
  return {module: list(of_module) for module, of_module in defined.items() if of_module and _is_ours(module)}


def _is_ours(module_name: str) -> bool:
  """Tell whether a module, named as absl names it, belongs to this repository."""
  module = sys.modules.get(module_name)
  if module is None:
    # absl lists the program's own flags under the path that started it.
    return True
  path = pathlib.Path(getattr(module, "__file__", None) or "/").resolve()
  # A virtual environment may lie in the repository's folder.
  return REPOSITORY in path.parents and "site-packages" not in path.parts
