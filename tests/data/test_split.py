import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlkit.data.dataset import SPLITS
from tlkit.data.scan import scan
from tlkit.data.split import split, unit_of_rows

TRAIN, VAL, TEST = range(3)


def counts(splits, labels):
    """(3, K) images of each split and class."""
    classes = int(max(labels)) + 1
    labels = np.asarray(labels)
    return np.array([np.bincount(labels[splits.codes == code], minlength=classes) for code in range(3)])


def test_stratified_by_class(make_manifest):
    labels = [0] * 100 + [1] * 40
    splits = split(make_manifest(range(140), labels), val=0.2, test=0.1, seed=0)
    assert counts(splits, labels).tolist() == [[70, 28], [20, 8], [10, 4]]
    assert splits.rule == ("train 98, val 28, test 14: drawn within each class by content (seed 0, val 0.2, test 0.1).")


def test_the_same_content_gives_the_same_split_under_other_names_and_order(make_manifest):
    labels = [0, 1] * 50
    first = split(make_manifest(range(100), labels), val=0.2, test=0.2, seed=3)
    order = np.random.default_rng(0).permutation(100)
    shuffled = make_manifest(order, [labels[i] for i in order], paths=[f"x{i}" for i in range(100)])
    assert np.array_equal(split(shuffled, val=0.2, test=0.2, seed=3).codes, first.codes[order])
    other = split(make_manifest(range(100), labels), val=0.2, test=0.2, seed=4)
    assert not np.array_equal(other.codes, first.codes)


def test_adding_images_moves_few_others(make_manifest):
    labels = [i % 5 for i in range(2000)]
    before = split(make_manifest(range(2000), labels), val=0.15, test=0.15, seed=0).codes
    more = [*labels, *([2] * 40)]
    after = split(make_manifest(range(2040), more), val=0.15, test=0.15, seed=0).codes[:2000]
    moved = before != after
    assert moved.sum() <= 20
    assert not moved[np.array(labels) != 2].any()
    assert not ((before == VAL) & (after == TEST)).any()
    assert not ((before == TEST) & (after == VAL)).any()


@pytest.mark.parametrize(
    ("n", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (2, 1, 0)), (4, (2, 1, 1)), (5, (3, 1, 1)), (10, (6, 2, 2))]
)
def test_tiny_classes(make_manifest, n, expected):
    labels = [0] * 50 + [1] * n
    splits = split(make_manifest(range(50 + n), labels), val=0.15, test=0.15, seed=0)
    assert tuple(counts(splits, labels)[:, 1]) == expected


def test_without_val_the_third_image_is_for_test(make_manifest):
    splits = split(make_manifest(range(3), [0, 0, 0]), val=0, test=0.1, seed=0)
    assert counts(splits, [0, 0, 0]).ravel().tolist() == [2, 0, 1]


def test_copies_stay_together_and_are_said(make_manifest):
    contents = [*range(30), *range(30)]
    labels = [i % 2 for i in range(30)] * 2
    splits = split(make_manifest(contents, labels), val=0.2, test=0.2, seed=1)
    assert np.array_equal(splits.codes[:30], splits.codes[30:])
    assert "keeping 30 exact copies with the original" in splits.rule


def test_copies_under_two_labels_stay_together(make_manifest):
    contents = [*range(20), *range(20)]
    splits = split(make_manifest(contents, [0] * 20 + [1] * 20), val=0.2, test=0.2, seed=1)
    assert np.array_equal(splits.codes[:20], splits.codes[20:])
    assert counts(splits, [0] * 20 + [1] * 20).tolist() == [[12, 12], [4, 4], [4, 4]]


def test_groups_joined_by_a_copy_are_one_unit(make_manifest):
    dataset = make_manifest([1, 2, 2, 3, 4], [0] * 5, groups=["a", "a", "b", "b", ""])
    assert unit_of_rows(dataset).tolist() == [0, 0, 0, 0, 4]


