"""Forked processes behave like fresh ones."""

import os
import signal

import pytest

from tests import processes

PROGRAM = """
import os, sys
print(os.getcwd(), sys.argv[1:], os.environ["TLKIT_ASKED"], "tlkit" in sys.modules)
print("said", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("changed", [{}, {"MALLOC_ARENA_MAX": "4"}], ids=["forked", "fresh"])
def test_it_is_a_process_of_its_own(tmp_path, changed):
    asked = os.environ | {"TLKIT_ASKED": "yes"} | changed
    done = processes.run(["-c", PROGRAM, "one", "two"], cwd=tmp_path, env=asked)
    assert (done.returncode, done.stderr) == (3, "said\n")
    assert done.stdout == f"{tmp_path} ['one', 'two'] yes False\n"
    failed = processes.run(["-m", "json.tool", "absent.json"], cwd=tmp_path, env=os.environ | changed)
    assert failed.returncode != 0 and "absent.json" in failed.stderr


def test_it_can_be_killed_and_the_next_one_knows_nothing_of_it(tmp_path):
    process = processes.start(["-c", "import time; time.sleep(60)"], cwd=tmp_path)
    assert process.pid != os.getpid() and process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait() == process.poll() == -signal.SIGKILL
    (tmp_path / "mark.py").write_text(
        "import keras\nassert not hasattr(keras, 'mark')\nkeras.mark = 1\nprint(keras.ops.ones(2).shape)\n"
    )
    for _ in range(2):
        assert processes.run(["mark.py"], cwd=tmp_path).stdout == "(2,)\n"


def test_what_libraries_read_at_import_asks_for_a_fresh_one():
    program = "import os, sys; print(os.environ['KERAS_BACKEND'], 'keras' in sys.modules)"
    assert processes.run(["-c", program], env=os.environ | {"KERAS_BACKEND": "numpy"}).stdout == "numpy False\n"
