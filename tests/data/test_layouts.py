"""Folder layouts in practice: splits under other names, one folder too high or too low, archives, URLs."""

from collections import Counter

import pytest

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import SPLITS
from tlkit.data.folders import refuse_inside, split_of
from tlkit.data.scan import scan


class Listener:
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    def detail(self, text):
        pass

    def track(self, items, description, total=None):
        return iter(items)


def given(dataset):
    """Images of each split, "" for none."""
    return dict(Counter((*SPLITS, "")[code] for code in dataset.given))


def refused(*args, **kwargs):
    with pytest.raises(TlkitError) as caught:
        scan(*args, **kwargs)
    return caught.value


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("Training", "train", ()),
        ("training_set", "train", ()),
        ("trainset", "train", ()),
        ("TrainImages", "train", ()),
        ("train2017", "train", ()),
        ("01_train", "train", ()),
        ("seg_train", "train", ("seg",)),
        ("dev", "val", ()),
        ("Validation-Set", "val", ()),
        ("TESTING", "test", ()),
        ("test set", "test", ()),
        ("eval", "eval", ()),
    ],
)
def test_names_that_mean_splits(name, split, rest):
    assert split_of(name) == (split, rest)


@pytest.mark.parametrize(
    "name", ["bus", "trainer", "contest", "latest", "training_test", "traîn", "device", "developer", "1"]
)
def test_names_that_mean_none(name):
    assert split_of(name) is None


@pytest.mark.parametrize(
    ("folders", "counts"),
    [
        (("Training", "Testing"), {"train": 6, "test": 6}),
        (("training_set", "test_set"), {"train": 6, "test": 6}),
        (("seg_train/seg_train", "seg_test/seg_test"), {"train": 6, "test": 6}),
        (("train/Train", "test/Test"), {"train": 6, "test": 6}),
        (("train/images", "valid/images", "test/images"), {"train": 6, "val": 6, "test": 6}),
        (("train", "dev"), {"train": 6, "val": 6}),
        (("train", "dev", "eval"), {"train": 6, "val": 6, "test": 6}),
        (("train", "eval"), {"train": 6, "test": 6}),
        (("train", "eval", "test"), {"train": 6, "val": 6, "test": 6}),
        (("dev", "test"), {"val": 6, "test": 6}),
        (("xray_train", "xray_val"), {"train": 6, "val": 6}),
        (("Training",), {"train": 6}),
    ],
)
def test_splits_under_other_names(make_classes, folders, counts):
    story = Listener()
    dataset = scan(make_classes(*(f"{folder}/{name}" for folder in folders for name in "abc")), story=story)
    assert dataset.classes == ("a", "b", "c")
    assert given(dataset) == counts
    assert dataset.class_counts().tolist() == [2 * len(folders)] * 3
    if any(folder not in ("train", "val", "test") for folder in folders):
        assert story.said[0].startswith("Splits by the names of folders: ")


def test_images_beside_recognised_splits_are_left_out_and_said(make_classes, write_image):
    root = make_classes("seg_train/seg_train/a", "seg_train/seg_train/b", "seg_test/seg_test/a", "seg_test/seg_test/b")
    write_image(root / "seg_pred" / "seg_pred" / "x.png", seed=99)
    story = Listener()
    assert len(scan(root, story=story)) == 8
    assert "Left out, beside the folders of splits: seg_pred." in story.said


def test_what_only_sounds_like_a_split_is_a_class(make_classes):
    assert scan(make_classes("train_station/x", "test_tube/y", "bus_stop/z")).classes == (
        "bus_stop",
        "test_tube",
        "train_station",
    )


def test_folders_of_classes_called_as_splits_are_asked_about_and_can_be_said_to_be_classes(make_classes):
    root = make_classes("testing", "training")
    assert "has no class folders" in refused(root).message
    assert "--classes testing,training" in refused(root).hint
    assert scan(root, classes=("testing", "training")).classes == ("testing", "training")


