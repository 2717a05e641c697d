"""`tlkit sample`: write a sample dataset into a folder."""

from pathlib import Path
from typing import Any

from tlkit.base.story import Phase, Silence, Story
from tlkit.options import catalog
from tlkit.options.obtain import SampleConfig
from tlkit.samples.drawn import MADE
from tlkit.samples.fetch import fetch
from tlkit.samples.recipes import count_images, downloads_of, new_folder, read_recipe, refuse_foreign

DOWNLOADED, UNPACKED = 5e6, 5e7  # bytes per second, to weight the progress


def run(config: SampleConfig, story: Story | None = None) -> dict[str, Any]:
    """Draw or fetch the sample; return `{"name", "out", "images", "classes", "licence"}`.

    Raises:
        TlkitError: for an unknown name, an occupied folder, or a failed download.
    """
    story = story or Silence()
    out = Path(config.out).expanduser().absolute()
    if config.name in catalog.MADE_SAMPLES:
        refuse_foreign(out, overwrite=config.overwrite)
        card = _make(config, out, story)
    else:
        recipe = read_recipe(config.name)
        refuse_foreign(out, overwrite=config.overwrite)
        card = recipe.card
        story.say(f"{recipe.title}: {recipe.bytes / 1e6:,.0f} MB to download. Licence: {recipe.licence}.")
        story.expect(
            *(Phase(f"{file.name}, bytes", file.bytes / DOWNLOADED) for file in recipe.files),
            *(Phase(f"unpacking {file.name}, files", file.bytes / UNPACKED) for file in recipe.files),
        )
        with new_folder(out, card) as folder:
            fetch(recipe, folder, downloads_of(out), story)
            _compare(count_images(folder)["images"], recipe.images, story)
    found = count_images(out, above=config.name in MADE and MADE[config.name].clips)
    story.say(f"{found['images']:,} images of {len(found['classes'])} classes in {config.out}.")
    return {"name": card["name"], "out": config.out, **found, "licence": card["licence"]}


def _make(config: SampleConfig, out: Path, story: Story) -> dict[str, Any]:
    """Write a sample that needs no network; return its card."""
    made = MADE[config.name]
    card = {"name": config.name, **made.card, "options": config.as_dict() | {"out": out.name}}
    with new_folder(out, card) as folder:
        made.write(folder, config, story)
    return card


def _compare(found: int, expected: int, story: Story) -> None:
    if found != expected:
        story.say(f"note: {found:,} images were found, the recipe says {expected:,}.")
