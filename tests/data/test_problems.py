import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json, write_json
from tlkit.data.dataset import Problem
from tlkit.data.decode import check, set_aside
from tlkit.data.scan import scan


@pytest.fixture
def dataset(make_classes):
    root = make_classes("a", "b", count=3)
    whole = (root / "a" / "1.png").read_bytes()
    (root / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    return scan(root)


def test_check_finds_what_scanning_cannot(dataset):
    found = check(dataset)
    assert [problem.path for problem in found] == ["a/1.png"]
    assert "cut short" in found[0].reason


def test_check_shows_one_step_for_each_image(dataset):
    class Counting:
        steps = 0

        def track(self, items, description, total=None):
            assert total == 6
            for item in items:
                self.steps += len(item) if hasattr(item, "__len__") else 1
                yield item

    story = Counting()
    check(dataset, story=story)
    assert story.steps == 6


def test_skip_sets_aside_and_fail_refuses(dataset):
    problems = check(dataset)
    kept = set_aside(dataset, problems, "skip")
    assert len(kept) == 5
    assert kept.set_aside == tuple(problems)
    with pytest.raises(TlkitError, match=r"1 file cannot be used: 'a/1\.png' is cut short"):
        set_aside(dataset, problems, "fail")


def test_fail_counts_what_the_scan_set_aside(make_classes):
    root = make_classes("a", "b")
    (root / "a" / "empty.jpg").touch()
    with pytest.raises(TlkitError, match=r"a/empty\.jpg"):
        set_aside(scan(root), [], "fail")


def test_nothing_wrong_changes_nothing(dataset):
    assert set_aside(dataset, [], "fail") is dataset


def test_a_class_without_a_readable_image_is_refused(dataset):
    problems = [Problem(f"b/{n}.png", "is damaged") for n in range(3)]
    with pytest.raises(TlkitError, match="none of the 3 images of class 'b' can be decoded"):
        set_aside(dataset, problems, "skip")


def test_a_class_without_a_readable_training_image_is_refused(make_classes):
    dataset = scan(make_classes("train/a", "train/b", "val/a", "val/b"))
    problems = [Problem(f"train/b/{n}.png", "is damaged") for n in range(2)]
    with pytest.raises(TlkitError, match="none of the 2 training images of class 'b' can be decoded"):
        set_aside(dataset, problems, "skip")
    assert len(set_aside(dataset, [Problem(f"val/b/{n}.png", "is damaged") for n in range(2)], "skip")) == 6


def test_a_file_whose_name_is_no_utf8_can_be_listed_in_json(tmp_path):
    problem = Problem("a/broken-\udcff.jpg", "is empty (0 bytes)").as_json()
    write_json(tmp_path / "run.json", problem)
    assert read_json(tmp_path / "run.json") == problem


def test_real_images_are_all_readable(shared_data):
    assert check(scan(shared_data("magnetic-tile") / "Fray", labelled=False)) == []
