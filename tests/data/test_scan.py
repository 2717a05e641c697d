import hashlib
import os

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import SPLITS
from tlkit.data.scan import scan


class Listener:
    """A story that remembers what it was told."""

    def __init__(self):
        self.said, self.details, self.tracked = [], [], 0

    def say(self, text):
        self.said.append(text)

    def detail(self, text):
        self.details.append(text)

    def track(self, items, description, total=None):
        for item in items:
            self.tracked += len(item)
            yield item


def refusal(*args, **kwargs):
    with pytest.raises(TlkitError) as caught:
        scan(*args, **kwargs)
    return f"{caught.value.message} {caught.value.hint}"


# -- class folders -----------------------------------------------------------------------------


def test_a_class_per_folder(make_classes):
    root = make_classes("dog", "cat")
    dataset = scan(root)
    assert dataset.classes == ("cat", "dog")
    assert dataset.paths == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.given.tolist() == [-1] * 4
    content = dataset.file(2).read_bytes()
    assert dataset.sha256[2].tobytes() == hashlib.sha256(content).digest()
    assert dataset.sizes[2] == len(content)
    assert (dataset.labels.dtype, dataset.sizes.dtype, dataset.given.dtype) == (np.int32, np.int64, np.int8)
    assert dataset.root == root


def test_classes_are_sorted_by_code_point_as_keras_does(make_classes):
    assert scan(make_classes("b", "a", "B", "10", "9", "é")).classes == ("10", "9", "B", "a", "b", "é")


def test_nested_folders_belong_to_the_class_at_the_top(make_classes, write_image):
    root = make_classes("a", "b")
    write_image(root / "a" / "deep" / "er" / "x.png", seed=7)
    dataset = scan(root)
    assert dataset.paths[2] == "a/deep/er/x.png"
    assert dataset.labels[2] == 0


def test_content_decides_and_the_name_does_not(make_classes, write_image):
    root = make_classes("a", "b")
    write_image(root / "a" / "UPPER.JPG", seed=1, image_format="JPEG")
    write_image(root / "a" / "noextension", seed=2)
    write_image(root / "a" / "wrong.txt", seed=3, image_format="WEBP")
    (root / "a" / "notes.txt").write_text("no image")
    (root / "a" / "page.jpg").write_text("<html>404</html>")
    (root / "a" / "empty.png").touch()
    (root / "a" / "empty").touch()
    dataset = scan(root)
    assert {"a/UPPER.JPG", "a/noextension", "a/wrong.txt"} <= set(dataset.paths)
    assert {p.path: p.reason for p in dataset.set_aside} == {
        "a/page.jpg": "holds an HTML page, not an image",
        "a/empty.png": "is empty (0 bytes)",
    }
    assert dataset.ignored == 2


def test_names_with_spaces_other_alphabets_and_broken_bytes(tmp_path, write_image):
    names = [b"a b.png", "ни фото.png".encode(), "照片 1.png".encode(), b"broken-\xff\xe9.png"]
    for n, name in enumerate(names):
        source = write_image(tmp_path / f"{n}.tmp", seed=n)
        folder = tmp_path / "images" / "größe 1"
        folder.mkdir(parents=True, exist_ok=True)
        source.rename(folder / os.fsdecode(name))
    dataset = scan(tmp_path / "images")
    assert dataset.classes == ("größe 1",)
    assert sorted(os.fsencode(path.partition("/")[2]) for path in dataset.paths) == sorted(names)
    assert all(dataset.file(i).read_bytes() for i in range(4))
    dataset.write_csv(tmp_path / "manifest.csv")
    again = type(dataset).read_csv(tmp_path / "manifest.csv", dataset.root, dataset.classes)
    assert again.paths == dataset.paths
    written = (tmp_path / "manifest.csv").read_text(encoding="utf-8")  # is still UTF-8
    assert "broken-\uefff\uefe9.png" in written
    (tmp_path / "manifest.csv").rename(tmp_path / "images" / "manifest.csv")
    assert scan(tmp_path / "images" / "manifest.csv").fingerprint() == dataset.fingerprint()


def test_a_table_of_earlier_days_with_the_bytes_of_names_is_read(tmp_path, write_image):
    name = os.fsdecode(b"broken-\xff.png")
    write_image(tmp_path / name)
    (tmp_path / "list.csv").write_bytes(b"path,label,split,group,bytes,sha256\nbroken-\xff.png,a,,,1,00\n")
    assert scan(tmp_path / "list.csv").paths == [name]


def test_broken_links_and_unreadable_files_are_set_aside(make_classes):
    root = make_classes("a", "b")
    (root / "a" / "gone.jpg").symlink_to(root / "nowhere")
    dataset = scan(root)
    assert dataset.set_aside[0].path == "a/gone.jpg"
    assert "No such file" in dataset.set_aside[0].reason


def test_a_link_loop_is_set_aside(make_classes):
    root = make_classes("a", "b")
    (root / "a" / "loop").symlink_to(root / "a")
    dataset = scan(root)
    assert len(dataset) == 4
    assert dataset.set_aside[0].path == "a/loop"


def test_an_empty_class_folder_is_named(make_classes):
    root = make_classes("a", "b")
    (root / "unfinished").mkdir()
    assert "class folder 'unfinished' holds no image" in refusal(root)
    (root / "unfinished" / "x.jpg").write_text("text")
    assert "x.jpg" in refusal(root)


