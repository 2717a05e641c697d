"""The options of `tlkit export` and `tlkit verify`."""

from dataclasses import dataclass

from tlkit.core.errors import TlkitError
from tlkit.core.options import Options, argument, option

EXPORT_FORMATS = ("keras", "savedmodel", "onnx", "litert", "litert-int8", "openvino")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Options):
    """`tlkit export`: a classifier to folders that other runtimes run without tlkit."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    format: tuple[str, ...] = option(
        ("keras",),
        "What to write, comma-separated; each gets a folder of its name in --out.",
        choices=EXPORT_FORMATS,
        group="Export",
    )
    out: str = option("exported", "The folder to write into.", group="Output")
    check_images: int = option(
        200,
        "Images of the run's test (else validation) split on which decisions and accuracy are compared; 0 for none.",
        low=0,
        high=100_000,
        group="Export",
    )
    calibration_images: int = option(
        200, "Training images of the run that litert-int8 finds its ranges on.", low=10, high=10_000, group="Export"
    )
    min_agreement: float = option(
        0.9,
        "litert-int8 is refused when fewer of the check images than this fraction keep their class.",
        low=0,
        high=1,
        group="Export",
    )
    overwrite: bool = option(False, "Replace artifacts that are there.", group="Output")

    def check(self) -> None:
        """At least one format, none twice; what is quantised is also measured."""
        super().check()
        if not self.format or len(set(self.format)) < len(self.format):
            raise TlkitError(
                f"--format {','.join(self.format)!r} names {'none' if not self.format else 'one twice'}.",
                f"give one or more of {', '.join(EXPORT_FORMATS)}, comma-separated.",
            )
        if "litert-int8" in self.format and not self.check_images:
            raise TlkitError(
                "--check-images 0 leaves nothing to measure what quantisation costs.",
                "give a number above 0, or export without litert-int8.",
            )


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(Options):
    """`tlkit verify`: whether an artifact still gives what it gave when it was exported."""

    artifact: str = argument("Folder that `tlkit export` wrote: the one with contract.json.", exists=True)
