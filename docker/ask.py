"""Asks the server in this container, with nothing but Python's own library; docker/check.sh pipes it into one.

python - TOKEN IMAGE "CLASS PROBABILITY"    without the token 401; with it, what `tlkit predict` says of the image
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

TOKEN, IMAGE, EXPECTED = sys.argv[1:]
BODY = json.dumps({"images": [base64.b64encode(Path(IMAGE).read_bytes()).decode()]}).encode()


def ask(**headers: str) -> dict:
    """The answer to one image; raises HTTPError where it is refused."""
    request = urllib.request.Request(
        "http://127.0.0.1:8000/v1/predict", BODY, {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


try:
    ask()
    sys.exit("a request without the token was answered")
except urllib.error.HTTPError as refused:
    if refused.code != 401:
        sys.exit(f"without the token: {refused.code}, expected 401")
(result,) = ask(Authorization=f"Bearer {TOKEN}")["results"]
print(f"without the token: 401; with it: {result['predicted'][0]}, probability {result['probability']:.6f}")
name, probability = EXPECTED.rsplit(" ", 1)
if result["predicted"] != [name] or abs(result["probability"] - float(probability)) > 1e-4:
    sys.exit(f"`tlkit predict` says {EXPECTED} of {IMAGE}, the server {result}")
