"""The input contract: how a file becomes the pixels a network sees; stored with every model."""

from dataclasses import asdict, dataclass
from typing import Any

from tlkit.base.errors import TlkitError

# Increased whenever the same file and contract would give different pixels.
#   1  Pillow for everything
#   2  libjpeg-turbo for ordinary JPEGs, tlkit's own TIFF reader, a resize that is identical on every machine
DECODE_VERSION = 2
KNOWN_VERSIONS = (1, 2)

Levels = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """RGB, 0..255, EXIF-transposed, alpha over white, antialiased bilinear resize to one size.

    Args:
        height: pixels.
        width: pixels.
        fit: `squash` (resize both sides independently), `crop` (resize the short side, crop the centre)
            or `pad` (resize the long side, centre and pad with black).
        version: version of the decode rules, see `DECODE_VERSION`; models and stores keep theirs.
        levels: the sample values that become black and white in files of more than 8 bits per sample; None takes
            what the file declares.

    Raises:
        TlkitError: for a version unknown to this tlkit, or levels that are not a range.
    """

    height: int
    width: int
    fit: str = "squash"
    version: int = DECODE_VERSION
    levels: Levels | None = None

    def __post_init__(self) -> None:
        if self.version not in KNOWN_VERSIONS:
            known = " and ".join(map(str, KNOWN_VERSIONS))
            raise TlkitError(
                f"the images are decoded by rules of version {self.version}, this tlkit knows {known}.",
                "use the tlkit that wrote it.",
            )
        if self.levels is not None:
            low, high = map(float, self.levels)
            if not low < high:
                raise TlkitError(f"levels {low:g},{high:g}: the first must lie below the second.", "--levels 0,4095")
            object.__setattr__(self, "levels", (low, high))

    def as_json(self) -> dict[str, Any]:
        """The fields as a JSON-able dict; `InputContract(**that)` restores it.

        Levels are omitted if None, so that contracts from before levels existed keep their identity.
        """
        fields = asdict(self)
        levels = fields.pop("levels")
        return fields if levels is None else fields | {"levels": list(levels)}
