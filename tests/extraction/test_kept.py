"""Networks kept as ONNX: features without TensorFlow, the same rows, and damage to the files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import keras
import numpy as np
import pytest

from tests.listener import Listener
from tlkit.backbones.build import build_backbone
from tlkit.base import files
from tlkit.base.errors import TlkitError
from tlkit.data.decode import decode
from tlkit.data.scan import scan
from tlkit.extraction import kept
from tlkit.extraction.recall import feature_source
from tlkit.extraction.source import FeatureSource
from tlkit.options.commands import FeaturesConfig
from tlkit.pipelines.features import run

pytest.importorskip("onnxruntime", reason="comes with tlkit")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends compute for themselves")


def asked(images, backbone, **options):
    return FeaturesConfig(images=str(images), backbone=str(backbone), **options)


def extracted(config, images, story=None):
    """Features, and the summary of the extraction."""
    _, source = feature_source(config, story or Listener())
    found = source.extract(scan(images))
    return found.rows[:], found


@pytest.fixture(scope="module")
def images(colours, tmp_path_factory):
    """Some of the pictures, in two disjoint folders."""
    root = tmp_path_factory.mktemp("pictures")
    for part, numbers in (("first", range(5)), ("second", range(5, 9))):
        for number in numbers:
            target = root / part / "red" / f"{number:02d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(colours / "red" / f"{number:02d}.png", target)
    return root / "first", root / "second"


@pytest.fixture(scope="module")
def written(images, tiny_backbone, tmp_path_factory):
    """The rows of the first pictures, and a cache that holds the network but no rows."""
    cache = tmp_path_factory.mktemp("written") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKIT_CACHE", str(cache))
        rows, _ = extracted(asked(images[0], tiny_backbone), images[0])
    shutil.rmtree(cache / "features")
    return rows, cache


def test_rows_are_those_of_keras_and_belong_to_the_same_space(images, tiny_backbone, empty_cache):
    config, story = asked(images[0], tiny_backbone), Listener()
    rows, found = extracted(config, images[0], story)
    assert found.engine.startswith("onnx") and "written as ONNX" in " ".join(story.said)
    origin, source = feature_source(config, Listener())
    pixels = np.stack([decode(file, source.contract) for file in sorted((images[0] / "red").iterdir())])
    grid = np.asarray(build_backbone(str(tiny_backbone)).model(pixels))
    np.testing.assert_allclose(rows, grid.mean(axis=(1, 2)), atol=1e-5)
    [about] = [json.loads(file.read_text()) for file in (empty_cache / "networks").glob("*.json")]
    assert 0 <= about["onnx"]["difference"] < 1e-5 and origin.shape == (16,)
    again, found = extracted(asked(images[0], tiny_backbone, engine="tensorflow-frozen"), images[0])
    assert found.passes == 0  # the rows of one engine are used by the other
    np.testing.assert_array_equal(again, rows)


PROGRAM = """
import sys
from tlkit.cli.main import app
app(sys.argv[1:], standalone_mode=False)
print(sorted({"keras", "tensorflow", "jax"} & sys.modules.keys()))
"""


def test_neither_the_first_time_nor_for_new_images_is_keras_loaded(images, tiny_backbone, tmp_path, empty_cache):
    said = []
    for number, folder in enumerate(images):
        out = str(tmp_path / f"{number}.csv")
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            "features",
            str(folder),
            "--backbone",
            str(tiny_backbone),
            "--out",
            out,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout
        assert "TensorFlow is not loaded" in done.stderr
        said.append(done.stderr)
    assert ["written as ONNX" in each for each in said] == [True, False]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "note"])
def test_a_damaged_file_is_written_again(images, tiny_backbone, written, empty_cache, damage):
    config, rows = asked(images[0], tiny_backbone), written[0]
    shutil.copytree(written[1], empty_cache)
    [file], [note] = (list((empty_cache / "networks").glob(f"*.{kind}")) for kind in ("onnx", "json"))
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "note":
        note.write_text(note.read_text()[:-40])
    else:
        middle = len(content) // 2
        file.write_bytes(content[:middle] if damage == "cut" else content[:middle] + b"!!!!" + content[middle + 4 :])
    story = Listener()
    again, found = extracted(config, images[0], story)
    assert found.passes == 5 and found.engine.startswith("onnx")
    assert "written as ONNX" in " ".join(story.said)
    np.testing.assert_array_equal(again, rows)
    assert file.read_bytes() == content


def test_other_weights_layers_and_sizes_never_share(images, tiny_backbone, tmp_path, empty_cache):
    mine = tmp_path / "mine.keras"
    shutil.copy(tiny_backbone, mine)
    first, _ = extracted(asked(images[0], mine), images[0])
    extracted(asked(images[0], mine, layer="block2_relu"), images[0])
    extracted(asked(images[0], mine, pool="max"), images[0])
    model = keras.models.load_model(mine)
    model.get_layer("block1_conv").bias.assign_add(np.ones(8, np.float32))
    model.save(mine)
    second, found = extracted(asked(images[0], mine), images[0])
    assert found.passes == 5 and not np.allclose(first, second)
    left = list((empty_cache / "networks").glob("*.onnx"))
    assert len({file.read_bytes() for file in left}) == len(left) == 3  # the first network's was replaced


MOMENTS = {
    "as the file is written": ".tmp-*.onnx",
    "before the note": "[!.]*.onnx",
    "as the note is written": ".tmp-*.json",
}


def test_killed_at_any_moment_of_writing_nothing_false_is_left(images, tiny_backbone, written, empty_cache):
    config, rows = asked(images[0], tiny_backbone), written[0]
    program = "import sys; from tlkit.cli.main import app; app(sys.argv[1:])"
    command = [sys.executable, "-c", program, "features", str(images[0]), "--backbone", str(tiny_backbone)]
    for moment in MOMENTS.values():
        shutil.rmtree(empty_cache, ignore_errors=True)
        process = subprocess.Popen(
            [*command, "--out", str(empty_cache.with_name("killed.csv")), "--overwrite"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and not list((empty_cache / "networks").glob(moment)):
            time.sleep(0.0005)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the process that writes, too
        process.wait()
        again, _ = extracted(config, images[0])
        np.testing.assert_array_equal(again, rows)
    files._swept.clear()
    files.sweep(empty_cache / "networks")  # as the next process does
    kinds = sorted(file.name.rpartition(".")[2] for file in (empty_cache / "networks").iterdir())
    assert kinds == ["json", "onnx"]


def test_with_enough_to_compute_tensorflow_is_worth_its_start(images, tiny_backbone, empty_cache, monkeypatch):
    monkeypatch.setattr(kept, "ENOUGH", 0.0)
    story = Listener()
    _, found = extracted(asked(images[0], tiny_backbone), images[0], story)
    assert found.engine.startswith("tensorflow-frozen") and "which pays with 5 images" in " ".join(story.said)
    [note] = (empty_cache / "networks").glob("*.json")
    first = files.read_checked_json(note)["onnx"]
    assert first["seconds"] > 0  # by which the next process, or shard, decides like this one
    extracted(asked(images[1], tiny_backbone), images[1])
    assert files.read_checked_json(note)["onnx"] == first


def test_where_fewer_multiplications_put_it_ahead_tensorflow_is_not_started_for_many_images(
    images, tiny_backbone, empty_cache, monkeypatch
):
    extracted(asked(images[0], tiny_backbone), images[0])
    [note] = (empty_cache / "networks").glob("*.json")
    found = files.read_checked_json(note)
    files.write_checked_json(note, found | {"onnx": found["onnx"] | {"gain": 1.0}})
    monkeypatch.setattr(kept, "ENOUGH", 0.0)
    _, found = extracted(asked(images[1], tiny_backbone), images[1])
    assert found.engine.startswith("onnx")


def test_what_nobody_waits_for_is_ended(tmp_path, tiny_backbone, empty_cache):
    (tmp_path / "empty").mkdir()
    config = asked(tmp_path / "empty", tiny_backbone, out=str(tmp_path / "f.csv"))
    with pytest.raises(TlkitError):
        run(config)
    assert kept._begun == {} and not (tmp_path / "f.csv").exists()


@pytest.fixture
def strange(tmp_path):
    """A backbone with a layer that has no translation."""
    images = keras.Input((32, 32, 3))
    tensor = keras.layers.Conv2D(4, 3, strides=4, padding="same", name="first")(images)
    tensor = keras.layers.UpSampling2D(2, name="wider")(tensor)
    keras.Model(images, keras.layers.Conv2D(5, 3, name="last")(tensor)).save(tmp_path / "strange.keras")
    return tmp_path / "strange.keras"


def test_who_is_interrupted_while_a_runtime_is_loaded_is_interrupted(tmp_path, monkeypatch):
    def loading(name):  # how a C module handles Ctrl+C
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr(kept, "begin", lambda place, config, wish: None)
    monkeypatch.setattr(kept.importlib, "import_module", loading)
    with pytest.raises(KeyboardInterrupt):
        kept.write(tmp_path / "note.json", asked(tmp_path, "nano"), {}, Listener())


def test_a_note_that_cannot_be_written_is_made_another_time(tiny_backbone, images, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tlkit.extraction.recall.write_checked_json", refuse)
    config = asked(images[0], tiny_backbone, engine="keras")
    assert feature_source(config, Listener())[0].shape == (16,)


def test_a_network_that_has_no_translation_is_computed_by_keras_and_not_tried_again(
    images, strange, empty_cache, monkeypatch
):
    story = Listener()
    _, found = extracted(asked(images[0], strange), images[0], story)
    assert found.engine.startswith("tensorflow-frozen")
    assert "wider is a UpSampling2D" in " ".join(story.said)
    monkeypatch.setattr(kept, "write", lambda *_: pytest.fail("tried again"))
    _, found = extracted(asked(images[1], strange), images[1])
    assert found.engine.startswith("tensorflow-frozen") and found.passes == 4


def test_a_file_that_gives_other_numbers_is_not_kept(images, tiny_backbone, tmp_path):
    """A wrong translation in the process that writes."""
    program = (
        "import sys; from tlkit.extraction import translate\n"
        "from tlkit.backbones import numpy_backend; numpy_backend.start()\n"
        "def wrong(graph, call, layer): graph.give(call.outputs[0], graph.value(call.inputs[0], True))\n"
        "import tlkit.extraction.onnx_graph as written; written.LAYERS['ReLU'] = wrong\n"
        "from pathlib import Path; import json; asked = json.load(sys.stdin)\n"
        "print(translate.write(Path(sys.argv[1]), asked['options'], asked['wish']))\n"
    )
    note = tmp_path / "note.json"
    options = {"images": str(images[0]), "backbone": str(tiny_backbone)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(note)],
        input=json.dumps({"options": options, "wish": {}}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "differs from Keras" in done.stdout
    assert not note.with_suffix(".onnx").exists() and "obstacle" in json.loads(note.read_text())["onnx"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"weights": "none"}, "random weights"),
        ({"engine": "keras"}, "--engine keras"),
        ({"precision": "bfloat16"}, "bfloat16"),
        ({"backbone": "hub:resnet_18_imagenet"}, "another library"),
    ],
)
def test_what_it_is_not_for(options, why, colours):
    assert why in kept.why_not(FeaturesConfig(images=str(colours), **options))


def test_neither_where_another_backend_or_a_gpu_computes(colours, monkeypatch):
    config = FeaturesConfig(images=str(colours), backbone="nano")
    monkeypatch.setattr(kept, "accelerators_visible", lambda: True)
    assert "GPU" in kept.why_not(config)
    monkeypatch.setattr(kept, "accelerators_visible", lambda: False)
    assert kept.why_not(config) == ""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "jax" in kept.why_not(config)


def test_rows_in_bfloat16_are_never_computed_by_it(images, tiny_backbone, empty_cache):
    _, source = feature_source(asked(images[0], tiny_backbone, precision="auto"), Listener())
    source = source.asked(asked(images[0], tiny_backbone, precision="bfloat16"))
    called = []
    changed = FeatureSource(**{**vars(source), "quick": lambda images: called.append(images)})
    assert changed.precision == "bfloat16"
    with suppress(TlkitError):  # no bfloat16 on this processor
        changed.engine_for(5)
    assert called == []


def test_what_was_used_longest_ago_goes_when_there_are_too_many(empty_cache, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE_BYTES", "4000")  # a quarter of it: three files of 300 bytes
    folder = kept.networks_dir()
    folder.mkdir(parents=True)
    for used, name in enumerate("abcde"):
        (folder / f"{name}.onnx").write_bytes(bytes(300))
        os.utime(folder / f"{name}.onnx", (used, used))
    kept.prune(folder / "a.onnx")
    assert sorted(each.file.stem for each in kept.list_kept()) == ["a", "d", "e"]
    assert kept.clear(older_than=1) == 900 and kept.list_kept() == []
