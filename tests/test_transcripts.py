"""What transcripts look like, read back by readers that are not ours."""

import csv
import dataclasses
import html
import io
import itertools
import json
import re
import subprocess
import sys
import textwrap

import pysubs2
import pytest
import webvtt
from hypothesis import example, given
from hypothesis import strategies as st

import transcripts
from transcripts import Segment, Transcript, Word, render

# What one format or another could take for something else than a word.
TRAPS = [
  "-->",
  "a-->b",
  "<i>",
  "</c>",
  "&amp;",
  "&",
  ";;",
  ";;c",
  "NOTE",
  "WEBVTT",
  "42",
  "00:00:01,000",
  '"',
  "\\",
  "x" * 43,
]
plain_words = st.text("abcdéß'ñ語ж", min_size=1, max_size=12)
# WebVTT readers put U+FFFD for the character 0.
odd_words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=90).map(
  lambda text: "".join(text.split()) or "a"
)
any_words = plain_words | odd_words | st.sampled_from(TRAPS)


@st.composite
def a_transcript(draw, texts=any_words, shortest_word=1):
  """Words in order, in segments, at whole milliseconds; an hour may lie between two of them."""
  segments = []
  clock = 0
  gaps = st.integers(0, 900) | st.sampled_from([0, 700, 701, 3_600_000])
  confidences = st.integers(0, 10_000).map(lambda number: number / 10_000)
  for _ in range(draw(st.integers(0, 3))):
    start = clock
    words = []
    for text in draw(st.lists(texts, max_size=15)):
      begin = clock + draw(gaps)
      clock = begin + draw(st.integers(shortest_word, 1200))
      words.append(Word(text, begin / 1000, clock / 1000, draw(confidences)))
    segments.append(Segment(start / 1000, clock / 1000, tuple(words)))
  duration = (clock + draw(st.integers(0, 1000))) / 1000
  return Transcript(draw(st.sampled_from(["a.wav", "b c/d.flac", "é"])), duration, tuple(segments))


def of(*words, duration=100.0):
  """A transcript of one segment from (text, start, end)."""
  return Transcript("a.wav", duration, (Segment(0.0, duration, tuple(Word(*word, 0.5) for word in words)),))


def ms(seconds):
  return round(seconds * 1000)


def clock_ms(clock):
  hours, minutes, seconds = clock.split(":")
  return ms((int(hours) * 60 + int(minutes)) * 60) + ms(float(seconds))


def read_with_webvtt(text, output_format):
  """Cues as (start, end, text), times in milliseconds."""
  captions = (
    webvtt.WebVTT.from_string(text, strict=True)
    if output_format == "vtt"
    else webvtt.from_buffer(io.StringIO(text), format="srt")
  )
  return [(clock_ms(each.start), clock_ms(each.end), each.raw_text) for each in captions]


def read_with_pysubs2(text, output_format):
  return [
    (each.start, each.end, each.plaintext)
    for each in pysubs2.SSAFile.from_string(text, output_format).get_text_events()
  ]


def read_ctm(text):
  """Read a CTM file as NIST's sclite defines it; refuse what the definition does not allow."""
  rows = []
  for line in text.split("\n"):
    if not line.strip() or line.startswith(";;"):
      continue
    name, channel, start, duration, word, *confidence = line.split()
    assert len(confidence) <= 1
    for number in (start, duration, *confidence):
      assert re.fullmatch(r"\d+(\.\d+)?", number)
    rows.append((name, channel, float(start), float(duration), word, *map(float, confidence)))
  assert [row[:3] for row in rows] == sorted(row[:3] for row in rows)
  return rows


# Subtitles.


@pytest.mark.parametrize("output_format", ["srt", "vtt"])
@given(transcript=a_transcript().filter(lambda transcript: transcript.words))
def test_subtitles_are_read_back_by_webvtt_py(output_format, transcript):
  cues = read_with_webvtt(render(transcript, output_format), output_format)
  if output_format == "vtt":
    cues = [(start, end, html.unescape(text)) for start, end, text in cues]
    check_cues(transcript, cues)
  else:
    check_cues(transcript, cues, lambda text: text.replace("-->", "→"))


