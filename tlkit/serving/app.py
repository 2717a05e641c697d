"""The routes of the server."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tlkit.base.machine import __version__
from tlkit.serving import schema
from tlkit.serving.body import read_body, uploads
from tlkit.serving.gate import MEDIA_TYPE, PREDICT, Gate
from tlkit.serving.pages import HtmlPage, docs_page, try_page
from tlkit.serving.pixels import EXPLAINED
from tlkit.serving.problems import RequestProblem, mistake
from tlkit.serving.service import Service

ASKED = frozenset(("top", "explain", "method"))
_NO_STORE = {"Cache-Control": "no-store"}


def build_app(service: Service, *, token: str | None, local: bool, fault: Callable[[BaseException], None]) -> Gate:
    """Build the ASGI application.

    Args:
        service: answers requests.
        token: bearer token that requests must carry; None if none is needed.
        local: whether it listens on the loopback address only.
        fault: called with internal errors.
    """
    app = FastAPI(
        title="tlkit",
        version=__version__,
        description="An image classifier: the predicted class, its calibrated probability, and whether the classifier abstains.",
        docs_url=None,  # FastAPI's own pages load external scripts
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    _asking(app, service)  # first, because routes are tried in order
    _pages(app)
    _state(app, service)
    _refusals(app)
    seconds = service.limits.seconds
    return Gate(app, token=token, local=local, seconds=seconds, metrics=service.metrics, fault=fault)


def _asking(app: FastAPI, service: Service) -> None:
    """Add the route for predictions."""

    @app.post(
        PREDICT,
        summary="Predict the classes of one or several images.",
        response_model=schema.Results,
        responses=schema.problems(400, 401, 403, 408, 413, 415, 422, 429, 503),
        openapi_extra=schema.BODY,
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=10_000, description="Number of classes to list for each image.")] = 5,
        explain: Annotated[
            bool, Query(description="Add the evidence for the predicted class and the nearest training images.")
        ] = False,
        method: Annotated[
            Literal["integrated", "gradcam"],
            Query(description="Method of the evidence: integrated gradients on the grid, or Grad-CAM."),
        ] = "integrated",
    ) -> Response:
        if unknown := sorted(set(request.query_params) - ASKED):
            raise RequestProblem(
                "invalid", f"{unknown[0][:80]!r} is not a parameter.", f"known: {', '.join(sorted(ASKED))}."
            )
        if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
            raise RequestProblem("wrong-type", f"The body is encoded as {encoding[:80]!r}.", "send it unencoded.")
        service.ready()
        service.refuse_when_full()  # before reading the body; slow uploads take no place
        declared, kind = request.headers.get("content-length"), request.headers.get("content-type", "")
        body = await read_body(request.stream(), declared, service.limits, service.budget)
        try:
            with service.place():
                images = await uploads(body, kind, service.limits)
                results = await service.answer(images, top, method if explain else None)
        finally:
            service.budget.give_back(len(body))
        return JSONResponse({"results": results}, headers=_NO_STORE)


def _pages(app: FastAPI) -> None:
    """Add the HTML pages."""
    pages: dict[str, HtmlPage] = {"/": try_page()}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _html(pages["/"])

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        if "/docs" not in pages:
            pages["/docs"] = docs_page(app.openapi())
        return _html(pages["/docs"])


def _state(app: FastAPI, service: Service) -> None:
    """Add the routes on the state of the server and the classifier."""

    @app.get("/healthz", summary="Whether the process responds.", response_model=schema.Health)
    async def healthz() -> Response:
        return JSONResponse({"status": "alive"}, headers=_NO_STORE)

    @app.get(
        "/readyz",
        summary="Whether the network is loaded and warmed up.",
        response_model=schema.Health,
        responses=schema.problems(503),
    )
    async def readyz() -> Response:
        service.ready()
        return JSONResponse({"status": "ready"}, headers=_NO_STORE)

    @app.get(
        "/metrics",
        summary="Metrics in Prometheus format.",
        response_class=Response,
        responses={200: {"content": {MEDIA_TYPE.partition(";")[0]: {}}}, **schema.problems(401)},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=MEDIA_TYPE, headers=_NO_STORE)

    @app.get(
        "/v1/model",
        summary="The classifier, its classes and the request limits.",
        response_model=schema.Model,
        responses=schema.problems(401, 503),
    )
    async def model() -> Response:
        subject = service.ready()
        contract = subject.contract
        found = {
            "name": subject.name,
            "classes": list(subject.classes),
            "height": contract.height,
            "width": contract.width,
            "fit": contract.fit,
            "explains": subject.explain is not None,
            "limits": {**asdict(service.limits), "explained": EXPLAINED},
            "facts": subject.facts,
        }
        return JSONResponse(found, headers=_NO_STORE)


def _html(page: HtmlPage) -> Response:
    return HTMLResponse(page.content, headers={"Content-Security-Policy": page.policy, **_NO_STORE})


def _refusals(app: FastAPI) -> None:
    """Add handlers that answer every error as problem details."""

    def answer_of(problem: RequestProblem) -> Response:
        return Response(problem.body(), status_code=problem.status, headers=problem.headers())

    @app.exception_handler(RequestProblem)
    async def own(_: Request, problem: RequestProblem) -> Response:
        return answer_of(problem)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer_of(RequestProblem("invalid", f"{'.'.join(map(str, first['loc']))}: {first['msg']}."))

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            answer = answer_of(RequestProblem("wrong-method", f"{request.method} is not supported at this address."))
            answer.headers.update(error.headers or {})
            return answer
        return answer_of(RequestProblem("not-found" if error.status_code == 404 else "bad-request", f"{error.detail}."))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return answer_of(RequestProblem("bad-request", "The body was not sent completely."))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        return answer_of(mistake(error))
