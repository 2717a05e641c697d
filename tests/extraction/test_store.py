import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import traced
from tlkit.base.errors import TlkitError
from tlkit.extraction.shards import MANY
from tlkit.extraction.store import Appender, look_up, open_space


def keys(*numbers):
    """sha256-like rows that share their first byte, so that only the rest distinguishes them."""
    rows = np.zeros((len(numbers), 32), np.uint8)
    rows[:, 7] = numbers
    rows[:, 31] = numbers
    return rows


@pytest.fixture
def space(empty_cache):
    return open_space({"weights": "w", "output": "grid"})


def test_rows_come_back_under_their_keys_in_any_order(space):
    values = np.random.default_rng(0).random((5, 2, 3), dtype=np.float32)
    with Appender(space) as appender:
        appender.append(keys(0, 1, 2), values[:3])
        appender.flush()
        appender.append(keys(3, 4), values[3:])
    found = look_up(space, keys(4, 0, 2, 4))
    assert not found.lacking.any()
    np.testing.assert_array_equal(found[np.arange(4)], values[[4, 0, 2, 4]])
    np.testing.assert_array_equal(found.select(np.array([2, 1]))[np.arange(2)], values[[2, 0]])


def test_what_was_never_stored_is_lacking_and_cannot_be_read(space):
    with Appender(space) as appender:
        appender.append(keys(1), np.ones((1, 4), np.float32))
    found = look_up(space, keys(1, 2))
    assert found.lacking.tolist() == [False, True]
    with pytest.raises(KeyError):
        found[np.array([1])]
    assert len(found.present()) == 1


def test_the_first_eight_bytes_alone_are_no_match(space):
    with Appender(space) as appender:
        appender.append(keys(1), np.ones((1, 4), np.float32))
    near = keys(1)
    near[0, 31] = 99
    assert look_up(space, near).lacking.all()


def test_a_shard_without_ids_and_temporary_leftovers_do_not_exist(space):
    with Appender(space) as appender:
        appender.append(keys(1), np.ones((1, 4), np.float32))
    np.save(space.folder / "half.npy", np.zeros((9, 4), np.float32))
    (space.folder / ".tmp-0000-x.ids").write_bytes(keys(2).tobytes())
    assert look_up(space, keys(1, 2)).lacking.tolist() == [False, True]


def test_two_writers_do_not_disturb_each_other(space):
    with Appender(space) as one, Appender(space) as other:
        one.append(keys(1), np.full((1, 4), 1, np.float32))
        other.append(keys(2), np.full((1, 4), 2, np.float32))
        other.append(keys(1), np.full((1, 4), 1, np.float32))
    found = look_up(space, keys(1, 2))
    assert found[np.arange(2)][:, 0].tolist() == [1, 2]


def test_an_exception_loses_no_finished_row(space):
    with pytest.raises(RuntimeError), Appender(space) as appender:
        appender.append(keys(1), np.ones((1, 4), np.float32))
        raise RuntimeError
    assert not look_up(space, keys(1)).lacking.any()


def test_another_description_is_another_space(space):
    assert open_space({"weights": "w", "output": "grid"}).folder == space.folder
    assert open_space({"weights": "v", "output": "grid"}).folder != space.folder


def test_a_store_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(TlkitError, match="cannot be written") as caught:
        open_space({})
    assert "TLKIT_CACHE" in caught.value.hint


def test_values_beyond_half_precision_are_refused_and_never_stored_as_infinity(empty_cache):
    space = open_space({"output": "grid", "stored": "float16"})
    with (
        pytest.raises(TlkitError, match="grid gives 70000, and float16 holds 65504") as caught,
        Appender(space) as appender,
    ):
        appender.append(keys(1), np.array([[1.0, 65504.0]], np.float32))
        appender.append(keys(2), np.array([[1.0, 70000.0]], np.float32))
    assert "--stored-as float32" in caught.value.hint
    found = look_up(space, keys(1, 2))
    assert found.lacking.tolist() == [False, True]
    assert found[np.array([0])].tolist() == [[1.0, 65504.0]]


