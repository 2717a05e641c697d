import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.listener import Listener
from tlkit.base.errors import TlkitError
from tlkit.base.files import sha256_file
from tlkit.classifier.facts import read_facts, write_facts
from tlkit.extraction import onnx_engine
from tlkit.options.commands import ExportConfig, PredictConfig
from tlkit.pipelines import export, predict
from tlkit.runs import record
from tlkit.runs.folder import RunDir

LOCK = Path(__file__).parents[2] / "docker" / "answer.lock"
pytest.importorskip("tensorflow", reason="answering files are made by TensorFlow")


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
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'pandas', 'sklearn', 'scipy', 'pyarrow'} & "
        "set(sys.modules)))); main()"
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
    write_facts(model, chosen, lambda new: record.expect(run_dir, {model.name: sha256_file(new)}))
    found, engine, _ = answered(run_folder, colours)
    assert engine.startswith("engine onnx")
    assert all(row["abstain"] for row in found)


def test_asking_for_a_file_that_is_not_there_is_refused(run_folder, colours):
    shutil.rmtree(run_folder / "answer")
    with pytest.raises(TlkitError, match="no answering file"):
        answered(run_folder, colours, engine="onnx")


# Only packages of docker/answer.lock can be imported: a prediction-only installation, without TensorFlow and Keras.
ANSWERING = """
import json, re, sys, threading, urllib.error, urllib.request
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

plain = lambda name: re.sub("[-_.]+", "-", name).lower()
locked = {plain(line.split("==")[0]) for line in Path(sys.argv[1]).read_text().splitlines() if "==" in line}
known = {module: {plain(name) for name in names} for module, names in packages_distributions().items()}


class OnlyLocked(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        return super().find_spec(name, path, target) if top == "tlkit" or known.get(top, locked) & locked else None


sys.meta_path[sys.meta_path.index(PathFinder)] = OnlyLocked
import tlkit
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence

run, image, artifact = sys.argv[2:]
found = {"predict": tlkit.predict(run, [image], story=Silence())["predictions"][0]}
found["verify"] = tlkit.verify(artifact, story=Silence())["agreement"]
for name, arguments in {"finetune": {"backbone": "nano"}, "evaluate": {}}.items():
    try:
        getattr(tlkit, name)(*([run] if name == "evaluate" else []), str(Path(image).parent), story=Silence(), **arguments)
    except TlkitError as error:
        found[name] = error.message


class Ready(Silence):
    def say(self, text):
        if text.startswith("ready: "):
            self.address = text.split()[1]
            ready.set()


story, stop, ready = Ready(), threading.Event(), threading.Event()
from tlkit.options.commands import ServeConfig
from tlkit.pipelines import serve

thread = threading.Thread(target=lambda: serve.run(ServeConfig(run=run, port=0), story, stop=stop))
thread.start()
ready.wait(120)
import base64

body = json.dumps({"images": [base64.b64encode(Path(image).read_bytes()).decode()]}).encode()
for query in ("", "?explain=true"):
    request = urllib.request.Request(story.address + "/v1/predict" + query, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            found["serve" + query] = json.load(answer)["results"][0]
    except urllib.error.HTTPError as error:
        found["serve" + query] = json.load(error)
stop.set()
thread.join()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def artifact(finished, tmp_path_factory):
    """The run as an exported ONNX file."""
    out = tmp_path_factory.mktemp("artifact") / "exported"
    export.run(ExportConfig(run=str(finished[0]), format=("onnx",), out=str(out)))
    return out / "onnx"


def test_an_installation_of_what_the_answering_image_holds_answers(finished, colours, artifact):
    image = str(colours / "red" / "03.png")
    words = [sys.executable, "-c", ANSWERING, str(LOCK), str(finished[0]), image, str(artifact)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    (expected,), _, _ = answered(finished[0], image, engine="keras")
    assert found["predict"]["class"] == expected["class"]
    assert found["predict"]["probability"] == pytest.approx(expected["probability"], abs=1e-4)
    assert found["verify"] == 1
    assert found["serve"]["predicted"] == [expected["class"]]
    assert found["serve"]["probability"] == pytest.approx(expected["probability"], abs=1e-4)
    assert found["serve?explain=true"]["status"] == 422 and "no Keras" in found["serve?explain=true"]["detail"]
    for name in ("finetune", "evaluate"):
        assert found[name] == f"tlkit {name} needs the package 'keras', which is not installed here."


@pytest.mark.parametrize("count", [0, 1, 8, 9, 20])
def test_a_batch_is_the_images_one_by_one(finished, count):
    call = onnx_engine.open_session(onnx_engine.answer_folder(finished[0] / "model.keras") / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    together = call(images)
    assert together["logits"].shape == (count, 3)
    for number in range(count):
        alone = call(images[number : number + 1])
        for name, values in together.items():
            np.testing.assert_allclose(values[number], alone[name][0], rtol=1e-4, atol=1e-5)
