#!/usr/bin/env bash
# What: ncnn reads every NumPy array as if it lay in one piece: of a crop, of every second pixel, of an image on its side or transposed to
#   channels first it takes other pixels, under the right shape. The crop of a red sign is a strip of sign and grass; an image
#   transposed to channels first is its own rows, one third for each colour. (Reversed channels or columns are read past their end, too,
#   and are not run here.)
# Why it surprises: crops and transposed arrays are views, which NumPy makes without a word, and OpenVINO, ONNX Runtime, MNN, PyAV and
#   pyvips heed their strides or refuse them; nothing is raised here, and the shape (3, height, width) is what one looks at.
#   For Mat it was answered once, in Chinese (ncnn#3082); users still look for the lost accuracy elsewhere (discussion 4842).
# Who is hurt: detection followed by classification of the crops, and any image.transpose(2, 0, 1), also by way of a PyTorch tensor's
#   permute(2, 0, 1).numpy(): scores are low, and the conversion of the network is blamed.
# Instead: numpy.ascontiguousarray(image), kept in a variable, before from_pixels or Mat (checked below).
# Source: https://github.com/Tencent/ncnn/blob/master/python/README.md ("numpy.array->ncnn.Mat, with no memory copy").
# Guessed beforehand: copied by its strides, or refused.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check ncnn==1.0.20261020 numpy==2.4.6
printf '7767517\n2 2\nInput image 0 1 x\nPooling mean 1 1 x y 0=1 4=1\n' > mean.param  # a network that gives the mean of each channel
: > mean.bin
cat > measure.py <<'PY'
import ncnn, numpy as np

print("ncnn", ncnn.__version__, "NumPy", np.__version__)
network = ncnn.Net()
network.load_param("mean.param")
network.load_model("mean.bin")


def means(mat):
    extractor = network.create_extractor()
    extractor.input("x", mat)
    return np.array(extractor.extract("y")[1]).round(1)


scene = np.empty((120, 160, 3), "uint8")
scene[:60], scene[60:] = (60, 120, 230), (40, 160, 60)  # a sky above grass
scene[80:112, 100:148] = (220, 20, 30)  # a red sign
scene[80:96, 100:148, 1] = 60
views = {
    "the whole image": scene,
    "a crop of the red sign": scene[80:112, 100:148],
    "every second pixel": scene[::2, ::2],
    "the image on its side": scene.transpose(1, 0, 2),
}
kind = ncnn.Mat.PixelType.PIXEL_RGB
for name, view in views.items():
    height, width = view.shape[:2]
    whole = np.ascontiguousarray(view)
    given, right = (ncnn.Mat.from_pixels(array, kind, width, height) for array in (view, whole))
    same = np.mean(np.array(given) == view.transpose(2, 0, 1))
    smaller = [np.array(ncnn.Mat.from_pixels_resize(array, kind, width, height, width // 2, height // 2)) for array in (view, whole)]
    print(f"  {name}, from_pixels: {same:.0%} of the numbers right, mean colour {means(given)}, of a copy {means(right)}")
    assert (np.array(right) == view.transpose(2, 0, 1)).all() and np.allclose(means(right), view.mean((0, 1)), atol=0.1)
    if name == "the whole image":
        assert same == 1
    else:
        assert same < 0.9 and not np.array_equal(*smaller), "strides are heeded now"
first = (scene / 255).astype("float32").transpose(2, 0, 1)
copy = np.ascontiguousarray(first)
given, right = ncnn.Mat(first), ncnn.Mat(copy)
same = np.mean(np.array(given) == first)
print(f"  transposed to channels first, Mat: shape {np.array(given).shape}, {same:.0%} of the numbers right, mean colour {255 * means(given)}, of a copy {255 * means(right)}")
assert np.array(given).shape == first.shape and same < 0.9 and (np.array(right) == first).all()
PY
venv/bin/python measure.py
