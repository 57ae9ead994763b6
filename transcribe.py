"""Transcribes recordings: files, folders, standard input.

python transcribe.py --model=MODEL_DIR recording.wav talks/
cat recording.wav | python transcribe.py --model=MODEL_DIR --output_format=srt -
"""

if __name__ == "__main__":
  from official_utils.misc import commands

  commands.begin()

import collections
import contextlib
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

import decoder
import inference
import transcripts
from data import audio, segments
from data.sources import Recording, find_recordings, printable
from official_utils.flags import core as flags_core
from official_utils.misc import files
from official_utils.misc.errors import UserError
from official_utils.misc.progress_bar import progress_bar
from transcripts import Segment, Transcript, Word

BATCH_SECONDS = 160.0
LONGEST_SECONDS = 30.0
# So many batches of clips are sorted by length at once.
BATCHES_IN_POOL = 4


class _Clip(NamedTuple):
  """A piece of a recording on its way through the network."""

  recording: "_Progress"
  number: int
  start: int
  samples: np.ndarray


class _Progress:
  """What is known of a recording so far: None in `segments` stands for a clip that is under way."""

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
    """Whether nothing of it is under way."""
    return self.error is not None or (self.is_read and None not in self.segments)


class Transcriber:
  """A model that takes recordings and gives text. Its methods may be called by several threads.

  Attributes:
    model: the network.
  """

  def __init__(
    self,
    model: inference.SpeechModel,
    batch_seconds: float = BATCH_SECONDS,
    longest_seconds: float = LONGEST_SECONDS,
  ):
    """Keep the model.

    Args:
      model: the network.
      batch_seconds: seconds of audio, padding included, that are computed at once.
      longest_seconds: a longer recording is cut at its silences, and where there is none, at its quietest places.
    """
    for name, value in (("batch_seconds", batch_seconds), ("longest_seconds", longest_seconds)):
      if not 1 <= value < math.inf:
        raise UserError(f"--{name}={value} is out of range; give a number of seconds, 1 or more")
    self.model = model
    self._batch_seconds = batch_seconds
    self._longest_seconds = longest_seconds
    self._decoder = decoder.GreedyDecoder(model.labels)

  def __call__(self, sources: Sequence[str | np.ndarray]) -> list[str]:
    """Transcribe files, or arrays at the model's sample rate; return a text for each.

    Raises:
      UserError: names the first that cannot be read.
    """
    texts = []
    for result in self.transcribe_all(map(self._recording, _checked(sources))):
      if isinstance(result, UserError):
        raise result
      texts.append(result.text)
    return texts

  def transcribe(self, source: str | np.ndarray, sample_rate: int | None = None) -> Transcript:
    """Transcribe a file, or an array.

    Args:
      source: the file's path, or samples [samples] or [samples, channels]: floats with 1 as full scale, or int16.
      sample_rate: samples a second of an array; None for the model's.

    Raises:
      UserError: says why it cannot be read.
    """
    (result,) = self.transcribe_all([self._recording(source, sample_rate)])
    if isinstance(result, UserError):
      raise result
    return result

  def log_probs(self, sources: Sequence[str | np.ndarray]) -> list[np.ndarray]:
    """Compute the log-probabilities, float32 [steps, classes], of files or arrays, each uncut."""
    rate = self.model.sample_rate
    clips = [np.concatenate(list(self._recording(source).blocks(rate))) for source in _checked(sources)]
    results: list = [None] * len(clips)
    for batch in self._batches(range(len(clips)), lambda index: len(clips[index])):
      for index, log_probs in zip(batch, self.model.log_probs([clips[index] for index in batch]), strict=True):
        results[index] = log_probs
    return results

  def transcribe_all(
    self, recordings: Iterable[Recording], advance: Callable[[float], object] = lambda seconds: None
  ) -> Iterator[Transcript | UserError]:
    """Transcribe recordings of any length in bounded memory.

    Args:
      recordings: any number of them; read one by one.
      advance: told how many seconds of audio were transcribed, as it goes on.

    Yields:
      In the order of the recordings, each one's transcript, or what is wrong with it.
    """
    rate = self.model.sample_rate
    waiting: collections.deque[_Progress] = collections.deque()
    pool: list[_Clip] = []
    held = 0
    for recording in recordings:
      progress = _Progress(recording.name)
      waiting.append(progress)
      try:
        blocks = progress.count(recording.blocks(rate))
        for start, samples in segments.cut_at_silences(blocks, rate, self._longest_seconds):
          pool.append(_Clip(progress, len(progress.segments), start, samples))
          progress.segments.append(None)
          held += len(samples)
          if held > BATCHES_IN_POOL * self._batch_seconds * rate:
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
      yield done.error or Transcript(done.name, done.num_samples / self.model.sample_rate, tuple(done.segments))

  def _transcribe_clips(self, clips: Sequence[_Clip], advance: Callable[[float], object]) -> None:
    """Compute clips in batches of similar length, and put the segments into their recordings."""
    clips = [clip for clip in clips if clip.recording.error is None]
    for batch in self._batches(clips, lambda clip: len(clip.samples)):
      for clip, log_probs in zip(batch, self.model.log_probs([clip.samples for clip in batch]), strict=True):
        try:
          clip.recording.segments[clip.number] = self._segment(clip, log_probs)
        except ValueError as error:
          clip.recording.error = UserError(f"{clip.recording.name}: the network gives no numbers for it ({error})")
      advance(sum(len(clip.samples) for clip in batch) / self.model.sample_rate)

  def _batches(self, items: Iterable, length: Callable[[object], int]) -> Iterator[list]:
    """Sort items by length and put them into batches of so many seconds, padding included."""
    batch: list = []
    for item in sorted(items, key=length, reverse=True):
      # The first is the longest.
      if batch and (len(batch) + 1) * length(batch[0]) > self._batch_seconds * self.model.sample_rate:
        yield batch
        batch = []
      batch.append(item)
    if batch:
      yield batch

  def _segment(self, clip: _Clip, log_probs: np.ndarray) -> Segment:
    """Decode a clip; its words' times count from the recording's beginning."""
    start = clip.start / self.model.sample_rate
    end = start + len(clip.samples) / self.model.sample_rate
    step = self.model.step_seconds
    words = [
      # The last step may stand for less than its full time.
      Word(word.text, min(start + word.start * step, end), min(start + word.end * step, end), word.confidence)
      for word in self._decoder.decode_words(log_probs)
    ]
    return Segment(start, end, tuple(words))

  def _recording(self, source: str | np.ndarray, sample_rate: int | None = None) -> Recording:
    """Tell how a file or an array is read."""
    if isinstance(source, (str, os.PathLike)):
      return Recording(printable(os.fspath(source)), lambda rate: audio.stream_audio(source, rate))
    given = self.model.sample_rate if sample_rate is None else sample_rate
    return Recording("array", lambda rate: [audio.convert_samples(source, given, rate)])


