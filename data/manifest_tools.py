"""Looks for faults in utterances, describes them, and measures their audio."""

import collections
import contextlib
import hashlib
import math
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from data import audio
from data.featurizer import AudioFeaturizer
from data.vocabulary import normalize_text, steps_needed
from official_utils.misc.errors import UserError
from official_utils.misc.parallel import available_cpus, ordered_map
from official_utils.misc.progress_bar import progress_bar

# Samples of one read: a recording of any length takes no more memory than that.
BLOCK = 1 << 18
# How far the duration in a manifest may be off, in seconds: JSON rows are often rounded, MP3 is padded by its decoders.
TOLERANCE = 0.1
BINS = 12
BAR_WIDTH = 40

# Where corpora keep the speaker: in the file's name, or in that of a folder above it.
SPEAKER_FORMS = (
  re.compile(r"(?:^|/)(\d+)-\d+-\d+\.\w+$"),  # LibriSpeech: 19-198-0001.flac
  re.compile(r"(?:^|/)([FM]\d+)_b\d+_w\d+\w*\.\w+$"),  # the Modified Rhyme Test: F1_b10_w2.wav
  re.compile(r"(?:^|/)\w+-(\w+)-b\.\w+$"),  # AN4: an251-fash-b.wav
  re.compile(r"(?:^|/)([^/]+)-\d{8}-\w+/(?:wav|flac)/[^/]+$"),  # VoxForge: Aaron-20080318-kdl/wav/a0001.wav
)


class Row(NamedTuple):
  """An utterance as a manifest has it.

  Attributes:
    manifest: the manifest.
    line: where it stands there.
    path: its audio file.
    seconds: how long it is, as the manifest says.
    transcript: what is said.
  """

  manifest: str
  line: int
  path: str
  seconds: float
  transcript: str


class Fault(NamedTuple):
  """Something wrong with a row.

  Attributes:
    manifest: the manifest.
    line: the line there.
    kind: what is wrong, in a word or two.
    message: what is wrong, with the values, in one line.
  """

  manifest: str
  line: int
  kind: str
  message: str


class Expected(NamedTuple):
  """What utterances should be like.

  Attributes:
    characters: those that a transcript may hold.
    sample_rate: samples a second, None for any.
    num_channels: channels, None for any.
    min_duration: seconds.
    max_duration: seconds.
    frames_per_step: frames of audio that the network takes for one step of output.
    decode: whether the audio is read to its end and not only its header.
  """

  characters: frozenset[str]
  sample_rate: int | None = 16000
  num_channels: int | None = 1
  min_duration: float = 0.1
  max_duration: float = 36.0
  frames_per_step: int = 4
  decode: bool = True


class Inspection(NamedTuple):
  """What was found in an audio file.

  Attributes:
    faults: (kind, message) of each fault.
    digest: the same for files of the same samples; None if they were not read.
  """

  faults: list[tuple[str, str]]
  digest: bytes | None = None


def find_faults(rows: Sequence[Row], expected: Expected) -> Iterator[Fault]:
  """Yield whatever is wrong with each row, in their order; the audio is read in parallel, with a progress bar.

  Args:
    rows: the rows, of one manifest or several: no utterance should be in two of them.
    expected: what they should be like.
  """
  line_of_path: dict[str, str] = {}
  line_of_audio: dict[bytes, str] = {}
  inspections = in_parallel(lambda row: _inspect(row, expected), rows, "checking")
  for row, inspection in zip(rows, inspections, strict=True):
    found = inspection.faults + _transcript_faults(row, expected)
    here = f"{row.manifest}, line {row.line}"
    first = line_of_path.setdefault(os.path.normpath(row.path), here)
    if first != here:
      found.append(("listed twice", f"stands in {first} already; remove one of the rows"))
    elif inspection.digest:
      first = line_of_audio.setdefault(inspection.digest, here)
      if first != here:
        found.append(("same audio", f"holds the very samples of the file in {first}; remove one of the rows"))
    yield from (Fault(row.manifest, row.line, kind, f"{row.path}: {message}") for kind, message in found)


def in_parallel(function: Callable, items: Sequence, task: str) -> Iterator:
  """Yield `function(item)` for each item in order, computed in threads, with a progress bar on stderr."""
  num_threads = available_cpus()
  results = ordered_map(function, items, num_threads, 8 * num_threads)
  with contextlib.closing(results), progress_bar(task, len(items), unit=" files") as bar:
    for result in results:
      bar.update()
      yield result


