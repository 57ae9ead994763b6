"""Tests of the lazy import of TensorFlow."""

import subprocess
import sys

import pytest

from official_utils import lazy


def _run(code):
  return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_tensorflow_is_loaded_at_first_use_and_without_noise():
  result = _run(
    "import sys\n"
    "from official_utils.lazy import tf\n"
    "assert 'tensorflow' not in sys.modules\n"
    "assert int(tf.constant(3)) == 3\n"
    "import tensorflow\n"
    "assert tf.float32 is tensorflow.float32\n"
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout == ""
  assert result.stderr == ""


def test_the_estimator_may_be_the_first_to_load_tensorflow():
  result = _run(
    "from official_utils import estimator\nwith estimator.released_graphs():\n  pass\nprint(estimator.RunConfig)\n"
  )
  assert (result.returncode, result.stderr) == (0, "")


def test_a_module_that_does_not_exist_is_an_import_error():
  with pytest.raises(ModuleNotFoundError, match="no_such_module"):
    lazy.LazyModule("no_such_module").anything  # noqa: B018


def test_an_attribute_that_does_not_exist_is_an_attribute_error():
  with pytest.raises(AttributeError, match="no_such_attribute"):
    lazy.LazyModule("json").no_such_attribute  # noqa: B018


@pytest.mark.parametrize("fails", [False, True])
def test_what_an_import_writes_is_shown_only_if_it_fails(tmp_path, monkeypatch, capfd, fails):
  name = f"noisy_module_{int(fails)}"
  lines = ["import os", "os.write(2, b'noise from below')", "raise OSError('broken')" if fails else "value = 7"]
  (tmp_path / f"{name}.py").write_text("\n".join(lines))
  monkeypatch.syspath_prepend(tmp_path)
  if fails:
    with pytest.raises(OSError, match="broken"):
      lazy.import_quietly(name)
  else:
    assert lazy.LazyModule(name).value == 7
  assert capfd.readouterr().err == ("noise from below" if fails else "")
  # Descriptor 2 is back in place.
  print("after", file=sys.stderr, flush=True)
  assert capfd.readouterr().err == "after\n"


def test_threads_may_be_the_first_to_use_it():
  result = _run(
    "import threading\n"
    "from official_utils.lazy import tf\n"
    "errors = []\n"
    "def use():\n"
    "  try:\n"
    "    tf.train.latest_checkpoint\n"
    "  except AttributeError as error:\n"
    "    errors.append(error)\n"
    "threads = [threading.Thread(target=use) for _ in range(8)]\n"
    "for thread in threads: thread.start()\n"
    "for thread in threads: thread.join()\n"
    "assert not errors, errors\n"
  )
  assert (result.returncode, result.stderr) == (0, "")
