"""`tlkit cache`: what the feature store holds, and emptying it."""

import shutil
from typing import Any

from tlkit.core.atomic import read_json
from tlkit.core.cache_dir import cache_dir
from tlkit.core.config import CacheConfig
from tlkit.core.story import Story


def run(config: CacheConfig, story: Story | None = None) -> dict[str, Any]:
    """Show the spaces of the store, or remove them; computed features can always be computed again.

    Returns:
        `folder`, `spaces` (each with `output`, `images`, `bytes`), `bytes`, `text`.
    """
    folder = cache_dir()[0] / "features"
    spaces = []
    for path in sorted(folder.glob("*/space.json")):
        files = list(path.parent.iterdir())
        spaces.append(
            {
                **read_json(path),
                "images": sum(file.stat().st_size // 32 for file in files if file.suffix == ".ids"),
                "bytes": sum(file.stat().st_size for file in files),
            }
        )
    total = sum(space["bytes"] for space in spaces)
    if config.action == "clear" and folder.is_dir():
        shutil.rmtree(folder)
    return {"folder": str(folder), "spaces": spaces, "bytes": total, "text": _text(config, str(folder), spaces, total)}


def _text(config: CacheConfig, folder: str, spaces: list[dict[str, Any]], total: int) -> str:
    if config.action == "clear":
        return f"removed {total / 2**20:,.1f} MB of computed features from {folder}"
    lines = [f"{folder}: {total / 2**20:,.1f} MB"]
    for space in sorted(spaces, key=lambda space: -space["bytes"]):
        size = f"{space['contract']['height']}x{space['contract']['width']}"
        lines.append(
            f"  {space['bytes'] / 2**20:>9,.1f} MB  {space['images']:>8,} images  {space['output']} at {size}, "
            f"view {space['view']}, weights {space['weights'][:8]}"
        )
    return "\n".join(lines)