def check_cues(transcript, cues, as_written=str):
  """Hold cues (start, end, text) against the rules for words that do not overlap, and their texts against the words'."""
  waiting = [(segment, word) for segment in transcript.segments for word in segment.words]
  starts = [*(start for start, _, _ in cues), ms(transcript.duration)]
  for (_, end, text), (start, limit) in zip(cues, itertools.pairwise(starts), strict=True):
    count = len(text.split())
    (segments, words), waiting = zip(*waiting[:count], strict=True), waiting[count:]
    assert text == "\n".join(map(as_written, wrap(words)))
    assert len(wrap(words)) <= 2
    assert start == ms(words[0].start)
    assert end == max(ms(words[-1].end), min(start + transcripts.SHORTEST_CUE_MS, limit))
    assert all(segment is segments[0] for segment in segments)
    assert all(ms(two.start) - ms(one.end) <= 700 for one, two in itertools.pairwise(words))
    assert count == 1 or ms(words[-1].end) - start <= 6000
    # No cue ends earlier than it must.
    if waiting and waiting[0][0] is segments[0]:
      word = waiting[0][1]
      full = len(wrap([*words, word])) > 2
      assert full or ms(word.start) - ms(words[-1].end) > 700 or ms(word.end) - start > 6000
  assert not waiting


def wrap(words):
  """Fill lines as the standard library does."""
  text = " ".join(word.text for word in words)
  return textwrap.wrap(text, 42, break_long_words=False, break_on_hyphens=False)


@pytest.mark.parametrize("output_format", ["srt", "vtt"])
@given(transcript=a_transcript(texts=plain_words))
def test_subtitles_are_read_back_by_pysubs2(output_format, transcript):
  cues = read_with_pysubs2(render(transcript, output_format), output_format)
  check_cues(transcript, cues)


@pytest.mark.parametrize("output_format", ["srt", "vtt"])
@given(data=st.data())
def test_cues_never_overlap_whatever_the_words_do(output_format, data):
  times = st.lists(st.floats(0, 20), min_size=2, max_size=2).map(sorted)
  words = data.draw(st.lists(times, min_size=1, max_size=12))
  transcript = of(*(("a", *each) for each in words), duration=1.0)
  cues = read_with_webvtt(render(transcript, output_format), output_format)
  assert all(start < end for start, end, _ in cues)
  assert all(one[1] <= other[0] for one, other in itertools.pairwise(cues))
  assert " ".join(text for *_, text in cues).split() == ["a"] * len(words)


def test_subtitles_to_the_letter():
  transcript = of(("a<b", 59.9996, 60.2), ("-->", 60.9, 61.1), ("R&B", 3599.9999, 3601.0))
  assert render(transcript, "srt") == (
    "1\n00:01:00,000 --> 00:01:01,100\na<b →\n\n2\n01:00:00,000 --> 01:00:01,000\nR&B\n\n"
  )
  assert render(transcript, "vtt") == (
    "WEBVTT\n\n00:01:00.000 --> 00:01:01.100\na&lt;b --&gt;\n\n01:00:00.000 --> 01:00:01.000\nR&amp;B\n\n"
  )


@pytest.mark.parametrize("output_format", ["srt", "vtt"])
def test_hours_may_have_three_digits(output_format):
  text = render(of(("a", 360_000.001, 3_600_000.0)), output_format)
  assert re.search(r"^100:00:00[,.]001 --> 1000:00:00[,.]000$", text, re.MULTILINE)
  assert read_with_webvtt(text, output_format) == [(360_000_001, 3_600_000_000, "a")]


def test_a_full_screen_ends_a_cue():
  words = [("w" * 13, number / 2, number / 2 + 0.4) for number in range(8)]
  lines = [text.split("\n") for *_, text in read_with_webvtt(render(of(*words), "srt"), "srt")]
  assert [[len(line) for line in cue] for cue in lines] == [[41, 41], [27]]


@pytest.mark.parametrize(("end", "texts"), [(6.5, ["a b"]), (6.501, ["a", "b"])])
def test_six_seconds_end_a_cue(end, texts):
  transcript = of(("a", 0.5, 4.0), ("b", 4.5, end))
  assert [text for *_, text in read_with_webvtt(render(transcript, "srt"), "srt")] == texts


