"""The decoder of artifacts, in a Python without tlkit."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.exporting.decoder import decoded_by_artifact, write_decoder

# What classify.py does, on many files; nothing of tlkit can be imported.
PROGRAM = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tlkit", "keras", "tensorflow", "cv2"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from decoder import InputContract, UnreadableImage, decode
given = InputContract(**json.loads(sys.argv[2]))
found = {}
for path in sys.stdin.read().splitlines():
    try:
        found[path] = decode(Path(path), given)
    except UnreadableImage as error:
        found[path] = np.array(error.message)
np.savez(sys.argv[3], **found)
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    write_decoder(folder)
    return folder


def elsewhere(artifact, contract, files, tmp_path):
    out = tmp_path / "found.npz"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(artifact), json.dumps(contract.as_json()), str(out)],
        input="\n".join(map(str, files)),
        text=True,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    with np.load(out) as found:
        return {name: found[name] for name in found.files}


def ours(file, contract):
    try:
        return decode(file, contract)
    except UnreadableImage as error:
        return np.array(error.message)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """A file of each kind that may be in a training set and that a simple program misreads."""
    folder, random = tmp_path_factory.mktemp("kinds"), np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (643, 479), Image.Resampling.BICUBIC
    )
    turned = Image.Exif()
    turned[274] = 6
    smooth.save(folder / "large.jpg")
    smooth.save(folder / "turned.jpg", exif=turned)
    smooth.convert("CMYK").save(folder / "ink.jpg")
    smooth.convert("P").save(folder / "palette.png")
    smooth.convert("LA").save(folder / "alpha.png")
    smooth.save(folder / "photo.webp")
    for name in ("scan.png", "scan.tif"):
        Image.fromarray(random.integers(0, 4096, (40, 50)).astype(np.uint16)).save(folder / name)
    Image.fromarray(random.random((40, 50)).astype(np.float32)).save(folder / "float.tif")
    (folder / "half.jpg").write_bytes((folder / "large.jpg").read_bytes()[:3000])
    (folder / "text.jpg").write_text("no image")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("more", [{}, {"levels": (0, 4095)}, {"version": 1}], ids=["", "levels", "version 1"])
def test_the_pixels_are_those_of_tlkit_without_tlkit(artifact, kinds, fit, more, tmp_path):
    contract = InputContract(height=40, width=32, fit=fit, **more)
    found = elsewhere(artifact, contract, kinds, tmp_path)
    for file in kinds:
        assert np.array_equal(found[str(file)], ours(file, contract)), file.name
    assert sum(array.ndim == 0 for array in found.values()) == 2


def test_the_same_of_real_odd_files(artifact, shared_file, tmp_path):
    files = sorted(shared_file("data/odd-images").iterdir())
    contract = InputContract(height=32, width=32)
    found = elsewhere(artifact, contract, files, tmp_path)
    for file in files:
        expected = ours(file, contract)
        if expected.ndim and found[str(file)].ndim:
            assert np.array_equal(found[str(file)], expected), file.name
        assert expected.ndim == found[str(file)].ndim, file.name


def test_it_is_read_in_place_and_leaves_nothing_behind(artifact, kinds):
    contract = InputContract(height=40, width=32)
    good = [file for file in kinds if file.name not in ("half.jpg", "text.jpg")]
    assert np.array_equal(decoded_by_artifact(artifact, contract, good), [decode(file, contract) for file in good])
    assert not list(artifact.rglob("__pycache__"))
    assert not [name for name in sys.modules if name.startswith("_decoder_of_")]
    with pytest.raises(TlkitError, match="half"):
        decoded_by_artifact(artifact, contract, [file for file in kinds if file.name == "half.jpg"])


def test_it_speaks_of_nothing_that_is_not_there(artifact):
    for file in (artifact / "decoder").glob("*.py"):
        text = file.read_text()
        assert "import tlkit" not in text and "from tlkit" not in text and "tlkit[heic]" not in text, file.name
