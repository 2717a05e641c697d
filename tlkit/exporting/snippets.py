"""Programs that run an artifact without tlkit: pixels by its decoder, the runtime, softmax or sigmoids with temperature."""

from typing import Any, NamedTuple

from tlkit.base.story import percent
from tlkit.exporting.decoder import NEEDED
from tlkit.exporting.formats import module_of
from tlkit.options.catalog import FORMATS
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import TASKS, row_of
from tlkit.tasks.single import SINGLE

HEAD = """\
import json
{also}import sys
from pathlib import Path

import numpy as np
{imports}

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from decoder import InputContract, UnreadableImage, decode  # noqa: E402 - lies beside

CONTRACT = json.loads((HERE / "contract.json").read_text(encoding="utf-8"))
INPUT = InputContract(**{{name: CONTRACT["input"][name] for name in {names}}})


def pixels(path):
    \"\"\"float32 (1, {height}, {width}, 3), RGB 0..255; stops with a message where a file is not an image.\"\"\"
    try:
        return decode(Path(path), INPUT).astype(np.float32)[None]
    except UnreadableImage as error:
        sys.exit(f"{{path}}: the file {{error}}")

"""
CLIP = '''
STRIDE, FRAMES = CONTRACT["mask"]["stride"], CONTRACT["mask"]["shape"][1]


def clip(folder):
    """The frames of a folder, in the order of their names, as images (1, T, {height}, {width}, 3) and a mask (1, T), 1 where there is a frame."""
    parts = {{path: re.split("([0-9]+)", path.name) for path in Path(folder).iterdir() if path.is_file()}}
    files = sorted(parts, key=lambda path: [int(part) if part.isdigit() else part for part in parts[path]])[::STRIDE]
    if len(files) > FRAMES:
        places = np.linspace(0, len(files) - 1, FRAMES).round().astype(int) if FRAMES > 1 else [len(files) // 2]
        files = [files[place] for place in places]
    images, mask = np.zeros((1, FRAMES, {height}, {width}, 3), np.float32), np.zeros((1, FRAMES), np.float32)
    for place, file in enumerate(files):
        images[0, place], mask[0, place] = pixels(file)[0], 1
    return images, mask

'''

LOGITS = """

def logits_of(*inputs):
    return outputs_of(*inputs)["logits"]


def softmax(logits):
    scaled = logits.astype(np.float64) / CONTRACT["temperature"]
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
"""
SIGMOID = """

def logits_of(*inputs):
    return outputs_of(*inputs)["logits"]


def sigmoid(logits):
    scaled = logits.astype(np.float64) / CONTRACT["temperature"]
    small = np.exp(-np.abs(scaled))
    return np.where(scaled >= 0, 1.0, small) / (1 + small)
"""
UNFAMILIAR = '''

def unfamiliarity(features, logits):
    """How unlike the training images one image is; above 1 is unlike all of them."""
    with np.load(HERE / "familiarity.npz") as known:
        found = {name: known[name].astype(np.float32) for name in known.files}
    shifted = features / max(np.linalg.norm(features), 1e-12) - found["mean"]
    here = shifted @ found["directions"]
    outside = max(float((shifted**2).sum() - (here**2).sum()), 0.0)
    zero, weight = (float(found.get(name, 0)) for name in ("zero", "weight"))
    if weight:
        score = weight * np.sqrt(outside) - np.logaddexp.reduce(logits.astype(np.float64) - logits.mean(dtype=np.float64))
    else:
        squares = ((found["places"] - here) ** 2).sum(axis=1) + found["rest"] + outside
        score = np.sqrt(np.sort(squares)[min(5, len(squares)) - 1])
    return max((float(score) - zero) / (float(found["limit"]) - zero), 0.0)
'''
MAIN = """

if __name__ == "__main__":
    for path in sys.argv[1:]:
        outputs = outputs_of(pixels(path))
        probabilities = softmax(outputs["logits"][0])
        best = int(probabilities.argmax())
        words = [path, CONTRACT["classes"][best], f"{probabilities[best]:.4f}"]
"""
MAIN_OF_SEVERAL = """

if __name__ == "__main__":
    for path in sys.argv[1:]:
        outputs = outputs_of(pixels(path))
        probabilities = sigmoid(outputs["logits"][0])
        given = [k for k in np.argsort(-probabilities, kind="stable") if probabilities[k] >= 0.5]
        words = [path, "|".join(CONTRACT["classes"][k] for k in given) or "|"]
        words += [f"{CONTRACT['classes'][k]} {probabilities[k]:.4f}" for k in given]
"""
MAIN_OF_GRADES = """

if __name__ == "__main__":
    for path in sys.argv[1:]:
        outputs = outputs_of(pixels(path))
        probabilities = softmax(outputs["logits"][0])
        best = int((np.cumsum(probabilities) < 0.5 - 1e-12).sum())  # the median grade
        words = [path, CONTRACT["classes"][best], f"{probabilities[best]:.4f}"]
"""
NUMBERS = """

def logits_of(*inputs):
    return outputs_of(*inputs)["logits"]
"""
MAIN_OF_NUMBERS = """

if __name__ == "__main__":
    for path in sys.argv[1:]:
        outputs = outputs_of(pixels(path))
        words = [path]
        for place, (name, number) in enumerate(zip(CONTRACT["classes"], outputs["logits"][0])):
            words.append(f"{name} {number:.7g}")
            if CONTRACT["margins"]:
                reach = CONTRACT["margins"][place]
                words.append(f"between {number - reach:.7g} and {number + reach:.7g}")
"""
ABSTAIN = """\
        if not probabilities[best] >= CONTRACT["threshold"]:
            words.append("abstains")
"""
UNFAMILIAR_WORD = """\
        words.append(f"unfamiliarity {unfamiliarity(outputs['features'][0], outputs['logits'][0]):.2f}")
"""


