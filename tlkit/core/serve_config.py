"""The options of `tlkit serve`."""

from dataclasses import dataclass

from tlkit.core.option_groups import EngineOptions
from tlkit.core.options import argument, option


@dataclass(frozen=True, kw_only=True)
class ServeConfig(EngineOptions):
    """`tlkit serve`: a page and an HTTP API for one classifier."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    host: str = option(
        "127.0.0.1", "Address to listen on; 127.0.0.1 is this machine alone, 0.0.0.0 everybody.", group="Server"
    )
    port: int = option(8000, "Port to listen on; 0 takes a free one and says which.", low=0, high=65535, group="Server")
    token_file: str | None = option(
        None,
        "File with the token that requests must bear; TLKIT_SERVE_TOKEN holds it unless given.",
        group="Server",
    )
    neighbours: int = option(
        3, "Nearest training images shown with an explanation; 0 for none.", low=0, high=12, group="Server"
    )
    batch_size: int = option(32, "Most images in one inference step.", low=1, high=4096, group="Inference")
    batch_wait: float = option(
        2.0,
        "Milliseconds that a step waits for images which are being decoded; with none it starts at once.",
        low=0,
        high=1000,
        group="Inference",
    )
    max_image_mb: float = option(20.0, "Largest file of one image, in MB.", low=0.001, high=1000, group="Limits")
    max_request_mb: float = option(64.0, "Largest body of one request, in MB.", low=0.001, high=4000, group="Limits")
    max_images: int = option(32, "Most images in one request.", low=1, high=4096, group="Limits")
    max_megapixels: float = option(
        50.0,
        "Most pixels of one image, in millions, whatever its file claims to be.",
        low=0.01,
        high=178,
        group="Limits",
    )
    max_requests: int = option(64, "Most predictions asked for at the same time.", low=1, high=4096, group="Limits")
    timeout: float = option(
        30.0, "Seconds that a request may take, from its first byte to its answer.", low=0.1, high=3600, group="Limits"
    )
