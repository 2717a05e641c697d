#!/usr/bin/env bash
# What: OpenVINO reads an ONNX Resize and leaves out three of its attributes without a word: with antialias=1 the answers are
#   those of antialias=0, bit for bit; with keep_aspect_ratio_policy="not_larger" or "not_smaller" the picture is stretched
#   to the size given, in another shape; with exclude_outside=1 borders are those of 0. ONNX Runtime does as asked.
# Why it surprises: what its reader does not know is refused elsewhere in the same operator (half_pixel_symmetric).
# Who is hurt: networks exported with their preprocessing inside: fine texture turns into aliases (on noise reduced to three
#   tenths the deviation is 3.3 times that of the smoothed picture), a defect of one pixel is there or not by where it lies,
#   and a picture of another shape than the training images is squeezed instead of fitted.
# Instead: resize before the network, or by OpenVINO's own preprocessing (RESIZE_BILINEAR_PILLOW); compare one real image
#   between the runtimes, not random numbers of the network's own size.
# Source: https://onnx.ai/onnx/operators/onnx__Resize.html (all three since version 18 or before).
# Guessed beforehand: an error for each; no.
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


def answers(x, **attributes):
    sized = {name: attributes.pop(name) for name in ("scales", "sizes") if name in attributes}
    given = [
        numpy_helper.from_array(np.array(value, np.float32 if name == "scales" else np.int64), name)
        for name, value in sized.items()
    ]
    names = ["x", "", "scales"] if "scales" in sized else ["x", "", "", "sizes"]
    node = helper.make_node("Resize", names, ["y"], **attributes)
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape), helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1, "h", "w"))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    raw = model.SerializeToString()
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    compiled = core.compile_model(core.read_model(raw), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return session.run(None, {"x": x})[0], compiled(x)[0]


x = np.random.default_rng(0).uniform(0, 255, (1, 1, SIZE, SIZE)).astype(np.float32)
for mode, way in (("linear", Image.BILINEAR), ("cubic", Image.BICUBIC)):
    for scale in (0.5, 0.3):
        smooth, other = answers(x, mode=mode, scales=[1, 1, scale, scale], antialias=1)
        plain, without = answers(x, mode=mode, scales=[1, 1, scale, scale])
        side = round(SIZE * scale)
        pillow = np.asarray(Image.fromarray(x[0, 0]).resize((side, side), way))
        print(
            f"{mode}, {scale}: deviation of noise: Pillow {pillow.std():.1f}, ONNX Runtime {smooth.std():.1f}, "
            f"OpenVINO {other.std():.1f}, ONNX Runtime without antialias {plain.std():.1f}"
        )
        assert np.array_equal(other, without), "OpenVINO tells antialias=1 from antialias=0 now"
        assert other.std() > 1.5 * smooth.std() and abs(smooth.std() / pillow.std() - 1) < 0.1

tall = x[:, :, :, :120]  # 240 x 120
for policy, wanted in (("not_larger", (60, 30)), ("not_smaller", (120, 60))):
    right, other = answers(tall, mode="linear", sizes=[60, 60], axes=[2, 3], keep_aspect_ratio_policy=policy)
    print(f"240 x 120 to 60 x 60, {policy}: ONNX Runtime {right.shape[2:]}, OpenVINO {other.shape[2:]}")
    assert right.shape[2:] == wanted and other.shape[2:] == (60, 60)

inside, other = answers(x, mode="cubic", scales=[1, 1, 0.6, 0.6], exclude_outside=1)
plain, without = answers(x, mode="cubic", scales=[1, 1, 0.6, 0.6])
print(f"exclude_outside: ONNX Runtime changes by up to {abs(inside - plain).max():.1f} grey levels, OpenVINO by {abs(other - without).max():.1f}")
assert abs(inside - plain).max() > 1 and np.array_equal(other, without)
PY
