"""Transcribes recordings: files, folders, standard input.

python transcribe.py --model=MODEL_DIR recording.wav talks/
cat recording.wav | python transcribe.py --model=MODEL_DIR --output_format=srt -
"""

if __name__ == "__main__":
  from official_utils.misc import commands

  commands.begin()

import collections
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from absl import flags

import exports
import inference
import transcripts
from data import audio, segments
from data.sources import Recording, Source, find_recordings, is_one_recording, printable, recording_of
from decoder import Decoder, GreedyDecoder
from official_utils import checkpoints
from official_utils.flags import core as flags_core
from official_utils.misc import number_formats
from official_utils.misc.errors import UserError
from official_utils.misc.progress_bar import progress_bar
from transcript_writer import TranscriptWriter
from transcripts import Segment, Transcript, Word

SECONDS_AT_ONCE = 320.0
LONGEST_SECONDS = 30.0
# So many batches of clips are sorted by length at once.
BATCHES_IN_POOL = 4
DTYPES = ("fp32", "bf16", number_formats.AUTO)

Item = TypeVar("Item")


class RecordingsError(UserError):
  """Some recordings of a list cannot be transcribed.

  Attributes:
    results: for each recording of the list, its text, or the UserError that says why there is none.
  """

  def __init__(self, results: list[str | UserError]):
    # Handed on, so that it survives being sent between processes.
    super().__init__(results)
    self.results = results

  def __str__(self) -> str:
    """Say how many there are, and what is wrong with the first of them."""
    errors = [result for result in self.results if isinstance(result, UserError)]
    if len(self.results) == 1:
      return str(errors[0])
    return (
      f"{len(errors)} of {len(self.results)} recordings cannot be transcribed; `results` of this error has a text or a "
      f"reason for each; the first reason: {errors[0]}"
    )


class _QueuedClip(NamedTuple):
  """A piece of a recording that waits for the network."""

  recording: "_Progress"
  number: int
  start: int
  samples: np.ndarray


