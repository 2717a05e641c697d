"""What becomes of each file of a folder: a Markdown table of names and outcomes.

    python benchmarks/odd_images.py IMAGES_DIR > table.md

An outcome is what the file holds and the RGB image that comes of it, or the reason why it is set
aside. The last line, on stderr, counts both.
"""

import argparse
import sys
import warnings
from pathlib import Path

from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.data.decode import native
from tlkit.data.scan import scan
from tlkit.pixels.opening import FORMATS


def outcome(file: Path) -> tuple[bool, str]:
    """Whether the file becomes an image, and how or why not."""
    try:
        height, width, _ = native(file).shape
    except UnreadableImage as error:
        return False, f"set aside: {error.message}"
    with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
        frames = getattr(image, "n_frames", 1)
        first = f", first of {frames} frames" if frames > 1 else ""
        return True, f"{image.format} {image.mode} {image.width}x{image.height}{first} -> RGB {width}x{height}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    folder = parser.parse_args().images
    dataset = scan(folder, labelled=False)
    outcomes = {name: outcome(folder / name) for name in dataset.paths}
    outcomes |= {problem.path: (False, f"set aside: {problem.reason}") for problem in dataset.set_aside}
    print("| file | what became of it |\n|---|---|")
    for name, (_, words) in sorted(outcomes.items()):
        print(f"| `{name}` | {words.replace('|', '/')} |")
    good = sum(readable for readable, _ in outcomes.values())
    print(
        f"{len(outcomes)} files: {good} became images, {len(outcomes) - good} are set aside with a reason; "
        f"{dataset.ignored} hidden or no image by name and content.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
