"""Declares settings: frozen dataclasses whose fields are declared once, with type, default, limits and help."""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple, cast

from official_utils.misc.errors import UserError


class Declaration(NamedTuple):
  """One setting.

  Attributes:
    name: its name in flags, files and messages.
    types: the types of its values.
    default: the behaviour of the program before the setting existed.
    help: its meaning.
    choices: the values allowed; None for any.
    at_least: the smallest value allowed; None for any.
    below: with `at_least`, what a value must be less than.
    case_sensitive: whether upper and lower case matter in a choice.
  """

  name: str
  types: tuple[type, ...]
  default: Any
  help: str
  choices: tuple[str, ...] | None = None
  at_least: int | None = None
  below: float = math.inf
  case_sensitive: bool = True

  def check(self, value: Any) -> None:
    """Refuse a value that is not allowed."""
    if type(value) not in self.types:
      wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}[self.types[-1]]
    elif self.choices is not None and value not in self.choices:
      wanted = f"one of {', '.join(self.choices)}"
    elif self.at_least is not None and not self.at_least <= value < self.below:
      wanted = f"{self.at_least} or more" + (f", and less than {self.below}" if self.below < math.inf else "")
    else:
      return
    raise UserError(f"--{self.name}={value} is out of range; give {wanted}")


def setting(default: Any, help_text: str, **limits: Any) -> Any:
  """Declare a field of a settings class; `limits` are attributes of Declaration."""
  return dataclasses.field(default=default, metadata={"help": help_text, **limits})


@dataclasses.dataclass(frozen=True)
class Settings:
  """Base of frozen dataclasses of declared fields, which check their values when they are made.

  Attributes:
    kind: the name of the class in --network or --features.
  """

  kind: ClassVar[str]

  def __post_init__(self) -> None:
    """Refuse values that are not allowed."""
    for declared in self.declarations():
      declared.check(getattr(self, declared.name))

  @classmethod
  def declarations(cls) -> tuple[Declaration, ...]:
    """List the settings in their order."""
    return tuple(
      Declaration(
        field.name,
        # No annotation here is a string.
        (int, float) if field.type is float else (cast(type, field.type),),
        field.default,
        **field.metadata,
      )
      for field in dataclasses.fields(cls)
    )
