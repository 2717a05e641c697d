"""`tlkit sample` as a pipeline: what it writes, and what it refuses."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.misbehaving import png, remote, tar_of, tree, zip_of
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence
from tlkit.options.obtain import SampleConfig
from tlkit.pipelines import sample
from tlkit.samples import fetch as fetching
from tlkit.samples.recipes import ArchiveLayout, Recipe


def write(tmp_path, **options):
    return sample.run(SampleConfig(out=str(tmp_path / "out"), **options))


def test_all_digits_are_written(tmp_path):
    result = write(tmp_path, name="digits")
    assert json.loads(json.dumps(result)) == result
    assert (result["name"], result["images"], result["classes"]) == ("digits", 1797, list("0123456789"))
    assert result["out"] == str(tmp_path / "out")
    card = json.loads((tmp_path / "out" / "sample.json").read_text())
    assert (card["licence"], card["images"]) == ("CC BY 4.0", 1797)
    with Image.open(tmp_path / "out" / "0" / "0000.png") as image:
        assert (image.size, image.mode) == ((32, 32), "L")
        grey = np.asarray(image)
    assert grey.min() < 30
    assert grey.max() == 255
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_part_of_the_digits_is_even_over_classes_and_part_of_the_whole(tmp_path):
    result = write(tmp_path, name="digits", count=105)
    counts = [len(list((tmp_path / "out" / name).iterdir())) for name in result["classes"]]
    assert sum(counts) == 105
    assert set(counts) == {10, 11}


def test_an_occupied_folder_is_refused_and_a_sample_replaced_on_request(tmp_path):
    write(tmp_path, name="digits", count=10)
    with pytest.raises(TlkitError, match="already exists") as error:
        write(tmp_path, name="shapes", count=20)
    assert "--overwrite" in error.value.hint
    assert write(tmp_path, name="shapes", count=20, overwrite=True)["images"] == 20
    assert not (tmp_path / "out" / "0").exists()


def test_who_is_ended_while_the_old_sample_is_removed_leaves_the_new_one_whole(tmp_path, monkeypatch):
    def ended(folder, **_):
        raise KeyboardInterrupt

    given = {"name": "shapes", "out": str(tmp_path / "shapes")}
    sample.run(SampleConfig(**given, count=12))
    monkeypatch.setattr("tlkit.samples.recipes.shutil.rmtree", ended)
    with pytest.raises(KeyboardInterrupt):
        sample.run(SampleConfig(**given, count=20, overwrite=True))
    card = json.loads((tmp_path / "shapes" / "sample.json").read_text())
    visible = list(tmp_path.glob("shapes/[!.]*/*.*"))
    assert card["images"] == len(visible) == 20


def test_a_folder_with_somebodys_files_is_never_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(TlkitError, match=r"is not a sample of tlkit's: it has no sample\.json"):
        write(tmp_path, name="digits", overwrite=True)
    assert tree(tmp_path) == ["out/holiday.jpg"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(TlkitError, match="is a file"):
        write(tmp_path, name="digits", overwrite=True)


def test_a_folder_that_is_there_and_empty_is_filled_in_place(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    before = (tmp_path / "out").stat().st_ino
    monkeypatch.chdir(tmp_path / "out")
    result = sample.run(SampleConfig(name="digits", out=".", count=10))
    assert (result["out"], result["images"]) == (".", 10)
    assert (tmp_path / "out").stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*"0123456789", "sample.json"]


def test_what_a_killed_call_left_does_not_count(tmp_path):
    (tmp_path / "out" / ".tmp-0badcafe").mkdir(parents=True)
    assert write(tmp_path, name="digits", count=10)["images"] == 10


def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TlkitError, match="'digit' is not a sample") as error:
        write(tmp_path, name="digit")
    assert "did you mean 'digits'?" in error.value.hint
    assert list(tmp_path.iterdir()) == []


def recipe(server, archives: dict[str, bytes], images: int, **layout) -> Recipe:
    server.content |= archives
    return Recipe(
        name="made", title="Made", homepage="", licence="none", citation="", images=images, classes=2,
        files=tuple(remote(server.url("ok", name), content) for name, content in archives.items()),
        layout=ArchiveLayout(**layout),
    )  # fmt: skip


@pytest.fixture
def fetched(server, tmp_path):
    def run(archives, images=0, **layout) -> list[str]:
        (tmp_path / "out").mkdir()
        plan = recipe(server, archives, images, **layout)
        fetching.fetch(plan, tmp_path / "out", tmp_path / "downloads", Silence())
        assert not (tmp_path / "downloads").exists()
        return tree(tmp_path / "out")

    return run


def test_class_folders_are_kept_renamed_and_left_out(fetched):
    files = {f"root/{name}/{i}.png": png(i) for name in ("n01", "dogs", "BACKGROUND") for i in range(2)}
    files |= {"root/readme.txt": b"hello", "elsewhere/x.png": png(9), "root/loose.png": png(8)}
    assert fetched(
        {"a.zip": zip_of(files)}, root="root", rename={"n01": "cats"}, leave_out=("BACKGROUND",)
    ) == ["cats/0.png", "cats/1.png", "dogs/0.png", "dogs/1.png"]  # fmt: skip


def test_published_splits_are_kept(fetched):
    files = {f"root/{split}/{name}/1.png": png(1) for split in ("train", "val") for name in ("a", "b")}
    assert fetched({"a.tgz": tar_of(files)}, root="root", rename={"a": "ants"}) == [
        "train/ants/1.png", "train/b/1.png", "val/ants/1.png", "val/b/1.png",
    ]  # fmt: skip


def test_an_archive_in_the_archive_is_opened(fetched):
    inner = tar_of({"pictures/a/1.png": png(1), "pictures/b/2.png": png(2)})
    outer = zip_of({"box/inner.tar.gz": inner, "__MACOSX/box/._inner.tar.gz": b"junk"})
    assert fetched({"a.zip": outer}, root="pictures", inner="box/inner.tar.gz") == ["a/1.png", "b/2.png"]


def test_lists_say_which_split_an_image_is_in(fetched):
    names = ("Maine_Coon_1", "Maine_Coon_2", "pug_7", "unlisted_1")
    images = tar_of({f"images/{name}.jpg": png(i) for i, name in enumerate(names)})
    lists = tar_of(
        {"lists/a.txt": b"#comment\nMaine_Coon_1 1 1 1\npug_7 2 2 1\n", "lists/b.txt": b"Maine_Coon_2 1 1 1\n"}
    )
    assert fetched(
        {"images.tar.gz": images, "lists.tar.gz": lists},
        kind="lists", root="images", lists={"train": "lists/a.txt", "test": "lists/b.txt"},
    ) == ["test/Maine_Coon/Maine_Coon_2.jpg", "train/Maine_Coon/Maine_Coon_1.jpg", "train/pug/pug_7.jpg"]  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"root": "nowhere"}, "made has no images below 'nowhere'"),
        ({"root": "root", "inner": "inner.zip"}, "has no 'inner.zip' in it"),
        ({"root": "root", "kind": "lists", "lists": {"train": "l.txt"}}, "no archive has 'l.txt' in it"),
        ({"root": "root", "rename": {"a": "../../a"}}, "could land outside"),
    ],
)
def test_a_layout_that_does_not_fit_is_said(fetched, layout, message):
    with pytest.raises(TlkitError, match=message):
        fetched({"a.zip": zip_of({"root/a/1.png": png(1)})}, **layout)


RECIPE = """
name = "mine"
title = "My own"
homepage = ""
licence = "CC0-1.0"
citation = ""
images = 3
classes = 1

