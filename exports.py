"""Writes, finds, loads and prunes exports: SavedModels from audio to text.

In the folders BEST and LAST of an export_dir, every export has a folder named by its global step, as TensorFlow Serving
expects.
"""

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import inference
from inference import SpeechModel
from official_utils.lazy import tf
from official_utils.misc import files
from official_utils.misc.errors import UserError
from settings import ModelSettings

BEST, LAST = "best", "last"
SIGNATURE = "serving_default"
WAV_SIGNATURE = "wav_bytes"
# Every SavedModel has these two.
_MODEL_FILE = "saved_model.pb"
_ASSETS = "assets"


def find_export(path: str) -> str | None:
  """Find the export that a path stands for: the path itself, or the newest best of an export_dir, or else the newest.

  Returns:
    Its folder; None if there is none.
  """
  if os.path.isfile(os.path.join(path, _MODEL_FILE)):
    return path
  for folder in (os.path.join(path, BEST), os.path.join(path, LAST), path):
    there = _exports(folder)
    if there:
      return there[-1]
  return None


def load_export(folder: str, compute_dtype: str = "float32") -> SpeechModel:
  """Load one export, such as `find_export` gives.

  Args:
    folder: the export's.
    compute_dtype: TensorFlow's name of the number format of products, and of kernels in memory.
  """
  settings, labels = inference.read_description(os.path.join(folder, _ASSETS))
  variables = os.path.join(folder, "variables", "variables")
  if not glob.glob(f"{glob.escape(variables)}.data-*"):
    raise _damaged_export(folder, "its variables are gone")
  if compute_dtype != "float32":
    # The export's graph has no other; its variables are files like those of a checkpoint.
    return inference.load_checkpoint(variables, settings, labels, compute_dtype)
  graph = tf.Graph()
  session = tf.compat.v1.Session(graph=graph)
  try:
    with graph.as_default():
      loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], folder)
    signature = loaded.signature_def[SIGNATURE]
    names = [signature.inputs[name].name for name in ("audio", "length")]
    names += [signature.outputs[name].name for name in ("log_probs", "lengths")]
    tensors = [graph.get_tensor_by_name(name) for name in names]
  except (tf.errors.OpError, OSError, ValueError, KeyError, RuntimeError) as error:
    session.close()
    # TensorFlow's own message fills pages.
    raise _damaged_export(folder, type(error).__name__) from error
  if tensors[2].shape[2] != len(labels):
    raise _damaged_export(folder, f"{inference.LABELS_FILE} has {len(labels)} labels for {tensors[2].shape[2]} classes")
  return SpeechModel(settings, labels, session, tensors)


def _damaged_export(folder: str, reason: str) -> UserError:
  return UserError(f"{folder}: the export is damaged ({reason}); export the model again with --mode=export")


def export_model(checkpoint: str, settings: ModelSettings, labels: Sequence[str], folder: str) -> None:
  """Write a checkpoint's network as a SavedModel; the folder appears when it is complete.

  Args:
    checkpoint: the checkpoint's prefix, such as model_dir/model.ckpt-1200.
    settings: the model's.
    labels: the labels in order, the blank last.
    folder: the folder to write; an existing export is replaced.
  """
  with _clear_errors(folder), files.replaced_folder(folder) as unfinished:
    _write_saved_model(checkpoint, settings, labels, unfinished)


@contextlib.contextmanager
def _clear_errors(folder: str) -> Iterator[None]:
  """Say in one line why an export cannot be written."""
  try:
    yield
  except (OSError, tf.errors.OpError) as error:
    reason = getattr(error, "strerror", None) or type(error).__name__
    raise UserError(f"cannot write the export {folder}: {reason}; make room or choose another --export_dir") from error


def _write_saved_model(checkpoint: str, settings: ModelSettings, labels: Sequence[str], folder: str) -> None:
  """Write the SavedModel, with its settings and its vocabulary beside it."""
  with inference.restored(checkpoint, settings, labels) as (session, tensors), session:
    builder = tf.compat.v1.saved_model.Builder(folder)
    builder.add_meta_graph_and_variables(
      session,
      [tf.saved_model.SERVING],
      _signatures(tensors),
      # An older TensorFlow logs an error for each attribute it does not know, whatever its value.
      strip_default_attrs=True,
    )
    builder.save()
  # Not as assets of the graph, which would record the path that they were copied from.
  inference.write_description(os.path.join(folder, _ASSETS), settings, labels)


def _signatures(tensors: inference.AudioToText) -> dict[str, Any]:
  """Describe both signatures."""
  outputs = {name: getattr(tensors, name) for name in ("text", "log_probs", "lengths")}
  ways_in = {SIGNATURE: ("audio", "length"), WAV_SIGNATURE: ("wav_bytes",)}
  make = tf.compat.v1.saved_model.signature_def_utils.predict_signature_def
  return {key: make({name: getattr(tensors, name) for name in names}, outputs) for key, names in ways_in.items()}


def publish(
  checkpoint: str,
  settings: ModelSettings,
  labels: Sequence[str],
  export_dir: str,
  step: int,
  is_best: bool,
  keep: int | None = None,
) -> list[str]:
  """Export a model as the last one, and also as the best one if it is.

  Args:
    checkpoint: the checkpoint's prefix.
    settings: the model's.
    labels: the labels in order, the blank last.
    export_dir: the folder of exports.
    step: the checkpoint's global step.
    is_best: whether no earlier model was as good.
    keep: how many of each kind to keep, the newest ones; None for all.

  Returns:
    The folders of the new exports.
  """
  last = os.path.join(export_dir, LAST, str(step))
  export_model(checkpoint, settings, labels, last)
  written = [last]
  with _clear_errors(export_dir):
    if is_best:
      written.append(os.path.join(export_dir, BEST, str(step)))
      _copy_export(last, written[-1])
    for kind in (BEST, LAST):
      _tidy(os.path.join(export_dir, kind), keep)
  return written


def _copy_export(source: str, folder: str) -> None:
  """Copy an export, by hard links where the file system has them."""
  with files.replaced_folder(folder) as unfinished:
    shutil.copytree(source, unfinished, copy_function=files.link)


def _exports(folder: str) -> list[str]:
  """List the exports of one kind in the order in which they were written.

  Not by step: a new run in an old run's folder starts again at low steps, and its exports are the newer ones.
  """
  try:
    names = os.listdir(folder) if os.path.isdir(folder) else []
  except OSError as error:
    raise UserError(f"{folder}: cannot be read ({error.strerror}); make it readable") from error
  models = [os.path.join(folder, name, _MODEL_FILE) for name in names if name.isdigit()]
  there = [path for path in models if os.path.isfile(path)]
  return [os.path.dirname(path) for path in sorted(there, key=lambda path: os.stat(path).st_mtime_ns)]


def _tidy(folder: str, keep: int | None) -> None:
  """Remove all exports but the newest, and folders left unfinished long ago."""
  for path in _exports(folder)[:-keep] if keep else []:
    files.remove_folder(path)
  files.remove_unfinished(folder)
