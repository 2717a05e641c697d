#!/usr/bin/env bash
# What: with CACHE_DIR, `compile_model("model.xml")` knows a model by the path, the size and the time in whole seconds of its XML file. The
#   weights lie in the .bin file (of ONNX with external data in a file of its own), which is not looked at: a retrained network that
#   comes with the same XML answers with the old weights, from the cache, in every process from then on. So does a model whose files all
#   have one fixed time. `read_model` first, then `compile_model`, has the new weights.
# Why it surprises: the guide says that the cache is used when the model is the same, and retraining changes the model; which of the two ways
#   of compiling was taken changes the answers; nothing warns, and LOADED_FROM_CACHE looks like success.
# Who is hurt: whoever ships retrained weights under the same name where files that did not change keep their time (git, DVC, an incremental
#   copy), or where all files have one time (reproducible images and archives), or within a second (tests).
# Instead: a path of its own for each version, or `core.compile_model(core.read_model(path), device)`; remove the cache with the model.
# Source: OpenVINO 2026.4.1, guide "Model Caching Overview".
# Guessed beforehand: yes for the .bin file alone; not that a new time within the same second, or a fixed one, is not seen either.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6 onnx==1.22.0
cat > make.py <<'PY'
import sys

import numpy as np
import openvino as ov
from openvino import opset13 as op

x = op.parameter([1, 4], np.float32)
weights = op.constant(np.full((4, 2), float(sys.argv[1]), np.float32))
ov.save_model(ov.Model([op.matmul(x, weights, False, False)], [x]), sys.argv[2] + "/m.xml", compress_to_fp16=False)
PY
cat > make_onnx.py <<'PY'
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

weights = numpy_helper.from_array(np.full((4, 1024), float(sys.argv[1]), np.float32), "w")
x, y = (helper.make_tensor_value_info(*each) for each in (("x", TensorProto.FLOAT, [1, 4]), ("y", TensorProto.FLOAT, [1, 1024])))
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save_model(model, sys.argv[2] + "/m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
PY
cat > ask.py <<'PY'
import sys

import numpy as np
import openvino as ov

core = ov.Core()
core.set_property({"CACHE_DIR": "cache"})
file, how = sys.argv[1:]
compiled = core.compile_model(core.read_model(file) if how == "read_model" else file, "CPU")
print(f"{compiled(np.ones((1, 4), np.float32))[0].flat[0]:g} from_cache={compiled.get_property('LOADED_FROM_CACHE')}")
PY
mkdir one two fixed
venv/bin/python make.py 1 one && venv/bin/python make.py 2 two
venv/bin/python make_onnx.py 1 one && venv/bin/python make_onnx.py 2 two
cmp one/m.xml two/m.xml && cmp one/m.onnx two/m.onnx && echo "the XML and the ONNX file of both networks are the same to the byte"
ask() { venv/bin/python ask.py "$@" 2>/dev/null; }
expect() { # name, answer, expected
    echo "$1: $2"
    [ "$2" = "$3" ] || { echo "not what was found before: $3"; exit 1; }
}
venv/bin/python -c 'import openvino; print("OpenVINO", openvino.__version__)' 2>/dev/null
expect "the first network, whose weights add up to 4" "$(ask one/m.xml path)" "4 from_cache=False"
sleep 1.1
cp two/m.bin one/m.bin
expect "weights replaced, which add up to 8, by the path" "$(ask one/m.xml path)" "4 from_cache=True"
expect "the same by read_model" "$(ask one/m.xml read_model)" "8 from_cache=False"
expect "ONNX with external data" "$(ask one/m.onnx path)" "4 from_cache=False"
cp two/m.data one/m.data
expect "its data replaced, by the path" "$(ask one/m.onnx path)" "4 from_cache=True"
cp two/m.* fixed/ && touch -d @1000000000 fixed/*
expect "files of one fixed time" "$(ask fixed/m.xml path)" "8 from_cache=False"
venv/bin/python make.py 3 fixed && touch -d @1000000000 fixed/*
expect "both files written anew with that time, weights that add up to 12" "$(ask fixed/m.xml path)" "8 from_cache=True"
touch fixed/m.xml
expect "with a time of its own" "$(ask fixed/m.xml path)" "12 from_cache=False"