def test_a_word_longer_than_a_line_stands_alone_and_whole():
  transcript = of(("a", 0.0, 0.1), ("x" * 500, 0.2, 3.0), ("b", 3.1, 3.2), ("c", 3.3, 3.4))
  texts = [text for *_, text in read_with_webvtt(render(transcript, "vtt"), "vtt")]
  assert texts == ["a\n" + "x" * 500, "b c"]


def test_a_short_cue_stands_longer_where_there_is_room():
  transcript = of(("a", 0.0, 0.02), ("b", 0.8, 0.9), ("c", 5.0, 5.1), duration=5.3)
  transcript = dataclasses.replace(
    transcript, segments=(*transcript.segments, Segment(5.2, 5.3, (Word("d", 5.2, 5.22, 1.0),)))
  )
  times = [(start, end) for start, end, _ in read_with_webvtt(render(transcript, "srt"), "srt")]
  assert times == [(0, 500), (800, 1300), (5000, 5200), (5200, 5300)]


# Tables.


@given(transcript=a_transcript(shortest_word=0))
@example(of((";;", 0.0, 0.1), (";;a", 0.2, 0.3), ("a;;", 59.9996, 60.2)))
def test_ctm_is_read_back_as_nist_defines_it(transcript):
  rows = read_ctm(render(transcript, "ctm"))
  for (name, channel, start, duration, text, confidence), word in zip(rows, transcript.words, strict=True):
    assert (name, channel) == (transcript.name.replace(" ", "_"), "1")
    assert (ms(start), ms(start + duration)) == (ms(word.start), ms(word.end))
    assert text == ("\\" + word.text if word.text.startswith(";;") else word.text)
    assert confidence == word.confidence


def test_ctm_to_the_letter():
  transcript = of(("ab", 59.9996, 60.0421), ("c", 0.0, 0.02))
  transcript = dataclasses.replace(transcript, name=";; my\tfile")
  assert render(transcript, "ctm") == ("\\;;_my_file 1 0.000 0.020 c 0.5000\n\\;;_my_file 1 60.000 0.042 ab 0.5000\n")
  assert render(dataclasses.replace(transcript, name=""), "ctm").startswith("_ 1 0.000")


@given(transcript=a_transcript(), name=st.text(st.characters(exclude_categories=["Cs"])))
@example(of(("a", 0.0, 1.0)), "a\nb\r\x0b\u2028c\xa0d")
def test_tsv_has_a_row_a_segment_with_words(transcript, name):
  lines = render(dataclasses.replace(transcript, name=name), "tsv").split("\n")
  assert lines.pop() == ""
  rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
  spoken = [segment for segment in transcript.segments if segment.words]
  assert [row["text"] for row in rows] == [segment.text for segment in spoken]
  assert [(float(row["start"]), float(row["end"])) for row in rows] == [(each.start, each.end) for each in spoken]
  assert all(row["file"].split() == name.split() and len(row["file"]) == len(name) for row in rows)


# Text and JSON.


@given(transcript=a_transcript())
def test_text_is_one_line(transcript):
  assert render(transcript, "txt").splitlines() == [transcript.text]
  assert transcript.text.split() == [word.text for word in transcript.words]
  assert transcript.text == " ".join(segment.text for segment in transcript.segments if segment.words)


@given(transcript=a_transcript())
def test_json_holds_the_whole_transcript(transcript):
  text = render(transcript, "json")
  assert text.count("\n") == 1
  form = json.loads(text)
  segments = tuple(
    Segment(part["start"], part["end"], tuple(Word(**word) for word in part["words"])) for part in form["segments"]
  )
  assert Transcript(form["name"], form["duration"], segments) == transcript
  assert form["text"] == transcript.text
  assert [part["text"] for part in form["segments"]] == [segment.text for segment in transcript.segments]
  assert form["confidence"] == (pytest.approx(transcript.confidence, abs=1e-4) if transcript.words else None)


def test_json_to_the_letter():
  assert render(of(("größe", 0.12345, 1.0), duration=2.0), "json") == (
    '{"name": "a.wav", "duration": 2.0, "text": "größe", "confidence": 0.5, "segments": [{"start": 0.0, "end": 2.0, '
    '"text": "größe", "words": [{"start": 0.123, "end": 1.0, "text": "größe", "confidence": 0.5}]}]}\n'
  )


# Several recordings in one stream.


