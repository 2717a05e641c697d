"""Foreseeable errors are raised before Keras is loaded; later errors of the system become one clear error."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tlkit import pipelines
from tlkit.base import machine
from tlkit.base.errors import TlkitError
from tlkit.base.files import reading, replacing
from tlkit.base.machine import full_disk as no_room
from tlkit.base.machine import os_error
from tlkit.base.story import Silence
from tlkit.options.commands import (
    AuditConfig,
    FeaturesConfig,
    FinetuneConfig,
    NextConfig,
    PredictConfig,
    RankConfig,
    SplitConfig,
)

PROGRAM = """
import sys
sys.argv = ["tlkit", *sys.argv[1:]]
from tlkit.cli.main import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 1, stop.code
found = [name for name in ("keras", "tensorflow") if name in sys.modules]
assert not found, found
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("finetune", "images", "--out", "taken"), "'taken' already exists"),
        (("finetune", "images", "--out", "file.txt"), "is a file, expected a folder"),
        (("features", "images", "--out", "taken"), "is a folder, expected a file"),
        (("features", "images", "--out", "table.xls"), "'table.xls' ends in '.xls'"),
        (("split", "images", "--out", "splits.parquet"), "'splits.parquet' ends in '.parquet'"),
        (("predict", "model.keras", "images", "--out", "answers"), "'answers' has no suffix"),
        (("rank", "images", "--out", "file.txt/below"), "'file.txt' is a file"),
        (("audit", "images", "--out", "taken"), "'taken' already exists"),
        (("explain", "model.keras", "images", "--out", "taken"), "'taken' already exists"),
        (("evaluate", "taken"), "is not a run folder"),
        (("export", "taken"), "is not a run folder"),
        (("report", "taken", "--out", "file.txt"), "is a file, expected a folder"),
        (("serve", "none"), "does not exist"),
        (("finetune", "images", "--backbone", "mine.keras"), "'mine.keras' does not exist"),
        (("features", "images", "--backbone", "resne50"), "'resne50' is not a backbone"),
        (("audit", "images", "--weights", "none.h5"), "'none.h5' does not exist"),
        pytest.param(
            ("finetune", "images", "--out", "/proc/none/run"),
            "nothing can be written into '/proc'",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_refusal_loads_no_keras(arguments, said, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    for name in ("file.txt", "model.keras"):
        (tmp_path / name).write_text("mine")
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr.replace(f"{tmp_path}/", "") and "hint:" in done.stderr
    assert (tmp_path / "taken" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "said", "hint"),
    [
        (errno.ENOSPC, "its disk is full", "make room"),
        (errno.EROFS, "its disk is read-only", "choose another place"),
        (errno.EACCES, "permission denied", "who may write"),
        (errno.EMFILE, "too many files are open", "ulimit -n"),
        (errno.EXDEV, os.strerror(errno.EXDEV), "TLKIT_DEBUG"),
    ],
)
def test_what_the_system_refuses_is_said_with_the_remedy(number, said, hint):
    told = os_error(OSError(number, os.strerror(number), "/data/.tmp-0a1b2c3d-77-0a1b2c3d-features.csv"))
    assert told.message.startswith("/data/features.csv: ") and said in told.message and hint in told.hint


def test_what_hdf5_says_of_a_full_disk_is_understood():
    told = os_error(RuntimeError("Can't decrement id ref count (file write failed, filename = '/x/w.h5', errno = 28)"))
    assert told.message == "/x/w.h5: its disk is full."
    assert os_error(RuntimeError("shapes do not match")) is None


def test_a_current_folder_that_is_gone_is_said(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for given in ({"images": "images", "out": "s.csv"}, {"images": str(tmp_path), "out": "s.csv"}):
        with pytest.raises(TlkitError, match="folder that this command was started in is gone"):
            pipelines.carry_out("split", SplitConfig(**given), Silence())


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EFBIG, "File too large"), errno.EFBIG),
        (RuntimeError("Can't close file (file write failed, errno = 28, error message = '...')"), errno.ENOSPC),
        (ValueError("RESOURCE_EXHAUSTED: model; No space left on device"), errno.ENOSPC),
        (OSError(errno.EACCES, "Permission denied"), None),
        (ValueError("No Op registered for Erfinv"), None),
    ],
)
def test_a_full_disk_is_known_by_whatever_a_converter_says(error, number, tmp_path):
    found = no_room(error, tmp_path / "model")
    assert (found and found.errno) == number and (found is None or found.filename == str(tmp_path / "model"))


