"""`tlkit backbones`: every backbone a user may name."""

from typing import Any

from tlkit.core.catalog import BACKBONES
from tlkit.core.config import BackbonesConfig
from tlkit.core.story import Story


def run(config: BackbonesConfig, story: Story | None = None) -> dict[str, Any]:
    """List the catalogue.

    Returns:
        `backbones`: name, image_size, channels, parameters (millions), preprocess, licence; `text`.
    """
    rows = [row._asdict() for row in BACKBONES.values()]
    header = f"{'name':<20}{'pixels':>7}{'features':>10}{'parameters':>12}  preprocessing"
    lines = [
        f"{row.name:<20}{row.image_size:>7}{row.channels:>10}{row.parameters:>10.1f} M  {row.preprocess}"
        for row in BACKBONES.values()
    ]
    note = "a path to a .keras file also works; variants after a colon: mobilenetv2:alpha=0.35"
    return {"backbones": rows, "text": "\n".join([header, *lines, "", note])}