def describe_faults(faults: Sequence[Fault], num_rows: int) -> str:
  """List faults, one a line, and count them by kind."""
  kinds = collections.Counter(fault.kind for fault in faults)
  lines = [f"{fault.manifest}, line {fault.line}: {fault.kind}: {fault.message}" for fault in faults]
  lines.append(f"{num_rows} rows, {len(faults)} faults")
  return "\n".join(lines + [f"  {count:6d} {kind}" for kind, count in kinds.most_common()])


def _inspect(row: Row, expected: Expected) -> Inspection:
  """Look at the audio of a row."""
  if not os.path.isfile(row.path):
    return Inspection([("missing audio", "is no file; mend the path")])
  if not os.path.getsize(row.path):
    return Inspection([("empty file", "has 0 bytes; restore it or remove the row")])
  if row.path.lower().endswith(".raw"):
    return Inspection([("unreadable audio", "has no header to tell rate and format; convert it to WAV or FLAC")])
  try:
    return _inspect_samples(row, expected)
  except UserError as error:
    return Inspection([("unreadable audio", str(error).removeprefix(f"{row.path}: "))])


def _inspect_samples(row: Row, expected: Expected) -> Inspection:
  """Look at audio that has a header."""
  import soundfile

  audio.audio_duration(row.path)
  with soundfile.SoundFile(row.path) as file:
    faults = []
    if expected.sample_rate and file.samplerate != expected.sample_rate:
      faults.append(("sample rate", f"has {file.samplerate} samples a second, not {expected.sample_rate}"))
    if expected.num_channels and file.channels != expected.num_channels:
      faults.append(("channels", f"has {file.channels} channels, not {expected.num_channels}"))
    promised = num_samples = file.frames
    digest = None
    if expected.decode:
      num_samples, digest, more = _decode(file)
      faults += more
    # Some decoders of MP3 tell the length to within a frame or two only.
    if num_samples < promised - TOLERANCE * file.samplerate:
      faults.append(("cut off", f"ends after {num_samples} of {promised} samples; restore the file"))
    else:
      faults += _duration_faults(row, num_samples / file.samplerate, expected)
  return Inspection(faults, digest)


def _decode(file) -> tuple[int, bytes | None, list[tuple[str, str]]]:
  """Read an open sound file to its end: how many samples there are, their digest, and the faults among them."""
  import soundfile

  num_samples, finite, lowest, highest = 0, True, math.inf, -math.inf
  digest = hashlib.blake2b(digest_size=16)
  try:
    while len(block := file.read(BLOCK, dtype="float32")):
      num_samples += len(block)
      finite = finite and math.isfinite(float(block.sum(dtype="float64")))
      lowest, highest = min(lowest, float(block.min())), max(highest, float(block.max()))
      digest.update(block)
  except soundfile.SoundFileError as error:
    return file.frames, None, [("unreadable audio", f"cannot be decoded to its end ({error}); restore the file")]
  if not num_samples:
    return 0, None, [("no samples", "holds no samples; remove the row")]
  if not finite:
    return num_samples, digest.digest(), [("not a number", "holds NaN or infinite samples; convert the file anew")]
  if lowest == highest:
    return num_samples, None, [("silence", f"all its samples are {lowest:g}; remove the row")]
  return num_samples, digest.digest(), []


