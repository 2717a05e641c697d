"""The README.md of an artifact: what it is, and a program to copy that runs it without tlkit."""

from typing import Any

from tlkit.exporting.formats import FORMATS
from tlkit.exporting.snippets import program


def readme(contract: dict[str, Any], table: str) -> str:
    """Markdown.

    Args:
        contract: of the artifact.
        table: measured sizes, differences and latencies.
    """
    row, given = FORMATS[contract["kind"]], contract["input"]
    classes = contract["classes"]
    named = ", ".join(classes[:12]) + (f" and {len(classes) - 12} more (labels.txt)" if len(classes) > 12 else "")
    parts = [
        f"# A classifier of {len(classes)} classes, for {row.title}",
        f"Exported by tlkit {contract['versions']['tlkit']} from a {contract['backbone']}. Classes: {named}.",
        f"In: photographs, RGB, {given['height']} x {given['width']} pixels, float32 in 0..255; the network's own "
        f"preprocessing is inside it. Fit: {given['fit']}. Out: a logit for each class"
        + (
            "; an image may have several, each as probable as `1 / (1 + exp(-logit / temperature))`."
            if contract.get("task") == "multi"
            else "."
        ),
        "## Run it",
        f"```bash\npip install {row.package} pillow numpy\npython classify.py photo.jpg\n```",
        "`classify.py` lies in this folder; elsewhere, set `HERE` to where `contract.json` and the model are:",
        f"```python\n{program(contract)}```",
        "Photographs become the pixels that tlkit makes of them. Unusual files (16 bits, CMYK, HEIC) need more than "
        "these lines.",
        *_notes(contract),
        "## Is it whole?",
        f"`tlkit verify .` checks every file and repeats the golden batch: {GOLDEN_WORDS}. Without tlkit:",
        f"```python\n{CHECK}```",
        "## Measured at export",
        table,
    ]
    return "\n\n".join(parts) + "\n"


GOLDEN_WORDS = "drawn images and the logits they must give, in `golden.npz`"
CHECK = """\
import numpy as np

from classify import HERE, logits_of

with np.load(HERE / "golden.npz") as golden:
    apart = np.abs(logits_of(golden["images"].astype(np.float32)) - golden["logits"]).max()
print(f"largest difference of a logit: {apart:.2g}")
"""


def _notes(contract: dict[str, Any]) -> list[str]:
    """What applies to this artifact alone."""
    notes = []
    if contract["threshold"] is not None:
        notes.append(
            f"The classifier abstains below a probability of {contract['threshold']:.4g}: chosen on validation images"
            + (f" for a precision of {contract['target_precision']:g}." if contract["target_precision"] else ".")
        )
    if contract["unfamiliarity"]:
        notes.append(
            "`unfamiliarity` is the distance to the fifth nearest training image over the farthest that familiar "
            "images lie; above 1 the photograph is unlike anything in training."
        )
    if contract["encoded"]:
        notes.append(_encoded_note(contract["encoded"]))
    if contract["quantised"]:
        notes.append(_quantised_note(contract["quantised"]))
    return notes


def _encoded_note(encoded: dict[str, Any]) -> str:
    return (
        f"The signature `{encoded['signature']}` takes the bytes of image files (`images_bytes`, a string tensor) and "
        "decodes and resizes them in the graph. It is near to the above and not the same: JPEG, PNG, GIF and BMP only, "
        "EXIF orientation ignored, transparency dropped. Measured on "
        f"{encoded['images']} {encoded['of']}: logits differ by {encoded['median_difference']:.2g} in the middle and "
        f"{encoded['max_difference']:.2g} at most, {encoded['agreement']:.1%} keep their class."
    )


def _quantised_note(quantised: dict[str, Any]) -> str:
    before, after = quantised["accuracy"], quantised["accuracy_quantised"]
    return (
        f"Weights and activations in 8 bits but for dense layers, their ranges found on {quantised['calibration_images']} training images; "
        f"float32 in and out. On {quantised['images']} images of the {quantised['split']} split "
        f"{quantised['agreement']:.1%} keep their class; accuracy {before:.3f} in float32, {after:.3f} in 8 bits. "
        "Temperature and threshold are those of float32."
    )
