"""The plan of the house as rules: who imports whom, and the form that every module keeps.

A rule is a function from modules to faults, each "file:line: what is wrong". test_architecture.py holds the code against them.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

MAX_LINES = 400
# A screen.
MAX_FUNCTION_LINES = 60

# The rooms of the house and those directly below each. What is below those is below it too, and official_utils is below
# everything. `serve` alone sees what it names only. Some rooms are planned and not there yet.
BELOW = {
  # Commands.
  "deep_speech": {"exports", "training", "speech_flags"},
  "transcribe": {"exports", "decoder", "transcript_writer"},
  "serve": {"transcribe", "transcripts"},
  "language_model": {"decoding"},
  "experiments": {"speech_flags"},
  "tflite_export": {"exports"},
  # What a command line says.
  "speech_flags": {"data", "settings"},
  # A run of training.
  "training": {"inference", "decoder"},
  # From network to text.
  "exports": {"inference"},
  "inference": {"networks", "data"},
  "networks": {"deep_speech_model", "speech_net_model"},
  "deep_speech_model": {"layers", "settings"},
  "speech_net_model": {"layers", "settings"},
  "decoding": {"decoder"},
  "decoder": {"scoring"},
  "scoring": set(),
  "transcript_writer": {"data", "transcripts"},
  "transcripts": set(),
  # What all stand on.
  "data": {"layers", "settings"},
  "layers": set(),
  "settings": set(),
  "official_utils": set(),
}
SEES_ONLY_WHAT_IT_NAMES = {"serve"}

WITHOUT_TENSORFLOW = {
  "data.audio",
  "data.augmentation.augmenter",
  "data.curate",
  "data.features",
  "data.featurizer",
  "data.manifest",
  "data.segments",
  "data.suggestions",
  "data.vocabulary",
  "decoder",
  "language_model",
  "official_utils.misc.nvidia",
  "scoring",
  "settings",
  "transcripts",
}
# Each kind of features knows its twin in the graph, and loads it when a graph is built.
LOADS_TWINS_LATE = {"data.features"}
# Who may have a FlagValues in hand: what defines flags, and what the original's utilities do with them.
HOLDS_FLAGS = ("speech_flags", "official_utils.flags", "official_utils.logs.logger")
IMPORTS_TENSORFLOW = {"official_utils.lazy", "official_utils.estimator"}
TOUCHES_INTERNALS = {"official_utils.estimator"}
INTERNALS = ("tensorflow.python", "tensorflow.core", "tensorflow_estimator")

# What a command in a folder begins with: two lines that put the repository root in place of the command's own folder,
# after the imports that they need. More may follow under the same condition. Where the module is imported instead, they
# do nothing.
ROOT_ON_PATH = """\
import os
import sys
if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""

# A module with functions is tested by test_<its name>.py, those of these folders all by the folder's one file.
TESTED_TOGETHER = {
  "official_utils/flags": "test_flags.py",
  "benchmarks": "test_benchmarks.py",
  "settings": "test_settings.py",
  "speech_flags": "test_speech_flags.py",
}


@dataclass(frozen=True)
class Module:
  """A file of Python code."""

  path: str
  source: str

  @cached_property
  def tree(self) -> ast.Module:
    return ast.parse(self.source, self.path)

  @property
  def name(self) -> str:
    return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

  @property
  def room(self) -> str:
    return self.name.split(".")[0]

  @property
  def is_command(self) -> bool:
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in self.tree.body)

  @cached_property
  def docstrings(self) -> set[ast.AST]:
    """The constants that are statements of their own."""
    return {node.value for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}

  def fault(self, line: int, message: str) -> str:
    return f"{self.path}:{line}: {message}"


