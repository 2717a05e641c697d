"""`tlkit audit` end to end, with faults planted in a drawn set."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import tlkit
from tlkit.auditing.audit import lines
from tlkit.auditing.findings import AuditResult, Finding
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence


class Heard(Silence):
    """Remembers what was said."""

    def __init__(self):
        self.text = ""

    def say(self, text):
        self.text += text + "\n"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three classes of 20 stripes each; class red at JPEG quality 40; a broken file, a copy, a copy in another class."""
    root = tmp_path_factory.mktemp("audit") / "images"
    random = np.random.default_rng(0)
    for name, colour in {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}.items():
        (root / name).mkdir(parents=True)
        for number in range(20):
            coarse = random.normal(colour, 60, (6, 8, 3)).clip(0, 255).astype(np.uint8)
            picture = Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)
            picture.save(root / name / f"{number:02d}.jpg", quality=40 if name == "red" else 90)
    (root / "blue" / "copy.jpg").write_bytes((root / "blue" / "00.jpg").read_bytes())
    Image.open(root / "blue" / "01.jpg").resize((86, 65)).save(root / "green" / "other.jpg", quality=90)
    (root / "green" / "broken.jpg").write_bytes((root / "green" / "00.jpg").read_bytes()[:300])
    return root


@pytest.fixture(scope="module")
def audited(images, tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    heard = Heard()
    result = tlkit.audit(
        images, backbone=str(tiny_backbone), out=folder / "audit", write_fixes=folder / "fixes.csv", story=heard
    )
    return folder, result, heard.text


def test_planted_faults_are_found_said_and_written(audited, images):
    folder, result, text = audited
    found = {finding["check"]: finding for finding in reversed(result["findings"])}
    assert found["shortcuts"]["facts"]["given_away"] == ["red"] and found["shortcuts"]["severity"] == "serious"
    assert found["files"]["facts"] == {"unreadable": 1, "files": 63}
    kinds = {
        finding["facts"]["kind"]: finding["groups"] for finding in result["findings"] if finding["check"] == "copies"
    }
    assert kinds == {"classes": 1, "repeats": 1}
    assert "serious: The class can be predicted from how the files were made" in text
    audit = json.loads((folder / "audit" / "audit.json").read_text())
    assert audit["counts"] == result["counts"] and audit["images"] == 62
    assert (folder / "audit" / "audit.html").stat().st_size > 10_000


def test_the_table_has_every_image_and_copies_share_a_picture(audited):
    folder, _, _ = audited
    with (folder / "audit" / "images.csv").open(encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == 62
    assert rows["blue/copy.jpg"]["picture"] == rows["blue/00.jpg"]["picture"] != rows["blue/01.jpg"]["picture"]
    assert rows["green/other.jpg"]["picture"] == rows["blue/01.jpg"]["picture"]


def test_fixes_are_applied_where_images_are_read(audited, images, tiny_backbone, tmp_path):
    folder, result, _ = audited
    with (folder / "fixes.csv").open(encoding="utf-8") as file:
        fixes = {row["path"]: row["action"] for row in csv.DictReader(file)}
    assert len(fixes) == result["fixes"]
    assert fixes["blue/copy.jpg"] == "drop" and "green/other.jpg" not in {
        path for path in fixes if fixes[path] == "drop"
    }
    heard = Heard()
    again = tlkit.audit(
        images, backbone=str(tiny_backbone), fixes=folder / "fixes.csv", out=tmp_path / "again", story=heard
    )
    dropped = sum(action == "drop" for action in fixes.values())
    assert again["images"] == 62 - dropped and f"{dropped} images dropped" in heard.text
    with (tmp_path / "again" / "images.csv").open(encoding="utf-8") as file:
        assert "blue/copy.jpg" not in {row["path"] for row in csv.DictReader(file)}


def test_strict_refuses_what_is_serious_after_writing_it(images, tiny_backbone, tmp_path):
    with pytest.raises(TlkitError, match="1 serious"):
        tlkit.audit(images, backbone=str(tiny_backbone), out=tmp_path / "audit", strict=True)
    assert (tmp_path / "audit" / "audit.html").exists()


def test_unlabelled_images_are_audited(images, tiny_backbone, tmp_path):
    result = tlkit.audit(images / "blue", backbone=str(tiny_backbone), out=tmp_path / "audit")
    assert result["images"] == 21 and [found["check"] for found in result["findings"]][:1] == ["copies"]


def test_a_run_hears_that_its_flips_are_wrong_and_how_to_leave_them_out():
    found = [
        Finding(check=check, severity="warning", sentence=f"About {check}.", remedy=f"Mend {check}.", command="tlkit x")
        for check in ("flips", "outliers")
    ]
    result = AuditResult(images=2, classes=("a", "b"), findings=tuple(found), checks={}, seconds={})
    told = lines(result, full=False)
    assert "Mend flips." in told and "$ tlkit x" in told and "Mend outliers." not in told
