"""Names of classes: spaces, case, Unicode forms, line breaks, words for missing values."""

import os
import unicodedata

import numpy as np
import pytest

from tests.data.test_layouts import Listener, refused
from tlkit.data.dataset import Dataset
from tlkit.data.scan import scan
from tlkit.data.split import split
from tlkit.tasks.labels import as_lines, class_name, class_names

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


@pytest.fixture
def table(tmp_path, write_image):
    """A table of images with the given labels, one an image."""

    def write(*labels):
        for row in range(len(labels)):
            write_image(tmp_path / f"{row}.png", seed=row)
        lines = "".join(f'{row}.png,"{label}"\n' for row, label in enumerate(labels))
        (tmp_path / "list.csv").write_text("path,label\n" + lines, encoding="utf-8", newline="")
        return tmp_path / "list.csv"

    return write


@pytest.mark.parametrize(
    "text", ["cat", " cat", "cat ", "cat\t", "\u00a0cat", "cat\u3000", "\ufeffcat", "cat\u200b", "cat\n"]
)
def test_spaces_around_do_not_count(table, text):
    story = Listener()
    dataset = scan(table("cat", text, "dog"), story=story)
    assert dataset.classes == ("cat", "dog") and dataset.labels.tolist() == [0, 0, 1]
    assert any("without spaces around" in said for said in story.said) == (text != "cat")


def test_unicode_forms_are_one_class_and_it_is_said(table):
    story = Listener()
    dataset = scan(table(NFC, NFD, "thé"), story=story)
    assert dataset.classes == (NFC, "thé") and dataset.labels.tolist() == [0, 0, 1]
    assert "1 of them merged with existing classes" in story.said[0]


@pytest.mark.parametrize(
    "labels", [("Cat", "cat"), ("CAT", "cat", "Cat"), ("straße", "STRASSE"), ("cafe\u0301", "Café")]
)
def test_case_alone_is_asked_about(table, labels):
    error = refused(table(*labels, "dog"))
    assert "differ only by upper and lower case" in error.message and "--classes" in error.hint
    kept = sorted({class_name(label) for label in labels} | {"dog"})
    assert scan(table(*labels, "dog"), classes=kept).classes == tuple(kept)


def test_single_letters_are_classes_of_their_own(table):
    assert scan(table("a", "A", "b", "B")).classes == ("A", "B", "a", "b")


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\u2028b", "a\x0bb", "a\x85b"])
def test_a_line_break_in_a_name_is_refused(table, name, make_classes):
    error = refused(table(name, "c"))
    assert "line break" in error.message and "'a b'" in error.hint
    assert "line break" in refused(make_classes(name, "c")).message


def test_folders_that_differ_by_space_form_or_case(make_classes, tmp_path):
    story = Listener()
    dataset = scan(make_classes("cat", "cat ", NFD, NFC, "dog"), story=story)
    assert dataset.classes == (NFC, "cat", "dog")
    assert dataset.class_counts().tolist() == [4, 4, 2]
    assert "without spaces around" in story.said[0]
    assert all(dataset.file(row).is_file() for row in range(len(dataset)))  # file names are unchanged
    root = make_classes("Cat", "cat", root=tmp_path / "case")
    assert "only by upper and lower case" in refused(root).message
    assert scan(root, classes=("Cat", "cat")).classes == ("Cat", "cat")


def test_keras_split_of_folders_with_such_names(make_classes):
    dataset = scan(make_classes("cat ", NFD, count=5))
    codes = split(dataset, val=0.1, test=0.1, seed=3, keras_split=0.3).codes
    keras = pytest.importorskip("keras")
    held = keras.utils.image_dataset_from_directory(
        dataset.root,
        validation_split=0.3,
        subset="validation",
        seed=3,
        image_size=(8, 8),
        verbose=False,
        batch_size=None,
    ).file_paths
    folder = f"{dataset.root}/"
    # Keras orders by the folders' own names; here both orders are the same.
    assert {path.removeprefix(folder) for path in held} == {dataset.paths[row] for row in np.flatnonzero(codes == 1)}


def test_a_class_folder_that_is_no_utf8_is_refused_with_a_remedy(tmp_path, write_image):
    write_image(tmp_path / "images" / os.fsdecode(b"caf\xe9") / "x.png")
    write_image(tmp_path / "images" / "b" / "x.png", seed=1)
    error = refused(tmp_path / "images")
    assert "not UTF-8" in error.message and "convmv" in error.hint


@pytest.mark.parametrize("name", ["NA", "null", "None", "nan", "NaN", "N/A".replace("/", "-"), "NULL"])
def test_words_for_missing_values_are_names_and_survive(make_classes, tmp_path, name):
    story = Listener()
    dataset = scan(make_classes(name, "x"), story=story)
    assert dataset.classes == tuple(sorted((name, "x")))
    dataset.write_csv(dataset.root / "list.csv")
    again = scan(dataset.root / "list.csv")
    assert again.fingerprint() == dataset.fingerprint()
    read = Dataset.read_csv(dataset.root / "list.csv", dataset.root, dataset.classes)
    assert read.fingerprint() == dataset.fingerprint()
    if name != "N-A":
        assert any("keep_default_na=False" in said for said in story.said)
    pandas = pytest.importorskip("pandas")
    assert name in set(pandas.read_csv(dataset.root / "list.csv", keep_default_na=False)["label"])


def test_names_are_in_code_point_order_and_broken_bytes_survive_in_paths():
    assert class_names([" b", "a"], None, "x") == {" b": "b", "a": "a"}
    assert class_name("\udcff") == "\udcff"


def test_labels_that_are_lists_of_labels_are_asked_about(table):
    error = refused(table("red", "red,other", "blue"))
    assert "'red,other'" in error.message and "'red|other'" in error.hint
    classes = ("blue", "red", "red,other")
    assert scan(table("red", "red,other", "blue"), classes=classes).classes == classes
    assert len(scan(table("tench, Tinca tinca", "hen")).classes) == 2


def test_a_list_of_classes_has_a_line_for_each():
    assert as_lines(["a", "b\nc", "d\u2028e", "f"]) == "a\nb c\nd e\nf\n"
    assert as_lines([]) == ""