class Code(dict):
  """Modules by name, with what they import."""

  def __init__(self, files: dict[str, str]):
    modules = (Module(path, source) for path, source in sorted(files.items()))
    super().__init__((module.name, module) for module in modules)

  def imports(self, module: Module, nodes: Iterator[ast.AST] | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line, full name) of what the nodes import (None: all of the module's)."""
    for node in ast.walk(module.tree) if nodes is None else nodes:
      if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names)
      elif isinstance(node, ast.ImportFrom):
        package = module.name.split(".")[: -node.level] if node.level else []
        origin = ".".join([*package, *filter(None, [node.module])])
        for alias in node.names:
          whole = f"{origin}.{alias.name}"
          yield node.lineno, origin if origin in self and whole not in self else whole

  def reached_from(
    self, names: set[str], on_import_only: bool = False, late: frozenset[str] | set[str] = frozenset()
  ) -> dict[str, str]:
    """Map each name that the modules import, directly or not, to the path of imports that leads there.

    Of the modules in `late`, or of all with `on_import_only`, only what is imported when they are counts.
    """
    paths = {name: name for name in names}
    waiting = sorted(names)
    while waiting:
      name = waiting.pop()
      module = self.get(name)
      if module is None:
        continue
      nodes = run_on_import(module.tree) if on_import_only or name in late else None
      for _, target in self.imports(module, nodes):
        if target not in paths:
          paths[target] = f"{paths[name]} -> {target}"
          waiting.append(target)
    return paths


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
  """Yield the nodes that run when a module is imported: all but what stands inside functions or is for type checkers."""
  for child in ast.iter_child_nodes(node):
    if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
      continue
    if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
      parts = [*child.decorator_list, child.args, *filter(None, [child.returns])]
    elif isinstance(child, ast.Lambda):
      parts = [child.args]
    else:
      parts = [child]
    for part in parts:
      yield part
      yield from run_on_import(part)


def rooms_below(room: str) -> set[str]:
  found = set()
  waiting = {room}
  while waiting:
    new = set().union(*(BELOW[name] for name in waiting)) - found
    found |= new
    waiting = set() if room in SEES_ONLY_WHAT_IT_NAMES else new
  return found | {room, "official_utils"}


# The rules.


def imports_that_do_not_point_down(code: Code) -> list[str]:
  faults = []
  for module in code.values():
    if module.room == "benchmarks":
      continue
    if module.room not in BELOW:
      faults.append(module.fault(1, f"{module.room} has no place in the plan; give it one in BELOW"))
      continue
    allowed = rooms_below(module.room)
    for line, target in code.imports(module):
      room = target.split(".")[0]
      if room in BELOW.keys() | {"benchmarks", "tests"} and room not in allowed:
        faults.append(module.fault(line, f"{module.name} must not import {target}: {room} is not below {module.room}"))
  return faults


def circles(code: Code) -> list[str]:
  faults = []
  for module in code.values():
    for line, target in code.imports(module):
      way_back = code.reached_from({target}).get(module.name)
      if target in code and way_back:
        faults.append(module.fault(line, f"imports in a circle: {module.name} -> {way_back}"))
  return faults


def uses_of_tensorflow_where_there_is_none(code: Code) -> list[str]:
  faults = []
  for name in sorted(WITHOUT_TENSORFLOW & code.keys()):
    for target, path in code.reached_from({name}, late=LOADS_TWINS_LATE).items():
      if target.startswith("official_utils.lazy") or target.split(".")[0] in (
        "tensorflow",
        "tensorflow_estimator",
        "keras",
      ):
        faults.append(code[name].fault(1, f"must do without TensorFlow, but {path}"))
  return faults


def direct_imports_of_tensorflow(code: Code) -> list[str]:
  return [
    module.fault(line, f"imports {target}; TensorFlow comes as `from official_utils.lazy import tf`")
    for module in code.values()
    if module.name not in IMPORTS_TENSORFLOW
    for line, target in code.imports(module)
    if target.split(".")[0] in ("tensorflow", "tensorflow_estimator", "keras")
  ]


