"""What the preparation of every corpus shares: from recordings and raw transcripts to sorted manifests."""

import collections
import os
import re
import sys
import threading
import wave
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data import audio, manifest, vocabulary
from data.corpora import archives, fetch
from data.corpora.text import Normalizer
from official_utils.misc.errors import UserError
from official_utils.misc.parallel import in_parallel

SPLITS = ("train", "dev", "test")
SAMPLE_RATE = 16000
# How much of a corpus that comes undivided goes to dev and test, in percent of its recordings or speakers.
DEV_PERCENT = 5
TEST_PERCENT = 5
PART_SUFFIX = ".part"
# How many of the things that are left out for the same reason are named.
SHOWN = 5
# What a path in a manifest cannot hold. Bytes of a name that are not UTF-8 come as surrogates.
UNNAMEABLE = re.compile("[\t\r\n\ud800-\udfff]")


class Utterance(NamedTuple):
  """A recording and what is said in it.

  Attributes:
    path: the audio file.
    text: the transcript, as the corpus has it.
    source: where the transcript stands, for messages: a file, and the line if there are several.
  """

  path: str
  text: str
  source: str = ""


class Options(NamedTuple):
  """How the transcripts and recordings of a corpus are prepared.

  Attributes:
    vocabulary_file: the alphabet of the transcripts.
    digits: "drop" or "spell", what becomes of transcripts with digits; see text.Normalizer.
    to_wav: whether the manifests name copies as 16 kHz WAV instead of the recordings themselves.
  """

  vocabulary_file: str = vocabulary.DEFAULT_VOCABULARY
  digits: str = "drop"
  to_wav: bool = False


DEFAULTS = Options()


def split_of_key(key: str) -> str:
  """Tell which split of an undivided corpus a recording or a speaker belongs to, always the same.

  Args:
    key: the name of the recording or of the speaker.
  """
  percent = zlib.crc32(key.encode("utf-8", "surrogateescape")) % 100
  if percent < DEV_PERCENT:
    return "dev"
  return "test" if percent < DEV_PERCENT + TEST_PERCENT else "train"


def prepare_splits(folder: str, parts: Mapping[str, Sequence[Utterance]], options: Options) -> dict[str, str]:
  """Write the manifest of each split.

  Transcripts are brought to the vocabulary. Those that cannot be, and recordings that cannot be read, are left out: they
  are counted on stdout, and the first few of them named on stderr.

  Args:
    folder: where the manifests go, and the copies as WAV.
    parts: the utterances of each split. No two are called alike if there are to be copies.
    options: how they are prepared.

  Returns:
    The manifest of each split, `<folder>/<split>.tsv`. A split without any utterance gets none.
  """
  normalizer = Normalizer(vocabulary.read_transcript_characters(options.vocabulary_file), options.digits)
  manifests = {}
  for split, utterances in parts.items():
    path = os.path.join(folder, f"{split}.tsv")
    wav_folder = os.path.join(folder, "wav", split) if options.to_wav else None
    entries = make_entries(_normalized(utterances, normalizer), split, wav_folder)
    if entries:
      manifest.write_manifest(path, entries)
      manifests[split] = path
    elif os.path.exists(path):
      # It is of an earlier run, and would be taken for one of this run.
      os.remove(path)
  for example in normalizer.examples():
    print(f"left out: {example}", file=sys.stderr)
  print(normalizer.report())
  if not manifests:
    raise UserError(f"{folder}: no utterance is left for a {' or '.join(parts)} set; {normalizer.report()}")
  return manifests


def _normalized(utterances: Sequence[Utterance], normalizer: Normalizer) -> list[Utterance]:
  """Bring transcripts to the vocabulary, leaving out the utterances of those that cannot be."""
  texts = [normalizer(utterance.text, utterance.source or utterance.path) for utterance in utterances]
  return [utterance._replace(text=text) for utterance, text in zip(utterances, texts, strict=True) if text is not None]


def report_left_out(faults: Sequence[object], what: str) -> None:
  """Count on stdout what is left out, and name the first few on stderr.

  Args:
    faults: what is left out, each with the reason.
    what: what they all are, in words that follow their number.
  """
  for fault in faults[:SHOWN]:
    print(f"left out: {fault}", file=sys.stderr)
  if faults:
    print(f"left out: {len(faults)} {what}")


def make_entries(utterances: Sequence[Utterance], task: str, wav_folder: str | None = None) -> list[manifest.Entry]:
  """Make the entries of a manifest, sorted by length, leaving out recordings that cannot be read.

  Args:
    utterances: the recordings, with transcripts in the vocabulary.
    task: what is being prepared, in a word.
    wav_folder: where to write a copy of each as 16 kHz WAV; None to take the recordings as they are.
  """
  copies = _name_copies(utterances, wav_folder) if wav_folder else {}

  def entry(utterance: Utterance) -> manifest.Entry | UserError:
    path = copies.get(utterance.path, utterance.path)
    if UNNAMEABLE.search(path):
      return UserError(f"{path!r}: a manifest cannot hold tabs, line ends and what is not UTF-8 in a name; rename it")
    try:
      if path != utterance.path:
        update_copy(path, utterance.path, lambda source: audio.read_audio(source, SAMPLE_RATE))
      size = manifest.duration_to_size(audio.audio_duration(path))
    except UserError as error:
      return error
    if size <= manifest.HEADER_BYTES:
      return UserError(f"{utterance.path}: the recording is empty")
    return manifest.Entry(os.path.abspath(path), size, utterance.text)

  found = list(in_parallel(entry, utterances, f"preparing {task}"))
  errors = [item for item in found if isinstance(item, UserError)]
  report_left_out(errors, f"of {len(found)} recordings of {task} that cannot be read")
  return manifest.by_length(item for item in found if isinstance(item, manifest.Entry))


