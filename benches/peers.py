#!/usr/bin/env python3
"""Patch sizes and times beside other tools, on the same files in one run.

    pip install numpy zstandard pcodec z4ai weightscope          # and bsdiff, zstd 1.5 from the system
    python3 benches/peers.py sizes|indices|times target/release/lcepatch PAIRS_DIR [PAIR ...]

PAIRS_DIR holds NAME_a.safetensors and NAME_b.safetensors. Prints a Markdown table: `sizes` of full deltas beside
the peers; `indices`: value-based selections, with bits per index beside log2 C(n, k); `times` beside cmp and cp, on warm files. Peers that are not installed are left out.
Every full delta is applied and compared byte for byte. bsdiff and zstd --patch-from run on files below 100 MB only.
"""
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "spec"))


def run(command, **options):
    """Run a command; return its wall time in seconds and its peak memory in bytes (a floor of this process's own)."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def log2_choose(n, k):
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def stream_bytes(patch):
    """Bytes of the position and delta streams of a patch (spec §5, §7.1, §8)."""
    import decode

    opened = decode.Patch.open(patch)
    totals = {1: 0, 2: 0}
    for block in opened.block_bytes():
        at, streams = 0, []
        while block[at]:
            kind, at = block[at], at + 2
            size, shift = 0, 0
            while True:
                byte, at = block[at], at + 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            streams.append((kind, size))
        for kind, size in streams:
            totals[kind] = totals.get(kind, 0) + size
    return totals


def peers(a, b, folder):
    """Yield (name, bytes, seconds) of each peer that is here."""
    python = sys.executable
    out = os.path.join(folder, "peer")
    small = os.path.getsize(a) < 100_000_000
    z4ai = "import sys, z4ai; a, b, o = sys.argv[1:]; read = lambda p: open(p, 'rb').read(); open(o, 'wb').write(z4ai.{})"
    dtype = "bf16" if b'"BF16"' in open(a, "rb").read(1 << 16) else "fp32"
    # weightscope reads model directories.
    models = [os.path.join(folder, os.path.basename(path) + ".model") for path in (a, b)]
    for path, model in zip((a, b), models):
        os.makedirs(model, exist_ok=True)
        if not os.path.exists(os.path.join(model, "model.safetensors")):
            os.symlink(os.path.abspath(path), os.path.join(model, "model.safetensors"))
    weightscope = os.path.join(os.path.dirname(python), "weightscope")
    commands = {
        "z4ai compress_delta": [python, "-c", z4ai.format(f"compress_delta(read(b), read(a), dtype='{dtype}')"), a, b, out],
        "z4ai model_delta": [python, "-c", z4ai.format("model_delta.compress(read(b), read(a))"), a, b, out],
        "weightscope --threshold 0": [weightscope, "export", "--threshold", "0", *models, "-o", out],
    }
    if small:
        commands["bsdiff"] = ["bsdiff", a, b, out]
        commands["zstd -19 --patch-from"] = ["zstd", "-q", "-f", "-19", "--long=27", "--patch-from", a, b, "-o", out]
    for name, command in commands.items():
        if shutil.which(command[0]) is None:
            continue
        if os.path.exists(out):
            os.remove(out)
        try:
            seconds, _ = run(command)
            yield name, os.path.getsize(out), seconds
        except (RuntimeError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)


def files(pairs, name):
    return [os.path.join(pairs, f"{name}_{side}.safetensors") for side in "ab"]


def sizes(program, pairs, names, folder):
    patch, result = os.path.join(folder, "p.lcepatch"), os.path.join(folder, "result.safetensors")
    print("| pair | tool | bytes | of the file | times lcepatch | seconds |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for name in names:
        a, b = files(pairs, name)
        seconds, _ = run([program, "diff", a, b, "--all", "-o", patch, "--force"])
        own = os.path.getsize(patch)
        run([program, "apply", a, patch, "-o", result, "--force"])
        run(["cmp", b, result])
        rows = [("lcepatch --all", own, seconds), *peers(a, b, folder)]
        for tool, size, seconds in rows:
            share = size / os.path.getsize(b)
            print(f"| {name} | {tool} | {size:,} | {share:.3%} | {size / own:.2f} | {seconds:.2f} |", flush=True)


def indices(program, pairs, names, folder):
    patch = os.path.join(folder, "p.lcepatch")
    print("| pair | density | selected | bytes | bits an index | log2 C(n,k) / k | bits a delta |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in names:
        for density in ("0.1%", "0.5%", "10%"):
            a, b = files(pairs, name)
            run([program, "diff", a, b, "--density", density, "--params", "matrices", "-o", patch, "--force"])
            shown = json.loads(subprocess.check_output([program, "show", patch, "--json"]))
            n, k = shown["metadata"]["candidates"]["elements"], shown["stat"]["selected"]
            streams = stream_bytes(patch)
            index, delta = 8 * streams[1] / k, 8 * streams[2] / k
            bound = log2_choose(n, k) / k
            print(f"| {name} | {density} | {k:,} | {os.path.getsize(patch):,} | {index:.3f} | {bound:.3f} | {delta:.2f} |", flush=True)


def times(program, pairs, names, folder):
    patch, result = os.path.join(folder, "p.lcepatch"), os.path.join(folder, "result.safetensors")
    print("| pair | work | seconds | times cmp or cp | peak MiB | bound MiB |\n| --- | --- | ---: | ---: | ---: | ---: |")
    best = lambda command: min((run(command) for _ in range(3)), key=lambda measured: measured[0])
    for name in names:
        a, b = files(pairs, name)
        shutil.copyfile(a, result)
        compare, _ = best(["cmp", a, result])
        copy, _ = best(["cp", a, os.path.join(folder, "copy")])
        os.remove(os.path.join(folder, "copy"))
        print(f"| {name} | cmp; cp | {compare:.2f}; {copy:.2f} | 1 | | |", flush=True)
        for kind, amount in (("full", ["--all"]), ("0.5 %", ["--density", "0.5%", "--params", "matrices"])):
            diffed = best([program, "diff", a, b, *amount, "-o", patch, "--force"])
            selected = json.loads(subprocess.check_output([program, "show", patch, "--json"]))["stat"]["selected"]
            bound = 64 + 40 * selected / 2**20
            applied = best([program, "apply", a, patch, "-o", result, "--force"])
            for work, (seconds, peak), peer, label in (("diff", diffed, compare, "cmp"), ("apply", applied, copy, "cp")):
                print(f"| {name} | {work} {kind} | {seconds:.2f} | {seconds / peer:.2f} {label} | {peak / 2**20:.0f} | {bound:.0f} |", flush=True)


def main(table, program, pairs, names):
    with tempfile.TemporaryDirectory(dir=pairs) as folder:
        {"sizes": sizes, "indices": indices, "times": times}[table](program, pairs, names, folder)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("sizes", "indices", "times"):
        sys.exit(__doc__)
    main(*sys.argv[1:4], sys.argv[4:] or ["rl", "rl40", "sft", "sft32", "big"])
