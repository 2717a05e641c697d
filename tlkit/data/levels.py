"""Which sample values are black and white: dark scans are noticed, `--levels` is settled, the contract is made.

A file of 16 bits says that 65535 is white. Cameras and DICOM exports that fill 12 of the bits make it say so wrongly,
and such scans come out almost black.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.machine import usable_cores
from tlkit.base.story import Story
from tlkit.data.contract import Levels
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.decode import in_order
from tlkit.data.opening import deep_samples_of
from tlkit.options.groups import ImageOptions, parse_levels

LOOKED_AT = 256  # files, evenly over the set: enough to know how its scans are written
DARK = 4  # times darker than white is the brightest value of a dark set, at least


def contract_for(config: ImageOptions, size: tuple[int, int], dataset: Dataset, story: Story) -> InputContract:
    """The contract of a network of input size (H, W) with these images; raises and says as of `levels_for`."""
    levels = levels_for(config, dataset, story)
    return InputContract(height=size[0], width=size[1], fit=config.fit, levels=levels)


def levels_for(config: ImageOptions, dataset: Dataset, story: Story) -> Levels | None:
    """The levels that the option asks for; says what `auto` found, and without the option what is dark.

    Raises:
        TlkitError: `auto`, and no image has more than 8 bits a sample, or all have one value.
    """
    files = [dataset.file(i) for i in range(len(dataset))]
    if config.levels is not None:
        return parse_levels(config.levels) or least_to_greatest(files, story)
    if warning := dark(files):
        story.say(warning)
    return None


def dark(files: Sequence[Path]) -> str:
    """A sentence with the remedy where all files of more than 8 bits a sample are far darker than they could be; or ""."""
    places = np.linspace(0, len(files) - 1, min(LOOKED_AT, len(files))).round().astype(int)
    found = [(high, white) for _, high, white in _each([files[i] for i in places]) if white]
    brightest, white = max((high for high, _ in found), default=0.0), max((white for _, white in found), default=0)
    if not found or brightest * DARK > white:
        return ""
    bits = max(8, int(brightest).bit_length())
    return (
        f"the images are dark: in {len(found)} of more than 8 bits a sample the brightest value is {brightest:g}, and "
        f"{white} is white. If they hold {bits} bits, `--levels 0,{2**bits - 1}` maps those, `--levels auto` from the "
        "least to the greatest value; without, they are decoded almost black."
    )


def least_to_greatest(files: Sequence[Path], story: Story) -> Levels:
    """The least and the greatest value of all files of more than 8 bits a sample.

    Raises:
        TlkitError: there are none, or they hold one value.
    """
    ranges = _each(files)
    if not ranges:
        raise TlkitError(
            f"--levels auto: none of the {len(files)} images has more than 8 bits a sample.", "leave it out."
        )
    low, high = min(low for low, _, _ in ranges), max(high for _, high, _ in ranges)
    if low == high:
        raise TlkitError(f"--levels auto: all {len(ranges)} images hold the value {low:g} alone.", "look at them.")
    story.say(f"levels {low:g} to {high:g}: the least and greatest value of {len(ranges)} images of more than 8 bits")
    return low, high


def _each(files: Sequence[Path]) -> list[tuple[float, float, int | None]]:
    """Least and greatest value, and what is white, of every file of more than 8 bits a sample."""
    threads = usable_cores()
    return [found for found in in_order(_extremes, files, threads=threads, ahead=4 * threads) if found]


def _extremes(file: Path) -> tuple[float, float, int | None] | None:
    try:
        samples = deep_samples_of(file)
        return None if samples is None else (*samples.range(), samples.declared)
    except UnreadableImage:
        return None  # set aside when it is decoded, with the reason
