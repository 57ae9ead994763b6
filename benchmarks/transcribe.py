"""Times transcribing, from files to texts, against the original's form and against PyTorch.

Each form has its own process and loads its model beforehand. Ours is the work of transcribe.py with an export. The
original's form is its loop of predictions: features of one utterance after another in one thread, batches in order of
length, the network without masks, probabilities out of the graph, each utterance decoded in Python; the original also
starts a session for every pass, which is not counted. The original's default batch size is 128; the smaller one here
pads less.
"""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import statistics
import tempfile
from collections.abc import Callable

import numpy as np
from absl import flags

import exports
import inference
import networks
import transcribe
from benchmarks import child, input_pipeline, original_evaluation, original_form, original_input, timing
from data import dataset as speech_dataset
from data import manifest, suggestions, vocabulary
from data.features import make_features
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.misc import number_formats
from settings import ModelSettings, make_settings

# What differs from the default settings.
NETWORKS = {"default": {}, "demo": suggestions.SMALL.flags}
FOLDER = os.path.dirname(os.path.abspath(__file__))
CHECKPOINT, EXPORT, MANIFEST = "model.ckpt", "export", "corpus.tsv"


def define_benchmark_flags() -> None:
  """Define the flags for the network and the clips."""
  flags.DEFINE_enum("network", "default", list(NETWORKS), "The network: of the default flags, or of `make demo`.")
  flags.DEFINE_integer("clips", 64, "The number of clips, from 2 to 16 seconds long.", lower_bound=1)
  flags.DEFINE_float(
    "seconds_at_once",
    transcribe.SECONDS_AT_ONCE,
    "The seconds of audio that ours and PyTorch compute at once.",
    lower_bound=1,
  )
  flags.DEFINE_enum("dtype", "fp32", transcribe.DTYPES, "The number format of ours; the peers compute in float32.")
  flags.DEFINE_integer(
    "batch_size", 16, "The number of utterances that the original's form computes at once.", lower_bound=1
  )
  child.define_torch_flag()
  flags.DEFINE_enum(
    "serve", None, list(BUILDERS), "Run this form in this process, once for each line of standard input."
  )
  flags.DEFINE_string("folder", None, "The folder where the served form finds its model and the clips.")
  timing.define_timing_flags(["original_form", "torch"])


def read_settings(network: str) -> ModelSettings:
  """Return the settings of a network, by the name that --network has for it."""
  return make_settings(NETWORKS[network])


def write_model(settings: ModelSettings, folder: str) -> None:
  """Write a checkpoint with initial weights, and its export."""
  labels = vocabulary.read_vocabulary(vocabulary.DEFAULT_VOCABULARY)
  checkpoint = os.path.join(folder, CHECKPOINT)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.set_random_seed(1)
    inference.build_graph(settings, labels)
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver().save(session, checkpoint)
  exports.export_model(checkpoint, settings, labels, os.path.join(folder, EXPORT))


def build_ours(folder: str, seconds_at_once: float, dtype: str = "fp32") -> Callable[[], list[str]]:
  """Load the export; return a function that transcribes the files of the manifest."""
  model = transcribe.load_model(os.path.join(folder, EXPORT), seconds_at_once, dtype=dtype)
  paths = [entry.path for entry in manifest.read_manifest(os.path.join(folder, MANIFEST))]
  return lambda: model(paths)


def build_original_form(folder: str, batch_size: int) -> Callable[[], list[str]]:
  """Load the checkpoint into the original's form; return a function that transcribes the files in order of length."""
  settings, labels = inference.read_description(os.path.join(folder, EXPORT, "assets"))
  with tf.Graph().as_default():
    batches = original_input.input_fn(batch_size, open_dataset(folder, settings))
    iterator = tf.compat.v1.data.make_initializable_iterator(batches)
    features, _ = iterator.get_next()
    logits = original_form.network(features["features"], settings.values(), len(labels), training=False)
    probabilities = tf.nn.softmax(logits)
    session = tf.compat.v1.Session()
    tf.compat.v1.train.Saver().restore(session, os.path.join(folder, CHECKPOINT))

  def transcribe_all():
    session.run(iterator.initializer)
    texts = []
    while True:
      try:
        batch = session.run(probabilities)
      except tf.errors.OutOfRangeError:
        return texts
      texts += [original_evaluation.decode(each, labels) for each in batch]

  return transcribe_all


