#!/usr/bin/env bash
# What: the usual converter of ONNX models to float16 changes every constant above 10,000 to 10,000 and every one below
#   0.0000001 to that, although float16 holds 65,504 and 0.00000006. Of an array only one value is warned of, though all are
#   changed.
# Why it surprises: a cast to float16 of the same numbers is exact to one in a thousand; the limits are documented as two
#   arguments, and nobody expects their defaults to lie inside of float16. The model converts, loads and gives plausible
#   numbers.
# Who is hurt: batch normalisation near the input, whose variances of pixels of 0 to 255 after a convolution are above 10,000;
#   images of 16 bits, with means and upper limits of 10,000 to 65,535; scales that are small and large in turn.
# Instead: convert_float_to_float16(model, min_positive_val=5.96e-8, max_finite_val=65504.0) (checked below), and compare
#   outputs.
# Source: https://onnxruntime.ai/docs/performance/model-optimizations/float16.html ("Constant values will be clipped to these
#   bounds", without the bounds' reason or the range of float16).
# Guessed beforehand: infinities above 65,504.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnxconverter-common==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version

import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.float16 import convert_float_to_float16

print("onnxconverter-common", version("onnxconverter-common"), "onnx", onnx.__version__, "ONNX Runtime", onnxruntime.__version__)


def answers(node, held, x, **limits):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    held = [numpy_helper.from_array(np.asarray(value, "float32"), name) for name, value in held.items()]
    made = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], held), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = [made]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found.append(convert_float_to_float16(made, keep_io_types=True, **limits))
    sessions = [onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]) for one in found]
    return [session.run(None, {"x": x})[0] for session in sessions], [str(one.message) for one in said]


variances = np.array([5000, 12000, 30000, 60000], "float32")
held = {"scale": np.ones(4), "offset": np.zeros(4), "mean": np.zeros(4), "variance": variances}
node = helper.make_node("BatchNormalization", ["x", *held], ["y"], epsilon=1e-3)
x = np.full((1, 4, 2, 2), 200, "float32")
for limits in ({}, {"min_positive_val": 5.96e-8, "max_finite_val": 65504.0}):
    (true, found), said = answers(node, held, x, **limits)
    print(f"  normalised by variances of {variances.tolist()}, {limits or 'as usual'}:\n    {found[0, :, 0, 0].round(3)}, should be {true[0, :, 0, 0].round(3)}")
    print(f"    warnings: {said}")
    if limits:
        assert np.allclose(true, found, rtol=5e-3) and not said
    else:
        assert np.allclose(found[0, 0], true[0, 0], rtol=5e-3) and np.allclose(found[0, 1:], 2.0, rtol=5e-3) and len(said) == 1
        assert np.abs(variances.astype("float16").astype("float32") / variances - 1).max() < 1e-3
node = helper.make_node("Clip", ["x", "low", "high"], ["y"])
pixels = np.array([[5000, 10001, 30000, 60000]], "float32")
(true, found), said = answers(node, {"low": 0, "high": 50000}, pixels)
print(f"  16-bit pixels {pixels[0].tolist()} limited to 50000: {found[0].tolist()}, should be {true[0].tolist()}")
assert found.max() == 10000
PY
