"""The body of a request to the images in it: a form with files, or JSON with base64."""

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

IN_A_THREAD = 1 << 18  # bytes from which on reading a body would hold up other requests
NAME = 200  # characters of a file's name that are repeated in the answer


class Upload(NamedTuple):
    """One image as it came: the name that its sender gave it, None without one, and its file."""

    name: str | None
    content: bytes


class Base64Images(BaseModel):
    """Images as JSON."""

    model_config = ConfigDict(extra="forbid")
    images: Annotated[
        list[str],
        Field(
            min_length=1,
            description="Each an image file as base64, or as a data: URL; answers keep their order. Of a classifier of clips the frames of one clip, or one film.",
        ),
    ]


class BodyBudget:
    """Bytes of bodies that are in memory, over all requests.

    Args:
        most: as many as may be.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, count: int) -> None:
        """Count bytes in.

        Raises:
            RequestProblem: there would be too many.
        """
        if self.held + count > self.most:
            raise RequestProblem("too-busy", "The images of other requests fill the memory that is set aside for them.")
        self.held += count

    def give_back(self, count: int) -> None:
        """Count bytes out."""
        self.held -= count


async def read_body(chunks: AsyncIterator[bytes], declared: str | None, limits: Limits, budget: BodyBudget) -> bytes:
    """The whole body; refused as soon as it is known to be too large. Its bytes stay counted in `budget`.

    Args:
        chunks: of the body, as they come.
        declared: the header Content-Length.
        limits: of the server.
        budget: of all requests.

    Raises:
        RequestProblem: more bytes than there may be.
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
        RequestProblem: of another type, not well formed, none or too many.
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
    """Base64, also broken into lines, also after `data:image/png;base64,`."""
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
        raise RequestProblem("invalid", "The form is not well formed: it is cut short.")
    if not form.found:
        raise RequestProblem("invalid", "The form has no image.", "send files in fields named 'image'.")
    return form.found


class _Form:
    """Listens to the parser of a form, and keeps the files in it."""

    def __init__(self, body: bytes, limits: Limits) -> None:
        self.body, self.limits, self.found, self.ended = body, limits, list[Upload](), False
        self._begin()

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
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
