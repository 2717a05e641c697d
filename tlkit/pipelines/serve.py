"""`tlkit serve`: serve a run over an HTTP API, with a page to try it on, until stopped.

tlkit serve run
tlkit serve run --host 0.0.0.0 --port 80 --token-file token.txt
"""

import importlib
import os
import threading
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tlkit.base.errors import TlkitError
from tlkit.base.machine import install
from tlkit.base.story import Silence, Story
from tlkit.options.commands import ServeConfig
from tlkit.runs.folder import finished_model

if TYPE_CHECKING:
    from tlkit.serving.service import ServedClassifier

TOKEN = "TLKIT_SERVE_TOKEN"


def run(config: ServeConfig, story: Story | None = None, *, stop: threading.Event | None = None) -> dict[str, Any]:
    """Serve until SIGTERM, SIGINT or `stop`; pending requests are finished first.

    Returns:
        `url`, and the number of `requests` and `images` answered.

    Raises:
        TlkitError: if the run is not finished, the address cannot be listened on, the token is bad, or the extra is
            missing.
    """
    story, model = story or Silence(), finished_model(config.run)
    server = _server()
    token = _token(config, server)
    listening = server.bind(config.host, config.port)
    with listening:
        url = server.url(listening)
        if token is None and not server.is_loopback(listening):
            story.say(
                f"warning: anybody who reaches {config.host} port {listening.getsockname()[1]} can send requests, "
                f"because there is no token; set {TOKEN} or --token-file"
            )
        story.say(f"listening on {url}, loading {model.name} of {config.run}")
        counted = server.serve(
            partial(_load, config, model, story),
            listening,
            limits=_limits(config),
            token=token,
            wait=config.batch_wait / 1000,
            story=story,
            stop=stop,
        )
    story.say(f"stopped after {counted['requests']} requests and {counted['images']} images")
    return {"url": url, **counted}


def _server() -> ModuleType:
    """The server's module, which needs an extra."""
    try:
        return importlib.import_module("tlkit.serving.server")
    except ModuleNotFoundError as error:
        raise TlkitError(
            f"tlkit serve needs the package {error.name!r}, which is not installed.", install("serve")
        ) from error


def _token(config: ServeConfig, server: ModuleType) -> str | None:
    """The token from the file, else from the environment; never from the command line, which other users can see."""
    if config.token_file is None:
        return server.check_token(os.environ[TOKEN], TOKEN) if TOKEN in os.environ else None
    try:
        text = Path(config.token_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise TlkitError(
            f"--token-file {config.token_file!r}: {reason}.", "name a file with one token in it."
        ) from error
    return server.check_token(text, config.token_file)


def _limits(config: ServeConfig) -> Any:
    from tlkit.serving.pixels import Limits

    return Limits(
        image_bytes=int(config.max_image_mb * 1e6),
        request_bytes=int(config.max_request_mb * 1e6),
        images=config.max_images,
        pixels=int(config.max_megapixels * 1e6),
        requests=config.max_requests,
        seconds=config.timeout,
    )


def _load(config: ServeConfig, model: Path, story: Story) -> "ServedClassifier":
    """Load the classifier; runs in a thread while the server already answers health checks."""
    from tlkit.serving.answering import load_subject

    return load_subject(config, model, story)
