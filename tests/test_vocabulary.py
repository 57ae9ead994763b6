"""Tries the text of a vocabulary, and what transcripts need of the network."""

import pytest

from data import vocabulary
from official_utils.misc.errors import UserError


def test_labels_are_written_as_they_are_read(tmp_path):
  path = str(tmp_path / "v.txt")
  vocabulary.write_vocabulary(path, [" ", "ą", "'", "-"])
  assert vocabulary.read_vocabulary(path) == [" ", "ą", "'", "-"]
  for label in ("#", "ab", "\n"):
    with pytest.raises(ValueError, match="cannot hold the label"):
      vocabulary.write_vocabulary(path, ["a", label])


@pytest.mark.parametrize("last", ["z", "ß", "7", " ", "'"])
def test_a_vocabulary_without_a_blank_is_refused(last):
  with pytest.raises(UserError, match="v.txt: the last line is .*add a line with a sign"):
    vocabulary.check_blank(["a", last], "v.txt")
  vocabulary.check_blank(["a", last, "-"], "v.txt")
  vocabulary.check_blank(["a", last, "ε"], "v.txt")


def test_transcripts_may_hold_all_but_the_blank(tmp_path):
  path = str(tmp_path / "v.txt")
  vocabulary.write_vocabulary(path, ["a", "b", "-"])
  assert vocabulary.read_transcript_characters(path) == {"a", "b"}
  vocabulary.write_vocabulary(path, ["a", "b"])
  with pytest.raises(UserError, match="the last line is 'b'"):
    vocabulary.read_transcript_characters(path)


@pytest.mark.parametrize(("transcript", "steps"), [("", 0), ("ab", 2), ("aab", 4), ("aaa", 5)])
def test_a_shortage_is_described(transcript, steps):
  assert vocabulary.describe_shortage(transcript, steps) is None
  if steps:
    assert f"need {steps} output steps; the audio gives {steps - 1}" in vocabulary.describe_shortage(
      transcript, steps - 1
    )


def test_letters_are_the_same_however_they_are_composed(tmp_path):
  path = tmp_path / "v.txt"
  path.write_text("a\u0308\nß\n-\n", encoding="utf-8")
  assert vocabulary.read_vocabulary(str(path)) == ["ä", "ß", "-"]
  assert vocabulary.normalize_text(" A\u0308ß ") == "äß"
