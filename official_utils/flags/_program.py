"""Runs a program with flags: its help, its errors in one line, its exit code."""

import inspect
import logging as python_logging
import re
import sys
import textwrap
from collections.abc import Callable

from absl import app, flags, logging

from official_utils.flags._conventions import own_flags
from official_utils.misc import commands

_HELP_ARGUMENTS = ("help", "h", "?", "helpfull", "helpshort")
_WIDTH = 100

_PLAIN_WORDS = (
  (r"invalid literal for int\(\).*", "not an integer"),
  (r"could not convert string to float.*", "not a number"),
  (r"\('Non-boolean argument.*", "neither true nor false"),
)

# The exit code of a wrong command line.
_WRONG_USAGE = 2


class _LineFormatter(python_logging.Formatter):
  """Writes a message as it is, with its level in front only if something is wrong."""

  def format(self, record: python_logging.LogRecord) -> str:
    """Return the line for one record."""
    line = super().format(record)
    return f"{record.levelname.lower()}: {line}" if record.levelno >= python_logging.WARNING else line


def run(
  main: Callable[[list[str]], int | None],
  description: str,
  arguments: str = "",
  complete: Callable[[], None] = lambda: None,
) -> None:
  """Parse the command line, call `main` and end the process with the right exit code.

  --help lists every flag that this repository has defined. A wrong command line ends with exit code 2 and one line on
  stderr; for all other endings see commands.run.

  Args:
    main: called with a list of the program's name and its arguments; returns the exit code, None for 0.
    description: what the program does, for its help, with the layout to be shown.
    arguments: the name of the arguments besides flags in the help, such as "FILE..."; at least one must then be given.
      By default there are none.
    complete: called once the flags are parsed, for what else decides on their values.
  """

  def parse(argv: list[str]) -> list[str]:
    logging.get_absl_handler().setFormatter(_LineFormatter())
    rest = _parse_or_exit(argv, description, arguments)
    complete()
    return rest

  sys.exit(commands.run(lambda: app.run(main, flags_parser=parse)))


def help_text(program: str, description: str, flag_values: flags.FlagValues = flags.FLAGS, arguments: str = "") -> str:
  """List every flag that this repository has defined, module by module.

  Args:
    program: the path that started the program.
    description: what the program does, with the layout to be shown.
    flag_values: where the flags are defined.
    arguments: the name of the arguments besides flags.

  Returns:
    The text that --help prints.
  """
  paragraphs = [inspect.cleandoc(description), f"usage: python {program} [--flag=value ...] {arguments}".rstrip()]
  for module_name, module_flags in own_flags(flag_values).items():
    paragraphs.append("\n".join([f"{_title(module_name)}:", *map(_flag_help, module_flags)]))
  return "\n\n".join(paragraphs) + "\n"


def _parse_or_exit(argv: list[str], description: str, arguments: str) -> list[str]:
  """Parse the command line into absl's flags, or say what is wrong with it and exit."""
  options = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
  if any(option.startswith("-") and option.lstrip("-") in _HELP_ARGUMENTS for option in options):
    sys.stdout.write(help_text(argv[0], description, arguments=arguments))
    sys.exit(0)
  try:
    # Flags may come after arguments.
    flags.FLAGS.set_gnu_getopt(bool(arguments))
    rest = flags.FLAGS(argv)
  except (flags.Error, ValueError) as error:  # --noclean=1 raises a ValueError.
    hint = "; write ./ before a name that begins with -" if arguments and "Unknown" in str(error) else ""
    sys.exit(commands.complain(_explain(error) + hint, _WRONG_USAGE))
  if arguments and len(rest) == 1:
    sys.exit(commands.complain(f"there is nothing to do; give {arguments} (see --help)", _WRONG_USAGE))
  if len(rest) > 1 and not arguments:
    message = f"unexpected argument {rest[1]!r}; write a flag and its value as --flag=value (see --help)"
    sys.exit(commands.complain(message, _WRONG_USAGE))
  return rest


def _explain(error: Exception) -> str:
  """Put an error of absl's parser into one line in plain words."""
  message = " ".join(str(error).split())
  for words_of_python, plain_words in _PLAIN_WORDS:
    message = re.sub(words_of_python, plain_words, message)
  return f"{message} (see --help)"


def _title(module_name: str) -> str:
  """Return the first line of a module's docstring."""
  # absl lists the program's own flags under the path that started it.
  module = sys.modules.get(module_name, sys.modules["__main__"])
  return (inspect.getdoc(module) or module_name).splitlines()[0].rstrip(".")


def _flag_help(flag: flags.Flag) -> str:
  """Describe one flag: its names, type, default and meaning."""
  names = [f"--{flag.name}"]
  if flag.boolean:
    names.append(f"--no{flag.name}")
  if flag.short_name:
    names.append(f"-{flag.short_name}")
  head = f"  {', '.join(names)} ({flag.flag_type()}; default: {_default(flag)})"
  body = textwrap.fill(" ".join(flag.help.split()), _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
  return f"{head}\n{body}"


def _default(flag: flags.Flag) -> str:
  """Return a flag's default as it would be typed, or 'none'."""
  if flag.default_as_str is None or flag.default in ("", []):
    return "none"
  return flag.default_as_str.strip("'\"")
