#!/usr/bin/env bash
# What: importing MNN's converter, or running mnnconvert, runs "pip install -U aliyun-log-python-sdk" by itself, with the
#   first pip on the PATH, whichever Python that belongs to. With it each conversion is reported to a log service: sizes,
#   arguments, an identifier of the model and of the machine. In an environment with protobuf 7, as TensorFlow and ONNX have
#   it, protobuf is set back to 5.
# Why it surprises: an import installs packages, without asking and without a word in the documentation of the converter; a
#   virtual environment does not contain it, since the command "pip" is that of the shell, not of the running Python.
# Who is hurt: locked environments and images that must be reproducible; TensorFlow or onnx in the same environment, that no
#   longer import after a conversion; programs without network, which wait for it; whoever may not report.
# Instead: convert in a container without network that is thrown away, or with the converter built from source; a "pip" that
#   does nothing, first on the PATH, keeps both away and the conversion works (that is what this script does).
# Source: https://github.com/alibaba/MNN/blob/2.4.0/docs/tools/python.md (the use of mnnconvert, no word of it);
#   MNN/tools/utils/log.py in the package.
# Guessed beforehand: no; expected were differences in numbers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check MNN==3.6.1 onnx==1.23.2 numpy==2.4.6
mkdir shell  # a pip that writes down what it is asked for and does nothing
printf '#!/bin/sh\necho "pip $*" >> "%s/asked.txt"\nexit 1\n' "$work" > shell/pip
chmod +x shell/pip
cp shell/pip shell/pip3
venv/bin/python - <<'PY'
import onnx
from onnx import TensorProto, helper

ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "model.onnx")
print("onnx", onnx.__version__)
PY
cat > here.py <<'PY'
import sys, urllib.request


def nobody(*_, **__):
    raise OSError("no network in this script")


urllib.request.urlopen = nobody
import MNN
from MNN.tools import mnnconvert

print("MNN", MNN.version(), "imported; the reporter is", "off" if mnnconvert.mnn_logger is None else "on")
sys.argv = "mnnconvert -f ONNX --modelFile model.onnx --MNNModel model.mnn --bizCode x".split()
mnnconvert.main()
PY
PATH="$work/shell:$PATH" venv/bin/python here.py > said.txt 2>&1
grep "reporter is" said.txt
echo "asked for: $(sort -u asked.txt)"
grep -q "^pip install -U aliyun-log-python-sdk$" asked.txt
test -s model.mnn && echo "the model is converted nevertheless"
venv/bin/python - <<'PY'
import base64, json, pathlib, re, subprocess, sys

text = next(pathlib.Path("venv").rglob("MNN/tools/utils/log.py")).read_text()
hosts = [base64.urlsafe_b64decode(code).decode() for code in re.findall(r"b64decode\(b'([^']+)'\)", text)]
print("written down in the package, encoded:", [host.split("/")[2] for host in hosts if host.startswith("https")])
assert any("aliyuncs.com" in host for host in hosts)
pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
subprocess.run([*pip, "install", "-qq", "protobuf==7.36.2"], check=True)
plan = [*pip, "install", "-qq", "--dry-run", "--report", "plan.json", "-U", "aliyun-log-python-sdk==0.9.52"]
subprocess.run(plan, check=True, capture_output=True)
wanted = {one["metadata"]["name"]: one["metadata"]["version"] for one in json.loads(pathlib.Path("plan.json").read_text())["install"]}
print("pip would install", len(wanted), "packages, among them protobuf", wanted.get("protobuf"), "in place of 7.36.2")
assert wanted["protobuf"].startswith("5.")
PY
