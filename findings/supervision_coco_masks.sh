#!/usr/bin/env bash
# What: masks written as COCO by supervision are other masks to pycocotools. A simple object becomes a polygon through the
#   middles of its outermost pixels, which pycocotools fills to one row and one column less: perfect masks of 20 by 20 pixels
#   have an average precision of 0.9, of 8 by 8 pixels 0.6. An object with a hole, or of two parts, becomes a "crowd", which
#   evaluation ignores: a model that never finds one scores as if it found them all.
# Why it surprises: supervision reads its own file back to the last pixel, so that a test of the export passes. The crowd is
#   named in its documentation as a matter of format; in COCO it says that objects were too many to be told apart.
# Who is hurt: segmentation scored with COCOeval on such a file: small objects by tenths, and rings, tools with handles, cars
#   behind posts are out of the score altogether; where training leaves crowds out they are not learnt either.
# Instead: write the annotations with pycocotools.mask.encode and iscrowd 0 (checked below: 1.0, and the missed ones count).
# Source: https://supervision.roboflow.com/latest/datasets/core/ (as_coco), https://cocodataset.org/#format-data (iscrowd).
# Guessed beforehand: holes are lost in polygons; not that sizes change, nor that such objects leave the score.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check supervision==0.31.2 opencv-python-headless==5.0.0.93 \
  pycocotools==2.0.11 numpy==2.4.6 pillow==13.0.0
cat > measure.py <<'PY'
import contextlib, copy, io, json
from importlib.metadata import version

import numpy as np, supervision
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

print("supervision", supervision.__version__, "pycocotools", version("pycocotools"))
Image.new("RGB", (100, 100)).save("picture.png")


def encoded(mask):
    code = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


def exported(masks):
    """The COCO file of one picture with these masks, as supervision writes it, after it has read it back itself."""
    truth = supervision.Detections(xyxy=supervision.mask_to_xyxy(masks), mask=masks, class_id=np.zeros(len(masks), int))
    data = supervision.DetectionDataset(classes=["part"], images=["picture.png"], annotations={"picture.png": truth})
    data.as_coco(annotations_path="truth.json")
    back = supervision.DetectionDataset.from_coco(".", "truth.json", force_masks=True)
    assert (back[0][2].mask == masks).all()
    return json.load(open("truth.json"))


def precision(file, found):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(file)
        truth.createIndex()
        image, category = file["images"][0]["id"], file["categories"][0]["id"]
        results = [{"image_id": image, "category_id": category, "segmentation": encoded(mask), "score": 0.9} for mask in found]
        run = COCOeval(truth, truth.loadRes(results), "segm")
        run.evaluate(), run.accumulate(), run.summarize()
    return run.stats[0]


def own(file, masks):
    file = copy.deepcopy(file)
    for annotation, mask in zip(file["annotations"], masks, strict=True):
        annotation.update(segmentation=encoded(mask), iscrowd=0, area=int(mask.sum()))
    return file


for side in (40, 20, 8):
    squares = np.zeros((2, 100, 100), bool)
    squares[0, 5 : 5 + side, 5 : 5 + side] = squares[1, 50 : 50 + side, 50 : 50 + side] = True
    file = exported(squares)
    with_export, with_own = precision(file, squares), precision(own(file, squares), squares)
    print(f"  perfect masks of {side} by {side}: average precision {with_export:.2f} by the exported file, {with_own:.2f} by run lengths")
    assert with_own > 0.999
    assert with_export < (0.99, 0.95, 0.7)[(40, 20, 8).index(side)] + 0.02, "exported polygons keep their size now"

objects = np.zeros((4, 100, 100), bool)
objects[0, 5:45, 5:45] = objects[1, 5:45, 55:95] = True
objects[2, 55:95, 5:45] = objects[3, 55:95, 55:95] = True
objects[2, 72:76, 5:45] = False  # behind a bar: two parts
objects[3, 65:85, 65:85] = False  # a frame: a hole
file = exported(objects)
crowd = [annotation["iscrowd"] for annotation in file["annotations"]]
everything, simple = precision(file, objects), precision(file, objects[:2])
print(f"  two squares, one object in two parts, one frame: iscrowd {crowd}")
print(f"  average precision of a model that finds all four {everything:.2f}, that finds the squares only {simple:.2f}; by run lengths {precision(own(file, objects), objects):.2f} and {precision(own(file, objects), objects[:2]):.2f}")
assert crowd == [0, 0, 1, 1] and simple == everything, "objects in parts and with holes count now"
assert precision(own(file, objects), objects[:2]) < 0.6
PY
venv/bin/python measure.py
