"""How it is decided what a run ships: on images held out, or by cross-validation."""

from dataclasses import dataclass

from tlkit.core import catalog
from tlkit.core.errors import TlkitError
from tlkit.core.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(Options):
    """What chooses between the probe and what was fine-tuned."""

    validate: str = option(
        "auto",
        "What decides which weights ship: split (images held out), folds (cross-validation, so that every image trains), or "
        "auto, which takes folds where fewer than 30 images would be held out.",
        choices=catalog.VALIDATIONS,
        group="Training",
    )

    def check(self) -> None:
        """Folds leave no validation images, which some options need."""
        super().check()
        if self.validate == "folds":
            for name in VALIDATION_IMAGES:
                if getattr(self, name) is not None:
                    raise TlkitError(
                        f"--{name.replace('_', '-')} needs validation images, and --validate folds holds none out.",
                        "drop one of the two.",
                    )


VALIDATION_IMAGES = ("target_precision", "search", "minutes", "keras_split")
"""Options that need them, or say themselves who validates."""
