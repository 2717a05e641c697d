"""What 93062aa wrote for every command is what is written now; what it left behind is read.

`recorded/` holds what it wrote; `python -m tests.characterisation.record` writes it anew, where a change is meant.
With TLKIT_CHARACTERISATION=exact, floats may differ by 1e-6 only: for the machine on which the recording was made, or
another on which it is found to hold.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tlkit
from tests.characterisation import reading
from tests.characterisation.difference import differences
from tests.characterisation.observations import (
    COMPUTED,
    FITTED,
    OBSERVATIONS,
    TOLERANCES,
    cache,
    logits_of,
    observe,
)
from tests.characterisation.workshop import HEAD, RECORDED, SAMPLES, Workshop, unpack
from tlkit.data import look
from tlkit.evaluation import calibration
from tlkit.pixels.contract import InputContract

pytestmark = pytest.mark.slow  # the file as a whole: a minute and a quarter

EXACT = os.environ.get("TLKIT_CHARACTERISATION") == "exact"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """The archive, unpacked where the commands of this file run, with a store of their own, decoding as 93062aa did."""
    folder = tmp_path_factory.mktemp("characterisation")
    unpack(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TLKIT_CACHE", str(folder / "store"))
        # The pixels of the recording: rules of version 2 came later, and docs/decoding.md says how far theirs are.
        patch.setitem(InputContract.__init__.__kwdefaults__, "version", 1)
        patch.setattr(look, "_COPY", replace(look._COPY, version=1))
        # The temperature of the recording: a further error came later, where there are few (docs/evaluation.md).
        patch.setattr(calibration, "FEW_ERRORS", 1)
        yield Workshop(folder)


@pytest.fixture
def old_store(workshop, monkeypatch):
    """The store that 93062aa filled."""
    monkeypatch.setenv("TLKIT_CACHE", str(workshop.folder / "old/store"))


def assert_same(recorded, seen, tolerance=COMPUTED):
    found = list(differences(recorded, seen, 1e-6 if EXACT else tolerance))
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:20])


# -- what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_a_command_writes_what_was_recorded(name, workshop):
    recorded = reading.parse(RECORDED / f"{name}.json")
    assert_same(*map(whether_measured, (recorded, observe(name, workshop))), TOLERANCES.get(name, FITTED))


def whether_measured(observed):
    """Predictions with whether they have an unfamiliarity: how it is measured has changed since (docs/evaluation.md)."""
    table = observed.get("predictions", {}) if isinstance(observed, dict) else {}
    if "unfamiliarity" not in table:
        return observed
    had = [value != "" for value in table["unfamiliarity"]]
    return observed | {"predictions": table | {"unfamiliarity": had}}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_drawn_as_it_was(name, workshop):
    assert workshop.drawn[name]["out"] == f"drawn/{name}"
    files = sorted(path for path in Path(name).rglob("*") if path.is_file() and path.name != "sample.json")
    assert len(files) > 15
    for file in files:
        drawn = Path("drawn", file)
        if drawn.read_bytes() != file.read_bytes():  # another Pillow may compress otherwise; it must draw the same
            with Image.open(drawn) as one, Image.open(file) as other:
                apart = np.abs(np.asarray(one, float) - np.asarray(other, float))
            assert apart.mean() < 2, f"{file} is another picture"


# -- what was left behind ----------------------------------------------------------------------


def test_every_row_of_an_old_store_is_found(old_store, workshop):
    recorded = reading.parse(RECORDED / "cache.json")
    assert_same(recorded, cache(workshop))
    assert tlkit.features("shapes", backbone="nano", out="found/avg.csv")["computed"] == 0
    shorter = tlkit.features("shapes", backbone="nano", pool="max", stored_as="float16", out="found/max.npz")
    assert shorter["computed"] == 0
    ranked = tlkit.rank("shapes", backbones=("nano:size=64",), out="found/rank")
    assert [row["computed"] for row in ranked["candidates"]] == [0]
    tlkit.audit("shapes", out="found/audit")
    tlkit.evaluate(str(shutil.copytree("old/run", "found/run")))  # reads predictions and evidence
    assert_same(recorded, cache(workshop))  # nothing was added
    tlkit.finetune("shapes", **HEAD, out="found/head")  # reads views and mirror images
    kept = [row for row in cache(workshop) if not row["output"].startswith("evidence")]  # of the new run: its own
    assert_same([row for row in recorded if not row["output"].startswith("evidence")], kept)


def test_a_table_of_stored_rows_is_the_same_byte_for_byte(old_store, workshop):
    tlkit.features("shapes", backbone="nano", out="bytes/shapes.csv")
    assert Path("bytes/shapes.csv").read_bytes() == Path("old/shapes.csv").read_bytes()
    old, new = (reading.parse(Path(folder, "shapes.csv.json")) for folder in ("old", "bytes"))
    assert_same({key: value for key, value in old.items() if key != "versions"}, new)


def test_computed_features_are_those_of_the_old_table(workshop):
    tlkit.features("shapes", backbone="nano", out="computed/shapes.csv")
    assert_same(reading.table(Path("old/shapes.csv")), reading.table(Path("computed/shapes.csv")))


@pytest.fixture(scope="module")
def old_run(workshop):
    """The old run folder, evaluated on its own images once more."""
    run = Path(shutil.copytree("old/run", "reopened"))
    tlkit.evaluate(str(run))
    return run


def test_an_old_run_evaluates_as_it_did(old_run):
    old, new = reading.evaluation(Path("old/run")), reading.evaluation(old_run)
    assert_same(old, new)
    page = (old_run / "report.html").read_text(encoding="utf-8")
    assert all(f"{100 * new['metrics'][split]['accuracy']['value']:.1f}" in page for split in ("val", "test"))


def test_an_old_run_predicts_as_it_did(workshop):
    written = reading.table(Path("old/run/predictions.csv"))
    probability = dict(
        zip(written["path"], zip(written["predicted"], written["probability"], strict=True), strict=True)
    )
    rows = workshop.plain(list(tlkit.predict("old/run", ["digits"])["predictions"]))
    seen = {row["path"].removeprefix("digits/"): [row["class"], row["probability"]] for row in rows}
    assert_same({path: list(pair) for path, pair in probability.items()}, seen)


def test_an_old_run_exports_as_it_did(workshop):
    tlkit.export("old/run", format=("keras", "savedmodel"), out="exported-again")
    for kind in ("keras", "savedmodel"):
        with np.load(f"old/exported/{kind}/golden.npz") as old, np.load(f"exported-again/{kind}/golden.npz") as new:
            assert np.array_equal(old["images"], new["images"])
            assert_same(old["logits"].tolist(), new["logits"].tolist())


def test_old_runs_are_compared(old_run, workshop):
    found = workshop.cold("compare", "old/run", str(old_run))
    assert found["split"] == "test" and found["images"] == len(_test_images(old_run))


def _test_images(run):
    rows = reading.table(run / "predictions.csv")
    return {sha for sha, split in zip(rows["sha256"], rows["split"], strict=True) if split == "test"}


@pytest.mark.parametrize("kind", ["keras", "savedmodel", "litert"])
def test_an_old_artifact_still_verifies(kind, workshop):
    verified = tlkit.verify(f"old/exported/{kind}")
    assert verified["kind"] == kind and verified["images"] == 12 and verified["agreement"] == 1
    assert verified["max_difference"] <= verified["tolerance"]


def test_an_old_savedmodel_gives_its_logits(workshop):
    folder = Path("old/exported/savedmodel")
    with np.load(folder / "golden.npz") as golden:
        assert_same(golden["logits"].tolist(), logits_of(folder, golden["images"]).tolist())


# -- this file itself --------------------------------------------------------------------------


def test_differences_are_seen():
    recorded = {"a": [1, 2.0, "x"], "b": {"c": None}}
    assert not list(differences(recorded, {"a": [1, 2.0 + 1e-5, "x"], "b": {"c": None}, "more": 1}, COMPUTED))
    changed = {"a": [2, 2.001, "y"], "b": {}}
    assert [text.split()[0] for text in differences(recorded, changed, COMPUTED)] == ["/a/0", "/a/1", "/a/2", "/b/c"]
    assert list(differences([1], [1, 2], COMPUTED)) == [" has 2 entries, recorded are 1"]
    assert list(differences(1.0, float("nan"), COMPUTED)) and list(differences(None, 0.0, COMPUTED))


def test_what_is_recorded_is_small_and_names_no_machine():
    files = [path for path in RECORDED.iterdir() if path.suffix == ".json"]
    assert {path.stem for path in files} == {*OBSERVATIONS, "cache"}
    assert sum(path.stat().st_size for path in files) < 1.5e6
    assert not [path.name for path in files if any(f"/{name}/" in path.read_text("utf-8") for name in ("tmp", "home"))]
