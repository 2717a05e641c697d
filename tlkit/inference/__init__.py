"""Forward passes at the speed of the machine: one interface, the fastest engine that the backend offers."""

from tlkit.inference.engine import Engine as Engine
from tlkit.inference.engine import build_engine as build_engine
from tlkit.inference.engine import infer as infer
from tlkit.inference.precision import settle_engine as settle_engine