[[files]]
urls = ["{url}"]
bytes = {bytes}
stated_by = "its author states no sum"

[layout]
root = "root"
"""


def test_a_recipe_of_ones_own_goes_all_the_way_and_leaves_only_the_folder(server, tmp_path):
    server.content["a.zip"] = zip_of({"root/a/1.png": png(1), "root/a/2.png": png(2)})
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.format(url=server.url("truncates", "a.zip"), bytes=len(server.content["a.zip"])))
    said = []

    class Listener(Silence):
        def say(self, text):
            said.append(text)

    result = sample.run(SampleConfig(name=str(path), out=str(tmp_path / "out")), Listener())
    assert (result["images"], result["classes"], result["licence"]) == (2, ["a"], "CC0-1.0")
    assert {item.name for item in tmp_path.iterdir()} == {"out", "mine.toml"}
    assert any("no checksum is known (its author states no sum)" in text for text in said)
    assert "note: 2 images were found, the recipe says 3." in said


@pytest.mark.parametrize("there", [False, True])
def test_what_arrived_before_a_failure_waits_for_the_next_try(server, tmp_path, there):
    server.content["a.zip"] = zip_of({"root/a/1.png": png(1), "root/a/2.png": png(2)})
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.format(url=server.url("404", "a.zip"), bytes=len(server.content["a.zip"])))
    if there:
        (tmp_path / "out").mkdir()
    waiting = tmp_path / "out" / ".download" if there else tmp_path / ".out.download"
    with pytest.raises(TlkitError, match="HTTP 404") as error:
        sample.run(SampleConfig(name=str(path), out=str(tmp_path / "out")))
    assert str(waiting / "a.zip") in error.value.hint
    assert (tmp_path / "out").exists() == there
    (waiting / "a.zip").write_bytes(server.content["a.zip"])  # copied from another machine, as the hint says
    assert sample.run(SampleConfig(name=str(path), out=str(tmp_path / "out")))["images"] == 2
    assert not waiting.exists()


def test_a_full_disk_is_said_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    plan = recipe(server, {"a.zip": zip_of({"root/a/1.png": png(1)})}, 1, root="root")
    with pytest.raises(TlkitError, match="GB are free"):
        fetching.fetch(plan, tmp_path, tmp_path / "downloads", Silence())
    assert not server.requests
