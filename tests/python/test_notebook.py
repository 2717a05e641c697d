"""The introductory notebook runs from top to bottom and shows what it promises."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_hour.ipynb"


def cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs():
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own packages
def test_it_runs_and_shows_the_run_its_tables_and_its_figures(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbclient is in the extra dev")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is in the extra dev")
    pytest.importorskip("ipykernel", reason="ipykernel is in the extra dev")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in shown if output.output_type == "error"] == []
    kinds = [set(output.data) for output in shown if "data" in output]
    assert sum("image/png" in kind for kind in kinds) == 2
    pages = [output.data["text/html"] for output in shown if "data" in output and "text/html" in output.data]
    assert "test images" in pages[0] and sum("<table" in page for page in pages) >= 3
    text = " ".join(output.get("text", "") for output in shown)
    assert "did you mean 'resnet50'" in text and "extracting" not in text
    assert len(list((tmp_path / "first_hour" / "run" / "figures").glob("*.pdf"))) >= 8
