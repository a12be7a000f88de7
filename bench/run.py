"""Runs every benchmark of this folder, one after the other, each in its own process: `make bench`.

A benchmark is a program `bench_<what>.py` that prints what it measured, the limit that it promises and, where there is
something to compare with, the ratio. This program fails where one of them does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    failed = []
    for program in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"\n{program.stem.removeprefix('bench_')}", flush=True)
        if subprocess.run([sys.executable, program]).returncode != 0:
            failed.append(program.name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
