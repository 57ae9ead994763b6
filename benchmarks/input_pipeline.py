"""Times the input, from files to padded batches in a session, against the original's form; or the start of training.

With --augment, ours is augmented, and the peer "plain" is ours without that.

Each form has its own process, as in training, because the original's form changes how its process handles memory.
"""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import resource
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags

import networks
from benchmarks import child, original_input, timing
from data import batches as batching
from data import dataset as speech_dataset
from data import loading, manifest
from data.augmentation.augmenter import make_augmenter
from data.vocabulary import DEFAULT_VOCABULARY
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from settings import ModelSettings

RATE = 16000
# Letters per second.
LETTER_RATE = 14


def define_benchmark_flags() -> None:
  """Define the flags for what to read."""
  flags.DEFINE_enum(
    "source", "flac", ["flac", "wav", "cache"], "What ours reads: audio files, or features stored by an earlier pass."
  )
  flags.DEFINE_integer(
    "utterances", 128, "The number of utterances in the made-up corpus, from 2 to 16 seconds long.", lower_bound=1
  )
  flags.DEFINE_string("manifest", None, "The manifest of a corpus of 16 kHz mono files to use instead.")
  flags.DEFINE_integer("batch_size", 16, "The number of utterances in a batch.", lower_bound=1)
  flags.DEFINE_integer("passes", 1, "How many times a run goes through the corpus.", lower_bound=1)
  flags.DEFINE_integer(
    "rows", 0, "Instead, time how long ours takes to start on a manifest of this many rows.", lower_bound=0
  )
  flags.DEFINE_multi_string("augment", [], "What ours is augmented by, as deep_speech.py takes it")
  flags.DEFINE_enum(
    "serve",
    None,
    ["ours", "original_form", "plain"],
    "Run this form in this process, once for each line of standard input.",
  )
  flags.DEFINE_string("cache_dir", None, "The folder where the served form keeps features.")
  timing.define_timing_flags(["original_form", "plain"])


def make_corpus(
  folder: str, extension: str, num_files: int, num_rows: int | None = None, seconds: tuple[float, float] = (2, 16)
) -> str:
  """Write audio that is as hard to compress as speech, and a manifest.

  Args:
    folder: the folder to write to.
    extension: the audio files' extension, with the dot.
    num_files: the number of audio files.
    num_rows: the number of rows in the manifest, which repeats the files as needed; None for one row per file.
    seconds: the length of the first file and that of the last.

  Returns:
    The manifest's path.
  """
  import soundfile

  generator = np.random.default_rng(1)
  entries = []
  for number, length in enumerate(np.linspace(*seconds, num_files)):
    time_axis = np.arange(int(length * RATE)) / RATE
    syllables = np.sin(np.pi * 2.5 * time_axis) ** 2
    noise = np.convolve(generator.standard_normal(len(time_axis)), np.hanning(9), "same")
    path = os.path.join(folder, f"{number}{extension}")
    soundfile.write(path, 0.05 * syllables * noise, RATE)
    letters = generator.choice(list("abcdefghijklmnopqrstuvwxyz "), int(LETTER_RATE * length))
    entries.append(manifest.Entry(path, manifest.duration_to_size(len(time_axis) / RATE), "".join(letters)))
  path = os.path.join(folder, "corpus.tsv")
  manifest.write_manifest(path, (entries[row % num_files] for row in range(num_rows or num_files)))
  return path


def open_dataset(
  path: str, cache_dir: str | None = None, augment: Sequence[str] = ()
) -> speech_dataset.DeepSpeechDataset:
  """Read and check a manifest as training does."""
  settings = ModelSettings()
  config = speech_dataset.DatasetConfig(
    settings.features, path, DEFAULT_VOCABULARY, feature_cache_dir=cache_dir, augmenter=make_augmenter(augment)
  )
  return speech_dataset.DeepSpeechDataset(config, networks.output_length(settings.network))


