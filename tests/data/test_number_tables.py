"""Tables with columns of numbers, labels that may be numbers, and folders of grades."""

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import Dataset
from tlkit.data.scan import labelling, scan
from tlkit.data.split import split
from tlkit.options.commands import FinetuneConfig, SplitConfig
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import TASKS
from tlkit.tasks.single import SINGLE


@pytest.fixture
def write(tmp_path):
    """A table with a column of numbers, an image for each row."""

    def make(header, *columns, name="images.csv"):
        rows = list(zip(*columns, strict=True))
        for number in range(len(rows)):
            pixels = np.full((8, 8, 3), number % 256, np.uint8)
            pixels[0, 0] = number // 256
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines = [f"path,{header}", *(f"{number}.png,{','.join(map(str, row))}" for number, row in enumerate(rows))]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    return make


def test_a_column_of_numbers_is_read_and_others_stay(write):
    found = scan(write("target,camera", [0.5, 2, -3e2], "abc"), labelled=NUMBER)
    assert found.task is NUMBER and found.classes == ("target",) and found.extra == {"camera": ["a", "b", "c"]}
    assert found.targets.tolist() == [[0.5], [2.0], [-300.0]] and found.labels.tolist() == [-1, -1, -1]
    assert found.label_name(2) == "-300.0"


def test_several_columns_in_the_order_asked_for(write):
    table = write("area,angle,split", [1, 2, 3], [10, 20, 30], ["train", "train", "test"])
    found = scan(table, labelled=NUMBER, classes=("angle", "area"))
    assert found.targets.tolist() == [[10, 1], [20, 2], [30, 3]] and found.given.tolist() == [0, 0, 2]


def test_what_is_written_is_read_again_whatever_else_the_table_held(write, tmp_path):
    table = write("label,Bytes,sha256,area,camera", ["cat", "cat", "dog"], [1, 2, 3], "xyz", [4, 5, 6], "abc")
    found = scan(table, labelled=NUMBER, classes=("area",))
    assert found.extra == {"camera": ["a", "b", "c"]}
    found.write_csv(tmp_path / "manifest.csv")
    kept = Dataset.read_csv(tmp_path / "manifest.csv", tmp_path, ("area",), task=NUMBER)
    assert kept.targets.tolist() == [[4], [5], [6]] and kept.extra == found.extra