def _name_copies(utterances: Sequence[Utterance], folder: str) -> dict[str, str]:
  """Name the WAV copy of each recording after it, and after its folder too where several have the same name."""
  make_clean(folder)
  stems = {utterance.path: os.path.splitext(os.path.basename(utterance.path))[0] for utterance in utterances}
  number = collections.Counter(stems.values())
  copies = {}
  for path, stem in stems.items():
    place = f"-{zlib.crc32(os.fsencode(os.path.abspath(path))):08x}" if number[stem] > 1 else ""
    copies[path] = os.path.join(folder, f"{stem}{place}.wav")
  return copies


def update_copy(path: str, source: str, read: Callable[[str], np.ndarray]) -> None:
  """Write the WAV copy of a recording, unless that was done before.

  Args:
    path: the copy. It gets the time stamp of the recording, which shows later whether it is a copy of another recording
      of that name, or of this one before it changed.
    source: the recording.
    read: gives its samples as `write_wav` takes them, or names what is missing.
  """
  stamp = os.stat(source).st_mtime_ns if os.path.exists(source) else None
  if not os.path.exists(path) or os.stat(path).st_mtime_ns != stamp:
    write_wav(path, read(source))
    if stamp is not None:
      os.utime(path, ns=(stamp, stamp))


def make_clean(folder: str) -> None:
  """Make a folder for WAV files, and remove files that an interrupted run has left unfinished there."""
  os.makedirs(folder, exist_ok=True)
  for name in os.listdir(folder):
    if name.endswith(PART_SUFFIX):
      os.remove(os.path.join(folder, name))


def write_wav(path: str, samples: np.ndarray) -> None:
  """Write a 16-bit mono WAV file at 16 kHz in one step.

  Args:
    path: the file.
    samples: float [samples], full scale being 1, or int16.
  """
  if samples.dtype != np.int16:
    samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
  # Two rows may name the same recording, and two threads write its copy at once.
  part = f"{path}.{threading.get_ident()}{PART_SUFFIX}"
  with open(part, "wb") as raw, wave.open(raw, "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(SAMPLE_RATE)
    file.writeframes(samples.astype("<i2", copy=False).tobytes())
  os.replace(part, path)


def find_folder(source: str, name: str) -> str:
  """Find the folder of a corpus: the one given, or one below it.

  Args:
    source: the folder given.
    name: a file or folder that lies in the one looked for.
  """
  for folder, subfolders, _ in os.walk(source):
    subfolders.sort()
    if os.path.exists(os.path.join(folder, name)):
      return folder
  raise UserError(f"{source}: neither it nor a folder below holds {name}; give the folder of the corpus with --source")


def locate_source(source: str | None, data_dir: str, corpus: str) -> str:
  """Return the folder of a corpus: the user's own, what the user's archive holds, or what was fetched.

  Args:
    source: a folder; an archive, which is unpacked below data_dir; or None for what was fetched.
    data_dir: the folder for audio and manifests.
    corpus: the name of the corpus.
  """
  fetched = source_folder(data_dir, corpus)
  if source is None:
    if not os.path.isdir(fetched):
      raise UserError(f"{fetched}: there is no such folder; say with --source where {corpus} lies")
    return fetched
  if os.path.isfile(source):
    if not archives.unpack(source, fetched) and os.path.basename(source) != _archive_of(fetched):
      raise UserError(f"{fetched}: holds {_archive_of(fetched)}, not {source}; remove it, or give another --data_dir")
    return fetched
  if not os.path.isdir(source):
    raise UserError(f"--source={source}: there is no such folder or archive")
  return source


def fetch_archive(data_dir: str, corpus: str, url: str, checksum: str | None, room: int) -> None:
  """Fetch and unpack the one archive of a corpus, unless that was done before.

  Args:
    data_dir: the folder for audio and manifests.
    corpus: the name of the corpus.
    url: where the archive lies.
    checksum: its MD5 or SHA-256; None where none was published.
    room: how many bytes it takes, with what is in it.
  """
  folder = source_folder(data_dir, corpus)
  archive = os.path.join(data_dir, corpus, os.path.basename(url))
  if archives.is_unpacked(folder):
    print(f"{folder} is complete; nothing to fetch")
  else:
    check_room(os.path.dirname(archive), room)
    fetch.fetch([url], archive, checksum)
    try:
      archives.unpack(archive, folder)
    except UserError:
      os.remove(archive)
      raise
  if os.path.exists(archive):
    os.remove(archive)


def check_room(folder: str, room: int) -> None:
  """Make the folder of a corpus, and make sure that the disk has room for what is still to come.

  Args:
    folder: the folder.
    room: how many bytes it will take in the end, with those that are there already.
  """
  os.makedirs(folder, exist_ok=True)
  there = sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)
  fetch.check_free_space(folder, room - there, "the corpus")


def _archive_of(folder: str) -> str:
  """Name the archive that was unpacked to a folder."""
  return read_text(os.path.join(folder, archives.MARKER)).strip()


def source_folder(data_dir: str, corpus: str) -> str:
  """Name the folder that the archive of a corpus is unpacked to."""
  return os.path.join(data_dir, corpus, "source")


def model_folder(data_dir: str, corpus: str) -> str:
  """Name the folder for models of a corpus: one that nothing which prepares the corpus counts, fills or removes."""
  return os.path.join(data_dir, f"model-{corpus}")


def read_text(path: str) -> str:
  """Read a file of transcripts; bytes that are not UTF-8 become characters that are in no vocabulary."""
  try:
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
      return file.read()
  except OSError as error:
    raise UserError(
      f"{path}: cannot read the transcripts ({error.strerror}); restore the file, or check --source"
    ) from error