def open_dataset(folder: str, settings: ModelSettings) -> speech_dataset.DeepSpeechDataset:
  """Read and check the manifest as evaluation does."""
  path = os.path.join(folder, MANIFEST)
  config = speech_dataset.DatasetConfig(
    settings.features, path, vocabulary.DEFAULT_VOCABULARY, leave_out_infeasible=False
  )
  return speech_dataset.DeepSpeechDataset(config, networks.output_length(settings.network))


BUILDERS = {
  timing.OURS: lambda folder, options: build_ours(folder, options.seconds_at_once, options.dtype),
  "original_form": lambda folder, options: build_original_form(folder, options.batch_size),
}


def start(form: str, folder: str, options: flags.FlagValues) -> Callable[[], object]:
  """Start a form in its own process; return a function that makes it transcribe everything once."""
  if form == "torch":
    command = [options.torch_python, os.path.join(FOLDER, "torch_network.py"), torch_settings(folder, options)]
  else:
    command = [sys.executable, os.path.abspath(__file__), f"--serve={form}", f"--folder={folder}"]
    command += [options[name].serialize() for name in ("seconds_at_once", "dtype", "batch_size")]
  process = child.Child(command)
  return lambda: process.ask("run")


def torch_settings(folder: str, options: flags.FlagValues) -> str:
  """Describe the folder's model and clips for PyTorch, as JSON."""
  settings, labels = inference.read_description(os.path.join(folder, EXPORT, "assets"))
  written = settings.values() | {
    "num_bins": make_features(settings.features).num_bins,
    "num_classes": len(labels),
    "labels": labels,
    "seconds_at_once": options.seconds_at_once,
    "paths": [entry.path for entry in manifest.read_manifest(os.path.join(folder, MANIFEST))],
  }
  return json.dumps(written)


def serve(options: flags.FlagValues) -> None:
  """Answer each line of standard input after one more run."""
  transcribe_all = BUILDERS[options.serve](options.folder, options)
  print("ready", flush=True)
  for _ in sys.stdin:
    print(len(transcribe_all()), flush=True)


def compare(options: flags.FlagValues, folder: str) -> None:
  """Time the forms in turn and print medians, spread and ratios."""
  settings = read_settings(options.network)
  entries = manifest.read_manifest(input_pipeline.make_corpus(folder, ".wav", options.clips))
  # In random order, like a user's files.
  np.random.default_rng(1).shuffle(entries)
  manifest.write_manifest(os.path.join(folder, MANIFEST), entries)
  write_model(settings, folder)
  forms = {name: lambda name=name: start(name, folder, options) for name in (*BUILDERS, "torch")}
  chosen = {name: make() for name, make in timing.choose(forms, options.peer).items()}
  seconds = timing.measure(chosen, options.runs)
  audio = sum(manifest.size_to_duration(entry.size) for entry in entries)
  factors = [f"{name} {audio / statistics.median(values):.1f}" for name, values in seconds.items()]
  chosen = settings.values()
  setting = f"{options.network}: {chosen['rnn_type']} {chosen['rnn_hidden_layers']} x {chosen['rnn_hidden_size']}"
  if options.dtype != "fp32":
    setting += f", ours in {number_formats.resolve(options.dtype)}"
  setting += f", {options.clips} clips, {audio:.0f} s of audio"
  timing.report("transcribe", setting, seconds, note=f"times real time: {', '.join(factors)}")


def main(_: list[str]) -> None:
  """Do what the flags say."""
  options = flags.FLAGS
  if options.serve:
    serve(options)
    return
  child.check_torch(options)
  with tempfile.TemporaryDirectory() as folder:
    compare(options, folder)


if __name__ == "__main__":
  define_benchmark_flags()
  flags_core.run(main, __doc__)