def uses_of_internals(code: Code) -> list[str]:
  """Find TensorFlow's private parts, imported, named in a string, or taken as an attribute."""
  faults = []
  for module in code.values():
    if module.name in TOUCHES_INTERNALS:
      continue
    found = list(code.imports(module))
    for node in ast.walk(module.tree):
      if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in module.docstrings:
        found.append((node.lineno, node.value))
      elif isinstance(node, ast.Attribute) and ast.unparse(node) == "tf.python":
        found.append((node.lineno, "tensorflow.python"))
    faults += [
      module.fault(line, f"touches {name}; only {', '.join(sorted(TOUCHES_INTERNALS))} may")
      for line, name in found
      if name.startswith(INTERNALS)
    ]
  return faults


def uses_of_tensorflow_on_import(code: Code) -> list[str]:
  """Find attributes of tf taken at module level in what a command loads."""
  commands = {module.name for module in code.values() if module.is_command and module.room != "benchmarks"}
  return [
    code[name].fault(node.lineno, f"takes tf.{node.attr} on import, which loads TensorFlow for --help ({path})")
    for name, path in code.reached_from(commands, on_import_only=True).items()
    if name in code
    for node in run_on_import(code[name].tree)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tf"
  ]


def changes_of_the_import_path(code: Code) -> list[str]:
  faults = []
  form = ast.parse(ROOT_ON_PATH).body
  for module in code.values():
    body = [node for node in module.tree.body if getattr(node, "value", None) not in module.docstrings][: len(form)]
    allowed = set()
    if "/" in module.path and body and isinstance(body[-1], ast.If) and not body[-1].orelse:
      first = body[-1].body[0]
      body[-1] = ast.If(body[-1].test, [first], [])
      allowed = set(ast.walk(first)) if list(map(ast.dump, body)) == list(map(ast.dump, form)) else set()
    for node in ast.walk(module.tree):
      named = isinstance(node, ast.ImportFrom) and node.module == "sys" and "path" in [a.name for a in node.names]
      taken = isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"
      if (named or taken) and node not in allowed:
        faults.append(module.fault(node.lineno, "only a command in a folder touches sys.path, as ROOT_ON_PATH has it"))
  return faults


def commands_that_begin_late(code: Code) -> list[str]:
  """Find what a command imports before Ctrl-C ends it without a traceback."""
  faults = []
  for module in code.values():
    for node in run_on_import(module.tree) if module.is_command and module.room != "benchmarks" else ():
      if isinstance(node, ast.Call) and ast.unparse(node) == "commands.begin()":
        break
      faults += [
        module.fault(line, f"imports {target} before commands.begin()")
        for line, target in code.imports(module, iter([node]))
        if target not in ("os", "sys", "official_utils.misc.commands")
      ]
  return faults


def messages_with_a_final_period(code: Code) -> list[str]:
  """Find messages of a UserError that end with a period: they are shown in a line with what is around them."""
  faults = []
  for module in code.values():
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call) and node.args]
    for call in calls:
      if isinstance(call.func, ast.Name | ast.Attribute) and ast.unparse(call.func).split(".")[-1] == "UserError":
        faults += [
          module.fault(end.end_lineno, f"the message ends with a period: {end.value[-40:]!r}")
          for end in ends_of_text(call.args[0], module)
          if end.value.endswith(".")
        ]
  return faults


def ends_of_text(node: ast.AST, module: Module) -> Iterator[ast.Constant]:
  """Yield the literals that a text can end with: its own last piece, or that of whatever is assigned to its name."""
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    yield node
  elif isinstance(node, ast.JoinedStr) and node.values:
    yield from ends_of_text(node.values[-1], module)
  elif isinstance(node, ast.FormattedValue):
    yield from ends_of_text(node.value, module)
  elif isinstance(node, ast.BinOp):
    yield from ends_of_text(node.right, module)
  elif isinstance(node, ast.IfExp):
    yield from ends_of_text(node.body, module)
    yield from ends_of_text(node.orelse, module)
  elif isinstance(node, ast.Name):
    for other in ast.walk(module.tree):
      if isinstance(other, ast.Assign) and node.id in map(ast.unparse, other.targets):
        yield from ends_of_text(other.value, module)


