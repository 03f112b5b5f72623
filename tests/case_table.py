#!/usr/bin/env python3
"""Every edit x localization x dtype on a pair of pruned models, against the paper's case table in numpy.

    python3 tests/case_table.py LCEPATCH fixtures/imp SCRATCH_DIRECTORY

Nothing here looks at the tool's code: selections and results are worked out from equations 1 to 6 (with the arithmetic
and the generator of spec sections A3 to A7 and A11), then compared with what the command line writes, element by element.
"""
import json
import os
import struct
import subprocess
import sys

import numpy as np

DENSE = ("query.weight", "key.weight", "value.weight", "dense.weight")
TYPES = {"F32": np.dtype("<u4"), "F16": np.dtype("<u2"), "BF16": np.dtype("<u2"), "U8": np.dtype("u1")}


def load(path):
    """Tensors of a safetensors file: name -> (dtype, shape, flat array of bit patterns)."""
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], np.frombuffer(
        raw[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]], TYPES[t["dtype"]]))
        for name, t in header.items()}


def save(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, bits) in tensors.items():
        raw = bits.astype(TYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)


def value(dtype, bits):
    """Exact values of bit patterns."""
    if dtype == "F32":
        return bits.astype("<u4").view("<f4").astype(np.float64)
    if dtype == "F16":
        return bits.astype("<u2").view("<f2").astype(np.float64)
    return (bits.astype("<u4") << 16).view("<f4").astype(np.float64)


def nearest(dtype, values):
    """Bit patterns of the nearest numbers, ties to even. Doubles to bfloat16 without the detour over float32."""
    if dtype == "F32":
        return values.astype("<f4").view("<u4")
    if dtype == "F16":
        return values.astype("<f2").view("<u2")
    bits = values.astype("<f8").view("<u8")
    exponent = ((bits >> np.uint64(52)) & np.uint64(0x7ff)).astype(np.int64) - 1023
    step = np.exp2(np.maximum(exponent, -126).astype(np.float64) - 7)  # a unit in the last place, subnormals included
    rounded = np.rint(values / step) * step  # both exact: powers of two, and numpy rounds half to even
    rounded = np.where(rounded == 0, np.copysign(0.0, values), rounded)
    return (rounded.astype("<f4").view("<u4") >> 16).astype("<u2")


def splitmix64(seed, count):
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def largest(keys, may, k):
    """The k largest keys among those that may be selected, the first of equal ones."""
    places = np.flatnonzero(may)
    order = np.lexsort((places, -keys[places].astype(np.float64) if keys.dtype != np.uint64 else ~keys[places]))
    out = np.zeros(len(keys), bool)
    out[places[order[:k]]] = True
    return out


def edit(kind, alpha, dtype, base, t, r_bits, r, before, m_t, m_r, b):
    """The case table, on flat arrays of all candidates. Returns bit patterns."""
    out = base.copy()
    zero = np.zeros(1, base.dtype)[0]
    if kind == "pr":
        out[b] = zero
    elif kind == "sw":
        out[b & m_t & ~m_r] = zero
        out[b & ~m_t & m_r] = before[b & ~m_t & m_r]
    elif alpha == 1:
        out[b] = r_bits[b]
    elif alpha != 0:
        moved = t + alpha * (r - t)
        out[b] = nearest(dtype, moved[b])
        only_t, only_r = b & m_t & ~m_r, b & ~m_t & m_r
        assert np.allclose(moved[only_t], (1 - alpha) * t[only_t], rtol=1e-15, atol=0), "kept in the target only"
        assert np.array_equal(moved[only_r], alpha * r[only_r]), "kept in the reference only"
    return out


