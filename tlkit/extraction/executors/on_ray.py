"""`--executor ray`: workers of a Ray cluster compute batches of images that they read and decode themselves (`at_work`).

A task is a few batches: paths, digests, and what is missing. It returns the rows of each as they are ready, and the requesting process
stores them. Workers read the files themselves and tlkit requests no other processors of the cluster, so there can be no deadlock. The
engine is chosen here and sent with all that it needs. What a lost worker or node has not returned is sent again. A worker reports when
it begins to compute: only from then on can its death be the fault of the batch, and counts as a try. Alternatively a task is a function
of one item (`each`), handled the same way.
"""

import contextlib
import itertools
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError, first_line
from tlkit.base.files import remove, temporary_beside
from tlkit.base.machine import PACKAGES, install, lacking, temporary_root, usable_cores, versions
from tlkit.base.process import usual_backend
from tlkit.base.story import Story
from tlkit.extraction.executors import Computation, Done, R, T
from tlkit.extraction.executors.at_work import Job, carry_out, compute

TRIES = 2  # for a piece of work whose worker is lost while it computes
STARTS = 20  # workers lost in a row before any of them begins to compute
AHEAD = 2  # tasks per worker sent before one is returned, which bounds memory
BATCHES = (
    4  # of a task at most: sending one takes 2 ms of processor time, half of what a small network takes to compute it
)
SHARES = 8  # tasks per worker at least, so that all finish at about the same time
CORES = {"onnx": 1}  # of a worker; an engine with Keras takes a gigabyte for any number of cores, and so gets more
MOST_CORES = 4
ANSWERS_WITHIN = 5.0  # seconds
PATIENCE = 10.0  # seconds without a batch until the nodes are counted
LONGEST = 107 - 64  # bytes of the path of its folder: that of a socket may have 107, and Ray adds up to 64
OBJECTS = 512 * 2**20  # bytes of the object store of a cluster that is started here
DECODED = "or --batch-size less; or one of the files crashes a decoder: without --executor it shows. What was computed stays in the store."
# Packages that affect a row, besides those of its engine
SHAPING = ("tlkit", "python", "numpy", "pillow", "simplejpeg", "cykooz-resizer", "pillow-heif", "imagecodecs")
ENGINES = {"onnx": ("onnxruntime",)}
IN_KERAS = ("keras", "tensorflow", "jax", "jaxlib", "torch")