def _duration_faults(row: Row, seconds: float, expected: Expected) -> list[tuple[str, str]]:
  """Hold the length of the audio against the manifest, the limits and the transcript."""
  if not seconds:
    return []
  faults = []
  if abs(row.seconds - seconds) > TOLERANCE:
    faults.append(("wrong size", f"lasts {seconds:.2f} s; the size in the manifest says {row.seconds:.2f} s"))
  if seconds < expected.min_duration:
    faults.append(("too short", f"lasts {seconds:.2f} s, less than --min_duration={expected.min_duration:g}"))
  if seconds > expected.max_duration:
    faults.append(("too long", f"lasts {seconds:.2f} s, more than --max_duration={expected.max_duration:g}"))
  rate = expected.sample_rate or 16000
  frames = int(AudioFeaturizer(rate).num_frames(round(seconds * rate)))
  steps, needed = -(-frames // expected.frames_per_step), steps_needed(normalize_text(row.transcript))
  if needed > steps:
    faults.append(
      ("text too long", f"the transcript needs {needed} output steps, {seconds:.2f} s of audio give {steps}")
    )
  return faults


def _transcript_faults(row: Row, expected: Expected) -> list[tuple[str, str]]:
  """Look at a transcript, in the form in which training takes it."""
  text = normalize_text(row.transcript)
  if not text:
    return [("no transcript", "the transcript is empty")]
  unknown = "".join(sorted(set(text) - expected.characters))
  return [("unknown characters", f"{unknown!r} in {row.transcript!r} are not in the vocabulary")] if unknown else []


def measure(paths: Sequence[str]) -> list[float]:
  """Tell the length of each audio file in seconds, in parallel with a progress bar."""
  return list(in_parallel(audio.audio_duration, paths, "measuring"))


def draw_parts(groups: dict[str, list], shares: dict[str, float], seed: int) -> dict[str, list]:
  """Divide utterances by chance, groups being kept whole.

  Args:
    groups: the utterances of each group, for instance of each speaker. The order of the groups has no say.
    shares: the share of each part but "train", which gets the rest.
    seed: the same seed draws the same groups.

  Returns:
    The utterances of each part.
  """
  names = sorted(groups)
  random.Random(seed).shuffle(names)
  num_utterances = sum(map(len, groups.values()))
  parts: dict[str, list] = {"train": []}
  for part, share in shares.items():
    parts[part] = []
    # Of a handful of utterances, too, a part that is asked for gets one.
    wanted = max(1, round(share * num_utterances)) if share else 0
    while names and len(parts[part]) < wanted:
      parts[part] += groups[names.pop()]
  parts["train"] = [utterance for name in names for utterance in groups[name]]
  return parts


def speaker_of(path: str) -> str | None:
  """Tell the speaker from the path of a recording; None if no known corpus names its files like that."""
  path = path.replace(os.sep, "/")
  return next((match.group(1) for form in SPEAKER_FORMS if (match := form.search(path))), None)


def describe(name: str, rows: Sequence[Row]) -> str:
  """Describe utterances in lines for a terminal.

  Args:
    name: what they are.
    rows: the utterances, one at least.

  Returns:
    Hours, utterances, speakers and words, and histograms of durations and of characters a second.
  """
  seconds = [row.seconds for row in rows]
  texts = [normalize_text(row.transcript) for row in rows]
  words = collections.Counter(word for text in texts for word in text.split())
  characters = collections.Counter("".join(texts))
  speakers = [speaker_of(row.path) for row in rows]
  rates = [len(text) / length for text, length in zip(texts, seconds, strict=True) if length > 0]
  lines = [
    name,
    f"  utterances   {len(rows)}",
    f"  duration     {sum(seconds) / 3600:.2f} hours ({sum(seconds):.1f} s)",
    f"  speakers     {_describe_speakers(speakers)}",
    f"  words        {words.total()}, {len(words)} different",
    f"  characters   {characters.total()}, {len(characters)} different: {''.join(sorted(characters))!r}",
    "  seconds an utterance",
    *histogram(seconds),
    "  characters a second",
    *histogram(rates),
  ]
  return "\n".join(lines)


def _describe_speakers(speakers: list[str | None]) -> str:
  """Count the speakers as far as they are known."""
  known, num_unnamed = set(speakers) - {None}, speakers.count(None)
  if not known:
    return "not known"
  return f"{len(known)}, and {num_unnamed} utterances of unknown ones" if num_unnamed else str(len(known))


def histogram(values: Iterable[float]) -> list[str]:
  """Draw a histogram in lines for a terminal, with steps of 1, 2 or 5 times a power of ten."""
  values = sorted(values)
  if not values:
    return ["    nothing to count"]
  step = _step(values[-1] - values[0])
  # The small shift keeps 0.3 out of the bin that ends with 0.3.
  counts = collections.Counter(math.floor(value / step + 1e-9) for value in values)
  decimals = max(0, -math.floor(math.log10(step)))
  width = len(f"{(max(counts) + 1) * step:.{decimals}f}")
  lines = [
    f"    {number * step:{width}.{decimals}f} to {(number + 1) * step:{width}.{decimals}f}  {counts[number]:7d}  "
    f"{'#' * math.ceil(BAR_WIDTH * counts[number] / max(counts.values()))}"
    for number in range(min(counts), max(counts) + 1)
  ]
  median = values[len(values) // 2]
  return [*lines, f"    least {values[0]:.2f}, median {median:.2f}, most {values[-1]:.2f}"]


def _step(extent: float) -> float:
  """Choose the width of a histogram's bins."""
  if extent <= 0:
    return 1.0
  power = 10.0 ** math.floor(math.log10(extent / BINS))
  return next(factor * power for factor in (1, 2, 5, 10) if extent / (factor * power) <= BINS)
