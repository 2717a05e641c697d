import ast

import numpy as np
import pytest
from PIL import Image

from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.exporting.formats import FORMATS
from tlkit.exporting.snippets import program


def contract(kind="onnx", fit="squash", height=32, width=32, **more):
    given = {"height": height, "width": width, "fit": fit}
    return {"kind": kind, "input": given, "threshold": None, "unfamiliarity": None} | more


def pixels(given, path):
    """What the program's own function makes of a file, without its runtime."""
    tree = ast.parse(program(given))
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "pixels"]
    names = {"np": np, "Image": Image, "HEIGHT": given["input"]["height"], "WIDTH": given["input"]["width"]}
    from PIL import ImageOps

    names["ImageOps"] = ImageOps
    exec(compile(ast.Module(wanted, []), "classify.py", "exec"), names)
    return names["pixels"](path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A large JPEG lying, the same turned by EXIF, a small PNG that one can see through, a grey one."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    turned = Image.Exif()
    turned[274] = 6
    smooth.save(folder / "large.jpg")
    smooth.save(folder / "turned.jpg", exif=turned)
    Image.fromarray(random.integers(0, 256, (50, 41, 4), np.uint8)).save(folder / "alpha.png")
    Image.fromarray(random.integers(0, 256, (20, 70), np.uint8)).save(folder / "grey.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_the_pixels_are_those_of_tlkit(photos, fit):
    given = contract(fit=fit)
    for path in photos:
        ours = decode(path, InputContract(height=32, width=32, fit=fit))
        assert np.array_equal(pixels(given, path)[0], ours), path.name


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_and_nearly_those_where_the_input_is_no_square(photos, fit):
    for path in photos:
        ours = decode(path, InputContract(height=40, width=24, fit=fit)).astype(float)
        theirs = pixels(contract(fit=fit, height=40, width=24), path)[0]
        assert theirs.shape == ours.shape and np.abs(theirs - ours).mean() < 1, path.name


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("more", [{}, {"threshold": 0.5, "unfamiliarity": "familiarity.npz"}], ids=["plain", "knowing"])
def test_every_program_is_python_and_speaks_of_what_it_has(kind, more):
    text = program(contract(kind, **more))
    compile(text, "classify.py", "exec")
    assert ("abstains" in text, "unfamiliarity(" in text) == (bool(more), bool(more))
    assert "tlkit" not in text
