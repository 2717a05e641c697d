"""Fixes in a run: which images they are applied to, and where it is reported."""

import csv
import json

import pytest

import tlkit


@pytest.fixture(scope="module")
def relabelled(colours, tiny_backbone, tmp_path_factory):
    """Two runs on fixes that give every blue image the label red: as it is, and with labels of held-out images."""
    folder = tmp_path_factory.mktemp("fixed")
    lines = "".join(f"blue/{number:02d}.png,relabel,red,\n" for number in range(11))
    (folder / "fixes.csv").write_text(f"path,action,label\n{lines}green/00.png,drop,\n", encoding="utf-8")
    options = {"backbone": str(tiny_backbone), "stages": "head", "epochs": 1, "val": 0.25, "test": 0.25, "audit": False}
    for name, held in (("plain", False), ("held", True)):
        tlkit.finetune(colours, fixes=folder / "fixes.csv", fix_held_out=held, out=folder / name, **options)
    return folder


def table(path):
    with path.open(encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_held_out_images_keep_their_labels_and_the_head_of_the_report_says_so(relabelled):
    run = relabelled / "plain"
    labels, splits = table(run / "manifest.csv"), table(run / "splits.csv")
    blue = {path: splits[path]["split"] for path in labels if path.startswith("blue/") and path != "blue/11.png"}
    assert {labels[path]["label"] for path, split in blue.items() if split == "train"} == {"red"}
    assert {labels[path]["label"] for path, split in blue.items() if split != "train"} == {"blue"}
    said = json.loads((run / "run.json").read_text(encoding="utf-8"))["fixes"]
    held = sum(split != "train" for split in blue.values())
    assert f"{11 - held} labels changed (train {11 - held}), 1 images dropped" in said
    assert f"{held} new labels were not applied" in said and "--fix-held-out" in said
    head = (run / "report.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert said in head.replace("\\", "")
    assert "new labels were not applied" in (run / "report.html").read_text(encoding="utf-8").partition("<h2")[0]


def test_asked_for_they_are_changed_on_the_same_split_and_it_is_said(relabelled):
    run = relabelled / "held"
    labels = table(run / "manifest.csv")
    assert {labels[f"blue/{number:02d}.png"]["label"] for number in range(11)} == {"red"}
    assert table(run / "splits.csv") == table(relabelled / "plain" / "splits.csv")
    head = (run / "report.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert "measured against the changed labels" in head


def test_a_report_written_again_says_it_still(relabelled, tmp_path):
    tlkit.evaluate(relabelled / "plain", out=tmp_path / "again")
    assert "new labels were not applied" in (tmp_path / "again" / "report.md").read_text(encoding="utf-8")
