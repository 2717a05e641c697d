#!/usr/bin/env bash
# What: white becomes black where torchvision's v2.ToDtype(scale=True) makes uint16 of float32, or uint8 of float16 and bfloat16: 1.0 is scaled
#   to 65535.999 or 255.999, which these types round up to one more than there is, and that wraps to 0. ColorJitter of hue, and gamma,
#   go that way with uint16: what is white in a 16-bit PNG is black afterwards.
# Why it surprises: the constant is there to make 1.0 the largest number, and does so in the usual float32 to uint8; float32 to int32 is
#   refused with an error for this very reason. decode_image gives uint16 for 16-bit PNG, and brightness, contrast, saturation and
#   sharpness of it are right. Only the brightest pixels are concerned.
# Who is hurt: X-ray, microscope and satellite images of 16 bits, whose saturated pixels are holes after augmentation; outputs of a
#   network in half precision that are saved as pictures. (uint8 to uint16 makes 65280 of white.)
# Instead: (image * 65535).round().to(torch.uint16), after image.float() for half precision; jitter floats, not uint16 (checked below).
# Needs: 7 GB of disk while it runs (PyTorch from PyPI).
# Source: https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.ToDtype.html ("scale: Whether to scale the values");
#   pytorch/vision#6799, open since 2022, has half precision.
# Guessed beforehand: 1.0 is white everywhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --no-cache-dir --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 pillow==13.0.0
venv/bin/python -W ignore - <<'PY'
import numpy as np, torch, torchvision
from PIL import Image
from torchvision.io import decode_image
from torchvision.transforms import v2

print("torchvision", torchvision.__version__, "PyTorch", torch.__version__)
torch.set_num_threads(1)
F = v2.functional


def ends(image, dtype):
    return [int(value) for value in F.to_dtype(image.reshape(1, 1, -1), dtype, scale=True).flatten().to(torch.int64)]


for source, target, white in (
    (torch.float32, torch.uint8, 255),
    (torch.float64, torch.uint16, 65535),
    (torch.float32, torch.uint16, 0),
    (torch.float16, torch.uint8, 0),
    (torch.bfloat16, torch.uint8, 0),
):
    found = ends(torch.tensor([0, 0.5, 0.98, 1.0]).to(source), target)
    print(f"  {source} to {target}: 0, 0.5, 0.98 and 1 are {found}")
    assert found[3] == white and found[2] > 0.97 * torch.iinfo(target).max, "white is kept now"
found = ends(torch.tensor([0, 255], dtype=torch.uint8), torch.uint16)
print(f"  uint8 to uint16: 0 and 255 are {found}")
assert found == [0, 65280]

ramp = np.linspace(0, 70000, 64 * 64).clip(max=65535).astype("uint16").reshape(64, 64)  # the brightest are saturated
Image.fromarray(ramp).save("image.png")
image = decode_image("image.png").expand(3, 64, 64).contiguous()
saturated = image == 65535
assert image.dtype == torch.uint16 and torch.equal(image[0].to(torch.int64), torch.tensor(ramp.astype("int64")))
floats = F.to_dtype(image, torch.float32, scale=True)
print(f"  a 16-bit PNG, {saturated.float().mean():.1%} of which are saturated:")
for name, change in (
    ("brightness", lambda one: F.adjust_brightness(one, 1.0)),
    ("contrast", lambda one: F.adjust_contrast(one, 1.0)),
    ("saturation", lambda one: F.adjust_saturation(one, 1.0)),
    ("sharpness", lambda one: F.adjust_sharpness(one, 1.0)),
    ("hue", lambda one: F.adjust_hue(one, 0.1)),
    ("gamma", lambda one: F.adjust_gamma(one, 1.0)),
):
    found, right = change(image)[saturated].to(torch.int64), change(floats)[saturated]
    print(f"    {name}: saturated pixels are {found.min()} to {found.max()}, of floats {right.min():.3f} to {right.max():.3f}")
    assert right.min() > 0.999
    assert (found.max() == 0) if name in ("hue", "gamma") else (found.min() == 65535), "white stays white now"
torch.manual_seed(0)
jittered = v2.ColorJitter(hue=0.1)(image)
print(f"    ColorJitter(hue=0.1): mean of the saturated pixels {jittered[saturated].float().mean():.0f}")
assert jittered[saturated].to(torch.int64).max() == 0
assert int((floats * 65535).round().to(torch.uint16).to(torch.int64).max()) == 65535
PY
