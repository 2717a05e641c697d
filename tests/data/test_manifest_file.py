import numpy as np
import pytest

from tests import traced
from tlkit.base.errors import TlkitError
from tlkit.data.scan import scan
from tlkit.data.table import read_listing


@pytest.fixture
def listing(tmp_path, write_image):
    """Images a.png .. d.png beside a CSV with the given lines."""
    for n, name in enumerate("abcd"):
        write_image(tmp_path / "pixels" / f"{name}.png", seed=n)

    def write(text, name="list.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


def refusal(*args, **kwargs):
    with pytest.raises(TlkitError) as caught:
        scan(*args, **kwargs)
    return f"{caught.value.message} {caught.value.hint}"


def test_all_columns(listing):
    dataset = scan(
        listing(
            "path,label,split,group,camera\n"
            "pixels/b.png,dog,train,g1,x\n./pixels/a.png,cat,Validation,g2,y\npixels/c.png,cat,,g1,\n"
        )
    )
    assert dataset.paths == ["pixels/b.png", "pixels/a.png", "pixels/c.png"]
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [1, 0, 0]
    assert dataset.given.tolist() == [0, 1, -1]
    assert dataset.groups == ["g1", "g2", "g1"]
    assert dataset.extra == {"camera": ["x", "y", ""]}


def test_a_byte_order_mark_blank_lines_and_carriage_returns(listing):
    assert len(scan(listing("path,label\r\npixels/a.png,x\r\n\r\n", encoding="utf-8-sig"))) == 1


def test_absolute_paths(listing, tmp_path, write_image):
    outside = write_image(tmp_path.parent / f"{tmp_path.name}-outside.png", seed=77)
    dataset = scan(listing(f"path,label\n{tmp_path}/pixels/a.png,x\n{outside},y\n"))
    assert dataset.paths == ["pixels/a.png", str(outside)]
    assert dataset.file(1).read_bytes() == outside.read_bytes()


def test_parquet_gives_the_same_as_csv(listing, tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = {"path": ["pixels/a.png", "pixels/b.png"], "label": [3, 10], "split": ["train", None], "extra": [1.5, None]}
    parquet.write_table(pyarrow.table(table), tmp_path / "list.parquet")
    from_parquet = scan(tmp_path / "list.parquet")
    from_csv = scan(listing("path,label,split,extra\npixels/a.png,3,train,1.5\npixels/b.png,10,,\n"))
    assert from_parquet.classes == ("10", "3")
    assert from_parquet.fingerprint() == from_csv.fingerprint()
    assert from_parquet.extra == from_csv.extra
    assert np.array_equal(from_parquet.given, from_csv.given)


def test_what_a_manifest_writes_it_reads(make_classes, tmp_path):
    dataset = scan(make_classes("a", "b"))
    dataset.write_csv(dataset.root / "list.csv")
    again = scan(dataset.root / "list.csv")
    assert again.fingerprint() == dataset.fingerprint()
    assert again.extra == {}


def test_listed_files_that_are_no_images_are_all_set_aside(listing, tmp_path):
    (tmp_path / "pixels" / "notes.txt").write_text("hello")
    dataset = scan(listing("path,label\npixels/a.png,x\npixels/notes.txt,x\npixels/gone.png,x\n"))
    assert [problem.path for problem in dataset.set_aside] == ["pixels/notes.txt", "pixels/gone.png"]
    assert dataset.ignored == 0


def test_groups_by_column_and_by_pattern(listing):
    text = "path,label,patient\npixels/a.png,x,p1\npixels/b.png,x,p2\n"
    assert scan(listing(text), group_by="patient").groups == ["p1", "p2"]
    assert scan(listing(text), group_by=r"/(\w)\.png").groups == ["a", "b"]
    assert "did you mean the column 'patient'?" in refusal(listing(text), group_by="pateint")


def test_classes_in_order(listing):
    file = listing("path,label\npixels/a.png,x\npixels/b.png,y\n")
    assert scan(file, classes=("y", "x")).labels.tolist() == [1, 0]
    assert "'z' is not a label here" in refusal(file, classes=("z", "x", "y"))


def test_without_labels(listing):
    assert scan(listing("path\npixels/a.png\n"), labelled=False).labels.tolist() == [-1]
    assert scan(listing("path\npixels/a.png\n"), labelled=None).labels.tolist() == [-1]
    assert scan(listing("path,label\npixels/a.png,x\n"), labelled=None).classes == ("x",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pfad,label\npixels/a.png,x\n", "no column 'path'"),
        ("path,labels\npixels/a.png,x\n", "did you mean 'labels'?"),
        ("", "no column 'path'; it has none"),
        ("path,label,path\na,x,a\n", "two columns 'path'"),
        ("path,label\npixels/a.png\n", "line 2"),
        ("path,label\n,x\n", "row 2 .* has no path"),
        ("path,label\npixels/a.png,\n", "row 2 .* has no label"),
        ("path,label\npixels/a.png,x\n./pixels/a.png,y\n", "lists 'pixels/a.png' 2 times"),
        ("path,label,split\npixels/a.png,x,fold 3\n", "split 'fold 3'"),
        ("path,label,split\npixels/a.png,x,train\npixels/b.png,y,test\n", "no training row of class 'y'"),
        ("path,label\npixels/a.png,x\npixels/gone.png,y\n", "no image of class 'y'"),
        ("path,label\nelsewhere/a.png,x\n", "holds no image"),
    ],
)
def test_what_is_wrong_is_said(listing, text, words):
    import re

    said = refusal(listing(text))
    assert re.search(words, said), said


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "x.parquet").write_text("path,label")
    assert "not a readable Parquet" in refusal(tmp_path / "x.parquet")


def test_rows_are_kept_in_columns(tmp_path):
    """The text of the file, and three strings a row in one piece each; as objects they would be 200 bytes more."""
    rows = [f"images/{row:07d}.png,cat,g{row:05d},camera {row % 7}" for row in range(4000)]

    def read(count):
        file = tmp_path / "list.csv"
        file.write_text("\n".join(["path,label,group,camera", *rows[:count]]))
        return read_listing(file, labelled=True)

    assert traced.each(read, 500, 4000) < 450
    kept = traced.kept(lambda: read(4000)) / 4000
    assert kept < 120