def _checked(sources: Sequence[str | np.ndarray]) -> Sequence[str | np.ndarray]:
  """Refuse one recording where several are due: a path would be taken for a list of letters."""
  if isinstance(sources, (str, bytes, os.PathLike)):
    raise UserError(f"{os.fspath(sources)!r} is one recording and no list; put it into [] or call transcribe")
  return sources


def load_model(
  path: str, batch_seconds: float = BATCH_SECONDS, longest_seconds: float = LONGEST_SECONDS
) -> Transcriber:
  """Load a model for transcribing.

  Args:
    path: a model_dir, an export, or an export_dir (its newest best export).
    batch_seconds: seconds of audio, padding included, that are computed at once.
    longest_seconds: a longer recording is cut at its silences.
  """
  return Transcriber(inference.load_model(path), batch_seconds, longest_seconds)


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
    """A folder that gets a file for each recording. Not given: all go to standard output; subtitles of several
    recordings do not.""",
  )
  flags.DEFINE_float(
    "batch_seconds", BATCH_SECONDS, "Seconds of audio, padding included, that are computed at once.", lower_bound=1
  )
  flags.DEFINE_float(
    "longest_seconds",
    LONGEST_SECONDS,
    """A longer recording is cut at its pauses of half a second, and where one lasts longer than this without a pause,
    at its quietest places.""",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "raw_rate",
    None,
    """Standard input holds raw samples (16 bits, little-endian, one channel), so many a second. Not given: it holds an
    audio file.""",
    lower_bound=1,
  )


