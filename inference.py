"""Makes a model in memory from settings and a checkpoint: the graph from audio to log-probabilities and text."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import networks
from data import vocabulary
from data.features import make_features
from official_utils import checkpoints
from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import (
  SETTINGS_FILE,
  STATISTICS_FILE,
  ModelSettings,
  read_settings,
  read_statistics,
  write_settings,
  write_statistics,
)

# The labels in order, the blank last. Like settings.json, it is beside a checkpoint and among an export's assets.
LABELS_FILE = "vocabulary.txt"


def write_description(folder: str, settings: ModelSettings, labels: Sequence[str]) -> None:
  """Write the settings and the labels of a model, without which its weights mean nothing, and any statistics."""
  write_settings(os.path.join(folder, SETTINGS_FILE), settings)
  vocabulary.write_vocabulary(os.path.join(folder, LABELS_FILE), labels)
  if settings.statistics:
    write_statistics(os.path.join(folder, STATISTICS_FILE), settings.statistics)


def read_description(folder: str) -> tuple[ModelSettings, list[str]]:
  """Read the settings and the labels that a model_dir or the assets of an export hold."""
  settings_path, labels_path = (os.path.join(folder, name) for name in (SETTINGS_FILE, LABELS_FILE))
  for path in (settings_path, labels_path):
    try:
      with open(path, "rb"):
        pass
    except OSError as error:
      raise UserError(
        f"{path}: cannot be read ({error.strerror}), and without it the weights have no meaning; restore it, or "
        "export the model again with --mode=export"
      ) from error
  settings = with_statistics(read_settings(settings_path), folder)
  try:
    return settings, vocabulary.read_vocabulary(labels_path)
  except UserError as error:
    reason = str(error).removeprefix(labels_path).lstrip(",: ")
    raise UserError(
      f"{labels_path} is damaged ({reason}); restore it, or export the model again with --mode=export"
    ) from error


def with_statistics(settings: ModelSettings, folder: str) -> ModelSettings:
  """Return settings with the statistics of the training set that a folder holds, if the features need them."""
  if not settings.features.needs_statistics:
    return settings
  return dataclasses.replace(settings, statistics=read_statistics(os.path.join(folder, STATISTICS_FILE)))


class AudioToText(NamedTuple):
  """The tensors of the graph from audio to text.

  Attributes:
    audio: float32 [batch, samples], full scale being 1, at the network's sample rate; to be fed.
    length: int32 [batch], samples of each clip; to be fed.
    wav_bytes: string [batch], whole 16-bit WAV files at that rate; may be fed instead of the other two.
    text: string [batch], the best label of each step, runs merged and blanks dropped.
    log_probs: float32 [batch, steps, classes]; values beyond a clip's steps mean nothing.
    lengths: int32 [batch], the steps of each clip.
  """

  audio: Any
  length: Any
  wav_bytes: Any
  text: Any
  log_probs: Any
  lengths: Any


def build_graph(settings: ModelSettings, labels: Sequence[str], compute_dtype: str = "float32") -> AudioToText:
  """Build the graph from audio to text in the current graph.

  Padding is kept out of every layer whatever `mask_padding` says. Without padding both kinds of network are the same,
  so each clip in a batch gives the same result as it would alone.

  Args:
    settings: the model's.
    labels: the labels in order, the blank last.
    compute_dtype: TensorFlow's name of the number format of products, and of kernels in memory.
  """
  wav_bytes = tf.compat.v1.placeholder(tf.string, [None], "wav_bytes")
  decoded, decoded_length = _decode_wav(wav_bytes, settings.features.sample_rate)
  audio = tf.compat.v1.placeholder_with_default(decoded, [None, None], "audio")
  length = tf.compat.v1.placeholder_with_default(decoded_length, [None], "length")
  features = make_features(settings.features, settings.statistics)
  frames, num_frames = features.build(audio, tf.clip_by_value(length, 0, tf.shape(audio)[1]))
  network = networks.make_network(networks.with_masks(settings.network), len(labels), compute_dtype=compute_dtype)
  keep_kernels = functools.partial(_keep_kernels, tf.as_dtype(compute_dtype))
  with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), custom_getter=keep_kernels):
    logits, lengths = network(frames[..., tf.newaxis], num_frames, training=False)
  log_probs = tf.nn.log_softmax(logits)
  return AudioToText(audio, length, wav_bytes, _greedy_text(log_probs, lengths, labels), log_probs, lengths)


def _keep_kernels(
  kernel_dtype: "tf.DType", getter: Callable, name: str, shape: Sequence[int], dtype: Any, **rest: Any
) -> "tf.Variable":
  """Make a variable, as a custom getter, in the network's number format or, if it is a kernel, in the given one.

  Layers cast kernels to the format that they multiply in, and a cast to the same format is none.
  """
  return getter(name, shape=shape, dtype=kernel_dtype if len(shape) > 1 else dtype, **rest)


def variable_shapes(
  settings: ModelSettings, num_classes: int, state_shapes: Callable[[dict], dict] | None = None
) -> dict[str, list[int]]:
  """List the variables of the network that the settings describe, with their shapes.

  Args:
    settings: the model's.
    num_classes: output classes, the blank included.
    state_shapes: given the trainable variables and their shapes, returns the further variables that training keeps,
      with their shapes; None for none.
  """
  num_bins = make_features(settings.features).num_bins
  with tf_estimator.released_graphs(), tf.Graph().as_default():
    frames = tf.compat.v1.placeholder(tf.float32, [None, None, num_bins, 1])
    network = networks.make_network(settings.network, num_classes)
    network(frames, tf.compat.v1.placeholder(tf.int32, [None]), training=False)
    shapes, trainable = (
      {variable.op.name: variable.shape.as_list() for variable in variables}
      for variables in (tf.compat.v1.global_variables(), tf.compat.v1.trainable_variables())
    )
    return shapes | (state_shapes(trainable) if state_shapes else {})


def _decode_wav(wav_bytes: "tf.Tensor", sample_rate: int) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Decode a batch of WAV files to samples [batch, samples], mixed down to one channel, and their lengths [batch]."""

  def decode(content):
    samples, rate = tf.audio.decode_wav(content)
    message = f"audio must have {sample_rate} samples a second"
    with tf.control_dependencies([tf.debugging.assert_equal(rate, sample_rate, message)]):
      return tf.reduce_mean(samples, axis=1)

  clips = tf.map_fn(decode, wav_bytes, fn_output_signature=tf.RaggedTensorSpec([None], tf.float32))
  return clips.to_tensor(), tf.cast(clips.row_lengths(), tf.int32)


