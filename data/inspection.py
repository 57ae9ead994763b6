"""Looks for faults in the utterances of manifests: their files, samples, lengths and transcripts."""

import collections
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from data import audio
from data.featurizer import AudioFeaturizer
from data.manifest import Entry, size_to_duration
from data.vocabulary import describe_shortage, normalize_text
from official_utils.misc.errors import UserError
from official_utils.misc.parallel import in_parallel

if TYPE_CHECKING:
  import soundfile

# Samples of one read: a recording of any length takes no more memory than that.
BLOCK = 1 << 18
# How far the duration in a manifest may be off, in seconds: JSON rows are often rounded, MP3 is padded by its decoders.
TOLERANCE = 0.1
# The rate at which the network hears recordings of any other rate.
NETWORK_RATE = 16000


class PlacedEntry(NamedTuple):
  """An utterance and where it is listed.

  Attributes:
    manifest: the manifest.
    line: the line there.
    entry: what stands there.
  """

  manifest: str
  line: int
  entry: Entry


class Fault(NamedTuple):
  """Something that is wrong with an utterance.

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
    sample_rate: samples a second; None for any, as training converts them.
    num_channels: channels; None for any, as training mixes them.
    min_duration: seconds.
    max_duration: seconds.
    frames_per_step: frames of audio that the network takes for one step of output.
    decode: whether the audio is read to its end and not only its header.
  """

  characters: frozenset[str]
  sample_rate: int | None = None
  num_channels: int | None = None
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


def find_faults(utterances: Sequence[PlacedEntry], expected: Expected) -> Iterator[Fault]:
  """Yield the faults of each utterance, in their order; the audio is read in parallel, with a progress bar.

  Args:
    utterances: those of one manifest or several: none should be in two of them.
    expected: what they should be like.
  """
  line_of_path: dict[str, str] = {}
  line_of_audio: dict[bytes, str] = {}
  inspections = in_parallel(lambda utterance: _inspect(utterance.entry, expected), utterances, "checking")
  for (manifest, line, entry), inspection in zip(utterances, inspections, strict=True):
    found = inspection.faults + _transcript_faults(entry, expected)
    here = f"{manifest}, line {line}"
    first = line_of_path.setdefault(os.path.normpath(entry.path), here)
    if first != here:
      found.append(("listed twice", f"is listed in {first} already; remove one of the rows"))
    elif inspection.digest:
      first = line_of_audio.setdefault(inspection.digest, here)
      if first != here:
        found.append(("same audio", f"has the same samples as the file in {first}; remove one of the rows"))
    yield from (Fault(manifest, line, kind, f"{entry.path}: {message}") for kind, message in found)


def describe_faults(faults: Sequence[Fault], num_rows: int) -> str:
  """List faults, one a line, and count them by kind."""
  kinds = collections.Counter(fault.kind for fault in faults)
  lines = [f"{fault.manifest}, line {fault.line}: {fault.kind}: {fault.message}" for fault in faults]
  lines.append(f"{num_rows} rows, {len(faults)} faults")
  return "\n".join(lines + [f"  {count:6d} {kind}" for kind, count in kinds.most_common()])


def _inspect(entry: Entry, expected: Expected) -> Inspection:
  """Look at the audio of an utterance."""
  if not os.path.isfile(entry.path):
    return Inspection([("missing audio", "is not a file; correct the path")])
  if not os.path.getsize(entry.path):
    return Inspection([("empty file", "has 0 bytes; restore it or remove the row")])
  if entry.path.lower().endswith(".raw"):
    return Inspection([("unreadable audio", "has no header to tell rate and format; convert it to WAV or FLAC")])
  try:
    return _inspect_samples(entry, expected)
  except UserError as error:
    return Inspection([("unreadable audio", str(error).removeprefix(f"{entry.path}: "))])


def _inspect_samples(entry: Entry, expected: Expected) -> Inspection:
  """Look at audio that has a header."""
  import soundfile

  audio.audio_duration(entry.path)
  with soundfile.SoundFile(entry.path) as file:
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
      faults += _duration_faults(entry, num_samples / file.samplerate, expected)
  return Inspection(faults, digest)


def _decode(file: "soundfile.SoundFile") -> tuple[int, bytes | None, list[tuple[str, str]]]:
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
    return num_samples, digest.digest(), [("not a number", "holds NaN or infinite samples; convert the file again")]
  if lowest == highest:
    return num_samples, None, [("silence", f"all its samples are {lowest:g}; remove the row")]
  return num_samples, digest.digest(), []


def _duration_faults(entry: Entry, seconds: float, expected: Expected) -> list[tuple[str, str]]:
  """Compare the length of the audio with the manifest, the limits and the transcript."""
  if not seconds:
    return []
  faults = []
  listed = size_to_duration(entry.size)
  if abs(listed - seconds) > TOLERANCE:
    faults.append(("wrong size", f"lasts {seconds:.2f} s; the size in the manifest says {listed:.2f} s"))
  if seconds < expected.min_duration:
    faults.append(("too short", f"lasts {seconds:.2f} s, less than --min_duration={expected.min_duration:g}"))
  if seconds > expected.max_duration:
    faults.append(("too long", f"lasts {seconds:.2f} s, more than --max_duration={expected.max_duration:g}"))
  rate = expected.sample_rate or NETWORK_RATE
  frames = int(AudioFeaturizer(rate).num_frames(round(seconds * rate)))
  shortage = describe_shortage(normalize_text(entry.transcript), -(-frames // expected.frames_per_step))
  if shortage:
    faults.append(("text too long", f"{shortage} ({seconds:.2f} s)"))
  return faults


def _transcript_faults(entry: Entry, expected: Expected) -> list[tuple[str, str]]:
  """Look at a transcript, in the form in which training takes it."""
  text = normalize_text(entry.transcript)
  if not text:
    return [("no transcript", "the transcript is empty")]
  unknown = "".join(sorted(set(text) - expected.characters))
  return [("unknown characters", f"{unknown!r} in {entry.transcript!r} are not in the vocabulary")] if unknown else []
