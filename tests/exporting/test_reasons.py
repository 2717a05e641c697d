"""A failed export names the missing operation, and no converter prints anything itself."""

import logging
import sys
import warnings
from types import SimpleNamespace

import pytest

from tlkit.base.errors import TlkitError
from tlkit.exporting import writers
from tlkit.options.catalog import FORMATS

# The ends of the messages of converters for a network with `erfinv`: TensorFlow 2.21, OpenVINO 2026, tf2onnx 1.17.
LITERT = (
    'Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(callsite(fused["Erfinv:", "functional_1/erfinv"]))\n'
    "Some ops in the model are custom ops, See instructions: https://www.tensorflow.org/lite/guide/ops_custom \n"
    'Custom ops: Erfinv\nDetails:\n\ttf.Erfinv(tensor<?x3xf32>) -> (tensor<?x3xf32>) : {device = ""}\n'
)
OPENVINO = (
    "Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:\n"
    "Model wasn't fully converted.\nSummary:\n-- No conversion rule found for operations: Erfinv\n"
    "To facilitate the conversion of unsupported operations, refer to https://docs.openvino.ai/latest/\n"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError(LITERT), []),
        (RuntimeError(OPENVINO), []),
        (ValueError("No Op registered for Erfinv with domain_version of 17"), []),
        (
            KeyError("logits"),
            ["Tensorflow op [a/Erfinv: Erfinv] is not supported", "Unsupported ops: Counter({'Erfinv': 1})"],
        ),
    ],
    ids=["litert", "openvino", "onnx", "tf2onnx"],
)
def test_the_missing_operation_is_named(error, said):
    assert writers.reason(error, said).startswith("the format has no operation Erfinv (")


def test_other_failures_are_told_by_their_last_words():
    error = RuntimeError("in a file of ours\n" * 50 + "the shape of conv_3 is unknown")
    assert writers.reason(error, []).endswith("the shape of conv_3 is unknown")
    assert writers.reason(RuntimeError(""), []) == "RuntimeError: no reason given"


def test_no_converter_prints_past_us(monkeypatch, capfd, tmp_path):
    def loud(row, classifier, path, calibration):
        print("stdout")
        print("stderr", file=sys.stderr)
        warnings.warn("a warning", stacklevel=1)
        logging.getLogger("tf2onnx.tfonnx").error("Unsupported ops: Counter({'Erfinv': 1, 'Digamma': 2})")
        logging.getLogger("a.library").error("an error of a library")
        raise RuntimeError("no node")

    monkeypatch.setattr(writers, "module_of", lambda row: SimpleNamespace(write=loud))
    handlers = list(logging.getLogger("tf2onnx").handlers)
    with pytest.raises(TlkitError) as raised:
        writers.write(FORMATS["onnx"], None, tmp_path / "model.onnx", None)
    assert raised.value.message == (
        "this network cannot be written as onnx: the format has no operation Erfinv, Digamma (RuntimeError)."
    )
    assert capfd.readouterr() == ("", "") and logging.getLogger("tf2onnx").handlers == handlers