def test_a_long_chain_of_groups_is_one_unit(make_manifest):
    n = 20_000
    contents = [i // 2 for i in range(n)]
    groups = [f"g{(i + 1) // 2}" for i in range(n)]
    order = np.random.default_rng(0).permutation(n)
    dataset = make_manifest([contents[i] for i in order], [0] * n, groups=[groups[i] for i in order])
    assert len(np.unique(unit_of_rows(dataset))) == 1


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 25), st.integers(0, 3), st.sampled_from("abcdefgh") | st.just("")), min_size=1
    ),
    val=st.sampled_from([0.0, 0.1, 0.15, 0.4]),
    test=st.sampled_from([0.0, 0.1, 0.15, 0.4]),
    seed=st.integers(0, 5),
)
def test_whatever_the_data_units_are_whole_and_every_class_trains(make_manifest, rows, val, test, seed):
    contents, labels, groups = map(list, zip(*rows, strict=True))
    dataset = make_manifest(contents, labels, groups=groups, classes=("c0", "c1", "c2", "c3"))
    codes = split(dataset, val=val, test=test, seed=seed).codes
    assert codes.dtype == np.int8
    assert set(codes.tolist()) <= {TRAIN} | ({VAL} if val else set()) | ({TEST} if test else set())
    for key in (contents, groups):
        for value in set(key) - {""}:
            assert len({codes[i] for i in range(len(rows)) if key[i] == value}) == 1
    assert {label for label, code in zip(labels, codes, strict=True) if code == TRAIN} == set(labels)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    val=st.sampled_from([0.1, 0.15, 0.3]),
    seed=st.integers(0, 9),
)
def test_without_groups_the_counts_are_exact(make_manifest, sizes, val, seed):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    found = counts(split(make_manifest(range(len(labels)), labels), val=val, test=val, seed=seed), labels)
    for label, size in enumerate(sizes):
        wanted = int(np.floor(size * val + 0.5))
        assert found[VAL, label] == (max(1, wanted) if size >= 3 else 0)
        assert found[TEST, label] == (max(1, wanted) if size >= 4 else 0)


def test_units_that_span_classes_are_shared_out_evenly(make_manifest):
    # 400 copies under two labels each among 4000 images: held-out splits must not consist of them.
    contents = [*range(2000), *range(400), *range(2000, 3600)]
    labels = [0] * 2000 + [1] * 2000
    splits = split(make_manifest(contents, labels), val=0.15, test=0.15, seed=0)
    assert counts(splits, labels).tolist() == [[1400, 1400], [300, 300], [300, 300]]
    assert 50 <= (splits.codes[:400] == VAL).sum() <= 70


def test_large_groups_do_not_starve_val(make_manifest):
    groups = [f"g{i // 30}" for i in range(120)]
    splits = split(make_manifest(range(120), [0] * 120, groups=groups), val=0.1, test=0.1, seed=0)
    assert counts(splits, [0] * 120).ravel().tolist() == [60, 30, 30]


def test_a_class_of_one_group_trains(make_manifest):
    labels = [0] * 30 + [1] * 10
    groups = [f"g{i}" for i in range(30)] + ["only"] * 10
    splits = split(make_manifest(range(40), labels, groups=groups), val=0.2, test=0.2, seed=0)
    assert counts(splits, labels)[:, 1].tolist() == [10, 0, 0]


def test_subjects_of_real_clips_do_not_straddle(shared_data):
    dataset = scan(shared_data("ckplus48"), group_by=r"(S\d+)_")
    splits = split(dataset, val=0.15, test=0.15, seed=0)
    sides = {}
    for group, code in zip(dataset.groups, splits.codes.tolist(), strict=True):
        sides.setdefault(group, set()).add(code)
    assert all(len(side) == 1 for side in sides.values())
    found = counts(splits, dataset.labels)
    wanted = dataset.class_counts() * 0.15
    assert (np.abs(found[VAL] - wanted) <= 9).all()  # three clips, each of three frames
    assert np.abs(found.sum(axis=1) / len(dataset) - [0.7, 0.15, 0.15]).max() < 0.03
    assert "keeping 118 groups whole" in splits.rule


# -- a split that is there already -------------------------------------------------------------


def test_a_given_split_is_kept(make_manifest):
    given_codes = [TRAIN] * 6 + [VAL] * 4
    splits = split(make_manifest(range(10), [0, 1] * 5, given=given_codes), val=0.15, test=0.15, seed=0)
    assert splits.codes.tolist() == given_codes
    assert splits.rule == "train 6, val 4: as given."


