"""How long a user waits: for help, for a list, for a small replay and for a small scenario, each in a fresh process."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "help": ["--help"],
    "list policies": ["list", "policies"],
    "replay": ["replay", "postgres_pgbench", "--json"],
    "run zipf": ["run", "scenarios/zipf_three_tier.yaml", "--json"],
    "run postgres": ["run", "scenarios/postgres_pgbench.yaml"],
}
GOALS_SECONDS = {"help": 0.5, "run zipf": 1.5, "run postgres": 1.5}  # of the median, on a quiet machine


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "run_sim.py", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            line = [*arguments, *(["--out", str(Path(folder) / "result")] if name.startswith("run") else [])]
            first = seconds(line)  # compiles whatever is not compiled yet
            later = [seconds(line) for _ in range(given.rounds)]
            times = {"first": first, "best": min(later), "median": statistics.median(later)}
            rows.append({"command": name, **times, "goal": GOALS_SECONDS.get(name)})
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        goal = "" if row["goal"] is None else f"  (goal {row['goal']} s)"
        times = "".join(f"{row[name]:7.2f} s {name}" for name in ("first", "best", "median"))
        print(f"{row['command']:<16}{times}{goal}")


if __name__ == "__main__":
    main()
