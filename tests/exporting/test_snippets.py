import pytest

from tlkit.exporting.snippets import program
from tlkit.options.catalog import FORMATS


def contract(kind="onnx", fit="squash", height=32, width=32, **more):
    given = {"height": height, "width": width, "fit": fit, "version": 2}
    return {"kind": kind, "input": given, "threshold": None, "unfamiliarity": None} | more


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("more", [{}, {"threshold": 0.5, "unfamiliarity": "familiarity.npz"}], ids=["plain", "knowing"])
def test_every_program_is_python_and_speaks_of_what_it_has(kind, more):
    text = program(contract(kind, **more))
    compile(text, "classify.py", "exec")
    assert ("abstains" in text, "unfamiliarity(" in text) == (bool(more), bool(more))
    assert "tlkit" not in text
