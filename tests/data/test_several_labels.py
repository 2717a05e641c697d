"""Tables whose images may have several labels: read, split, corrected, written."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import Dataset, Problem
from tlkit.data.decode import set_aside
from tlkit.data.fixes import Fixing
from tlkit.data.scan import scan
from tlkit.data.split import split, unit_of_rows
from tlkit.tasks.multi import MULTI
from tlkit.tasks.single import SINGLE

LABELS = ("cat|dog", "dog", "|", "fish|cat", "dog | fish", "cat")


@pytest.fixture
def table(tmp_path, write_image):
    """Write a table of labels, one image each; returns its path."""

    def make(*labels, extra=""):
        for i in range(len(labels)):
            write_image(tmp_path / f"{i}.png", seed=i)
        rows = [f"{i}.png,{label}" for i, label in enumerate(labels)]
        file = tmp_path / "images.csv"
        file.write_text(f"path,label{extra}\n" + "\n".join(rows) + "\n")
        return file

    return make


def test_a_bar_makes_a_table_one_of_several_labels(table, tmp_path):
    dataset = scan(table(*LABELS))
    assert dataset.task is MULTI and dataset.classes == ("cat", "dog", "fish")
    assert dataset.targets.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 0, 0]]
    assert (dataset.labels == -1).all() and dataset.labelled.all()
    assert [dataset.label_name(i) for i in range(6)] == ["cat|dog", "dog", "|", "cat|fish", "dog|fish", "cat"]
    assert dataset.class_counts().tolist() == [3, 3, 2]
    assert dataset.class_counts(np.arange(6) < 2).tolist() == [1, 2, 0]
    dataset.write_csv(tmp_path / "m.csv")
    back = Dataset.read_csv(tmp_path / "m.csv", dataset.root, dataset.classes, task=MULTI)
    assert np.array_equal(back.targets, dataset.targets) and back.fingerprint() == dataset.fingerprint()
    assert dataset.fingerprint() != replace(dataset, targets=1 - dataset.targets).fingerprint()
    assert scan(table("cat", "dog")).task is SINGLE


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (("cat|dog", "cat|"), {}, "row 3 of .* has label 'cat|', with nothing on one side"),
        (("cat|dog", "dog|dog"), {}, "row 3 of .* names a class twice"),
        (("cat|dog", ""), {}, "row 3 of .* has no label"),
        (("cat|dog", "dog"), {"classes": ["cat"]}, "leaves out the label 'dog'"),
        (("cat|dog,val", "dog,train"), {"extra": ",split"}, "no training row of class 'cat'"),
    ],
)
def test_what_is_wrong_with_labels_is_said_with_its_row(table, labels, options, words):
    extra = options.pop("extra", "")
    with pytest.raises(TlkitError, match=words.replace("|", r"\|")):
        scan(table(*labels, extra=extra), **options)


def test_where_labels_are_not_needed_an_empty_one_is_not_known(table):
    dataset = scan(table("cat|dog", "", "|"), labelled=None)
    assert dataset.labelled.tolist() == [True, False, True] and dataset.label_name(1) == ""
    assert dataset.class_counts().tolist() == [1, 1]


def test_an_unreadable_file_may_not_take_the_last_image_of_a_label(table):
    dataset = scan(table("cat|dog", "cat", "cat"))
    assert len(set_aside(dataset, [Problem("1.png", "is broken")], "skip")) == 2
    with pytest.raises(TlkitError, match=r"class 'dog' can be decoded: '0\.png' is broken"):
        set_aside(dataset, [Problem("0.png", "is broken")], "skip")


def test_fixes_change_sets_of_labels(table, tmp_path):
    file = tmp_path / "fixes.csv"
    file.write_text("path,action,label\n1.png,relabel,fish|cat\n2.png,relabel,dog\n0.png,relabel,|\n")
    dataset = scan(table(*LABELS), fixes=Fixing(str(file), held_out=True))
    assert [dataset.label_name(i) for i in range(3)] == ["|", "cat|fish", "dog"]
    file.write_text("path,action,label\n1.png,relabel,fish|cow\n")
    with pytest.raises(TlkitError, match="'cow' is not a class here"):
        scan(table(*LABELS), fixes=Fixing(str(file), held_out=True))


def drawn(random, images, rates, groups=None):
    """A manifest whose images have each label at its rate."""
    targets = (random.random((images, len(rates))) < rates).astype(np.int8)
    return Dataset(
        root="/nowhere",
        classes=tuple(f"c{k}" for k in range(len(rates))),
        paths=[f"{i}.png" for i in range(images)],
        labels=np.full(images, -1, np.int32),
        sha256=random.integers(0, 256, (images, 32)).astype(np.uint8),
        sizes=np.full(images, 10),
        given=np.full(images, -1, np.int8),
        groups=groups,
        targets=targets,
    )


@settings(max_examples=200, deadline=None, derandomize=True)  # one of 12,000 small sets needs more than an exchange
@given(st.integers(0, 2**31), st.integers(20, 300), st.integers(2, 12), st.booleans())
@example(152083279, 20, 8, True)  # ten groups that span most classes: a class gets its share only by exchange
def test_every_class_has_its_share_of_every_side(seed, images, classes, grouped):
    random = np.random.default_rng(seed)
    groups = [f"g{random.integers(images // 2)}" for _ in range(images)] if grouped else None
    dataset = drawn(random, images, random.uniform(0.02, 0.7, classes), groups)
    splits = split(dataset, val=0.2, test=0.2, seed=seed)
    units = unit_of_rows(dataset)
    for unit in np.unique(units):
        assert len(set(splits.codes[units == unit].tolist())) == 1
    most = int(np.bincount(units).max())  # images of a unit, which cannot be divided
    for label in range(classes):
        own = dataset.of_class(label)
        for code in (1, 2):
            have = int((own & (splits.codes == code)).sum())
            assert abs(have - 0.2 * own.sum()) <= 3 + 2 * most
        if own.any():
            assert (own & (splits.codes == 0)).any()
        if len(np.unique(units[own])) >= 4:
            assert (own & (splits.codes == 1)).any() and (own & (splits.codes == 2)).any()
    assert abs((splits.codes == 0).mean() - 0.6) <= 0.05 + 3 * most / images


def test_the_split_follows_content_not_names_or_order():
    dataset = drawn(np.random.default_rng(1), 200, np.array([0.1, 0.5, 0.3]))
    codes = split(dataset, val=0.15, test=0.15, seed=0).codes
    order = np.random.default_rng(2).permutation(200)
    assert np.array_equal(split(dataset.select(order), val=0.15, test=0.15, seed=0).codes, codes[order])
    assert not np.array_equal(split(dataset, val=0.15, test=0.15, seed=1).codes, codes)
