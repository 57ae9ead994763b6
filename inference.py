"""Makes the graph from audio to text out of settings and a checkpoint; writes and loads it as a SavedModel."""

import contextlib
import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import deep_speech_model
import speech_flags
from data import featurizer
from layers import spectrogram
from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

SETTINGS_FILE = "settings.json"
VOCABULARY_FILE = "vocabulary.txt"
# The folders of an export_dir. In each, every export has a folder named by its global step, as TensorFlow Serving wants it.
BEST, LAST = "best", "last"
SIGNATURE = "serving_default"
WAV_SIGNATURE = "wav_bytes"
# What every SavedModel has; how folders are called while one is written there, and when unfinished ones go, in seconds.
_MODEL_FILE = "saved_model.pb"
_UNFINISHED = ".unfinished-"
_SECONDS_TO_WRITE = 3600


class AudioToText(NamedTuple):
  """The tensors of the graph from audio to text.

  Attributes:
    audio: float32 [batch, samples], full scale being 1, at the network's sample rate; to be fed.
    length: int32 [batch], samples of each clip; to be fed.
    wav_bytes: string [batch], whole WAV files of 16 bits at that rate; may be fed in place of the other two.
    text: string [batch], the best label of each step, runs merged and blanks dropped.
    log_probs: float32 [batch, steps, classes]; what lies beyond a clip's steps means nothing.
    lengths: int32 [batch], the steps of each clip.
  """

  audio: Any
  length: Any
  wav_bytes: Any
  text: Any
  log_probs: Any
  lengths: Any

  def signatures(self) -> dict[str, Any]:
    """Describe both ways in."""
    outputs = {name: getattr(self, name) for name in ("text", "log_probs", "lengths")}
    ways_in = {SIGNATURE: ("audio", "length"), WAV_SIGNATURE: ("wav_bytes",)}
    make = tf.compat.v1.saved_model.signature_def_utils.predict_signature_def
    return {key: make({name: getattr(self, name) for name in names}, outputs) for key, names in ways_in.items()}


def build_graph(settings: Mapping[str, Any], labels: Sequence[str]) -> AudioToText:
  """Build the graph from audio to text in the current graph.

  Padding is kept out of every layer whatever `mask_padding` says: without padding both kinds of network are the same, so
  each clip gives what it gives alone.

  Args:
    settings: the network's and the features' settings by flag name.
    labels: the labels in order, the blank last.
  """
  sample_rate = settings["sample_rate"]
  window_size, hop = featurizer.window_and_hop(sample_rate, settings["window_ms"], settings["stride_ms"])
  wav_bytes = tf.compat.v1.placeholder(tf.string, [None], "wav_bytes")
  decoded, decoded_length = _decode_wav(wav_bytes, sample_rate)
  audio = tf.compat.v1.placeholder_with_default(decoded, [None, None], "audio")
  length = tf.compat.v1.placeholder_with_default(decoded_length, [None], "length")
  features, num_frames = spectrogram.log_spectrograms(
    audio, tf.clip_by_value(length, 0, tf.shape(audio)[1]), sample_rate, window_size, hop
  )
  network = deep_speech_model.make_network({**settings, "mask_padding": True}, len(labels))
  logits, lengths = network(features[..., tf.newaxis], num_frames, training=False)
  log_probs = tf.nn.log_softmax(tf.transpose(logits, [1, 0, 2]))
  return AudioToText(audio, length, wav_bytes, _greedy_text(log_probs, lengths, labels), log_probs, lengths)


def variable_shapes(settings: Mapping[str, Any], num_classes: int) -> dict[str, list[int]]:
  """List the variables of the network that the settings describe, with their shapes."""
  window_size, _ = featurizer.window_and_hop(settings["sample_rate"], settings["window_ms"], settings["stride_ms"])
  num_bins = featurizer.count_bins(settings["sample_rate"], window_size)
  with tf_estimator.released_graphs(), tf.Graph().as_default():
    frames = tf.compat.v1.placeholder(tf.float32, [None, None, num_bins, 1])
    network = deep_speech_model.make_network(settings, num_classes)
    network(frames, tf.compat.v1.placeholder(tf.int32, [None]), training=False)
    return {variable.op.name: variable.shape.as_list() for variable in tf.compat.v1.global_variables()}


