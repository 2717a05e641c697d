"""A thing of which there are many is one file and one row: each test adds one, and sees it arrive without another change.

The files are written by the tests, the rows put into the tables for as long as a test runs.
"""

import contextlib
import json
from dataclasses import replace

import jinja2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.auditing.evidences import clouds, evidence
from tests.report.pages import full_page
from tlkit.auditing import audit as auditing
from tlkit.auditing.findings import Finding
from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.classifier.answers import Predictions
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose, load, save
from tlkit.cli import commands
from tlkit.cli.commands import COMMANDS, Command
from tlkit.cli.help import SectionedCommand
from tlkit.cli.parameters import typer_function
from tlkit.data.dataset import InputContract
from tlkit.data.scan import scan
from tlkit.evaluation import class_measures, stored
from tlkit.evaluation.compare import COMPARED
from tlkit.evaluation.evaluate import MEASURES, evaluate
from tlkit.evaluation.results import Metric
from tlkit.exporting.golden import Inputs, draw
from tlkit.exporting.snippets import PROGRAMS
from tlkit.exporting.writers import in_keras
from tlkit.extraction import executors
from tlkit.extraction.source import FeatureSource, Tap
from tlkit.extraction.transforms import table as transforms
from tlkit.options import catalog
from tlkit.options.commands import BackbonesConfig, ExportConfig, FeaturesConfig, FinetuneConfig, VerifyConfig
from tlkit.options.groups import HeadOptions
from tlkit.pipelines import export, features, verify
from tlkit.pipelines.upkeep import backbones
from tlkit.report import build, glossary
from tlkit.report.audit_page import AuditPage, render_audit
from tlkit.report.tasks import WORDS
from tlkit.tasks import registry
from tlkit.tasks.number import NUMBER
from tlkit.tasks.registry import TASKS, row_of
from tlkit.tasks.single import SINGLE
from tlkit.training.balance import SOLVERS


@pytest.fixture
def add_file(tmp_path, monkeypatch):
    """Writes a module where Python finds it; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    return add


def help_of(name: str) -> str:
    """What `tlkit NAME --help` prints, in one line; docs/cli.md is made of it."""
    app = typer.Typer(rich_markup_mode=None)
    for row in commands.COMMANDS:
        app.command(row.name, cls=SectionedCommand)(typer_function(row, lambda *given, **common: None))
    return " ".join(CliRunner().invoke(app, [name, "--help-all"]).output.split())


HEAD = """
import keras

def doubled(features, options):
    return keras.layers.Concatenate(name="head_twice")([features, features])
"""


def test_a_head(add_file, monkeypatch, tiny_backbone, tmp_path):
    row = catalog.HeadRow("doubled", "pooled", add_file("doubled_head", HEAD))
    monkeypatch.setitem(catalog.HEADS, "doubled", row)
    assert "doubled" in help_of("finetune")
    config = FinetuneConfig(images="images", head="doubled", backbone=str(tiny_backbone))
    assert json.loads(json.dumps(config.as_dict()))["head"] == "doubled"
    backbone = build_backbone(tiny_backbone)
    head = build_head(HeadOptions(head="doubled", pooling="max"), backbone.grid_shape, 3)
    classifier = compose(backbone, head, ("a", "b", "c"), InputContract(height=32, width=32))
    save(classifier, tmp_path / "model.keras")
    images = Inputs(draw(32, 32))
    found = in_keras(load(tmp_path / "model.keras"), images)["logits"]
    assert head.reads == "pooled" and found.shape == (len(images), 3)


FAMILY = """
import keras

def build(spec, image_size, *, random_weights, seed, story):
    images = keras.Input((*(image_size or (24, 24)), 3), name="images")
    scaled = keras.layers.Rescaling(1 / 255, name="scale")(images)
    width = int(spec.partition(":")[2])
    return keras.Model(images, keras.layers.Conv2D(width, 8, strides=8, name="patches")(scaled))
"""


def test_a_family_of_backbones(add_file, monkeypatch):
    row = catalog.Family("patches", "patches:16", "one layer of patches", add_file("patches_family", FAMILY))
    monkeypatch.setitem(catalog.FAMILIES, "patches", row)
    FinetuneConfig(images="images", backbone="patches:5")  # is accepted
    backbone = build_backbone("patches:5")
    assert backbone.grid_shape == (3, 3, 5) and backbone.preprocess == "patches" and backbone.foreign == ()
    listed = backbones.run(BackbonesConfig())
    assert "one layer of patches: patches:16." in listed["text"]
    assert {"prefix": "patches", "title": "one layer of patches"} in listed["families"]


FORMAT = """
import json
import shutil

import numpy as np

