"""What `tlkit serve` keeps of the engine's own rate, how long answers take, and whether its memory stays flat.

    python benchmarks/serve.py RUN IMAGES [--clients 1,4,16] [--seconds 5] [--repeats 5]
    python benchmarks/serve.py RUN IMAGES --flat 20000
    python benchmarks/serve.py RUN IMAGES --other OTHER/.venv/bin/tlkit

The engine's rate is that of `tlkit predict`'s own loop (decode, resize, network, in batches of 32) on the bytes of the
same files in memory, in this process, while the server has nothing to do; then clients ask the server, each on a
connection that it keeps, one image a request. The clients are coroutines of one other process with raw sockets (nothing
that a client library would add), but they do share the machine's cores with the server, which the engine's rate has to
itself. Rows in turn, so that noise meets all alike. Processor time an image is counted too, that of the clients apart: it
hardly depends on what else the machine does, and where all cores are busy it is what rates come from.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

REQUEST = (
    b"POST /v1/predict?top=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: multipart/form-data; boundary=tlkit\r\nContent-Length: %d\r\n\r\n"
)
PART = b'--tlkit\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n%s\r\n--tlkit--\r\n'
MOST_FILES = 400


def requests(folder: str) -> list[bytes]:
    """A request for every image."""
    bodies = [PART % content for content in contents(folder)]
    return [REQUEST % len(body) + body for body in bodies]


def contents(folder: str) -> list[bytes]:
    """The bytes of some of the images below a folder."""
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [path.read_bytes() for path in files[:: max(1, len(files) // MOST_FILES)][:MOST_FILES]]


async def ask(port: int, asked: list[bytes], clients: int, seconds: float, most: int | None) -> list[float]:
    """Seconds of every answer that came within `seconds`, or of the first `most` of them."""
    times: list[float] = []
    until, given = time.perf_counter() + seconds, iter(range(most if most is not None else 10**9))

    async def client(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, _ in enumerate(given, start=first):
            started = time.perf_counter()
            if started > until:
                break
            writer.write(asked[number * 7 % len(asked)])
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
            times.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client(number * 31) for number in range(clients)))
    return times


def clients_process() -> None:
    """Read orders on stdin, write times on stdout: what runs beside the server."""
    port, folder = int(sys.argv[2]), sys.argv[3]
    asked = requests(folder)
    for line in sys.stdin:
        order = json.loads(line)
        started = time.perf_counter()
        times = asyncio.run(ask(port, asked, **order))
        took = time.perf_counter() - started
        times.sort()
        at = {f"p{100 * q:.0f}": times[int(q * (len(times) - 1))] for q in (0.5, 0.99)}
        print(json.dumps({"count": len(times), "rate": len(times) / took, **at}), flush=True)


def engine_rate(run: str, images: list[bytes]) -> object:
    """A function that measures images a second, and processor time an image, of the loop of `tlkit predict`."""
    from tlkit.base.story import Silence
    from tlkit.classifier.facts import read_facts
    from tlkit.extraction.engine import infer
    from tlkit.extraction.watch import watching
    from tlkit.options.commands import PredictConfig
    from tlkit.runs.folder import RunDir

    model = RunDir(Path(run)).model
    facts = read_facts(model)
    engine = watching(model, facts, (), PredictConfig(run=run, paths=()), Silence())

    def rate(seconds: float) -> dict:
        done, started, before = 0, time.perf_counter(), processor(os.getpid())
        while time.perf_counter() - started < seconds:
            infer(engine, images, facts.contract, batch_size=32)
            done += len(images)
        return {"rate": done / (time.perf_counter() - started), "cpu": (processor(os.getpid()) - before) / done}

    rate(1)
    return rate


def processor(process: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> float:
    """MB of a process that are in memory."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Served:
    """A server of a run and the clients beside it.

    Args:
        command: tlkit, as it is started.
        run: what it serves.
        images: what it is asked about.
    """

    def __init__(self, command: list[str], run: str, images: str) -> None:
        words = [*command, "serve", run, "--port", "0", "--neighbours", "0"]
        self.server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        asking = [sys.executable, __file__, "clients", str(port_of(self.server)), images]
        self.clients = subprocess.Popen(asking, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in (16, 4, 1):  # until every size of batch was seen
            self.measure(clients=number, seconds=4)

    def measure(self, **order: object) -> dict:
        """Count, rate, quantiles, and processor seconds an image of the server and of the clients."""
        processes = (self.server.pid, self.clients.pid)
        before = [processor(process) for process in processes]
        self.clients.stdin.write(json.dumps({"most": None} | order) + "\n")
        self.clients.stdin.flush()
        found = json.loads(self.clients.stdout.readline())
        spent = [
            (processor(process) - early) / found["count"] for process, early in zip(processes, before, strict=True)
        ]
        return found | {"cpu": spent[0], "cpu of clients": spent[1]}

    def stop(self) -> None:
        """Both processes."""
        self.clients.stdin.close()
        self.clients.wait()
        self.server.send_signal(signal.SIGTERM)
        self.server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("images")
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flat", type=int, help="Requests to send while looking at the server's memory, and no more.")
    parser.add_argument("--other", help="The command of another tlkit, whose server is asked in turn with ours.")
    options = parser.parse_args()
    commands = [[sys.executable, "-m", "tlkit"], *([[options.other]] if options.other else [])]
    servers = [Served(command, options.run, options.images) for command in commands]
    try:
        if options.flat:
            flat(options.flat, servers[0].measure, servers[0].server.pid)
        elif options.other:
            against(options, *servers)
        else:
            throughput(options, servers[0].measure)
    finally:
        for server in servers:
            server.stop()


def port_of(server: subprocess.Popen) -> int:
    """The port that a server says it listens on, once it is ready."""
    said = []
    for line in server.stderr:
        said.append(line)
        if found := re.search(r"ready: \S+:(\d+)", line):
            return int(found[1])
    raise SystemExit("".join(said))


def flat(count: int, measure: object, process: int) -> None:
    """Memory after every tenth of the requests."""
    print(f"| requests | MB in memory |\n|---|---|\n| 0 | {resident(process):.0f} |")
    for tenth in range(1, 11):
        measure(clients=16, seconds=600, most=count // 10)
        print(f"| {tenth * count // 10:,} | {resident(process):.0f} |", flush=True)


def throughput(options: argparse.Namespace, measure: object) -> None:
    """The engine and every number of clients in turn."""
    from benchmarks.measure import machine

    engine = engine_rate(options.run, contents(options.images))
    numbers = [int(number) for number in options.clients.split(",")]
    own, found = [], {number: [] for number in numbers}
    for _ in range(options.repeats):
        own.append(engine(options.seconds))
        for number in numbers:
            found[number].append(measure(clients=number, seconds=options.seconds))
    print(
        "| | images/s, median | least to most | of the engine's rate | p50, ms | p99, ms | CPU ms an image, of clients |"
    )
    print("|---|---|---|---|---|---|---|")
    rates = [row["rate"] for row in own]
    cpu = 1000 * median(row["cpu"] for row in own)
    print(f"| engine | {median(rates):.0f} | {min(rates):.0f} to {max(rates):.0f} | 1 | | | {cpu:.2f} |")
    names = ("p50", "p99", "cpu", "cpu of clients")
    for number, rows in found.items():
        rates = [row["rate"] for row in rows]
        shares = sorted(row["rate"] / whole["rate"] for row, whole in zip(rows, own, strict=True))
        p50, p99, cpu, others = (1000 * median(row[name] for row in rows) for name in names)
        print(
            f"| {number} client{'s' * (number > 1)} | {median(rates):.0f} | {min(rates):.0f} to {max(rates):.0f} "
            f"| {median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f}) | {p50:.1f} | {p99:.1f} | {cpu:.2f}, {others:.2f} |"
        )
    print(f"\n{machine()}")


def against(options: argparse.Namespace, ours: Served, theirs: Served) -> None:
    """Two servers of one run in turn, every number of clients."""
    from benchmarks.measure import machine

    numbers = [int(number) for number in options.clients.split(",")]
    found = {number: [] for number in numbers}
    for _ in range(options.repeats):
        for number in numbers:
            order = {"clients": number, "seconds": options.seconds}
            found[number].append((ours.measure(**order), theirs.measure(**order)))
    print("| | images/s | other | ratio | CPU ms an image | other | ratio | p50, ms | other |")
    print("|---|---|---|---|---|---|---|---|---|")
    for number, pairs in found.items():
        cells = []
        for name, scale, digits in (("rate", 1, 0), ("cpu", 1000, 2), ("p50", 1000, 1)):
            cells += [f"{scale * median(row[side][name] for row in pairs):.{digits}f}" for side in (0, 1)]
            ratios = sorted(one[name] / two[name] for one, two in pairs)
            cells += [f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"] * (name != "p50")
        print(f"| {number} client{'s' * (number > 1)} | {' | '.join(cells)} |")
    print(f"\n{machine()}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if sys.argv[1:2] == ["clients"]:
        clients_process()
    else:
        main()
