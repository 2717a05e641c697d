"""What each command writes: one function for each observation, from a workshop to plain values."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import tlkit
from tests.characterisation import reading
from tests.characterisation.workshop import Workshop

Observation = Callable[[Workshop], Any]

# By how much floats may differ on another processor, absolute up to 1 and relative above: ten times the largest
# difference seen between vector instructions (AVX-512, AVX2, AVX), with and without oneDNN, one core and two.
COMPUTED = 1e-4  # features, and cross-validated probes on them: 3e-5 (stored as float16), else 5e-6
FITTED = 2e-3  # what a solver or gradient descent ends at, and what is made of it: 2.3e-4
TOLERANCES = dict.fromkeys(("sample", "backbones", "weights", "split", "plan"), 1e-6)  # no network computes them
TOLERANCES |= dict.fromkeys(("features", "features_reduced", "rank", "audit"), COMPUTED)


def sample(workshop: Workshop) -> Any:
    """Which files are drawn; their bytes are held against the archive's elsewhere."""
    seen = {}
    for name, result in workshop.drawn.items():
        files = sorted(path for path in Path("drawn", name).rglob("*") if path.is_file())
        described = json.loads(Path("drawn", name, "sample.json").read_text(encoding="utf-8"))
        seen[name] = result | {"described": described} | {"files": [path.as_posix() for path in files]}
    seen["truth"] = reading.table(Path("drawn/shapes/truth.csv"))
    seen["sheets"]["table"] = reading.table(Path("drawn/sheets/images.csv"))
    return seen


def backbones(workshop: Workshop) -> Any:
    return {row["name"]: row for row in workshop.cold("backbones")["backbones"]}


def weights(workshop: Workshop) -> Any:
    listed = workshop.cold("weights", "list")
    return {row["name"]: row for row in listed["files"]}


def split(workshop: Workshop) -> Any:
    """Every option of a split; the first table whole, as text."""
    plain = workshop.cold("split", "shapes", "--out", "splits/plain.csv")
    ways = {
        "seed": ["--seed", "7", "--val", "0.2", "--test", "0.3"],
        "keras": ["--keras-split", "0.25", "--seed", "1"],
        "group": ["--group-by", "([0-9])[.]jpg"],
    }
    others = {}
    for name, options in ways.items():
        workshop.cold("split", "shapes", "--out", f"splits/{name}.csv", *options)
        others[name] = reading.table(Path(f"splits/{name}.csv"))["split"]
    text = Path("splits/plain.csv").read_text(encoding="utf-8")
    return {"splits": plain["splits"], "text": text, "others": others}


def features(_: Workshop) -> Any:
    """Tables of several views of the grid, some of their columns; the whole of one is held against the archive's."""
    ways = {
        "avg": {},
        "max": {"pool": "max"},
        "crop": {"fit": "crop", "image_size": 64},
        "layer": {"layer": "block1_down_relu"},
        "half": {"stored_as": "float16"},
    }
    seen = {}
    for name, options in ways.items():
        result = tlkit.features("digits", backbone="nano", **options, out=f"tables/{name}.npz")
        seen[name] = _table(Path(f"tables/{name}.npz")) | {"images": result["images"], "features": result["features"]}
    return seen


def features_reduced(_: Workshop) -> Any:
    """PCA, and the formats: one set of values in CSV, Parquet and NPZ."""
    import pyarrow.parquet

    for suffix in ("npz", "csv", "parquet"):
        tlkit.features("shapes", backbone="nano", reduce="pca:4", out=f"tables/reduced.{suffix}")
    columns = reading.table(Path("tables/reduced.csv"))
    parquet = pyarrow.parquet.read_table("tables/reduced.parquet").to_pydict()
    with np.load("tables/reduced.npz") as arrays:
        values = arrays["features"].tolist()
    described = reading.parse(Path("tables/reduced.csv.json"))
    del described["versions"]
    return {"columns": columns, "parquet": parquet, "values": values, "described": described}


def _table(path: Path) -> dict[str, Any]:
    """An .npz table: every 61st feature, and all else."""
    with np.load(path) as arrays:
        rest = {name: arrays[name].tolist() for name in ("path", "label", "split", "classes")}
        return rest | {"sampled": arrays["features"][:, ::61].astype(float).round(6).tolist()}


def plan(_: Workshop) -> Any:
    """What a dry run says of all three stages."""
    chosen = {"stages": ("head", "top", "all"), "blocks": 2, "views": 2, "epochs": (4,), "validate": "split"}
    planned = tlkit.finetune("digits", backbone="nano", **chosen, dry_run=True)
    return {"classes": planned["classes"], "stages": reading.plan(planned["plan"]["stages"])}


def finetune_head(workshop: Workshop) -> Any:
    return reading.run(workshop.head)


def finetune_top(workshop: Workshop) -> Any:
    return reading.run(workshop.top)


def finetune_mlp(workshop: Workshop) -> Any:
    return reading.run(workshop.mlp)


def finetune_labels(workshop: Workshop) -> Any:
    return reading.run(workshop.labels)


def evaluate(workshop: Workshop) -> Any:
    """A run on its own images, and on others; the latter also in two views."""
    seen = {}
    for name, options in {"others": {}, "views": {"tta": 2}}.items():
        result = tlkit.evaluate(str(workshop.head), "others", **options, out=f"evaluated/{name}")
        folder = Path("evaluated", name)
        seen[name] = reading.evaluation(folder) | {"images": result["images"], "trained_on": result["trained_on"]}
    own = Path(shutil.copytree(workshop.head, "evaluated/own"))
    tlkit.evaluate(str(own))
    return seen | {"own": reading.evaluation(own)}


