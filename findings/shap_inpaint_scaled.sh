#!/usr/bin/env bash
# What: SHAP's image masker with inpainting turns an image scaled to 0..1 into zeros and ones, the pixels that are not masked too:
#   the whole image, before any network sees it. What is explained is a black picture. Images of 0..255 are right.
# Why it surprises: the same call with a blur is right at either scale, and pixels that are not masked are meant to be left alone.
#   Values are returned, add up to the score of the black picture, and are drawn like any others; the one number that would
#   tell, that base and values add up to the network's score, is not compared.
# Who is hurt: whoever explains a network fed with 0..1 or -1..1, as most are, by the masker of SHAP's own image examples: heat
#   maps for a report or an audit that have nothing to do with the image.
# Instead: give the explainer images of 0..255 and scale inside the function (checked below), or blur.
# Source: https://shap.readthedocs.io/en/latest/generated/shap.maskers.Image.html ("inpaint_telea", "inpaint_ns", "blur(x, y)").
# Guessed beforehand: yes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check shap==0.51.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import cv2, numpy as np, shap

print("SHAP", shap.__version__, "OpenCV", cv2.__version__)
random = np.random.default_rng(0)
image = np.full((16, 16, 3), 0.35)
image[4:8, 8:12] = 0.9, 0.2, 0.2  # what the score looks for: red
image = np.clip(image + random.normal(0, 0.03, image.shape), 0, 1).astype("float32")
there = np.zeros((16, 16), bool)
there[4:8, 8:12] = True


def score(images):
    red = np.clip(images[..., 0].astype("float64") - images[..., 1], 0, 1).mean(axis=(1, 2)) * 20
    return np.stack([1 - red, red], axis=1)


def explained(kind, scale):
    """How far unmasked pixels are from what they were, what the values add up to, their mean on the red square and elsewhere."""
    masker = shap.maskers.Image(kind, image.shape)
    mask = np.ones(image.shape, bool)
    mask[10:14, 2:6] = False
    scaled = image * np.float32(scale)
    left = np.asarray(masker(mask.ravel(), scaled)[0]).reshape(image.shape) / scale
    explainer = shap.Explainer(lambda images: score(np.asarray(images) / scale), masker)
    values = explainer(scaled[None], max_evals=200, batch_size=50, outputs=[1])
    total = float(np.ravel(values.base_values)[0] + values.values.sum())
    pixels = values.values[0, ..., 0].sum(axis=-1)
    return float(np.abs(left - image)[mask].max()), total, float(pixels[there].mean()), float(pixels[~there].mean())


true = float(score(image[None])[0, 1])
print(f"  the score of the image is {true:.2f}")
for kind in ("inpaint_telea", "inpaint_ns", "blur(4, 4)"):
    for scale in (1, 255):
        changed, total, inside, outside = explained(kind, scale)
        print(f"  {kind}, 0..{scale}: unmasked pixels change by {changed:.2f} of 1, base and values add up to {total:.2f}; mean on the square {inside:.4f}, elsewhere {outside:.4f}")
        if kind.startswith("inpaint") and scale == 1:
            assert changed > 0.5 and abs(total) < 1e-3 and true > 0.5, "scaled images are inpainted rightly now"
        else:
            assert changed < 0.005 and abs(total - true) < 0.02 and inside > 0.005 and inside > 3 * outside
PY