class _Progress:
  """What is known of a recording so far: None in `segments` stands for a clip that waits."""

  def __init__(self, name: str):
    self.name = name
    self.segments: list[Segment | None] = []
    self.num_samples = 0
    self.is_read = False
    self.error: UserError | None = None

  def count(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Hand blocks on and count their samples."""
    for block in blocks:
      self.num_samples += len(block)
      yield block

  @property
  def is_done(self) -> bool:
    """Whether nothing of it waits."""
    return self.error is not None or (self.is_read and None not in self.segments)


class Transcriber:
  """A model that takes recordings and gives text. Several threads may call its methods at once.

  A recording is the path of an audio file, a binary file object, the bytes of an audio file, or an array; see
  data.sources.recording_of.

  Attributes:
    model: the network.
    decoder: turns its log-probabilities into words.
  """

  def __init__(
    self,
    model: inference.SpeechModel,
    decoder: Decoder,
    seconds_at_once: float = SECONDS_AT_ONCE,
    longest_seconds: float = LONGEST_SECONDS,
  ):
    """Keep the model.

    Args:
      model: the network.
      decoder: turns its log-probabilities into words.
      seconds_at_once: seconds of audio, padding included, that are computed at once.
      longest_seconds: a longer recording is cut at its silences, and where there is none, at its quietest places.
    """
    for name, value in (("seconds_at_once", seconds_at_once), ("longest_seconds", longest_seconds)):
      if not 1 <= value < math.inf:
        raise UserError(f"--{name}={value} is out of range; give a number of seconds, 1 or more")
    self.model = model
    self._seconds_at_once = seconds_at_once
    self._longest_seconds = longest_seconds
    self.decoder = decoder

  def __call__(self, sources: Iterable[Source]) -> list[str]:
    """Transcribe recordings, arrays at the model's sample rate; return a text for each.

    Raises:
      RecordingsError: some cannot be read. It comes after the others are transcribed and has their texts.
    """
    results = [each if isinstance(each, UserError) else each.text for each in self.transcribe_all(sources)]
    texts = [each for each in results if isinstance(each, str)]
    if len(texts) < len(results):
      raise RecordingsError(results)
    return texts

  def transcribe(self, source: Source, sample_rate: int | None = None) -> Transcript:
    """Transcribe a recording.

    Args:
      source: the recording.
      sample_rate: samples a second of an array; None for the model's.

    Raises:
      UserError: says why it cannot be read.
    """
    rate = self.model.sample_rate if sample_rate is None else sample_rate
    (result,) = self.transcribe_all([recording_of(source, rate)])
    if isinstance(result, UserError):
      raise result
    return result

  def log_probs(self, sources: Iterable[Source]) -> list[np.ndarray]:
    """Compute the log-probabilities, float32 [steps, classes], of recordings, each uncut.

    Raises:
      UserError: names the first that cannot be read.
    """
    rate = self.model.sample_rate
    clips = [np.concatenate(list(recording_of(source, rate).blocks(rate))) for source in _checked(sources)]
    results: list = [None] * len(clips)
    for batch in self._batches(range(len(clips)), lambda index: len(clips[index])):
      for index, log_probs in zip(batch, self.model.log_probs([clips[index] for index in batch]), strict=True):
        results[index] = log_probs
    return results

  def transcribe_all(
    self, sources: Iterable[Source], advance: Callable[[float], object] = lambda seconds: None
  ) -> Iterator[Transcript | UserError]:
    """Transcribe any number of recordings of any length, in bounded memory.

    Args:
      sources: the recordings, arrays at the model's sample rate; read one by one.
      advance: is told how many seconds of audio were transcribed since it was last called.

    Yields:
      In the order of the recordings, as soon as it is known, the transcript of each, or the error that says why there is
      none.
    """
    rate = self.model.sample_rate
    waiting: collections.deque[_Progress] = collections.deque()
    pool: list[_QueuedClip] = []
    held = 0
    for source in _checked(sources):
      recording = recording_of(source, rate)
      progress = _Progress(recording.name)
      waiting.append(progress)
      try:
        blocks = progress.count(recording.blocks(rate))
        for start, samples in segments.cut_at_silences(blocks, rate, self._longest_seconds):
          pool.append(_QueuedClip(progress, len(progress.segments), start, samples))
          progress.segments.append(None)
          held += len(samples)
          if held > BATCHES_IN_POOL * self._seconds_at_once * rate:
            self._transcribe_clips(pool, advance)
            pool, held = [], 0
            # What is done is handed out before a long recording is read to its end.
            yield from self._take_done(waiting)
      except UserError as error:
        # A new one: the frames in which it was raised hold audio.
        progress.error = UserError(str(error))
      progress.is_read = True
      yield from self._take_done(waiting)
    self._transcribe_clips(pool, advance)
    yield from self._take_done(waiting)

  def _take_done(self, waiting: "collections.deque[_Progress]") -> Iterator[Transcript | UserError]:
    """Take the recordings that are done off the front of the queue."""
    while waiting and waiting[0].is_done:
      done = waiting.popleft()
      yield done.error or Transcript(
        done.name, done.num_samples / self.model.sample_rate, tuple(filter(None, done.segments))
      )

  def _transcribe_clips(self, clips: Sequence[_QueuedClip], advance: Callable[[float], object]) -> None:
    """Compute clips in batches of similar length, and put the segments into their recordings."""
    clips = [clip for clip in clips if clip.recording.error is None]
    for batch in self._batches(clips, lambda clip: len(clip.samples)):
      for clip, log_probs in zip(batch, self.model.log_probs([clip.samples for clip in batch]), strict=True):
        try:
          clip.recording.segments[clip.number] = self._segment(clip, log_probs)
        except ValueError as error:
          clip.recording.error = UserError(f"{clip.recording.name}: the network gives no numbers for it ({error})")
      advance(sum(len(clip.samples) for clip in batch) / self.model.sample_rate)

  def _batches(self, items: Iterable[Item], length: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Sort items by length and put them into batches of so many seconds, padding included."""
    batch: list[Item] = []
    for item in sorted(items, key=length, reverse=True):
      # The first is the longest.
      if batch and (len(batch) + 1) * length(batch[0]) > self._seconds_at_once * self.model.sample_rate:
        yield batch
        batch = []
      batch.append(item)
    if batch:
      yield batch

  def _segment(self, clip: _QueuedClip, log_probs: np.ndarray) -> Segment:
    """Decode a clip; its words' times count from the recording's beginning."""
    start = clip.start / self.model.sample_rate
    end = start + len(clip.samples) / self.model.sample_rate
    step = self.model.step_seconds
    words = [
      # The last step may stand for less than its full time.
      Word(word.text, min(start + word.start * step, end), min(start + word.end * step, end), word.confidence)
      for word in self.decoder.decode(log_probs[np.newaxis], np.array([len(log_probs)]))[0].words
    ]
    return Segment(start, end, tuple(words))


def _checked(sources: Iterable[Source]) -> Iterable[Source]:
  """Refuse one recording where a list is due: a path would be taken for a list of letters."""
  if is_one_recording(sources):
    name = recording_of(sources, 1).name
    raise UserError(f"{name}: this is one recording and no list; put it into [] or call transcribe")
  return sources


def load_model(
  path: str,
  seconds_at_once: float = SECONDS_AT_ONCE,
  longest_seconds: float = LONGEST_SECONDS,
  dtype: str = DTYPES[0],
) -> Transcriber:
  """Load a model for transcribing.

  Args:
    path: a model_dir, an export, or an export_dir (its newest best export).
    seconds_at_once: seconds of audio, padding included, that are computed at once.
    longest_seconds: a longer recording is cut at its silences.
    dtype: the number format of products, and of weights in memory: one of DTYPES.
  """
  if dtype not in DTYPES:
    raise UserError(f"--dtype={dtype} is no number format for transcribing; give one of {', '.join(DTYPES)}")
  compute_dtype = number_formats.FORMATS[number_formats.resolve(dtype)]
  export = exports.find_export(path)
  if export:
    model = exports.load_export(export, compute_dtype)
  else:
    checkpoint = checkpoints.newest_checkpoint(path)
    if not checkpoint:
      raise UserError(
        f"{path}: no export and no checkpoint is there; give the model_dir of a training run or what its --export_dir holds"
      )
    model = inference.load_checkpoint(checkpoint, *inference.read_description(path), compute_dtype)
  return Transcriber(model, GreedyDecoder(model.labels), seconds_at_once, longest_seconds)


def define_transcribe_flags() -> None:
  """Define the flags of the command."""
  flags.DEFINE_string(
    "model",
    "/tmp/deep_speech_model/",
    "The model: a model_dir, an export, or a folder of exports, of which the newest best one is taken.",
  )
  flags.DEFINE_enum("output_format", "txt", transcripts.FORMATS, "How transcripts are written.")
  flags.DEFINE_string(
    "output_dir",
    None,
    """A folder that gets a file for each recording. Not given: they go to standard output, which takes no subtitles of
    several recordings.""",
  )
  flags.DEFINE_float(
    "seconds_at_once", SECONDS_AT_ONCE, "Seconds of audio, padding included, that are computed at once.", lower_bound=1
  )
  flags.DEFINE_float(
    "longest_seconds",
    LONGEST_SECONDS,
    """A longer recording is cut at its pauses of half a second, and where one lasts longer than this without a pause,
    at its quietest places.""",
    lower_bound=1,
  )
  flags.DEFINE_enum(
    "dtype",
    DTYPES[0],
    DTYPES,
    "The number format of products, and of weights in memory; 'auto': bf16 if the device multiplies it in hardware.",
  )
  flags.DEFINE_integer(
    "raw_rate",
    None,
    """Samples a second of standard input that holds raw samples (16 bits, little-endian, one channel). Not given: it
    holds an audio file.""",
    lower_bound=1,
  )


@contextlib.contextmanager
def _shown_progress(recordings: Sequence[Recording]) -> Iterator[tuple[Callable[[float], object], Callable]]:
  """Show on a terminal how far the work is; yield what counts seconds done, and what clears the line for output."""
  if not sys.stderr.isatty():
    yield lambda seconds: None, lambda: None
    return
  total = 0.0
  for recording in recordings:
    # What cannot be read is said when its turn comes.
    with contextlib.suppress(UserError):
      total += audio.audio_duration(recording.name)
  done = 0.0
  with progress_bar("transcribing", round(total) or None, unit=" s") as bar:

    def advance(seconds: float) -> None:
      nonlocal done
      done += seconds
      bar.update(round(done) - bar.n)

    yield advance, bar.clear


def main(argv: list[str]) -> int:
  """Transcribe what the command line names; return 1 if something could not be."""
  options = flags.FLAGS
  for name in ("model", "output_dir"):
    if options[name].value == "":
      raise UserError(f"--{name} is empty; name a folder")
  found = find_recordings(argv[1:], options.raw_rate)
  writer = TranscriptWriter(options.output_format, options.output_dir, len(found))
  failed = [each for each in found if isinstance(each, UserError)]
  recordings = [each for each in found if isinstance(each, Recording)]
  seconds = 0.0
  start = time.perf_counter()
  if recordings:
    number_formats.announce(options.dtype, lambda line: sys.stderr.write(f"{line}\n"))
    model = load_model(options.model, options.seconds_at_once, options.longest_seconds, options.dtype)
    start = time.perf_counter()
    with _shown_progress(recordings) as (advance, clear):
      for recording, result in zip(recordings, model.transcribe_all(recordings, advance), strict=True):
        path = writer.path(recording.name)
        if isinstance(result, UserError):
          failed.append(result)
          continue
        seconds += result.duration
        clear()
        try:
          writer.write(result, path)
        except UserError as error:
          failed.append(error)
  for each in failed:
    sys.stderr.write(f"error: {printable(str(each))}\n")
  elapsed = time.perf_counter() - start
  sys.stderr.write(
    f"{len(found) - len(failed)} of {len(found)} recordings, {seconds:.1f} s of audio in {elapsed:.1f} s: "
    f"{seconds / elapsed:.1f} times real time\n"
  )
  return 1 if failed else 0


if __name__ == "__main__":
  define_transcribe_flags()
  flags_core.run(main, __doc__, arguments="FILE...")
