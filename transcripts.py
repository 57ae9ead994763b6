"""What a transcription is, and how it is written: text, JSON, subtitles, tables.

The forms, all UTF-8 with "\\n" at the end of each line; times have three decimals:

- txt: the text on one line. Of several recordings in one stream: name, tab, text.
- json: one object on one line (JSON Lines where there are several):
  `{"name", "duration", "text", "confidence", "segments": [{"start", "end", "text", "words": [{"start", "end", "text",
  "confidence"}]}]}`. Times are in seconds; a confidence has four decimals and is null where there are no words.
- srt, vtt: subtitles of one recording. SubRip knows no escapes, so a word's "-->" becomes "→" there and "<i>" is a tag to
  a player; WebVTT has "&", "<" and ">" escaped.
- tsv: a header `file start end text`, then a row a segment that has words; never quoted.
- ctm: NIST's `file channel start duration word confidence`, a row a word, sorted by start; the channel is 1. White space
  in the name becomes "_", and "\\" goes before a field that would begin with ";;", which marks a comment. Readers want
  several recordings in order of their names.

In a name, white space other than the blank becomes a blank in txt and tsv. What holds several recordings is `JOINABLE`:
one `header`, then each recording's `body` as it is finished.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

FORMATS = ("txt", "json", "srt", "vtt", "tsv", "ctm")
JOINABLE = ("txt", "json", "tsv", "ctm")

# What fits on a screen, and what can be read while it stands there.
LINE_LENGTH = 42
LINES_PER_CUE = 2
LONGEST_CUE_MS = 6000
SHORTEST_CUE_MS = 500
PAUSE_MS = 700


@dataclass(frozen=True)
class Word:
  """A word that was heard.

  Attributes:
    text: the word; never empty, without white space.
    start: where it begins, in seconds from the beginning of the recording.
    end: where it ends, likewise.
    confidence: how sure the network was, 0 to 1; see decoder.TimedWord.
  """

  text: str
  start: float
  end: float
  confidence: float

  def __post_init__(self):
    """Refuse what no format can write."""
    if self.text.split() != [self.text]:
      raise ValueError(f"a word is not empty and has no white space, but this is {self.text!r}")
    if not 0 <= self.start <= self.end < math.inf:
      raise ValueError(f"the word {self.text!r} is said to last from {self.start} s to {self.end} s")
    if not 0 <= self.confidence <= 1:
      raise ValueError(f"the word {self.text!r} has the confidence {self.confidence}, which is not within 0 to 1")


@dataclass(frozen=True)
class Segment:
  """A piece of a recording that was transcribed at once.

  Attributes:
    start: where it begins, in seconds from the beginning of the recording.
    end: where it ends, likewise.
    words: what was heard in it, in order.
  """

  start: float
  end: float
  words: tuple[Word, ...]

  @property
  def text(self) -> str:
    """The words with a blank between them."""
    return _text(self.words)


@dataclass(frozen=True)
class Transcript:
  """What was heard in a recording.

  Attributes:
    name: what the recording is called in the output: in most cases its path as given.
    duration: seconds of the recording.
    segments: its pieces, in order; what lies between them was silent.
  """

  name: str
  duration: float
  segments: tuple[Segment, ...]

  @property
  def words(self) -> tuple[Word, ...]:
    """The words of all segments."""
    return tuple(word for segment in self.segments for word in segment.words)

  @property
  def text(self) -> str:
    """All words with a blank between them."""
    return _text(self.words)

  @property
  def confidence(self) -> float | None:
    """Mean of the words' confidences; None where there are no words."""
    words = self.words
    return sum(word.confidence for word in words) / len(words) if words else None


def render(transcript: Transcript, output_format: str) -> str:
  """Write one recording's transcript.

  Args:
    transcript: what was heard.
    output_format: one of FORMATS.

  Returns:
    The content of a whole file.
  """
  return header(output_format) + body(transcript, output_format)


def header(output_format: str) -> str:
  """Return what stands once at the head of a file or stream: empty in most of FORMATS."""
  _check_format(output_format)
  return {"vtt": "WEBVTT\n\n", "tsv": "file\tstart\tend\ttext\n"}.get(output_format, "")


def body(transcript: Transcript, output_format: str, joined: bool = False) -> str:
  """Write one recording's part of a file or stream.

  Args:
    transcript: what was heard.
    output_format: one of FORMATS.
    joined: whether other recordings stand in the same stream.

  Returns:
    Whole lines; where nothing was heard, none except in txt and json.

  Raises:
    ValueError: if the format is not known, or holds one recording only and is to hold several.
  """
  _check_format(output_format)
  if joined and output_format not in JOINABLE:
    raise ValueError(f"{output_format} holds one recording; several in one stream go as {', '.join(JOINABLE)}")
  if joined and output_format == "txt":
    return f"{_tsv_field(transcript.name)}\t{transcript.text}\n"
  return _BODIES[output_format](transcript)


def _check_format(output_format: str) -> None:
  if output_format not in FORMATS:
    raise ValueError(f"there is no format {output_format!r}; give one of {', '.join(FORMATS)}")


def _text(words: Iterable[Word]) -> str:
  return " ".join(word.text for word in words)


def _milliseconds(seconds: float) -> int:
  return round(1000 * seconds)


def _seconds(seconds: float) -> str:
  return f"{_milliseconds(seconds) / 1000:.3f}"


def _txt_body(transcript: Transcript) -> str:
  return f"{transcript.text}\n"


