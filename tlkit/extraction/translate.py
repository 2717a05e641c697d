"""Write a network as an ONNX file beside its note, and check it against Keras without TensorFlow: a separate process.

    python -m tlkit.extraction.translate NOTE.json < OPTIONS.json

It builds the network on NumPy (`backbones.numpy_backend`), writes NOTE.onnx and NOTE.json, and prints the outcome on its
last line: `{}`, or `{"obstacle": "..."}`. Nothing is downloaded here.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones import numpy_backend
from tlkit.base.errors import TlkitError, first_line
from tlkit.base.files import replacing, sha256_file
from tlkit.base.machine import usable_cores
from tlkit.base.process import claim_process, ended_at_once

CLOSE = 1e-4  # tolerance for features up to 1, relative for larger ones: as close as engines are to one another


def main() -> None:
    """Write what the options ask for."""
    claim_process()
    place, asked = Path(sys.argv[1]), json.load(sys.stdin)
    try:
        numpy_backend.start()
        obstacle = write(place, asked["options"], asked["wish"])
    except TlkitError as error:
        obstacle = error.message
    except Exception as error:  # noqa: BLE001 - whatever the error, the network is then computed by Keras
        obstacle = f"{type(error).__name__}: {first_line(error)}"
    print(json.dumps({"obstacle": obstacle} if obstacle else {}))


def write(place: Path, options: dict[str, Any], wish: dict[str, Any]) -> str:
    """Build, write, compare; returns why there is no ONNX file, "" if there is.

    Args:
        place: path of the note.
        options: of `tlkit features`, by name.
        wish: the key of the note.
    """
    from tlkit.backbones.arithmetic import gain
    from tlkit.extraction import recall
    from tlkit.extraction.onnx_graph import to_onnx
    from tlkit.extraction.onnx_parts.writing import Untranslatable
    from tlkit.options.commands import FeaturesConfig

    given: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in options.items()}
    config = FeaturesConfig(**given)
    if not recall.weights_here(config):
        return "its weights are not on this machine yet"
    built = recall.build(config)
    try:
        model = to_onnx(built.source.built, lean=True)
    except Untranslatable as error:
        recall.remember(place, config, wish, built.origin, {"obstacle": str(error)})
        return str(error)
    file = place.with_suffix(".onnx")
    with replacing(file, durable=False) as temporary:  # its checksum is in the note
        temporary.write_bytes(model.SerializeToString())
        del model
        apart, seconds = tried(temporary, built.source.built)
    if apart > CLOSE:
        obstacle = f"its ONNX file differs from Keras ({apart:.1g} of the largest number, {CLOSE:g} is allowed)"
        file.unlink()
        recall.remember(place, config, wish, built.origin, {"obstacle": obstacle})
        return obstacle
    about = {"sha256": sha256_file(file), "bytes": file.stat().st_size, "difference": apart, "seconds": seconds}
    about["gain"] = gain(built.source.built)
    recall.remember(place, config, wish, built.origin, about)
    return ""


def tried(file: Path, model: Any) -> tuple[float, float]:
    """The difference of an ONNX file from Keras, and its speed, on a drawn image.

    Args:
        file: of the network.
        model: images -> one tensor.

    Returns:
        The largest difference, relative to the largest number where that is above 1; and seconds per image of many.
    """
    image = drawn(*model.input_shape[1:3])
    with ThreadPoolExecutor(1) as pool:  # one core for each of the two
        computed = pool.submit(_run, file, image)
        expected = model(image.astype(np.float32), training=False)
        found, seconds = computed.result()
    return difference(found, expected), seconds


def difference(found: np.ndarray, expected: Any) -> float:
    """The largest difference of two arrays of one shape, relative to the largest number where that is above 1."""
    expected = np.asarray(expected, np.float64)
    if not np.isfinite(expected).all():
        return 0.0 if np.array_equal(found, expected, equal_nan=True) else np.inf
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _run(file: Path, image: np.ndarray) -> tuple[np.ndarray, float]:
    """The output of a file on one core, and a core's share of its processor seconds, the smaller of two measurements.

    Wall time would depend on how busy the machine is.
    """
    from tlkit.extraction.onnx_engine import open_file

    session, seconds = open_file(file, 1), []
    for _ in range(2):
        started = time.thread_time()
        [found] = session.run(None, {"images": image.astype(np.float32)})
        seconds.append(time.thread_time() - started)
    return found, min(seconds) / usable_cores()


def drawn(height: int, width: int) -> np.ndarray:
    """uint8 (1, height, width, 3): patches of several sizes, and noise, in colours; the same everywhere."""
    random = np.random.RandomState(20240607)  # its stream is frozen since NumPy 1.17
    image = random.randint(0, 64, (height, width, 3))
    for size in (8, 32):
        patches = random.randint(0, 96, (height // size + 1, width // size + 1, 3))
        image = image + patches.repeat(size, 0).repeat(size, 1)[:height, :width]
    return image[None].astype(np.uint8)


if __name__ == "__main__":
    with ended_at_once():
        main()
        sys.exit()
