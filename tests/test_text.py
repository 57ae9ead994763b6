"""Tests the normalisation of transcripts."""

import os

import hypothesis
import pytest
from hypothesis import strategies as st

from data.corpora.text import Normalizer, spell_number
from data.featurizer import TextFeaturizer

VOCABULARY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "vocabulary.txt")
ENGLISH = TextFeaturizer(VOCABULARY).characters


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("already plain", "already plain"),
    ("Hello, World!", "hello world"),
    ("Café naïve façade Ångström", "cafe naive facade angstrom"),
    ("cafe\u0301", "cafe"),
    ("straße œuvre Ærø Łódź", "strasse oeuvre aero lodz"),
    ("ﬁne ﬂow", "fine flow"),
    ("don\u2019t I\u02bcm it`s", "don't i'm it's"),
    ("'quoted words' \u2018here\u2019 and dogs' 'tis", "quoted words here and dogs tis"),
    ("rock 'n' roll", "rock n roll"),
    ("well-known \u2014 half\u2013way \u2212", "well known half way"),
    ("one,two", "one two"),
    ("U.S. e.g.", "u s e g"),
    ("a\u00a0b\u200bc\ufeff\td\u2028e", "a bc d e"),
    ("“Quoted” «text» … (sic) [x]", "quoted text sic x"),
    ("ＦＵＬＬ", "full"),
    ("İstanbul", "istanbul"),
  ],
)
def test_brings_text_to_the_vocabulary(text, expected):
  assert Normalizer(ENGLISH)(text, "here") == expected


@pytest.mark.parametrize(
  ("text", "problem"),
  [
    ("in 1984", "digits"),
    ("① and ½", "digits"),
    ("", "nothing is said"),
    (" ... -- ''' ", "nothing is said"),
    ("a €", "characters €"),
    ("r & b", "characters &"),
    ("and/or", "characters /"),
    ("привет", "characters веипрт"),
    ("50%", "digits"),
    ("x = y", "characters ="),
  ],
)
def test_leaves_out_what_cannot_be_told(text, problem):
  normalizer = Normalizer(ENGLISH)
  assert normalizer(text, "here") is None
  assert normalizer.normalize(text).problem == problem


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("7 of 12,500 in 1984.", "seven of twelve thousand five hundred in one thousand nine hundred eighty four"),
    ("0 and 20 and 21 and 100 and 115", "zero and twenty and twenty one and one hundred and one hundred fifteen"),
    ("(42)", "forty two"),
    ("Apollo-13", "apollo thirteen"),
    ("3.5", None),
    ("12:30", None),
    ("1st", None),
    ("007", None),
    ("1/2", None),
    ("5%", None),
    ("$5", None),
    ("F16", None),
    ("1,23", None),
    ("1" * 16, None),
  ],
)
def test_spells_whole_numbers_and_nothing_else(text, expected):
  assert Normalizer(ENGLISH, digits="spell")(text, "here") == expected


@pytest.mark.parametrize(
  ("number", "words"),
  [
    (0, "zero"),
    (10, "ten"),
    (90, "ninety"),
    (101, "one hundred one"),
    (1000, "one thousand"),
    (1_000_001, "one million one"),
    (40_012_300, "forty million twelve thousand three hundred"),
    (999 * 10**12, "nine hundred ninety nine trillion"),
  ],
)
def test_spells_numbers(number, words):
  assert spell_number(number) == words


def test_every_number_below_a_million_has_a_name_of_its_own():
  names = {spell_number(number) for number in [*range(2000), *range(2000, 10**6, 997)]}
  assert len(names) == 2000 + len(range(2000, 10**6, 997))


def test_letters_of_the_vocabulary_stay():
  spanish = frozenset(" aábcdeénñouú-")
  normalizer = Normalizer(spanish)
  assert normalizer("Bañé – a-b don’t".replace("t", ""), "here") == "bañé a-b don"
  assert normalizer("cane\u0301", "here") == "cané"


def test_counts_what_it_changed_and_left_out():
  normalizer = Normalizer(ENGLISH)
  for text in ("plain", "Upper", "Up-per", "no. 7", "é", "a=b", "a=c"):
    normalizer(text, "here")
  assert normalizer.total == 7
  assert normalizer.changed == {"lower-cased": 2, "hyphens opened": 1, "letters made plain": 1}
  assert normalizer.dropped == {"digits": 1, "characters =": 2}
  for words in ("transcripts: 7", "2 lower-cased", "2 with characters =", "1 with digits"):
    assert words in normalizer.report()
  with pytest.raises(ValueError, match="guess"):
    Normalizer(ENGLISH, digits="guess")


def test_names_the_first_few_that_it_left_out_for_each_reason():
  normalizer = Normalizer(ENGLISH)
  for number, text in enumerate(
    [" in 1984\n", "a=b", *(f"no. {number}" for number in range(9)), "fine", "x" * 99 + "="]
  ):
    normalizer(text, f"t.csv, row {number}")
  assert normalizer.examples() == [
    "t.csv, row 0: digits in 'in 1984'",
    "t.csv, row 2: digits in 'no. 0'",
    "t.csv, row 3: digits in 'no. 1'",
    "t.csv, row 1: characters = in 'a=b'",
    f"t.csv, row 12: characters = in '{'x' * 60}'",
  ]


@hypothesis.given(text=st.text(max_size=30) | st.text(alphabet="abé'’- 12,.½ß", max_size=20), spell=st.booleans())
def test_what_comes_out_is_in_the_vocabulary_and_stays_as_it_is(text, spell):
  normalizer = Normalizer(ENGLISH, digits="spell" if spell else "drop")
  result = normalizer.normalize(text)
  assert (result.text is None) == bool(result.problem)
  if result.text is not None:
    assert result.text and set(result.text) <= ENGLISH
    assert result.text == " ".join(result.text.split())
    assert normalizer.normalize(result.text) == (result.text, frozenset(), None)