def test_a_full_disk_is_known_though_a_converter_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "free_bytes", lambda folder: 0)
    assert no_room(RuntimeError("basic_ios::clear: iostream error"), tmp_path / "model").errno == errno.ENOSPC


def test_a_file_that_cannot_be_unpacked_for_want_of_room_is_not_called_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ".tmp-0a1b2c3d-77-0a1b2c3d-tlkit"))
    with pytest.raises(OSError) as raised, reading(tmp_path / "model.keras", "restore it."):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    told = os_error(raised.value)
    assert told.message == f"{tmp_path}: its disk is full." and "TMPDIR" in told.hint


def full_disk(monkeypatch, when):
    """Files whose path holds `when` cannot be finished."""
    real = Path.replace

    def replace(self, target):
        if when in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_a_file_that_did_not_fit_is_named(monkeypatch, tmp_path):
    full_disk(monkeypatch, "table.csv")
    with pytest.raises(OSError) as raised, replacing(tmp_path / "table.csv") as temporary:
        temporary.write_text("path,label\n")
    assert raised.value.filename == str(tmp_path / "table.csv") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "when"),
    [
        ("features", FeaturesConfig, "out.csv.json"),
        ("split", SplitConfig, "out.csv"),
        ("rank", RankConfig, "rank.html"),
    ],
)
def test_nothing_half_written_stays(name, options, when, colours, monkeypatch, tmp_path):
    out = tmp_path / ("out.csv" if name != "rank" else "out")
    more = {"backbone": "nano"} if name == "features" else {"backbones": ("nano",)} if name == "rank" else {}
    full_disk(monkeypatch, when)
    with pytest.raises(TlkitError, match="its disk is full"):
        pipelines.carry_out(name, options(images=str(colours), out=str(out), **more), Silence())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "when"),
    [
        ("features", FeaturesConfig, "out.csv.json"),
        ("audit", AuditConfig, "audit.html"),
        ("rank", RankConfig, "rank.html"),
        ("next", NextConfig, "next.html"),
    ],
)
def test_what_is_to_be_replaced_stays_as_it_was_until_all_is_written(
    name, options, when, colours, monkeypatch, tmp_path
):
    given = {"images": str(colours), "out": str(tmp_path / ("out.csv" if name == "features" else "out"))}
    given |= {"backbones": ("nano",)} if name == "rank" else {"backbone": "nano"}
    changed = {"reduce": "pca:3"} if name == "features" else {"seed": 1}
    pipelines.carry_out(name, options(**given, **({"reduce": "pca:2"} if name == "features" else {})), Silence())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    full_disk(monkeypatch, when)
    with pytest.raises(TlkitError, match="its disk is full"):
        pipelines.carry_out(name, options(**given, **changed, overwrite=True), Silence())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before and len(before) > 1


def test_a_run_that_met_a_full_disk_says_how_to_go_on_and_goes_on(colours, tiny_backbone, monkeypatch, tmp_path):
    run = tmp_path / "run"
    config = FinetuneConfig(
        images=str(colours), backbone=str(tiny_backbone), stages=("head",), audit=False, out=str(run)
    )
    with monkeypatch.context() as patch:
        full_disk(patch, "metrics.json")
        with pytest.raises(TlkitError, match=r"metrics\.json: its disk is full") as raised:
            pipelines.carry_out("finetune", config, Silence())
    assert raised.value.hint.endswith(f"Then continue: tlkit finetune --resume {run}")
    pipelines.carry_out("finetune", FinetuneConfig(resume=str(run)), Silence())
    assert json.loads((run / "run.json").read_text())["state"] == "finished"


def test_a_run_that_was_refused_at_its_beginning_leaves_its_place_free(colours, monkeypatch, tmp_path):
    full_disk(monkeypatch, "run.json")
    with pytest.raises(TlkitError, match="its disk is full") as raised:
        pipelines.carry_out("finetune", FinetuneConfig(images=str(colours), out=str(tmp_path / "run")), Silence())
    assert "--resume" not in raised.value.hint and not list(tmp_path.iterdir())


def test_python_is_refused_as_early(tmp_path):
    with pytest.raises(TlkitError, match="is not a run folder"):
        pipelines.refuse_early("predict", PredictConfig(run=str(tmp_path), paths=("x.png",)))
