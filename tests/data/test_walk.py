import os

import pytest

from tlkit.base.errors import TlkitError
from tlkit.data.folders import walk


def test_files_are_sorted_by_code_point_with_posix_paths(tmp_path):
    for path in ("b/x.png", "a/sub/y.png", "B/z.png", "ä/z.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    tree = walk(tmp_path)
    assert tree.files == ["B/z.png", "a/sub/y.png", "b/x.png", "ä/z.png"]
    assert tree.folders == ["B", "a", "a/sub", "b", "ä"]


@pytest.mark.parametrize(
    "litter", [".hidden.jpg", "._x.jpg", "Thumbs.db", "desktop.ini", "__MACOSX/x.jpg", ".git/x.jpg"]
)
def test_hidden_files_and_litter_are_left_out_and_counted(tmp_path, litter):
    (tmp_path / litter).parent.mkdir(exist_ok=True)
    (tmp_path / litter).touch()
    tree = walk(tmp_path)
    assert (tree.files, tree.ignored) == ([], 1)


def test_links_to_files_and_folders_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")
    (root / "file.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    assert walk(root).files == ["again/x.png", "file.png", "folder/x.png"]


def test_a_link_back_to_a_parent_is_named_and_not_followed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").touch()
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "top").symlink_to(tmp_path)
    tree = walk(tmp_path)
    assert tree.files == ["a/b/x.png"]
    assert sorted(problem.path for problem in tree.loops) == ["a/b/loop", "a/top"]
    assert "not followed" in tree.loops[0].reason


def test_links_between_two_folders_end(tmp_path):
    for here, there in (("a", "b"), ("b", "a")):
        (tmp_path / here).mkdir()
        (tmp_path / here / "to").symlink_to(tmp_path / there)
        (tmp_path / here / "x.png").touch()
    assert walk(tmp_path).files == ["a/to/x.png", "a/x.png", "b/to/x.png", "b/x.png"]


def test_a_link_to_itself_and_a_pipe_do_no_harm(tmp_path):
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    os.mkfifo(tmp_path / "pipe.png")
    tree = walk(tmp_path)
    assert (tree.files, tree.ignored) == (["self.png"], 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    (tmp_path / "shut").mkdir(mode=0)
    with pytest.raises(TlkitError, match="shut"):
        walk(tmp_path)


def test_folders_come_where_the_paths_in_them_do(tmp_path):
    """`a.b` and `a-b` lie between `a` and `a/...` or after it, by what their next character is."""
    folders = ("a", "a/b", "a/b.c", "a.b", "a!", "a0", "b", "b/a", "ä", "𝛼")
    for number, folder in enumerate(folders):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in ("x.png", "a.png", f"z{number}", "b-", "b0"):
            (tmp_path / folder / name).touch()
    paths = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) == 5 * len(folders)
    assert walk(tmp_path).files == sorted(paths)
