"""Fetches a speech corpus and writes its manifests."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  from official_utils.misc import commands

  commands.begin()

import contextlib
import errno
import inspect
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from absl import flags

from data import manifest, suggestions, vocabulary
from data.corpora import an4, common_voice, folder, librispeech, ljspeech, mrt, text, tones, utterances, voxforge
from data.suggestions import Size
from official_utils.flags import core as flags_core
from official_utils.misc import nvidia, parallel
from official_utils.misc.errors import UserError


class Corpus(NamedTuple):
  """What can be fetched.

  Both functions are given the flags that they have parameters for, by name: `data_dir`, `splits` (those of train, dev
  and test that are asked for), `options` (the flags that utterances.Options has), and any other flag of this program. A
  flag that neither takes is refused.

  Attributes:
    download: brings audio and transcripts to the disk.
    prepare: writes the manifests and returns their paths by name; "train", "dev" and "test" are those to train with.
    on_cpu: how to train on it on a CPU; None goes by its hours.
    on_gpus: how to train on it on GPUs; None goes by its hours.
  """

  download: Callable[..., None]
  prepare: Callable[..., dict[str, str]]
  on_cpu: Size | None = None
  on_gpus: Size | None = None


Result = TypeVar("Result")

SPLITS = utterances.SPLITS
CORPORA = {
  "librispeech": Corpus(
    librispeech.download_librispeech, librispeech.prepare_librispeech, on_gpus=suggestions.ORIGINAL
  ),
  "mini_librispeech": Corpus(librispeech.download_mini_librispeech, librispeech.prepare_mini_librispeech),
  "mrt": Corpus(mrt.download_mrt, mrt.prepare_mrt),
  "an4": Corpus(an4.download_an4, an4.prepare_an4),
  "common_voice": Corpus(common_voice.download_common_voice, common_voice.prepare_common_voice),
  "voxforge": Corpus(voxforge.download_voxforge, voxforge.prepare_voxforge),
  "ljspeech": Corpus(ljspeech.download_ljspeech, ljspeech.prepare_ljspeech),
  "folder": Corpus(folder.download_folder, folder.prepare_folder),
  "tones": Corpus(tones.download_tones, tones.prepare_tones, suggestions.TONES, suggestions.TONES),
}


def define_download_flags() -> None:
  """Define the flags of this program."""
  define = flags_core.definer(flags.FLAGS)
  _define_choice_flags(define)
  _define_preparation_flags(define)


def _define_choice_flags(define: Callable) -> None:
  """Define what is fetched, from where and to where."""
  define(flags.DEFINE_string, "data_dir", "/tmp/librispeech_data", "The folder for audio and manifests.")
  define(
    flags.DEFINE_enum,
    "corpus",
    "librispeech",
    """What to fetch. 'librispeech' is 960 hours of read English for training (60 GB to fetch, 95 GB of room),
    'mini_librispeech' 5 hours of it; 'mrt' 36 minutes of single words in a carrier phrase, which the Python package
    index has; 'an4' an hour of names and numbers; 'ljspeech' 24 hours of one speaker; 'common_voice', 'voxforge' and
    'folder' (any audio files with transcripts) prepare what you have, see --source; 'tones' is made on the spot:
    synthetic speech in which each letter is a pair of tones.""",
    enum_values=list(CORPORA),
  )
  define(
    flags.DEFINE_list,
    "subsets",
    None,
    "Subsets of LibriSpeech, such as train-clean-100,dev-clean. Not given: all of them.",
  )
  for split in SPLITS:
    define(flags.DEFINE_boolean, f"{split}_only", False, f"Whether to fetch the {split} set only.")
  define(
    flags.DEFINE_string,
    "mirror",
    None,
    f"""Where to fetch LibriSpeech from: {", ".join(librispeech.MIRRORS)}, or the address of another copy, down to the
    folder that holds 12/train-clean-100.tar.gz. Not given: each of the named ones until one works.""",
  )
  define(
    flags.DEFINE_string,
    "source",
    None,
    "Where you have the corpus already: a folder or an archive; a wheel for 'mrt'; a table too for 'folder'.",
  )


def _define_preparation_flags(define: Callable) -> None:
  """Define what the manifests hold."""
  define(
    flags.DEFINE_float,
    "max_duration",
    27.0,
    """The longest utterance, in seconds, in the manifests that combine subsets. The manifest of a single subset has
    all of them.""",
  )
  define(
    flags.DEFINE_boolean,
    "to_wav",
    False,
    "Whether to write a WAV copy of each recording for the manifests to name. FLAC is read directly: nothing needs it.",
  )
  define(
    flags.DEFINE_enum,
    "digits",
    "drop",
    """What becomes of transcripts with digits: 'drop' leaves the utterances out, 'spell' writes whole numbers in English
    words, as one counts.""",
    enum_values=list(text.DIGIT_RULES),
  )
  define(
    flags.DEFINE_string,
    "vocabulary_file",
    vocabulary.DEFAULT_VOCABULARY,
    "The characters that transcripts may hold, one a line, and in the last line one for the blank.",
  )
  define(flags.DEFINE_integer, "seed", 0, "The seed of a synthetic corpus.")


def chosen_splits(flags_obj: flags.FlagValues) -> tuple[str, ...]:
  """Return the splits that the flags ask for."""
  only = [split for split in SPLITS if flags_obj[f"{split}_only"].value]
  if len(only) > 1:
    raise UserError(
      f"{' and '.join(f'--{split}_only' for split in only)} exclude each other; give one, or none for all"
    )
  return tuple(only) or SPLITS


def check_flags(flags_obj: flags.FlagValues) -> None:
  """Refuse impossible values, and flags that the corpus has no use for."""
  if flags_obj.seed < 0:
    raise UserError(f"--seed={flags_obj.seed} is negative; give 0 or more")
  if not flags_obj.max_duration > 0:
    raise UserError(f"--max_duration={flags_obj.max_duration:g} leaves nothing; give a number of seconds above 0")
  taken = {"corpus"}
  for function in (CORPORA[flags_obj.corpus].download, CORPORA[flags_obj.corpus].prepare):
    taken |= inspect.signature(function).parameters.keys()
  if "splits" in taken:
    taken |= {f"{split}_only" for split in SPLITS}
  if "options" in taken:
    taken |= set(utterances.Options._fields)
  for own in flags_core.own_flags(flags_obj).values():
    for flag in own:
      if flag.present and flag.name not in taken:
        raise UserError(f"--{flag.name} means nothing to --corpus={flags_obj.corpus}; leave it out")
  # The preparation reads it too, but after a download that may take hours.
  vocabulary.read_transcript_characters(flags_obj.vocabulary_file)


def main(_: list[str]) -> None:
  """Fetch the corpus and say how to train on it."""
  flags_obj = flags.FLAGS
  values = flags_obj.flag_values_dict() | {"splits": chosen_splits(flags_obj)}
  values["options"] = utterances.Options(**{name: values[name] for name in utterances.Options._fields})
  check_flags(flags_obj)
  corpus = CORPORA[flags_obj.corpus]
  try:
    with _sole_use(flags_obj.data_dir):
      _call(corpus.download, values)
      manifests = _call(corpus.prepare, values)
  except OSError as error:
    raise _explain(error, flags_obj.data_dir) from error
  print("Manifests:")
  for path in dict.fromkeys(manifests.values()):
    print(f"  {path}")
  limits = [f"--{name}" for name in ("subsets", *(f"{split}_only" for split in SPLITS)) if values[name]]
  model_dir = utterances.model_folder(flags_obj.data_dir, flags_obj.corpus)
  given = flags_obj["vocabulary_file"]
  vocabulary_file = given.value if given.present else None
  num_gpus = len(nvidia.list_devices())
  print(_find_gap(manifests, limits) or training_hint(corpus, manifests, model_dir, num_gpus, vocabulary_file))


def _find_gap(manifests: dict[str, str], limits: Sequence[str]) -> str | None:
  """Say which manifest training lacks, and how to come by it; return None if it lacks none.

  Args:
    manifests: those that were written, by name.
    limits: the flags given that leave a part of the corpus out.
  """
  missing = [split for split in ("train", "dev") if split not in manifests]
  if not missing:
    return None
  if limits:
    remedy = f"without {' and '.join(limits)}, all sets of the corpus are made"
  else:
    remedy = "`python data/curate.py split` makes both of one manifest"
  return f"Training takes a train and a dev manifest, and there is no {' and no '.join(missing)} set; {remedy}."


def training_hint(
  corpus: Corpus, manifests: dict[str, str], model_dir: str, num_gpus: int, vocabulary_file: str | None = None
) -> str:
  """Say how to train on what was fetched: in the last line, as a command.

  Args:
    corpus: what was fetched.
    manifests: those that were written, by name; "train" and "dev" are among them.
    model_dir: where the model goes.
    num_gpus: how many GPUs the machine shows; 0 to train on the CPU.
    vocabulary_file: the vocabulary given; None for the default.
  """
  entries = manifest.read_manifest(manifests["train"])
  hours = sum(manifest.size_to_duration(entry.size) for entry in entries) / 3600
  size = (corpus.on_gpus if num_gpus else corpus.on_cpu) or suggestions.choose_size(hours, num_gpus)
  suggested = suggestions.suggest_flags(size, len(entries), num_gpus)
  names = {"train": "train_data_dir", "dev": "eval_data_dir", "test": "test_data_dir"}
  paths = {flag: manifests[name] for name, flag in names.items() if name in manifests} | {"model_dir": model_dir}
  if vocabulary_file:
    paths["vocabulary_file"] = vocabulary_file
  arguments = [f"--{name}={shlex.quote(str(value))}" for name, value in (suggested | paths).items()]
  if num_gpus:
    where = f"on {num_gpus} NVIDIA GPU{'s' * (num_gpus > 1)}"
  else:
    num_cores = parallel.available_cpus()
    time = suggestions.say_duration(suggestions.training_seconds(size, suggested, hours, num_cores))
    where = f"on the CPU (no NVIDIA GPU is to be seen; roughly {time} on {num_cores} cores)"
  heading = f"Train on {len(entries)} utterances, {hours:.3g} hours, {where} with"
  return f"{heading}\n  python deep_speech.py {' '.join(arguments)}"


def _call(function: Callable[..., Result], values: dict[str, Any]) -> Result:
  """Call a function with those of the values that it has parameters for."""
  return function(**{name: values[name] for name in inspect.signature(function).parameters if name in values})


@contextlib.contextmanager
def _sole_use(data_dir: str) -> Iterator[None]:
  """Keep a second download out of the folder; the lock ends with the process, however that ends."""
  import fcntl

  os.makedirs(data_dir, exist_ok=True)
  with open(os.path.join(data_dir, ".download.lock"), "w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UserError(
        f"--data_dir={data_dir}: another download.py is at work there; wait for it, or give another folder"
      ) from error
    yield


def _explain(error: OSError, data_dir: str) -> UserError:
  """Say in one line what the system cannot do with a file or the disk."""
  place = os.path.realpath(str(error.filename or data_dir))
  if os.path.commonpath([place, os.path.realpath(data_dir)]) != os.path.realpath(data_dir):
    return UserError(f"{error.filename}: {error.strerror}; fix it, or remove it from --source")
  where = f" ({error.filename})" if error.filename else ""
  if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
    remedy = "make room and run the same command again, which goes on from here, or give another folder"
  else:
    remedy = "give another folder"
  return UserError(f"--data_dir={data_dir}: {error.strerror or error}{where}; {remedy}")


if __name__ == "__main__":
  define_download_flags()
  flags_core.run(main, __doc__)