IMPORTS = "import keras"
RUN = '''
model = keras.models.load_model(HERE / "model.copy.keras", compile=False)


def outputs_of(images):
    return {"logits": model.predict(images, verbose=0)}
'''

def write(row, classifier, path, calibration):
    from tlkit.classifier.model import save
    save(classifier, path)

def open_model(path):
    import keras
    model = keras.models.load_model(path, compile=False)
    return lambda images: {"logits": np.asarray(model.predict_on_batch(images))}
"""


def test_an_export_format(add_file, monkeypatch, tiny_backbone, tmp_path):
    module = add_file("copy_format", FORMAT)
    row = catalog.Format("copy", "A copy", "model.copy.keras", "", (), ("keras",), "keras tensorflow", module)
    monkeypatch.setitem(catalog.FORMATS, "copy", row)
    assert "copy" in help_of("export")
    backbone = build_backbone(tiny_backbone)
    classifier = compose(
        backbone, build_head(HeadOptions(), backbone.grid_shape, 2), ("a", "b"), InputContract(height=32, width=32)
    )
    save(classifier, tmp_path / "model.keras")
    config = ExportConfig(run=str(tmp_path / "model.keras"), format=("copy",), out=str(tmp_path / "out"))
    (artifact,) = export.run(config)["artifacts"]
    assert artifact["kind"] == "copy" and artifact["measured"]["max_difference"] == 0
    assert json.loads((tmp_path / "out/copy/contract.json").read_text())["kind"] == "copy"
    assert "model.copy.keras" in (tmp_path / "out/copy/classify.py").read_text()
    assert "for A copy" in (tmp_path / "out/copy/README.md").read_text()
    assert verify.run(VerifyConfig(artifact=str(tmp_path / "out/copy")))["kind"] == "copy"


def test_an_audit_check(monkeypatch):
    def check(found):
        yield Finding(
            check="weekdays", severity="note", sentence=f"{len(found)} images are of a Monday.", remedy="Rest."
        )

    row = auditing.Check("weekdays", "the day of the week", check, lambda found: "")
    monkeypatch.setattr(auditing, "CHECKS", (*auditing.CHECKS, row))
    result = auditing.audit(evidence(*clouds(12)))
    assert result.checks["weekdays"] == ""
    assert "36 images are of a Monday." in json.dumps(result.as_json())
    assert "36 images are of a Monday." in render_audit(AuditPage(title="audit", result=result))
    assert "36 images are of a Monday." in build.render(full_page(audit=result))


def test_a_report_section(monkeypatch, tmp_path):
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "moon.html").write_text('<section id="moon"><h2>Moon</h2>{{ page.title }}</section>')
    loader = jinja2.ChoiceLoader([build.environment().loader, jinja2.FileSystemLoader(tmp_path)])
    found = build.environment().overlay(loader=loader)
    monkeypatch.setattr(build, "environment", lambda sample: found)
    row = build.Section("moon", "Moon", lambda facts: facts["metrics"])
    monkeypatch.setattr(build, "SECTIONS", (*build.SECTIONS, row))
    text = build.render(full_page())
    assert '<section id="moon">' in text and '<a href="#moon">Moon</a>' in text
    monkeypatch.undo()
    assert "moon" not in build.render(full_page())


def test_a_metric(monkeypatch):
    """One that an evaluation gives is named, explained and written as its row says."""
    monkeypatch.setitem(
        glossary.ENTRIES, "luck", glossary.MetricWords("Luck", True, "Share of images that were lucky.")
    )
    page = full_page()
    for result in page.evaluation.splits.values():
        result.metrics["luck"] = Metric(0.625, 8, 0.25, 0.875)
    text = build.render(page)
    assert "Share of images that were lucky." in text and "62.5" in text
    assert page.evaluation.as_json()["splits"]["test"]["metrics"]["luck"]["value"] == 0.625


class Graded(type(SINGLE)):
    """A task: classes that are grades, told apart as `single` tells classes."""

    name = "graded"
    gives = "gives one grade to each image"


@pytest.fixture
def graded(monkeypatch):
    """The first row of the table, so that whole numbers are grades."""
    known = dict(TASKS)
    TASKS.clear()
    TASKS.update({"graded": Graded(), **known})
    yield TASKS["graded"]
    TASKS.clear()
    TASKS.update(known)


def test_a_task(graded, tmp_path):
    """A kind of another task has its rows in the other tables, until it has its own."""
    page = full_page()
    assert page.predictions.task is graded
    found = evaluate(page.predictions)
    assert found.as_json()["splits"]["test"]["task"] == "graded"
    assert "Accuracy" in build.render(replace(page, evaluation=found))
    page.predictions.write_csv(tmp_path / "predictions.csv")
    assert Predictions.read_csv(tmp_path / "predictions.csv").task is graded


class Dose(type(NUMBER)):
    """A task: a number that is told as `number` tells numbers."""

    name = "dose"
    gives = "gives a dose to each image"


def test_a_task_of_numbers(monkeypatch, tmp_path):
    known = dict(TASKS)
    monkeypatch.setattr(registry, "TASKS", {"dose": Dose(), **known})
    monkeypatch.setattr(stored, "TASKS", registry.TASKS)
    page = full_page()
    rows, random = page.predictions, np.random.default_rng(0)
    truth = random.normal(5, 1, (len(rows), 1))
    said = (truth + random.normal(0, 0.3, truth.shape)).astype(np.float32)
    labels = np.full(len(rows), -1, np.int32)
    rows = replace(rows, classes=("mg",), labels=labels, targets=truth, logits=said, margins=(0.6,), temperature=1.0)
    assert rows.task is registry.TASKS["dose"]
    found = evaluate(rows)
    assert found.as_json()["splits"]["test"]["task"] == "dose"
    text = build.render(replace(page, evaluation=found, predictions=rows))
    assert "mean absolute error on" in text and 'id="quantities"' in text
    rows.write_csv(tmp_path / "predictions.csv")
    assert Predictions.read_csv(tmp_path / "predictions.csv").task.name == "dose"


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_row_in_every_table(name):
    for table in (MEASURES, WORDS, PROGRAMS, SOLVERS, auditing.DOUBTS, COMPARED):
        row_of(table, TASKS[name])
    assert name in help_of("finetune") and TASKS[name].trained_by[0] in catalog.LOSSES
    assert ("auto", *TASKS) == catalog.TASKS


def test_a_metric_that_is_computed(monkeypatch):
    """A share of images: its row alone has it computed, with an interval, and shown in its words."""
    share = class_measures.Share(
        "Certain", "Share of images with a probability above 0.9.", lambda rows: rows.confidence > 0.9
    )
    monkeypatch.setitem(class_measures.SHARES, "certain", share)
    page = full_page()
    predictions = page.predictions
    page = replace(page, evaluation=evaluate(predictions))
    text = build.render(page)
    assert "Share of images with a probability above 0.9." in text
    for split, code in (("val", 1), ("test", 2)):
        found = page.evaluation.as_json()["splits"][split]["metrics"]["certain"]
        expected = predictions.confidence[predictions.splits == code] > 0.9
        assert found["value"] == expected.mean() and found["low"] < found["high"]


def test_a_command(monkeypatch):
    row = Command("moon", BackbonesConfig, "Say where the moon is.", ("tlkit moon",), lambda result: "")
    monkeypatch.setattr(commands, "COMMANDS", (*COMMANDS, row))
    assert "Say where the moon is." in help_of("moon")


class Halved:
    """A transform: the first features, halved."""

    @classmethod
    def fit(cls, rows, width, seed):
        made = cls()
        made.width, made.fitted_on = width, len(rows)
        return made

    def apply(self, values):
        return values[:, : self.width] / 2

    def describe(self):
        return {"method": "half", "explained": 0.5, "fitted_on": self.fitted_on}

    def arrays(self):
        return {"width": np.array(self.width)}


def test_a_transform_of_features(monkeypatch, colours, tiny_backbone, tmp_path):
    monkeypatch.setitem(transforms.TRANSFORMS, "half", Halved)
    with pytest.raises(TlkitError, match="half:N with N at least 1"):
        transforms.parse_reduction("third:3")
    given = {"images": str(colours), "backbone": str(tiny_backbone)}
    whole = features.run(FeaturesConfig(**given, out=str(tmp_path / "whole.npz")))
    half = features.run(FeaturesConfig(**given, out=str(tmp_path / "half.npz"), reduce="half:3"))
    tables = [np.load(tmp_path / f"{name}.npz") for name in ("whole", "half")]
    np.testing.assert_array_equal(tables[1]["features"], tables[0]["features"][:, :3] / 2)
    assert (whole["features"], half["features"]) == (16, 3)
    assert json.loads((tmp_path / "half.npz.json").read_text())["reduce"]["method"] == "half"


def test_an_executor(monkeypatch, colours, tiny_backbone, empty_cache):
    asked = []

    class Elsewhere(executors.Here):
        def map(self, work, samples, story):
            asked.extend(samples)
            return super().map(work, samples, story)

    monkeypatch.setitem(executors.EXECUTORS, "elsewhere", lambda address: contextlib.nullcontext(Elsewhere()))
    backbone = build_backbone(tiny_backbone)
    tap = Tap(backbone.blocks[-1].output, "avg")
    source = FeatureSource.of_backbone(backbone, InputContract(height=32, width=32), tap)
    found = replace(source, executor="elsewhere").extract(scan(colours))
    assert asked and len(found.rows) == found.passes
