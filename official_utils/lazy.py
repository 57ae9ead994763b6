"""Imports TensorFlow at its first use, quietly, in the same way for every module.

`from official_utils.lazy import tf` costs nothing; the first attribute taken from `tf` imports TensorFlow.
"""

import contextlib
import importlib
import os
import sys
import tempfile
import threading
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

# Held while descriptor 2 is redirected, and while TensorFlow is being imported.
_LOCK = threading.RLock()


class LazyModule(types.ModuleType):
  """Takes the place of a module until one of its attributes is asked for."""

  def __getattr__(self, name: str) -> Any:
    """Import the real module and return its attribute."""
    value = getattr(import_quietly(self.__name__), name)
    setattr(self, name, value)
    return value


@contextlib.contextmanager
def held_back_logs(unless: type[Exception] | tuple = ()) -> Iterator[None]:
  """Hold back output on descriptor 2, and show it only if the block raises.

  TensorFlow's C++ part writes to the descriptor directly, past sys.stderr and partly before its log level takes effect.

  Args:
    unless: exceptions that say enough on their own.
  """
  with _LOCK, tempfile.TemporaryFile() as held_back:
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(held_back.fileno(), 2)
    try:
      yield
    except Exception as error:
      if not isinstance(error, unless):
        held_back.seek(0)
        os.write(saved, held_back.read())
      raise
    finally:
      sys.stderr.flush()
      os.dup2(saved, 2)
      os.close(saved)


def import_quietly(name: str) -> types.ModuleType:
  """Import a module with its output on descriptor 2 held back.

  Args:
    name: the module's full name.

  Returns:
    The module. If the import fails, the output is shown before the exception is raised.
  """
  with _LOCK:
    return sys.modules[name] if name in sys.modules else _import(name)


def _import(name: str) -> types.ModuleType:
  """Import a module for the first time."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  # Otherwise TensorFlow's eager side takes all GPU memory as soon as it looks for GPUs, before a session asks for any.
  os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
  if name.startswith(("tensorflow.", "tensorflow_")):
    # Whatever is wanted of it first, TensorFlow itself is loaded as below.
    import_quietly("tensorflow")
  with held_back_logs():
    module = importlib.import_module(name)
    if name == "tensorflow":
      # TensorFlow complains about a missing GPU driver when it looks for devices.
      module.config.list_physical_devices()
  if name == "tensorflow":
    module.get_logger().setLevel("ERROR")
  return module


if TYPE_CHECKING:
  # What "tf.Tensor" in an annotation stands for.
  import tensorflow as tf
else:
  tf = LazyModule("tensorflow")
