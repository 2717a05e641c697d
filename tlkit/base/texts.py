"""Very many strings, such as the paths of a million files, in one piece of memory instead of an object each."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload


class Texts(Sequence[str]):
    """Strings that do not change, a third of the size of a list of them; each is made anew when it is asked for.

    Equal to any sequence of the same strings. Whatever Python can hold comes back, names of files that are no UTF-8 as well.

    Args:
        content: UTF-8, one after the other, surrogates as they are.
        ends: int64, where each ends.
    """

    __slots__ = ("content", "ends")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, content: bytes, ends: "array[int]") -> None:
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Of strings, which are looked at one after the other."""
        if isinstance(texts, Texts):
            return texts
        content, ends = bytearray(), array("q")
        for text in texts:
            content += text.encode("utf-8", "surrogatepass")
            ends.append(len(content))
        return cls(bytes(content), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self.ends:
            yield self.content[start:end].decode("utf-8", "surrogatepass")
            start = end

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        if isinstance(index, slice):
            return Texts.of(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]
        start = self.ends[place - 1] if place else 0
        return self.content[start : self.ends[place]].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3])) + ", ..." * (len(self) > 3)
        return f"<{len(self)} texts: {shown}>"


def taken(texts: Sequence[str], places: Iterable[int]) -> Sequence[str]:
    """Some of them, in the order of their places, kept as they were kept."""
    found = (texts[place] for place in places)
    return Texts.of(found) if isinstance(texts, Texts) else list(found)
