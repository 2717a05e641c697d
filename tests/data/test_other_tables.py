"""Tables as other programs write them: encodings, separators, Windows paths, headers, indicator columns, numbers."""

import unicodedata

import numpy as np
import pytest

from tests.data.test_layouts import Listener, refused
from tlkit.base.errors import TlkitError
from tlkit.data.fixes import read_fixes
from tlkit.data.scan import scan

LABELS = ("café", "thé", "maté")
PLAIN = "path,label\nimgs/0.png,café\nimgs/1.png,thé\nimgs/2.png,maté\n"


@pytest.fixture
def place(tmp_path, write_image):
    """A folder with images imgs/0.png .. imgs/3.png."""
    for number in range(4):
        write_image(tmp_path / "imgs" / f"{number}.png", seed=number)
    return tmp_path


def wrote(place, text, encoding="utf-8", name="list.csv", mark=b""):
    (place / name).write_bytes(mark + text.encode(encoding))
    return place / name


def read(file, **options):
    """The labels by path, and what was said."""
    story = Listener()
    dataset = scan(file, story=story, **options)
    return {path: dataset.label_name(row) for row, path in enumerate(dataset.paths)}, " ".join(story.said)


EXPECTED = {f"imgs/{row}.png": label for row, label in enumerate(LABELS)}


# -- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8-sig", b""),
        ("utf-16", b""),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-32", b""),
    ],
)
def test_encodings_that_say_what_they_are_are_read(place, encoding, mark):
    for ends in ("\n", "\r\n", "\r"):
        labels, said = read(wrote(place, PLAIN.replace("\n", ends), encoding, mark=mark))
        assert labels == EXPECTED
        assert ("UTF-16" in said or "UTF-32" in said) == (not encoding.startswith("utf-8"))


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp1250", "mac-roman"])
def test_other_encodings_are_refused_with_place_and_remedy(place, encoding):
    error = refused(wrote(place, PLAIN, encoding))
    byte = "é".encode(encoding)[0]
    assert "row 2 of" in error.message and f"byte 0x{byte:02X}" in error.message and "'label'" in error.message
    assert "iconv -f WINDOWS-1252 -t UTF-8" in error.hint and "> list-utf8.csv" in error.hint
    if encoding == "cp1252":
        assert "in Windows-1252 it is 'café'" in error.message


def test_a_header_in_another_encoding_and_one_in_a_further_column_are_refused(place):
    assert "row 1 of" in refused(wrote(place, "path,label,größe\nimgs/0.png,a,1\n", "cp1252")).message
    assert "row 3 of" in refused(wrote(place, "path,label,note\nimgs/0.png,a,x\nimgs/1.png,a,ö\n", "cp1252")).message


def test_names_of_files_in_other_bytes_are_read_where_the_files_are_called_so(place, write_image):
    import os

    odd = os.fsdecode(b"imgs/caf\xe9.png")
    write_image(place / odd, seed=9)
    (place / "list.csv").write_bytes(b"path,label\nimgs/caf\xe9.png,a\nimgs/0.png,b\n")
    assert read(place / "list.csv")[0] == {odd: "a", "imgs/0.png": "b"}
    (place / "list.csv").write_bytes(b"path,label\nimgs/th\xe9.png,a\nimgs/0.png,b\n")
    assert "'path' holds byte 0xE9" in refused(place / "list.csv").message


def test_half_a_utf_16_file_is_refused(place):
    (place / "list.csv").write_bytes(PLAIN.encode("utf-16")[:-1])
    assert "UTF-16-LE" in refused(place / "list.csv").message


# -- separators ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("separator", "first", "name", "word"),
    [
        (";", "", "list.csv", "semicolons"),
        ("\t", "", "list.csv", "tabs"),
        ("|", "", "list.csv", "bars"),
        (";", "sep=;\n", "list.csv", "first line"),
        ("^", '"sep=^"\r\n', "list.csv", "first line"),
        (",", "", "list.tsv", "commas"),
        ("\t", "", "list.tsv", ""),
        (";", "", "list.tsv", "semicolons"),
    ],
)
def test_separators_are_those_of_the_first_line_and_said(place, separator, first, name, word):
    labels, said = read(wrote(place, first + PLAIN.replace(",", separator), name=name))
    assert labels == EXPECTED
    assert word in said and bool(said) == bool(word)


def test_semicolons_with_decimal_commas_from_excel(place):
    text = "\ufeffsep=;\r\nPATH;Label;Width;\r\nimgs\\0.png;cat;0,5;\r\nimgs\\1.png;dog;1,25;\r\n;;;\r\n"
    story = Listener()
    dataset = scan(wrote(place, text), story=story)
    assert dataset.paths == ["imgs/0.png", "imgs/1.png"] and dataset.classes == ("cat", "dog")
    assert dataset.extra == {"Width": ["0,5", "1,25"]}
    assert any("with / for \\" in said for said in story.said)


