"""Tests how augmentations are written, read, refused and drawn."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.augmentation.augmenter import KINDS
from data.augmentation.parameters import Draw, Range, Strength, describe, parse
from data.augmentation.waveforms import Gain, Noise, Shift
from official_utils.misc.errors import UserError

numbers = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:g}"))
ranges = st.tuples(numbers, numbers).map(sorted).map(lambda pair: Range(*pair))


@pytest.mark.parametrize(
  ("text", "start", "end"),
  [
    ("0.5", (0.5, 0.5), (0.5, 0.5)),
    ("-4..4", (-4, 4), (-4, 4)),
    ("0:1", (0, 0), (1, 1)),
    ("1..2:3..4.5", (1, 2), (3, 4.5)),
    ("1:-2..-1", (1, 1), (-2, -1)),
    ("1...5e2", (1, 50), (1, 50)),
  ],
)
def test_strengths_are_read(text, start, end):
  strength = Strength.parse(text)
  assert strength == (start, end)
  assert strength.lowest == min(start[0], end[0])
  assert strength.highest == max(start[1], end[1])


@pytest.mark.parametrize("text", ["", "x", "2..1", "1..", "..", ":", "1:2:3", "nan", "inf", "1..inf", "1..2..3"])
def test_what_is_no_strength_is_refused(text):
  with pytest.raises(ValueError):
    Strength.parse(text)


@hypothesis.given(start=ranges, end=ranges)
def test_strengths_are_written_as_they_are_read(start, end):
  assert Strength.parse(str(Strength(start, end))) == Strength(start, end)


def test_strengths_move_linearly():
  strength = Strength.parse("0..10:10..40")
  assert [strength.at(progress) for progress in (0, 0.5, 1)] == [(0, 10), (5, 25), (10, 40)]


def test_parameters_are_read():
  assert parse("shift", KINDS) == Shift() == parse("shift[]", KINDS)
  assert parse(" shift[ ms = -1..2 , p = 0:0.5 ]", KINDS) == Shift(Strength.parse("0:0.5"), Strength.parse("-1..2"))
  assert parse("noise[color=pink,mix=0.1..0.2]", KINDS) == Noise(color="pink", mix=Strength.parse("0.1..0.2"))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "cannot be read; give NAME or NAME[KEY=VALUE,...], such as shift[ms=-250..250]"),
    ("shift(ms=3)", "--augment=shift(ms=3) cannot be read"),
    ("shift[ms=3", "cannot be read"),
    ("echo", f"--augment=echo: 'echo' does not exist; give one of {', '.join(KINDS)}"),
    ("gain[level=3]", "--augment=gain[level=3]: gain has no parameter 'level'; it has p, db"),
    ("gain[3]", "gain has no parameter '3'; it has p, db"),
    ("gain[db=3,db=4]", "db is given twice"),
    ("gain[db=loud]", "db=loud is out of range; give a number from -60 to 60, a range MIN..MAX, or START:END"),
    ("gain[db=0..61]", "db=0..61 is out of range"),
    ("gain[db=]", "db= is out of range"),
    ("gain[p=2]", "p=2 is out of range; give a number from 0 to 1"),
    ("gain[p=0..1]", "p is a share, not a range; give one number, such as p=0.5"),
    ("noise[color=red]", "color=red is out of range; give one of white, pink, brown"),
    ("noise[snr=3,mix=0.1]", "--augment=noise has both snr and mix; leave one out"),
    ("noise[dir=.,color=pink]", "has both dir and color"),
    ("noise[dir=]", "dir= is out of range; give a name"),
    ("noise[dir=/no/such/folder]", "/no/such/folder: there is no such folder of recordings; correct dir="),
    ("band[low=3000..4000]", "--augment=band[low=3000..4000,high=3400]: low must stay below high"),
  ],
)
def test_mistakes_are_said_in_a_line(text, message):
  with pytest.raises(UserError) as caught:
    parse(text, KINDS)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


def test_every_parameter_of_every_kind_is_described():
  for name, kind in KINDS.items():
    lines = describe(kind)
    assert lines[0].startswith(f"{name}: ") and lines[0].endswith(".")
    assert [line.split()[0] for line in lines[1:]] == [field.name for field in dataclasses.fields(kind)]
    assert all(line.endswith(".") for line in lines)
    # Defaults lie within the limits.
    given = [f"{field.name}={field.default}" for field in dataclasses.fields(kind) if field.default is not None]
    assert parse(f"{name}[{','.join(given)}]", KINDS) == kind()


def draws(augmentation, progress=0.0, count=2000) -> list[Draw]:
  return [Draw(augmentation, (1, number), progress, 100) for number in range(count)]


def test_numbers_fill_their_range_evenly():
  values = np.array([draw.number("db") for draw in draws(Gain(db=Strength.parse("-2..2:0..8")), 0.5)])
  assert values.min() >= -1 and values.max() <= 5
  np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [0.5, 2, 3.5], atol=0.2)


def test_whole_numbers_count_both_ends():
  values = [draw.whole("db") for draw in draws(Gain(db=Strength.parse("1..3")))]
  np.testing.assert_allclose(np.bincount(values) / len(values), [0, 1 / 3, 1 / 3, 1 / 3], atol=0.05)
  assert {draw.whole("db") for draw in draws(Gain(db=Strength.parse("2")), count=50)} == {2}
  assert {draw.whole("db", scale=2, most=3) for draw in draws(Gain(db=Strength.parse("0..9")))} == {0, 1, 2, 3}
  # Between whole numbers, the nearer one is drawn more often.
  halfway = [draw.whole("db") for draw in draws(Gain(db=Strength.parse("0:1")), 0.25)]
  assert np.mean(halfway) == pytest.approx(0.25, abs=0.04)


def test_what_was_drawn_is_kept():
  draw = Draw(Gain(), (1,), 0.0, 100)
  draw.note("file", "a.wav")
  level = draw.number("db")
  assert draw.drawn == [("file", "a.wav"), ("db", level)]


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_the_share_is_kept_and_changes_no_other_draw(share):
  augmentation = Gain(p=Strength.parse(f"{share}"))
  assert np.mean([draw.happens for draw in draws(augmentation)]) == pytest.approx(share, abs=0.03)
  assert draws(augmentation, count=1)[0].number("db") == draws(Gain(), count=1)[0].number("db")
