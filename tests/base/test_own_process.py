"""What tlkit's own process leaves out, how it exits, and that other programs are unaffected."""

import importlib.util
import os
import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from tlkit.base.process import claim_process, lean_imports

if {claimed}:
    claim_process()
with lean_imports():
    collecting = gc.isenabled()
    try:
        import sklearn
    except ImportError:
        sklearn = None
assert (sklearn is None) == {claimed} and collecting != {claimed} and gc.isenabled()
import sklearn.dummy
"""


AGE = """
import time
began = time.time()
from tlkit.base.process import age, claim_process

time.sleep(0.2)
assert age() == 0
claim_process()
found = age()
assert found >= time.time() - began - 0.05, found  # counted from before the first line
assert age() >= found
"""


def test_the_age_of_a_process_counts_from_its_start_and_that_of_a_stranger_is_none():
    subprocess.run([sys.executable, "-c", AGE], check=True)


END = """
import atexit, sys, threading, time, weakref
from tlkit.base.process import ended_at_once

class Held:
    def __del__(self):
        print("taken apart")

held = Held()
with ended_at_once():
    weakref.finalize(held, print, "finalized")
    atexit.register(print, "registered")
    threading.Thread(target=lambda: (time.sleep(0.1), print("joined"))).start()
    print("body")
    {end}
"""


@pytest.mark.parametrize(
    ("end", "code", "taken"), [("sys.exit(3)", 3, False), ("sys.exit()", 0, False), ("1 / 0", 1, True), ("", 0, True)]
)
def test_what_exits_ends_after_threads_and_last_functions_and_takes_nothing_apart(end, code, taken):
    done = subprocess.run([sys.executable, "-c", END.format(end=end)], capture_output=True, text=True)
    assert done.returncode == code
    said = done.stdout.split("\n")[:-1]
    assert said[:2] == ["body", "joined"] and set(said[2:4]) == {"registered", "finalized"}
    assert said[4:] == ["taken apart"] * taken
    assert ("ZeroDivisionError" in done.stderr) == (end == "1 / 0")


def test_a_text_to_end_with_is_printed_as_ever():
    done = subprocess.run([sys.executable, "-c", END.format(end="sys.exit('no')")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "no\n")


@pytest.mark.parametrize("claimed", [True, False])
def test_only_a_process_of_its_own_leaves_out_and_only_for_a_while(claimed):
    subprocess.run([sys.executable, "-c", PROGRAM.format(claimed=claimed)], check=True)


def check_once_loaded(command, checks):
    """In a process of its own, what holds once the modules of a command are there."""
    program = (
        "import sys\n"
        "from tlkit.base.process import LEFT_OUT, claim_process\n"
        "from tlkit.base.story import Silence\n"
        "from tlkit import pipelines\n"
        "claim_process()\n"
        f"pipelines.load({command!r}, Silence())\n{checks}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"KERAS_BACKEND": "tensorflow"})


def test_a_command_that_loads_keras_starts_without_what_only_others_use():
    check_once_loaded(
        "explain",
        "assert 'keras' in sys.modules\n"
        "found = [name for name in LEFT_OUT if name in sys.modules]\n"
        "assert not found, found\n"
        "import sklearn.linear_model, matplotlib.figure\n",
    )


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="needs pandas, which scikit-learn looks for")
def test_training_loads_scikit_learn_without_data_frames():
    check_once_loaded(
        "finetune",
        "assert 'sklearn.linear_model' in sys.modules and 'pandas' not in sys.modules\nimport pandas\n",
    )


def test_comparing_runs_loads_no_distributions():
    check_once_loaded(
        "compare", "assert 'tlkit.evaluation.compare' in sys.modules and 'scipy.stats' not in sys.modules\n"
    )


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install 'tlkit[jax]'")
def test_on_another_backend_layers_are_written_down_without_tensorflow():
    program = (
        "import sys\n"
        "from tlkit.base.process import claim_process, lean_imports\n"
        "claim_process()\n"
        "with lean_imports():\n"
        "    import keras\n"
        "assert keras.backend.backend() == 'jax' and keras.saving.serialize_keras_object(keras.layers.Dense(3))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"KERAS_BACKEND": "jax"})
