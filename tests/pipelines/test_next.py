"""`tlkit next`: from images without a label to a table and a page, and again with what the page saved."""

import csv
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.base.files import restored
from tlkit.data.scan import scan
from tlkit.options.commands import FinetuneConfig, NextConfig
from tlkit.pipelines import finetune
from tlkit.pipelines import next as choosing


@pytest.fixture
def unsorted(tmp_path):
    """30 images of three colours in one folder, and one exact copy."""
    random, folder = np.random.default_rng(0), tmp_path / "unsorted"
    folder.mkdir()
    for number in range(30):
        pixels = random.normal(60, 25, (32, 32, 3))
        pixels[..., number % 3] += 120
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "copy.png").write_bytes((folder / "00.png").read_bytes())
    return folder


def asked(unsorted, tiny_backbone, tmp_path, **more):
    given = {"images": str(unsorted), "backbone": str(tiny_backbone), "out": str(tmp_path / "next"), "count": 6}
    return NextConfig(**given | more)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_round_and_another(unsorted, tiny_backbone, tmp_path, empty_store):
    config = asked(unsorted, tiny_backbone, tmp_path, classes=("red", "green", "blue"))
    first = choosing.run(config)
    rows = read(tmp_path / "next" / "next.csv")
    assert [row["path"] for row in rows] == [one["path"] for one in first["images"]] and len(rows) == 6
    assert {row["label"] for row in rows} == {""} and first["labelled"] == 0 and first["unlabelled"] == 30
    assert first["classes"] == ["red", "green", "blue"] and first["way"] == "spread"
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        colours = ["red", "green", "blue"]
        named = [(row["path"], colours[int(row["path"][-6:-4].replace("py", "00")) % 3]) for row in rows]
        csv.writer(file).writerows([("path", "label"), *named])
    assert len(scan(table)) == 6
    again = f"--backbone {tiny_backbone} --classes red,green,blue --count 6 --labelled labels.csv"
    page = (tmp_path / "next" / "next.html").read_text()
    assert all(word in page for word in again.split())
    again = choosing.run(asked(unsorted, tiny_backbone, tmp_path, labelled=str(table), out=str(tmp_path / "more")))
    assert again["labelled"] == 6 and not {one["path"] for one in again["images"]} & {row["path"] for row in rows}
    assert all(one["guess"] in colours and 0 < one["probability"] <= 1 for one in again["images"])
    assert (tmp_path / "more" / "next.html").read_text().count("labels.csv") > 1


def test_names_that_are_no_text_come_back(unsorted, tiny_backbone, tmp_path):
    strange = os.fsdecode(os.fsencode(str(unsorted)) + b"/caf\xe9.png")
    (unsorted / "01.png").rename(strange)
    choosing.run(asked(unsorted, tiny_backbone, tmp_path, count=30))
    work = re.search(r'id="work">(.*?)</script>', (tmp_path / "next" / "next.html").read_text(), re.DOTALL)[1]
    paths = [one["path"] for one in json.loads(work)["images"]]
    assert strange in [restored(path) for path in paths]
    assert all(one["picture"] for one in json.loads(work)["images"])
    assert [row["path"] for row in read(tmp_path / "next" / "next.csv")] == paths


def test_a_table_says_which_images_have_a_label(unsorted, tiny_backbone, tmp_path):
    table = unsorted / "some.csv"
    rows = [("path", "label"), *((f"{i:02d}.png", ("r", "g", "b")[i % 3] if i < 9 else "") for i in range(30))]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = choosing.run(asked(table, tiny_backbone, tmp_path))
    assert (found["labelled"], found["unlabelled"]) == (9, 21)
    assert not {one["path"][-6:-4] for one in found["images"]} & {f"{i:02d}" for i in range(9)}


def test_a_run_guesses_and_its_training_images_have_a_label(colours, unsorted, tiny_backbone, tmp_path):
    run = str(tmp_path / "run")
    finetune.run(
        FinetuneConfig(images=str(colours), backbone=str(tiny_backbone), out=run, stages=("head",), audit=False)
    )
    found = choosing.run(asked(unsorted, tiny_backbone, tmp_path, run=run))
    assert found["labelled"] > 6 and {one["guess"] for one in found["images"]} <= set(found["classes"])


def test_what_has_a_label_is_not_asked_for(colours, tiny_backbone, tmp_path):
    with pytest.raises(TlkitError, match="has a label already"):
        choosing.run(asked(colours, tiny_backbone, tmp_path, labelled=str(colours)))


def test_nothing_is_overwritten_unasked(unsorted, tiny_backbone, tmp_path):
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "mine.txt").write_text("mine")
    with pytest.raises(TlkitError, match="next"):
        choosing.run(asked(unsorted, tiny_backbone, tmp_path))


@pytest.mark.parametrize("place", ["images", "labelled"])
def test_several_labels_an_image_are_refused_rather_than_taken_for_none(unsorted, tiny_backbone, tmp_path, place):
    table = unsorted / "several.csv"
    table.write_text("path,label\n" + "".join(f"{i:02d}.png,{'r|g' if i % 2 else 'g'}\n" for i in range(9)))
    with pytest.raises(TlkitError, match=r"several\.csv gives no single class to each image"):
        choosing.run(asked(unsorted, tiny_backbone, tmp_path, **{place: str(table)}))