def _json_body(transcript: Transcript) -> str:
  form = {
    "name": transcript.name,
    "duration": round(transcript.duration, 3),
    "text": transcript.text,
    "confidence": None if transcript.confidence is None else round(transcript.confidence, 4),
    "segments": [
      {
        **_json_head(segment),
        "words": [{**_json_head(word), "confidence": round(word.confidence, 4)} for word in segment.words],
      }
      for segment in transcript.segments
    ],
  }
  return json.dumps(form, ensure_ascii=False, allow_nan=False) + "\n"


def _json_head(part: Segment | Word) -> dict:
  return {"start": round(part.start, 3), "end": round(part.end, 3), "text": part.text}


def _tsv_field(name: str) -> str:
  return re.sub(r"[^\S ]", " ", name)


def _tsv_body(transcript: Transcript) -> str:
  rows = (
    (_tsv_field(transcript.name), _seconds(segment.start), _seconds(segment.end), segment.text)
    for segment in transcript.segments
    if segment.words
  )
  return "".join("\t".join(row) + "\n" for row in rows)


def _ctm_field(text: str) -> str:
  field = re.sub(r"\s", "_", text) or "_"
  return f"\\{field}" if field.startswith(";;") else field


def _ctm_body(transcript: Transcript) -> str:
  name = _ctm_field(transcript.name)
  rows = []
  for word in sorted(transcript.words, key=lambda word: word.start):
    # Of the rounded times, so that start and duration add up to the end as it stands elsewhere.
    duration = (_milliseconds(word.end) - _milliseconds(word.start)) / 1000
    rows.append(f"{name} 1 {_seconds(word.start)} {_seconds(duration)} {_ctm_field(word.text)} {word.confidence:.4f}\n")
  return "".join(rows)


@dataclass(frozen=True)
class _Cue:
  """Lines that stand on the screen together; times in milliseconds."""

  start: int
  end: int
  lines: tuple[str, ...]


def _fill_lines(lines: list[list[Word]], word: Word) -> bool:
  """Put a word behind the others of a cue; return False, with nothing done, where no line has room for it."""
  if len(_text((*lines[-1], word))) <= LINE_LENGTH:
    lines[-1].append(word)
  elif len(lines) < LINES_PER_CUE:
    lines.append([word])
  else:
    return False
  return True


def _is_late(lines: list[list[Word]], word: Word) -> bool:
  """Tell whether a word comes after a pause, or ends too long after its cue's start."""
  pause = _milliseconds(word.start) - _milliseconds(lines[-1][-1].end)
  length = _milliseconds(word.end) - _milliseconds(lines[0][0].start)
  return pause > PAUSE_MS or length > LONGEST_CUE_MS


def _groups_of_words(transcript: Transcript) -> Iterator[list[list[Word]]]:
  """Yield the lines of each cue: the words up to a pause, the end of a segment, a full screen or the longest cue."""
  for segment in transcript.segments:
    lines: list[list[Word]] = []
    for word in segment.words:
      if lines and (_is_late(lines, word) or not _fill_lines(lines, word)):
        yield lines
        lines = []
      if not lines:
        lines = [[word]]
    if lines:
      yield lines


def _cues(transcript: Transcript) -> Iterator[_Cue]:
  """Yield the cues in order: never overlapping, each at least 1 ms long.

  A cue lasts from its first word's start to its last word's end, but no less than SHORTEST_CUE_MS where the next cue and
  the end of the recording leave room for it. A word that begins before the cue in front has ended waits for that end.
  """
  groups = list(_groups_of_words(transcript))
  starts = [*(_milliseconds(lines[0][0].start) for lines in groups), _milliseconds(transcript.duration)]
  end = 0
  for lines, (first, limit) in zip(groups, itertools.pairwise(starts), strict=True):
    start = max(first, end)
    end = max(start + 1, min(start + SHORTEST_CUE_MS, limit), _milliseconds(lines[-1][-1].end))
    yield _Cue(start, end, tuple(_text(line) for line in lines))


def _clock(milliseconds: int, decimal_mark: str) -> str:
  """Return hours (two digits or more), minutes, seconds and milliseconds."""
  seconds, rest = divmod(milliseconds, 1000)
  minutes, seconds = divmod(seconds, 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours:02d}:{minutes:02d}:{seconds:02d}{decimal_mark}{rest:03d}"


def _cue_body(cue: _Cue, decimal_mark: str, escape: Callable[[str], str]) -> str:
  """Write a cue's times and lines, and the blank line that ends it."""
  lines = "".join(f"{escape(line)}\n" for line in cue.lines)
  return f"{_clock(cue.start, decimal_mark)} --> {_clock(cue.end, decimal_mark)}\n{lines}\n"


def _escape_srt(text: str) -> str:
  return text.replace("-->", "→")


def _escape_vtt(text: str) -> str:
  return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _srt_body(transcript: Transcript) -> str:
  cues = enumerate(_cues(transcript), start=1)
  return "".join(f"{number}\n{_cue_body(cue, ',', _escape_srt)}" for number, cue in cues)


def _vtt_body(transcript: Transcript) -> str:
  return "".join(_cue_body(cue, ".", _escape_vtt) for cue in _cues(transcript))


_BODIES = {
  "txt": _txt_body,
  "json": _json_body,
  "srt": _srt_body,
  "vtt": _vtt_body,
  "tsv": _tsv_body,
  "ctm": _ctm_body,
}
