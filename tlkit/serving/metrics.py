"""What Prometheus is told at /metrics."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one server.

    Args:
        queue: how many images are waiting or being computed.
    """

    def __init__(self, queue: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()

        def of(kind: Any, name: str, help: str, labels: Iterable[str] = (), **more: Any) -> Any:
            return kind(f"tlkit_{name}", help, labels, registry=self.registry, **more)

        self.requests = of(Counter, "requests", "Requests answered.", ("path", "status"))
        self.seconds = of(Histogram, "request_seconds", "From request to answer.", ("path",), buckets=_SECONDS)
        self.under_way = of(Gauge, "predictions_under_way", "Requests whose images are being answered.")
        self.batches = of(Histogram, "batch_images", "Images of each inference step.", buckets=_SIZES)
        self.predicted = of(Counter, "images", "Images by what was predicted.", ("predicted",))
        self.abstained = of(Counter, "images_abstained", "Images that the classifier would not answer.")
        self.unfamiliar = of(Counter, "images_unfamiliar", "Images unlike anything in training.")
        self.refused = of(Counter, "images_refused", "Images that were refused.", ("problem",))
        of(Gauge, "queue_images", "Images waiting or being computed.").set_function(queue)

    def judged(self, answer: dict[str, Any]) -> None:
        """Count one image's answer."""
        for name in answer["predicted"]:
            self.predicted.labels(name).inc()
        if answer["abstained"]:
            self.abstained.inc()
        if answer.get("unfamiliar"):
            self.unfamiliar.inc()

    def text(self) -> bytes:
        """In the form that Prometheus reads."""
        return generate_latest(self.registry)