@contextlib.contextmanager
def opened(address: str) -> Iterator["OnRay"]:
    """Ray at an address, or a cluster of this machine that ends with this context; it is started when there is something to do.

    Args:
        address: `HOST:PORT`, `auto`, or "" for RAY_ADDRESS or, where that is not set, for this machine only.

    Raises:
        TlkitError: Ray is not installed, or nothing answers at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if lacking("ray"):
        raise TlkitError("--executor ray needs Ray.", install("ray"))
    _refuse_unreachable(address)
    executor = OnRay(address)
    try:
        yield executor
    finally:
        executor.close()


def _refuse_unreachable(address: str) -> None:
    """Raise early for an address without an answer, since Ray itself tries for a minute."""
    if "://" in address:
        raise TlkitError(
            f"--executor ray:{address} is an address of Ray Client, expected HOST:PORT.",
            "run the command on a machine of the cluster: --executor ray:HOST:6379, or ray:auto.",
        )
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, first_line(error)) from None


def _unreachable(address: str, reason: str) -> TlkitError:
    return TlkitError(
        f"no Ray cluster answers at {address!r}: {reason}.",
        "on its first machine: ray start --head --port 6379; on the others: ray start --address HOST:6379; then "
        "--executor ray:HOST:6379 on one of them, with RAY_AUTH_MODE=token where it asks for one. Without an address, --executor ray uses this machine.",
    )


class OnRay:
    """The workers of a cluster.

    Args:
        address: as Ray takes it; `local` for one that is started here.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._connected = False
        self._folder: Path | None = None

    def map(self, work: Computation, samples: np.ndarray, story: Story) -> Iterator[Done]:
        """As `Executor`, in the order in which batches are returned."""
        engine = work.engine()
        if engine.portable is None:
            raise TlkitError(f"engine {engine.name} cannot be sent to other processes.", "leave --executor out.")
        crew, size = self._crew(engine.name), work.batch
        batches = max(1, min(BATCHES, -(-len(samples) // size) // (SHARES * crew.workers)))
        story.say(f"executor ray: {crew}; each reads the images at their paths here")
        job, opens = crew.job(ENGINES.get(engine.name, IN_KERAS)), _referred(engine.portable())
        task = crew.task(compute, f"extracting {work.source.name or 'features'}")

        def piece(start: int) -> Piece:
            parts = np.split(samples[start : start + size * batches], range(size, size * batches, size))
            parts = [rows for rows in parts if len(rows)]
            names = [(f"{len(rows)} images", *(work.dataset.paths[rows[end]] for end in (0, -1))) for rows in parts]

            def send(done: int) -> Any:
                rows = np.concatenate(parts[done:])
                return task.remote(job, opens, work.portion(rows), len(rows))

            return Piece(start, [f"{how}, {first!r} to {last!r}" for how, first, last in names], send, DECODED)

        for _, done in _Sending(crew, story).through(map(piece, range(0, len(samples), size * batches)), AHEAD):
            yield from done

    def each(
        self, function: Callable[[T], R], items: Sequence[T], story: Story, named: Callable[[T], str] = str
    ) -> Iterator[tuple[int, R]]:
        """As `Executor`; a worker has as many cores as one with Keras."""
        crew = self._crew("keras")
        story.say(f"executor ray: {crew}")
        job, there = crew.job(PACKAGES), _referred(function)

        def piece(place: int) -> Piece:
            name = named(items[place])
            task = crew.task(carry_out, name)
            return Piece(
                place, [name], lambda done: task.remote(job, there, items[place]), "without --executor it shows."
            )

        yield from _Sending(crew, story).through(map(piece, range(len(items))), 1)

    def turns(self, items: int) -> float:
        """As `Executor`: in parallel, each with the cores of a worker."""
        crew = self._crew("keras")
        return -(-items // crew.workers) * max(1.0, usable_cores() / crew.cores)

    def describe(self, engine: str) -> str:
        """As `Executor`."""
        return f"ray: {self._crew(engine)}"

    def close(self) -> None:
        """Leave the cluster; end it, and remove its folder, where it was started here."""
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False
        if self._folder:
            remove(self._folder)
            self._folder = None

    def _crew(self, engine: str) -> "Crew":
        """The workers available for an engine; connects."""
        self._connect()
        nodes = _processors()
        cores = min(CORES.get(engine, MOST_CORES), int(min(nodes, default=1)))
        workers = sum(int(each // cores) for each in nodes)
        if not workers:
            raise TlkitError(
                f"the Ray cluster at {self.address!r} has no processors for workers.",
                "start a node that has: ray start --address HOST:PORT --num-cpus 4.",
            )
        return Crew(workers, cores, len(nodes), self.address)

    def _connect(self) -> None:
        """Start a cluster, or connect to one; an existing connection, in Python, is reused."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        if ray.is_initialized():
            return
        logging.getLogger("ray").setLevel(logging.ERROR)
        own: dict[str, Any] = {"address": self.address}
        self._connected = True  # from the first process that it starts on
        if self.address == "local":
            self._folder = _own_folder()
            own |= {"num_cpus": usable_cores(), "include_dashboard": False, "object_store_memory": OBJECTS}
            own |= {"_temp_dir": str(self._folder)}
        try:
            with _signals_kept():
                ray.init(**own, namespace="tlkit", log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            self.close()
            if self.address == "local":
                hint = "set TMPDIR to a folder with a short path where it speaks of one, or leave --executor out."
                raise TlkitError(f"Ray does not start here: {first_line(error)}.", hint) from error
            raise _unreachable(self.address, first_line(error)) from error
        # Ray reports dead workers on stdout regardless of `log_to_driver`; its debugger turns that off in the same way.
        ray._private.worker._worker_logs_enabled = False


def _own_folder() -> Path:
    """A folder for the logs and sockets of a cluster; the system limits the length of socket paths."""
    folder = temporary_beside(temporary_root() / "ray")
    usual = Path("/tmp")
    return folder if len(os.fsencode(folder)) <= LONGEST or not usual.is_dir() else temporary_beside(usual / "ray")


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the handlers of signals on exit: Ray installs its own for SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class Crew(NamedTuple):
    """So many workers of so many cores each, on so many nodes of a cluster."""

    workers: int
    cores: int
    nodes: int
    address: str

    def job(self, deciding: Sequence[str]) -> Job:
        """The job for its workers, with the versions of these packages and of those that always affect results."""
        found = {name: number for name, number in versions().items() if name in (*SHAPING, *deciding)}
        return Job(secrets.token_hex(8), found, self.cores, usual_backend())

    def task(self, function: Callable[..., Any], name: str) -> Any:
        """A remote function for its workers; the dashboard shows the name."""
        import ray

        # Tries are counted here, since Ray counts its own separately
        how = {"num_cpus": self.cores, "max_retries": 0, "name": f"tlkit {name}"}
        return ray.remote(**how, num_returns="streaming")(function)

    def __str__(self) -> str:
        where = "this machine" if self.address == "local" else f"the cluster at {self.address}"
        return (
            f"{self.workers} worker{'s' * (self.workers > 1)} of {self.cores} core{'s' * (self.cores > 1)} "
            f"on {self.nodes} node{'s' * (self.nodes > 1)} of {where}"
        )


def _processors() -> list[float]:
    """The processors of every live node of the cluster that has any."""
    import ray

    found = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    return [each for each in found if each >= 1]


def _referred(value: Any) -> list[Any]:
    """One reference to a value, which all workers fetch."""
    import ray

    return [ray.put(value)]


class Piece(NamedTuple):
    """A part of the work, done by one task.

    Args:
        key: identifies it.
        names: of its steps in messages; each step returns a result.
        send: sends a worker all steps but the first `done`; the task yields None as it begins, and then for each step its result and
            its messages.
        remedy: further advice where its worker dies.
    """

    key: int
    names: Sequence[str]
    send: Callable[[int], Any]
    remedy: str


class _Sent(NamedTuple):
    """A piece in progress.

    Args:
        piece: which.
        done: steps that have been returned.
        deaths: how many workers died while computing the next one.
        begun: whether a worker is computing it now.
    """

    piece: Piece
    done: int = 0
    deaths: int = 0
    begun: bool = False

    @property
    def name(self) -> str:
        """The name of the first step that has not been returned."""
        return self.piece.names[self.done]


class _Sending:
    """Sends pieces of work and collects their results."""

    def __init__(self, crew: "Crew", story: Story) -> None:
        import ray

        self.ray, self.story, self.crew = ray, story, crew
        self.under_way: dict[Any, _Sent] = {}
        self.stillborn = 0  # workers lost since one last began to compute
        self.told: set[str] = set()

    def through(self, pieces: Iterator[Piece], ahead: int) -> Iterator[tuple[int, Any]]:
        """Send all pieces, at most `ahead` at a time for each worker, and yield results with their keys."""
        try:
            most = ahead * self.crew.workers
            while True:
                for piece in itertools.islice(pieces, most - len(self.under_way)):
                    self._send(_Sent(piece))
                if not self.under_way:
                    return
                if (back := self._wait()) is not None:
                    yield back
        finally:
            if self.ray.is_initialized():
                for task in self.under_way:
                    self.ray.cancel(task, force=True)

    def _send(self, sent: _Sent) -> None:
        self.under_way[sent.piece.send(sent.done)] = sent

    def _wait(self) -> tuple[int, Any] | None:
        """The result of the next step returned; None where there is none yet, one has begun, or it is sent again."""
        back, _ = self.ray.wait(list(self.under_way), timeout=PATIENCE)
        if not back:
            self._tell_if_none_works()
            return None
        [task], lost = back, self.ray.exceptions
        sent = self.under_way.pop(task)
        try:
            found = self.ray.get(next(task))
        except lost.RayTaskError as error:
            if not isinstance(error.cause, lost.ObjectLostError):  # of the network that it was to fetch
                told = isinstance(error.cause, TlkitError)
                raise error.cause if told else TlkitError(*_unforeseen(error, sent.name)) from error
            self._again(sent, error)
            return None
        except (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError, lost.ObjectLostError) as error:
            with contextlib.suppress(lost.RayError):
                self.ray.get(task.completed())  # Ray reports results that are not fetched on stderr
            self._again(sent, error)
            return None
        if found is None:
            self.under_way[task], self.stillborn = sent._replace(begun=True), 0
            return None
        given, said = found
        for sentence in said:
            self._tell(sentence)
        if sent.done + 1 < len(sent.piece.names):
            self.under_way[task] = sent._replace(done=sent.done + 1, deaths=0)
        return sent.piece.key, given

    def _again(self, sent: _Sent, error: Exception) -> None:
        """Resend what was not returned where a worker or node is lost; twice during the same step is the fault of the step."""
        reason = type(error).__name__
        self.stillborn += not sent.begun
        if self.stillborn >= STARTS:
            raise TlkitError(
                f"{STARTS} workers in a row died before they began to compute ({reason}).",
                "they may have run out of memory: give nodes fewer processors (ray start --num-cpus); or the network cannot be opened "
                "there: without --executor it shows. What was computed stays in the store.",
            ) from error
        deaths = sent.deaths + sent.begun
        if deaths >= TRIES:
            raise TlkitError(
                f"a worker died {TRIES} times on the same {sent.name} ({reason}).",
                f"it may have run out of memory: give nodes fewer processors (ray start --num-cpus); {sent.piece.remedy}",
            ) from error
        when = "while it computed" if sent.begun else "before it computed"
        self.story.say(f"a worker was lost {when} ({reason}); sent to another: {sent.name}")
        self._send(sent._replace(deaths=deaths, begun=False))

    def _tell_if_none_works(self) -> None:
        if not _processors():
            raise TlkitError(
                f"the Ray cluster at {self.crew.address!r} has lost all of its processors.",
                "start its nodes again, and the same command; what was computed stays in the store.",
            )
        self._tell(
            f"no batch was returned for {PATIENCE:.0f} s: workers are starting, or others use the processors of the cluster"
        )

    def _tell(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self.told:
            self.told.add(sentence)
            self.story.say(sentence)


def _unforeseen(error: Exception, name: str) -> tuple[str, str]:
    """An unexpected error of a worker on a piece of work, and its remedy."""
    cause = getattr(error, "cause", None) or error
    if "No module named" in str(error):
        return (
            "the workers of the Ray cluster lack a package that tlkit needs, or tlkit itself.",
            "install tlkit with its extra ray on every machine, in the Python that runs `ray start`.",
        )
    return (
        f"a worker failed on {name}: {type(cause).__name__}: {first_line(cause)}",
        "without --executor it shows where.",
    )
