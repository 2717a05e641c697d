"""The kinds of request errors, one row each, as problem details (RFC 9457)."""

import json
from typing import Any, NamedTuple

MEDIA_TYPE = "application/problem+json"


class ProblemKind(NamedTuple):
    """A kind of problem.

    Args:
        status: HTTP status.
        title: what went wrong, the same for every problem of the kind.
        remedy: what to do, unless the problem gives its own.
    """

    status: int
    title: str
    remedy: str


KINDS = {
    "bad-request": ProblemKind(400, "The request is not valid HTTP", "/docs describes every request."),
    "wrong-host": ProblemKind(
        400, "The request is for another host", "use 127.0.0.1 or localhost; behind a proxy, use a token."
    ),
    "no-token": ProblemKind(401, "A token is needed", "send the header 'Authorization: Bearer TOKEN'."),
    "wrong-token": ProblemKind(401, "The token is wrong", "ask the operator of this server for it."),
    "cross-site": ProblemKind(
        403, "The request comes from another site's page", "use this server's own page, or a program."
    ),
    "not-found": ProblemKind(404, "There is nothing here", "/docs describes every request."),
    "wrong-method": ProblemKind(405, "The method is not supported here", "see /docs for the methods of each address."),
    "too-slow": ProblemKind(408, "The request took too long", "send less at once, or use a faster connection."),
    "body-too-large": ProblemKind(413, "The request is too large", "send fewer or smaller images at once."),
    "image-too-large": ProblemKind(413, "The image file is too large", "send a smaller or more compressed file."),
    "too-many-pixels": ProblemKind(413, "The image has too many pixels", "reduce it before sending it."),
    "too-many-images": ProblemKind(
        413,
        "There are too many images",
        "spread images over several requests; for a clip, which is one request, serve with a larger --max-images.",
    ),
    "wrong-type": ProblemKind(
        415, "The body is of an unsupported type", "send multipart/form-data or application/json; see /docs."
    ),
    "not-an-image": ProblemKind(
        415, "The file is not an image that can be read", "send a JPEG, PNG, WebP or another image file."
    ),
    "invalid": ProblemKind(422, "The request is not as expected", "see /docs for the expected form."),
    "too-busy": ProblemKind(429, "Too many requests at the same time", "try again in a moment."),
    "header-too-large": ProblemKind(431, "The head of the request is too large", "send fewer and shorter headers."),
    "internal": ProblemKind(500, "The server failed", "its log has the details; please report it."),
    "no-films": ProblemKind(
        501, "This server cannot read films", "send the frames, or ask its operator to install tlkit's extra `video`."
    ),
    "not-ready": ProblemKind(503, "The server is not ready", "try again in a moment; /readyz says when."),
}
RETRY_SECONDS = {"too-busy": 1, "not-ready": 2}


class RequestProblem(Exception):
    """Raised to refuse a request or one of its images.

    Args:
        kind: a row of `KINDS`.
        detail: what is wrong, as a sentence; never contains a path of this machine.
        remedy: what to do; default: that of the kind.
    """

    def __init__(self, kind: str, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail
        self.status = KINDS[kind].status
        self.remedy = remedy or KINDS[kind].remedy

    def as_json(self) -> dict[str, Any]:
        """The problem details: type, title, status, detail, remedy."""
        return {
            "type": f"/docs#{self.kind}",
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
        }

    def headers(self) -> dict[str, str]:
        """The HTTP headers of the response."""
        found = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if self.kind in RETRY_SECONDS:
            found["Retry-After"] = str(RETRY_SECONDS[self.kind])
        return found

    def body(self) -> bytes:
        """The body of the response."""
        return json.dumps(self.as_json()).encode()


def mistake(error: BaseException) -> RequestProblem:
    """The problem for an internal error; details go to the log, not to the client."""
    problem = RequestProblem("internal", "An unexpected error occurred.")
    problem.__cause__ = error
    return problem
