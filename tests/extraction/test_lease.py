import gc
import subprocess
import sys

import pytest

from tlkit.extraction import lease
from tlkit.extraction.lease import in_use, last_used, remove, sweep, take

HOLD = "import sys; from pathlib import Path; from tlkit.extraction.lease import take; kept = take(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store" / "space"


@pytest.fixture
def other(folder):
    """Another process that holds the folder until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_what_another_process_holds_stays_until_it_is_killed(folder, other):
    assert in_use(folder) and not remove(folder) and folder.is_dir()
    other.kill()
    other.wait()
    assert not in_use(folder) and remove(folder) and not folder.exists()
    assert list(folder.parent.iterdir()) == []


def test_what_this_process_holds_stays_until_it_lets_go(folder):
    kept = [take(folder), take(folder)]
    assert not remove(folder)
    kept.pop()
    gc.collect()
    assert not remove(folder)
    kept.pop()
    gc.collect()
    assert remove(folder)


def test_who_comes_at_the_moment_of_removal_gets_a_folder_that_stays(folder, monkeypatch):
    take(folder)
    gc.collect()
    real = lease._lock

    def late(descriptor, *, exclusive):
        monkeypatch.setattr(lease, "_lock", real)
        assert remove(folder)  # between opening the file and locking it
        return real(descriptor, exclusive=exclusive)

    monkeypatch.setattr(lease, "_lock", late)
    kept = take(folder)
    assert kept and in_use(folder) and not remove(folder)


def test_taking_marks_the_time(folder):
    import os

    take(folder)
    os.utime(folder / "lease", (1000, 1000))
    assert last_used(folder) == 1000
    take(folder)
    assert last_used(folder) > 1000


def test_without_locks_what_was_used_lately_stays(folder, monkeypatch):
    import os

    monkeypatch.setattr(lease, "fcntl", None)
    take(folder)
    assert not remove(folder)
    os.utime(folder / "lease", (1000, 1000))
    assert remove(folder)


def test_a_removal_that_was_killed_is_finished_later(folder):
    take(folder)
    gc.collect()
    folder.rename(folder.with_name(".removed-1234"))
    sweep(folder.parent)
    assert list(folder.parent.iterdir()) == []
