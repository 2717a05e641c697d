#!/usr/bin/env bash
# What: ONNX Runtime's static quantisation throws Clip away even where its lower limit is above zero or its upper one below: values clipped
#   to 0.2..0.8 go down to 0 afterwards. In the format QOperator it throws Clip and ReLU away, too, where their input has another user, and
#   negative numbers come out of a ReLU.
# Why it surprises: leaving a ReLU out is sound, since the 8 bits begin at 0; but a range of 8 bits is always widened to hold 0, so it
#   does not stand for limits that leave 0 out. In the format QDQ a second user of the input is looked for, in QOperator not.
#   Nothing is said: no warning, and the file has a Clip less. quant_pre_process changes nothing of it.
# Who is hurt: probabilities kept away from zero before a logarithm, scales and variances kept above a minimum, what is divided by
#   them; networks that use what comes before an activation as well: concatenated ReLU, pre-activation residuals, feature taps.
# Instead: the option "QDQKeepRemovableActivations", or nodes_to_exclude with their names (both are checked below).
# Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, and the option's text in quantize.py ("default is
#   False. If true, "removable" activations (e.g., Clip or Relu) will not be removed").
# Guessed beforehand: only what 8 bits clip anyway is removed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 sympy==1.14.0
cat > measure.py <<'PY'
import logging

import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

print("ONNX Runtime", onnxruntime.__version__, "onnx", onnx.__version__)
logging.disable(logging.CRITICAL)
random = np.random.default_rng(0)
images = [{"x": random.normal(0, 1, (1, 8, 16, 16)).astype("float32")} for _ in range(16)]
first, second = random.normal(0, 0.1, (2, 8, 8, 3, 3)).astype("float32")
bias = random.normal(0, 1, 8).astype("float32")


class Reader(CalibrationDataReader):
    def __init__(self):
        self.rest = iter(images)

    def get_next(self):
        return next(self.rest, None)


def run(file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["y"], image)[0] for image in images])


def network(*activation, constants=(), tap=False):
    """A convolution, an activation y and, if there is a tap, a second convolution of what comes before the activation."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1] * 4)]
    nodes.append(helper.make_node(activation[0], ["c", *activation[1:]], ["y"], name="activation"))
    values, outputs = {"w": first, "b": bias, **dict(constants)}, ["y"]
    if tap:
        values["v"] = second
        nodes.append(helper.make_node("Conv", ["c", "v"], ["z"], name="tap", pads=[1] * 4))
        outputs.append("z")
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 16, 16]) for name in ("x", *outputs)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "plain.onnx")
    quant_pre_process("plain.onnx", "ready.onnx")
    return run("plain.onnx")


def quantised(kind, **options):
    quantize_static("ready.onnx", "small.onnx", Reader(), quant_format=kind, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, **options)
    kept = sum(node.op_type in ("Clip", "Relu") for node in onnx.load("small.onnx").graph.node)
    return run("small.onnx"), kept


def limits(low, high):
    return (("low", np.float32(low)), ("high", np.float32(high)))


cases = (
    ("Clip to 0..6", ("Clip", "low", "high"), limits(0, 6), False, ()),
    ("Clip to 0.2..0.8", ("Clip", "low", "high"), limits(0.2, 0.8), False, ("QDQ", "QOperator")),
    ("Clip to -3..-1", ("Clip", "low", "high"), limits(-3, -1), False, ("QDQ", "QOperator")),
    ("ReLU", ("Relu",), (), False, ()),
    ("ReLU, its input used twice", ("Relu",), (), True, ("QOperator",)),
    ("Clip to 0..1, its input used twice", ("Clip", "low", "high"), limits(0, 1), True, ("QOperator",)),
)
for name, activation, constants, tap, wrong in cases:
    exact = network(*activation, constants=constants, tap=tap)
    for kind in (QuantFormat.QDQ, QuantFormat.QOperator):
        found, kept = quantised(kind)
        error = np.abs(found - exact).max()
        print(f"  {name}, {kind.name}: {exact.min():.2f}..{exact.max():.2f} became {found.min():.2f}..{found.max():.2f}, largest error {error:.2f}, activations left {kept}")
        if kind.name in wrong:
            assert kept == 0 and error > 0.15, "the activation is kept now"
        else:
            assert error < 0.1
        if wrong:
            excluded, _ = quantised(kind, nodes_to_exclude=["activation"])
            assert np.abs(excluded - exact).max() < 0.1
    if "QDQ" in wrong:
        option, kept = quantised(QuantFormat.QDQ, extra_options={"QDQKeepRemovableActivations": True})
        assert kept == 1 and np.abs(option - exact).max() < 0.1
print("  with QDQKeepRemovableActivations (QDQ) or nodes_to_exclude (both) they are right")
PY
ORT_DISABLE_TELEMETRY=1 venv/bin/python measure.py
