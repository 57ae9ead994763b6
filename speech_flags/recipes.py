"""Recipes: named sets of flags, each a file of its own, which the flags of the command line overrule."""

import glob
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags

from official_utils.misc.errors import UserError

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "recipes")
_SUFFIX = ".flags"
_COMMENT = "#"


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


def apply(flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Let the flags of the recipe that was asked for have its values as their defaults, so that those given stay.

  Args:
    flag_values: the parsed flags.

  Raises:
    UserError: the recipe cannot be read, or does not consist of flags with allowed values.
  """
  if flag_values.recipe:
    for name, value in _read(find(flag_values.recipe), flag_values).items():
      flag_values.set_default(name, value)


def listing() -> str:
  """Return a line for each recipe: its name and the first line of its file."""
  paths = sorted(glob.glob(os.path.join(glob.escape(FOLDER), f"*{_SUFFIX}")))
  names = [os.path.basename(path).removesuffix(_SUFFIX) for path in paths]
  width = max(map(len, names))
  return "\n".join(f"{name:{width}}  {_summary(path)}" for name, path in zip(names, paths, strict=True))


def find(name: str, folder: str = "") -> str:
  """Return the file of a recipe, given by its name or as a path from a folder on."""
  path = os.path.join(FOLDER, f"{name}{_SUFFIX}")
  if os.path.isfile(path):
    return path
  path = os.path.join(folder, name)
  if os.path.isfile(path):
    return path
  raise UserError(f"--recipe={name} is neither a file nor a recipe; see --list_recipes")


def _summary(path: str) -> str:
  """Return the first comment of a recipe."""
  with open(path, encoding="utf-8") as file:
    return file.readline().strip(f"{_COMMENT} \n")


def _read(path: str, flag_values: flags.FlagValues, outer: tuple[str, ...] = ()) -> dict[str, Any]:
  """Read a recipe: the values of its flags by their names, after those of the recipe that it may build on."""
  if path in outer:
    raise UserError(f"{outer[-1]}: --recipe={path} leads back to where it came from; take it out")
  inner: dict[str, Any] = {}
  own: dict[str, Any] = {}
  for place, argument in _lines(path):
    name, value = _parse(place, argument, flag_values)
    if name == "recipe":
      if inner:
        raise UserError(f"{place}: {argument!r} is the second recipe to build on; take one of them out")
      inner = _read(find(value, os.path.dirname(path)), flag_values, (*outer, path))
    elif isinstance(flag_values[name], flags.MultiFlag):
      own.setdefault(name, []).append(value)
    else:
      own[name] = value
  return inner | own


def _lines(path: str) -> Iterator[tuple[str, str]]:
  """Yield the flags of a recipe's own file, each with its place: the file and the number of the line."""
  try:
    with open(path, encoding="utf-8") as file:
      texts = file.read().splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"--recipe: {path} cannot be read ({error}); give a file with a flag a line") from error
  for number, text in enumerate(texts, start=1):
    if text.strip() and not text.strip().startswith(_COMMENT):
      yield f"{path}:{number}", text.strip()


def _parse(place: str, argument: str, flag_values: flags.FlagValues) -> tuple[str, Any]:
  """Return the name and the value of a flag; refuse what is no flag with an allowed value."""
  match = re.fullmatch(r"--(\w+)(?:=(.*))?", argument, re.DOTALL)
  name, value = match.groups() if match else ("", None)
  if value is None and name not in flag_values and name.startswith("no") and name[2:] in flag_values:
    name, value = name[2:], "false"
  if name not in flag_values:
    raise UserError(f"{place}: {argument!r} is no flag of this program; correct it (see --help)")
  flag = flag_values[name]
  if value is None and not flag.boolean:
    raise UserError(f"{place}: {argument!r} has no value; write --{flag.name}=VALUE")
  value = "true" if value is None else value
  try:
    flag.parser.parse(value)
  except ValueError as error:
    raise UserError(f"{place}: --{flag.name}={value} is refused ({error}); correct it (see --help)") from error
  return flag.name, value
