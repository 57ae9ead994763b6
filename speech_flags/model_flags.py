"""Features and network: the settings of a model."""

from collections.abc import Callable

from absl import flags

import settings


def define_setting_flags(define: Callable[..., None]) -> None:
  """Define a flag for each setting of a model."""
  kinds = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
  # By the default and not by the type: window_ms is a flag of whole numbers, as in the original.
  for declared in settings.declarations().values():
    if declared.choices:
      choices = {"enum_values": declared.choices, "case_sensitive": declared.case_sensitive}
      define(flags.DEFINE_enum, declared.name, declared.default, declared.help, **choices)
    else:
      define(kinds[type(declared.default)], declared.name, declared.default, declared.help)
