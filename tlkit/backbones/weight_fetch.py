"""Bring a file of ImageNet weights to this machine, or say how to get it here. Cold."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from tlkit.backbones.weight_content import header_problem, wrong_with
from tlkit.backbones.weight_files import at_hand, folders
from tlkit.backbones.weight_table import MIRROR, WeightFile, mirror
from tlkit.core.cache_budget import bytes_text
from tlkit.core.download import Patience, download
from tlkit.core.errors import TlkitError
from tlkit.core.offline import is_offline
from tlkit.core.story import Story

OTHERWISE = (
    "or give any weight file with --weights PATH; or start from random weights with --weights none; or use --backbone "
    "nano, whose weights are inside tlkit."
)


def fetch(file: WeightFile, story: Story, patience: Patience | None = None) -> Path:
    """The file on this machine, downloaded and checked if it is not here yet.

    Raises:
        TlkitError: what is here is not that file; offline; it cannot be downloaded, or its folder not be written.
    """
    if found := at_hand(file.name):
        if wrong := wrong_with(file, found):
            raise TlkitError(
                f"{str(found)!r} is not what Keras publishes for {file.spec}: {wrong}.",
                f"delete it and run `tlkit weights fetch {file.spec}`; weights of your own go with --weights PATH.",
            )
        return found
    if is_offline():
        raise TlkitError(
            f"{file.name} (ImageNet weights of {file.spec}) is not in {' or '.join(map(str, folders()))}, and tlkit is "
            "offline.",
            f"where there is a network, `tlkit weights fetch {file.spec}` and `tlkit weights export DIR`; here "
            f"`tlkit weights import DIR`; {OTHERWISE}",
        )
    target = folders()[0] / file.name
    require_writable(target.parent)
    remote = file.remote
    (url,) = remote.urls
    source = f"{mirror()} ({MIRROR})" if mirror() else urlsplit(url).netloc
    story.say(
        f"weights of {file.spec}: {file.name}, about {bytes_text(file.bytes)}, from {source} into {target.parent}. "
        f"Licence: {file.row.licence}."
    )
    download(
        remote,
        target,
        story,
        patience,
        check=header_problem,  # the sums are the download's own to check
        remedy=f"get {file.url} in another way and run `tlkit weights import FILE`; {OTHERWISE}",
    )
    if not file.sums:
        story.say(
            f"{file.name}: Keras states no checksum of it; checked were its size, its header, and the sum that the server "
            "states, if it does."
        )
    return target


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before anything is brought there.

    Raises:
        TlkitError: it explains KERAS_HOME.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "no permission"
    except OSError as error:
        reason = error.strerror or str(error)
    setting = "as KERAS_HOME says" if os.environ.get("KERAS_HOME") else "KERAS_HOME is not set"
    raise TlkitError(
        f"weights are kept in {str(folder)!r} ({setting}), which cannot be written: {reason}.",
        "set KERAS_HOME to a folder of yours: KERAS_HOME=/path/to/keras; weights lie in its subfolder models.",
    )
