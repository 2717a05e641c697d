import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.machine import install
from tlkit.exporting import formats
from tlkit.exporting.formats import refuse_missing
from tlkit.options.catalog import FORMATS


def test_every_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(formats, "installed", lambda module: module in ("keras", "tensorflow", "onnx"))
    refuse_missing([FORMATS["keras"], FORMATS["litert"]], writing=True)  # TensorFlow runs LiteRT too
    with pytest.raises(TlkitError) as caught:
        refuse_missing(FORMATS.values(), writing=True)
    assert caught.value.message == ("onnx needs tf2onnx and onnxruntime; openvino needs openvino: not installed.")
    assert caught.value.hint == f"pip install tf2onnx onnxruntime; {install('openvino')}."


def test_running_needs_only_the_runtime(monkeypatch):
    monkeypatch.setattr(formats, "installed", lambda module: module == "onnxruntime")
    refuse_missing([FORMATS["onnx"]], writing=False)
    with pytest.raises(TlkitError, match="litert needs ai_edge_litert") as caught:
        refuse_missing([FORMATS["litert"]], writing=False)
    assert caught.value.hint == "pip install ai-edge-litert."


def test_a_folder_of_the_same_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "somert").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not formats.installed("somert")
    (tmp_path / "somert" / "__init__.py").write_text("")
    assert formats.installed("somert")