def test_many_small_steps_become_few_files_and_lose_nothing(space):
    values = np.random.default_rng(0).random((100, 5), dtype=np.float32)
    names = np.random.default_rng(1).integers(0, 256, (100, 32), dtype=np.uint8)
    for i in range(100):
        with Appender(space) as appender:
            appender.append(names[i : i + 1], values[i : i + 1])
    assert len(list(space.folder.glob("*.idx"))) == len(list(space.folder.glob("*.npy"))) < 40
    found = look_up(space, names)
    np.testing.assert_array_equal(found[np.arange(100)], values)


def test_rows_are_still_read_while_their_shards_are_joined_into_another(space):
    def add(number):
        with Appender(space) as appender:
            appender.append(keys(number), np.full((1, 4), number, np.float32))

    for number in range(MANY - 1):
        add(number)
    before = look_up(space, keys(*range(MANY - 1)))
    add(MANY - 1)
    assert len(list(space.folder.glob("*.idx"))) == 1
    assert before[np.arange(MANY - 1)][:, 0].tolist() == list(range(MANY - 1))


def test_a_damaged_shard_does_not_exist(space):
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:200]), lambda path: path.unlink()):
        with Appender(space) as appender:
            appender.append(keys(1), np.ones((1, 400), np.float32))
        [path] = space.folder.glob("*.npy")
        damage(path)
        assert look_up(space, keys(1)).lacking.all()
        assert not list(space.folder.glob("*.npy")) and not list(space.folder.glob("*.idx"))


READER = """
import numpy as np
from pathlib import Path
from tlkit.extraction.store import look_up, open_space

def peak():  # in KB, of this process alone
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

found = look_up(open_space({"output": "grid"}), np.random.default_rng(0).integers(0, 256, (2000, 32), np.uint8))
before = peak()
for start in range(0, 2000, 50):
    assert (found[np.arange(start, start + 50)] == start).all()
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory was used")
def test_reading_a_large_space_holds_little_of_it_in_memory(empty_cache):
    names = np.random.default_rng(0).integers(0, 256, (2000, 32), np.uint8)
    with Appender(open_space({"output": "grid"})) as appender:
        for start in range(0, 2000, 50):  # 160 MB in all
            appender.append(names[start : start + 50], np.full((50, 20_000), start, np.float32))
    done = subprocess.run([sys.executable, "-c", READER], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * 1024, "KB more than before reading"


def test_rows_go_to_the_disk_as_they_come(space):
    """What is held is a block of a quarter of a megabyte, and keys; a shard would be 16 times that, and any number of rows."""
    digests = np.random.default_rng(0).integers(0, 256, (256, 32), np.uint8)

    def store(batches):
        with Appender(space) as appender:
            for _ in range(batches):
                appender.append(digests, np.zeros((256, 512), np.float32))  # half a megabyte

    assert traced.each(store, 2, 16) < 4 * digests.nbytes


def test_a_shard_that_cannot_be_finished_leaves_nothing(space, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(TlkitError, match="No space left"), Appender(space) as appender:
        appender.append(keys(1), np.ones((1, 4), np.float32))
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            appender.flush()
    assert look_up(space, keys(1)).lacking.all() and not list(space.folder.glob("*.npy")) + list(
        space.folder.glob(".tmp-*")
    )


def test_a_store_that_can_only_be_read_is_said_and_not_that_its_files_are_not_joined(space, monkeypatch):
    def refuse(path, *rest, real=os.open):
        if Path(path).parent == space.folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *rest)

    monkeypatch.setattr("tlkit.extraction.store.shard_writer", lambda folder, *_: refuse(folder / "a.npy"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(TlkitError, match="cannot be written: Permission denied") as caught, Appender(space) as appender:
        appender.append(keys(1), np.ones((1, 4), np.float32))
    assert "TLKIT_CACHE" in caught.value.hint