@pytest.mark.parametrize("tops", [("A", "B"), ("part1", "part2", "part3"), ("train", "final")])
def test_folders_that_all_hold_the_same_folders_are_asked_about(make_classes, tops):
    root = make_classes(*(f"{top}/{name}" for top in tops for name in "abc"))
    error = refused(root)
    assert "all hold the same folders ('a', 'b', 'c')" in error.message
    assert f"--classes {','.join(sorted(tops))}" in error.hint and "rename them to train, val and test" in error.hint
    assert scan(root, classes=sorted(tops)).classes == tuple(sorted(tops))
    assert scan(root, known=sorted(tops)).classes == tuple(sorted(tops))


def test_many_classes_with_the_same_folders_inside_are_classes(make_classes):
    names = [f"subject{number:02d}" for number in range(11)]
    assert scan(make_classes(*(f"{name}/{kind}" for name in names for kind in ("rgb", "depth")))).classes == tuple(
        names
    )


# -- one folder too high, too low ----------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["PetImages", "data/PetImages"])
def test_a_folder_too_high(make_classes, wrapper):
    root = make_classes(f"{wrapper}/Cat", f"{wrapper}/Dog")
    error = refused(root)
    assert f"holds one folder, '{wrapper}', and that holds 'Cat', 'Dog'" in error.message
    assert f"did you mean '{root}/{wrapper}'" in error.hint
    assert error.instead == (str(root), f"{root}/{wrapper}")
    assert scan(root / wrapper).classes == ("Cat", "Dog")


def test_a_folder_too_high_over_splits(make_classes):
    root = make_classes("set/train/a", "set/train/b", "set/test/a", "set/test/b")
    assert f"did you mean '{root}/set'" in refused(root).hint


def test_one_class_that_holds_folders_can_be_said_to_be_one(make_classes):
    assert scan(make_classes("a/x", "a/y"), classes=("a",)).classes == ("a",)


def test_a_folder_too_low(make_classes, monkeypatch):
    root = make_classes("PetImages/Cat", "PetImages/Dog") / "PetImages"
    error = refused(root / "Cat")
    assert "has no class folders" in error.message
    assert f"did you mean '{root}', which holds 'Cat', 'Dog'" in error.hint
    monkeypatch.chdir(root.parent)
    assert "did you mean 'PetImages'" in refused("PetImages/Cat").hint


def test_a_folder_too_low_below_splits(make_classes):
    root = make_classes("train/a", "train/b", "test/a", "test/b")
    assert f"did you mean '{root}', which holds 'test', 'train'" in refused(root / "train" / "a").hint


def test_a_flat_folder_among_strangers_gets_no_guess(tmp_path, write_image):
    write_image(tmp_path / "pictures" / "x.png")
    (tmp_path / "documents").mkdir()
    assert "did you mean" not in refused(tmp_path / "pictures").hint


# -- no folder at all ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("data.zip", "unzip"),
        ("data.tar.gz", "tar -xf"),
        ("data.7z", "7z x"),
        ("labels.xlsx", "CSV UTF-8"),
        ("annotations.json", "columns path,label"),
        ("images.npz", "folder for each class"),
        ("strange.bin", "ending in .csv"),
    ],
)
def test_a_file_that_is_no_listing_gets_its_own_remedy(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"PK\3\4")
    error = refused(tmp_path / name)
    assert name in error.message and remedy in error.hint


@pytest.mark.parametrize("address", ["https://example.org/set.zip?x=1", "http://a/b", "s3://bucket/images", "gs://b/i"])
def test_an_address_is_not_a_path(address):
    error = refused(address)
    assert "is an address" in error.message and "download it first" in error.hint
    assert ("unzip set.zip" in error.hint) == ("set.zip" in address)


def test_results_may_not_lie_inside_the_images(make_classes, tmp_path):
    root = make_classes("a", "b")
    with pytest.raises(TlkitError) as caught:
        refuse_inside(root / "run", root)
    assert "lies inside the images" in caught.value.message and f"--out {tmp_path}/images-run" in caught.value.hint
    with pytest.raises(TlkitError):
        refuse_inside(root / "a" / "deep" / "run", root)
    refuse_inside(tmp_path / "run", root)
    refuse_inside(tmp_path / "images-run", root)
    (tmp_path / "list.csv").touch()
    refuse_inside(tmp_path / "run", tmp_path / "list.csv")  # a table's folder is not walked
