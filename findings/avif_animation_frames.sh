#!/usr/bin/env bash
# What: an animated AVIF of ten frames is one frame to PyAV's decode(video=0) and to imageio's "pyav" plugin, and no frame at
#   all to OpenCV's VideoCapture, which opens it and says that it has one. The file holds two streams, a still cover first and
#   the animation second. Pillow, cv2.imreadanimation and PyAV's second stream give all ten.
# Why it surprises: "the first video stream" is what every example decodes, and it is right for GIF, animated PNG and film
#   files; nothing is raised, and a clip of one frame is a valid clip.
# Who is hurt: video classifiers fed from folders of mixed containers: clips of AVIF become stills, and whatever is learnt of
#   motion is learnt of the others.
# Instead: decode the stream with the most frames (max(container.streams.video, key=lambda s: s.frames)), or Pillow.
# Source: https://pyav.basswood-io.com/docs/stable/api/container.html (decode(video=0): "first video stream");
#   libavif's layout of image sequences (a primary item beside the track).
# Guessed beforehand: all readers give ten frames.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check av==18.1.0 pillow==13.0.0 opencv-python-headless==5.0.0.93 \
  imageio==2.38.1 numpy==2.4.6
venv/bin/python - 2>/dev/null <<'PY'
import av, cv2, imageio, imageio.v3, numpy as np, PIL
from PIL import Image

print("PyAV", av.__version__, "OpenCV", cv2.__version__, "Pillow", PIL.__version__, "imageio", imageio.__version__)
frames = [Image.fromarray(np.full((64, 64, 3), 20 * number, np.uint8)) for number in range(10)]
found = {}
for suffix in ("gif", "avif"):
    file = f"clip.{suffix}"
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=40)
    row = {"Pillow": Image.open(file).n_frames, "imread_animation": len(cv2.imreadanimation(file)[1].frames)}
    with av.open(file) as container:
        row["PyAV, streams"] = [stream.frames for stream in container.streams.video]
        row["PyAV"] = sum(1 for _ in container.decode(video=0))
    with av.open(file) as container:
        longest = max(container.streams.video, key=lambda stream: stream.frames)
        row["PyAV, longest stream"] = sum(1 for _ in container.decode(longest))
    capture = cv2.VideoCapture(file)
    row["VideoCapture says"], row["VideoCapture"] = capture.get(cv2.CAP_PROP_FRAME_COUNT), 0
    while capture.read()[0]:
        row["VideoCapture"] += 1
    row["imageio, pyav"] = len(imageio.v3.imread(file, plugin="pyav"))
    found[suffix] = row
    print(suffix, row)
gif, avif = found["gif"], found["avif"]
assert gif["Pillow"] == gif["PyAV"] == gif["VideoCapture"] == gif["imageio, pyav"] == 10
assert avif["Pillow"] == avif["imread_animation"] == avif["PyAV, longest stream"] == 10
assert avif["PyAV"] == avif["imageio, pyav"] == 1, "PyAV reads the animation now"
assert avif["VideoCapture"] < 2, "OpenCV reads the animation now"
PY
