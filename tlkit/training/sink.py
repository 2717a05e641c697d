"""Where training leaves what it has finished, and who hears of it: a run folder, or any other place that keeps files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tlkit.base.files import read_json, write_json

if TYPE_CHECKING:
    from tlkit.training.stages import Material


class Sink(Protocol):
    """What `train` needs of the place it trains in. What was left there before is not computed again."""

    @property
    def folder(self) -> Path:
        """Where checkpoints lie, in `checkpoints/STAGE`, and the journal of a search."""

    def read(self, name: str) -> Any:
        """What was written under a name (`plan`, `balance`, `search`, `choice`), None where nothing was."""

    def write(self, name: str, content: Any) -> None:
        """Keep something JSON-able under a name, whole or not at all."""

    def history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Hears the epochs of all stages so far, see `runs.history`, whenever a stage has ended."""

    def prepared(self, material: "Material") -> None:
        """Hears of the images and their stored rows, before anything is trained on them."""


class FolderSink:
    """The plainest sink: a folder, temporary or not, with a JSON file for each name.

    Args:
        folder: may be empty or not exist yet; training that was stopped there goes on where it was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> Any:
        """As `Sink`."""
        path = self.folder / f"{name}.json"
        return read_json(path) if path.is_file() else None

    def write(self, name: str, content: Any) -> None:
        """As `Sink`."""
        write_json(self.folder / f"{name}.json", content)

    def history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """As `Sink`."""
        self.write("history", list(rows))

    def prepared(self, material: "Material") -> None:
        """Nobody hears of it."""
