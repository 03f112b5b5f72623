#!/usr/bin/env python3
"""Time and memory against size: does the program grow linearly, and what would 140 GB take? See benches/README.md.

    python3 benches/scale.py target/release/lcepatch WORK_DIR [--sizes 0.1,0.3,1,3,10,20] [--threads 1,2]     # needs numpy

For each size makes a sparse bf16 pair (benches/pairs.py says of what), measures diff --all, diff --density 0.5% and the
apply of the full delta, and removes it all. Sizes that the free disk does not hold are left out with a note, and so is
their apply if only its output is too large. Prints a Markdown table and, for each work, the line through its points.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPARE = 2e9  # bytes of disk to leave alone
REAL = 1 / 16  # of a sparse file
GOAL = 140


def run(command):
    """Run a command; return its wall and CPU time in seconds and its peak memory in bytes (at least this process's own)."""
    began = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def measure(program, folder, size, threads, runs, with_apply):
    """Yield the rows of one size."""
    a, b = (folder / f"sparse{size:g}_{side}.safetensors" for side in "ab")
    patch, out = folder / "p.lcepatch", folder / "out.safetensors"
    for count in threads:
        for work, command, made in (
            ("diff --density 0.5%", ["diff", a, b, "--density", "0.5%", "--params", "all", "-o", patch], patch),
            ("diff --all", ["diff", a, b, "--all", "-o", patch], patch),
            ("apply --all", ["apply", a, patch, "-o", out], out),
        ):
            if work == "apply --all" and not with_apply:
                continue
            subprocess.run(["cat", a, b], check=True, stdout=subprocess.DEVNULL)
            measured = []
            for _ in range(runs):
                made.unlink(missing_ok=True)
                subprocess.run(["sync", "-f", folder], check=True)
                measured.append(run([program, *command, "--threads", count]))
            shown = json.loads(subprocess.check_output([program, "show", patch, "--json"]))
            seconds, cpu, peaks = zip(*measured)
            yield {"work": work, "threads": count, "size": a.stat().st_size / 1e9, "min": min(seconds),
                   "mean": statistics.mean(seconds), "cpu": min(cpu), "peak": max(peaks), "patch": patch.stat().st_size,
                   "bound": (64 << 20) + 40 * shown["stat"]["selected"]}
        if with_apply:
            subprocess.run(["cmp", b, out], check=True)
        out.unlink(missing_ok=True)


def fits(rows):
    print("\n| work | threads | s a GB | s at 0 | R² | farthest from the line | CPU s a GB | 140 GB, s | MiB a GB "
          "| MiB at 0 | 140 GB, MiB | bound, MiB |")
    print(f"| ---{' | ---:' * 11} |")
    for key in dict.fromkeys((row["work"], row["threads"]) for row in rows):
        points = [row for row in rows if (row["work"], row["threads"]) == key]
        if len(points) < 3:
            continue
        x, seconds, cpu, peaks = ([row[name] for row in points] for name in ("size", "min", "cpu", "peak"))
        slope, start = statistics.linear_regression(x, seconds)
        square = statistics.correlation(x, seconds) ** 2
        away = max(abs(y / (start + slope * size) - 1) for size, y in zip(x, seconds))
        work, _ = statistics.linear_regression(x, cpu)
        growth, floor = statistics.linear_regression(x, [peak / 2**20 for peak in peaks])
        selected = (points[-1]["bound"] / 2**20 - 64) / x[-1]
        print(f"| {key[0]} | {key[1]} | {slope:.3f} | {start:.3f} | {square:.5f} | {away:.0%} | {work:.3f} "
              f"| {start + GOAL * slope:.0f} | {growth:.1f} | {floor:.0f} | {floor + GOAL * max(growth, 0):.0f} "
              f"| {64 + GOAL * selected:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=lambda path: Path(path).resolve())
    parser.add_argument("work", type=Path, metavar="WORK_DIR")
    parser.add_argument("--sizes", default="0.1,0.3,1,3,10,20", help="GB of each of the two files")
    parser.add_argument("--threads", default=",".join(dict.fromkeys(["1", str(os.cpu_count())])))
    parser.add_argument("--runs", type=int, default=3, help="of each command")
    options = parser.parse_args()
    rows = []
    print("| GB | threads | work | min, s | mean, s | CPU, s | GB/s | patch, bytes | peak, MiB | bound, MiB |")
    print(f"| ---: | ---: | ---{' | ---:' * 7} |")
    for size in map(float, options.sizes.split(",")):
        free = shutil.disk_usage(options.work).free - SPARE - size * 1e9 * (2 * REAL + 0.02)
        if free < 0:
            print(f"{size:g} GB: left out: the disk is too full", file=sys.stderr)
            continue
        with_apply = free > size * 1e9
        if not with_apply:
            print(f"{size:g} GB: apply left out: its output does not fit the disk", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            maker = [sys.executable, Path(__file__).parent / "pairs.py", folder, f"sparse:{size:g}"]
            subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
            for row in measure(options.program, Path(folder), size, options.threads.split(","), options.runs, with_apply):
                rows.append(row)
                print(f"| {row['size']:.3g} | {row['threads']} | {row['work']} | {row['min']:.2f} | {row['mean']:.2f} "
                      f"| {row['cpu']:.2f} | {row['size'] / row['min']:.2f} | {row['patch']:,} | {row['peak'] / 2**20:.0f} "
                      f"| {row['bound'] / 2**20:.0f} |", flush=True)
    fits(rows)
    (options.work / "scale.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
