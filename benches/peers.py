#!/usr/bin/env python3
"""Patch sizes beside other tools, on the same files in one run (benches/commands.py has the times).

    pip install numpy zstandard pcodec torch z4ai weightscope    # and bsdiff, zstd 1.5 from the system
    python3 benches/peers.py sizes|indices target/release/lcepatch PAIRS_DIR [PAIR ...]

PAIRS_DIR holds NAME_a.safetensors and NAME_b.safetensors. Prints a Markdown table: `sizes` of full deltas beside
the peers; `indices`: value-based selections, with bits per index beside log2 C(n, k). Peers that are not installed are left
out. Every full delta is applied and compared byte for byte. bsdiff and zstd -19 run on files below 100 MB only.
"""
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TORCH = HERE / "torch_peer.py"
SMALL = 100_000_000  # above, bsdiff lacks memory (17 bytes for each) and zstd -19 takes half an hour
sys.path.insert(0, str(HERE.parent / "spec"))


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Peer:
    """A tool that makes full deltas: how it is called, whether it is here."""

    def __init__(self, name, diff, apply, command=None, module=None, small=False):
        self.name, self.diff, self.apply, self.small = name, diff, apply, small
        self.missing = shutil.which(command) is None if command else importlib.util.find_spec(module) is None


def peers(base, reference, patch, out, folder):
    """Each peer, with its commands from these two paths to `patch` and from there to `out`."""
    python = sys.executable
    # weightscope reads model directories.
    models = [Path(tempfile.mkdtemp(dir=folder)) for _ in "ab"]
    for path, model in zip((base, reference), models):
        (model / "model.safetensors").symlink_to(path)
    weightscope = shutil.which("weightscope", path=f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}") or "weightscope"
    with open(base, "rb") as file:
        dtype = "bf16" if b'"BF16"' in file.read(1 << 16) else "fp32"
    z4ai = lambda call: [python, "-c", f"import sys, z4ai; a, b, o = (open(path, mode) for path, mode in zip(sys.argv[1:], "
                                       f"('rb', 'rb', 'wb'))); o.write(z4ai.{call})"]
    zstd = ["zstd", "-q", "-f", "--long=31", f"--patch-from={base}"]
    return [
        Peer("PyTorch, indices and values", [python, TORCH, "diff", base, reference, patch, "all"],
             [python, TORCH, "apply", base, patch, out], module="torch"),
        Peer("weightscope --threshold 0", [weightscope, "export", "--threshold", "0", *models, "-o", patch],
             [weightscope, "apply", patch, models[0], "-o", out], module="weightscope"),
        Peer("z4ai compress_delta", [*z4ai(f"compress_delta(b.read(), a.read(), dtype='{dtype}')"), base, reference, patch],
             [*z4ai("decompress_delta(b.read(), a.read())"), base, patch, out], module="z4ai"),
        Peer("z4ai model_delta", [*z4ai("model_delta.compress(b.read(), a.read())"), base, reference, patch],
             [*z4ai("model_delta.decompress(b.read(), a.read())"), base, patch, out], module="z4ai"),
        *(Peer(f"zstd -{level} --patch-from", [*zstd, f"-{level}", reference, "-o", patch], [*zstd, "-d", patch, "-o", out],
               command="zstd", small=level == 19) for level in (3, 19)),
        Peer("bsdiff", ["bsdiff", base, reference, patch], ["bspatch", base, out, patch], command="bsdiff", small=True),
    ]


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


def files(pairs, name):
    return [os.path.abspath(os.path.join(pairs, f"{name}_{side}.safetensors")) for side in "ab"]


def sizes(program, pairs, names, folder):
    patch, result = (os.path.join(folder, name) for name in ("patch", "result.safetensors"))
    print("| pair | tool | bytes | of the file | times lcepatch |\n| --- | --- | ---: | ---: | ---: |")
    for name in names:
        a, b = files(pairs, name)
        run(program, "diff", a, b, "--all", "-o", patch, "--force")
        own = os.path.getsize(patch)
        run(program, "apply", a, patch, "-o", result, "--force")
        run("cmp", b, result)
        found = [("lcepatch --all", own)]
        for peer in peers(a, b, patch, result, folder):
            if peer.missing or peer.small and os.path.getsize(a) > SMALL:
                continue
            Path(patch).unlink(missing_ok=True)
            try:
                run(*peer.diff)
                found.append((peer.name, os.path.getsize(patch)))
            except (subprocess.CalledProcessError, OSError) as error:
                print(f"{peer.name}: {error}", file=sys.stderr)
        for tool, size in found:
            print(f"| {name} | {tool} | {size:,} | {size / os.path.getsize(b):.3%} | {size / own:.2f} |", flush=True)


def indices(program, pairs, names, folder):
    patch = os.path.join(folder, "p.lcepatch")
    print("| pair | density | selected | bytes | bits an index | log2 C(n,k) / k | bits a delta |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in names:
        for density in ("0.1%", "0.5%", "10%"):
            a, b = files(pairs, name)
            run(program, "diff", a, b, "--density", density, "--params", "matrices", "-o", patch, "--force")
            shown = json.loads(subprocess.check_output([program, "show", patch, "--json"]))
            n, k = shown["metadata"]["candidates"]["elements"], shown["stat"]["selected"]
            streams = stream_bytes(patch)
            index, delta = 8 * streams[1] / k, 8 * streams[2] / k
            bound = log2_choose(n, k) / k
            print(f"| {name} | {density} | {k:,} | {os.path.getsize(patch):,} | {index:.3f} | {bound:.3f} | {delta:.2f} |", flush=True)


def main(table, program, pairs, names):
    with tempfile.TemporaryDirectory(dir=pairs) as folder:
        {"sizes": sizes, "indices": indices}[table](program, pairs, names, folder)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("sizes", "indices"):
        sys.exit(__doc__)
    main(*sys.argv[1:4], sys.argv[4:] or ["rl", "rl40", "sft", "sft32", "big"])
