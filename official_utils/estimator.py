"""Hands out the real Estimator on every TensorFlow from 2.15 to 2.21.

TensorFlow 2.16 dropped Estimator. The package tensorflow-estimator 2.15.0 still has it, but expects three things that
TensorFlow no longer has: names in its export table, a module that reads the cluster settings, and support for the
canned and TPU estimators. This module puts back the first two, avoids the third, and is the only one that touches
TensorFlow's internals. Names are taken from it as attributes: `tf_estimator.Estimator`, `tf_estimator.ModeKeys.TRAIN`.
"""

import contextlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import logging

from official_utils.lazy import import_quietly, tf
from official_utils.misc.errors import UserError

OLDEST_VERSION = (2, 15)
NEWEST_VERSION = (2, 21)

_PACKAGE = "tensorflow_estimator.python.estimator"
_HOMES = {
  "Estimator": "estimator",
  "EstimatorSpec": "model_fn",
  "EvalSpec": "training",
  "ModeKeys": "mode_keys",
  "RunConfig": "run_config",
  "TrainSpec": "training",
  "export": "export.export_lib",
  "train_and_evaluate": "training",
}

if TYPE_CHECKING:
  # The names of _HOMES: a type checker takes any name for one that __getattr__ finds.
  from tensorflow_estimator.estimator import (  # noqa: F401
    Estimator,
    EstimatorSpec,
    EvalSpec,
    ModeKeys,
    RunConfig,
    TrainSpec,
    export,
    train_and_evaluate,
  )
else:

  def __getattr__(name: str) -> Any:
    """Find an Estimator name in its home module, after preparing TensorFlow for it."""
    if name not in _HOMES:
      raise AttributeError(f"{__name__} has no attribute {name!r}; it hands out {', '.join(_HOMES)}.")
    check_version(tf.__version__)
    warnings.filterwarnings("ignore", message="To make it possible to preserve tf.data options")
    if not hasattr(import_quietly("tensorflow.python.util.tf_export"), "ESTIMATOR_API_NAME"):
      _restore_export_table()
      _restore_cluster_settings()
      _skip_package_init()
    return getattr(import_quietly(f"{_PACKAGE}.{_HOMES[name]}"), name)


def check_version(version: str) -> None:
  """Refuse a TensorFlow that is too old, and warn about one that is newer than any tested.

  Args:
    version: TensorFlow's version, such as "2.21.0".
  """
  major_minor = tuple(int(part) for part in version.split(".")[:2])
  if major_minor < OLDEST_VERSION:
    raise UserError(f"TensorFlow {version} is too old: 2.15 to 2.21 are supported; run `make venv`")
  if major_minor > NEWEST_VERSION:
    logging.log_first_n(logging.WARNING, "TensorFlow %s is newer than 2.21, the newest version tested.", 1, version)


@contextlib.contextmanager
def released_graphs() -> Iterator[None]:
  """Release, at the end, the graphs that are built inside the block.

  TensorFlow keeps the gradient of every tf.custom_gradient in a table of the process, and with it the graph. No other
  thread may still want to differentiate a graph that it built during the block.
  """
  table = import_quietly("tensorflow.python.framework.ops").gradient_registry._registry
  known = set(table)
  try:
    yield
  finally:
    for name in set(table) - known:
      if name.startswith("CustomGradient-"):
        table.pop(name, None)


def _restore_export_table() -> None:
  """Put the Estimator row back into TensorFlow's table of exported names."""
  table: Any = import_quietly("tensorflow.python.util.tf_export")
  attributes = type(table.API_ATTRS[table.TENSORFLOW_API_NAME])
  table.ESTIMATOR_API_NAME = "estimator"
  table.API_ATTRS["estimator"] = attributes("_estimator_api_names", "_estimator_api_constants")
  table.API_ATTRS_V1["estimator"] = attributes("_estimator_api_names_v1", "_estimator_api_constants_v1")


def _restore_cluster_settings() -> None:
  """Stand in for `tensorflow.python.distribute.estimator_training` as far as one machine needs it."""
  name = "tensorflow.python.distribute.estimator_training"
  module: Any = types.ModuleType(name)
  module.init_run_config = _init_run_config
  module.should_run_distribute_coordinator = lambda config: False
  sys.modules[name] = module


def _init_run_config(config: Any, tf_config: dict[str, Any]) -> None:
  """Fill in a RunConfig for replicas that are all on this machine.

  Args:
    config: the RunConfig under construction.
    tf_config: the parsed environment variable TF_CONFIG, empty without a cluster.
  """
  config._distribute_coordinator_mode = None
  config._init_distributed_setting_from_environment_var(tf_config)
  config._maybe_overwrite_session_config_for_distributed_training()


def _skip_package_init() -> None:
  """Register tensorflow_estimator without running its __init__, which loads the canned and TPU estimators."""
  specification = importlib.util.find_spec("tensorflow_estimator")
  if specification is None:
    raise UserError("the package tensorflow-estimator is missing; run `make venv` or install requirements.txt")
  package = types.ModuleType("tensorflow_estimator")
  package.__path__ = list(specification.submodule_search_locations or ())
  package.__spec__ = specification
  sys.modules.setdefault("tensorflow_estimator", package)
