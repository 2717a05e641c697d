"""The option of low-rank adaptation."""

from dataclasses import dataclass

from tlkit.core.errors import TlkitError
from tlkit.core.options import option
from tlkit.core.training_options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class LoraOptions(TrainingOptions):
    """How it learns, perhaps by factors of low rank alone."""

    lora: int | None = option(
        None,
        "Rank of low-rank adaptation: in the top and all stages dense layers and convolutions learn factors of this rank "
        "instead of their kernels, and all else of the backbone stays frozen; the factors are merged before saving.",
        low=1,
        high=4096,
        group="Training",
    )

    def check(self) -> None:
        """Factors are for layers of the backbone that would learn."""
        super().check()
        if self.lora is None:
            return
        if self.stages == ("head",):
            raise TlkitError(
                f"--lora {self.lora} has no effect with --stages head: the backbone stays frozen.",
                "drop it, or use --stages head,top.",
            )
        if self.batchnorm != "frozen":
            raise TlkitError(
                f"--lora {self.lora} keeps all but its factors frozen, and --batchnorm {self.batchnorm} does not.",
                "drop one of them.",
            )
