"""Recipes: named sets of flags, each a file of its own, which the flags of the command line overrule."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from absl import flags

from official_utils.misc.errors import UserError

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "recipes")
_SUFFIX = ".flags"
_COMMENT = "#"


class _Line(NamedTuple):
  """A flag in a recipe.

  Attributes:
    place: the file and the number of the line.
    flag: the flag's name, as it is defined.
    argument: the line, such as --batch_size=8.
  """

  place: str
  flag: str
  argument: str


def define_recipe_flags(define: Callable[..., None]) -> None:
  """Define the flags for recipes."""
  define(
    flags.DEFINE_string,
    "recipe",
    None,
    """A named set of flags, of those that --list_recipes shows, or a file with a flag a line. Flags that are given
    besides it have the last word.""",
  )
  define(flags.DEFINE_boolean, "list_recipes", False, "Whether only to list the recipes.")


def expand(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
  """Put the flags of the recipe that a command line names before its own.

  Args:
    argv: the program's name and its arguments.
    flag_values: where the flags are defined.

  Returns:
    The program's name, the recipe's flags but those that the command line gives itself, and the arguments.

  Raises:
    UserError: the recipe cannot be read, or does not consist of flags with allowed values.
  """
  options = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
  given = [_split(option) for option in options]
  names = [value for name, value in given if name == "recipe" and value is not None]
  # The form without an equals sign.
  names += [options[number + 1] for number, each in enumerate(given[:-1]) if each == ("recipe", None)]
  if not names:
    return list(argv)
  own = {_defined_name(name, flag_values) for name, _ in given}
  return [argv[0], *(line.argument for line in _read(names[-1], flag_values) if line.flag not in own), *argv[1:]]


def listing() -> str:
  """Return a line for each recipe: its name and the first line of its file."""
  paths = sorted(glob.glob(os.path.join(glob.escape(FOLDER), f"*{_SUFFIX}")))
  names = [os.path.basename(path).removesuffix(_SUFFIX) for path in paths]
  width = max(map(len, names))
  return "\n".join(f"{name:{width}}  {_summary(path)}" for name, path in zip(names, paths, strict=True))


def find(name: str) -> str:
  """Return the file of a recipe, given by its name or as a path."""
  path = os.path.join(FOLDER, f"{name}{_SUFFIX}")
  if os.path.isfile(path):
    return path
  if os.path.isfile(name):
    return name
  raise UserError(f"--recipe={name} is neither a file nor a recipe; see --list_recipes")


def _summary(path: str) -> str:
  """Return the first comment of a recipe."""
  with open(path, encoding="utf-8") as file:
    return file.readline().strip(f"{_COMMENT} \n")


def _read(name: str, flag_values: flags.FlagValues, outer: tuple[str, ...] = ()) -> list[_Line]:
  """Read a recipe; where it names another recipe, that one's lines come first, and its own take their place."""
  path = find(name)
  if path in outer:
    raise UserError(f"{outer[-1]}: --recipe={name} leads back to where it came from; take it out")
  lines = list(_lines(path, flag_values))
  inner = [line for line in lines if line.flag == "recipe"]
  kept = [line for line in lines if line.flag != "recipe"]
  own = {line.flag for line in kept}
  for line in inner:
    base = _read(_split(line.argument)[1] or "", flag_values, (*outer, path))
    kept = [each for each in base if each.flag not in own] + kept
  return kept


def _lines(path: str, flag_values: flags.FlagValues) -> Iterator[_Line]:
  """Yield the flags of a recipe's own file."""
  try:
    with open(path, encoding="utf-8") as file:
      texts = file.read().splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"--recipe: {path} cannot be read ({error}); give a file with a flag a line") from error
  for number, text in enumerate(texts, start=1):
    argument = text.strip()
    if argument and not argument.startswith(_COMMENT):
      yield _check(_Line(f"{path}:{number}", "", argument), flag_values)


def _check(line: _Line, flag_values: flags.FlagValues) -> _Line:
  """Return a line with the name of its flag; refuse what is no flag with an allowed value."""
  name, value = _split(line.argument)
  defined = _defined_name(name, flag_values)
  if not line.argument.startswith("--") or defined not in flag_values:
    raise UserError(f"{line.place}: {line.argument!r} is no flag of this program; correct it (see --help)")
  flag = flag_values[defined]
  if value is None and not flag.boolean:
    raise UserError(f"{line.place}: {line.argument!r} has no value; write --{defined}=VALUE")
  try:
    if value is not None:
      flag.parser.parse(value)
  except ValueError as error:
    raise UserError(f"{line.place}: --{defined}={value} is refused ({error}); correct it (see --help)") from error
  return line._replace(flag=defined)


def _split(option: str) -> tuple[str, str | None]:
  """Split --name=value into name and value, which is None if there is none."""
  match = re.fullmatch(r"--?([\w-]+?)(?:=(.*))?", option, re.DOTALL)
  return (match[1], match[2]) if match else ("", None)


def _defined_name(name: str, flag_values: flags.FlagValues) -> str:
  """Return the whole name of a flag that is given by its short name, or as --noNAME."""
  if name not in flag_values and name.startswith("no") and name[2:] in flag_values:
    name = name[2:]
  return flag_values[name].name if name in flag_values else name
