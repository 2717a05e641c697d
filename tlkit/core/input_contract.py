"""What turns a file into the pixels a network sees; stored with every model, so that none forgets it."""

from dataclasses import asdict, dataclass
from typing import Any

from tlkit.core.fingerprint import sha256_json

# Raised whenever the same file and contract would give other pixels than before.
DECODE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """RGB, 0..255, EXIF-transposed, alpha over white, antialiased bilinear resize to one size.

    Args:
        height: pixels.
        width: pixels.
        fit: `squash` (resize both sides freely), `crop` (resize the short side, cut the centre)
            or `pad` (resize the long side, pad with black to the middle).
        version: of the decode rules themselves, see `DECODE_VERSION`.
    """

    height: int
    width: int
    fit: str = "squash"
    version: int = DECODE_VERSION

    def as_json(self) -> dict[str, Any]:
        """The fields as a JSON-able dict; `InputContract(**that)` restores it."""
        return asdict(self)

    def fingerprint(self) -> str:
        """Hex sha256; equal contracts give equal pixels."""
        return sha256_json(self.as_json())
