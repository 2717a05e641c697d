from functools import partial

import numpy as np
import pytest

from tests.data.test_layouts import Listener
from tlkit.base.errors import TlkitError
from tlkit.data.dataset import SPLITS, UNASSIGNED
from tlkit.data.fixes import Fix, Fixing, read_fixes, write_fixes
from tlkit.data.scan import scan
from tlkit.data.split import fixing, split
from tlkit.options.commands import EvaluateConfig, FinetuneConfig


def fixes(tmp_path, *lines):
    file = tmp_path / "fixes.csv"
    file.write_text("path,action,label,reason\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Fixing(str(file), held_out=True)


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
        scan(colours, fixes=Fixing(str(tmp_path / "none.csv")))
    (tmp_path / "bad.csv").write_text("file,action\n", encoding="utf-8")
    with pytest.raises(TlkitError, match="no column 'path'"):
        scan(colours, fixes=Fixing(str(tmp_path / "bad.csv")))


def test_a_class_cannot_be_emptied(colours, tmp_path):
    lines = [f"blue/{number:02d}.png,drop,," for number in range(12)]
    with pytest.raises(TlkitError, match="leaves no image of class 'blue'"):
        scan(colours, fixes=fixes(tmp_path, *lines))


def test_fixes_of_a_run_s_own_images_are_refused(tmp_path):
    with pytest.raises(TlkitError, match="no effect on the images of the run"):
        EvaluateConfig(run=str(tmp_path), fixes="fixes.csv")


# -- whom they are for ---------------------------------------------------------------------------

draw = partial(split, val=0.25, test=0.25, seed=3)


def everything(dataset, tmp_path):
    """Fixes that give every image the class after its own."""
    names = (*dataset.classes, dataset.classes[0])
    lines = [f"{path},relabel,{names[dataset.labels[row] + 1]}," for row, path in enumerate(dataset.paths)]
    return fixes(tmp_path, *lines).file


def test_only_training_images_get_new_labels_and_the_split_is_that_of_before(colours, tmp_path):
    before = scan(colours)
    codes = draw(before).codes
    story = Listener()
    after = scan(colours, fixes=Fixing(everything(before, tmp_path), draw), story=story)
    train = codes == SPLITS.index("train")
    assert np.array_equal(after.labels[train], (before.labels[train] + 1) % 3)
    assert np.array_equal(after.labels[~train], before.labels[~train])
    assert np.array_equal(draw(after).codes, codes)
    assert np.array_equal(split(after, val=0.1, test=0.5, seed=99).codes, codes)  # it is not drawn again
    assert "drawn within each class by content" in draw(after).rule and "before the fixes" in draw(after).rule
    assert "18 labels changed (train 18), 0 images dropped" in after.fixed
    assert "18 new labels were not applied (val 9, test 9)" in after.fixed and "--fix-held-out" in after.fixed
    assert after.fixed in story.said


def test_held_out_labels_are_changed_when_that_is_asked_for_and_it_is_said(colours, tmp_path):
    before = scan(colours)
    after = scan(colours, fixes=Fixing(everything(before, tmp_path), draw, held_out=True))
    assert np.array_equal(after.labels, (before.labels + 1) % 3)
    assert np.array_equal(draw(after).codes, draw(before).codes)
    assert "36 labels changed (train 18, val 9, test 9)" in after.fixed
    assert "measured against the changed labels" in after.fixed


def test_dropped_images_are_counted_by_split_and_move_no_other(colours, tmp_path):
    before = scan(colours)
    codes = draw(before).codes
    gone = [int(np.flatnonzero(codes == code)[0]) for code in range(3)]
    lines = [f"{before.paths[row]},drop,," for row in gone]
    after = scan(colours, fixes=Fixing(fixes(tmp_path, *lines).file, draw))
    assert "0 labels changed, 3 images dropped (train 1, val 1, test 1)" in after.fixed
    assert np.array_equal(draw(after).codes, np.delete(codes, gone))
    bad = after.without([type("P", (), {"path": after.paths[0]})()])
    assert np.array_equal(draw(bad).codes, np.delete(codes, gone)[1:])  # nor do unreadable files


def test_a_fix_that_changes_nothing_is_not_counted(colours, tmp_path):
    after = scan(colours, fixes=Fixing(fixes(tmp_path, "blue/00.png,relabel,blue,").file, draw))
    assert after.fixed == f"Fixes of {tmp_path}/fixes.csv: 0 labels changed, 0 images dropped."


def test_splits_that_come_with_the_images_decide(tmp_path, colours):
    import shutil

    for name, part in (("train", "0"), ("test", "1")):
        for folder in ("blue", "red"):
            (tmp_path / "set" / name / folder).mkdir(parents=True)
            for file in (colours / folder).glob(f"{part}*.png"):
                shutil.copy(file, tmp_path / "set" / name / folder)
    lines = ["train/blue/00.png,relabel,red,", "test/blue/10.png,relabel,red,"]
    after = scan(
        tmp_path / "set", fixes=Fixing(fixes(tmp_path, *lines).file, partial(split, val=0.0, test=0.0, seed=0))
    )
    labels = {path: after.label_name(row) for row, path in enumerate(after.paths)}
    assert labels["train/blue/00.png"] == "red" and labels["test/blue/10.png"] == "blue"


def test_images_to_be_measured_on_keep_their_labels(colours, tmp_path):
    """As `tlkit evaluate RUN IMAGES` has it: all of them are held out."""
    file = fixes(tmp_path, "blue/00.png,relabel,red,", "green/01.png,drop,,").file
    after = scan(colours, fixes=Fixing(file))
    assert after.label_name(after.paths.index("blue/00.png")) == "blue" and len(after) == 35
    assert "0 labels changed, 1 images dropped (images 1). 1 new labels were not applied (images 1)" in after.fixed
    assert set(after.given.tolist()) == {UNASSIGNED}


def test_options_say_to_whom_fixes_apply(colours):
    config = FinetuneConfig(images=str(colours), fixes="f.csv", val=0.2, test=0.1, seed=7)
    made = fixing(config)
    assert not made.held_out and made.draw.keywords == {"val": 0.2, "test": 0.1, "seed": 7, "keras_split": None}
    assert fixing(FinetuneConfig(images=str(colours))) is None
    with pytest.raises(TlkitError, match="no fixes to apply"):
        FinetuneConfig(images=str(colours), fix_held_out=True)