def test_a_missing_val_comes_out_of_train(make_manifest):
    given_codes = [TRAIN] * 20 + [TEST] * 10
    splits = split(make_manifest(range(30), [0] * 30, given=given_codes), val=0.1, test=0.5, seed=0)
    assert [(splits.codes == code).sum() for code in range(3)] == [18, 2, 10]
    assert (splits.codes[20:] == TEST).all()
    assert "but val, which was missing, drawn from train" in splits.rule
    assert not (split(make_manifest(range(30), [0] * 30, given=given_codes), val=0, test=0, seed=0).codes == VAL).any()


def test_rows_without_a_split_train(make_manifest):
    splits = split(make_manifest(range(6), [0] * 6, given=[-1, -1, -1, TRAIN, VAL, TEST]), val=0.1, test=0.1, seed=0)
    assert splits.codes.tolist() == [TRAIN] * 4 + [VAL, TEST]
    assert "the 3 images without a split in train" in splits.rule


def test_leaks_of_a_given_split_are_said(make_manifest):
    splits = split(make_manifest([1, 2, 3, 1], [0] * 4, given=[0, 0, 1, 1]), val=0.1, test=0.1, seed=0)
    assert "warning: 1 group or set of exact duplicates has images on more than one side" in splits.rule
    grouped = make_manifest(range(4), [0] * 4, given=[0, 0, 1, 1], groups=["a", "b", "a", "b"])
    assert "warning: 2 groups" in split(grouped, val=0.1, test=0.1, seed=0).rule


def test_unlabelled_images_split_too(make_manifest):
    splits = split(make_manifest(range(20), [-1] * 20, classes=()), val=0.1, test=0.1, seed=0)
    assert [(splits.codes == code).sum() for code in range(3)] == [16, 2, 2]


def test_two_hundred_thousand_rows_take_seconds(make_manifest):
    n = 200_000
    dataset = make_manifest(range(n), [i % 100 for i in range(n)], paths=["x"] * n)
    started = time.process_time()
    split(dataset, val=0.15, test=0.15, seed=0)
    assert time.process_time() - started < 10


# -- as Keras splits ---------------------------------------------------------------------------


@pytest.fixture
def mixed_folder(make_classes, write_image):
    """What Keras and tlkit list differently: suffixes, hidden, nested, linked and damaged files."""
    root = make_classes("b", "a", "C", count=9)
    for n, name in enumerate(("UP.PNG", "x.webp", "noext", "deep/er/y.png", "deep.png", "Z.jpeg", ".hidden.png")):
        write_image(root / "a" / name, seed=500 + n)
    (root / "b" / "broken.jpg").write_text("text")
    (root / "b" / "notes.txt").write_text("text")
    (root / "b" / "linked.png").symlink_to(root / "a" / "0.png")
    (root / "b" / "folder").symlink_to(root / "a" / "deep")
    (root / "loose.png").write_bytes((root / "a" / "0.png").read_bytes())
    return root


@pytest.mark.parametrize(
    ("fraction", "seed", "classes"), [(0.2, 0, None), (0.35, 1337, None), (0.5, 7, ["b", "C", "a"])]
)
def test_the_split_of_image_dataset_from_directory(mixed_folder, fraction, seed, classes):
    keras = pytest.importorskip("keras")
    train, val = keras.utils.image_dataset_from_directory(
        mixed_folder, validation_split=fraction, subset="both", seed=seed, class_names=classes, verbose=False
    )
    dataset = scan(mixed_folder, classes=classes)
    splits = split(dataset, val=0.1, test=0.1, seed=seed, keras_split=fraction)
    at = {str(dataset.file(i)): SPLITS[code] for i, code in enumerate(splits.codes.tolist())}
    assert {path for path in val.file_paths if path in at} == {path for path, side in at.items() if side == "val"}
    listed = set(train.file_paths) | set(val.file_paths)
    assert {path for path in at if path not in listed} == {
        str(mixed_folder / "a" / "x.webp"),
        *(str(mixed_folder / p) for p in ("a/noext", "b/folder/er/y.png")),
    }
    assert "3 images that Keras does not list in train" in splits.rule
    assert tuple(train.class_names) == dataset.classes


def test_keras_split_needs_class_folders(make_classes, make_manifest):
    from tlkit.base.errors import TlkitError

    for dataset in (scan(make_classes("train/a", "val/a")), make_manifest([1], [0], paths=["elsewhere/x.png"])):
        with pytest.raises(TlkitError, match="keras-split"):
            split(dataset, val=0.1, test=0, seed=0, keras_split=0.2)