def test_decimal_commas_between_commas_are_refused_with_the_line(place):
    error = refused(wrote(place, "path,label,width\nimgs/0.png,cat,0,5\n"))
    assert "line 2" in error.message and "4 values for 3 columns" in error.message and "quotes" in error.hint


def test_a_file_with_zero_bytes_is_refused(place):
    assert (
        "line 2" in refused(wrote(place, "path,label\nimgs/0.png,c\0at\n")).message
        or "line break" in refused(place / "list.csv").message
    )


# -- headers and paths ---------------------------------------------------------------------------


def test_a_header_in_another_case(place):
    dataset = scan(wrote(place, "PATH, Label ,SPLIT,Group,Camera\nimgs/0.png,a,Training,g,X\nimgs/1.png,a,DEV,h,Y\n"))
    assert dataset.given.tolist() == [0, 1] and dataset.groups == ["g", "h"] and dataset.extra == {"Camera": ["X", "Y"]}
    assert "two columns 'label'" in refused(wrote(place, "path,label,Label\nimgs/0.png,a,a\n")).message


@pytest.mark.parametrize(
    ("header", "guess"),
    [
        ("filename,label", "'filename'"),
        ("path,class", "'class'"),
        ("Image_ID,label", "'Image_ID'"),
        ("path,Species", "'Species'"),
    ],
)
def test_columns_by_other_names_are_asked_about(place, header, guess):
    assert f"did you mean {guess}" in refused(wrote(place, f"{header}\nimgs/0.png,a\n")).hint


def test_a_table_without_a_header(place):
    assert "sed -i '1i path,label'" in refused(wrote(place, "imgs/0.png,a\nimgs/1.png,b\n")).hint


def test_paths_with_spaces_backslashes_and_unicode_forms(place, write_image):
    composed, decomposed = (unicodedata.normalize(form, "imgs/é.png") for form in ("NFC", "NFD"))
    write_image(place / decomposed, seed=7)
    text = f"path,label\n imgs/0.png ,a\n.\\imgs\\1.png,b\n{composed},c\n"
    labels, said = read(wrote(place, text))
    assert labels == {"imgs/0.png": "a", "imgs/1.png": "b", decomposed: "c"}
    assert "without the spaces" in said and "with / for \\" in said and "NFD" in said


def test_names_that_really_hold_a_backslash_or_a_space_stay(place, write_image):
    write_image(place / "a\\b.png", seed=7)
    write_image(place / "c.png ", seed=8)
    labels, said = read(wrote(place, "path,label\na\\b.png,x\nc.png ,y\n"))
    assert labels == {"a\\b.png": "x", "c.png ": "y"} and not said


def test_a_path_of_another_machine_is_named(place):
    error = refused(wrote(place, "path,label\nC:\\Users\\me\\0.png,a\n"))
    assert "'C:\\\\Users\\\\me\\\\0.png'" in error.message and str(place) in error.hint


def test_a_table_in_another_folder_than_its_paths_say(place):
    (place / "lists").mkdir()
    error = refused(wrote(place / "lists", PLAIN))
    assert "none of the files it lists is there (3," in error.message and "did you mean '../imgs/0.png'" in error.hint
    error = refused(wrote(place, "path,label\n0.png,a\n"))
    assert "did you mean 'imgs/0.png'" in error.hint


# -- labels in other shapes ----------------------------------------------------------------------


@pytest.mark.parametrize(("one", "zero"), [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_one_column_of_0_and_1_for_each_class(place, one, zero):
    rows = [(one, zero, zero), (zero, one, zero), (zero, zero, one)]
    text = "path,red,green,blue\n" + "".join(f"imgs/{n}.png,{','.join(row)}\n" for n, row in enumerate(rows))
    labels, said = read(wrote(place, text))
    assert labels == {"imgs/0.png": "red", "imgs/1.png": "green", "imgs/2.png": "blue"}
    assert "3 columns of 0 and 1" in said and "one class an image" in said


def test_several_ones_are_several_labels(place):
    labels, said = read(wrote(place, "path,red,green\nimgs/0.png,1,1\nimgs/1.png,0,0\nimgs/2.png,0,1\n"))
    assert labels == {"imgs/0.png": "green|red", "imgs/1.png": "|", "imgs/2.png": "green"}
    assert "any number of labels" in said


def test_indicators_beside_other_columns(place):
    one_each = "path,red,green,width\nimgs/0.png,1,0,640\nimgs/1.png,0,1,480\n"
    dataset = scan(wrote(place, one_each))
    assert dataset.classes == ("green", "red") and dataset.extra == {"width": ["640", "480"]}
    not_one_each = "path,red,green,width\nimgs/0.png,1,1,640\nimgs/1.png,0,1,480\n"
    assert "no column 'label'" in refused(wrote(place, not_one_each)).message
    assert scan(wrote(place, not_one_each), labelled=None).classes == ()
    assert "no column 'label'" in refused(wrote(place, "path,outdoor\nimgs/0.png,1\n")).message


def test_a_label_column_beside_indicators_goes_first(place):
    dataset = scan(wrote(place, "path,label,red,green\nimgs/0.png,a,1,0\nimgs/1.png,b,0,1\n"))
    assert dataset.classes == ("a", "b") and sorted(dataset.extra) == ["green", "red"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("0", "1", "7"), ("0", "1", "7")),
        (("0", "1.0", "7"), ("0", "1", "7")),
        (("0.0", "1.0", "1"), ("0", "1")),
        (("1.5", "1.0", "2"), ("1.0", "1.5", "2")),
        (("001", "002", "003"), ("001", "002", "003")),
    ],
)
def test_whole_numbers_with_and_without_decimals_are_one_class(place, labels, classes):
    text = "path;label\n" + "".join(f"imgs/{row}.png;{label}\n" for row, label in enumerate(labels))
    assert scan(wrote(place, text)).classes == classes
    assert scan(wrote(place, text.replace(".", ",").replace(",png", ".png"))).classes == tuple(
        name.replace(".", ",") for name in classes
    )


