"""The code held against the rules of architecture.py, and the rules against small pieces of wrong code.

A rule that cannot fail says nothing.
"""

import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable

import architecture
import pytest
from architecture import ROOT_ON_PATH, Code

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Where a package's name is not that of its module; and what a dependency imports without declaring it.
PACKAGE_OF = {"absl": "absl-py", "tensorflow_estimator": "tensorflow-estimator"}
UNDECLARED_BY_OTHERS = {"six"}


def read(paths: Iterable[pathlib.Path]) -> Code:
  return Code({path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths})


def report(faults: list[str]) -> None:
  assert not faults, "\n" + "\n".join(faults)


TESTS = read((ROOT / "tests").rglob("*.py"))
PRODUCT = read(
  path
  for path in ROOT.rglob("*.py")
  if path.relative_to(ROOT).parts[0] != "tests" and not any(p.startswith(".") for p in path.relative_to(ROOT).parts)
)
RULES = [
  architecture.imports_that_do_not_point_down,
  architecture.circles,
  architecture.uses_of_tensorflow_where_there_is_none,
  architecture.direct_imports_of_tensorflow,
  architecture.uses_of_internals,
  architecture.uses_of_tensorflow_on_import,
  architecture.changes_of_the_import_path,
  architecture.commands_that_begin_late,
  architecture.messages_with_a_final_period,
  architecture.flags_below_the_commands,
  architecture.state_of_modules,
  architecture.modules_too_long,
  architecture.functions_too_long,
  architecture.public_functions_half_described,
  architecture.words_that_do_not_belong,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps(rule):
  report(rule(PRODUCT))


@pytest.mark.parametrize(
  "rule", [architecture.words_that_do_not_belong, architecture.skips_and_mocks], ids=lambda rule: rule.__name__
)
def test_the_tests_keep(rule):
  report(rule(TESTS))


def test_every_module_has_a_test_file():
  report(architecture.modules_without_tests(PRODUCT, {path.name for path in (ROOT / "tests").glob("test_*.py")}))


def test_the_project_is_never_installed():
  """Names such as `data` and `training` must not land among a user's packages."""
  text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
  assert not re.search(r"^\s*\[\s*(project|build-system)\b", text, re.MULTILINE)


def test_requirements_are_what_the_code_imports():
  text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
  required = set(re.findall(r"^[a-z][\w-]*", text, re.MULTILINE))
  product = Code({module.path: module.source for module in PRODUCT.values() if module.room != "benchmarks"})
  imported = {target.split(".")[0] for module in product.values() for _, target in product.imports(module)}
  foreign = imported - architecture.BELOW.keys() - sys.stdlib_module_names | {"tensorflow", "tensorflow_estimator"}
  assert required == {PACKAGE_OF.get(name, name) for name in foreign} | UNDECLARED_BY_OTHERS


def test_nothing_loads_tensorflow_before_it_is_used():
  """Import what must not load it in one fresh process, and see after each."""
  names = sorted((architecture.WITHOUT_TENSORFLOW & PRODUCT.keys()) | {"speech_flags", "deep_speech"})
  program = "\n".join(
    [
      "import importlib, sys",
      f"for name in {names}:",
      "  importlib.import_module(name)",
      "  print(name, sorted({'tensorflow', 'tensorflow_estimator', 'keras'} & sys.modules.keys()))",
    ]
  )
  shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
  assert shown.stdout == "".join(f"{name} []\n" for name in names), shown.stderr


# The rules held against wrong code.

MAIN = 'if __name__ == "__main__":\n  pass\n'
BEGIN = "  from official_utils.misc import commands\n  commands.begin()\n"
LAZY = "from official_utils.lazy import tf\n"


@pytest.mark.parametrize(
  ("rule", "files", "places"),
  [
    (architecture.imports_that_do_not_point_down, {"layers/a.py": "\nimport decoder"}, ["layers/a.py:2"]),
    (architecture.imports_that_do_not_point_down, {"inference.py": "import exports"}, ["inference.py:1"]),
    (architecture.imports_that_do_not_point_down, {"settings.py": "import data.audio"}, ["settings.py:1"]),
    (architecture.imports_that_do_not_point_down, {"training/a.py": "import exports"}, ["training/a.py:1"]),
    (architecture.imports_that_do_not_point_down, {"data/a.py": "def f():\n  from training import x"}, ["data/a.py:2"]),
    (architecture.imports_that_do_not_point_down, {"serve.py": "import transcribe\nimport decoder"}, ["serve.py:2"]),
    (architecture.imports_that_do_not_point_down, {"training/a.py": "import deep_speech"}, ["training/a.py:1"]),
    (architecture.imports_that_do_not_point_down, {"decoder.py": "from benchmarks import a"}, ["decoder.py:1"]),
    (architecture.imports_that_do_not_point_down, {"official_utils/a.py": "import data.b"}, ["official_utils/a.py:1"]),
    (architecture.imports_that_do_not_point_down, {"elsewhere.py": ""}, ["elsewhere.py:1"]),
    (architecture.imports_that_do_not_point_down, {"deep_speech.py": "import training, layers.ctc, data, numpy"}, []),
    (
      architecture.circles,
      {"data/a.py": "from data import b", "data/b.py": "def f():\n  from . import a"},
      ["data/a.py:1", "data/b.py:2"],
    ),
    (architecture.circles, {"data/a.py": "import data.b", "data/b.py": "import data.c", "data/c.py": ""}, []),
    (architecture.uses_of_tensorflow_where_there_is_none, {"decoder.py": LAZY}, ["decoder.py:1"]),
    (
      architecture.uses_of_tensorflow_where_there_is_none,
      {"data/audio.py": "import official_utils.a", "official_utils/a.py": "def f():\n  import tensorflow as x"},
      ["data/audio.py:1"],
    ),
    (
      architecture.direct_imports_of_tensorflow,
      {"layers/a.py": "def f():\n  import tensorflow as tf"},
      ["layers/a.py:2"],
    ),
    (
      architecture.uses_of_internals,
      {"layers/a.py": '"""Not tensorflow.python."""\nname = "tensorflow.python.ops"'},
      ["layers/a.py:2"],
    ),
    (architecture.uses_of_internals, {"layers/a.py": "x = tf.python.ops"}, ["layers/a.py:1"]),
    (architecture.uses_of_internals, {"official_utils/estimator.py": "import tensorflow.python"}, []),
    (
      architecture.uses_of_tensorflow_on_import,
      {"serve.py": f"import layers.a\n{MAIN}", "layers/a.py": f"{LAZY}class A(tf.Module):\n  x = 1"},
      ["layers/a.py:2"],
    ),
    (
      architecture.uses_of_tensorflow_on_import,
      {"serve.py": f"{LAZY}def f(x: tf.Tensor):\n  pass\n{MAIN}"},
      ["serve.py:2"],
    ),
    (architecture.uses_of_tensorflow_on_import, {"serve.py": f"{LAZY}def f(x):\n  return tf.abs(x)\n{MAIN}"}, []),
    (
      architecture.uses_of_tensorflow_on_import,
      {"serve.py": f"def f():\n  import layers.a\n{MAIN}", "layers/a.py": f"{LAZY}X = tf.int32"},
      [],
    ),
    (architecture.changes_of_the_import_path, {"data/a.py": f'"""Doc."""\n{ROOT_ON_PATH}import re\n'}, []),
    (architecture.changes_of_the_import_path, {"a.py": ROOT_ON_PATH}, ["a.py:4"]),
    (architecture.changes_of_the_import_path, {"data/a.py": f"import re\n{ROOT_ON_PATH}"}, ["data/a.py:5"]),
    (architecture.changes_of_the_import_path, {"data/a.py": "import sys\nsys.path[0] = '/x'"}, ["data/a.py:2"]),
    (
      architecture.changes_of_the_import_path,
      {"data/a.py": "import sys\ndef f():\n  sys.path.append('x')"},
      ["data/a.py:3"],
    ),
    (architecture.changes_of_the_import_path, {"data/a.py": "from sys import path"}, ["data/a.py:1"]),
    (architecture.changes_of_the_import_path, {"data/a.py": f"{ROOT_ON_PATH}  import decoder\n"}, []),
    (architecture.changes_of_the_import_path, {"data/a.py": f"{ROOT_ON_PATH}  sys.path[1] = ''\n"}, ["data/a.py:5"]),
    (architecture.commands_that_begin_late, {"data/a.py": f"{ROOT_ON_PATH}{BEGIN}import re\n"}, []),
    (architecture.commands_that_begin_late, {"data/a.py": f"{ROOT_ON_PATH}import re\n"}, ["data/a.py:5"]),
    (architecture.commands_that_begin_late, {"data/a.py": f"import re\n{ROOT_ON_PATH}{BEGIN}"}, ["data/a.py:1"]),
    (architecture.commands_that_begin_late, {"data/a.py": "import re\n"}, []),
    (
      architecture.messages_with_a_final_period,
      {
        "data/a.py": 'def f(x):\n  raise UserError(f"{x}: is no; " + "do.")\ndef g(x):\n  return errors.UserError(f"{x}.")'
      },
      ["data/a.py:2", "data/a.py:4"],
    ),
    (
      architecture.messages_with_a_final_period,
      {"data/a.py": 'm = "Do." if x else "Go"\nn = f"{x}; {m}"\nraise UserError(n)\nraise ValueError("Do.")'},
      ["data/a.py:1"],
    ),
    (architecture.messages_with_a_final_period, {"data/a.py": 'raise UserError(f"a. {x}; give b." f"{y}")'}, []),
    (architecture.state_of_modules, {"data/a.py": "def f():\n  global x\n  x = 1"}, ["data/a.py:2"]),
    (architecture.state_of_modules, {"data/a.py": "from absl import flags\nx = flags.FLAGS.seed"}, ["data/a.py:2"]),
    (architecture.state_of_modules, {"data/a.py": f"from absl import flags\nx = flags.FLAGS\n{MAIN}"}, []),
    (architecture.modules_too_long, {"data/a.py": "x = 1\n" * 401, "data/b.py": "x = 1\n" * 400}, ["data/a.py:401"]),
    (
      architecture.functions_too_long,
      {"data/a.py": "def f():\n" + "  x = 1\n" * 60 + "def g():\n" + "  x = 1\n" * 59},
      ["data/a.py:1"],
    ),
    (
      architecture.flags_below_the_commands,
      {"training/a.py": "import os\nfrom absl import flags", "data/a.py": "def f():\n  import speech_flags"},
      ["data/a.py:2", "training/a.py:2"],
    ),
    (
      architecture.flags_below_the_commands,
      {"serve.py": f"from absl import flags\n{MAIN}", "speech_flags.py": "from absl import flags"},
      [],
    ),
    (
      architecture.uses_of_tensorflow_where_there_is_none,
      {"data/features.py": "def f():\n  import layers.a", "layers/a.py": LAZY, "scoring.py": "import data.features"},
      [],
    ),
    (
      architecture.uses_of_tensorflow_where_there_is_none,
      {"data/features.py": "import layers.a", "layers/a.py": LAZY},
      ["data/features.py:1"],
    ),
    (architecture.public_functions_half_described, {"data/a.py": 'def f(a):\n  """Do."""'}, ["data/a.py:1"]),
    (
      architecture.public_functions_half_described,
      {"data/a.py": "class A:\n  def f(self, a: int) -> int:\n    return a"},
      ["data/a.py:2"],
    ),
    (
      architecture.public_functions_half_described,
      {"data/a.py": "class A:\n  def __init__(self, a):\n    self.a = a"},
      ["data/a.py:2"],
    ),
    (
      architecture.public_functions_half_described,
      {"data/a.py": 'def f(a: int) -> int:\n  """Do."""\ndef _g(a):\n  pass'},
      [],
    ),
    (
      architecture.words_that_do_not_belong,
      {"data/a.py": "\n# TO" + "DO later\n# Copy" + "right 2018"},
      ["data/a.py:2", "data/a.py:3"],
    ),
    (
      architecture.skips_and_mocks,
      {"tests/test_a.py": "import pytest\n@pytest.mark.skip\ndef f(): pass"},
      ["tests/test_a.py:2"],
    ),
    (architecture.skips_and_mocks, {"tests/test_a.py": "from unittest import mock\nx = 1"}, ["tests/test_a.py:1"]),
  ],
)
def test_a_rule_finds_what_breaks_it(rule, files, places):
  assert [fault.partition(": ")[0] for fault in rule(Code(files))] == places


def test_test_files_are_asked_for_by_name_or_by_folder():
  with_function = "def f():\n  pass"
  code = Code(dict.fromkeys(("data/a.py", "official_utils/flags/_b.py", "c.py"), with_function))
  code |= Code({"data/__init__.py": '"""Data."""', "data/table.py": "SIZES = (1, 2)"})
  assert architecture.modules_without_tests(code, {"test_a.py", "test_flags.py"}) == [
    "c.py:1: has no test file tests/test_c.py"
  ]
