#!/usr/bin/env bash
# What: MaxPool with ceil_mode=1 whose last window would lie in the padding alone (a window of 2 in steps of 2 with padding 1
#   on odd sizes; steps longer than the window) gives one more row and column on OpenVINO than on ONNX Runtime,
#   and they are filled with the smallest number there is, -3.4e38.
# Why it surprises: AveragePool with the same settings is right; other sizes of the same network are right; the shape of a
#   network's end usually does not show it, since global pooling takes any size.
# Who is hurt: whoever answers in OpenVINO what was trained in PyTorch with ceil_mode=True: the mean over a feature map is
#   minus infinity, and what comes after it NaN or sure of one class. With another image size it is all right.
# Instead: pad explicitly before the pooling and leave ceil_mode out; compare the shapes between runtimes at every image size in
#   use.
# Source: https://onnx.ai/onnx/operators/onnx__MaxPool.html ("Sliding windows that would start in the right padded region are
#   ignored", version 22; the same sentence stands in PyTorch's MaxPool2d).
# Guessed beforehand: no.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto, helper

print("onnx", onnx.__version__, "ONNX Runtime", onnxruntime.__version__, "OpenVINO", openvino.__version__)
core = openvino.Core()


def both(x, opset, kernel, step, padding):
    pool = helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=[kernel] * 2, strides=[step] * 2, pads=[padding] * 4, ceil_mode=1
    )
    mean = helper.make_node("GlobalAveragePool", ["y"], ["z"])
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    ends += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "yz"]
    graph = helper.make_graph([pool, mean], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    raw = model.SerializeToString()
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    compiled = core.compile_model(core.read_model(raw), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(x)
    return session.run(None, {"x": x}), [found[0], found[1]]


for opset in (17, 22):
    for kernel, step, padding, size in ((2, 2, 1, 15), (3, 3, 1, 14), (2, 3, 0, 15), (2, 2, 1, 16)):
        x = np.random.default_rng(0).uniform(0, 1, (1, 1, size, size)).astype(np.float32)
        (right, mean), (other, far) = both(x, opset, kernel, step, padding)
        print(
            f"opset {opset}, window {kernel}, step {step}, padding {padding}, {size} x {size}: ONNX Runtime {right.shape[2:]}, "
            f"mean {mean.item():.3f}; OpenVINO {other.shape[2:]}, smallest {other.min():.3g}, mean {far.item():.3g}"
        )
        if size == 16:
            assert right.shape == other.shape and np.array_equal(right, other)
        else:
            assert other.shape[2] == right.shape[2] + 1 and other.min() < -3e38 and far.item() == -np.inf
            assert np.array_equal(other[:, :, :-1, :-1], right)
PY
