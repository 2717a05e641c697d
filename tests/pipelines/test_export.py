import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.listener import Listener
from tlkit.base.errors import OutOfDate, TlkitError
from tlkit.classifier.familiarity import NEIGHBOURS, Familiarity, fit_familiarity
from tlkit.classifier.model import load, save
from tlkit.exporting import export
from tlkit.exporting.artifact import sha256_of
from tlkit.exporting.formats import installed
from tlkit.options.catalog import FORMATS
from tlkit.options.commands import ExportConfig, PredictConfig, VerifyConfig
from tlkit.pipelines import predict, verify
from tlkit.pipelines.export import _folders, run

pytest.importorskip("tensorflow", reason="every format but Keras's own is made by TensorFlow")
ALWAYS = ("keras", "savedmodel", "litert", "litert-int8")  # need only TensorFlow


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """One run in the formats that need nothing else, what the pipeline returned and what it said."""
    out, story = tmp_path_factory.mktemp("export") / "exported", Listener()
    config = ExportConfig(run=str(finished[0]), format=ALWAYS, out=str(out), min_agreement=0.5)
    return out, run(config, story), story.said


def test_a_new_folder_of_artifacts_comes_in_one_step_and_another_keeps_what_it_has(tmp_path, monkeypatch):
    renamed = []

    def telling(move):
        def told(path, target):
            renamed.append(Path(target).relative_to(tmp_path))
            return move(path, target)

        return told

    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, telling(getattr(Path, name)))
    out = tmp_path / "new" / "exported"
    with pytest.raises(KeyboardInterrupt), _folders(out, ("keras", "onnx")):
        raise KeyboardInterrupt
    assert not out.exists() and not renamed
    for names in (("keras", "onnx"), ("litert",)):
        with _folders(out, names) as folders:
            for folder in folders.values():
                (folder / "contract.json").touch()
    assert renamed == [Path("new/exported"), Path("new/exported/litert")]
    assert sorted(path.name for path in out.iterdir()) == ["keras", "litert", "onnx"]
    assert list(out.parent.iterdir()) == [out] and all((path / "contract.json").exists() for path in out.iterdir())


def test_one_table_of_everything(exported):
    out, result, said = exported
    assert [Path(row["folder"]).name for row in result["artifacts"]] == list(ALWAYS)
    assert result["text"].count("\n") == 5 and sorted(path.name for path in out.iterdir()) == sorted(ALWAYS)
    by_kind = {row["kind"]: row for row in result["artifacts"]}
    for name in ("keras", "savedmodel", "litert"):
        assert by_kind[name]["measured"]["max_difference"] < 1e-4
        assert by_kind[name]["measured"]["agreement"] == 1 and by_kind[name]["measured"]["of"] == "test"
    assert by_kind["litert-int8"]["bytes"] < by_kind["litert"]["bytes"]
    quantised = by_kind["litert-int8"]["quantised"]
    assert quantised["calibration_images"] > 0
    assert quantised["split"] == "test" and quantised["images"] == by_kind["litert-int8"]["measured"]["images"]
    assert by_kind["savedmodel"]["encoded"]["agreement"] == 1
    assert any("encoded bytes" in line for line in said)


@pytest.mark.parametrize("name", ALWAYS)
def test_verify_repeats_the_check(exported, name):
    found = verify.run(VerifyConfig(artifact=str(exported[0] / name)))
    assert found["kind"] == name and found["max_difference"] <= found["tolerance"] and found["latency_ms"] > 0


@pytest.mark.parametrize("name", ALWAYS)
def test_the_program_says_what_tlkit_says(exported, finished, colours, name, capsys, monkeypatch):
    if name.startswith("litert") and not installed("ai_edge_litert"):
        pytest.skip("the program is for ai-edge-litert, which is not installed")
    files = [str(colours / label / "03.png") for label in ("red", "green", "blue")]
    monkeypatch.setattr("sys.argv", ["classify.py", *files])
    runpy.run_path(str(exported[0] / name / "classify.py"), run_name="__main__")
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    rows = predict.run(PredictConfig(run=str(finished[0]), paths=tuple(files)))["predictions"]
    close = 1e-3 if FORMATS[name].exact else 0.2
    for (path, label, probability), row in zip(printed, rows, strict=True):
        assert (path, label) == (row["path"], row["class"])
        assert float(probability) == pytest.approx(row["probability"], abs=close)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_formats_of_other_packages(finished, tmp_path, name):
    if not all(map(installed, (*FORMATS[name].writing, *FORMATS[name].running))):  # importing OpenVINO sends usage data
        pytest.skip(f"tlkit[{FORMATS[name].extra}] is not installed")
    result = run(ExportConfig(run=str(finished[0]), format=(name,), out=str(tmp_path / "out")))
    assert result["artifacts"][0]["measured"]["agreement"] == 1
    assert verify.run(VerifyConfig(artifact=str(tmp_path / "out" / name)))["agreement"] == 1


def test_the_readme_holds_the_program_and_the_contract_speaks_of_every_file(exported, finished):
    folder = exported[0] / "savedmodel"
    assert (folder / "classify.py").read_text() in (folder / "README.md").read_text()
    contract = json.loads((folder / "contract.json").read_text())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"contract.json"}
    assert set(contract["files"]) == files
    assert (folder / "labels.txt").read_text().split() == contract["classes"] == ["blue", "green", "red"]
    assert contract["source_sha256"] == sha256_of(finished[0] / "model.keras")
    assert contract["temperature"] == load(finished[0] / "model.keras").facts.temperature


