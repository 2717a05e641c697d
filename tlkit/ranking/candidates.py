"""Who takes part: candidates whose weights are at hand, and those who are skipped, with the remedy."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlkit.backbones.applications import check_size, parse_variants
from tlkit.backbones.user_model import is_path
from tlkit.backbones.weight_files import ALPHAS, imagenet_file, models_folder, weights_at_hand
from tlkit.backbones.weight_table import weight_file
from tlkit.core.catalog import BACKBONES, BackboneRow, backbone_row
from tlkit.core.errors import TlkitError
from tlkit.core.rank_config import Wanted
from tlkit.core.ranking import Skipped


def at_hand(asked: Sequence[Wanted]) -> tuple[list[Wanted], list[Skipped]]:
    """The candidates that can be built with no network, and the others.

    Raises:
        TlkitError: a variant that the network does not have, or that has no ImageNet weights anywhere; a size below its
            smallest; a file that is not there.
    """
    for one in asked:
        for file in (one.backbone if is_path(one.backbone) else "", one.weights):
            if file not in ("", "imagenet", "none") and not Path(file).is_file():
                raise TlkitError(f"{file!r} of candidate {one.name!r} does not exist.", "correct its path.")
    missing = {one: _missing(one) for one in asked}
    return [one for one in asked if missing[one] is None], [found for found in missing.values() if found]


def everyone(image_size: int | None) -> tuple[list[Wanted], list[Skipped]]:
    """`nano` and every width of every catalogue network whose weights are at hand; of the others, a row each.

    Args:
        image_size: side of all of them, or None for the native ones.
    """
    found: list[Wanted] = []
    skipped: list[Skipped] = []
    for row in BACKBONES.values():
        if image_size is not None and image_size < row.minimum:
            reason = f"it needs {row.minimum} pixels a side, and --image-size is {image_size}"
            skipped.append(Skipped(row.name, reason, f"give --image-size {row.minimum} or more, or none."))
            continue
        widths = [Wanted(f"{row.name}:alpha={alpha}", image_size) for alpha in ALPHAS.get(row.name, ()) if alpha != 1.0]
        present, lacking = at_hand([Wanted(row.name, image_size), *widths])
        found += present
        skipped += [] if present else lacking[:1]
    return found, skipped


def _missing(one: Wanted) -> Skipped | None:
    """Why a candidate is skipped; None where its weights are at hand."""
    if is_path(one.backbone):
        return None
    row = backbone_row(one.backbone)
    check_size(row, _size(one, row))
    variants: dict[str, Any] = parse_variants(row, one.backbone)
    if one.weights != "imagenet" or not row.attribute or weights_at_hand(row, variants, _size(one, row)) is not None:
        return None
    file = imagenet_file(row, variants, _size(one, row))
    return Skipped(
        one.name,
        f"its ImageNet weights ({file}) are not in {models_folder()}",
        f"with a network: `tlkit weights fetch {shlex.quote(weight_file(row, variants, _size(one, row)).spec)}`; without: "
        "`tlkit weights import FILE`; or give a weight file with weights=FILE.",
    )


def _size(one: Wanted, row: BackboneRow) -> tuple[int, int]:
    side = one.image_size or row.image_size
    return side, side
