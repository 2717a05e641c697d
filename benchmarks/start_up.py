"""How long the command line takes to be ready, and what leaving out saves (base/process.py).

    python benchmarks/start_up.py [--command predict] [--repeat 5]

Each row is a process that loads all the modules of a command, and Keras with its backend, and ends.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median

from measure import in_turn, machine, ratio

PROGRAM = """
from tlkit import pipelines
from tlkit.base.process import claim_process
from tlkit.base.story import Silence

if {claimed}:
    claim_process()
pipelines.load({command!r}, Silence())
"""
ROWS = {"as in anybody's process": False, "tlkit's own process": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default="predict")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    processor: dict[str, list[float]] = {name: [] for name in ROWS}

    def row(name: str) -> Callable[[], None]:
        program = PROGRAM.format(claimed=ROWS[name], command=options.command)

        def work() -> None:
            before = os.times()
            subprocess.run([sys.executable, "-c", program], check=True)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            processor[name].append(used)

        return work

    seconds = in_turn({name: row(name) for name in ROWS}, options.repeat)
    print("| | wall, s | processor, s |\n|---|---|---|")
    for name in ROWS:
        print(f"| {name} | {median(seconds[name]):.2f} | {median(processor[name]):.2f} |")
    usual, own = ROWS
    for kind, found in (("wall", seconds), ("processor", processor)):
        mid, low, high = ratio(found[own], found[usual])
        print(f"\n{kind}: {mid:.2f} times as fast ({low:.2f} to {high:.2f})")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