def flags_below_the_commands(code: Code) -> list[str]:
  """Find modules that take or read flags although they are no command."""
  return [
    module.fault(line, f"imports {target}; a command turns flags into plain arguments")
    for module in code.values()
    if not module.is_command and module.room != "benchmarks" and not module.name.startswith(HOLDS_FLAGS)
    for line, target in code.imports(module)
    if target.startswith("absl.flags") or target.split(".")[0] == "speech_flags"
  ]


def state_of_modules(code: Code) -> list[str]:
  """Find global statements, and flags read elsewhere than in commands and where flags are defined."""
  faults = []
  for module in code.values():
    may_read_flags = (
      module.is_command or module.room == "speech_flags" or module.name.startswith("official_utils.flags")
    )
    for node in ast.walk(module.tree):
      if isinstance(node, ast.Global):
        faults.append(module.fault(node.lineno, f"global state: {', '.join(node.names)}"))
      if "FLAGS" in (getattr(node, "attr", None), getattr(node, "id", None)) and not may_read_flags:
        faults.append(module.fault(node.lineno, "reads FLAGS; take what is needed as an argument"))
  return faults


def modules_too_long(code: Code) -> list[str]:
  return [
    module.fault(MAX_LINES + 1, f"the module has {len(lines)} lines; {MAX_LINES} are the most")
    for module in code.values()
    if len(lines := module.source.splitlines()) > MAX_LINES
  ]


def functions_too_long(code: Code) -> list[str]:
  return [
    module.fault(node.lineno, f"{node.name} has {length} lines; {MAX_FUNCTION_LINES} are the most")
    for module in code.values()
    for node in ast.walk(module.tree)
    if isinstance(node, ast.FunctionDef) and (length := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES
  ]


def modules_without_tests(code: Code, test_files: set[str]) -> list[str]:
  faults = []
  for module in code.values():
    folder, _, file = module.path.rpartition("/")
    expected = TESTED_TOGETHER.get(folder, f"test_{file}")
    if expected not in test_files and any(isinstance(node, ast.FunctionDef) for node in ast.walk(module.tree)):
      faults.append(module.fault(1, f"has no test file tests/{expected}"))
  return faults


def public_functions_half_described(code: Code) -> list[str]:
  faults = []
  for module in code.values():
    for function in public_functions(module.tree):
      arguments = function.args
      named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
      missing = [arg.arg for arg in named if arg.annotation is None and not re.fullmatch("self|cls|_.*", arg.arg)]
      if function.returns is None and function.name != "__init__":
        missing.append("its result")
      if missing:
        faults.append(module.fault(function.lineno, f"{function.name} has no type hint for {', '.join(missing)}"))
      if ast.get_docstring(function) is None and function.name != "__init__":
        faults.append(module.fault(function.lineno, f"{function.name} has no docstring"))
  return faults


def public_functions(scope: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef]:
  for node in scope.body:
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      yield from public_functions(node)
    elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
      yield node


def words_that_do_not_belong(code: Code) -> list[str]:
  # Written in pieces, so that this file passes its own rule.
  unwanted = re.compile("from __fut" + r"ure__|\bTO" + r"DO\b|\bFIX" + r"ME\b|(?i:copy" + "right)")
  return [
    module.fault(number, f"contains {match.group()!r}")
    for module in code.values()
    for number, line in enumerate(module.source.splitlines(), start=1)
    for match in unwanted.finditer(line)
  ]


def skips_and_mocks(code: Code) -> list[str]:
  """Find skipped tests and mocks."""
  faults = []
  for module in code.values():
    for node in ast.walk(module.tree):
      if isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "xfail", "importorskip"):
        faults.append(module.fault(node.lineno, f"{node.attr}: a test runs, or it is none"))
    for line, target in code.imports(module):
      if target.split(".")[:2] in (["unittest", "mock"], ["mock"]):
        faults.append(module.fault(line, "mocks what can run for real"))
  return faults
