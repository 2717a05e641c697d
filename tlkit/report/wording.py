"""What a sample is called. Sentences of this package speak of images; of a result on clips every one of them says clip.

Templates are reworded in what their authors wrote, never in what is put into them; sentences made elsewhere with the names
of classes kept as they are.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from jinja2 import Environment
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from tlkit.evaluation.results import CLIP

T = TypeVar("T")

_NOUN = re.compile(r"(?<![\w.\-/#])((?:an |An )?)([iI])mage(s?)(?![\w\-/=]|\.\w)")


def in_clips(text: str, kept: Collection[str] = ()) -> str:
    """A sentence on images as one on clips.

    Args:
        text: the sentence.
        kept: names, of classes or files, which stay as they are.
    """
    names = "|".join(map(re.escape, sorted(filter(None, kept), key=len, reverse=True)))
    parts = re.split(f"(?<!\\w)({names})(?!\\w)", text) if names else [text]
    return "".join(part if place % 2 else _NOUN.sub(_clip, part) for place, part in enumerate(parts))


def _clip(found: re.Match[str]) -> str:
    article = found[1].replace("n ", " ")
    return f"{article}{'C' if found[2] == 'I' else 'c'}lip{found[3]}"


def said_of(sample: str, value: T, kept: Collection[str] = ()) -> T:
    """A sentence, or every sentence in tuples, lists and dataclasses, as one on such samples; anything else as it is."""
    if sample != CLIP:
        return value
    found: Any = value
    if isinstance(value, str):
        found = type(value)(in_clips(value, kept))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        found = type(value)(*(said_of(sample, one, kept) for one in value))
    elif isinstance(value, (tuple, list)):
        found = type(value)(said_of(sample, one, kept) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        changed = {spec.name: said_of(sample, getattr(value, spec.name), kept) for spec in fields(value)}
        found = replace(value, **changed)
    return found


class OfClips(Extension):
    """Rewords the text and the strings of templates as they are compiled."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The tokens of a template, reworded."""
        for token in stream:
            if token.type in ("data", "string"):
                token = Token(token.lineno, token.type, in_clips(token.value))
            yield token