def predict(workshop: Workshop) -> Any:
    result = tlkit.predict(str(workshop.head), ["others", "shapes/star"], top=3, out="predicted.csv")
    tlkit.predict(str(workshop.head), ["others", "shapes/star"], top=3, out="predicted.json")
    tlkit.predict(str(workshop.labels), ["sheets"], top=2, out="labels.json")
    return {
        "columns": reading.table(Path("predicted.csv")),
        "rows": reading.parse(Path("predicted.json")),
        "labels": reading.parse(Path("labels.json")),
        "set_aside": [row["path"] for row in result["set_aside"]],
    }


def compare(workshop: Workshop) -> Any:
    """The difference of two runs on the test images of both."""
    found = workshop.cold("compare", str(workshop.mlp), str(workshop.top))
    return reading.silent(found)


def rank(_: Workshop) -> Any:
    """The ranking without the milliseconds, and what depends on them: frontier and recommendation."""
    tlkit.rank("shapes", backbones=("nano", "nano:size=64"), out="ranked")
    found = reading.parse(Path("ranked/rank.json"))
    # the curve is of the recommended one, which milliseconds may decide: there is one to recommend here
    curve = tlkit.rank("shapes", backbones=("nano",), how_many=True, out="curve")["curve"]
    timed = ("milliseconds", "milliseconds_spread", "seconds", "computed", "frontier")
    return {
        "candidates": {
            row["name"]: {key: value for key, value in row.items() if key not in timed} for row in found["candidates"]
        },
        **{name: found[name] for name in ("images", "available", "classes", "best", "measure")},
        "curve": {name: curve[name] for name in ("points", "forecasts")},
    }


def audit(_: Workshop) -> Any:
    result = tlkit.audit("shapes", out="audited", write_fixes="fixes.csv")
    return {
        "counts": result["counts"],
        "findings": reading.findings(Path("audited/audit.json")),
        "images": reading.table(Path("audited/images.csv")),
        "grouped": reading.table(Path("audited/grouped.csv"), without=["path"]),
        "fixes": reading.table(Path("fixes.csv"), without=["reason"]),
    }


def explain(workshop: Workshop) -> Any:
    """Where classifiers look; a picture's size stands for the picture."""
    seen = {}
    for name, run, paths in (
        ("head", workshop.head, "others/star"),
        ("labels", workshop.labels, "sheets/sheets/0000[0-3]*"),
    ):
        tlkit.explain(str(run), [paths], method=("integrated", "gradcam", "occlusion"), out=f"explained/{name}")
        rows = reading.parse(Path(f"explained/{name}/explain.json"))["explained"]
        for row in rows:
            with Image.open(Path("explained", name, row["picture"])) as picture:
                row["size"] = list(picture.size)
        seen[name] = rows
    return seen


def export(workshop: Workshop) -> Any:
    """The logits of each runtime that is always there, on the images that an artifact carries with it."""
    seen = {}
    always = ("keras", "savedmodel", "litert")
    for name, run, formats in (("head", workshop.head, always), ("top", workshop.top, always[1:2])):
        tlkit.export(str(run), format=formats, out=f"exported/{name}")
        seen[name] = {folder.name: _artifact(folder) for folder in sorted(Path("exported", name).iterdir())}
    return seen


def _artifact(folder: Path) -> dict[str, Any]:
    """What an artifact promises, and that it holds here."""
    contract = reading.parse(folder / "contract.json")
    with np.load(folder / "golden.npz") as golden:
        images, logits = golden["images"], golden["logits"]
    verified = tlkit.verify(str(folder))
    assert verified["max_difference"] <= verified["tolerance"]
    if contract["kind"] == "savedmodel":
        logits = logits_of(folder, images)
    kept = ("kind", "input", "outputs", "classes", "task", "threshold", "temperature", "target_precision")
    return {
        **{name: contract[name] for name in kept},
        "logits": logits.astype(float).tolist(),
        "images": verified["images"],
        "agreement": verified["agreement"],
        "files": {path.name: True for path in sorted(folder.iterdir())},
    }


def logits_of(folder: Path, images: np.ndarray) -> np.ndarray:
    """What TensorFlow itself makes of a SavedModel."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / "model"))  # kept: its variables live as long as it does
    return model.signatures["serving_default"](images=tf.constant(images, tf.float32))["logits"].numpy()


def cache(workshop: Workshop) -> Any:
    """What the store of 93062aa is said to hold."""
    shown = workshop.cold("cache", "show")
    assert Path(shown["folder"]).resolve() == Path(os.environ["TLKIT_CACHE"], "features").resolve()
    spaces = [{key: value for key, value in row.items() if key not in ("used", "in_use")} for row in shown["spaces"]]
    return sorted(spaces, key=lambda row: json.dumps(row, sort_keys=True))


OBSERVATIONS: dict[str, Observation] = {
    function.__name__: function
    for function in (
        *(sample, backbones, weights, split, features, features_reduced, plan),
        *(finetune_head, finetune_top, finetune_mlp, finetune_labels),
        *(evaluate, predict, compare, rank, audit, explain, export),
    )
}


def observe(name: str, workshop: Workshop) -> Any:
    """One observation, without this machine's paths."""
    return workshop.plain(OBSERVATIONS[name](workshop))