@pytest.mark.parametrize(
    ("header", "columns", "asked", "message", "hint"),
    [
        ("target", [["1", "x"]], None, "row 3 of .*column 'target', has 'x'", "12.5"),
        ("target", [["1", ""]], None, "row 3", "remove the row"),
        ("target", [["1", '"0,5"']], None, "has '0,5'", "write 0.5, or"),
        ("target", [["1", '"-2,500"']], None, "has '-2,500'", "write -2.500, or -2500 where"),
        ("target", [["1", '"[1.0, 2.0]"']], None, "row 3", "12.5"),
        ("age", [["1", "2"]], None, "no column 'target'", "--target age"),
        ("age,name", [["1", "2"], ["a", "b"]], ("agee",), "no column 'agee'", "--target age"),
        (
            "years,name",
            [["1", "2"], ["a", "b"]],
            ("age",),
            "no column 'age'",
            "an existing classifier name the column 'age'",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(write, header, columns, asked, message, hint):
    with pytest.raises(TlkitError, match=message) as caught:
        scan(write(header, *columns), labelled=NUMBER, classes=asked)
    assert hint in caught.value.hint


def test_a_table_of_targets_alone_says_how_they_are_predicted(write):
    with pytest.raises(TlkitError, match="no column 'label'") as caught:
        scan(write("target", [1, 2.5]))
    assert "--task number predicts" in caught.value.hint


def test_a_folder_has_no_numbers(colours):
    with pytest.raises(TlkitError, match="reads a table"):
        scan(colours, labelled=NUMBER)


@pytest.mark.parametrize("labels", [[f"{i / 7:.3f}" for i in range(30)], [str(i) for i in range(20)]])
def test_labels_that_may_be_quantities_are_asked_about(write, labels):
    table = write("label", labels)
    with pytest.raises(TlkitError, match=f"{len(labels)} different numbers") as caught:
        scan(table)
    assert "--task number --target label" in caught.value.hint and "--task single" in caught.value.hint
    assert len(scan(table, labelled=SINGLE).classes) == len(labels)
    assert scan(table, labelled=NUMBER, classes=("label",)).targets.shape == (len(labels), 1)


def test_few_numbers_and_names_are_classes_unasked(write):
    assert len(scan(write("label", [i % 10 for i in range(40)])).classes) == 10
    assert len(scan(write("label", [f"c{i}" for i in range(40)], name="b.csv")).classes) == 40
    listed = [str(i) for i in range(25)]
    assert len(scan(write("label", listed, name="c.csv"), classes=listed).classes) == 25  # named one by one


def test_grades_of_folders_and_of_tables(colours, write):
    order = ("red", "blue", "green")
    found = scan(colours, labelled=ORDINAL, classes=order)
    assert found.task is ORDINAL and found.classes == order
    np.testing.assert_array_equal(found.targets[:, 0], found.labels)
    assert found.class_counts().tolist() == [12, 12, 12]
    table = scan(write("label", ["low", "high", "low"]), labelled=ORDINAL, classes=("low", "high"))
    assert table.labels.tolist() == [0, 1, 0] and table.task is ORDINAL


def test_splits_give_every_quantile_its_share(write):
    random = np.random.default_rng(0)
    found = scan(write("target", random.lognormal(0, 1, 300).round(6)), labelled=NUMBER)
    splits = split(found, val=0.2, test=0.2, seed=0)
    strata = NUMBER.strata(found.targets)
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        counts = np.bincount(strata[splits.indices(name)], minlength=10)
        assert np.abs(counts - 30 * share).max() <= 1, name
    assert "drawn within quantiles of the numbers" in splits.rule


def test_the_manifest_keeps_numbers_and_grades(write, colours, tmp_path):
    numbers = scan(write("target", [0.1, 1e-7, 123456.789]), labelled=NUMBER)
    grades = scan(colours, labelled=ORDINAL, classes=("red", "blue", "green"))
    for found in (numbers, grades):
        found.write_csv(tmp_path / "manifest.csv")
        again = type(found).read_csv(tmp_path / "manifest.csv", found.root, found.classes, task=found.task)
        np.testing.assert_array_equal(again.targets, found.targets)
        np.testing.assert_array_equal(again.labels, found.labels)
        assert again.fingerprint() == found.fingerprint() and again.task is found.task


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "ordinal"}, "needs the order"),
        ({"task": "number", "classes": ("a",)}, "names classes"),
        ({"target": ("a",)}, "--task is auto"),
        ({"task": "counting"}, "counting"),
    ],
)
def test_options_that_do_not_go_together(given, message):
    with pytest.raises(TlkitError, match=message):
        SplitConfig(images=".", **given)


def test_options_say_what_is_scanned():
    config = FinetuneConfig(images=".", task="number", target=("a", "b"))
    assert labelling(config) == {"labelled": NUMBER, "classes": ("a", "b")}
    assert labelling(FinetuneConfig(images="."), otherwise=None) == {"labelled": None, "classes": None}


def test_fixes_put_numbers_and_grades_right(write, colours):
    found = scan(write("target", [1, 2, 3]), labelled=NUMBER)
    found.put(1, NUMBER.parsed("2.5", found.classes, "line 2"))
    assert found.targets.tolist() == [[1], [2.5], [3]]
    grades = scan(colours, labelled=ORDINAL, classes=("red", "blue", "green"))
    grades.put(0, ORDINAL.parsed("green", grades.classes, "line 2"))
    assert grades.labels[0] == grades.targets[0, 0] == 2


def test_tasks_of_the_catalogue_are_those_of_the_table():
    from tlkit.options import catalog

    assert ("auto", *TASKS) == catalog.TASKS