class Words(NamedTuple):
    """The wording of the program and the README of an artifact for a task.

    Args:
        activation: Python code that turns logits into probabilities.
        main: the loop over files.
        note: the end of a sentence on the logits.
        title: what the artifact is, with the number of classes.
        names: the word for its classes.
        gives: its output.
    """

    activation: str
    main: str
    note: str
    title: str = "A classifier of {} classes"
    names: str = "Classes"
    gives: str = "a logit for each class"


PROGRAMS = {
    SINGLE.name: Words(LOGITS, MAIN, "."),
    MULTI.name: Words(
        SIGMOID,
        MAIN_OF_SEVERAL,
        "; an image may have several, each as probable as `1 / (1 + exp(-logit / temperature))`.",
    ),
    ORDINAL.name: Words(
        LOGITS,
        MAIN_OF_GRADES,
        ", from the lowest to the highest; the answer is the first at which the probabilities, added up, reach one half.",
    ),
    NUMBER.name: Words(
        NUMBERS,
        MAIN_OF_NUMBERS,
        "; `margins` in contract.json is how far the interval that holds 95 of 100 true numbers reaches to each side.",
        "A predictor of numbers ({})",
        "Numbers",
        "each number, in the unit of the images it was trained on",
    ),
}
"""One row for each task."""


def program(contract: dict[str, Any]) -> str:
    """The program `classify.py` for an artifact, as text; the artifact's README explains its names.

    Args:
        contract: of the artifact.
    """
    module, given, words = (
        module_of(FORMATS[contract["kind"]]),
        contract["input"],
        row_of(PROGRAMS, TASKS[contract.get("task", SINGLE.name)]),
    )
    features, clips = bool(contract["unfamiliarity"]), "mask" in contract
    head = (HEAD + CLIP * clips).format(
        also="import re\n" * clips,
        imports=module.IMPORTS,
        height=given["height"],
        width=given["width"],
        names=tuple(name for name in ("height", "width", "fit", "version", "levels") if name in given),
    )
    parts = [
        head,
        getattr(module, "RUN_WITH_FEATURES", module.RUN) if features else module.RUN,
        words.activation,
        UNFAMILIAR if features else "",
        words.main.replace("pixels(path)", "*clip(path)") if clips else words.main,
        ABSTAIN if contract["threshold"] is not None else "",
        UNFAMILIAR_WORD if features else "",
        '        print("\\t".join(words))\n',
    ]
    return "".join(parts)


# -- The README.md of an artifact: a description, and a program that runs it without tlkit ---


