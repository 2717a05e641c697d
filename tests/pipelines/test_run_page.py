"""The report of a run: complete, whether first written or rewritten, with pictures of its errors."""

import io
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tlkit.auditing.findings import AuditResult, Finding
from tlkit.backbones import runtime
from tlkit.base.errors import TlkitError
from tlkit.base.files import write_json
from tlkit.classifier.answers import Predictions
from tlkit.classifier.model import load
from tlkit.evaluation.results import EvaluationResult
from tlkit.options.commands import EvaluateConfig
from tlkit.pipelines import evaluate
from tlkit.report import run_page
from tlkit.runs import record as run_record
from tlkit.runs.folder import RunDir


@pytest.fixture
def own(finished, tmp_path):
    return RunDir(shutil.copytree(finished[0], tmp_path / "run"))


def sections(run_dir):
    return set(re.findall(r'<section class="part" id="([\w-]+)"', run_dir.report.read_text(encoding="utf-8")))


def pieces(run_dir):
    """Arguments of `of_run`, every image being an error."""
    dataset, splits = run_record.read_images(run_dir)
    predictions = Predictions.read_csv(run_dir.predictions)
    wrong = replace(predictions, labels=(predictions.predicted + 1).astype(np.int32) % len(predictions.classes))
    return dataset, splits, wrong, EvaluationResult({})


def test_written_again_it_shows_what_it_showed(own):
    before = sections(own)
    assert before >= {"numbers", "data", "plan", "learning", "classes", "card", "environment"}
    own.report.unlink()
    evaluate.run(EvaluateConfig(run=str(own.path)))
    assert sections(own) == before
    assert (own.path / "report.md").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("program", ["/opt/bin/tlkit", "/opt/lib/tlkit/__main__.py"])
def test_the_command_can_be_typed_again(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "finetune", "my photos", "--out", "run"])
    assert runtime.command_line() == "tlkit finetune 'my photos' --out run"


def test_what_each_stage_gained_is_told(own):
    page = run_page.of_run(own, *pieces(own), lambda: pytest.fail("nothing is drawn yet"))
    assert [row.stage for row in page.plan] == ["head", "top", "all"]
    head, top, _ = page.plan
    assert head.gained is None and head.epochs >= 1 and head.seconds > 0
    assert top.gained == pytest.approx(top.val_accuracy - head.val_accuracy)
    assert len(page.history) >= 3 and page.model.parameters == load(own.model).model.count_params()


def test_errors_show_where_it_looked_drawn_once_and_then_remembered(own):
    parts = pieces(own)
    paths = list(parts[0].paths[:3])
    loaded = []
    first = run_page.of_run(own, *parts, lambda: loaded.append(1) or load(own.model)).overlays(paths)
    assert loaded == [1]
    assert set(first) <= set(paths) and first
    for content in first.values():
        assert Image.open(io.BytesIO(content)).format == "JPEG"
    again = run_page.of_run(own, *parts, lambda: pytest.fail("the classifier was loaded again")).overlays(paths)
    assert again == first


def test_errors_show_the_training_images_they_are_like(own):
    dataset, splits, *rest = pieces(own)
    page = run_page.of_run(own, dataset, splits, *rest, lambda: pytest.fail("no forward pass is needed"))
    asked = [dataset.paths[i] for i in (splits.indices("train")[0], splits.indices("test")[0])]
    found = page.neighbours(asked)
    assert list(found) == asked
    training = {str(dataset.file(i)) for i in splits.indices("train")}
    for path, near in found.items():
        assert len(near) == 4 and {one.path for one in near} <= training - {str(dataset.root / path)}
        assert [one.similarity for one in near] == sorted((one.similarity for one in near), reverse=True)


def test_files_that_are_gone_are_left_out(own, tmp_path):
    dataset, *rest = pieces(own)
    page = run_page.of_run(own, replace(dataset, root=tmp_path / "nowhere"), *rest, lambda: load(own.model))
    assert page.overlays(list(dataset.paths[:2])) == {}


def test_an_audit_of_its_images_is_shown_first(own):
    finding = Finding(check="x", severity="serious", sentence="Half of it is copies.", remedy="Drop them.")
    audit = AuditResult(images=3, classes=("a",), findings=(finding,))
    write_json(own.path / "audit.json", audit.as_json())
    evaluate.run(EvaluateConfig(run=str(own.path)))
    text = own.report.read_text(encoding="utf-8")
    assert 'id="audit"' in text
    assert text.index("Half of it is copies.") < text.index('id="numbers"')


@pytest.mark.parametrize(("content", "message"), [('{"format": 99}', "format 99"), ("{", "is damaged")])
def test_an_audit_that_cannot_be_read_is_an_error(own, content, message):
    (own.path / "audit.json").write_text(content)
    with pytest.raises(TlkitError, match=message):
        run_page.read_audit(own.path / "audit.json")


def test_other_images_have_a_page_of_their_own(own, colours):
    evaluate.run(EvaluateConfig(run=str(own.path), images=str(colours)))
    other = RunDir(own.path / f"evaluate-{colours.name}")
    assert sections(other) >= {"numbers", "card", "classes"} and not sections(other) & {"plan", "learning", "audit"}
