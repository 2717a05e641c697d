"""Strings in one block of memory behave like a list of the same strings."""

import pickle
import sys

import pytest

from tlkit.base.files import Texts, taken

NAMES = ["a/b.png", "", "ä/ç 猫.jpg", "no \udcff utf-8", "lone \ud800", "a/b.png"]


def test_what_was_put_in_comes_out():
    found = Texts.of(iter(NAMES))
    assert list(found) == NAMES and found == NAMES and found == NAMES and found != NAMES[1:]
    assert [found[place] for place in range(-6, 6)] == NAMES + NAMES
    assert found[1:5:2] == NAMES[1:5:2] and isinstance(found[::-1], Texts) and found[::-1] == NAMES[::-1]
    assert taken(found, [5, 2]) == [NAMES[5], NAMES[2]] and taken(NAMES, [2]) == [NAMES[2]]
    assert pickle.loads(pickle.dumps(found)) == NAMES and Texts.of(found) is found
    assert "ä/ç 猫.jpg" in found and not Texts.of([]) and repr(found).startswith("<6 texts: 'a/b.png'")
    with pytest.raises(IndexError):
        found[6]


def test_they_take_less_than_half_the_room():
    names = [f"class{i % 10:04}/image{i:08}.png" for i in range(1000)]
    found = Texts.of(names)
    room = sys.getsizeof(found.content) + found.ends.buffer_info()[1] * found.ends.itemsize
    assert room < 0.5 * sum(sys.getsizeof(name) + 8 for name in names)
