"""What answers look like: for /openapi.json, and for tests that hold the answers against it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tlkit.serving.body import Base64Images
from tlkit.serving.problems import KINDS, MEDIA_TYPE

FORM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {
            "description": "Image files, one or more fields of this name; of a classifier of clips the frames of one clip, in order, or one film.",
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "format": "binary"},
        }
    },
}


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Details(_Plain):
    """Problem details (RFC 9457) with a remedy."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str


class ClassProbability(_Plain):
    """A class and how probable it is."""

    name: str
    probability: float = Field(ge=0, le=1)


class PredictedNumber(_Plain):
    """A number, and the interval that holds the true one 95 times in 100."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


class Neighbour(_Plain):
    """A training image."""

    label: str
    cosine: float = Field(ge=-1, le=1, description="How alike it is in the eyes of the network.")
    thumbnail: str | None = Field(description="A data: URL; null where the file can no longer be read.")


class Explanation(_Plain):
    """Why, in pictures."""

    method: str
    label: str = Field(description="The class that is explained: the predicted one.")
    overlay: str = Field(description="The image with what speaks for the class over it, as a data: URL.")
    blank: bool = Field(description="Whether nothing in the image speaks for the class.")
    neighbours: list[Neighbour]
    note: str = Field(description="Why there are no neighbours; empty where there are.")


class ImageResult(_Plain):
    """What is known of one image: an answer, or an error."""

    index: int = Field(ge=0, description="Its place in the request.")
    name: str | None = Field(description="As its sender called it.")
    predicted: list[str] | None = None
    probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Of what is predicted, calibrated; null where an image may have several labels: each has its own.",
    )
    numbers: list[PredictedNumber] | None = Field(
        None, description="Where numbers are predicted, in the place of classes."
    )
    abstained: bool | None = Field(None, description="Whether the classifier would rather not answer.")
    classes: list[ClassProbability] | None = Field(None, description="The most probable first.")
    unfamiliar: bool | None = Field(None, description="Whether it is unlike anything in training.")
    unfamiliarity: float | None = Field(None, ge=0, description="Above 1 is unfamiliar.")
    explanation: Explanation | None = None
    error: Details | None = None


class Results(_Plain):
    """One result for each image, in the order of the request."""

    results: list[ImageResult]


class Bounds(_Plain):
    """What a request may ask for."""

    image_bytes: int
    request_bytes: int
    images: int
    pixels: int
    requests: int
    seconds: float
    explained: int


class Model(_Plain):
    """The classifier that answers."""

    name: str
    classes: list[str]
    height: int
    width: int
    fit: str
    explains: bool
    limits: Bounds
    facts: dict[str, Any]


class Health(_Plain):
    """How the server is."""

    status: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says about refusals with these statuses."""
    content = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Details"}}}}
    titles = {status: "; ".join(kind.title for kind in KINDS.values() if kind.status == status) for status in statuses}
    return {status: {"description": title, **content} for status, title in titles.items()}


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": FORM},
            "application/json": {"schema": Base64Images.model_json_schema()},
        },
    }
}
