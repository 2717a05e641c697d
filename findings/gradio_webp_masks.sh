#!/usr/bin/env bash
# What: an array that a Gradio app returns through gr.Image (gr.Gallery and gr.ImageSlider too) reaches the user as lossy
#   WebP in RGB. Of a mask with classes 0 to 4 many pixels have another class when it is downloaded; an 8-bit picture is off
#   by up to 120 grey levels where colours meet. Masks of gr.AnnotatedImage are PNG, its picture is not.
# Why it surprises: NumPy in, NumPy out is how the function is written, and PNG was what came out in earlier releases;
#   the page looks right.
# Who is hurt: demos of segmentation, depth, super-resolution, denoising: what colleagues download, or what a client of the
#   app's API receives, is not what the model said; agreement and error computed from it are wrong.
# Instead: gr.Image(format="png"), or return the path of a file of one's own.
# Source: https://www.gradio.app/docs/gradio/image ("format: ... used to convert a numpy or PIL image before returning").
# Guessed beforehand: lossy yes; how many pixels of a mask change, no.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check gradio==6.31.0 pillow==12.3.0 numpy==2.4.6
HOME=$work GRADIO_ANALYTICS_ENABLED=False GRADIO_TEMP_DIR=$work/cache venv/bin/python - <<'PY'
import gradio, numpy as np
from PIL import Image

print("gradio", gradio.__version__, "pillow", Image.__version__)


def got(component, value):
    file = component.postprocess(value).path
    with Image.open(file) as image:
        return file.rsplit(".", 1)[1], np.asarray(image.convert("RGB")).astype(int)


row, column = np.indices((256, 256))
mask = np.zeros((256, 256), np.uint8)
for label, (y, x, r) in enumerate([(60, 70, 40), (150, 120, 70), (80, 190, 50), (200, 210, 30)], start=1):
    mask[(row - y) ** 2 + (column - x) ** 2 < r * r] = label
smooth = np.stack([row, column, 255 - (row + column) // 2], axis=-1).astype(np.uint8)
smooth[mask == 2] = [255, 0, 0]
for name, array in (("mask of classes 0 to 4", mask), ("picture", smooth)):
    wanted = np.dstack([array] * 3) if array.ndim == 2 else array
    kind, lossy = got(gradio.Image(), array)
    _, exact = got(gradio.Image(format="png"), array)
    off = abs(lossy - wanted)
    share = (off.max(axis=-1) > 0).mean()
    print(f"{name}: returned as {kind}; {100 * share:.1f} % of pixels changed, by up to {off.max()}; with format='png' none")
    assert kind == "webp" and np.array_equal(exact, wanted)
    assert share > 0.002 and off.max() >= 1
    if array.ndim == 2:
        changed = sorted({(int(a), int(b)) for a, b in zip(mask.ravel(), lossy[..., 0].ravel()) if a != b})
        print("   (class, class afterwards):", changed)
        assert changed
PY
