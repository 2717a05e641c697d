"""Other inference engines on a folder of JPEG files: the other side of extraction.py, each in a process of its own.

    python benchmarks/peers.py onnxruntime|openvino|torch FOLDER NETWORK.onnx NAME SIDE BATCH

It names its rows on a line, then runs the row that each line of its input names. ONNX Runtime and OpenVINO read what
Keras exports and get tlkit's decoded batches; PyTorch's row is the network of `transformers`, channels last, fed by
Pillow in a DataLoader of as many processes as there are cores.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlkit.base.machine import usable_cores
from tlkit.data.dataset import InputContract
from tlkit.data.decode import batches

Work = Callable[[], object]


class Task(NamedTuple):
    """What to compute."""

    files: list[Path]
    network: str
    name: str
    side: int
    batch_size: int

    def pixels(self) -> Iterator[np.ndarray]:
        """float32 batches, decoded by tlkit."""
        contract = InputContract(height=self.side, width=self.side)
        return (batch.images.astype(np.float32) for batch in batches(self.files, contract, self.batch_size))


def onnx_rows(task: Task) -> dict[str, Work]:
    """ONNX Runtime on its processor provider."""
    import onnxruntime

    session = onnxruntime.InferenceSession(task.network, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def work() -> None:
        for images in task.pixels():
            session.run(None, {name: images})

    return {"ONNX Runtime, float32": work}


def openvino_rows(task: Task) -> dict[str, Work]:
    """OpenVINO, a batch after the other on all cores."""
    import openvino

    model = openvino.Core().read_model(task.network)
    rows = {}
    for precision, hint in (("float32", "f32"), ("bfloat16", "bf16")):
        compiled = openvino.Core().compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
        )

        def work(compiled: object = compiled) -> None:
            queue = openvino.AsyncInferQueue(compiled)
            for images in task.pixels():
                queue.start_async({0: images})
            queue.wait_all()

        rows[f"OpenVINO, {precision}"] = work
    return rows


class Decoded:
    """Files to normalised tensors (3, H, W), as PyTorch's tutorials do it."""

    def __init__(self, task: Task) -> None:
        self.files, self.side = task.files, task.side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> object:
        import torch

        with Image.open(self.files[index]) as image:
            resized = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


def torch_rows(task: Task) -> dict[str, Work]:
    """PyTorch, channels last, inference mode."""
    import torch
    import transformers

    known = {
        "resnet50": lambda: transformers.ResNetModel(transformers.ResNetConfig()),
        "mobilenetv2:alpha=0.35": lambda: transformers.MobileNetV2Model(
            transformers.MobileNetV2Config(depth_multiplier=0.35)
        ),
    }
    if task.name not in known:
        raise ImportError(f"transformers has no {task.name}")
    torch.set_num_threads(usable_cores())
    loader = torch.utils.data.DataLoader(
        Decoded(task), batch_size=task.batch_size, num_workers=usable_cores(), persistent_workers=True
    )
    rows = {}
    for precision in ("float32", "bfloat16"):
        kind = getattr(torch, precision)
        network = known[task.name]().eval().to(kind).to(memory_format=torch.channels_last)

        def work(network: object = network, kind: object = kind) -> None:
            with torch.inference_mode():
                for images in loader:
                    network(images.to(kind).contiguous(memory_format=torch.channels_last)).pooler_output.float()

        rows[f"PyTorch, {precision}"] = work
    return rows


ENGINES = {"onnxruntime": onnx_rows, "openvino": openvino_rows, "torch": torch_rows}


def main() -> None:
    engine, folder, network, name, side, batch_size = sys.argv[1:]
    task = Task(sorted(Path(folder).iterdir()), network, name, int(side), int(batch_size))
    try:
        rows = ENGINES[engine](task)
    except ImportError as error:
        print(f"> absent {error}", flush=True)
        return
    print("> " + "; ".join(rows), flush=True)
    for line in sys.stdin:
        rows[line.strip()]()
        print("> done", flush=True)


if __name__ == "__main__":
    main()