class _Output:
  """Writes transcripts where the flags say."""

  def __init__(self, output_format: str, output_dir: str | None, num_recordings: int):
    self._format = output_format
    self._dir = output_dir
    self._is_joined = num_recordings > 1
    self._taken: set[str] = set()
    self._header = transcripts.header(output_format)
    if output_dir:
      files.check_writable(output_dir, "--output_dir")
      return
    if self._is_joined and output_format not in transcripts.JOINABLE:
      raise UserError(f"--output_format={output_format} holds one recording a file; give --output_dir for several")
    if sys.stdout is None:
      raise UserError("standard output is closed; give --output_dir")
    # Whatever the terminal's own encoding: all forms are UTF-8.
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")

  def write(self, transcript: Transcript, path: str) -> None:
    """Write one transcript, to `path` where there is an output_dir.

    Raises:
      UserError: it cannot be written.
    """
    transcript = dataclasses.replace(transcript, name=printable(transcript.name))
    if self._dir:
      try:
        files.write_atomically(path, transcripts.render(transcript, self._format))
      except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --output_dir") from error
    else:
      # With the first transcript: where there is none, nothing is printed.
      self._print(self._header + transcripts.body(transcript, self._format, self._is_joined))
      self._header = ""

  def path(self, name: str) -> str:
    """Choose the file of a recording, another one for each; to be asked in the order of the recordings, also for bad ones."""
    stem = os.path.splitext(os.path.basename(printable(name)))[0]
    chosen, number = stem, 1
    while chosen in self._taken:
      number += 1
      chosen = f"{stem}-{number}"
    self._taken.add(chosen)
    return os.path.join(self._dir or "", f"{chosen}.{self._format}")

  def _print(self, text: str) -> None:
    try:
      sys.stdout.write(text)
      sys.stdout.flush()
    except BrokenPipeError:
      raise
    except OSError as error:
      raise UserError(f"cannot write to standard output: {error.strerror}; make room or give --output_dir") from error


@contextlib.contextmanager
def _shown_progress(recordings: Sequence[Recording]) -> Iterator[tuple[Callable[[float], object], Callable]]:
  """Show on a terminal how far it is; give what tells of seconds done, and what makes room for a line of output."""
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
  output = _Output(options.output_format, options.output_dir, len(found))
  failed = [each for each in found if isinstance(each, UserError)]
  recordings = [each for each in found if isinstance(each, Recording)]
  seconds = 0.0
  start = time.perf_counter()
  if recordings:
    model = load_model(options.model, options.batch_seconds, options.longest_seconds)
    start = time.perf_counter()
    with _shown_progress(recordings) as (advance, clear):
      for recording, result in zip(recordings, model.transcribe_all(recordings, advance), strict=True):
        path = output.path(recording.name)
        if isinstance(result, UserError):
          failed.append(result)
          continue
        seconds += result.duration
        clear()
        try:
          output.write(result, path)
        except UserError as error:
          failed.append(error)
  for error in failed:
    sys.stderr.write(f"error: {printable(str(error))}\n")
  elapsed = time.perf_counter() - start
  sys.stderr.write(
    f"{len(found) - len(failed)} of {len(found)} recordings, {seconds:.1f} s of audio in {elapsed:.1f} s: "
    f"{seconds / elapsed:.1f} times real time\n"
  )
  return 1 if failed else 0


if __name__ == "__main__":
  define_transcribe_flags()
  flags_core.run(main, __doc__, arguments="FILE...")