def main(tool, models, scratch):
    os.makedirs(scratch, exist_ok=True)
    os.chdir(scratch)
    runs = 0
    for dtype in ("F32", "BF16", "F16"):
        sides = {}
        for side in ("target", "reference"):
            unpruned = {name: (dtype, shape, nearest(dtype, value(was, bits)))
                        for name, (was, shape, bits) in load(f"{models}/{side}/unpruned.safetensors").items()}
            masks = {name: np.unpackbits(bits, count=len(unpruned[name][2]), bitorder="little").astype(bool)
                     for name, (_, _, bits) in load(f"{models}/{side}/mask.safetensors").items()}
            pruned = {name: (dtype, shape, np.where(masks[name], bits, 0) if name in masks else bits)
                      for name, (dtype, shape, bits) in unpruned.items()}
            save(f"{side}-unpruned", unpruned)
            save(f"{side}-pruned", pruned)
            sides[side] = unpruned, pruned, masks
        names = sorted(sides["target"][2])
        assert names and all(name.endswith(DENSE) for name in names)
        flat = lambda tensors: np.concatenate([tensors[name][2] for name in names])
        m_t, m_r = (np.concatenate([sides[side][2][name] for name in names]) for side in ("target", "reference"))
        for form in ("pruned", "unpruned"):
            which = 1 if form == "pruned" else 0
            base, reference = flat(sides["target"][which]), flat(sides["reference"][which])
            before = flat(sides["target"][0])
            # A weight that happens to be zero is one that is pruned, where zeros say what is.
            k_t, k_r = (m_t & (value(dtype, base) != 0), m_r & (value(dtype, reference) != 0)) if which else (m_t, m_r)
            t = np.where(k_t, value(dtype, base), 0.0)
            r_bits = np.where(k_r, reference, 0).astype(base.dtype)
            r = value(dtype, r_bits)
            k = int((k_t ^ k_r).sum())
            files = f"--target-mask {models}/target/mask.safetensors --reference-mask {models}/reference/mask.safetensors"
            where = "--mask-from zeros --unpruned target-unpruned" if which else files
            numbers = splitmix64(7, len(base))
            localizations = {
                f"--localize mask {where}": k_t ^ k_r,
                f"--k from-mask {where}": largest(np.abs(r - t), k_t & k_r, k),
                f"--density 10% {where}": largest(np.abs(r - t), k_t & k_r, round(0.1 * len(base))),
                f"--localize random --seed 7 --k from-mask {where}": largest(numbers, k_t | k_r, k),
                f"--localize random --seed 7 --k 999 --among target {where}": largest(numbers, k_t, 999),
            }
            for flags, b in localizations.items():
                lcepatch = lambda line: subprocess.run([tool, *line.split()], check=True, stdout=subprocess.DEVNULL)
                lcepatch(f"diff target-{form} reference-{form} -o patch --force --quiet {flags}")
                edits = [("ip", 0.0), ("ip", 0.25), ("ip", 0.5), ("ip", 1.0), ("ep", 2.0), ("ep", -2.0), ("pr", None)]
                # What value-based selection finds is kept in both, so that there is no mask to switch.
                edits += [("sw", None)] if "localize" in flags else []
                for kind, alpha in edits:
                    strength = "" if alpha is None else f"--alpha {alpha}"
                    lcepatch(f"apply target-{form} patch -o result --force --quiet --edit {kind} {strength}")
                    result = load("result")
                    expected = edit(kind, alpha, dtype, base, t, r_bits, r, before, k_t, k_r, b)
                    found = flat(result)
                    wrong = np.flatnonzero(found != expected)
                    assert not len(wrong), f"{dtype} {form} {flags} {kind} {alpha}: {len(wrong)} differ, first {wrong[:3]}"
                    for name, (_, _, bits) in sides["target"][which].items():
                        assert name in names or np.array_equal(bits, result[name][2]), f"{name} changed"
                    runs += 1
    print(f"{runs} edits of {len(base):,} candidates agree")


if __name__ == "__main__":
    main(*map(os.path.abspath, sys.argv[1:])) if len(sys.argv) == 4 else sys.exit(__doc__)
