import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tlkit.base import files as leftovers
from tlkit.base.files import is_nobodys, sweep_logs, temporary_beside, write_text
from tlkit.base.machine import temporary_root
from tlkit.base.process import scratch, scratch_apart

DIES = """
import os, sys
from pathlib import Path
from tlkit.base.files import replacing
from tlkit.base.files import temporary_beside
target = Path(sys.argv[1])
temporary_beside(target / "folder").mkdir()
with replacing(target / "table.csv") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2 and all(is_nobodys(path.name) for path in tmp_path.iterdir())
    mine = temporary_beside(tmp_path / "mine")  # has swept
    assert list(tmp_path.iterdir()) == []
    mine.touch()
    (tmp_path / ".tmp-of-somebody").touch()
    (tmp_path / f".tmp-00000000-{os.getpid()}-0000abcd-x").touch()  # of another machine
    leftovers._swept.clear()
    write_text(tmp_path / "table.csv", "whole")
    assert len(list(tmp_path.iterdir())) == 4


def test_the_logs_of_dead_processes_are_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    for name in (f"native-{dead.pid}.log", f"native-{os.getpid()}.log", "native-x.log"):
        (tmp_path / name).touch()
    sweep_logs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"native-{os.getpid()}.log", "native-x.log"])


UNPACKS = """
import os, tempfile
from pathlib import Path
from tlkit.base.process import scratch_apart
with scratch_apart():
    (Path(tempfile.mkdtemp()) / "model.weights.h5").touch()
    os.kill(os.getpid(), 9)
"""


def test_temporary_files_of_other_libraries_go_with_a_killed_process(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", UNPACKS], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert len(list(tmp_path.rglob("model.weights.h5"))) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_apart():
        assert Path(tempfile.gettempdir()).parent == temporary_root() == tmp_path
        assert [path.name for path in tmp_path.iterdir()] == [Path(tempfile.gettempdir()).name]
    assert list(tmp_path.iterdir()) == [] and tempfile.gettempdir() == str(tmp_path)


KEEPS = """
import os
from tlkit.base.process import scratch
with scratch() as folder:
    (folder / "model.keras").touch()
    os.kill(os.getpid(), 9)
"""


def test_temporary_files_of_a_program_that_imports_tlkit_go_with_it_too(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", KEEPS], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "model.keras").exists()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch() as folder:
        (folder / "more").mkdir()
        assert list(tmp_path.iterdir()) == [folder] and tempfile.gettempdir() == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


WRITES = """
import os, sys
from pathlib import Path
from tlkit.base.files import replacing_all, write_text
left = int(sys.argv[2])
def killed(event, _):
    global left
    left -= event == "os.rename"
    if left == 0:
        os.kill(os.getpid(), 9)
with replacing_all(Path(sys.argv[1])) as made:
    for name in ("table.csv", "table.csv.json", "about.json"):
        write_text(made / name, name)
    sys.addaudithook(killed)
"""


@pytest.mark.parametrize("there", [False, True])
def test_files_that_belong_together_are_there_together_wherever_a_kill_comes(tmp_path, there):
    whole = {"table.csv", "table.csv.json", "about.json"}
    for moment in range(1, 6):
        folder = tmp_path / str(moment) / "out"
        if there:
            folder.mkdir(parents=True)
        ended = subprocess.run([sys.executable, "-c", WRITES, str(folder), str(moment)], check=False).returncode
        found = (
            {path.name for path in folder.iterdir() if not path.name.startswith(".tmp-")} if folder.exists() else set()
        )
        if ended == 0:
            assert found == whole and moment == (4 if there else 2)
            break
        assert found == set() if not there else "table.csv" not in found or found == whole
        leftovers._swept.clear()
        with leftovers.replacing_all(folder) as made:
            (made / "table.csv").touch()
        assert list(folder.parent.rglob(".tmp-*")) == []


def test_nowhere_to_write_is_left_to_whoever_needs_to(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with scratch_apart():
        assert tempfile.gettempdir() == str(tmp_path / "gone")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="other systems do not say")
def test_a_process_whose_end_nobody_has_asked_for_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert leftovers.is_alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, but not reaped
    os.kill(process.pid, 0)  # its number is still in use
    assert not leftovers.is_alive(process.pid)
    process.communicate()


def test_a_folder_takes_the_place_of_one_that_holds_something(tmp_path):
    out = tmp_path / "out"
    (out / "keras").mkdir(parents=True)
    (out / "keras" / "old.txt").touch()
    (out / "kept.txt").touch()
    with leftovers.replacing_all(out) as made:
        (made / "keras").mkdir()
        (made / "keras" / "new.txt").touch()
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == ["kept.txt", "keras", "keras/new.txt"]


def _refuse(self, target):
    raise OSError(5, "Input/output error", str(target))


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "keras").mkdir(parents=True)
    (out / "keras" / "old.txt").touch()
    monkeypatch.setattr(Path, "replace", _refuse)
    with pytest.raises(OSError, match="Input/output"), leftovers.replacing_all(out) as made:
        (made / "keras").mkdir()
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == ["keras", "keras/old.txt"]


DIES_BETWEEN = """
import os, sys
from pathlib import Path
from tlkit.base.files import replacing_all
Path.replace = lambda self, target: os.kill(os.getpid(), 9)
with replacing_all(Path(sys.argv[1])) as made:
    (made / "keras").mkdir()
"""


def test_a_folder_moved_aside_by_a_killed_process_is_put_back(tmp_path):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "old.txt").touch()
    subprocess.run([sys.executable, "-c", DIES_BETWEEN, str(tmp_path)], check=False)
    assert not (tmp_path / "keras").exists()
    temporary_beside(tmp_path / "new")  # sweeps
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["keras", "keras/old.txt"]
