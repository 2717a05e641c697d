"""The schema of responses, for /openapi.json and for the tests."""

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
            "description": "Image files, in one or more fields of this name; for a classifier of clips the frames of one clip, in order, or one film.",
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
    """A class and its probability."""

    name: str
    probability: float = Field(ge=0, le=1)


class PredictedNumber(_Plain):
    """A predicted number and its 95 % prediction interval."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


class Neighbour(_Plain):
    """A training image."""

    label: str
    cosine: float = Field(ge=-1, le=1, description="Cosine similarity of the network's features.")
    thumbnail: str | None = Field(description="A data: URL; null if the file can no longer be read.")


class Explanation(_Plain):
    """The explanation of a prediction."""

    method: str
    label: str = Field(description="The explained class, which is the predicted one.")
    overlay: str = Field(description="The image with a heat map of the evidence for the class, as a data: URL.")
    blank: bool = Field(description="Whether no evidence for the class was found in the image.")
    neighbours: list[Neighbour]
    note: str = Field(description="The reason for no neighbours; empty if there are some.")


class ImageResult(_Plain):
    """The result for one image: a prediction or an error."""

    index: int = Field(ge=0, description="Its index in the request.")
    name: str | None = Field(description="Its name in the request.")
    predicted: list[str] | None = None
    probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Calibrated probability of the prediction; null in multi-label tasks, where each label has its own.",
    )
    numbers: list[PredictedNumber] | None = Field(None, description="The predicted numbers, instead of classes.")
    abstained: bool | None = Field(None, description="Whether the classifier abstains.")
    classes: list[ClassProbability] | None = Field(None, description="Most probable first.")
    unfamiliar: bool | None = Field(None, description="Whether it is unlike anything in training.")
    unfamiliarity: float | None = Field(None, ge=0, description="Above 1 is unfamiliar.")
    explanation: Explanation | None = None
    error: Details | None = None


class Results(_Plain):
    """One result per image, in the order of the request."""

    results: list[ImageResult]


class Bounds(_Plain):
    """The limits of a request."""

    image_bytes: int
    request_bytes: int
    images: int
    pixels: int
    requests: int
    seconds: float
    explained: int


class Model(_Plain):
    """The classifier."""

    name: str
    classes: list[str]
    height: int
    width: int
    fit: str
    explains: bool
    limits: Bounds
    facts: dict[str, Any]


class Health(_Plain):
    """The state of the server."""

    status: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of error responses with these statuses."""
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
