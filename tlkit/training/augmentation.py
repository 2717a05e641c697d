"""How training images are varied where that is left to tlkit: by how many there are, with the reason."""

from dataclasses import replace

from tlkit.core.config import FinetuneConfig

# From so many training images a class on, on average; docs/training.md has the sources, docs/log.md what was measured.
STRENGTH_FROM = ((20, "light"), (0, "medium"))
MIXING = {"none": "none", "light": "none", "medium": "mixup", "strong": "mixup"}


def settle(options: FinetuneConfig, train: int, classes: tuple[str, ...]) -> tuple[FinetuneConfig, tuple[str, ...]]:
    """Replace `auto` in the options, and say why.

    Args:
        options: what was asked for.
        train: training images.
        classes: names.

    Returns:
        The options without `auto`, and notes for the plan.
    """
    images = train / max(len(classes), 1)
    least, chosen = next(row for row in STRENGTH_FROM if images >= row[0])
    strength = chosen if options.augment == "auto" else options.augment
    mix = MIXING[strength] if options.mix == "auto" else options.mix
    bounds = f"{least} or more" if least else f"fewer than {min(row[0] for row in STRENGTH_FROM if row[0])}"
    why = f"{images:.1f} training images a class, {bounds}" if options.augment == "auto" else "asked for"
    how = f"mixing {mix}, {'as with ' + strength if options.mix == 'auto' else 'asked for'}"
    note = f"augment  {strength}, {why}; {how}"
    return replace(options, augment=strength, mix=mix), (note, *_doubts(options.flip and strength != "none", classes))


def _doubts(flips: bool, classes: tuple[str, ...]) -> tuple[str, ...]:
    """A warning where views are mirrored and the classes look like digits or letters."""
    if not flips or not all(len(name) == 1 for name in classes):
        return ()
    named = ", ".join(classes[:5]) + ", ..." * (len(classes) > 5)
    return (
        f"flip     WARNING: classes are single characters ({named}); if the images show them, views must not be mirrored: --no-flip",
    )
