"""How many modules a command crosses: imports followed from its pipeline, those inside functions among them."""

import functools
import subprocess
import sys

import pytest

grimp = pytest.importorskip("grimp", reason="comes with import-linter")


@functools.cache
def crossed(command):
    graph = grimp.build_graph("tlkit", cache_dir=None, exclude_type_checking_imports=True)
    module = f"tlkit.pipelines.{command}"
    return {module, *graph.find_upstream_modules(module)}


def test_finetune_crosses_few_modules():
    assert 60 < len(crossed("finetune")) <= 130


def test_an_audit_needs_nothing_of_training():
    assert not [module for module in crossed("audit") if module.startswith("tlkit.training")]


def test_run_folders_and_training_do_not_know_each_other():
    graph = grimp.build_graph("tlkit", cache_dir=None, exclude_type_checking_imports=True)
    above = graph.find_descendants("tlkit.training")
    known = {target for module in above for target in graph.find_modules_directly_imported_by(module)}
    assert {module for module in known if module.startswith("tlkit.runs")} <= {"tlkit.runs.history"}
    below = {
        target
        for module in graph.find_descendants("tlkit.runs")
        for target in graph.find_modules_directly_imported_by(module)
    }
    assert not [module for module in below if module.startswith("tlkit.training")]


@pytest.mark.parametrize("command", ["rank", "compare"])
def test_rankings_and_comparisons_load_no_scikit_learn(command):
    program = (
        "import sys; from tlkit import pipelines; from tlkit.base import process, story; process.claim_process(); "
        f"pipelines.load({command!r}, story.Silence()); print(sorted({{'sklearn', 'pandas'}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
