"""`tlkit backbones`: every backbone a user may name."""

from typing import Any

from tlkit.backbones.weight_files import imagenet_file, models_folder, weights_at_hand
from tlkit.base.story import Story
from tlkit.options.catalog import BACKBONES, FAMILIES, BackboneRow
from tlkit.options.commands import BackbonesConfig


def run(config: BackbonesConfig, story: Story | None = None) -> dict[str, Any]:
    """List the catalogue, and for each row whether its default ImageNet weights are on this machine.

    Returns:
        `backbones`: name, image_size, channels, parameters (millions), preprocess, licence, weights
        (`inside`, `at hand` or `download`), file; `families` of other sources; `folder` of the files; `text`.
    """
    rows = [{**row._asdict(), **_weights(row)} for row in BACKBONES.values()]
    header = f"{'name':<20}{'pixels':>7}{'features':>10}{'parameters':>12}  {'weights':<10}licence"
    lines = [
        f"{row['name']:<20}{row['image_size']:>7}{row['channels']:>10}{row['parameters']:>10.1f} M  "
        f"{row['weights']:<10}{row['licence']}"
        for row in rows
    ]
    notes = [
        "",
        f"weights that are here lie in {models_folder()} (KERAS_HOME); others are downloaded on first use.",
        "`tlkit weights fetch NAME` downloads them now, `tlkit weights import FILE` takes them from elsewhere.",
        "nano comes with tlkit and needs no network; ImageNet backbones are better (docs/nano.md says how much).",
        "variants after a colon: mobilenetv2:alpha=0.35; a path to a .keras file also works.",
        *(f"{family.title}: {family.example}." for family in FAMILIES.values()),
    ]
    families = [{"prefix": family.prefix, "title": family.title} for family in FAMILIES.values()]
    return {
        "backbones": rows,
        "families": families,
        "folder": str(models_folder()),
        "text": "\n".join([header, *lines, *notes]),
    }


def _weights(row: BackboneRow) -> dict[str, str]:
    """Where the default weights of a row are."""
    if not row.attribute:
        return {"weights": "inside", "file": ""}
    size = (row.image_size, row.image_size)
    at_hand = weights_at_hand(row, {}, size)
    return {"weights": "at hand" if at_hand else "download", "file": imagenet_file(row, {}, size)}
