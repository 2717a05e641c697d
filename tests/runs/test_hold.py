import gc
import json
import subprocess
import sys

import pytest

from tlkit.base.errors import TlkitError
from tlkit.runs.folder import LOCK, hold, refuse_occupied

HOLD = """
import sys
from pathlib import Path
from tlkit.runs.folder import hold
kept = hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_holder_is_named_and_a_dead_one_holds_nothing(tmp_path, other):
    with pytest.raises(TlkitError, match=rf"being written by another process, {other.pid} on .+ since") as caught:
        hold(tmp_path / "run")
    assert "--resume" in caught.value.hint
    other.kill()
    other.wait()
    assert (tmp_path / "run" / LOCK).exists()
    refuse_occupied(tmp_path / "run", overwrite=False)  # a lock file alone does not count
    kept = hold(tmp_path / "run")
    assert kept is not None


def test_who_lets_go_leaves_nothing_and_the_same_process_holds_twice(tmp_path):
    kept = hold(tmp_path / "run")
    again = hold(tmp_path / "run")
    assert kept is again is not None
    del kept
    gc.collect()
    assert json.loads((tmp_path / "run" / LOCK).read_text())["process"]
    del again
    gc.collect()
    assert list((tmp_path / "run").iterdir()) == []


WRITES = """
import os, sys
from pathlib import Path
from tlkit.base.files import replacing_all, write_text
with replacing_all(Path(sys.argv[1])) as made:
    write_text(made / "audit.json", "{}")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("there", [True, False])
def test_what_a_killed_process_was_about_to_write_takes_nobodys_place(tmp_path, there):
    if there:
        (tmp_path / "out").mkdir()
    subprocess.run([sys.executable, "-c", WRITES, str(tmp_path / "out")], check=False)
    assert len(list(tmp_path.rglob("audit.json"))) == 1
    assert (tmp_path / "out").exists() == there
    refuse_occupied(tmp_path / "out", overwrite=False)
