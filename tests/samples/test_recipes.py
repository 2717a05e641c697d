"""The bundled recipes, and invalid ones."""

import tomllib

import pytest

from tlkit.base.errors import TlkitError
from tlkit.options import catalog
from tlkit.samples.recipes import folder, read_recipe

GOOD = """
name = "a"
title = "A"
homepage = ""
licence = "none"
citation = ""
images = 3
classes = 2

[[files]]
urls = ["https://example.org/a.zip"]
bytes = 10
stated_by = "nobody"

[layout]
root = "a"
"""


def test_the_catalogue_names_exactly_the_recipes_that_ship():
    assert sorted(path.stem for path in folder().glob("*.toml")) == sorted(catalog.FETCHED_SAMPLES)


@pytest.mark.parametrize("name", catalog.FETCHED_SAMPLES)
def test_the_table_of_datasets_says_what_the_recipe_says(name):
    recipe = read_recipe(name)
    table = (folder().parent / "README.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith(f"| `{name}`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    megabytes = f"{recipe.bytes / 1e6:.0f} MB"
    assert cells[1:5] == [f"{recipe.images:,}", str(recipe.classes), megabytes, ", ".join(recipe.splits)]


@pytest.mark.parametrize("name", catalog.FETCHED_SAMPLES)
def test_a_recipe_that_ships_is_complete(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert all([recipe.title, recipe.homepage, recipe.licence, recipe.citation])
    assert not recipe.splits or sum(recipe.splits.values()) == recipe.images
    for file in recipe.files:
        assert file.sha256 or file.md5 or "no sum" in file.stated_by or "states no sum" in file.stated_by
        assert file.stated_by
        assert file.name.endswith((".zip", ".tgz", ".tar.gz"))


def test_names_are_told_apart_even_where_case_is_not():
    for path in folder().glob("*.toml"):
        rename = tomllib.loads(path.read_text(encoding="utf-8"))["layout"].get("rename", {})
        assert len({name.lower() for name in rename.values()}) == len(rename)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("licence", "license"), "unknown key 'license'"),
        (('title = "A"', ""), "title not given"),
        (("images = 3", 'images = "3"'), "images is '3', expected a whole number"),
        (("https://example.org/a.zip", "file:///etc/passwd"), "expected http"),
        (("bytes = 10", "bytes = 0"), "bytes is 0"),
        (('stated_by = "nobody"', 'stated_by = "x"\nsha256 = "abc"'), "expected 64 lower-case hex digits"),
        (('root = "a"', 'root = "a"\nkind = "folder"'), "'folder' is not a layout"),
        (("[[files]]", "[files"), "cannot be read"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_place(tmp_path, change, message):
    path = tmp_path / "a.toml"
    path.write_text(GOOD)
    assert read_recipe(str(path)).images == 3
    path.write_text(GOOD.replace(*change))
    with pytest.raises(TlkitError, match=message) as error:
        read_recipe(str(path))
    assert "a.toml" in error.value.message


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(TlkitError, match="'flowers_photo' is not a sample") as error:
        read_recipe("flowers_photo")
    assert "did you mean 'flower_photos'?" in error.value.hint


def test_a_missing_file_is_said():
    with pytest.raises(TlkitError, match=r"'nowhere\.toml' does not exist"):
        read_recipe("nowhere.toml")
