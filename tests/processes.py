"""Processes in which Keras and TensorFlow are loaded already, forked from one that has imported them and done nothing else.

Importing TensorFlow takes four seconds of processor time, and dozens of tests want a process of their own. One started
here is real: it has its own number, folder, variables and streams, it ends as Python ends, and it can be killed at any
moment. It is for tests of what a process does once Keras is there. Tests of the start, of what is imported when, of memory
and of another backend take `subprocess`, and so does this module where forking would not be the same: a variable that
libraries read when they are imported is another one, or importing has started threads (of which a fork would lose all).

    tests --(a socket: what to run, its two streams, a pipe)--> server --fork--> process
          <-------(the pipe: its number, and how it ended)-----
"""

import atexit
import functools
import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

MESSAGE = 2**17  # bytes of a request at most
# Variables that nothing has read before the process that is forked reads them; all others have to be the server's own.
READ_LATER = ("TLKIT_", "PYTEST_", "TMPDIR", "PYTHONPATH")
USUAL = {"KERAS_BACKEND": "tensorflow", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # if nothing else is set
# XLA compiles without what takes it longest: for tests of the numbers that JAX gives, at whatever speed.
QUICKLY_COMPILED = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}
HARMLESS = {"jemalloc_bg_thd"}  # a thread of PyArrow's allocator, which starts it again after a fork


# -- what tests call ---


class Process:
    """One that was started; as much of `subprocess.Popen` as tests need."""

    def __init__(self, pid: int, ended: int) -> None:
        self.pid, self.returncode, self._ended = pid, None, ended

    def wait(self, seconds: float | None = None) -> int | None:
        """How it ended, negative by a signal; None where it has not yet after so many seconds."""
        if self.returncode is None and select.select([self._ended], [], [], seconds)[0]:
            self.returncode = _told(self._ended)
            os.close(self._ended)
        return self.returncode

    def poll(self) -> int | None:
        return self.wait(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def start(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] = os.environ,
    cwd: Path | str = ".",
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> Process | subprocess.Popen:
    """Start Python with these arguments: `-c PROGRAM`, `-m MODULE` or a file, and what follows.

    Args:
        env: all of its variables.
        cwd: the folder it begins in.
        stdout, stderr: descriptors of files.
    """
    server, known = _server()
    if server is None or _of_import(env) != known:
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
    asked = {"arguments": list(map(str, arguments)), "env": dict(env), "cwd": str(Path(cwd).resolve())}
    ended, ends = os.pipe()
    with Path(os.devnull).open("wb") as nowhere:
        streams = [nowhere.fileno() if stream == subprocess.DEVNULL else stream for stream in (stdout, stderr)]
        socket.send_fds(server, [json.dumps(asked).encode()], [*streams, ends])
    os.close(ends)
    return Process(_told(ended), ended)


def run(arguments: Sequence[str], **options) -> subprocess.CompletedProcess:
    """`start`, wait for the end, and what was written to both streams, as text."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = start(arguments, **options, stdout=stdout.fileno(), stderr=stderr.fileno())
        process.wait()
        written = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (stdout, stderr)]
    return subprocess.CompletedProcess(arguments, process.returncode, *written)


NUMBER = struct.Struct("q")  # in the pipe: of the process, then how it ended


def _told(pipe: int) -> int:
    """The next number; an error where the server has died."""
    return NUMBER.unpack(os.read(pipe, NUMBER.size))[0]


def _of_import(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that may have been read when libraries were imported."""
    return {name: value for name, value in (USUAL | env).items() if not name.startswith(READ_LATER)}


@functools.cache
def _server() -> tuple[socket.socket | None, dict[str, str]]:
    """The socket of a server, started when first asked for, and what of its variables has to be the same.

    The socket is None where there is no forking as on Linux, or where the server finds threads beside its own.
    """
    known = _of_import(os.environ)
    if not hasattr(os, "pidfd_open"):
        return None, known
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", __file__, str(theirs.fileno())]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    options = {"pass_fds": [theirs.fileno()], "start_new_session": True, "env": known | {"PYTHONPATH": ""}}
    process = subprocess.Popen(command, **options, **streams)
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)  # at which the server ends
    return (ours if ours.recv(MESSAGE) == b"ready" else None), known


# -- the server ---


def serve(control: socket.socket) -> dict:
    """Fork for each request and tell how each process ended; returns, in a forked process alone, what it shall run."""
    waiting = selectors.DefaultSelector()
    waiting.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is not control:
                pid, ends = key.data
                os.write(ends, NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
                waiting.unregister(key.fd)
                os.close(key.fd)
                os.close(ends)
                continue
            request, streams, *_ = socket.recv_fds(control, MESSAGE, 3)
            if not request:
                sys.exit()
            pid = os.fork()
            if pid == 0:
                for other in waiting.get_map().values():
                    os.close(other.fd)
                    if other.data:
                        os.close(other.data[1])
                waiting.close()
                control.detach()  # closed among the others
                return json.loads(request) | {"streams": streams}
            os.write(streams[2], NUMBER.pack(pid))
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, streams[2]))
            for stream in streams[:2]:
                os.close(stream)


def become(asked: dict) -> None:
    """Run, in a forked process, what was asked for as Python would have from the start."""
    os.setsid()
    for stream, number in zip(asked["streams"], (1, 2, None), strict=True):
        if number is not None:
            os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    tempfile.tempdir = None
    sys.modules["numpy"].random.seed()
    words = asked["arguments"]
    safe = words[0] == "-P"
    kind, *rest = words[safe:]
    where = {"-c": "", "-m": asked["cwd"]}.get(kind, str(Path(kind).parent.resolve()))
    paths = [entry for entry in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:0] = paths if safe else [where, *paths]
    sys.argv = [kind, *rest] if kind not in ("-c", "-m") else [kind, *rest[1:]]
    if kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        runpy.run_path(kind, run_name="__main__")


def main() -> None:
    """Import, make sure that nothing runs beside, and serve until the tests are over."""
    control = socket.socket(fileno=int(sys.argv[1]))
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    threads = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len([name for name in threads if name not in HARMLESS]) > 1:  # besides this one
        control.send(b"threads")
        sys.exit()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # or each process would look through all of TensorFlow for garbage as it ends, a second long
    control.send(b"ready")
    become(serve(control))


if __name__ == "__main__":
    main()
