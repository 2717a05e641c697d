import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory, Silence
from tlkit.classifier.answers import Predictions
from tlkit.options.commands import CompareConfig
from tlkit.pipelines import carry_out
from tlkit.pipelines.compare import run


def predictions(right, classes=("a", "b"), split=2):
    labels = np.arange(len(right)) % 2
    logits = np.zeros((len(right), 2), np.float32)
    logits[np.arange(len(right)), np.where(right, labels, 1 - labels)] = 2
    return Predictions(
        paths=[f"{classes[label]}/{i}.png" for i, label in enumerate(labels)],
        sha256=[f"{i:064x}" for i in range(len(right))],
        labels=labels.astype(np.int32),
        splits=np.full(len(right), split, np.int8),
        logits=logits,
        classes=classes,
    )


@pytest.fixture
def written(tmp_path):
    """Writes predictions as a run folder, and gives its path."""

    def write(name, rows):
        (tmp_path / name).mkdir()
        rows.write_csv(tmp_path / name / "predictions.csv")
        return str(tmp_path / name)

    return write


OLD, NEW = np.arange(120) >= 30, np.arange(120) >= 12


def test_images_are_matched_by_content_whatever_their_order_names_and_class_order(written, capsys):
    other = predictions(NEW).select(np.random.default_rng(0).permutation(120)[:100])
    other = replace(other, paths=[f"moved/{path}" for path in other.paths])
    turned = replace(other, classes=("b", "a"), labels=1 - other.labels, logits=other.logits[:, ::-1])
    paths = written("old", predictions(OLD)), written("new", turned)
    found = run(CompareConfig(runs=paths), PlainStory())
    (row,) = found["comparisons"]
    inside = np.isin([int(name, 16) for name in predictions(OLD).sha256], [int(name, 16) for name in other.sha256])
    assert found["images"] == row["n"] == 100 and found["split"] == "test"
    assert row["differences"]["accuracy"]["value"] == pytest.approx(NEW[inside].mean() - OLD[inside].mean())
    assert row["only_first"] == [] and len(row["only_second"]) == (NEW & ~OLD & inside).sum()
    assert all(path.startswith("moved/") for path in row["only_second"])
    assert "old: 20 of its 120 images are not in all runs" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "html"])
def test_written_to_a_file(written, tmp_path, form):
    hostile = predictions(NEW, classes=("<script>alert(1)</script>", "b"))
    paths = written("old", replace(hostile, logits=predictions(OLD).logits)), written("new", hostile)
    out = tmp_path / f"comparison.{form}"
    found = run(CompareConfig(runs=paths, out=str(out)))
    if form == "json":
        assert json.loads(out.read_text())["comparisons"] == found["comparisons"]
    else:
        page = out.read_text()
        assert "new is better than old by 15.0 points" in page
        assert "<script>" not in page and "&lt;script&gt;" in page
    with pytest.raises(TlkitError, match="already exists"):
        run(CompareConfig(runs=paths, out=str(out)))


def test_what_cannot_be_compared_is_refused(written, tmp_path):
    a = written("a", predictions(OLD))
    with pytest.raises(TlkitError, match="'b' has no 'wasp'"):
        run(CompareConfig(runs=(written("w", predictions(NEW, classes=("a", "wasp"))), written("b", predictions(NEW)))))
    far = predictions(NEW)
    elsewhere = written("elsewhere", replace(far, sha256=[f"f{name[1:]}" for name in far.sha256]))
    with pytest.raises(TlkitError, match="no image of 'test' in common"):
        run(CompareConfig(runs=(a, elsewhere)))
    val = written("val", predictions(NEW, split=1))
    with pytest.raises(TlkitError, match="no kind of held-out images in common"):
        run(CompareConfig(runs=(a, val)))
    with pytest.raises(TlkitError, match="no labelled images of 'val'"):
        run(CompareConfig(runs=(a, val), split="val"))
    with pytest.raises(TlkitError, match="given twice"):
        run(CompareConfig(runs=(a, a)))
    with pytest.raises(TlkitError, match="takes two runs"):
        CompareConfig(runs=(a,))
    with pytest.raises(TlkitError, match="does not exist") as caught:
        carry_out("compare", CompareConfig(runs=(elsewhere, elsewhere[:-1])), Silence())
    assert "did you mean" in caught.value.hint
    with pytest.raises(TlkitError, match=r"no predictions\.csv"):
        run(CompareConfig(runs=(a, str(tmp_path))))


def test_images_that_one_was_trained_on_and_images_of_other_labels_do_not_count(written, capsys):
    known = replace(predictions(NEW), in_training=np.where(np.arange(120) < 20, 2, 0).astype(np.int8))
    other = predictions(OLD)
    other.labels[119] = 1 - other.labels[119]
    found = run(CompareConfig(runs=(written("a", known), written("b", other))), PlainStory())
    assert found["images"] == 99
    assert "1 images are labelled differently" in capsys.readouterr().err


def test_comparing_needs_no_keras(written):
    paths = written("a", predictions(OLD)), written("b", predictions(NEW))
    program = (
        "import sys, tlkit\n"
        f"print(tlkit.compare({list(paths)!r})['comparisons'][0]['sentence'])\n"
        "assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "b is better than a" in done.stdout, done.stderr
