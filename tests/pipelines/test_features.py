import csv
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.options.commands import FeaturesConfig
from tlkit.pipelines.features import run


def table(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, [row[:3] for row in rows], np.array([row[3:] for row in rows], np.float32)


def config(colours, tiny_backbone, tmp_path, **options):
    return FeaturesConfig(
        **{"images": str(colours), "backbone": str(tiny_backbone), "out": str(tmp_path / "f.csv")} | options
    )


def test_rows_are_in_order_and_values_are_keras_own(colours, tiny_backbone, tmp_path):
    result = run(config(colours, tiny_backbone, tmp_path))
    header, names, values = table(tmp_path / "f.csv")
    assert header[3:5] == ["f0000", "f0001"] and result["features"] == 16
    assert [path for path, _, _ in names] == sorted(
        path.relative_to(colours).as_posix() for path in colours.rglob("*.png")
    )
    assert all(path.startswith(label + "/") for path, label, _ in names)
    pixels = np.stack([decode(colours / path, InputContract(height=32, width=32)) for path, _, _ in names])
    grid = np.asarray(build_backbone(str(tiny_backbone)).model(pixels))
    np.testing.assert_allclose(values, grid.mean(axis=(1, 2)), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "columns"),
    [({"pool": "none"}, 4 * 4 * 16), ({"layer": "block2_relu"}, 12), ({"reduce": "pca:3"}, 3), ({"pool": "max"}, 16)],
)
def test_views_of_the_grid(colours, tiny_backbone, tmp_path, options, columns):
    run(config(colours, tiny_backbone, tmp_path, **options))
    header, _, values = table(tmp_path / "f.csv")
    assert len(header) == 3 + columns and np.isfinite(values).all()


def test_the_sidecar_says_how_to_get_the_same_numbers_again(colours, tiny_backbone, tmp_path):
    result = run(config(colours, tiny_backbone, tmp_path))
    sidecar = json.loads((tmp_path / "f.csv.json").read_text())
    assert result["sidecar"] == str(tmp_path / "f.csv.json")
    backbone = build_backbone(str(tiny_backbone))
    assert sidecar["weights_sha256"] == backbone.weights_sha256
    assert sidecar["input"] == InputContract(height=32, width=32).as_json()
    assert sidecar["versions"]["keras"] == keras.__version__ and sidecar["output"] == "block3_relu:avg"


def test_a_flat_folder_needs_no_classes(colours, tiny_backbone, tmp_path):
    flat = tmp_path / "flat"
    shutil.copytree(colours / "red", flat)
    result = run(config(flat, tiny_backbone, tmp_path))
    _, names, _ = table(tmp_path / "f.csv")
    assert result["images"] == 12 and {label for _, label, _ in names} == {""}


def test_with_everything_stored_keras_is_not_loaded(colours, tiny_backbone, tmp_path, empty_store):
    for name in ("first.csv", "second.csv"):
        assert run(config(colours, tiny_backbone, tmp_path, out=str(tmp_path / name)))["images"] == 36
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()
    options = ["--backbone", str(tiny_backbone), "--out", str(tmp_path / "third.csv")]
    program = (
        "import sys; from tlkit.cli.main import app; app(sys.argv[1:], standalone_mode=False); "
        "print(sorted({'keras', 'tensorflow', 'pandas', 'ssl'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program, "features", str(colours), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing was computed" in done.stderr and done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "third.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()
    assert (tmp_path / "third.csv.json").read_bytes() == (tmp_path / "first.csv.json").read_bytes()


def test_another_network_under_the_same_name_is_noticed(colours, tiny_backbone, tmp_path, empty_cache):
    path = tmp_path / "mine.keras"
    shutil.copy(tiny_backbone, path)
    first = run(config(colours, path, tmp_path))
    model = keras.models.load_model(path)
    model.get_layer("block1_conv").bias.assign_add(np.ones(8, np.float32))
    model.save(path)
    second = run(config(colours, path, tmp_path, out=str(tmp_path / "g.csv")))
    assert (first["computed"], second["computed"]) == (36, 36)
    assert not np.allclose(table(tmp_path / "f.csv")[2], table(tmp_path / "g.csv")[2])


@pytest.mark.parametrize("computed", ["by Keras", "by ONNX Runtime"])
def test_what_is_remembered_wrongly_is_found_out_before_anything_is_stored(
    colours, tiny_backbone, tmp_path, empty_store, computed
):
    run(config(colours, tiny_backbone, tmp_path))
    [note] = (empty_store / "networks").glob("*.json")
    content = json.loads(note.read_text())
    content["facts"]["weights_sha256"] = "0" + content["facts"]["weights_sha256"]
    content["onnx"] = {"obstacle": "for the test"} if computed == "by Keras" else {}
    note.write_text(json.dumps(content | {"checksum": None}))  # as written by a version without checksums
    wanted = config(colours, tiny_backbone, tmp_path, out=str(tmp_path / "g.csv"))
    with pytest.raises(TlkitError, match="no longer the same network"):
        run(wanted)
    assert run(wanted)["computed"] == 0


def test_wrong_wishes_are_refused_before_any_work(colours, tiny_backbone, tmp_path):
    with pytest.raises(TlkitError, match="not a table format"):
        run(config(colours, tiny_backbone, tmp_path, out=str(tmp_path / "f.txt")))
    with pytest.raises(TlkitError, match="is not a layer") as caught:
        run(config(colours, tiny_backbone, tmp_path, layer="block2_rel"))
    assert "block2_relu" in caught.value.hint
    (tmp_path / "f.csv").write_text("mine")
    with pytest.raises(TlkitError, match="already exists"):
        run(config(colours, tiny_backbone, tmp_path))
    assert (tmp_path / "f.csv").read_text() == "mine"