def _decode_wav(wav_bytes, sample_rate: int):
  """Decode a batch of WAV files to samples [batch, samples], mixed down to one channel, and their numbers [batch]."""

  def decode(content):
    samples, rate = tf.audio.decode_wav(content)
    message = f"audio must have {sample_rate} samples a second"
    with tf.control_dependencies([tf.debugging.assert_equal(rate, sample_rate, message)]):
      return tf.reduce_mean(samples, axis=1)

  clips = tf.map_fn(decode, wav_bytes, fn_output_signature=tf.RaggedTensorSpec([None], tf.float32))
  return clips.to_tensor(), tf.cast(clips.row_lengths(), tf.int32)


def _greedy_text(log_probs, lengths, labels: Sequence[str]):
  """Take the best label of each step, merge runs and drop blanks, as `decoder.GreedyDecoder` does."""
  classes = tf.argmax(log_probs, axis=2, output_type=tf.int32)
  previous = tf.pad(classes[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
  is_real = tf.sequence_mask(lengths, tf.shape(classes)[1])
  is_kept = is_real & tf.not_equal(classes, previous) & tf.not_equal(classes, len(labels) - 1)
  symbols = tf.gather(tf.constant(list(labels)), classes)
  return tf.strings.reduce_join(tf.where(is_kept, symbols, tf.zeros_like(symbols)), axis=1)


class SpeechModel:
  """A network with its weights in memory. Its methods may be called by several threads.

  Attributes:
    settings: the network's and the features' settings by flag name.
    labels: the labels in order, the blank last.
    sample_rate: samples a second that it wants.
    step_seconds: the time from one output step to the next.
  """

  def __init__(
    self,
    settings: Mapping[str, Any],
    labels: Sequence[str],
    session: "tf.compat.v1.Session",
    tensors: Sequence["tf.Tensor"],
  ):
    """Keep a session and its tensors: audio, length, log_probs, lengths."""
    self.settings = dict(settings)
    self.labels = tuple(labels)
    self.sample_rate = settings["sample_rate"]
    strides = [spec.strides[0] for spec in deep_speech_model.CONV_LAYOUTS[settings["conv_layout"]]]
    self.step_seconds = np.prod(strides).item() * settings["stride_ms"] / 1000
    self._session = session
    self._audio, self._length, *self._outputs = tensors

  def log_probs(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute the log-probabilities of a batch of clips.

    Args:
      clips: float32 [samples] each, at `sample_rate`.

    Returns:
      float32 [steps, classes] for each.
    """
    if not clips:
      return []
    audio = np.zeros([len(clips), max(len(clip) for clip in clips)], np.float32)
    for row, clip in zip(audio, clips, strict=True):
      row[: len(clip)] = clip
    feeds = {self._audio: audio, self._length: [len(clip) for clip in clips]}
    log_probs, lengths = self._session.run(self._outputs, feeds)
    return [each[:length] for each, length in zip(log_probs, lengths, strict=True)]


def load_model(path: str) -> SpeechModel:
  """Load a model.

  Args:
    path: an export, an export_dir (its newest best export is taken, without one its newest) or a model_dir (its newest
      checkpoint is taken).
  """
  export = find_export(path)
  if export:
    return load_export(export)
  checkpoint = newest_checkpoint(path)
  if not checkpoint:
    raise UserError(
      f"{path}: no export and no checkpoint is there; give the model_dir of a training run or what its --export_dir holds"
    )
  return load_checkpoint(checkpoint, *read_settings(path))


def newest_checkpoint(folder: str) -> str | None:
  """Find the newest checkpoint of a model_dir, None if there is none.

  Raises:
    UserError: it is named and gone, or there are checkpoints and nothing says which is the newest; both would mean that
      what was learned is forgotten.
  """
  try:
    state = tf.train.get_checkpoint_state(folder)
  except ValueError:  # An empty file.
    state = None
  if state and state.model_checkpoint_path:
    if not tf.io.gfile.exists(f"{state.model_checkpoint_path}.index"):
      raise damaged_checkpoint(state.model_checkpoint_path)
    return state.model_checkpoint_path
  found = glob.glob(os.path.join(glob.escape(folder), "*.ckpt-*.index"))
  if found:
    name = os.path.basename(max(found, key=os.path.getmtime)).removesuffix(".index")
    raise UserError(
      f"{os.path.join(folder, 'checkpoint')}, which names the newest checkpoint, is missing or damaged; restore it, "
      f'or write into it model_checkpoint_path: "{name}"'
    )
  return None


def damaged_checkpoint(checkpoint: str) -> UserError:
  """Say what to do about a checkpoint that cannot be read."""
  names_it = os.path.join(os.path.dirname(checkpoint), "checkpoint")
  return UserError(f"the checkpoint {checkpoint} is damaged or gone; restore it, or name an older one in {names_it}")


@contextlib.contextmanager
def reading_checkpoint(checkpoint: str) -> Iterator[None]:
  """Raise damaged_checkpoint for what TensorFlow says where a checkpoint's files cannot be read."""
  try:
    yield
  except (tf.errors.OpError, ValueError, IndexError) as error:
    raise damaged_checkpoint(checkpoint) from error


def load_checkpoint(checkpoint: str, settings: Mapping[str, Any], labels: Sequence[str]) -> SpeechModel:
  """Load a checkpoint's weights into a network of these settings."""
  with _restored(checkpoint, settings, labels) as (session, tensors):
    return SpeechModel(settings, labels, session, (tensors.audio, tensors.length, tensors.log_probs, tensors.lengths))


def load_export(folder: str) -> SpeechModel:
  """Load one export."""
  settings, labels = read_settings(os.path.join(folder, "assets"))
  if not glob.glob(os.path.join(glob.escape(folder), "variables", "variables.data-*")):
    raise _damaged_export(folder, "its variables are gone")
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
    # What TensorFlow says of it goes on for pages.
    raise _damaged_export(folder, type(error).__name__) from error
  if tensors[2].shape[2] != len(labels):
    raise _damaged_export(folder, f"{VOCABULARY_FILE} has {len(labels)} labels for {tensors[2].shape[2]} classes")
  return SpeechModel(settings, labels, session, tensors)


def _damaged_export(folder: str, reason: str) -> UserError:
  return UserError(f"{folder}: the export is damaged ({reason}); export the model anew with --mode=export")


def find_export(path: str) -> str | None:
  """Find the export that a path stands for: itself, or the newest best of an export_dir, or else its newest."""
  if os.path.isfile(os.path.join(path, _MODEL_FILE)):
    return path
  for folder in (os.path.join(path, BEST), os.path.join(path, LAST), path):
    there = _exports(folder)
    if there:
      return there[-1]
  return None


def read_settings(folder: str) -> tuple[dict[str, Any], list[str]]:
  """Read the settings and the labels that a model_dir or the assets of an export hold."""
  settings_path, vocabulary_path = (os.path.join(folder, name) for name in (SETTINGS_FILE, VOCABULARY_FILE))
  try:
    with open(vocabulary_path, encoding="utf-8", newline="\n") as file:
      labels = [line.removesuffix("\r") for line in file.read().split("\n")[:-1]]
    with open(settings_path, encoding="utf-8") as file:
      settings = json.load(file)
  except OSError as error:
    raise UserError(
      f"{error.filename}: cannot be read ({error.strerror}), and without it the weights have no meaning; restore it, or "
      "export the model anew with --mode=export"
    ) from error
  except ValueError as error:
    raise UserError(f"{folder}: {SETTINGS_FILE} or {VOCABULARY_FILE} is damaged ({error}); restore it") from error
  missing = [name for name in speech_flags.MODEL_SETTINGS if not isinstance(settings, dict) or name not in settings]
  if missing or len(labels) < 2:
    lacks = f"--{missing[0]}" if missing else "the labels"
    raise UserError(f"{folder}: {SETTINGS_FILE} and {VOCABULARY_FILE} do not tell {lacks}; restore them")
  return speech_flags.checked_settings(settings, settings_path), labels


def export_model(checkpoint: str, settings: Mapping[str, Any], labels: Sequence[str], folder: str) -> None:
  """Write a checkpoint's network as a SavedModel; the folder appears when it is complete.

  Args:
    checkpoint: the checkpoint's prefix, such as model_dir/model.ckpt-1200.
    settings: the network's and the features' settings by flag name.
    labels: the labels in order, the blank last.
    folder: where to write; an export that is there already is replaced.
  """
  with _clear_errors(folder), _replaced(folder) as unfinished:
    _write_saved_model(checkpoint, settings, labels, unfinished)


@contextlib.contextmanager
def _clear_errors(folder: str) -> Iterator[None]:
  """Say in a line why an export cannot be written."""
  try:
    yield
  except (OSError, tf.errors.OpError) as error:
    reason = getattr(error, "strerror", None) or type(error).__name__
    raise UserError(f"cannot write the export {folder}: {reason}; make room or choose another --export_dir") from error


@contextlib.contextmanager
def _replaced(folder: str) -> Iterator[str]:
  """Give a folder to write to that takes the place of `folder` when all is well."""
  parent = os.path.dirname(os.path.abspath(folder))
  os.makedirs(parent, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=parent) as scratch:
    unfinished = os.path.join(scratch, "export")
    yield unfinished
    # A folder cannot be renamed over another. In between there is none for a moment, but never half of one.
    if os.path.lexists(folder):
      os.rename(folder, os.path.join(scratch, "replaced"))
    os.rename(unfinished, folder)


def _write_saved_model(checkpoint: str, settings, labels, folder: str) -> None:
  """Write the SavedModel with its settings and its vocabulary as assets."""
  with _restored(checkpoint, settings, labels) as (session, tensors), tempfile.TemporaryDirectory() as scratch, session:
    assets = {
      SETTINGS_FILE: json.dumps({name: settings[name] for name in speech_flags.MODEL_SETTINGS}, indent=2) + "\n",
      VOCABULARY_FILE: "".join(f"{label}\n" for label in labels),
    }
    for name, text in assets.items():
      path = os.path.join(scratch, name)
      with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
      tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS, tf.constant(path))
    builder = tf.compat.v1.saved_model.Builder(folder)
    builder.add_meta_graph_and_variables(
      session,
      [tf.saved_model.SERVING],
      tensors.signatures(),
      assets_collection=tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS),
      # An older TensorFlow logs an error for each attribute that is new, whatever its value.
      strip_default_attrs=True,
    )
    builder.save()


@contextlib.contextmanager
def _restored(checkpoint: str, settings, labels) -> Iterator[tuple[Any, AudioToText]]:
  """Build the graph and give a session with the checkpoint's weights in it."""
  with tf_estimator.released_graphs(), tf.Graph().as_default():
    tensors = build_graph(settings, labels)
    _check_shapes(checkpoint)
    session = tf.compat.v1.Session()
    try:
      with reading_checkpoint(checkpoint):
        tf.compat.v1.train.Saver().restore(session, checkpoint)
    except UserError:
      session.close()
      raise
    yield session, tensors


def _check_shapes(checkpoint: str) -> None:
  """Compare the graph's variables with the checkpoint's: TensorFlow restores any shape without a word."""
  with reading_checkpoint(checkpoint):
    there = dict(tf.train.list_variables(checkpoint))
  for variable in tf.compat.v1.global_variables():
    name, shape = variable.op.name, variable.shape.as_list()
    if there.get(name) != shape:
      raise UserError(
        f"{checkpoint} is not of the network that the settings describe: {name} is {there.get(name, 'absent')} there and "
        f"not {shape}; restore it, or its {SETTINGS_FILE}"
      )


def publish(
  checkpoint: str,
  settings: Mapping[str, Any],
  labels: Sequence[str],
  export_dir: str,
  step: int,
  is_best: bool,
  keep: int | None = None,
) -> list[str]:
  """Export a model as the last one, and as the best one if it is.

  Args:
    checkpoint: the checkpoint's prefix.
    settings: the network's and the features' settings by flag name.
    labels: the labels in order, the blank last.
    export_dir: the folder of exports.
    step: the checkpoint's global step.
    is_best: whether none before was as good.
    keep: how many of each kind to keep, those that were written last; None for all.

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
  """Copy an export; where the file system can, without storing its bytes twice."""

  def link(origin: str, copy: str) -> None:
    try:
      os.link(origin, copy)
    except OSError:
      shutil.copy2(origin, copy)

  with _replaced(folder) as unfinished:
    shutil.copytree(source, unfinished, copy_function=link)


def _exports(folder: str) -> list[str]:
  """List the exports of one kind in the order in which they were written.

  Not by step: what a new run in the folder of an old one writes is newer.
  """
  try:
    names = os.listdir(folder) if os.path.isdir(folder) else []
  except OSError as error:
    raise UserError(f"{folder}: cannot be read ({error.strerror}); make it readable") from error
  models = [os.path.join(folder, name, _MODEL_FILE) for name in names if name.isdigit()]
  there = [path for path in models if os.path.isfile(path)]
  return [os.path.dirname(path) for path in sorted(there, key=lambda path: os.stat(path).st_mtime_ns)]


def _tidy(folder: str, keep: int | None) -> None:
  """Remove all exports but the newest ones, and what was left unfinished long ago."""
  for path in _exports(folder)[:-keep] if keep else []:
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as scratch:
      os.rename(path, os.path.join(scratch, "removed"))
  for name in os.listdir(folder) if os.path.isdir(folder) else []:
    path = os.path.join(folder, name)
    if name.startswith(_UNFINISHED) and time.time() - os.path.getmtime(path) > _SECONDS_TO_WRITE:
      shutil.rmtree(path)
