"""Extract the images from the body of a request: a form with files, or JSON with base64."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tlkit.serving.pixels import PART_HEADERS, Limits, megabytes
from tlkit.serving.problems import RequestProblem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

IN_A_THREAD = 1 << 18  # bodies above this many bytes are parsed in a thread, so as not to delay other requests
NAME = 200  # maximum characters of a file name in the answer


class Upload(NamedTuple):
    """One uploaded image: its name, None without one, and its file."""

    name: str | None
    content: bytes


class Base64Images(BaseModel):
    """Images as JSON."""

    model_config = ConfigDict(extra="forbid")
    images: Annotated[
        list[str],
        Field(
            min_length=1,
            description="Image files as base64 or data: URLs; results keep their order. For a classifier of clips: the frames of one clip, or one film.",
        ),
    ]


class BodyBudget:
    """Counts the bytes of request bodies in memory.

    Args:
        most: the maximum.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, count: int) -> None:
        """Reserve bytes.

        Raises:
            RequestProblem: if there would be too many.
        """
        if self.held + count > self.most:
            raise RequestProblem("too-busy", "The memory reserved for images is taken by those of other requests.")
        self.held += count

    def give_back(self, count: int) -> None:
        """Release bytes."""
        self.held -= count


async def read_body(chunks: AsyncIterator[bytes], declared: str | None, limits: Limits, budget: BodyBudget) -> bytes:
    """Read the whole body, refused as soon as it is known to be too large; its bytes remain reserved in `budget`.

    Args:
        chunks: the body's chunks as they arrive.
        declared: the header Content-Length.
        limits: the server's limits.
        budget: shared by all requests.

    Raises:
        RequestProblem: if there are too many bytes.
    """
    if declared and int(declared) > limits.request_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async for chunk in chunks:
            if len(body) + len(chunk) > limits.request_bytes:
                raise _too_large(limits)
            budget.take(len(chunk))
            body += chunk
        return bytes(body)
    except BaseException:
        budget.give_back(len(body))
        raise


def _too_large(limits: Limits) -> RequestProblem:
    return RequestProblem(
        "body-too-large", f"The body has more than {megabytes(limits.request_bytes)}, which is the limit."
    )


async def uploads(body: bytes, content_type: str, limits: Limits) -> list[Upload]:
    """The images of a body, one or more.

    Raises:
        RequestProblem: for another type, a malformed body, no images or too many.
    """
    kind, options = parse_options_header(content_type)
    read = _READERS.get(kind)
    if read is None:
        named = kind.decode("latin-1")[:80]
        raise RequestProblem("wrong-type", f"The body is {named!r}." if named else "The request has no Content-Type.")
    if len(body) >= IN_A_THREAD:
        return await asyncio.to_thread(read, body, options, limits)
    return read(body, options, limits)


def _refuse_many(count: int, limits: Limits) -> None:
    if count > limits.images:
        raise RequestProblem(
            "too-many-images", f"The request has more than {limits.images} images, which is the limit."
        )


def _json(body: bytes, options: dict[bytes, bytes], limits: Limits) -> list[Upload]:
    try:
        images = Base64Images.model_validate_json(body).images
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise RequestProblem("invalid", f"{place}: {first['msg']}.", 'send {"images": ["BASE64", ...]}.') from None
    _refuse_many(len(images), limits)
    return [Upload(None, _decoded(text, f"images.{index}")) for index, text in enumerate(images)]


def _decoded(text: str, place: str) -> bytes:
    """Decode base64, with or without line breaks and a prefix such as `data:image/png;base64,`."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise RequestProblem("invalid", f"{place} is not base64.", "send the bytes of the file as base64.") from None


def _form(body: bytes, options: dict[bytes, bytes], limits: Limits) -> list[Upload]:
    form = _Form(body, limits)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), form.callbacks(), max_header_count=PART_HEADERS)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestProblem("invalid", f"The form is not well formed: {' '.join(str(error).split())}.") from None
    if not form.ended:
        raise RequestProblem("invalid", "The form is not well formed: it is incomplete.")
    if not form.found:
        raise RequestProblem("invalid", "The form has no image.", "send files in fields named 'image'.")
    return form.found


class _Form:
    """Callbacks of the form parser that collect the files."""

    def __init__(self, body: bytes, limits: Limits) -> None:
        self.body, self.limits, self.found, self.ended = body, limits, list[Upload](), False
        self._begin()

    def callbacks(self) -> "MultipartCallbacks":
        """The callbacks by name."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        self.name, self.value, self.disposition = bytearray(), bytearray(), b""
        self.content: list[bytes] = []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _header_end(self) -> None:
        if self.name.lower() == b"content-disposition":
            self.disposition = bytes(self.value)
        self.name, self.value = bytearray(), bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.content.append(data[start:end])

    def _end(self) -> None:
        options = parse_options_header(self.disposition)[1]
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field not in ("image", "images"):
            raise RequestProblem("invalid", f"The form has a field {field[:NAME]!r}.", "name every field 'image'.")
        _refuse_many(len(self.found) + 1, self.limits)
        name = options.get(b"filename")
        file_name = None if name is None else name.decode("utf-8", "replace")[:NAME]
        self.found.append(Upload(file_name, b"".join(self.content)))

    def _all(self) -> None:
        self.ended = True


_READERS = {b"multipart/form-data": _form, b"application/json": _json}
