"""A thing of which there are many is one file and one row: each test adds one, and sees it arrive without another change.

The files are written by the tests, the rows put into the tables for as long as a test runs.
"""

import json

import jinja2
import pytest
import typer
from typer.testing import CliRunner

from tests.auditing.evidences import clouds, evidence
from tests.report.pages import full_page
from tlkit.auditing import audit as auditing
from tlkit.auditing.findings import Finding
from tlkit.backbones.build import build_backbone
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose, load, save
from tlkit.cli import commands
from tlkit.cli.commands import COMMANDS, Command
from tlkit.cli.parameters import SectionedCommand, typer_function
from tlkit.data.dataset import InputContract
from tlkit.evaluation.results import Metric
from tlkit.exporting.golden import draw
from tlkit.exporting.subject import in_keras
from tlkit.options import catalog
from tlkit.options.commands import BackbonesConfig, FinetuneConfig
from tlkit.options.groups import HeadOptions
from tlkit.pipelines import backbones
from tlkit.report import build, glossary
from tlkit.report.audit_page import AuditPage, render_audit


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
    return " ".join(CliRunner().invoke(app, [name, "--help"]).output.split())


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
    images = draw(32, 32)
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
    found = build.environment()
    found.loader = jinja2.ChoiceLoader([found.loader, jinja2.FileSystemLoader(tmp_path)])
    monkeypatch.setattr(build, "environment", lambda: found)
    row = build.Section("moon", "Moon", lambda facts: facts["metrics"])
    monkeypatch.setattr(build, "SECTIONS", (*build.SECTIONS, row))
    text = build.render(full_page())
    assert '<section id="moon">' in text and '<a href="#moon">Moon</a>' in text
    monkeypatch.undo()
    assert "moon" not in build.render(full_page())


def test_a_metric(monkeypatch):
    """One that an evaluation gives is named, explained and written as its row says."""
    monkeypatch.setitem(glossary.ENTRIES, "luck", glossary.Entry("Luck", True, "Share of images that were lucky."))
    page = full_page()
    for result in page.evaluation.splits.values():
        result.metrics["luck"] = Metric(0.625, 8, 0.25, 0.875)
    text = build.render(page)
    assert "Share of images that were lucky." in text and "62.5" in text
    assert page.evaluation.as_json()["splits"]["test"]["metrics"]["luck"]["value"] == 0.625


def test_a_command(monkeypatch):
    row = Command("moon", BackbonesConfig, "Say where the moon is.", ("tlkit moon",), lambda result: "")
    monkeypatch.setattr(commands, "COMMANDS", (*COMMANDS, row))
    assert "Say where the moon is." in help_of("moon")