def test_images_beside_the_class_folders_are_set_aside_and_said(make_classes, write_image):
    root = make_classes("a", "b")
    write_image(root / "montage.png", seed=9)
    (root / "README.md").write_text("hello")
    story = Listener()
    dataset = scan(root, story=story)
    assert dataset.paths == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert [(p.path, p.reason) for p in dataset.set_aside] == [("montage.png", "lies in no class folder")]
    assert "montage.png" in story.said[0]
    assert dataset.ignored == 1


def test_a_flat_folder_has_no_classes(tmp_path, write_image):
    write_image(tmp_path / "x.png")
    assert "no class folders" in refusal(tmp_path)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("text")
    assert "holds no image" in refusal(tmp_path)


def test_a_path_that_does_not_exist_gets_the_nearest_name(make_classes):
    root = make_classes("a")
    assert "images'?" in refusal(root.with_name("imagse"))


def test_a_file_that_is_no_listing(write_image, tmp_path):
    assert "neither a folder nor a manifest" in refusal(write_image(tmp_path / "x.png"))


def test_progress_counts_every_file(make_classes):
    story = Listener()
    scan(make_classes("a", "b", count=5), story=story)
    assert story.tracked == 10


# -- class order -------------------------------------------------------------------------------


def test_classes_override_the_order(make_classes):
    dataset = scan(make_classes("a", "b", "c"), classes=("c", "a", "b"))
    assert dataset.classes == ("c", "a", "b")
    assert dataset.labels.tolist() == [1, 1, 2, 2, 0, 0]


def test_classes_that_do_not_exist_or_are_left_out_are_refused(make_classes):
    root = make_classes("ants", "bees")
    assert "did you mean 'ants'?" in refusal(root, classes=("antz", "bees"))
    assert "leaves out the class folder 'bees'" in refusal(root, classes=("ants",))
    assert "'ants' twice" in refusal(root, classes=("ants", "ants"))


# -- train, val, test --------------------------------------------------------------------------


@pytest.mark.parametrize("val_name", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_split_folders(make_classes, val_name):
    root = make_classes("Train/a", "Train/b", f"{val_name}/a", f"{val_name}/b", "test/a")
    story = Listener()
    dataset = scan(root, story=story)
    assert dataset.classes == ("a", "b")
    found = {path.partition("/")[0]: SPLITS[code] for path, code in zip(dataset.paths, dataset.given, strict=True)}
    assert found == {"Train": "train", val_name: "val", "test": "test"}
    assert "test has no image of 1 classes: b" in story.said[0]


def test_a_class_that_train_lacks_is_refused_by_name(make_classes):
    root = make_classes("train/ants", "train/bees", "val/ants", "val/antz")
    said = refusal(root)
    assert "'antz'" in said
    assert "did you mean 'ants'?" in said


def test_classes_called_train_and_bus_stay_classes(make_classes):
    assert scan(make_classes("train", "bus", "car")).classes == ("bus", "car", "train")


def test_a_test_folder_alone_is_a_split(make_classes):
    dataset = scan(make_classes("test/a", "test/b"))
    assert (dataset.classes, set(dataset.given.tolist())) == (("a", "b"), {2})


def test_two_folders_for_one_split_are_refused(make_classes):
    assert "2 folders for val" in refusal(make_classes("train/a", "val/a", "valid/a"))


def test_a_split_without_class_folders_is_refused(make_classes, write_image):
    root = make_classes("train/a", "val/a")
    write_image(root / "test" / "x.png")
    assert "'test'" in refusal(root)


def test_other_folders_beside_the_splits_are_left_out_and_said(make_classes, write_image):
    root = make_classes("train/a", "val/a")
    write_image(root / "raw" / "x.png")
    story = Listener()
    assert len(scan(root, story=story)) == 4
    assert "raw" in story.said[0]


# -- without labels ----------------------------------------------------------------------------


def test_unlabelled_takes_everything_below(make_classes, write_image):
    root = make_classes("a", "b/c")
    write_image(root / "x.png", seed=5)
    dataset = scan(root, labelled=False)
    assert len(dataset) == 5
    assert (dataset.classes, set(dataset.labels.tolist())) == ((), {-1})


def test_labels_if_there_are_class_folders(make_classes, tmp_path, write_image):
    assert scan(make_classes("a", "b"), labelled=None).classes == ("a", "b")
    write_image(tmp_path / "flat" / "x.png")
    assert scan(tmp_path / "flat", labelled=None).labels.tolist() == [-1]


# -- groups ------------------------------------------------------------------------------------


def test_groups_by_a_pattern_on_the_path(tmp_path, write_image):
    for n, name in enumerate(("S1_a.png", "S1_b.png", "S22_a.png")):
        write_image(tmp_path / "x" / name, seed=n)
    assert scan(tmp_path, group_by=r"(S\d+)_").groups == ["S1", "S1", "S22"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(unclosed", "not a regular expression"),
        ("S1", "without parentheses"),
        (r"(Z\d)", "finds no group in 'a/0.png'"),
    ],
)
def test_patterns_that_cannot_name_groups(make_classes, pattern, words):
    assert words in refusal(make_classes("a"), group_by=pattern)


# -- real images -------------------------------------------------------------------------------


def test_real_folders(shared_data):
    dataset = scan(shared_data("hymenoptera"))
    assert dataset.classes == ("ants", "bees")
    assert np.bincount(dataset.given).tolist() == [245, 153]


def test_every_odd_file_is_an_image_or_listed(shared_data):
    folder = shared_data("odd-images")
    dataset = scan(folder, labelled=None)
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert len(dataset) + len(dataset.set_aside) + dataset.ignored - 1 == len(visible) == 216