def build_pass(form: str, options: flags.FlagValues) -> Callable[[], None]:
  """Build one form's pipeline; return a function that goes through the corpus, from the first batch to the last."""
  dataset = open_dataset(options.manifest, options.cache_dir, options.augment)
  with tf.Graph().as_default():
    if form != "original_form":
      orders = [range(len(dataset.entries))] * options.passes
      batches = speech_dataset.batched_input_fn(dataset, batching.cut_all(orders, options.batch_size))
    else:
      batches = original_input.input_fn(options.batch_size, dataset).repeat(options.passes)
    iterator = tf.compat.v1.data.make_initializable_iterator(batches)
    # Fetching only the shape leaves the features inside TensorFlow.
    following = tf.shape(iterator.get_next()[0]["features"])
    session = tf.compat.v1.Session()

  def go_through() -> None:
    session.run(iterator.initializer)
    try:
      while True:
        session.run(following)
    except tf.errors.OutOfRangeError:
      pass

  return go_through


def serve(options: flags.FlagValues) -> None:
  """Answer each line of standard input after one more run."""
  go_through = build_pass(options.serve, options)
  print("ready", flush=True)
  for _ in sys.stdin:
    go_through()
    print("done", flush=True)


def compare(options: flags.FlagValues, folder: str) -> None:
  """Time the forms in turn and print medians, spread and ratio."""
  extension = ".wav" if options.source == "wav" else ".flac"
  path = options.manifest or make_corpus(folder, extension, options.utterances)

  def start(form):
    command = [sys.executable, os.path.abspath(__file__), f"--serve={form}", f"--manifest={os.path.abspath(path)}"]
    command += [f"--batch_size={options.batch_size}", f"--passes={options.passes}"]
    if options.source == "cache" and form != "original_form":
      command.append(f"--cache_dir={folder}")
    if form == timing.OURS:
      command += [f"--augment={each}" for each in options.augment]
    process = child.Child(command)
    return lambda: process.ask("run")

  forms = {name: lambda name=name: start(name) for name in (timing.OURS, "original_form", "plain")}
  chosen = {name: make() for name, make in timing.choose(forms, options.peer).items()}
  seconds = timing.measure(chosen, options.runs)
  entries = manifest.read_manifest(path)
  audio = options.passes * sum(manifest.size_to_duration(entry.size) for entry in entries)
  rates = {name: round(audio / sorted(values)[len(values) // 2]) for name, values in seconds.items()}
  note = ", ".join(f"{name} reads {rate} s of audio a second" for name, rate in rates.items())
  setting = f"{options.source}, {len(entries)} utterances, {audio:.0f} s of audio, batch {options.batch_size}"
  setting += "".join(f", {each}" for each in options.augment)
  timing.report("input_pipeline", setting, seconds, note=note)


def time_start(options: flags.FlagValues, folder: str) -> None:
  """Time the work of training before its first step on a long manifest, and measure the memory it takes."""
  path = make_corpus(folder, ".wav", min(options.utterances, options.rows), options.rows)
  memory, start = peak_memory(), time.perf_counter()
  dataset = open_dataset(path)
  checked = time.perf_counter()
  batches = speech_dataset.Batching(dataset.seconds, options.batch_size).of_epochs([1, 2])
  next(loading.load_batches(dataset, batches))
  done = time.perf_counter()
  memory = peak_memory() - memory
  setting = f"a manifest of {options.rows} rows: read, sorted and checked, first batch of {options.batch_size}"
  note = f"{checked - start:.2f} s of it for the manifest; {memory:.0f} MiB"
  timing.report("input_start", setting, {timing.OURS: [done - start]}, note=note)


def peak_memory() -> float:
  """Return the peak memory of this process in MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(_: list[str]) -> None:
  """Do what the flags say."""
  options = flags.FLAGS
  if options.serve:
    serve(options)
    return
  with tempfile.TemporaryDirectory() as folder:
    (time_start if options.rows else compare)(options, folder)


if __name__ == "__main__":
  define_benchmark_flags()
  flags_core.run(main, __doc__)
