#!/usr/bin/env bash
# What: OpenVINO reads an ONNX Resize with antialias=1 and resizes without it: the answers are those of antialias=0, bit for
#   bit. ONNX Runtime smooths as asked. Reading, compiling and running say nothing.
# Why it surprises: an attribute that a runtime does not know is an error everywhere else in its ONNX reader
#   (half_pixel_symmetric in the same operator is refused).
# Who is hurt: networks exported with their preprocessing inside (antialias is what torchvision and Pillow do): fine texture
#   turns into aliases; on noise the deviation of a picture reduced to three tenths is 3.3 times that of the smoothed one, and
#   a defect or a fibre of one pixel is there or not by where it lies.
# Instead: resize before the network, or OpenVINO's own preprocessing step RESIZE_BILINEAR_PILLOW; compare one real image
#   between the runtimes, not random numbers of the network's own size.
# Source: https://onnx.ai/onnx/operators/onnx__Resize.html (antialias, since version 18).
# Guessed beforehand: an error; no.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6 pillow==12.3.0
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

print("onnx", onnx.__version__, "ONNX Runtime", onnxruntime.__version__, "OpenVINO", openvino.__version__)
core = openvino.Core()
SIZE = 240


def answers(mode, scale, antialias, x):
    scales = numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "s")
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode=mode, antialias=antialias)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1, side, side)) for name, side in (("x", SIZE), ("y", round(SIZE * scale)))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    raw = model.SerializeToString()
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    compiled = core.compile_model(core.read_model(raw), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return session.run(None, {"x": x})[0], compiled(x)[0]


x = np.random.default_rng(0).uniform(0, 255, (1, 1, SIZE, SIZE)).astype(np.float32)
for mode, way in (("linear", Image.BILINEAR), ("cubic", Image.BICUBIC)):
    for scale in (0.5, 0.3):
        smooth, other = answers(mode, scale, 1, x)
        plain, without = answers(mode, scale, 0, x)
        side = round(SIZE * scale)
        pillow = np.asarray(Image.fromarray(x[0, 0]).resize((side, side), way))
        print(
            f"{mode}, {scale}: deviation of noise: Pillow {pillow.std():.1f}, ONNX Runtime {smooth.std():.1f}, "
            f"OpenVINO {other.std():.1f}, ONNX Runtime without antialias {plain.std():.1f}"
        )
        assert np.array_equal(other, without), "OpenVINO tells antialias=1 from antialias=0 now"
        assert other.std() > 1.5 * smooth.std() and abs(smooth.std() / pillow.std() - 1) < 0.1
PY