@pytest.mark.parametrize("labels", [("1", "01", "2"), ("1.5", "1.50", "2"), ("1.0", "x", "1"), ("1,5", "1.5", "x")])
def test_the_same_number_written_otherwise_is_asked_about(place, labels):
    text = "path;label\n" + "".join(f"imgs/{row}.png;{label}\n" for row, label in enumerate(labels))
    assert "the same number" in refused(wrote(place, text)).message
    assert scan(wrote(place, text), classes=sorted(labels)).classes == tuple(sorted(labels))


@pytest.mark.parametrize(
    ("values", "classes"),
    [([0, 1, 7], ("0", "1", "7")), ([0.0, 1.0, 7.0], ("0", "1", "7")), ([0.5, 1.0, 2.0], ("0.5", "1.0", "2.0"))],
)
def test_numbers_in_parquet(place, values, classes):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": [f"imgs/{n}.png" for n in range(3)], "label": values})
    frame.to_parquet(place / "list.parquet")
    assert scan(place / "list.parquet").classes == classes
    frame.loc[1, "label"] = np.nan
    frame.to_parquet(place / "list.parquet")
    assert "row 3 of" in refused(place / "list.parquet").message  # a missing label is not a class named nan
    assert scan(place / "list.parquet", labelled=None).labels.tolist().count(-1) == 1


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        ([b"cat", "gr\u00fcn".encode(), b"cat"], ("cat", "gr\u00fcn"), ["cat", "gr\u00fcn", "cat"]),
        ([["cat", "dog"], ["dog"], []], ("cat", "dog"), ["cat|dog", "dog", "|"]),
        ([[3, 10], [10], [3]], ("10", "3"), ["10|3", "10", "3"]),
        ([["cat"], ["dog"], ["cat"]], ("cat", "dog"), ["cat", "dog", "cat"]),
    ],
)
def test_bytes_and_lists_in_parquet_are_names(place, values, classes, labels):
    pandas = pytest.importorskip("pandas")
    paths = [f"imgs/{n}.png".encode() for n in range(3)]
    pandas.DataFrame({"path": paths, "label": values}).to_parquet(place / "list.parquet")
    found = scan(place / "list.parquet")
    assert found.classes == classes and [found.label_name(row) for row in range(3)] == labels


def test_the_word_nan_in_a_table_is_kept_and_said(place):
    labels, said = read(wrote(place, "path,label\nimgs/0.png,nan\nimgs/1.png,a\n"))
    assert labels["imgs/0.png"] == "nan" and "missing value" in said


# -- a file of fixes corrected in Excel ------------------------------------------------------------


def test_fixes_as_excel_saves_them(tmp_path):
    text = "path;Action;label;reason\r\na/0.png;relabel;b;sieht aus wie b\r\na/1.png;drop;;\r\n"
    (tmp_path / "fixes.csv").write_text(text, encoding="utf-16")
    assert [(fix.path, fix.action, fix.label) for fix in read_fixes(tmp_path / "fixes.csv")] == [
        ("a/0.png", "relabel", "b"),
        ("a/1.png", "drop", ""),
    ]
    (tmp_path / "fixes.csv").write_text(text.replace("wie", "wié"), encoding="cp1252")
    with pytest.raises(TlkitError, match="not UTF-8"):
        read_fixes(tmp_path / "fixes.csv")


def test_rows_of_fixes_may_end_early_and_rows_of_tables_may_not(place):
    (place / "fixes.csv").write_text("path,action,label,reason\na/0.png,drop\na/1.png,relabel,b,,,\n", encoding="utf-8")
    assert [(fix.path, fix.action, fix.label) for fix in read_fixes(place / "fixes.csv")] == [
        ("a/0.png", "drop", ""),
        ("a/1.png", "relabel", "b"),
    ]
    assert scan(wrote(place, "path,label\nimgs/0.png,a,,\n")).classes == ("a",)  # a spreadsheet's extra separators
    assert "2 values for 3" in refused(wrote(place, "path,label,note\nimgs/0.png,a\n")).message