def readme(contract: dict[str, Any], table: str) -> str:
    """Markdown.

    Args:
        contract: of the artifact.
        table: measured sizes, differences and latencies.
    """
    row, given = FORMATS[contract["kind"]], contract["input"]
    words = row_of(PROGRAMS, TASKS[contract.get("task", SINGLE.name)])
    classes = contract["classes"]
    named = ", ".join(classes[:12]) + (f" and {len(classes) - 12} more (labels.txt)" if len(classes) > 12 else "")
    clips = "mask" in contract
    size = f"{given['height']} x {given['width']} pixels, float32 in 0..255"
    goes_in = f"photographs, RGB, {size}"
    if clips:
        goes_in = f"clips of up to {contract['mask']['shape'][1]} frames in order, RGB, {size}, and a mask, 1 where there is a frame"
    parts = [
        f"# {words.title.format(len(classes))}, for {row.title}",
        f"Exported by tlkit {contract['versions']['tlkit']} from a {contract['backbone']}. {words.names}: {named}.",
        f"In: {goes_in}; the network's own "
        f"preprocessing is inside it. Fit: {given['fit']}. Out: {words.gives}{words.note}",
        "## Run it",
        f"```bash\npip install {row.package} {NEEDED}\npython classify.py {'clip/' if clips else 'photo.jpg'}\n```",
        "`classify.py` is in this folder; elsewhere, set `HERE` to where `contract.json`, `decoder/` and the model are:",
        f"```python\n{program(contract)}```",
        "Files are decoded to the same pixels as in training: `decoder/` is the decoder of tlkit itself, for every "
        "format it reads; a file it cannot read stops the program with the reason. `pip install cykooz-resizer` makes it "
        "faster, `pip install pillow-heif` lets it read HEIC.",
        *_notes(contract),
        "## Is it whole?",
        f"`tlkit verify .` checks every file and repeats the golden batch: {GOLDEN_WORDS}. Without tlkit:",
        f"```python\n{CHECK_CLIPS if clips else CHECK}```",
        "## Measured at export",
        table,
    ]
    return "\n\n".join(parts) + "\n"


GOLDEN_WORDS = "drawn samples and the logits they must give, in `golden.npz`"
CHECK = """\
import numpy as np

from classify import HERE, logits_of

with np.load(HERE / "golden.npz") as golden:
    apart = np.abs(logits_of(golden["images"].astype(np.float32)) - golden["logits"]).max()
print(f"largest difference of a logit: {apart:.2g}")
"""
CHECK_CLIPS = CHECK.replace(".astype(np.float32))", '.astype(np.float32), golden["mask"])')


def _notes(contract: dict[str, Any]) -> list[str]:
    """Notes that apply to this artifact only."""
    notes = []
    if contract["threshold"] is not None:
        notes.append(
            f"The classifier abstains below a probability of {contract['threshold']:.4g}: chosen on validation images"
            + (f" for a precision of {contract['target_precision']:g}." if contract["target_precision"] else ".")
        )
    if contract["unfamiliarity"]:
        notes.append(
            "`unfamiliarity` says how unlike the training images a photograph is, by its features and logits, against the "
            "least familiar of familiar images; above 1 it is unlike anything in training."
        )
    if contract["encoded"]:
        notes.append(_encoded_note(contract["encoded"]))
    if contract["quantised"]:
        notes.append(_quantised_note(contract["quantised"]))
    return notes


def _encoded_note(encoded: dict[str, Any]) -> str:
    return (
        f"The signature `{encoded['signature']}` takes the bytes of image files (`images_bytes`, a string tensor) and "
        "decodes and resizes them in the graph. It is close to the above but not identical: JPEG, PNG, GIF and BMP only, "
        "EXIF orientation ignored, transparency dropped. Measured on "
        f"{encoded['images']} {encoded['of']}: logits differ by {encoded['median_difference']:.2g} in the median and "
        f"{encoded['max_difference']:.2g} at most, {percent(encoded['agreement'], 1)} keep their class."
    )


def _quantised_note(quantised: dict[str, Any]) -> str:
    before, after = quantised["accuracy"], quantised["accuracy_quantised"]
    count = quantised["calibration_images"]
    how = f"Weights and activations in 8 bits but for dense layers, their ranges found on {count} training images"
    if not count:
        how = "Weights of dense layers in 8 bits, their inputs rounded to 8 bits image by image, all else in float32"
    return (
        f"{how}; float32 in and out. On {quantised['images']} images of the {quantised['split']} split "
        f"{percent(quantised['agreement'], 1)} keep their class; accuracy {before:.3f} in float32, {after:.3f} in 8 bits. "
        "Temperature and threshold are those of float32."
    )
