import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.listener import Listener
from tlkit.base.errors import TlkitError
from tlkit.base.files import sha256_file
from tlkit.classifier.facts import read_facts, write_facts
from tlkit.extraction import onnx_engine
from tlkit.options.commands import PredictConfig
from tlkit.pipelines import predict
from tlkit.runs import record
from tlkit.runs.folder import RunDir

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.fixture
def run_folder(finished, tmp_path):
    """A finished run of its own, to damage."""
    return shutil.copytree(finished[0], tmp_path / "run")


def answered(run, images, **options):
    story = Listener()
    found = predict.run(PredictConfig(run=str(run), paths=(str(images),), top=3, **options), story)["predictions"]
    engine = next(text for text in story.said if text.startswith("engine "))
    return found, engine, story


def test_the_answering_file_says_what_keras_says(finished, colours):
    ours, engine, _ = answered(finished[0], colours)
    theirs, other, _ = answered(finished[0], colours, engine="keras")
    assert engine.startswith("engine onnx") and other.startswith("engine keras")
    assert len(ours) == len(theirs) == 36
    for one, two in zip(ours, theirs, strict=True):
        assert (one["path"], one["class"]) == (two["path"], two["class"])
        assert one["probability"] == pytest.approx(two["probability"], abs=1e-4)
        assert ("unfamiliarity" in one) == ("unfamiliarity" in two)
        if "unfamiliarity" in one:
            assert one["unfamiliarity"] == pytest.approx(two["unfamiliarity"], rel=1e-3, abs=1e-3)


def test_answering_loads_no_network_library(finished, colours):
    image = str(next(colours.rglob("*.png")))
    program = (
        "import atexit, sys; from tlkit.cli.main import main; atexit.register(lambda: "
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'pandas', 'sklearn', 'scipy', 'pyarrow'} & set(sys.modules)))); main()"
    )
    asked = [sys.executable, "-c", program, "predict", str(finished[0]), image]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1].endswith("[]"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b""), "damaged"),
        (lambda folder: (folder / "model.onnx").unlink(), "damaged"),
        (lambda folder: (folder / "answer.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "answer.json").write_text("{"), "damaged"),
        (lambda folder: shutil.rmtree(folder), "has no answering file"),
    ],
    ids=["emptied", "gone", "another document", "cut", "none"],
)
def test_what_is_damaged_is_not_believed(run_folder, colours, damage, reason):
    before, _, _ = answered(run_folder, colours)
    damage(run_folder / "answer")
    after, engine, story = answered(run_folder, colours)
    assert not engine.startswith("engine onnx")
    assert any(reason in text for text in story.said if "loading Keras" in text)
    assert [row["class"] for row in before] == [row["class"] for row in after]


def test_one_flipped_bit_in_the_answering_file_is_noticed(run_folder):
    file = run_folder / "answer" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "damaged" in onnx_engine.why_not(run_folder / "model.keras")


def test_the_file_of_another_network_is_not_believed(run_folder):
    about = run_folder / "answer" / "answer.json"
    content = json.loads(about.read_text())
    content["network"]["model.weights.h5"] ^= 1
    about.write_text(json.dumps(content))
    assert "another network" in onnx_engine.why_not(run_folder / "model.keras")


def test_facts_may_change_without_the_answering_file(run_folder, colours):
    model = run_folder / "model.keras"
    run_dir = RunDir(run_folder)
    chosen = replace(read_facts(model), threshold=1.0)
    write_facts(model, chosen, lambda new: record.expect(run_dir, model, sha256_file(new)))
    found, engine, _ = answered(run_folder, colours)
    assert engine.startswith("engine onnx")
    assert all(row["abstain"] for row in found)


def test_asking_for_a_file_that_is_not_there_is_refused(run_folder, colours):
    shutil.rmtree(run_folder / "answer")
    with pytest.raises(TlkitError, match="no answering file"):
        answered(run_folder, colours, engine="onnx")


def test_gelu_is_written_so_that_onnx_knows_it(tmp_path):
    import keras

    from tlkit.exporting.writers import with_erf

    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    tensor = keras.layers.Conv2D(4, 3, activation="gelu")(images)
    tensor = keras.layers.Activation("gelu")(tensor)
    tensor = keras.layers.GlobalAveragePooling2D()(tensor)
    model = keras.Model(images, keras.layers.Dense(3, activation="relu")(tensor))
    pixels = np.random.default_rng(0).normal(0, 2, (5, 8, 8, 3)).astype(np.float32)
    rewritten = with_erf(model)
    assert rewritten is not model
    np.testing.assert_allclose(rewritten.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-6)
    plain = keras.Model(images, keras.layers.Conv2D(4, 3, activation="relu")(images))
    assert with_erf(plain) is plain