@pytest.mark.parametrize("joined", [False, True], ids=["distance", "joined"])
def test_a_classifier_that_knows_its_training_images_says_so_without_tlkit(
    joined, finished, colours, tmp_path, monkeypatch
):
    """The features come out of the graph, and the program measures what `Familiarity` measures."""
    classifier = load(finished[0] / "model.keras")
    random = np.random.default_rng(0)
    shape = (25, classifier.model.output_shape[-1])
    logits = random.normal(size=shape) if joined else None
    known = fit_familiarity(random.normal(size=(60, 16)), random.normal(size=(25, 16)), logits)
    assert (
        isinstance(known, Familiarity) and (known.weight > 0) == joined and (len(known.places) > NEIGHBOURS) != joined
    )
    save(classifier.with_facts(threshold=0.999).knowing(known), tmp_path / "model.keras")
    formats = ("keras", "savedmodel")
    run(ExportConfig(run=str(tmp_path / "model.keras"), format=formats, out=str(tmp_path / "out"), check_images=0))
    files = (str(colours / "red" / "03.png"),)
    row = predict.run(PredictConfig(run=str(tmp_path / "model.keras"), paths=files))["predictions"][0]
    for name in formats:
        program = runpy.run_path(str(tmp_path / "out" / name / "classify.py"))
        found = program["outputs_of"](program["pixels"](files[0]))
        assert program["unfamiliarity"](found["features"][0], found["logits"][0]) == pytest.approx(
            row["unfamiliarity"], abs=2e-3
        )
        assert 'CONTRACT["threshold"]' in (tmp_path / "out" / name / "classify.py").read_text()


def test_an_unfaithful_artifact_is_refused_and_leaves_nothing(finished, tmp_path, monkeypatch):
    def blunt(name, classifier, path, calibration):
        broken = load(finished[0] / "model.keras")
        kernel = broken.model.layers[-1].weights[0]
        kernel.assign(np.asarray(kernel) * 1.01)
        save(broken, path)

    monkeypatch.setattr(export, "write", blunt)
    with pytest.raises(OutOfDate, match="this classifier as keras gives other logits"):
        run(ExportConfig(run=str(finished[0]), out=str(tmp_path / "out"), check_images=0))
    assert list(tmp_path.iterdir()) == []


def test_verify_notices_a_model_that_is_whole_and_says_something_else(exported, tmp_path):
    folder = tmp_path / "keras"
    shutil.copytree(exported[0] / "keras", folder)
    classifier = load(folder / "model.keras")
    bias = classifier.model.layers[-1].weights[1]
    bias.assign(np.asarray(bias) + 0.01)
    save(classifier, folder / "model.keras")
    with pytest.raises(OutOfDate, match=r"model\.keras has changed"):
        verify.run(VerifyConfig(artifact=str(folder)))
    contract = json.loads((folder / "contract.json").read_text())
    contract["files"]["model.keras"]["sha256"] = sha256_of(folder / "model.keras")
    (folder / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(TlkitError, match=r"contract\.json is damaged"):
        verify.run(VerifyConfig(artifact=str(folder)))
    del contract["checksum"]
    (folder / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(OutOfDate, match=r"differs by 0\.01"):
        verify.run(VerifyConfig(artifact=str(folder)))


def test_nothing_is_overwritten_unasked_and_only_artifacts_when_asked(finished, tmp_path):
    options = {"run": str(finished[0]), "out": str(tmp_path), "check_images": 0}
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "thesis.txt").write_text("mine")
    with pytest.raises(TlkitError, match="already exists"):
        run(ExportConfig(**options))
    with pytest.raises(TlkitError, match="is not an artifact"):
        run(ExportConfig(**options, overwrite=True))
    (tmp_path / "keras" / "thesis.txt").rename(tmp_path / "thesis.txt")
    first = run(ExportConfig(**options))
    again = run(ExportConfig(**options, overwrite=True))
    assert again["artifacts"][0]["folder"] == first["artifacts"][0]["folder"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keras", "thesis.txt"]


def test_images_that_are_gone_stop_only_what_needs_them(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"root": str(tmp_path / "moved"), "checksum": None}))
    story = Listener()
    run(ExportConfig(run=str(copy), out=str(tmp_path / "out")), story)
    assert any("golden images alone" in line for line in story.said)
    with pytest.raises(OutOfDate, match="litert-int8 is calibrated and measured on the run's images"):
        run(ExportConfig(run=str(copy), format=("litert-int8",), out=str(tmp_path / "out")))


def test_quantisation_that_costs_too_much_is_refused(exported, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "agreement", lambda logits, expected, *_: 0.42)
    options = {"format": ("litert-int8",), "calibration_images": 10, "out": str(tmp_path / "out")}
    with pytest.raises(TlkitError, match=r"only 42\.0 % of"):
        run(ExportConfig(run=str(finished[0]), **options))
    assert not (tmp_path / "out").exists()


def test_options_that_make_no_sense():
    for options in ({"format": ()}, {"format": ("keras", "keras")}, {"format": ("litert-int8",), "check_images": 0}):
        with pytest.raises(TlkitError):
            ExportConfig(run=".", **options)
