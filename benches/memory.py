#!/usr/bin/env python3
"""Check the memory bound: at most 64 MiB and 40 bytes for each selected weight, whatever the checkpoint's size.

    python3 benches/memory.py target/release/lcepatch [MEGABYTES]      # default 512

Makes a bf16 pair of that size in a temporary folder, measures the peak resident memory (mapped pages included) of diff,
check and apply, prints it beside the bound, and fails if one is above it.
"""
import json
import multiprocessing
import os
import struct
import subprocess
import sys
import tempfile


def make(path, megabytes, seed, change):
    import numpy as np
    columns, rows = 4096, megabytes * 1_000_000 // 2 // 4096 // 4
    header, offset = {}, 0
    for layer in range(4):
        header[f"model.layers.{layer}.mlp.up_proj.weight"] = {
            "dtype": "BF16", "shape": [rows, columns], "data_offsets": [offset, offset + 2 * rows * columns]}
        offset += 2 * rows * columns
    head = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for layer in range(4):
            rng = np.random.default_rng(seed + layer)
            weights = rng.standard_normal(rows * columns, dtype=np.float32).view(np.uint32)
            bits = (weights >> 16).astype(np.uint16)
            if change:
                bits[rng.random(len(bits), dtype=np.float32) < 0.02] ^= 1
            file.write(bits.tobytes())


def peak_bytes(command):
    """Run a command; return the peak resident memory of it alone."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024


def main(program, megabytes=512):
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        # In processes of their own: the system counts what this one holds towards the peak of its children.
        for name, change in (("a", False), ("b", True)):
            maker = multiprocessing.Process(target=make, args=(at(name + ".safetensors"), int(megabytes), 1, change))
            maker.start()
            maker.join()
        pair = [at("a.safetensors"), at("b.safetensors")]
        for name, amount in (("full", ["--all"]), ("top-k", ["--density", "0.5%"])):
            patch = at(name + ".lcepatch")
            commands = [["diff", *pair, "-o", patch, *amount], ["check", patch, pair[0]],
                        ["apply", pair[0], patch, "-o", at("c.safetensors"), "--force"]]
            for command in commands:
                peak = peak_bytes([program, *command])
                shown = json.loads(subprocess.check_output([program, "show", patch, "--json"]))
                bound = (64 << 20) + 40 * shown["stat"]["selected"]
                print(f"{name:6} {command[0]:6} {peak / 2**20:7.1f} MiB of {bound / 2**20:7.1f} MiB")
                failed |= peak > bound
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) in (2, 3) else sys.exit(__doc__)