@pytest.mark.parametrize("output_format", transcripts.FORMATS)
@given(transcript=a_transcript())
def test_a_file_is_its_header_and_one_body(output_format, transcript):
  text = render(transcript, output_format)
  assert text == transcripts.header(output_format) + transcripts.body(transcript, output_format)
  assert text == "" or text.endswith("\n")


@pytest.mark.parametrize(
  ("output_format", "expected"),
  [
    ("txt", "my file.wav\ta b\nz.wav\t\na.wav\tc\n"),
    ("tsv", "file\tstart\tend\ttext\nmy file.wav\t0.000\t4.000\ta b\na.wav\t0.000\t4.000\tc\n"),
    ("ctm", "my_file.wav 1 0.000 1.000 a 0.5000\nmy_file.wav 1 1.000 1.000 b 0.5000\na.wav 1 0.000 1.000 c 0.5000\n"),
  ],
)
def test_several_recordings_in_one_stream(output_format, expected):
  heard = [
    dataclasses.replace(of(("a", 0.0, 1.0), ("b", 1.0, 2.0), duration=4.0), name="my\tfile.wav"),
    Transcript("z.wav", 3.0, ()),
    of(("c", 0.0, 1.0), duration=4.0),
  ]
  if output_format == "ctm":
    heard[0] = dataclasses.replace(heard[0], name="my file.wav")
  bodies = [transcripts.body(each, output_format, joined=True) for each in heard]
  assert transcripts.header(output_format) + "".join(bodies) == expected


def test_json_of_several_recordings_is_json_lines():
  heard = [of(("a", 0.0, 1.0)), Transcript("b.wav", 0.0, ())]
  lines = "".join(transcripts.body(each, "json", joined=True) for each in heard).splitlines()
  assert [json.loads(line)["name"] for line in lines] == ["a.wav", "b.wav"]


@pytest.mark.parametrize("output_format", sorted(set(transcripts.FORMATS) - set(transcripts.JOINABLE)))
def test_what_holds_one_recording_refuses_several(output_format):
  with pytest.raises(ValueError, match=f"{output_format} holds one recording; several .* txt, json, tsv, ctm"):
    transcripts.body(of(), output_format, joined=True)


@pytest.mark.parametrize("write", [transcripts.header, lambda name: transcripts.body(of(), name)])
def test_an_unknown_format_is_refused(write):
  with pytest.raises(ValueError, match="no format 'doc'; give one of txt, json, srt, vtt, tsv, ctm"):
    write("doc")


# What a transcript is.


@pytest.mark.parametrize(
  ("output_format", "expected"),
  [("txt", "\n"), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "file\tstart\tend\ttext\n"), ("ctm", "")],
)
@pytest.mark.parametrize("segments", [(), (Segment(0.0, 1.0, ()),)])
def test_nothing_heard(output_format, expected, segments):
  transcript = Transcript("a.wav", 1.0, segments)
  assert render(transcript, output_format) == expected
  assert (transcript.text, transcript.words, transcript.confidence) == ("", (), None)


def test_a_transcripts_confidence_is_the_mean_of_its_words():
  segments = [Segment(0.0, 1.0, (Word("a", 0.0, 0.5, 0.2), Word("b", 0.5, 1.0, 0.6))), Segment(1.0, 2.0, ())]
  segments.append(Segment(2.0, 3.0, (Word("c", 2.0, 2.0, 1.0),)))
  assert Transcript("a.wav", 3.0, tuple(segments)).confidence == pytest.approx(0.6)


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "\u2028a", "a\xa0b"])
def test_a_word_without_text_or_with_white_space_is_refused(text):
  with pytest.raises(ValueError, match="a word is not empty and has no white space"):
    Word(text, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_word_outside_time_is_refused(start, end):
  with pytest.raises(ValueError, match="the word 'a' is said to last from"):
    Word("a", start, end, 1.0)


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_a_confidence_outside_0_to_1_is_refused(confidence):
  with pytest.raises(ValueError, match="the word 'a' has the confidence"):
    Word("a", 0.0, 1.0, confidence)


def test_the_module_stands_alone():
  program = "import sys, transcripts; print(sorted({'tensorflow', 'numpy', 'decoder'} & sys.modules.keys()))"
  root = transcripts.__file__.rpartition("/")[0]
  shown = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
  assert shown.stdout == "[]\n"
