import pytest

from tlkit.base.errors import TlkitError
from tlkit.data.fixes import Fix, read_fixes, write_fixes
from tlkit.data.scan import scan
from tlkit.options.commands import EvaluateConfig


def fixes(tmp_path, *lines):
    file = tmp_path / "fixes.csv"
    file.write_text("path,action,label,reason\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(file)


def test_what_was_written_is_read(tmp_path):
    wanted = [Fix("a b/x,1.png", "relabel", "b", "looks, like b"), Fix("a/2.png", "drop")]
    write_fixes(tmp_path / "f.csv", wanted)
    assert read_fixes(tmp_path / "f.csv") == wanted


def test_fixes_change_labels_drop_images_and_touch_no_file(colours, tmp_path):
    before = scan(colours)
    after = scan(colours, fixes=fixes(tmp_path, "blue/00.png,relabel,red,", "green/01.png,drop,,copy"))
    assert len(after) == len(before) - 1 and "green/01.png" not in after.paths
    assert after.label_name(after.paths.index("blue/00.png")) == "red"
    assert (colours / "green/01.png").exists()
    assert after.fingerprint() != before.fingerprint()


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("blue/0O.png,drop,,", "names 'blue/0O.png', which is not among the images", "did you mean 'blue/"),
        ("blue/00.png,relabel,rad,", "'rad' is not a class here", "did you mean 'red'"),
        ("blue/00.png,remove,,", "'remove' is not an action", "relabel, drop"),
        ("blue/00.png,relabel,,", "without a label", "drop"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(colours, tmp_path, line, message, hint):
    with pytest.raises(TlkitError) as refused:
        scan(colours, fixes=fixes(tmp_path, line))
    assert message in refused.value.message and hint in refused.value.hint
    assert "line 2" in refused.value.message


def test_a_path_twice_and_a_missing_file_and_column_are_refused(colours, tmp_path):
    with pytest.raises(TlkitError, match="a second time"):
        scan(colours, fixes=fixes(tmp_path, "blue/00.png,drop,,", "blue/00.png,relabel,red,"))
    with pytest.raises(TlkitError, match="does not exist"):
        scan(colours, fixes=str(tmp_path / "none.csv"))
    (tmp_path / "bad.csv").write_text("file,action\n", encoding="utf-8")
    with pytest.raises(TlkitError, match="no column 'path'"):
        scan(colours, fixes=str(tmp_path / "bad.csv"))


def test_a_class_cannot_be_emptied(colours, tmp_path):
    lines = [f"blue/{number:02d}.png,drop,," for number in range(12)]
    with pytest.raises(TlkitError, match="leaves no image of class 'blue'"):
        scan(colours, fixes=fixes(tmp_path, *lines))


def test_fixes_of_a_run_s_own_images_are_refused(tmp_path):
    with pytest.raises(TlkitError, match="no effect on the images of the run"):
        EvaluateConfig(run=str(tmp_path), fixes="fixes.csv")
