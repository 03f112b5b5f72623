#!/usr/bin/env python3
"""Whole commands beside cmp, cp and other tools: same files, one run, warm. See benches/README.md.

    pip install numpy torch safetensors z4ai weightscope           # and hyperfine, zstd 1.5, bsdiff from the system
    python3 benches/commands.py target/release/lcepatch WORK_DIR [--pairs big,sft,many,bert32,bert32s,mini16]

Makes the pairs that are missing in WORK_DIR, runs each command once to check its result and to take its peak memory, then
times it with hyperfine. Prints a Markdown table, and writes all times to WORK_DIR/commands.json. Fails if a result of
lcepatch is wrong. Peers that are not installed or not exact, and options that the program lacks, are left out with a note.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import SMALL, TORCH, peers

HERE = Path(__file__).resolve().parent
# What is aimed at: times the wall time of another command, for a pair, or for every other one. show and check take 10 ms and the
# time to read the patch.
TARGETS = {
    "diff --all": ("cmp", {"": 2.0, "big": 1.6, "sft": 4.0, "bert32": 15.0}),
    "diff 0.5%": ("cmp", {"": 2.0, "big": 1.6, "sft": 2.5}),
    "diff 10%": ("cmp", {"": 3.0, "sft": 4.0}),
    "apply --all": ("cp, sync", {"": 1.5, "sft": 3.0, "bert32": 3.0}),
    "apply 0.5%, in place, quick": ("cp", {"": 0.5}),
}
# Seconds that any command may take where names and digests of many tensors take longer than their weights.
SECONDS = {"many": 2.0}
# The pairs of which a tenth of the weights is selected as well: of `big` more than differ, of `sft` a few differences that tie
# millions of times decide.
TENTHS = {"big", "sft"}
COLUMNS = ("pair", "work", "tool", "min, s", "mean, s", "CPU, s", "ratio", "to cp + sync", "target", "bytes", "peak, MiB",
           "bound, MiB")


class Failed(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def run(command):
    """Run a command; return its peak memory in bytes (at least this process's own)."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            # Programs say what is wrong first, Python last.
            raise Failed(process.returncode, lines[-1] if lines[0].startswith("Traceback") else lines[0])
    return usage.ru_maxrss * 1024


def same_tensors(a, b):
    """Whether two safetensors files hold the same tensors, in whatever order (peers write them in one of their own)."""
    def tensors(file):
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        return {name: (entry["dtype"], entry["shape"], 8 + size + entry["data_offsets"][0],
                       entry["data_offsets"][1] - entry["data_offsets"][0]) for name, entry in header.items()}
    with open(a, "rb") as left, open(b, "rb") as right:
        ours, theirs = tensors(left), tensors(right)
        if ours.keys() != theirs.keys():
            return False
        for name, (dtype, shape, at, size) in ours.items():
            if theirs[name][:2] != (dtype, shape):
                return False
            left.seek(at)
            right.seek(theirs[name][2])
            for begin in range(0, size, 1 << 20):
                length = min(1 << 20, size - begin)
                if left.read(length) != right.read(length):
                    return False
    return True


class Bench:
    def __init__(self, options, pair, folder, rows, notes):
        self.options, self.pair, self.folder, self.rows, self.notes = options, pair, folder, rows, notes
        self.base, self.reference = ((options.work / f"{pair}_{side}.safetensors").resolve() for side in "ab")
        self.out, self.best = folder / "out.safetensors", {}

    def note(self, text):
        self.notes.append(f"{self.pair}: {text}")
        print(self.notes[-1], file=sys.stderr, flush=True)

    def measure(self, work, tool, command, output=None, before="true", check=None, peer=False, against=None, selected=None):
        """Check, time and print one command; return its row, or nothing if it does not run here.

        Each time, outputs of earlier runs are removed, the shell commands of `before` are run, and nothing waits to be
        written when the clock starts. `check` may return the number of selected weights, if that is not known before.
        """
        command = [str(word) for word in command]
        gone = f"rm -rf {shlex.quote(str(output))}; " if output else ""
        prepare = ["sh", "-c", f"{gone}{before} && sync -f {shlex.quote(str(self.folder))}"]
        try:
            run(prepare)
            began = time.monotonic()
            peak = run(command)
            slow = peer and time.monotonic() - began > 10
            selected = check and check() or selected
        except (Failed, OSError) as error:
            # An option that this build does not have is no failure of the benchmark; nor is a peer that gives up.
            if peer or getattr(error, "code", None) == 2:
                self.note(f"{work}, {tool}: left out: {error}")
                return None
            raise
        size = output.stat().st_size if output else None
        report = self.folder / "hyperfine.json"
        runs = ["--min-runs", self.options.runs, "--warmup", 1]
        if peer:
            runs = ["--runs", 1 if slow else self.options.peer_runs]
        timer = ["hyperfine", "-N", "--style", "none", *runs, "--prepare", shlex.join(prepare), "--export-json", report]
        run([*map(str, timer), shlex.join(command)])
        times = json.loads(report.read_text())["results"][0]
        row = {"pair": self.pair, "work": work, "tool": tool, "bytes": size, "peak": peak, "selected": selected,
               "command": shlex.join(command), **{key: times[key] for key in ("min", "mean", "user", "system", "times")}}
        self.rows.append(row)
        self.best[work, tool] = row["min"]
        self.print(row, against)
        return row

    def print(self, row, against):
        ratio = synced = target = bound = ""
        seconds = lambda value: f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"
        ours = row["tool"] == "lcepatch"
        if against:
            ratio = f"{row['min'] / self.best[against, '']:.2f} x {against}"
            if against == "cp":
                synced = f"{row['min'] / self.best['cp, sync', '']:.2f}"
            limit = shown = None
            if self.pair in SECONDS:
                limit = SECONDS[self.pair]
                shown = f"{limit} s"
            elif against == "cat patch":
                limit = 0.01 + self.best[against, ""]
                shown = seconds(limit) + " s"
            elif row["work"] in TARGETS:
                other, times = TARGETS[row["work"]]
                times = times.get(self.pair, times[""])
                limit, shown = times * self.best[other, ""], f"{times} x {other}"
            if ours and limit:
                target = f"{shown}: {'met' if row['min'] <= limit else 'missed'}"
        if row["selected"] is not None:
            bound = f"{64 + 40 * row['selected'] / 2**20:.0f}"
        size = f"{row['bytes']:,}" if row["bytes"] and row["work"].startswith("diff") else ""
        times = map(seconds, (row["min"], row["mean"], row["user"] + row["system"]))
        peak = f"{row['peak'] / 2**20:.0f}"
        cells = (row["pair"], row["work"], row["tool"], *times, ratio, synced, target, size, peak, bound)
        print(f"| {' | '.join(cells)} |", flush=True)

    def equal(self, left, right):
        """Fail if two files differ in any byte."""
        subprocess.run(["cmp", left, right], check=True)

    def baselines(self):
        # cmp ends at the first difference, so it reads a copy of the base.
        same = self.folder / "same.safetensors"
        subprocess.run(["cp", "--reflink=never", self.base, same], check=True)
        subprocess.run(["cat", self.base, self.reference, same], check=True, stdout=subprocess.DEVNULL)
        self.measure("cmp", "", ["cmp", self.base, same])
        same.unlink()
        self.measure("cp", "", ["cp", self.base, self.out], self.out)
        self.measure("cp, sync", "", ["sh", "-c", 'cp "$0" "$1" && sync "$1"', self.base, self.out], self.out)

    def lcepatch(self):
        """Rows of the program, without and with each preset; return the result of the smaller selection."""
        program, results = self.options.program, {"--all": self.reference}

        def applied(patch, amount):
            """Apply a patch that was just made and compare; return how many weights it selects."""
            run([str(program), "apply", str(self.base), str(patch), "-o", str(self.out), "--force"])
            if amount in results:
                self.equal(self.out, results[amount])
            else:
                results[amount] = self.out.rename(self.folder / f"selected {amount}.safetensors")
            return json.loads(subprocess.check_output([program, "show", patch, "--json"]))["stat"]["selected"]

        for preset in [[], *map(shlex.split, filter(None, self.options.presets.split(",")))]:
            tool = " ".join(["lcepatch", *preset])
            densities = ["0.5%"] + ["10%"] * (self.pair in TENTHS)
            for amount, choice in [("--all", ["--all"])] + [(of, ["--density", of, "--params", "all"]) for of in densities]:
                patch = self.folder / "patch.lcepatch"
                diff = [program, "diff", self.base, self.reference, *choice, *preset, "-o", patch]
                made = self.measure(f"diff {amount}", tool, diff, patch, check=lambda: applied(patch, amount), against="cmp")
                if made is None:
                    continue
                row = lambda work, words, against, **more: self.measure(
                    work, tool, [program, *words], against=against, selected=made["selected"], **more)
                same = lambda: self.equal(self.out, results[amount])
                row(f"apply {amount}", ["apply", self.base, patch, "-o", self.out], "cp", output=self.out, check=same)
                if preset:
                    continue
                if amount == "0.5%":
                    copy = shlex.join(["cp", "--reflink=never", str(self.base), str(self.out)])
                    row("apply 0.5%, in place, quick", ["apply", self.out, patch, "--in-place", "--quick"], "cp",
                        output=self.out, before=copy, check=same)
                self.measure("cat patch", "", ["cat", patch])
                row(f"show {amount}", ["show", patch], "cat patch")
                row(f"check {amount}, no base", ["check", patch], "cat patch")
        return results["0.5%"]

    def others(self, half):
        patch = self.folder / "peer.patch"
        if importlib.util.find_spec("torch"):
            torch = [sys.executable, TORCH]
            self.measure("importing torch", "PyTorch", [sys.executable, "-c", "import torch, safetensors.torch"], peer=True)

            def agree():
                run([*map(str, torch), "agree", self.base, self.reference, half, self.out])

            if self.measure("diff 0.5%", "PyTorch, topk", [*torch, "diff", self.base, self.reference, patch, "0.5%"], patch,
                            peer=True, against="cmp"):
                self.measure("apply 0.5%", "PyTorch, topk", [*torch, "apply", self.base, patch, self.out], self.out,
                             check=agree, peer=True, against="cp")

        def same():
            if not same_tensors(self.reference, self.out):
                raise Failed(None, "the result is not the reference")

        for peer in peers(self.base, self.reference, patch, self.out, self.folder):
            if peer.missing:
                self.note(f"{peer.name}: left out: not installed")
            elif peer.small and self.base.stat().st_size > SMALL:
                self.note(f"{peer.name}: left out: for files below {SMALL // 10**6} MB")
            elif self.measure("diff --all", peer.name, peer.diff, patch, peer=True, against="cmp"):
                self.measure("apply --all", peer.name, peer.apply, self.out, check=same, peer=True, against="cp")


def make(pair, options):
    """Make a pair that is missing."""
    if (options.work / f"{pair}_b.safetensors").exists():
        return
    script = [options.make_big, options.work] if pair == "big" else [HERE / "pairs.py", options.work, pair]
    subprocess.run([sys.executable, *script], check=True, stdout=sys.stderr)


def machine(options):
    names = (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    cpu = next(names, platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    disk = subprocess.check_output(["df", "--output=fstype", options.work], text=True).split()[-1]
    version = subprocess.check_output([options.program, "--version"], text=True).strip()
    modules = filter(importlib.util.find_spec, ("torch", "weightscope", "z4ai"))
    found = {name: importlib.metadata.version(name) for name in modules}
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory), "kernel": platform.release(),
            "file_system": disk, "load": os.getloadavg()[0], "program": version, "peers": found}


def in_words(machine):
    found = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    return ("{cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}, {file_system}, load {load:.1f}; {program}; "
            .format(**machine) + found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=lambda path: Path(path).resolve())
    parser.add_argument("work", type=Path, metavar="WORK_DIR")
    parser.add_argument("--pairs", default="big,sft,many,bert32,bert32s,mini16",
                        help="made if missing; or others that are there, as WORK_DIR/NAME_{a,b}.safetensors")
    parser.add_argument("--make-big", default="../shared/pairs/make_big.py", help="the script that makes the pair `big`")
    parser.add_argument("--presets", default="--best", help="options of diff to try besides, as in --presets=--best")
    parser.add_argument("--runs", type=int, default=5, help="at least so many, of cmp, cp and lcepatch")
    parser.add_argument("--peer-runs", type=int, default=2, help="of peers, but 1 if they take over 10 s; 0 leaves them out")
    options = parser.parse_args()
    about, rows, notes = machine(options), [], []
    print(in_words(about), end="\n\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * 3}{' ---: |' * (len(COLUMNS) - 3)}")
    for pair in options.pairs.split(","):
        make(pair, options)
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            bench = Bench(options, pair, Path(folder).resolve(), rows, notes)
            bench.baselines()
            half = bench.lcepatch()
            if options.peer_runs:
                bench.others(half)
        (options.work / "commands.json").write_text(json.dumps({"machine": about, "rows": rows, "notes": notes}, indent=1))
    print("\n", *(f"- {note}\n" for note in notes), sep="", end="")


if __name__ == "__main__":
    main()
