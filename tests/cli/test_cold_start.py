"""Help and usage errors never import heavy packages."""

import subprocess
import sys

import pytest

from tlkit.cli.commands import COMMANDS

HEAVY = ("keras", "tensorflow", "jax", "torch", "pandas", "sklearn", "PIL", "pyarrow", "matplotlib", "numpy", "rich")
PROGRAM = """
import sys
sys.argv = ["tlkit", *sys.argv[1:]]
from tlkit.cli.main import main
try:
    main()
except SystemExit:
    pass
found = [name for name in {heavy!r} if name in sys.modules]
assert not found, found
"""


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), *((row.name, "--help") for row in COMMANDS)], ids=" ".join
)
def test_nothing_heavy_is_loaded(arguments):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_cold_too():
    program = (
        f"import sys, tlkit; dir(tlkit); found = [n for n in {HEAVY!r} if n in sys.modules]; assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_while_it_is_loaded_ends_it_without_a_traceback():
    program = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from tlkit.__main__ import program\n"
        "program()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\ninterrupted.\n")
