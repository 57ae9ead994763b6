"""Reaches TensorFlow at its first use, quietly, the same way from every module.

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

# Held while descriptor 2 is turned away, and while TensorFlow is half imported.
_LOCK = threading.RLock()


class LazyModule(types.ModuleType):
  """Stands for a module until one of its attributes is asked for."""

  def __getattr__(self, name: str) -> Any:
    """Import the real module and hand out its attribute."""
    value = getattr(import_quietly(self.__name__), name)
    setattr(self, name, value)
    return value


@contextlib.contextmanager
def held_back_logs(unless: type[Exception] | tuple = ()) -> Iterator[None]:
  """Hold back what is written to descriptor 2, and show it only if an exception travels on.

  TensorFlow's C++ part writes to the descriptor itself, past sys.stderr and partly before its own log level counts.

  Args:
    unless: exceptions that say all that is to be said.
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
  """Import a module with what it writes to descriptor 2 held back.

  Args:
    name: the module's full name.

  Returns:
    The module. If the import fails, what was held back is shown before the exception travels on.
  """
  with _LOCK:
    return sys.modules[name] if name in sys.modules else _import(name)


def _import(name: str) -> types.ModuleType:
  """Import a module for the first time."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  # Looking for GPUs makes TensorFlow's eager side take all of their memory before a session asks for any.
  os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
  with held_back_logs():
    module = importlib.import_module(name)
    if name == "tensorflow":
      # Looking for devices is where a missing GPU driver is complained of.
      module.config.list_physical_devices()
  if name == "tensorflow":
    module.get_logger().setLevel("ERROR")
  return module


if TYPE_CHECKING:
  # What "tf.Tensor" in an annotation stands for.
  import tensorflow as tf
else:
  tf = LazyModule("tensorflow")