def _greedy_text(log_probs: "tf.Tensor", lengths: "tf.Tensor", labels: Sequence[str]) -> "tf.Tensor":
  """Take the best label of each step, merge runs and drop blanks, as `decoder.GreedyDecoder` does."""
  classes = tf.argmax(log_probs, axis=2, output_type=tf.int32)
  previous = tf.pad(classes[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
  is_real = tf.sequence_mask(lengths, tf.shape(classes)[1])
  is_kept = is_real & tf.not_equal(classes, previous) & tf.not_equal(classes, len(labels) - 1)
  symbols = tf.gather(tf.constant(list(labels)), classes)
  return tf.strings.reduce_join(tf.where(is_kept, symbols, tf.zeros_like(symbols)), axis=1)


class SpeechModel:
  """A network with its weights in memory. Several threads may call its methods.

  Attributes:
    settings: the model's.
    labels: the labels in order, the blank last.
    sample_rate: samples per second of the audio that it takes.
    step_seconds: the time from one output step to the next, in seconds.
  """

  def __init__(
    self,
    settings: ModelSettings,
    labels: Sequence[str],
    session: "tf.compat.v1.Session",
    tensors: Sequence["tf.Tensor"],
  ):
    """Keep a session and its tensors: audio, length, log_probs, lengths."""
    self.settings = settings
    self.labels = tuple(labels)
    self.sample_rate = settings.features.sample_rate
    self.step_seconds = networks.step_seconds(settings)
    self._session = session
    self._audio, self._length, *self._outputs = tensors
    self._process = os.getpid()

  def log_probs(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute the log-probabilities of a batch of clips.

    Args:
      clips: float32 [samples] each, at `sample_rate`.

    Returns:
      float32 [steps, classes] for each.
    """
    if os.getpid() != self._process:
      # TensorFlow's threads do not exist after a fork, and it would wait for them for ever.
      raise UserError(
        f"the model was loaded by process {self._process} and cannot be used in {os.getpid()}, which was forked from "
        'it; load it after the fork, in each process, or start processes with multiprocessing.get_context("spawn")'
      )
    if not clips:
      return []
    audio = np.zeros([len(clips), max(len(clip) for clip in clips)], np.float32)
    for row, clip in zip(audio, clips, strict=True):
      row[: len(clip)] = clip
    feeds = {self._audio: audio, self._length: [len(clip) for clip in clips]}
    log_probs, lengths = self._session.run(self._outputs, feeds)
    return [each[:length] for each, length in zip(log_probs, lengths, strict=True)]


def load_checkpoint(
  checkpoint: str, settings: ModelSettings, labels: Sequence[str], compute_dtype: str = "float32"
) -> SpeechModel:
  """Load a checkpoint's weights into a network with these settings; see `restored`."""
  with restored(checkpoint, settings, labels, compute_dtype) as (session, tensors):
    return SpeechModel(settings, labels, session, (tensors.audio, tensors.length, tensors.log_probs, tensors.lengths))


@contextlib.contextmanager
def restored(
  checkpoint: str, settings: ModelSettings, labels: Sequence[str], compute_dtype: str = "float32"
) -> Iterator[tuple["tf.compat.v1.Session", AudioToText]]:
  """Build the graph from audio to text and open a session with the checkpoint's weights.

  Args:
    checkpoint: the checkpoint's prefix, such as model_dir/model.ckpt-1200.
    settings: the model's.
    labels: the labels in order, the blank last.
    compute_dtype: as for `build_graph`.

  Yields:
    The session, which stays open, and the tensors; both in the current graph.
  """
  with tf_estimator.released_graphs(), tf.Graph().as_default():
    tensors = build_graph(settings, labels, compute_dtype)
    shapes = {variable.op.name: variable.shape.as_list() for variable in tf.compat.v1.global_variables()}
    difference = checkpoints.find_difference(checkpoint, shapes)
    if difference:
      name, there, here = difference
      raise UserError(
        f"{checkpoint} does not fit the network that its settings describe: {name} is {there} there and not {here}; "
        f"restore it, or its {SETTINGS_FILE}"
      )
    session = tf.compat.v1.Session()
    try:
      _restore_variables(checkpoint, session)
    except UserError:
      session.close()
      raise
    yield session, tensors


def _restore_variables(checkpoint: str, session: "tf.compat.v1.Session") -> None:
  """Set the current graph's variables to a checkpoint's values for use, each in its own number format."""
  names = checkpoints.names_to_use(checkpoint)
  variables = {names[variable.op.name]: variable for variable in tf.compat.v1.global_variables()}
  with checkpoints.reading_checkpoint(checkpoint):
    exact = {name: variable for name, variable in variables.items() if variable.dtype.base_dtype == tf.float32}
    tf.compat.v1.train.Saver(exact).restore(session, checkpoint)
    # A Saver does not convert.
    rounded = {name: variable for name, variable in variables.items() if name not in exact}
    session.run([_read_into(variable, name, checkpoint) for name, variable in rounded.items()])


def _read_into(variable: "tf.Variable", name: str, checkpoint: str) -> "tf.Operation":
  """Build the operation that reads a variable, by its name in a checkpoint, and rounds it to its number format."""
  named = {"tensor_names": [name], "shape_and_slices": [""]}
  (value,) = tf.raw_ops.RestoreV2(prefix=checkpoint, dtypes=[tf.float32], **named)
  return variable.assign(tf.cast(tf.ensure_shape(value, variable.shape), variable.dtype)).op
