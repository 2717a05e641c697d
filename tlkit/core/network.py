"""How a connection is made here: through which proxy, trusting which certificates."""

import os
import ssl
import urllib.request
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from tlkit.core.errors import TlkitError

# Settings that name certificates to trust. The first takes the place of the system's, the others add to them.
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def proxy_of(url: str) -> str:
    """Host and port of the proxy that `url` is asked through, "" for none; never its password."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}").netloc.rpartition("@")[2]


def opener() -> urllib.request.OpenerDirector:
    """What opens addresses: HTTPS_PROXY and its like honoured, certificates the system's and those of the settings.

    Raises:
        TlkitError: a setting names a file of certificates that is missing or holds none.
    """
    settings = tuple((name, os.environ.get(name, "")) for name in CERTIFICATES)
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=_context(settings)))


@cache
def _context(settings: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name, file in settings:
        if not file:
            continue
        if not Path(file).exists():
            raise TlkitError(f"{name} is {file!r}, which does not exist.", f"correct {name}, or unset it.")
        try:
            folder = Path(file).is_dir()
            context.load_verify_locations(**{"capath" if folder else "cafile": file})
        except (OSError, ssl.SSLError) as error:
            raise TlkitError(
                f"{name} is {file!r}, which holds no certificates: {error}.", "give a PEM file."
            ) from error
    return context
