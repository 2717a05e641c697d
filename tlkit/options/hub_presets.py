"""The KerasHub vision transformers that tlkit converts: figures to choose them by, and their licences.

Figures are the authors' own, none were measured here: accuracy on ImageNet-1k's validation images of a linear
classifier on frozen features for DINOv2 (README of facebookresearch/dinov2), of the whole network for DeiT (README of
facebookresearch/deit) and for Swin trained on ImageNet-1k alone (README of microsoft/Swin-Transformer). Presets without
such a figure have none.
"""

from typing import NamedTuple


class Licence(NamedTuple):
    """The licence of the weights of a family.

    Args:
        family: prefix of the names of its presets.
        name: name of the licence.
        address: URL of its text.
    """

    family: str
    name: str
    address: str

    @property
    def sentence(self) -> str:
        """The notice shown before a download."""
        return f"by downloading it you agree to its licence, {self.name}: {self.address}" if self.address else self.name


_APACHE = "https://www.apache.org/licenses/LICENSE-2.0"
LICENCES = (
    Licence(
        "dinov3",
        "the DINOv3 License of Meta, with terms of its own",
        "https://ai.meta.com/resources/models-and-libraries/dinov3-license",
    ),
    Licence(
        "medsiglip",
        "the Health AI Developer Foundations terms of use",
        "https://developers.google.com/health-ai-developer-foundations/terms",
    ),
    *(Licence(family, "Apache-2.0", _APACHE) for family in ("dinov2", "vit", "deit", "siglip")),
    Licence("swin", "MIT", "https://github.com/microsoft/Swin-Transformer/blob/main/LICENSE"),
)
UNKNOWN = Licence("", "its licence is on its page there", "")


def licence_of(preset: str) -> Licence:
    """The licence of a preset by its name; `UNKNOWN` if not in the table."""
    return next((row for row in LICENCES if preset.startswith(row.family)), UNKNOWN)


class PresetRow(NamedTuple):
    """One KerasHub preset.

    Args:
        name: as typed after `hub:`.
        patch: side of its patches in pixels, of which image sides are multiples (for Swin, see docs/transformers.md).
        parameters: parameters of the image encoder, in millions.
        accuracy: published ImageNet accuracy, in percent; None without a figure.
        measured: what the accuracy is of: `linear`, a linear classifier, or `whole`, the whole network.
    """

    name: str
    patch: int
    parameters: float
    accuracy: float | None
    measured: str


# name, patch, million parameters, published ImageNet accuracy
_ROWS = """
dinov2_small                               14   22.1  81.1 linear
dinov2_base                                14   86.6  84.5 linear
dinov2_large                               14  304.4  86.3 linear
dinov2_giant                               14 1136.5  86.5 linear
dinov2_with_registers_small                14   22.1  80.9 linear
dinov2_with_registers_base                 14   86.6  84.6 linear
dinov2_with_registers_large                14  304.4  86.7 linear
dinov2_with_registers_giant                14 1136.5  87.1 linear
deit_tiny_distilled_patch16_224_imagenet   16    5.5  74.5 whole
deit_small_distilled_patch16_224_imagenet  16   21.7  81.2 whole
deit_base_distilled_patch16_224_imagenet   16   85.8  83.4 whole
deit_base_distilled_patch16_384_imagenet   16   86.1  85.2 whole
dinov3_vit_small_lvd1689m                  16   21.6     - -
dinov3_vit_small_plus_lvd1689m             16   28.7     - -
dinov3_vit_base_lvd1689m                   16   85.7     - -
dinov3_vit_large_lvd1689m                  16  303.1     - -
vit_base_patch16_224_imagenet              16   85.8     - -
vit_base_patch16_224_imagenet21k           16   85.8     - -
vit_large_patch16_224_imagenet21k          16  303.3     - -
swin_tiny_patch4_window7_224                4   27.5  81.2 whole
swin_small_patch4_window7_224               4   48.8  83.2 whole
swin_base_patch4_window7_224                4   86.7     - -
swin_base_patch4_window12_384               4   86.9     - -
swin_large_patch4_window7_224               4  195.0     - -
swin_large_patch4_window12_384              4  195.2     - -
siglip_base_patch16_224                    16   92.9     - -
siglip2_base_patch16_224                   16   92.9     - -
siglip2_base_patch32_256                   32   94.6     - -
siglip2_large_patch16_256                  16  316.0     - -
"""


def _read_row(line: str) -> PresetRow:
    name, patch, parameters, accuracy, measured = line.split()
    return PresetRow(
        name, int(patch), float(parameters), None if accuracy == "-" else float(accuracy), measured.strip("-")
    )


HUB_PRESETS = tuple(map(_read_row, _ROWS.strip().splitlines()))
