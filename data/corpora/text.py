"""Brings the transcripts of any corpus to a vocabulary, and counts what was changed and what had to be left out."""

import collections
import re
import unicodedata
from typing import NamedTuple

# How many reasons a report names, and how many transcripts for each of them, with so many of their characters.
SHOWN = 8
SHOWN_EACH = 3
SHOWN_CHARACTERS = 60
DIGIT_RULES = ("drop", "spell")
APOSTROPHES = "'\u2018\u2019\u201b\u02bc\u02b9\u00b4`\uff07"
# All that Unicode calls a dash, and the minus.
HYPHENS = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
# Unicode counts these as punctuation, but readers say them aloud, each in their own way.
SPOKEN_SIGNS = "&%@#*/\\§†‡‰"
# Letters that no decomposition makes plain.
PLAIN_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
# Whole numbers as one writes them, with or without commas, that are no part of a time, a fraction or a name.
NUMBER = re.compile(r"(?<![\w.,:/'$£€])(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*|0)(?![\w%]|[.,:/'-]\d)")
SMALL_NUMBERS = [
  "zero",
  "one",
  "two",
  "three",
  "four",
  "five",
  "six",
  "seven",
  "eight",
  "nine",
  "ten",
  "eleven",
  "twelve",
  "thirteen",
  "fourteen",
  "fifteen",
  "sixteen",
  "seventeen",
  "eighteen",
  "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
THOUSANDS = ("", "thousand", "million", "billion", "trillion")


class Normalized(NamedTuple):
  """A transcript in the vocabulary.

  Attributes:
    text: the transcript; None if it cannot be written in the vocabulary.
    changes: the kinds of changes made.
    problem: why it cannot.
  """

  text: str | None
  changes: frozenset[str] = frozenset()
  problem: str | None = None


class Normalizer:
  """Brings transcripts to a vocabulary and keeps count.

  Attributes:
    changed: kind of change -> number of transcripts.
    dropped: reason -> number of transcripts.
    dropped_first: reason -> the first few transcripts, each with its place.
    total: number of transcripts seen.
  """

  def __init__(self, characters: frozenset[str], digits: str = "drop"):
    """Set the rules.

    Args:
      characters: those that a transcript may hold.
      digits: "drop" to leave out transcripts with digits, since nobody knows how they were read; "spell" to write
        whole numbers in English words, as one counts: 1984 becomes "one thousand nine hundred eighty four".
    """
    if digits not in DIGIT_RULES:
      raise ValueError(f"digits is {digits!r}; it must be one of {', '.join(DIGIT_RULES)}")
    self.characters = characters
    self.spells_digits = digits == "spell"
    self.changed: collections.Counter[str] = collections.Counter()
    self.dropped: collections.Counter[str] = collections.Counter()
    self.dropped_first: dict[str, list[str]] = collections.defaultdict(list)
    self.total = 0

  def __call__(self, text: str, place: str) -> str | None:
    """Return the transcript in the vocabulary, or None if it has to be left out; count either.

    Args:
      text: the transcript.
      place: where it stands.
    """
    self.total += 1
    normalized = self.normalize(text)
    if normalized.problem:
      self.dropped[normalized.problem] += 1
      examples = self.dropped_first[normalized.problem]
      if len(examples) < SHOWN_EACH:
        examples.append(f"{place}: {normalized.problem} in {text.strip()[:SHOWN_CHARACTERS]!r}")
    else:
      self.changed.update(normalized.changes)
    return normalized.text

  def normalize(self, text: str) -> Normalized:
    """Bring a transcript to the vocabulary without counting it."""
    changes = set()
    lower = unicodedata.normalize("NFC", text.lower())
    if lower != unicodedata.normalize("NFC", text):
      changes.add("lower-cased")
    if self.spells_digits and (spelled := NUMBER.sub(_spell_match, lower)) != lower:
      changes.add("numbers spelled")
      lower = spelled
    plain = "".join(self._plain(character, changes) for character in lower)
    inside = re.sub(r"(?<!\w)'+|'+(?!\w)", "", plain)
    if inside != plain:
      changes.add("apostrophes mended")
    plain = " ".join(inside.split())
    if not plain:
      return Normalized(None, problem="nothing is said")
    if unknown := set(plain) - self.characters:
      problem = "digits" if any(map(str.isdigit, unknown)) else f"characters {''.join(sorted(unknown))}"
      return Normalized(None, problem=problem)
    return Normalized(plain, frozenset(changes))

  def report(self) -> str:
    """Say in a line what was changed and what was left out."""
    changed = ", ".join(f"{count} {kind}" for kind, count in self.changed.most_common()) or "none"
    reasons = [f"{count} with {kind}" for kind, count in self.dropped.most_common()]
    if len(reasons) > SHOWN:
      reasons[SHOWN:] = [f"and for {len(reasons) - SHOWN} more reasons"]
    return f"transcripts: {self.total}; changed: {changed}; left out: {', '.join(reasons) or 'none'}"

  def examples(self) -> list[str]:
    """List the first few transcripts that were left out for each of the most frequent reasons."""
    return [example for reason, _ in self.dropped.most_common(SHOWN) for example in self.dropped_first[reason]]

  def _plain(self, character: str, changes: set[str]) -> str:
    """Find what stands for a character in the vocabulary; it is returned as it is if nothing does."""
    if character in self.characters:
      return character
    if character in APOSTROPHES:
      changes.add("apostrophes mended")
      return "'" if "'" in self.characters else ""
    if character in HYPHENS:
      changes.add("hyphens opened")
      return " "
    if character.isspace():
      return " "
    if character.isdigit() and character.isascii():
      return character
    category = unicodedata.category(character)
    if category.startswith("P") and character not in SPOKEN_SIGNS:
      changes.add("punctuation removed")
      return " "
    if category in ("Cf", "Cc"):
      return ""
    return self._decompose(character, changes)

  def _decompose(self, character: str, changes: set[str]) -> str:
    """Take accents off a letter, and take ligatures and the like apart."""
    parts = PLAIN_LETTERS.get(character) or unicodedata.normalize("NFKD", character).lower()
    bare = "".join(part for part in parts if not unicodedata.combining(part))
    if bare == character:
      return character
    changes.add("letters made plain")
    return "".join(self._plain(part, changes) for part in bare)


def spell_number(number: int) -> str:
  """Write a whole number from 0 to 999,999,999,999,999 in English words, without hyphens."""
  if number == 0:
    return SMALL_NUMBERS[0]
  words = []
  for power, name in reversed(list(enumerate(THOUSANDS))):
    group = number // 1000**power % 1000
    if group:
      words += [*_spell_below_thousand(group), *filter(None, [name])]
  return " ".join(words)


def _spell_below_thousand(number: int) -> list[str]:
  """Write a number from 1 to 999 in words."""
  hundreds, rest = divmod(number, 100)
  words = [SMALL_NUMBERS[hundreds], "hundred"] if hundreds else []
  if rest >= 20:
    words.append(TENS[rest // 10 - 2])
    rest %= 10
  return words + [SMALL_NUMBERS[rest]] if rest else words


def _spell_match(match: re.Match) -> str:
  """Spell a number that was found, if it is not too long for a name."""
  digits = match.group().replace(",", "")
  return spell_number(int(digits)) if len(digits) <= 3 * len(THOUSANDS) else match.group()
