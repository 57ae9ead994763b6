"""The characters that transcripts are made of: their file, their order, and the form that transcripts take."""

import operator
import os
import unicodedata
from collections.abc import Sequence

from official_utils.misc import files
from official_utils.misc.errors import UserError

DEFAULT_VOCABULARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vocabulary.txt")


def read_vocabulary(path: str) -> list[str]:
  """Read a vocabulary: one character a line, the last one standing for the blank; lines that begin with # are comments.

  Args:
    path: the file.

  Returns:
    The characters in the order of their ids.
  """
  try:
    with open(path, encoding="utf-8-sig", newline="\n") as file:
      lines = [unicodedata.normalize("NFC", line).removesuffix("\n").removesuffix("\r") for line in file]
  except OSError as error:
    raise UserError(f"{path}: cannot read the vocabulary ({error.strerror}); check --vocabulary_file") from error
  except UnicodeDecodeError as error:
    raise UserError(f"{path}: the vocabulary is not UTF-8 text ({error}); check --vocabulary_file") from error

  line_of: dict[str, int] = {}
  for number, token in enumerate(lines, start=1):
    if token.startswith("#"):
      continue
    if not token:
      raise UserError(f"{path}, line {number}: is empty; remove it, or write one space if the space is meant")
    if len(token) > 1:
      raise UserError(f"{path}, line {number}: {token!r} has {len(token)} characters; write one a line")
    if token in line_of:
      raise UserError(f"{path}, line {number}: {token!r} stands in line {line_of[token]} already; remove one")
    line_of[token] = number
  if len(line_of) < 2:
    raise UserError(
      f"{path}: the vocabulary has {len(line_of)} characters; it needs those of the transcripts, one a line, "
      "and after them one for the blank"
    )
  return list(line_of)


def write_vocabulary(path: str, labels: Sequence[str]) -> None:
  """Write labels in the order of their ids, so that `read_vocabulary` reads them again."""
  unreadable = [label for label in labels if len(label) != 1 or label in "#\r\n"]
  if unreadable:
    raise ValueError(f"a vocabulary file cannot hold the label {unreadable[0]!r}")
  files.write_atomically(path, "".join(f"{label}\n" for label in labels))


def check_blank(labels: Sequence[str], path: str) -> None:
  """Refuse a vocabulary that seems to lack the line of the blank: its last letter would never be heard.

  Args:
    labels: the characters in the order of their ids.
    path: the file that they come from.
  """
  is_sign = labels[-1] == "ε" or not (labels[-1].isalnum() or labels[-1].isspace() or labels[-1] == "'")
  if not is_sign:
    raise UserError(
      f"{path}: the last line is {labels[-1]!r}, and the last line stands for the blank of CTC, not for a character of "
      "the transcripts; add a line with a sign that no transcript has, such as -"
    )


def read_transcript_characters(path: str) -> frozenset[str]:
  """Read a vocabulary of which the blank is checked, and return what transcripts may hold: all but the blank's."""
  labels = read_vocabulary(path)
  check_blank(labels, path)
  return frozenset(labels[:-1])


def normalize_text(text: str) -> str:
  """Bring a transcript to the form that labels are made of: lower case, without space around it."""
  return unicodedata.normalize("NFC", text.lower()).strip()


def steps_needed(transcript: str) -> int:
  """Count the output steps that CTC needs: one a label, and a blank between equal neighbours."""
  return len(transcript) + sum(map(operator.eq, transcript, transcript[1:]))


def describe_shortage(transcript: str, num_steps: int) -> str | None:
  """Say why CTC cannot align a transcript with so many output steps; None if it can.

  Args:
    transcript: in the form that labels are made of.
    num_steps: output steps of the network.
  """
  needed = steps_needed(transcript)
  if needed <= num_steps:
    return None
  return (
    f"{len(transcript)} labels, {needed - len(transcript)} of them doubled, need {needed} output steps; "
    f"the audio gives {num_steps}"
  )
