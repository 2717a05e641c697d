import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.extraction import room
from tlkit.extraction.room import list_spaces, make_room, remove_until
from tlkit.extraction.store import Appender, open_space

ROWS = 1000  # of 1000 bytes: a space of about a megabyte


def fill(name, used):
    """A space of about a megabyte, used last at `used` seconds since 1970."""
    space = open_space({"output": name})
    with Appender(space) as appender:
        appender.append(
            np.random.default_rng(0).integers(0, 256, (ROWS, 32), np.uint8), np.zeros((ROWS, 250), np.float32)
        )
    os.utime(space.folder / "lease", (used, used))
    return space


def names():
    return [space.description["output"] for space in list_spaces()]


@pytest.fixture
def spaces(empty_cache, monkeypatch):
    for name, used in (("b", 2000), ("a", 1000), ("c", 3000)):
        fill(name, used)
    gc.collect()
    monkeypatch.setenv("TLKIT_CACHE_BYTES", "4MB")


def test_the_least_recently_used_go_first_and_only_as_many_as_must(spaces, capsys):
    assert names() == ["a", "b", "c"]
    make_room(900_000, PlainStory())
    assert names() == ["a", "b", "c"] and capsys.readouterr().err == ""
    make_room(1_500_000, PlainStory())
    assert names() == ["b", "c"] and "1.0 MB of features" in capsys.readouterr().err
    make_room(3_000_000, PlainStory())
    assert names() == ["c"]


def test_what_is_in_use_stays_and_it_is_said(spaces, capsys):
    kept = open_space({"output": "a"})
    os.utime(kept.folder / "lease", (1000, 1000))
    make_room(4_000_000, PlainStory())
    assert names() == ["a"]
    assert "all of it is in use" in capsys.readouterr().err


def test_more_than_the_disk_has_is_refused(spaces, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda folder: 10_000)
    with pytest.raises(TlkitError, match=r"disk has 0\.0 MB free") as caught:
        make_room(20_000, PlainStory())
    assert "--stored-as float16" in caught.value.hint


WRITER = """
import sys
import numpy as np
from tlkit.extraction.store import Appender, look_up, open_space
number = int(sys.argv[1])
for round in range(25):
    space = open_space({"output": "shared"})
    keys = np.random.default_rng((number, round)).integers(0, 256, (20, 32), np.uint8)
    with Appender(space) as appender:
        appender.append(keys, np.full((20, 250), number, np.float32))
    assert (look_up(space, keys)[np.arange(20)] == number).all()
    del space
"""


def test_two_processes_that_append_and_one_that_removes_never_disturb_each_other(empty_cache):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, number]) for number in "12"]
    gone = 0
    while any(process.poll() is None for process in writers):
        gone += len(remove_until(list_spaces(), 1, 0))
    assert [process.returncode for process in writers] == [0, 0]
    assert gone, "they were never disturbed"
    assert not list((empty_cache / "features").glob(".removed-*"))
