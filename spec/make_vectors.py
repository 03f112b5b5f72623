#!/usr/bin/env python3
"""Write the known-answer vectors: legal and illegal files, built field by field as lcepatch-v1.md says.

    make_vectors.py OUT_DIR           # OUT_DIR/v1/*.lcepatch, *.json, *.safetensors, and OUT_DIR/arithmetic.json, OUT_DIR/pco.json
    make_vectors.py --worked-example  # the listing of §16

Each vector is one function; its name is the file's, its docstring the comment. It returns the file's bytes, or these and a
Case with a base and the expected result. The same script gives the same bytes every time.
"""
import hashlib
import json
import math
import os
import struct
import sys
from fractions import Fraction

import numpy as np
import zstandard
from blake3 import blake3

# The builder: one function a structure

MAGIC = bytes.fromhex("894C43500D0A1A0A")
DEVELOPMENT_MAGIC = bytes.fromhex("894C43450D0A1A0A")
CODES = {"BOOL": 1, "U8": 2, "I8": 3, "U16": 4, "I16": 5, "U32": 6, "I32": 7, "U64": 8, "I64": 9, "F8_E4M3": 16, "F8_E5M2": 17,
         "F16": 18, "BF16": 19, "F32": 20, "F64": 21, "C64": 32, "F8_E8M0": 33, "F8_E4M3FNUZ": 34, "F8_E5M2FNUZ": 35, "F4": 36, "F6_E2M3": 37,
         "F6_E3M2": 38}
FLOATS = {"F8_E4M3": (4, 3), "F8_E5M2": (5, 2), "F16": (5, 10), "BF16": (8, 7), "F32": (8, 23), "F64": (11, 52)}
WIDTHS = {"U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64}


def width(dtype):
    return WIDTHS.get(dtype, 8)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def sha256(data):
    return hashlib.sha256(data).digest()


def H(data):
    return blake3(data).digest()


def section(kind, content, zstd=False, encoding=None, reserved=0, raw=None):
    stored = zstandard.ZstdCompressor(level=9).compress(content) if zstd else content
    raw = len(content) if raw is None else raw
    return struct.pack("<HBBII", kind, int(zstd) if encoding is None else encoding, reserved, len(stored), raw) + stored


def file_of(sections, payload=b"", magic=MAGIC, version=1, reserved=0, reserved_too=0, sections_length=None, payload_length=None,
            digest=None):
    front = magic + struct.pack("<HHIQQ", version, reserved, len(sections) if sections_length is None else sections_length,
                                len(payload) if payload_length is None else payload_length, reserved_too)
    return front + (digest or H(front + sections)) + sections + payload


def rice(numbers, parameter, bits):
    """The bits of Rice-coded numbers, as a list."""
    out = []
    for v in numbers:
        q = v >> parameter
        if q < 24:
            out += [1] * q + [0] + [v >> i & 1 for i in range(parameter)]
        else:
            out += [1] * 24 + [v >> i & 1 for i in range(bits)]
    return out


def pack_bits(bits):
    bits = bits + [0] * (-len(bits) % 8)
    return bytes(sum(bit << i for i, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))


def bits_of_number(value, n):
    return [value >> i & 1 for i in range(n)]


def pco_states(L, weights):
    """§P.4: the states of each bin, ascending."""
    T, states = 2**L, [[] for _ in weights]
    stride = 3 * T // 5
    stride += stride % 2 == 0
    j = 0
    for i, weight in enumerate(weights):
        for _ in range(weight):
            states[i].append(j * stride % T)
            j += 1
    return [sorted(of_bin) for of_bin in states]


def pco_chunk(numbers, b, bins=None, L=0, last=(0, 0, 0, 0), padding=(0, 0, 0), n=None, kind=None, mode=0, delta=0, B=None):
    """§P.3: `bins` are (weight, lower, width), by default those of `numbers`, and `last` the states at the end. The other fields are for
    chunks that are not legal, or as `n`, for a constant that is not listed."""
    if bins is None:
        L, bins = pco_bins(numbers)
    T, states = 2**L, pco_states(L, [weight for weight, _, _ in bins])
    X, steps = [T + state for state in last], []
    for k in reversed(range(len(numbers))):
        i = next(i for i, (_, lower, width) in enumerate(bins) if (numbers[k] - lower) % 2**b < 2**width)
        weight, lower, width = bins[i]
        r = next(r for r in range(L + 1) if weight <= X[k % 4] >> r < 2 * weight)
        steps.append((bits_of_number(X[k % 4], r), bits_of_number((numbers[k] - lower) % 2**b, width)))
        X[k % 4] = T + states[i][(X[k % 4] >> r) - weight]
    steps.reverse()
    fields = [(kind or {16: 7, 32: 1, 64: 2}[b], 8), ((n or len(numbers)) - 1, 24), (mode, 4), (delta, 4), (L, 4), (len(bins) if B is None else B, 15)]
    for weight, lower, width in bins:
        fields += [(weight - 1, L), (lower, b), (width, {16: 5, 32: 6, 64: 7}[b])]
    batches = [steps[at : at + 256] for at in range(0, len(steps), 256)]
    parts = [[bit for field in fields for bit in bits_of_number(*field)], [bit for state in X for bit in bits_of_number(state - T, L)],
             [bit for batch in batches for half in (0, 1) for step in batch for bit in step[half]]]
    return b"".join(pack_bits(part + [pad] * (-len(part) % 8)) for part, pad in zip(parts, padding))


def pco_bins(numbers):
    """Up to six bins, of weights in about the proportions of what they hold."""
    values = sorted(set(numbers))
    B = min(6, len(values))
    runs = [values[i * len(values) // B : (i + 1) * len(values) // B] for i in range(B)]
    L = 0 if B == 1 else B.bit_length() + 2
    weights = [max(1, sum(map(run.__contains__, numbers)) * 2**L // len(numbers)) for run in runs]
    weights[weights.index(max(weights))] += 2**L - sum(weights)
    return L, [(weight, run[0], (run[-1] - run[0]).bit_length()) for weight, run in zip(weights, runs)]


def pco_file(count, *chunks, hint=None, width=None, padding=0, magic=b"pco!\3\0", version=b"\4\1", end=b"\0"):
    """§P.2: `hint` is by default the `count`, in as few bits as it takes."""
    hint = count if hint is None else hint
    width = max(1, hint.bit_length()) if width is None else width
    bits = bits_of_number(width - 1, 6) + bits_of_number(hint, width)
    return magic + pack_bits(bits + [padding] * (-len(bits) % 8)) + version + b"".join(chunks) + end


def pco(numbers, b, chunk=1 << 18):
    numbers = [int(v) for v in numbers]
    return pco_file(len(numbers), *(pco_chunk(numbers[at : at + chunk], b) for at in range(0, len(numbers), chunk)))


def grouped(groups, bits, methods=None, spans=()):
    """§9.2: `groups` are lists of numbers, `methods` Rice parameters or 64, `spans` the classes of all groups but the last."""
    methods = methods or [0] * len(groups)
    out = varint(len(groups) - 1)
    for g, (numbers, method) in enumerate(zip(groups, methods)):
        if g + 1 < len(groups):
            out += varint(spans[g] - 1)
        out += varint(len(numbers)) + bytes([method])
    out += pack_bits([bit for numbers, m in zip(groups, methods) if m != 64 for bit in rice(numbers, m, bits)])
    if 64 in methods:
        out += pco([v for numbers, m in zip(groups, methods) if m == 64 for v in numbers], bits)
    GROUPS[out] = [list(numbers) for numbers in groups]
    return out


# What made these bytes, for the key `blocks`: of grouped integers the integers by groups, of a block its streams, of dense deltas the escape
# integers and the symbols.
GROUPS, STREAMS, DENSE = {}, {}, {}


def gaps(positions):
    return [p - q - 1 for p, q in zip(positions, [-1, *positions])]


def image(u, dtype):
    w = width(dtype)
    if dtype in FLOATS and u >> (w - 1):
        return (-1 - (u - 2 ** (w - 1))) % 2**w
    return u


def fold(delta, w):
    """§9.5: from a delta modulo 2^w to the coded integer."""
    signed = delta - 2**w if delta >> (w - 1) else delta
    return ((2 * signed if signed >= 0 else -2 * signed - 1) - 1) % 2**w


def unfold(c, w):
    """§9.5: from a coded integer to the delta."""
    z = (c + 1) % 2**w
    return z // 2 if z % 2 == 0 else -(z + 1) // 2


def from_image(u, dtype):
    sign = 2 ** (width(dtype) - 1)
    return u if dtype not in FLOATS or u < sign else sign | (-1 - u) % 2 ** width(dtype)


def ulps(base, reference, dtype):
    w = width(dtype)
    return [fold((image(r, dtype) - image(b, dtype)) % 2**w, w) for b, r in zip(base, reference)]


def exponent(u, dtype):
    e, m = FLOATS[dtype]
    return u >> m & (2**e - 1)


def block(*streams, terminator=b"\0", tail=b""):
    """§8: streams are (kind, codec, bytes)."""
    out = b"".join(bytes([k, c]) + varint(len(d)) for k, c, d in streams) + terminator + b"".join(d for _, _, d in streams) + tail
    STREAMS[out] = streams
    return out


def table_tensor(name, dtype, shape, code=None):
    return varint(len(name)) + name + bytes([CODES[dtype] if code is None else code]) + varint(len(shape)) + b"".join(map(varint, shape))


def tensor_bytes(bits, dtype):
    return b"".join(int(u).to_bytes(width(dtype) // 8, "little") for u in bits)


def safetensors(tensors):
    header, data = {}, b""
    for name, (dtype, shape, bits) in tensors.items():
        raw = tensor_bytes(bits, dtype)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


class Case:
    """A base, what a patch makes of it, and the patch. Vectors change one part and leave the others right."""

    def __init__(self, tensors, log2=8, selected=None, encode=None):
        """`tensors`: name -> (dtype, shape, base bits, reference bits); all that differ are selected, or `selected[name]`."""
        self.base = {name: (dtype, shape, base) for name, (dtype, shape, base, _) in tensors.items()}
        self.reference = {name: reference for name, (_, _, _, reference) in tensors.items()}
        self.result, self.alphas, self.where = {}, [], {}
        self.table_tensors, self.table_blocks, self.blocks, self.base_digests, self.picked = [], b"", [], [], []
        self.reference_digests, self.result_digests, self.put_back_digests, self.log2, self.parts = [], [], [], log2, []
        for name in sorted(tensors, key=str.encode):
            dtype, shape, base, reference = tensors[name]
            where = (selected or {}).get(name, [i for i, (b, r) in enumerate(zip(base, reference)) if b != r])
            self.where[name] = set(where)
            result = [self.element(name, i, 1) if i in set(where) else u for i, u in enumerate(base)]
            self.result[name] = result
            if not where:
                continue
            self.table_tensors.append(table_tensor(name.encode(), dtype, shape))
            self.base_digests.append(H(tensor_bytes(base, dtype)))
            self.result_digests.append(H(tensor_bytes(result, dtype)))
            self.reference_digests.append(H(tensor_bytes(reference, dtype)))
            put_back = [base[i] if i in set(where) else u for i, u in enumerate(reference)]
            self.put_back_digests.append(H(tensor_bytes(put_back, dtype)))
            for start in range(0, len(base), 2**log2):
                inside = [i - start for i in where if start <= i < start + 2**log2]
                self.table_blocks += varint(len(inside))
                if inside:
                    part = base[start : start + 2**log2]
                    bits, aims = [part[p] for p in inside], [reference[start + p] for p in inside]
                    self.blocks.append(self.block_of(name, start, encode, inside, bits, aims, dtype, part))
                    self.table_blocks += varint(len(self.blocks[-1]))
                    self.picked.append(H(tensor_bytes(bits, dtype)))
                    self.parts.append((name, start, inside, bits, aims))

    def block_of(self, name, start, encode, *arguments):
        return (encode or plain)(*arguments)

    def element(self, name, i, alpha):
        """§A3: the result at a selected element."""
        dtype, _, base = self.base[name]
        return edit(base[i], self.reference[name][i], alpha, dtype)

    def table(self, **changed):
        tensors = changed.get("tensors", self.table_tensors)
        return bytes([changed.get("log2", self.log2)]) + varint(len(tensors)) + b"".join(tensors) + changed.get("blocks", self.table_blocks)

    def digests(self):
        roots = [H(b"".join(d)) for d in (self.picked, self.reference_digests, self.result_digests)]
        return b"".join(roots + self.base_digests + [H(b) for b in self.blocks])

    def sections(self, metadata=b"{}", table=None, digests=None, extra=b"", zstd=False):
        return (section(1, metadata, zstd) + section(2, self.table() if table is None else table, zstd)
                + section(3, self.digests() if digests is None else digests) + extra)

    def file(self, payload=None, sections=None, **changed):
        return file_of(self.sections() if sections is None else sections, b"".join(self.blocks) if payload is None else payload, **changed)

    def at(self, alpha):
        """Also expect the result at `alpha`, for patches with exact deltas."""
        self.alphas.append((alpha, self.outcome(lambda name, i: self.element(name, i, alpha))))
        return self

    def kept(self, name, i):
        """The sum of §9.9."""
        return 3

    def delta(self, name, i):
        """d of §A3, from the case's own base."""
        dtype, _, base = self.base[name]
        t = as_float(base[i], dtype) if self.kept(name, i) & 1 else 0.0
        return as_float(self.reference[name][i], dtype) - t if self.kept(name, i) & 2 else 0.0 - t

    def moved(self, bits, alphas, deltas, dtype, counts):
        """§A5: an element with these bits in the base that moves by several deltas."""
        s = as_float(bits, dtype) if counts else 0.0
        for alpha, delta in zip(alphas, deltas):
            s += alpha * delta
        return round_float(s, dtype)

    def on_tensors(self, other):
        """Also expect to be refused on a base of these tensors, as `safetensors` takes them."""
        self.other, self.elsewhere = other, [(1.0, None)]
        return self

    def on(self, other, *alphas, refused=False):
        """Also expect this on another base (§A10), whose bits are `other` by name: a result at each of `alphas`, or to be refused."""
        self.other = {name: (dtype, shape, other[name]) for name, (dtype, shape, _) in self.base.items()}
        moved = lambda name, i, alpha: self.moved(other[name][i], [alpha], [self.delta(name, i)], self.base[name][0], self.kept(name, i) & 1)
        self.elsewhere = []
        for alpha in alphas:
            result = {n: list(bits) for n, (_, _, bits) in self.other.items()}
            if refused:
                result = None
            elif alpha:
                for n, where in self.where.items():
                    for i in where:
                        result[n][i] = moved(n, i, alpha)
                for n, mask in self.companions():
                    for i in self.where[n] if not self.where[mask] else ():
                        result[mask][i] = one(self.base[mask][0]) if alpha != 1 or self.kept(n, i) & 2 else 0
            self.elsewhere.append((alpha, result))
        return self

    def block_values(self):
        """The key `blocks`: what comes between the bytes of each block and the result."""
        rows = []
        for data, (name, start, positions, bits, aims) in zip(self.blocks, self.parts):
            dtype, streams, deltas = self.base[name][0], {}, None
            w = width(dtype)
            for kind, codec, content in STREAMS[data]:
                streams[str(kind)] = {"codec": codec}
                if (kind, codec) == (2, 5):
                    streams["2"]["integers"], streams["2"]["symbols"] = DENSE[content]
                elif kind < 6 and (kind, codec) != (1, 3):
                    streams[str(kind)]["integers"] = groups = GROUPS[content[4:] if (kind, codec) == (2, 4) else content]
                if (kind, codec) == (2, 3):
                    deltas = [as_float(from_image(unfold(c, 16) % 2**16, "BF16"), "BF16") for c in groups[0]]
                if (kind, codec) == (2, 4):
                    deltas = [unfold(c, 8) * struct.unpack("<f", content[:4])[0] for c in groups[0]]
            if deltas is None:
                kept = [i for i, p in enumerate(positions) if self.kept(name, start + p) & 2]
                deltas = [(image(aims[i], dtype) - image(bits[i], dtype) + 2 ** (w - 1)) % 2**w - 2 ** (w - 1) for i in kept]
            rows.append({"tensor": name, "start": start, "streams": streams, "positions": positions, "base": [f"{u:0{w // 4}x}" for u in bits],
                         "classes": [exponent(u, dtype) if dtype in FLOATS else 0 for u in bits], "deltas": deltas})
        return rows

    def fits_other(self):
        """Whether the other base fits (§A2), by a full check and by a quick one."""
        names = [name for name in self.base if self.where[name]]
        if not all(name in self.other and self.other[name][:2] == self.base[name][:2] for name in names):
            return False, False
        pairs = [(name, self.base[name][2], self.other[name][2]) for name in names]
        return all(own == other for _, own, other in pairs), all(own[i] == other[i] for name, own, other in pairs for i in self.where[name])

    def refused_with(self, name, alphas):
        """Also expect to be refused together with the vector `name`."""
        self.together = name, alphas, None
        return self

    def with_another(self, name, other, alphas):
        """Also expect this of the vector `name`, whose case is `other`, and then this one, applied together to their base (§A5)."""
        assert self.base == other.base
        cases = [(case, alpha) for case, alpha in ((other, alphas[0]), (self, alphas[1])) if alpha]
        result = {}
        for tensor, (dtype, _, base) in self.base.items():
            result[tensor] = list(base)
            for i in range(len(base)):
                here = [(case, alpha) for case, alpha in cases if i in case.where[tensor]]
                if len(here) == 1:
                    result[tensor][i] = here[0][0].element(tensor, i, here[0][1])
                elif here:
                    counts = all(case.kept(tensor, i) & 1 for case, _ in here)
                    result[tensor][i] = self.moved(base[i], [alpha for _, alpha in here], [case.delta(tensor, i) for case, _ in here], dtype, counts)
        for tensor, mask in self.companions():
            if not any(case.where[mask] for case in (self, other)):
                for i in self.where[tensor] | other.where[tensor]:
                    here = [(case, alpha) for case, alpha in cases if i in case.where[tensor]]
                    kept = len(here) > 1 or here[0][1] != 1 or here[0][0].kept(tensor, i) & 2
                    result[mask][i] = one(self.base[mask][0]) if kept else 0
        self.together = name, alphas, result
        return self

    def companions(self):
        """Tensors with masks beside which the base has a mask, and its name (§A8)."""
        for name, (_, shape, _) in self.base.items():
            mask = name.removesuffix("_orig") + "_mask"
            if name.endswith("_orig") and mask in self.base and self.base[mask][1] == shape and (self.base[mask][0] in FLOATS or self.base[mask][0] in ("BOOL", "U8")):
                yield name, mask

    def outcome(self, element):
        """All tensors of the base, with `element(name, i)` at the selected ones."""
        return {name: [element(name, i) if i in self.where[name] else u for i, u in enumerate(base)] for name, (_, _, base) in self.base.items()}


class Masked(Case):
    """A case of pruned checkpoints: `tensors`: name -> (dtype, shape, base bits, reference bits, kept in base, kept in reference).

    A tensor without the last two has no masks. Selected are the elements that are kept in one of the two and differ in bits or
    masks. `codec` is that of the masks; `before` has the bits before pruning for each tensor, or is None: then blocks do not
    carry them. With `bare`, blocks whose elements are all kept in both have no masks. Not `exact`: deltas are codec 3 or 4.
    `encode` gets the sums of §9.9, the masks' codec, and the bits before pruning, beside what those of Case get.
    """

    def __init__(self, tensors, codec=1, before=None, bare=False, exact=True, encode=None, selected=None, log2=8):
        self.codec, self.before, self.bare, self.exact, self.bare_blocks, self.sums = codec, before, bare, exact, 0, {}
        where = dict(selected or {})
        for name, (dtype, shape, base, reference, *kept) in tensors.items():
            if kept:
                negative = 1 << (width(dtype) - 1)
                self.sums[name] = [b + 2 * r + (4 if not r and u == negative else 0) for u, b, r in zip(reference, *kept)]
                assert all(r or u in (0, negative) for u, r in zip(reference, kept[1]))
                assert codec == 2 or all(b or u in (0, negative) for u, b in zip(base, kept[0]))
                where.setdefault(name, [i for i, s in enumerate(self.sums[name]) if s in (1, 2, 5) or s == 3 and base[i] != reference[i]])
        super().__init__({name: tensor[:4] for name, tensor in tensors.items()}, log2, where, encode)
        result = self.outcome(lambda name, i: self.element(name, i, 1), lambda name, i: self.sum(name, i) & 2)
        assert all(self.result[name] == result[name] for name in self.sums)
        self.result = result
        floats = all(self.base[name][0] in FLOATS for name, where in self.where.items() if where)
        switches = not self.bare_blocks and not any(where and name not in self.sums for name, where in self.where.items()) and (
            codec == 2 or before or not any(self.sums[name][i] == 2 for name in self.sums for i in self.where[name]))
        self.edits = {"pr": self.outcome(lambda name, i: 0, lambda name, i: 0) if floats else None,
                      "sw": self.outcome(self.switched, lambda name, i: self.sum(name, i) & 2) if switches else None}

    def sum(self, name, i):
        return self.sums[name][i] if name in self.sums else 3

    def kept(self, name, i):
        return self.sum(name, i)

    def refused(self):
        """Every edit is refused, for the base's own mask is another."""
        self.result, self.alphas, self.edits = None, [(alpha, None) for alpha in (0.0, 0.5)], {"pr": None, "sw": None}
        return self

    def block_of(self, name, start, encode, positions, *arguments):
        sums = [self.sum(name, start + p) for p in positions]
        if name not in self.sums or self.bare and set(sums) == {3}:
            self.bare_blocks += 1
            return plain(positions, *arguments)
        before = [self.before[name][start + p] for p, s in zip(positions, sums) if s == 2] if self.before else None
        return (encode or masked)(positions, *arguments, sums, self.codec, before)

    def element(self, name, i, alpha):
        """§A3"""
        (dtype, _, base), reference, kept = self.base[name], self.reference[name], self.sum(name, i)
        if alpha == 0 or alpha == 1 and self.exact:
            return base[i] if alpha == 0 else reference[i]
        t = as_float(base[i], dtype) if kept & 1 else 0.0
        d = as_float(reference[i], dtype) - t if kept & 2 else 0.0 - t
        return round_float(t + alpha * d, dtype)

    def switched(self, name, i):
        """§A7"""
        base, kept = self.base[name][2], self.sum(name, i)
        if not kept & 2:
            return 0
        if kept & 1:
            return base[i]
        return self.before[name][i] if self.before else base[i]

    def outcome(self, element, kept=lambda name, i: True):
        """Also the masks of the result, §A8, with `kept(name, i)` at the selected elements."""
        result = super().outcome(element)
        for name, mask in self.companions():
            if name in self.sums and not self.where[mask]:
                for i in self.where[name]:
                    result[mask][i] = one(self.base[mask][0]) if kept(name, i) else 0
        return result


def plain(positions, base, reference, dtype, part):
    W = max(16, width(dtype))
    return block((1, 1, grouped([gaps(positions)], 32, [3])), (2, 1, grouped([ulps(base, reference, dtype)], W, [2])))


def masked(positions, base, reference, dtype, part, sums, codec, before, deltas=None, own=False, first=None):
    """§9.9, §9.10: like `plain`, but deltas only of what is kept in the reference, and the streams of masks."""
    W, kept = max(16, width(dtype)), [i for i, s in enumerate(sums) if s & 2]
    deltas = deltas or (lambda b, r, d, s: (2, 1, grouped([ulps(b, r, d)], W, [2])))
    streams = [first or (1, 1, grouped([gaps(positions)], 32, [3])), deltas(*([u[i] for i in kept] for u in (base, reference)), dtype, [sums[i] for i in kept])]
    if own:
        streams.append((3, 1, bits_of(base, dtype)))
    streams.append((4, codec, grouped([sums], 16, [1])))
    if before is not None:
        streams.append((5, 1, bits_of(before, dtype)))
    return block(*streams)


def bits_of(bits, dtype):
    """§9.8, §9.10"""
    w = width(dtype)
    return grouped([[(image(u, dtype) + (2 ** (w - 1) if dtype in FLOATS else 0)) % 2**w for u in bits]], max(16, w), [64])


def by_class(positions, base, reference, dtype, part, spans=None, methods=None, deltas=True):
    """Class gaps and class ULP deltas; `spans` of classes, by default one group up to exponent 126 and the rest."""
    W, classes = max(16, width(dtype)), 2 ** FLOATS[dtype][0]
    spans = spans if spans is not None else [min(127, classes // 2)]
    ends = [sum(spans[: i + 1]) for i in range(len(spans))] + [classes]
    group = lambda u: next(g for g, end in enumerate(ends) if exponent(u, dtype) < end)
    gap_groups, seen, delta_groups = [[] for _ in ends], [0] * len(ends), [[] for _ in ends]
    for i, u in enumerate(part):
        if i in positions:
            gap_groups[group(u)].append(seen[group(u)])
            seen[group(u)] = 0
        else:
            seen[group(u)] += 1
    for b, c in zip(base, ulps(base, reference, dtype)):
        delta_groups[group(b)].append(c)
    methods = methods or [2] * len(ends)
    second = (2, 2, grouped(delta_groups, W, methods, spans)) if deltas else (2, 1, grouped([ulps(base, reference, dtype)], W, [2]))
    return block((1, 2, grouped(gap_groups, 32, methods, spans)), second)


def zstd_of(content):
    return zstandard.ZstdCompressor(level=9).compress(content)


def zstd_stored(content):
    """A zstd frame of less than 256 bytes that are stored as they are, by hand (RFC 8878, 3.1.1)."""
    return bytes.fromhex("28B52FFD20") + bytes([len(content)]) + (len(content) << 3 | 1).to_bytes(3, "little") + content


class Dense:
    """§9.11: a dense block. `parameters` are packing, low bits and zero bits of each group, `spans` the classes of all groups but the
    last. `chunks` are the changed ones, by default those that must be. Vectors change one part, and then ask for the `block`."""

    def __init__(self, positions, base, reference, dtype, part, parameters=((0, 0, 0),), spans=(), chunks=None, pack=zstd_of):
        self.dtype, self.spans, self.b, w = dtype, spans, max(16, width(dtype)), width(dtype)
        deltas = {p: (image(r, dtype) - image(u, dtype) + 2 ** (w - 1)) % 2**w - 2 ** (w - 1) for p, u, r in zip(positions, base, reference)}
        n_chunks = -(-len(part) // 128)
        chunks = sorted({p // 128 for p in positions}) if chunks is None else chunks
        self.map = b"" if chunks == list(range(n_chunks)) else zstd_of(pack_bits([int(j in chunks) for j in range(n_chunks)]))
        ends = [sum(spans[: i + 1]) for i in range(len(spans))]
        sequences = [[] for _ in parameters]
        for i, u in enumerate(part):
            if i // 128 in chunks:
                sequences[sum(end <= (exponent(u, dtype) if dtype in FLOATS else 0) for end in ends)].append(deltas.get(i, 0))
        self.parameters, self.tail, self.pack = list(parameters), b"", pack
        self.symbols, self.escaped, self.bits = map(list, zip(*(self.symbols_of(*g, sequence) for g, sequence in zip(parameters, sequences))))
        self.finish()

    def symbols_of(self, packing, low, zeros, deltas):
        """The symbols of a group, its escape integers, and its low bits."""
        symbols, escaped, bits, escape = [], [], [], 2 ** (8 >> packing) - 1
        for delta in deltas:
            c = fold((delta >> zeros) % 2**self.b, self.b)
            if delta == 0:
                symbols.append(0)
            elif delta % 2**zeros or c >> low >= escape - 1:
                symbols.append(escape)
                escaped.append(fold(delta % 2**self.b, self.b))
            else:
                symbols.append((c >> low) + 1)
                bits += [c >> i & 1 for i in range(low)]
        return symbols, escaped, bits

    def packed(self, group):
        """The bytes of the symbols of a group."""
        return pack_bits([symbol >> i & 1 for symbol in self.symbols[group] for i in range(8 >> self.parameters[group][0])])

    def finish(self):
        """From symbols, escape integers and low bits to what is stored."""
        self.counts = [len(symbols) for symbols in self.symbols]
        self.frames = [self.pack(self.packed(group)) if count else b"" for group, count in enumerate(self.counts)]
        self.low_bits = [pack_bits(bits) for bits in self.bits]
        self.escape([c for escaped in self.escaped for c in escaped])

    def escape(self, integers, methods=[1]):
        self.escapes, self.escape_integers = len(integers), grouped([integers], self.b, methods)

    def table(self):
        out = varint(len(self.parameters) - 1)
        for g, (count, parameters, frame) in enumerate(zip(self.counts, self.parameters, self.frames)):
            out += varint(self.spans[g] - 1) if g + 1 < len(self.parameters) else b""
            out += varint(count) + bytes(parameters) + varint(len(frame))
        return out + varint(self.escapes) + varint(len(self.escape_integers)) + self.escape_integers

    def stream(self):
        out = self.table() + b"".join(frame + low for frame, low in zip(self.frames, self.low_bits)) + self.tail
        DENSE[out] = GROUPS.get(self.escape_integers), self.symbols
        return out

    def block(self, *others, positions=3, deltas=5):
        return block((1, positions, self.map), (2, deltas, self.stream()), *others)


def dense(**options):
    """An encoder of dense blocks for Case."""
    return lambda *arguments: Dense(*arguments, **options).block()


# §10, §A3 with exact rationals


def value(u, dtype):
    """The value of a finite pattern; None for NaN and infinity."""
    (e, m), w = FLOATS[dtype], width(dtype)
    x, f = u >> m & (2**e - 1), u & (2**m - 1)
    if (x == 2**e - 1 and dtype != "F8_E4M3") or (dtype == "F8_E4M3" and u & 127 == 127):
        return None
    bias = 2 ** (e - 1) - 1
    magnitude = Fraction(f + (2**m if x else 0)) * Fraction(2) ** (max(x, 1) - bias - m)
    return -magnitude if u >> (w - 1) else magnitude


def as_float(u, dtype):
    """Also of NaN and infinity."""
    exact, negative = value(u, dtype), u >> (width(dtype) - 1)
    if exact is None:
        magnitude = math.inf if dtype != "F8_E4M3" and u & (2 ** FLOATS[dtype][1] - 1) == 0 else math.nan
        return -magnitude if negative else magnitude
    return -0.0 if exact == 0 and negative else float(exact)


def round_float(number, dtype):
    """§10.3: the bits, or None on overflow."""
    (e, m), w = FLOATS[dtype], width(dtype)
    sign = 1 << (w - 1) if np.signbit(number) else 0
    exact, bias = abs(Fraction(number)), 2 ** (e - 1) - 1
    step = 1 - bias - m
    while exact >= Fraction(2) ** (step + m + 1):
        step += 1
    units = exact / Fraction(2) ** step
    kept = units.numerator // units.denominator
    rest = units - kept
    kept += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and kept % 2)
    bits = ((step + bias + m - 1) << m) + kept
    top = 127 if dtype == "F8_E4M3" else (2**e - 1) << m
    return None if bits >= top else sign | bits


def not_finite(number, dtype):
    """§10.3: the bits of NaN, or of an overflow."""
    e, m = FLOATS[dtype]
    top = 127 if dtype == "F8_E4M3" else (2**e - 1) << m
    if math.isnan(number):
        return top if dtype == "F8_E4M3" else top | 1 << (m - 1)
    return top | (1 << (width(dtype) - 1) if number < 0 else 0)


def edit(base, reference, alpha, dtype, allow_non_finite=False):
    if alpha == 1:
        return reference
    if alpha == 0:
        return base
    t, r = as_float(base, dtype), as_float(reference, dtype)
    number = t + alpha * (r - t)
    bits = round_float(number, dtype) if math.isfinite(number) else None
    return not_finite(number, dtype) if bits is None and allow_non_finite else bits


def one(dtype):
    """The bits of 1."""
    return (2 ** (FLOATS[dtype][0] - 1) - 1) << FLOATS[dtype][1] if dtype in FLOATS else 1


# Cases that many vectors share

BF16_BASE = [0x3F80, 0xBF80, 0x3F00, 0x4000, 0x3E99, 0x0001, 0x8000, 0x7F00]
DENSE_REFERENCE = [0x3F84, 0xBF80, 0x3F00, 0x3FFE, 0x3E98, 0x0002, 0x8002, 0x7F01]
BF16_REFERENCE = [0x3F81, 0xBF80, 0x3F00, 0x3FFE, 0x3E99, 0x0001, 0x8000, 0x7F00]


def small(**options):
    return Case({"w": ("BF16", [8], BF16_BASE, BF16_REFERENCE)}, **options)


def numbers(seed, n, dtype="BF16"):
    """Finite patterns from a small generator."""
    out, state = [], seed * 2654435761 % 2**32 | 1
    while len(out) < n:
        state = (state * 1664525 + 1013904223) % 2**32
        u = (state * 0x9E3779B97F4A7C15 >> 11) % 2 ** width(dtype)
        if dtype not in FLOATS or value(u, dtype) is not None:
            out.append(u)
    return out


def changed(bits, dtype, every=3):
    """Every third pattern moved by a few ULPs."""
    out = list(bits)
    for i in range(0, len(bits), every):
        candidate = bits[i] ^ (1 + i % 3)
        if dtype not in FLOATS or value(candidate, dtype) is not None:
            out[i] = candidate
    return out


def moderate(seed, n, dtype):
    """Like `numbers`, but of magnitudes from an eighth to below sixteen."""
    e, m = FLOATS[dtype]
    bias, mask = 2 ** (e - 1) - 1, (2**e - 1) << m
    return [u & ~mask | (bias - 3 + exponent(u, dtype) % 7) << m for u in numbers(seed, n, dtype)]


def pruned(seed, n, dtype, unpruned=False):
    """A tensor for Masked with everything in it, over and over: kept in both and changed, base only, reference only, neither, kept
    in both and equal, base only with a negative zero of the reference. If `unpruned`, the base has values where it is pruned,
    else zeros of either sign."""
    base, reference = moderate(seed, n, dtype), moderate(seed + 1, n, dtype)
    assert len(base) == len(reference) == n
    kept = [[i % 6 not in (2, 3) for i in range(n)], [i % 6 not in (1, 3, 5) for i in range(n)]]
    negative = 1 << (width(dtype) - 1)
    for i in range(n):
        if i % 6 == 4:
            reference[i] = base[i]
        if not kept[0][i] and not unpruned:
            base[i] = negative if i % 4 == 0 else 0
        if not kept[1][i]:
            reference[i] = negative if i % 6 == 5 else 0
    return dtype, [n], base, reference, *kept


def accept_worked_example():
    """The example of §16: two selected elements of a BF16 tensor, gaps and ULP deltas as Rice codes."""
    return small().at(-2.0).at(0.5)


def accept_empty_patch():
    """No tensors: applying it changes nothing."""
    return Case({"w": ("F32", [2], [0, 1], [0, 1])})


def accept_block_log2_22():
    """The largest blocks that are legal."""
    return small(log2=22)


def accept_several_blocks_some_empty():
    """A tensor of 1030 elements in blocks of 256, the second and fourth without a selected element."""
    base = numbers(1, 1030)
    reference = list(base)
    for i in (0, 255, 512, 700, 1029):
        reference[i] ^= 1
    return Case({"w": ("BF16", [103, 10], base, reference)}).at(0.25)


def accept_scalar():
    """A tensor of rank 0 has one element."""
    return Case({"w": ("F32", [], [0x3F800000], [0x40000000])}).at(0.5)


def accept_two_tensors_by_bytes_of_names():
    """Names ascend by bytes: capital letters before small ones, then letters beyond ASCII."""
    bits = numbers(2, 6)
    return Case({name: ("BF16", [6], bits, changed(bits, "BF16")) for name in ("a", "Z", "\u00e9")})


def accept_sections_in_zstd():
    """METADATA and TABLE packed."""
    case = small()
    return case, case.file(sections=case.sections(zstd=True))


def accept_unknown_metadata_keys():
    """Keys that no version knows, and free keys below x."""
    return with_metadata(b'{"novel": {"a": [1, null]}, "x": {"mine": 1}}', "", {"novel": {"a": [1, None]}, "x": {"mine": 1}})()


def accept_unknown_optional_section():
    """Type 0xFF01 is for private use and optional."""
    case = small()
    return case, case.file(sections=case.sections(extra=section(0xFF01, b"private")))


def accept_statistics():
    """The optional section STATISTICS."""
    case = small()
    return case, case.file(sections=case.sections(extra=section(0x8004, bytes.fromhex("003c803c"))))


def accept_unknown_optional_stream():
    """Kind 0xF0 is for private use and optional."""
    def encode(positions, base, reference, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 1, grouped([ulps(base, reference, dtype)], 16)), (0xF0, 7, b"private"))
    return small(encode=encode)


def accept_rice_escapes():
    """Quotients of 23 and 24: the last that is coded in unary, and the first that is not."""
    base = [0] * 200
    reference = [23 if i == 23 else 24 if i == 48 else 1 if i == 199 else 0 for i in range(200)]
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32, [0])), (2, 1, grouped([ulps(b, r, dtype)], 16, [1])))
    return Case({"w": ("U16", [200], base, reference)}, encode=encode)


def accept_rice_largest_parameter():
    """Rice parameter b - 1."""
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32, [31])), (2, 1, grouped([ulps(b, r, dtype)], 16, [15])))
    return small(encode=encode)


def accept_pco():
    """Gaps and ULP deltas by pco."""
    base = numbers(3, 250, "F32")
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32, [64])), (2, 1, grouped([ulps(b, r, dtype)], 32, [64])))
    return Case({"w": ("F32", [250], base, changed(base, "F32"))}, encode=encode)


def accept_pco_several_chunks():
    """A pco file of several chunks: their borders have no meaning."""
    base = numbers(4, 250)
    def encode(positions, b, r, dtype, part):
        sequence = ulps(b, r, dtype)
        stream = varint(0) + varint(len(sequence)) + bytes([64]) + pco(sequence, 16, chunk=30)
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 1, stream))
    return Case({"w": ("BF16", [250], base, changed(base, "BF16"))}, encode=encode)


def accept_class_gaps_and_class_ulps():
    """Both base-conditioned codecs, in two groups."""
    base = numbers(5, 250)
    return Case({"w": ("BF16", [250], base, changed(base, "BF16"))}, encode=by_class).at(-2.0)


def accept_class_worked_example():
    """The example of §9.4 and §9.5: class gaps and class ULP deltas in two groups."""
    def encode(*arguments):
        made = by_class(*arguments, spans=[127], methods=[1, 1])
        assert made == block((1, 2, bytes.fromhex("017e030103010202")), (2, 2, bytes.fromhex("017e03010301981b01")))
        return made
    return Case({"w": ("BF16", [8], BF16_BASE, DENSE_REFERENCE)}, encode=encode).at(0.5)


def accept_class_gaps_plain_ulps():
    """Base-conditioned positions, base-free deltas."""
    base = numbers(6, 120, "F16")
    return Case({"w": ("F16", [120], base, changed(base, "F16"))}, encode=lambda *a: by_class(*a, deltas=False))


def accept_many_groups():
    """A group for every class, most of them with no integer."""
    base = numbers(7, 100, "F8_E5M2")
    return Case({"w": ("F8_E5M2", [100], base, changed(base, "F8_E5M2"))}, encode=lambda *a: by_class(*a, spans=[1] * 31))


def accept_rice_and_pco_groups_mixed():
    """Groups by pco, Rice and pco: the Rice integers come first, the pco integers of both groups after them."""
    base = numbers(8, 250)
    return Case({"w": ("BF16", [250], base, changed(base, "BF16"))}, encode=lambda *a: by_class(*a, spans=[60, 100], methods=[64, 3, 64]))


def accept_class_gaps_of_integers():
    """For dtypes that are no floats every element is of class 0."""
    base = numbers(9, 40, "I32")
    def encode(positions, b, r, dtype, part):
        return block((1, 2, grouped([gaps(positions)], 32)), (2, 2, grouped([ulps(b, r, dtype)], 32, [4])))
    return Case({"w": ("I32", [40], base, changed(base, "I32"))}, encode=encode)


def portable(positions, base, reference, dtype, part):
    """Base values, class ULP deltas and base-free positions of BF16."""
    spans, groups = [127], [[], []]
    for u, c in zip(base, ulps(base, reference, dtype)):
        groups[exponent(u, dtype) >= 127].append(c)
    values = [(image(u, dtype) + 2**15) % 2**16 for u in base]
    return block((1, 1, grouped([gaps(positions)], 32, [1])), (2, 2, grouped(groups, 16, [2, 2], spans)), (3, 1, grouped([values], 16, [64])))


def accept_portable():
    """Base values in the block; class ULP deltas take their classes from them."""
    base = numbers(10, 60)
    case = Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=portable).at(0.5)
    return case, case.file(sections=case.sections(metadata=b'{"portable": true}'))


def accept_base_values_of_integers():
    """The image of an integer is its bits."""
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 1, grouped([ulps(b, r, dtype)], 16)), (3, 1, grouped([b], 16, [7])))
    return Case({"w": ("U8", [4], [0, 200, 3, 255], [1, 200, 4, 0])}, encode=encode)


def accept_rice_escapes_of_small_integers():
    """Integers that are escaped though they are small: 0 and 5 with parameter 1."""
    def encode(positions, b, r, dtype, part):
        escape = lambda v, bits: [1] * 24 + bits_of_number(v, bits)
        first = varint(0) + varint(2) + b"\1" + pack_bits(escape(0, 32) + escape(5, 32))
        return block((1, 1, first), (2, 1, varint(0) + varint(2) + b"\1" + pack_bits([bit for c in ulps(b, r, dtype) for bit in escape(c, 16)])))
    return Case({"w": ("U16", [7], [0] * 7, [1, 0, 0, 0, 0, 0, 6])}, encode=encode)


def accept_last_group_of_no_integers():
    """The last of three groups covers the classes that are left, of which no element is."""
    base = [u & 0x807F | 0x3E00 for u in numbers(121, 20)]
    encode = lambda *a: by_class(*a, spans=[120, 100])
    return Case({"w": ("BF16", [20], base, changed(base, "BF16"))}, encode=encode)


def accept_last_group_of_one_class():
    """The last group has only the class of NaN and infinity."""
    base = [0x7F80, 0x3F80, 0xFFC1, 0x4000]
    return Case({"w": ("BF16", [4], base, [u ^ 1 for u in base])}, encode=lambda *a: by_class(*a, spans=[255]))


def accept_positions_at_both_ends():
    """The first and the last element of a block of 256, and of one of a single element."""
    return Case({"w": ("U8", [257], [0] * 257, [int(i in (0, 255, 256)) for i in range(257)])})


def reduced_case(encode, reference):
    case = Case({"w": ("F32", [4], [0x3F800000, 0x40000000, 0xC0400000, 0], reference)}, encode=encode, selected={"w": [0, 2, 3]})
    return case


def accept_bf16_deltas():
    """Deltas 0.5, -0.25 and 2^-133 (subnormal), as BF16."""
    def encode(positions, b, r, dtype, part):
        deltas = [fold(image(u, "BF16"), 16) for u in (0x3F00, 0xBE80, 0x0001)]
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 3, grouped([deltas], 16, [12])))
    return reduced_case(encode, [0x3FC00000, 0x40000000, 0xC0500000, 0x00010000])


def accept_int8_deltas():
    """Steps 2, -1 and 127 of a scale of 0.25."""
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 4, struct.pack("<f", 0.25) + grouped([[fold(s % 256, 8) for s in (2, -1, 127)]], 16, [3])))
    return reduced_case(encode, [0x3FC00000, 0x40000000, 0xC0500000, 0x41FE0000])


def accept_int8_products_in_f64():
    """127 times a scale that F32 holds as 24 bits is a product of more bits."""
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 4, struct.pack("<f", 0.1) + grouped([[fold(s % 256, 8) for s in (127, -77)]], 16, [3])))
    [scale] = struct.unpack("<f", struct.pack("<f", 0.1))
    bits = lambda v: struct.unpack("<Q", struct.pack("<d", v))[0]
    base = [bits(0.0), bits(1.0), bits(1e-3)]
    return Case({"w": ("F64", [3], base, [bits(127 * scale), base[1], bits(1e-3 + -77 * scale)])}, encode=encode)


def accept_int8_negative_scale():
    """A scale of -0.25."""
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 4, struct.pack("<f", -0.25) + grouped([[fold(s % 256, 8) for s in (-2, 1, -128)]], 16, [3])))
    return reduced_case(encode, [0x3FC00000, 0x40000000, 0xC0500000, 0x42000000])


def accept_int8_scale_of_0():
    """A scale of 0: nothing moves."""
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 4, bytes(4) + grouped([[0, 1, 2]], 16, [3])))
    return reduced_case(encode, [0x3F800000, 0x40000000, 0xC0400000, 0])


def accept_zero_delta():
    """A selected element that does not change: its coded integer is 2^w - 1."""
    return small(selected={"w": [0, 1, 3]})


def accept_special_values_f32():
    """NaNs with payloads, infinities, both zeros and subnormals, to and from each other."""
    specials = [0x7FC00001, 0xFF812345, 0x7F800000, 0xFF800000, 0x00000000, 0x80000000, 0x00000001, 0x807FFFFF]
    return Case({"w": ("F32", [8], specials, specials[1:] + specials[:1])})


def special_values(dtype):
    def vector():
        (e, m), w = FLOATS[dtype], width(dtype)
        top, sign = ((2**e - 1) << m, 1 << (w - 1)) if dtype != "F8_E4M3" else (127, 128)
        specials = [top + 1, sign | top + 1, top, sign | top, 0, sign, 1, sign | 2**m - 1] if dtype != "F8_E4M3" else [127, 255, 126, 0, 128, 1, 135, 120]
        if m > 2:
            specials += [top | 2 ** (m - 1), sign | top | 2 ** (m - 1) | 1] if dtype != "F8_E4M3" else []
        return Case({"w": (dtype, [len(specials)], specials, specials[1:] + specials[:1])})
    vector.__doc__ = f"NaNs, also signalling ones, infinities, zeros and subnormals of {dtype}, to and from each other."
    return vector


def accept_overflowing_alpha_is_no_format_error():
    """Alpha 1 is fine where others would overflow."""
    return Case({"w": ("F16", [1], [0x7BFF], [0xFBFF])})


def accept_long_name():
    """A name of 4096 bytes."""
    bits = numbers(11, 3)
    return Case({"n" * 4096: ("BF16", [3], bits, changed(bits, "BF16"))})


def accept_rank_16():
    """Sixteen dimensions."""
    bits = numbers(12, 4)
    return Case({"w": ("BF16", [1] * 14 + [2, 2], bits, changed(bits, "BF16"))})


def of_dtype(dtype, shape=None, n=30):
    def vector():
        base = numbers(CODES[dtype], n, dtype)
        case = Case({"w": (dtype, shape or [n], base, changed(base, dtype))})
        if dtype not in FLOATS:
            case.alphas.append((0.5, None))  # refused
        return case.at(-0.5) if dtype in FLOATS and dtype != "F64" and dtype != "F32" and not any(
            edit(b, r, -0.5, dtype) is None for b, r in zip(base, case.result["w"])) else case
    vector.__doc__ = f"Dtype {dtype}."
    return vector


def accept_masks_pruned_base():
    """Codec 1 of masks: a pruned base has zeros, of either sign. What it had before is not there: no mask switch."""
    return Masked({"w": pruned(20, 24, "BF16")}).at(0.5).at(-2.0)


def accept_masks_unpruned_base():
    """Codec 2 of masks: the base holds the values from before pruning, which count as 0 at other alphas and come back by a switch."""
    return Masked({"w": pruned(22, 24, "BF16", True)}, codec=2).at(0.5).at(-2.0)


def accept_masks_all_sums():
    """The sums 1, 2, 3 and 5: the reference's zeros are +0 and -0, and stay so at alpha 1."""
    base, reference = [0x3F80, 0, 0x4000, 0xBF00], [0, 0xBF80, 0x4010, 0x8000]
    return Masked({"w": ("BF16", [4], base, reference, [1, 0, 1, 1], [0, 1, 1, 0])}).at(0.5).at(3.0)


def accept_masks_kept_and_equal():
    """Selected elements that are kept in both and do not change, one of them -0: at alpha 0.5 it is +0."""
    base = [0x3F80, 0x8000, 0x4000]
    return Masked({"w": ("BF16", [3], base, [0x3F80, 0x8000, 0], [1, 1, 1], [1, 1, 0])}, selected={"w": [0, 1, 2]}).at(0.5)


def accept_masks_of_zeros_that_are_kept():
    """A zero that is kept is not pruned: kept +0 becomes pruned -0, kept -0 becomes pruned +0, pruned -0 becomes kept -0."""
    return Masked({"w": ("F16", [3], [0, 0x8000, 0x8000], [0x8000, 0, 0x8000], [1, 1, 0], [0, 0, 1])}, selected={"w": [0, 1, 2]}).at(0.5)


def accept_masks_all_pruned_in_reference():
    """No deltas are left: a stream of no integers."""
    base = moderate(24, 6, "BF16")
    return Masked({"w": ("BF16", [6], base, [0, 0x8000] * 3, [1] * 6, [0] * 6)}).at(0.5)


def accept_masks_all_pruned_in_reference_by_pco():
    """A pco file of no integers."""
    base = moderate(25, 6, "BF16")
    deltas = lambda b, r, dtype, sums: (2, 1, grouped([ulps(b, r, dtype)], 16, [64]))
    return Masked({"w": ("BF16", [6], base, [0] * 6, [1] * 6, [0] * 6)}, encode=lambda *a: masked(*a, deltas=deltas)).at(0.5)


def accept_masks_all_pruned_in_base():
    """Nothing but sums of 2, with the values from before pruning."""
    reference = moderate(26, 6, "BF16")
    return Masked({"w": ("BF16", [6], [0] * 6, reference, [0] * 6, [1] * 6)}, before={"w": moderate(27, 6, "BF16")}).at(0.5)


def accept_masks_in_some_blocks():
    """Three blocks, the second without masks: its elements are kept in both. Not every block has masks: no mask switch."""
    dtype, shape, base, reference, in_base, in_reference = pruned(28, 700, "BF16", True)
    for i in range(256, 512):
        in_base[i] = in_reference[i] = 1
        reference[i] = base[i] ^ (i % 3 == 0)
    return Masked({"w": (dtype, shape, base, reference, in_base, in_reference)}, codec=2, bare=True).at(0.5)


def accept_masks_in_several_blocks():
    """Three blocks with masks of one tensor, and another tensor with masks."""
    return Masked({"w": pruned(30, 700, "BF16", True), "v": pruned(32, 10, "F32", True)}, codec=2).at(0.5)


def accept_masks_beside_integers():
    """A tensor with masks and one of integers: pruning and mask switch are refused."""
    return Masked({"w": pruned(34, 12, "BF16", True), "i": ("I16", [3], [1, 2, 3], [1, 5, 3])}, codec=2)


def accept_masks_nothing_to_restore():
    """Codec 1 without values before pruning, but nothing is pruned in the base only: a mask switch needs none."""
    base = moderate(36, 6, "BF16")
    return Masked({"w": ("BF16", [6], base, [u ^ 1 if i % 2 else 0 for i, u in enumerate(base)], [1] * 6, [0, 1] * 3)}).at(0.5)


def accept_masks_by_pco():
    """Sums by pco."""
    def encode(positions, base, reference, dtype, part, sums, codec, before):
        kept = [i for i, s in enumerate(sums) if s & 2]
        deltas = grouped([ulps([base[i] for i in kept], [reference[i] for i in kept], dtype)], 16, [64])
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 1, deltas), (4, codec, grouped([sums], 16, [64])))
    return Masked({"w": pruned(38, 250, "BF16", True)}, codec=2, encode=encode).at(0.5)


def class_ulps(b, r, dtype, sums):
    """Two groups of classes, up to an exponent of 126 and the rest."""
    groups = [[], []]
    for u, c in zip(b, ulps(b, r, dtype)):
        groups[exponent(u, dtype) >= 127].append(c)
    return 2, 2, grouped(groups, max(16, width(dtype)), [2, 2], [127])


def accept_masks_class_ulps():
    """Class gaps count all elements; class ULP deltas only those that are kept in the reference."""
    def encode(positions, base, reference, dtype, part, sums, codec, before):
        groups, seen = [[], []], [0, 0]
        for i, u in enumerate(part):
            g = int(exponent(u, dtype) >= 127)
            seen[g] += 1
            if i in positions:
                groups[g].append(seen[g] - 1)
                seen[g] = 0
        first = (1, 2, grouped(groups, 32, [2, 2], [127]))
        return masked(positions, base, reference, dtype, part, sums, codec, before, deltas=class_ulps, first=first)
    return Masked({"w": pruned(40, 100, "BF16")}, encode=encode).at(-2.0)


def accept_masks_class_ulps_unpruned_base():
    """Classes and deltas start from the bits that the base holds, also where it is pruned."""
    return Masked({"w": pruned(42, 40, "BF16", True)}, codec=2, encode=lambda *a: masked(*a, deltas=class_ulps)).at(0.5)


def accept_masks_portable():
    """Base values of all selected elements, masks and values before pruning in each block."""
    tensor = pruned(44, 40, "BF16")
    case = Masked({"w": tensor}, before={"w": moderate(46, 40, "BF16")}, encode=lambda *a: masked(*a, deltas=class_ulps, own=True)).at(0.5)
    return case, case.file(sections=case.sections(metadata=b'{"portable": true}'))


REDUCED_BASE = [0x3F800000, 0, 0x40000000, 0x40400000, 0x80000000]
REDUCED_REFERENCE = [0x3FC00000, 0x3E800000, 0, 0x80000000, 0xC0500000]


def masked_and_reduced(stored):
    """Kept in both with a delta of 0.5, reference only with 0.25, base only with +0 and -0 of the reference, reference only -3.25."""
    def deltas(b, r, dtype, sums):
        return stored([as_float(v, dtype) - (as_float(u, dtype) if s & 1 else 0.0) for u, v, s in zip(b, r, sums)])
    tensor = ("F32", [5], REDUCED_BASE, REDUCED_REFERENCE, [1, 0, 1, 1, 0], [1, 1, 0, 0, 1])
    return Masked({"w": tensor}, exact=False, encode=lambda *a: masked(*a, deltas=deltas)).at(0.5).at(-2.0)


def accept_masks_bf16_deltas():
    """BF16 deltas of what is kept in the reference; what is pruned there becomes +0 at alpha 1, also where its zero is negative."""
    return masked_and_reduced(lambda d: (2, 3, grouped([[fold(image(round_float(v, "BF16"), "BF16"), 16) for v in d]], 16, [12])))


def accept_masks_int8_deltas():
    """INT8 deltas of a scale of 0.25 of what is kept in the reference."""
    return masked_and_reduced(lambda d: (2, 4, struct.pack("<f", 0.25) + grouped([[fold(int(v * 4) % 256, 8) for v in d]], 16, [3])))


def accept_masks_int8_deltas_of_none():
    """All pruned in the reference: a scale, and no steps."""
    encode = lambda *a: masked(*a, deltas=lambda b, r, d, s: (2, 4, struct.pack("<f", 0.25) + grouped([[]], 16)))
    return Masked({"w": ("F32", [2], [0x3F800000, 0x40000000], [0, 0], [1, 1], [0, 0])}, exact=False, encode=encode).at(0.5)


def accept_values_before_pruning():
    """A base with zeros, and the bits that it had before: a mask switch puts them back."""
    return Masked({"w": pruned(48, 24, "BF16")}, before={"w": moderate(50, 24, "BF16")}).at(0.5)


def accept_values_before_pruning_of_none():
    """Nothing is pruned in the base only: a stream of no integers."""
    base = moderate(51, 4, "BF16")
    return Masked({"w": ("BF16", [4], base, [0, 0x8000, 0, base[3] ^ 1], [1] * 4, [0, 0, 0, 1])}, before={"w": base}).at(0.5)


def accept_values_before_pruning_of_unpruned_base():
    """Codec 2 of masks and values before pruning that are not the base's bits: the stream's count."""
    return Masked({"w": pruned(52, 24, "BF16", True)}, codec=2, before={"w": moderate(54, 24, "BF16")}).at(0.5)


def accept_values_before_pruning_special():
    """Both infinities, a NaN with a payload, a subnormal and -0 come back bit by bit."""
    specials = [0x7F800000, 0xFF800000, 0xFF812345, 0x00000001, 0x80000000]
    return Masked({"w": ("F32", [5], [0] * 5, moderate(55, 5, "F32"), [0] * 5, [1] * 5)}, before={"w": specials}).at(0.5)


def masks_of_dtype(dtype):
    def vector():
        return Masked({"w": pruned(60 + CODES[dtype], 30, dtype)}, before={"w": moderate(90, 30, dtype)}).at(-0.5)
    vector.__doc__ = f"Masks and values before pruning of dtype {dtype}."
    return vector


def companion(dtype, comment, shape=None, bare=False, name="a_mask"):
    """A tensor `a_orig` with masks, and `name` beside it with ones where the base is kept."""
    def vector():
        kind, _, base, reference, *kept = pruned(56, 24, "BF16", True)
        if bare:
            kept = [[1] * 24] * 2
            reference = changed(base, "BF16")
        mask = [one(dtype) if k else 0 for k in kept[0]]
        tensors = {"a_orig": (kind, [4, 6], base, reference, *kept), name: (dtype, shape or [4, 6], mask, mask)}
        if bare:
            tensors["a_orig"] = tensors["a_orig"][:4]
            tensors["w"] = pruned(58, 24, "BF16", True)
        return Masked(tensors, codec=2).at(0.5).at(-2.0)
    vector.__doc__ = comment
    return vector


def accept_counterparts_of_reference():
    """COUNTERPARTS of one list: the result at alpha 1 is the reference."""
    case = small()
    return case, case.file(sections=case.sections(extra=section(0x8005, b"".join(case.reference_digests))))


def accept_counterparts_of_three_lists():
    """COUNTERPARTS of three lists: not all elements that differ are selected."""
    tensors = {name: ("BF16", [12], numbers(seed, 12), changed(numbers(seed, 12), "BF16")) for name, seed in (("a", 14), ("b", 15))}
    case = Case(tensors, selected={"a": [0, 6], "b": [3]})
    lists = case.reference_digests + case.result_digests + case.put_back_digests
    return case, case.file(sections=case.sections(extra=section(0x8005, b"".join(lists))))


def accept_counterparts_of_masks():
    """COUNTERPARTS of three lists beside masks: where neither keeps an element, the base has a value and the reference 0."""
    case = Masked({"w": pruned(18, 24, "BF16", True)}, codec=2).at(0.5)
    assert case.reference_digests != case.result_digests
    lists = case.reference_digests + case.result_digests + case.put_back_digests
    return case, case.file(sections=case.sections(extra=section(0x8004, bytes.fromhex("803f0040")) + section(0x8005, b"".join(lists))))


def accept_roots_not_known():
    """Three roots of zero bytes. The base is checked by its tensors' digests."""
    case = small().at(0.5)
    return case, case.file(sections=case.sections(digests=bytes(96) + case.digests()[96:]))


def accept_selected_root_not_known():
    """Only the selected root is not known: there is no quick check."""
    case = small().at(0.5)
    return case, case.file(sections=case.sections(digests=bytes(32) + case.digests()[32:]))


def accept_blocks_of_2048_bytes():
    """A tensor of 6146 bytes, seven chunks of BLAKE3, in blocks of 2048 bytes: three and one of a single element."""
    base = numbers(70, 3 * 1024 + 1)
    return Case({"w": ("BF16", [3 * 1024 + 1], base, changed(base, "BF16", 512))}, log2=10).at(0.5)


def accept_many_blocks():
    """33 blocks with a selected element: the digests under the selected root are more than a chunk of BLAKE3."""
    base = numbers(71, 33 * 256, "U8")
    return Case({"w": ("U8", [33 * 256], base, changed(base, "U8", 256))})


def accept_many_values():
    """The values at the selected positions of a block are 1032 bytes, more than a chunk of BLAKE3."""
    base = numbers(72, 129, "F64")
    return Case({"w": ("F64", [129], base, changed(base, "F64", 1))})


def accept_whole_chunks():
    """Tensors of exactly one and two chunks of BLAKE3, and of a byte less and more."""
    tensors = {f"w{n}": ("I8", [n], numbers(73, n, "I8")) for n in (1023, 1024, 1025, 2047, 2048, 2049)}
    return Case({name: (*tensor, changed(tensor[2], "I8", 400)) for name, tensor in tensors.items()})


def accept_counterparts_of_a_portable_patch():
    """A portable patch with COUNTERPARTS of one list."""
    tensors = {name: ("BF16", [600], numbers(seed, 600), changed(numbers(seed, 600), "BF16")) for name, seed in (("a", 74), ("b", 75))}
    case = Case(tensors, encode=portable).at(0.5)
    return case, case.file(sections=case.sections(metadata=b'{"portable": true}', extra=section(0x8005, b"".join(case.reference_digests))))


def accept_counterparts_of_a_portable_selection():
    """A portable patch that selects not all elements that differ, with COUNTERPARTS of three lists."""
    base = numbers(76, 600)
    case = Case({"w": ("BF16", [600], base, changed(base, "BF16"))}, selected={"w": [0, 6, 300, 597]}, encode=portable).at(0.5)
    lists = case.reference_digests + case.result_digests + case.put_back_digests
    return case, case.file(sections=case.sections(metadata=b'{"portable": true}', extra=section(0x8005, b"".join(lists))))


def accept_counterparts_of_masks_in_several_blocks():
    """Masks in three blocks of a tensor, values before pruning, and COUNTERPARTS of three lists."""
    case = Masked({"w": pruned(78, 700, "BF16")}, before={"w": moderate(80, 700, "BF16")}).at(0.5)
    lists = case.reference_digests + case.result_digests + case.put_back_digests
    return case, case.file(sections=case.sections(extra=section(0x8005, b"".join(lists))))


def accept_portable_on_another_base():
    """Base values, but no key `portable`: what a patch carries says that it is portable. Elsewhere it adds its deltas, also at alpha 1."""
    base, other = moderate(100, 60, "BF16"), moderate(101, 60, "BF16")
    return Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=portable).on({"w": other}, 1.0, 0.5, -2.0, 0.0)


def accept_portable_claimed_on_another_base():
    """The key `portable`, and base values, but class gaps: it is not portable, and is refused elsewhere."""
    base = moderate(102, 60, "BF16")
    def encode(positions, base, reference, dtype, part):
        both = by_class(positions, base, reference, dtype, part)
        directory, streams = both[: both.index(0, 4) + 1], both[both.index(0, 4) + 1 :]
        values = bits_of(base, dtype)
        return directory[:-1] + bytes([3, 1]) + varint(len(values)) + b"\0" + streams + values
    case = Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=encode).on({"w": moderate(103, 60, "BF16")}, 1.0, refused=True)
    return case, case.file(sections=case.sections(metadata=b'{"portable": true}'))


def accept_portable_bf16_deltas_on_another_base():
    """Deltas of reduced precision are added as they are stored."""
    def encode(positions, b, r, dtype, part):
        deltas = [fold(image(u, "BF16"), 16) for u in (0x3F00, 0xBE80, 0x0001)]
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 3, grouped([deltas], 16, [12])), (3, 1, bits_of(b, dtype)))
    return reduced_case(encode, [0x3FC00000, 0x40000000, 0xC0500000, 0x00010000]).on({"w": [0x40400000, 0x3F800000, 0xBF000000, 0x3F800000]}, 1.0, -2.0)


def accept_masks_portable_on_another_base():
    """The masks are those of the patch: what is pruned in its base counts as 0 in the other one, what is pruned in its reference moves
    by the negative of the base value that the patch carries."""
    tensor = pruned(104, 40, "BF16")
    case = Masked({"w": tensor}, before={"w": moderate(106, 40, "BF16")}, encode=lambda *a: masked(*a, deltas=class_ulps, own=True))
    return case.on({"w": moderate(108, 40, "BF16")}, 1.0, 0.5, -2.0)


def accept_another_base_that_differs_elsewhere():
    """A base that differs at an element that is not selected fits by a quick check only; by leave it is edited as another one."""
    base = moderate(112, 60, "BF16")
    other = [u ^ 1 if i == 59 else u for i, u in enumerate(base)]
    reference = [u ^ 1 if i in (0, 30) else u for i, u in enumerate(base)]
    return Case({"w": ("BF16", [60], base, reference)}, encode=portable).on({"w": other}, 1.0, 0.5)


def accept_another_base_whose_second_tensor_differs():
    """Two tensors, of which the other base has the first as it should be."""
    a, b = moderate(113, 20, "BF16"), moderate(114, 20, "BF16")
    tensors = {"a": ("BF16", [20], a, changed(a, "BF16")), "b": ("BF16", [20], b, changed(b, "BF16"))}
    return Case(tensors, encode=portable).on({"a": a, "b": moderate(115, 20, "BF16")}, 1.0, -2.0)


def portable_case():
    base = moderate(116, 60, "BF16")
    return Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=portable), base


def accept_another_base_of_another_dtype():
    """A portable patch, and a tensor of the same bytes and another dtype: refused."""
    case, base = portable_case()
    return case.on_tensors({"w": ("F16", [60], base)})


def accept_another_base_of_another_shape():
    """A portable patch, and a tensor of the same bytes and another shape: refused."""
    case, base = portable_case()
    return case.on_tensors({"w": ("BF16", [6, 10], base)})


def accept_another_base_without_the_tensor():
    """A portable patch, and a base that has not its tensor: refused."""
    case, base = portable_case()
    return case.on_tensors({"v": ("BF16", [60], base)})


def accept_not_portable_without_base_values():
    """Positions without a class, but no base values: not portable, and refused elsewhere."""
    base = moderate(117, 60, "BF16")
    return Case({"w": ("BF16", [60], base, changed(base, "BF16"))}).on({"w": moderate(118, 60, "BF16")}, 1.0, refused=True)


def accept_not_portable_in_one_block():
    """Two blocks, of which one has no base values: not portable, and refused elsewhere."""
    base = moderate(119, 300, "BF16")
    encode = lambda *a: portable(*a) if len(a[0]) > 20 else plain(*a)
    return Case({"w": ("BF16", [300], base, changed(base, "BF16"))}, encode=encode).on({"w": moderate(120, 300, "BF16")}, 1.0, refused=True)


SEVERAL_BASE, SEVERAL_KEPT = [0x3F80, 0x4000, 0xBF00, 0x3E80, 0x3F00], ([1, 0, 1, 0, 1], [1, 1, 0, 1, 0])


def accept_several_patches():
    """A patch without masks of the base of accept_several_patches_with_masks."""
    return Case({"w": ("BF16", [5], SEVERAL_BASE, [0x3F81, 0x4010, 0xBF00, 0x3E90, 0x3F10])}).at(0.5)


def accept_several_patches_with_masks():
    """Applied together with accept_several_patches: the sum begins at 0 where this one has the base pruned, while the delta of the other
    one is from the base's value there."""
    case = Masked({"w": ("BF16", [5], SEVERAL_BASE, [0x3F90, 0x4080, 0, 0x3F00, 0x8000], *SEVERAL_KEPT)}, codec=2).at(0.5)
    return case.with_another("accept_several_patches", accept_several_patches(), [1.0, 1.0])


def accept_portable_of_integers_on_another_base():
    """Integers have no deltas in value: on another base they are refused at any alpha but 0."""
    def encode(positions, b, r, dtype, part):
        return block((1, 1, grouped([gaps(positions)], 32)), (2, 1, grouped([ulps(b, r, dtype)], 32, [4])), (3, 1, bits_of(b, dtype)))
    case = Case({"w": ("I32", [3], [1, 2, 3], [5, 2, 7])}, encode=encode).on({"w": [2, 2, 3]}, 1.0, 0.5, refused=True)
    case.elsewhere.append((0.0, {"w": [2, 2, 3]}))
    return case


def accept_companion_on_another_base():
    """The base and another one have a_mask beside a_orig, which becomes the mask of the result."""
    return companion_elsewhere(0)


def accept_companion_that_contradicts_on_another_base():
    """The mask of the other base is not the one that the patch has of its own: refused."""
    return companion_elsewhere(1)


def companion_elsewhere(wrong):
    kind, _, base, reference, *kept = pruned(64, 24, "BF16")
    mask = [one("F32") if k else 0 for k in kept[0]]
    case = Masked({"a_orig": (kind, [24], base, reference, *kept), "a_mask": ("F32", [24], mask, mask)}, before={"a_orig": moderate(65, 24, "BF16")},
                  encode=lambda *a: masked(*a, deltas=class_ulps, own=True))
    assert 1 in case.where["a_orig"]
    other = [one("F32") - u if wrong and i == 1 else u for i, u in enumerate(mask)]
    return case.on({"a_orig": moderate(66, 24, "BF16"), "a_mask": other}, 1.0, 0.5, -2.0, refused=bool(wrong))


def accept_several_patches_of_integers():
    """A patch of integers."""
    return Case({"w": ("I16", [4], [1, 2, 3, 4], [5, 2, 7, 4])})


def accept_several_patches_of_integers_apart():
    """Together with accept_several_patches_of_integers: they select other elements."""
    return Case({"w": ("I16", [4], [1, 2, 3, 4], [1, 9, 3, 4])}).with_another("accept_several_patches_of_integers", accept_several_patches_of_integers(), [1.0, 1.0])


def accept_several_patches_of_integers_at_one_element():
    """Together with accept_several_patches_of_integers: both select an element, whose sum is not defined."""
    return Case({"w": ("I16", [4], [1, 2, 3, 4], [5, 9, 3, 4])}).refused_with("accept_several_patches_of_integers", [1.0, 1.0])


def accept_several_patches_in_their_order():
    """Applied after accept_several_patches_of_f64, at alpha 1 and 2^53: 1 + 2^53 * 1 is 2^53, and so is that + 1; but 1 + 1 + 2^53 is not."""
    base, reference = [0x3FF0000000000000] * 2, [0x4000000000000000, 0x3FF0000000000001]
    return Case({"w": ("F64", [2], base, reference)}).with_another("accept_several_patches_of_f64", accept_several_patches_of_f64(), [2.0**53, 1.0])


def accept_several_patches_of_f64():
    """A patch of the base of accept_several_patches_in_their_order."""
    return Case({"w": ("F64", [2], [0x3FF0000000000000] * 2, [0x4000000000000000, 0x3FF8000000000000])})


def accept_several_patches_one_at_alpha_0():
    """Together with accept_several_patches at alpha 0: it is left out, and alpha 1 gives the reference's bits."""
    case = Case({"w": ("BF16", [5], SEVERAL_BASE, [0x3F82, 0x4000, 0x8000, 0x7FC1, 0x3F01])})
    return case.with_another("accept_several_patches", accept_several_patches(), [0.0, 1.0])


def accept_alpha_negative_zero():
    """Alpha -0 is 0: the base's bits stay, also where they are pruned, are -0, or would overflow."""
    base, reference = [0x3F80, 0xBF80, 0x8000, 0x7F00], [0, 0x4000, 0x3F80, 0xFF00]
    return Masked({"w": ("BF16", [4], base, reference, [1, 0, 1, 1], [0, 1, 1, 1])}, codec=2).at(-0.0).at(0.0)


def accept_companion_in_the_table():
    """A tensor a_mask that the patch changes itself is no companion."""
    kind, _, base, reference, *kept = pruned(56, 24, "BF16", True)
    mask = [one("F32") if k else 0 for k in kept[0]]
    case = Masked({"a_orig": (kind, [24], base, reference, *kept), "a_mask": ("F32", [24], mask, [0x3F000000 if i < 3 else u for i, u in enumerate(mask)])}, codec=2)
    return case.at(0.5)


def companions_together():
    kind, _, base, reference, *kept = pruned(56, 24, "BF16", True)
    mask = [one("F32") if k else 0 for k in kept[0]]
    return kind, base, reference, kept, mask


def accept_companion_of_the_first_patch():
    """A patch of a_orig, with masks, beside which the base has a_mask."""
    kind, base, reference, kept, mask = companions_together()
    return Masked({"a_orig": (kind, [24], base, reference, *kept), "a_mask": ("F32", [24], mask, mask)}, codec=2).at(0.5)


def accept_companion_of_both_patches():
    """Applied together with accept_companion_of_the_first_patch: what both select is kept in the mask of the result."""
    kind, base, _, kept, mask = companions_together()
    reference = [0 if i % 2 else moved(u, kind, 2) for i, u in enumerate(base)]
    in_reference = [int(i % 2 == 0) for i in range(24)]
    case = Masked({"a_orig": (kind, [24], base, reference, kept[0], in_reference), "a_mask": ("F32", [24], mask, mask)}, codec=2, selected={"a_orig": [i for i in range(3, 24) if kept[0][i] or in_reference[i]]})
    return case.with_another("accept_companion_of_the_first_patch", accept_companion_of_the_first_patch(), [1.0, 1.0])


def accept_companion_in_the_table_of_another_patch():
    """Applied together with accept_companion_of_the_first_patch: a_mask, which this one changes, is no companion then."""
    kind, base, _, kept, mask = companions_together()
    case = Case({"a_orig": (kind, [24], base, base), "a_mask": ("F32", [24], mask, [0x3F000000 if i < 3 else u for i, u in enumerate(mask)])})
    return case.with_another("accept_companion_of_the_first_patch", accept_companion_of_the_first_patch(), [1.0, 1.0])


def companion_of(change, comment, refused=True, at=2):
    """A mask beside `a_orig` that is right, but for the element `at`, by default 2, which is pruned: that is `change`."""
    def vector():
        kind, _, base, reference, *kept = pruned(56, 24, "BF16", True)
        mask = [one("F32") if k else 0 for k in kept[0]]
        assert not mask[2] and kept[1][2]
        mask[at] = change
        case = Masked({"a_orig": (kind, [24], base, reference, *kept), "a_mask": ("F32", [24], mask, mask)}, codec=2)
        return case.refused() if refused else case.at(0.5)
    vector.__doc__ = comment
    return vector


def accept_metadata_of_a_diff():
    """Every key of §6 with a value of its kind."""
    case = small()
    counts = {"both": 2, "base_only": 0, "reference_only": 0, "neither": 6}
    side = {"model_id": "org/model", "elements": 8, "files": [{"name": "a", "bytes": 80, "sha256": "0" * 64, "content": "f" * 64}]}
    metadata = {
        "tool": "another 1.0", "license": "MIT", "description": "d", "recommended_alpha": -2.5, "portable": False, "portability_bytes": 3,
        "localization": {"method": "value", "scope": "global", "k": 2, "density": 0.25, "seed": 2**64 - 1, "among": "target"},
        "masks": {"source": "zeros", "before_pruning": True, "overlap": counts, "by_component": {"mlp": counts}},
        "derived": {"verb": "select", "patches": ["a"]},
        "candidates": {"params": "matrices", "include": ["*"], "exclude": [], "family": "bert", "tensors": 1, "elements": 8,
                       "by_component": {"mlp": 8}, "by_layer": {"0": 8}},
        "base": side, "reference": side,
        "pairing": {"only_in_base": ["x"], "only_in_reference": [], "mismatched": [], "cast": 1, "prefix": ["a.", ""],
                    "prefixes": [["a.", ""], ["b.", "c."]], "renamed": [["n.gamma", "n.weight"]],
                    "rows": [{"name": "w", "base": 8, "reference": 9}]},
        "reduced": {"delta_dtype": "bf16", "max_error": 0.5, "relative_error": 1e-3}, "results": {"weat": [1, None]}, "x": {"mine": {}},
    }
    case.shown = metadata, []
    return case, case.file(sections=case.sections(metadata=json.dumps(metadata).encode()))


def content_of(case):
    """§6: `content` of the file of the base."""
    whole, tensors = safetensors(case.base), [tensor_bytes(bits, dtype) for dtype, _, bits in case.base.values()]
    front = whole[: len(whole) - sum(map(len, tensors))]
    return H(front + b"".join(map(H, tensors)))


def accept_content_of_files():
    """The keys sha256 and content of the base's file: three tensors, not in the order of their names, one of no bytes."""
    tensors = {name: ("BF16", [n], numbers(seed, n), changed(numbers(seed, n), "BF16")) for name, n, seed in (("b", 700, 81), ("c", 0, 82), ("a", 5, 83))}
    case, name = Case(tensors), "accept_content_of_files.base.safetensors"
    case.content = content_of(case).hex()
    whole = safetensors(case.base)
    file = {"name": name, "bytes": len(whole), "sha256": sha256(whole).hex(), "content": content_of(case).hex()}
    return case, case.file(sections=case.sections(metadata=json.dumps({"base": {"files": [file]}}).encode()))


def moved(u, dtype, ulps):
    """The bits that are `ulps` from `u` (§10.2)."""
    return from_image((image(u, dtype) + ulps) % 2 ** width(dtype), dtype)


def drifted(bits, dtype, seed, every=1, most=3, step=1, far=40):
    """`bits`, of which about one in `every` is moved by up to `most` steps of `step` ULPs, and one in 29 of these `far` times as far."""
    out, state = [], seed
    for u in bits:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        steps = (1 + (state >> 13) % most) * (far if (state >> 24) % 29 == 0 else 1) * (-1 if state >> 63 else 1)
        out.append(moved(u, dtype, steps * step) if (state >> 33) % every == 0 else u)
    return out


def drift(dtype, n=250, seed=120, every=2, base=None, **options):
    """A tensor of which a large share changes."""
    base = base or (moderate(seed, n, dtype) if dtype in FLOATS else numbers(seed, n, dtype))
    return dtype, [len(base)], base, drifted(base, dtype, seed, every, **options)


DENSE_EXAMPLE = """
    01 7e 04 02 00 00 0a 04 00 01 01 0d 02 04 00 02 01 11 28 b5 2f fd 20 01 09 00 00 e4 28 b5 2f fd 20 04 21 00 00 02 00 01 ff 01"""


def accept_dense_worked_example():
    """The example of §9.11: two groups, both with an escape, one with low bits and zero bits."""
    def encode(*arguments):
        made = Dense(*arguments, parameters=((2, 0, 0), (0, 1, 1)), spans=[127], pack=zstd_stored)
        assert made.stream() == bytes.fromhex(DENSE_EXAMPLE) and not made.map
        return made.block()
    return Case({"w": ("BF16", [8], BF16_BASE, DENSE_REFERENCE)}, encode=encode).at(0.5)


def accept_dense_one_group():
    """A dense block of BF16, with all classes in one group."""
    return Case({"w": drift("BF16")}, encode=dense()).at(0.5).at(-2.0)


def accept_dense_several_groups():
    """Four groups, each with a packing of its own."""
    groups = dict(parameters=((3, 0, 0), (0, 0, 0), (2, 0, 0), (1, 0, 0)), spans=[125, 1, 2])
    return Case({"w": drift("BF16", 255)}, encode=dense(**groups)).at(0.5)


def accept_dense_group_of_no_deltas():
    """The first, a middle and the last group have no element and no frame, whatever their other fields."""
    groups = dict(parameters=((3, 9, 15), (0, 0, 0), (1, 3, 2), (0, 1, 0), (2, 0, 0)), spans=[30, 95, 1, 129])
    base = [u & 0x807F | 0x3E00 + (i % 2 << 8) for i, u in enumerate(numbers(121, 200))]
    assert {exponent(u, "BF16") for u in base} == {124, 126}
    return Case({"w": drift("BF16", base=base)}, encode=dense(**groups)).at(0.5)


def accept_dense_group_for_each_class():
    """2048 groups of F64, nearly all of no delta."""
    return Case({"w": drift("F64")}, encode=dense(parameters=((1, 0, 0),) * 2048, spans=[1] * 2047)).at(0.5)


def accept_dense_low_bits():
    """F32 whose deltas have 9 low bits, in two groups."""
    groups = dict(parameters=((0, 9, 0), (1, 12, 0)), spans=[126])
    return Case({"w": drift("F32", 256, every=1, most=50_000)}, encode=dense(**groups)).at(0.5)


def accept_dense_zero_bits():
    """F32 that was BF16: all deltas but escaped ones are multiples of 2^16."""
    dtype, shape, base, reference = drift("F32", 256, most=6, step=2**16, base=[u & 0xFFFF0000 for u in moderate(122, 256, "F32")])
    reference[7] = base[7] + 0x8001
    return Case({"w": (dtype, shape, base, reference)}, encode=dense(parameters=((0, 0, 16),))).at(0.5)


def accept_dense_low_and_zero_bits():
    """I64: 20 low bits above 30 zero bits. An integer has one class."""
    return Case({"w": drift("I64", most=2**26, step=2**30)}, encode=dense(parameters=((1, 20, 30),)))


def accept_dense_most_low_bits():
    """b - 1 low bits of F64: all that changes has symbol 1 or 2."""
    return Case({"w": drift("F64", most=2**40)}, encode=dense(parameters=((0, 63, 0),)))


def accept_dense_most_zero_bits():
    """b - 1 zero bits of U16: the only delta that is not escaped is 2^15."""
    base = numbers(123, 40, "U16")
    return Case({"w": ("U16", [40], base, [u ^ (2**15, 2**15, 1, 0)[i % 4] for i, u in enumerate(base)])}, encode=dense(parameters=((2, 0, 15),)))


def accept_dense_sums_modulo_2_b():
    """Symbols and low bits that stand for the same codes modulo 2^b as smaller symbols."""
    def encode(*arguments):
        made = Dense(*arguments, parameters=((0, 13, 0),))
        made.symbols[0] = [symbol + 8 * (i % 20) if symbol not in (0, 255) else symbol for i, symbol in enumerate(made.symbols[0])]
        made.finish()
        return made.block()
    return Case({"w": drift("BF16", most=60)}, encode=encode).at(0.5)


def accept_dense_zeros_with_other_symbols():
    """An escaped delta of 0, and a symbol whose delta is -2^16, which is 0: two elements that are not selected."""
    def encode(*arguments):
        made = Dense(*arguments, parameters=((1, 0, 15),))
        assert made.symbols == [[1, 15, 0, 0, 15, 1, 15, 0, 15]]
        made.symbols[0][2:4] = 15, 3
        made.escaped[0].insert(1, 2**16 - 1)
        made.finish()
        return made.block()
    base = numbers(124, 9, "U16")
    reference = [u ^ (2**15 if i in (0, 5) else 0 if i in (2, 3, 7) else 3) for i, u in enumerate(base)]
    return Case({"w": ("U16", [9], base, reference)}, encode=encode)


def accept_dense_multiples_of_2_w():
    """U8, b = 16: a delta counts modulo 2^8. Those of 256 and -512 are no change, one of 257 is a step of 1."""
    def encode(*arguments):
        made = Dense(*arguments)
        made.symbols[0] = [255, 255, 255, 0, 1]
        made.escaped = [[fold(u % 2**16, 16) for u in (256, 257, -512)]]
        made.finish()
        return made.block()
    return Case({"w": ("U8", [5], [7, 255, 9, 0, 0], [7, 0, 9, 0, 255])}, encode=encode)


def dense_packing(packing):
    def vector():
        for_each = {0: 60, 1: 5, 2: 2, 3: 1}[packing]
        return Case({"w": drift("BF16", 251, every=packing + 1, most=for_each)}, encode=dense(parameters=((packing, 0, 0),))).at(0.5)
    vector.__doc__ = f"{2**packing} symbols a byte; the last byte has fewer. Some deltas are escaped" + (", as all are of symbols of one bit." if packing == 3 else ".")
    return vector


def dense_of_dtype(dtype, parameters=((0, 0, 0),), **options):
    options = options or {"far": 4 if width(dtype) == 8 else 40}

    def vector():
        case = Case({"w": drift(dtype, **options)}, encode=dense(parameters=parameters))
        return case.at(0.5) if dtype in FLOATS else case
    vector.__doc__ = f"A dense block of dtype {dtype}."
    return vector


def chunky(n, chunks, seed=125, every=3, dtype="BF16"):
    """A tensor that changes in these chunks only."""
    kind, shape, base, reference = drift(dtype, n, seed, every)
    return kind, shape, base, [r if i // 128 in chunks else u for i, (u, r) in enumerate(zip(base, reference))]


def accept_dense_changed_chunks():
    """Eleven chunks, the last one of 20 elements: five are changed, the last one is."""
    return Case({"w": chunky(1300, (0, 3, 7, 8, 10))}, log2=11, encode=dense(parameters=((2, 0, 0), (1, 0, 0)), spans=[127])).at(0.5)


def accept_dense_last_chunk_not_changed():
    """The last chunk, of one element, is not changed."""
    return Case({"w": chunky(1025, range(8))}, log2=11, encode=dense())


def accept_dense_only_last_chunk_changed():
    """Only the last chunk, of 6 elements, is changed."""
    return Case({"w": chunky(262, (2,), every=1)}, log2=9, encode=dense(parameters=((1, 0, 0),)))


def accept_dense_changed_chunks_of_no_change():
    """A chunk in which no element is selected may be a changed one."""
    return Case({"w": chunky(1300, (1, 9))}, log2=11, encode=dense(chunks=[1, 2, 9, 10])).at(0.5)


def accept_dense_all_chunks_in_a_frame():
    """All chunks are changed, and a frame says so. A writer may, though no bytes say it too."""
    def encode(*arguments):
        made = Dense(*arguments)
        made.map = zstd_stored(b"\xff\x07")
        return made.block()
    return Case({"w": chunky(1300, range(11))}, log2=11, encode=encode)


def accept_dense_32_elements_for_each_selected():
    """Changed chunks have 256 elements and 8 are selected: 32 times as many, the most that is legal."""
    base = moderate(126, 400, "BF16")
    return Case({"w": ("BF16", [400], base, [u ^ (i % 32 == 0 and i < 256) for i, u in enumerate(base)])}, log2=9, encode=dense(parameters=((3, 0, 0),)))


def accept_dense_frames_of_other_forms():
    """Frames with a checksum, without a content size, with a window of 2^24 bytes, and of one byte that repeats."""
    def encode(*arguments):
        made = Dense(*arguments, parameters=((3, 0, 0), (0, 0, 0), (2, 0, 0), (0, 0, 0)), spans=[125, 1, 2])
        first, second, third, fourth = map(made.packed, range(4))
        assert fourth == fourth[:1] * len(fourth)
        options = [dict(write_checksum=True), dict(write_content_size=False)]
        made.frames[:2] = [zstandard.ZstdCompressor(**o).compress(content) for o, content in zip(options, (first, second))]
        made.frames[2] = bytes.fromhex("28B52FFD0070") + (len(third) << 3 | 1).to_bytes(3, "little") + third
        made.frames[3] = bytes.fromhex("28B52FFD20") + bytes([len(fourth)]) + (len(fourth) << 3 | 3).to_bytes(3, "little") + fourth[:1]
        return made.block()
    dtype, shape, base, reference = drift("BF16")
    return Case({"w": (dtype, shape, base, [moved(u, dtype, 1) if exponent(u, dtype) > 127 else r for u, r in zip(base, reference)])}, encode=encode)


def accept_dense_escapes_by_pco():
    """Escape integers by pco: every change is escaped."""
    def encode(*arguments):
        made = Dense(*arguments, parameters=((3, 0, 0),))
        made.escape(made.escaped[0], [64])
        return made.block()
    return Case({"w": drift("F16")}, encode=encode).at(0.5)


def escaped_by_group(spans, by, comment):
    """Four groups, of which all changes are escaped, or most; the escape integers are in groups that are `by(escaped)`."""
    def vector():
        def encode(*arguments):
            made = Dense(*arguments, parameters=((3, 0, 0), (3, 0, 0), (2, 0, 0), (3, 0, 0)), spans=[125, 1, 2])
            groups = by(made.escaped)
            made.escape_integers = grouped(groups, 32, [4, 64, 2, 3][: len(groups)], spans)
            return made.block()
        return Case({"w": drift("F32", 255, most=90)}, encode=encode).at(0.5)
    vector.__doc__ = comment
    return vector


def accept_dense_all_escaped():
    """Each element is selected and escaped."""
    return Case({"w": drift("F32", every=1, most=1000)}, encode=dense(parameters=((3, 0, 0),))).at(0.5)


def accept_dense_special_values():
    """NaNs with payloads, infinities, both zeros and subnormals, to and from each other: deltas are modulo 2^32."""
    specials = [0x7FC00001, 0xFF812345, 0x7F800000, 0xFF800000, 0x00000000, 0x80000000, 0x00000001, 0x807FFFFF]
    return Case({"w": ("F32", [8], specials, specials[1:] + specials[:1])}, encode=dense(parameters=((0, 24, 0),)))


def accept_dense_unknown_optional_stream():
    """Kind 0xF0 is for private use and optional, beside dense deltas too."""
    return Case({"w": drift("BF16", 40)}, encode=lambda *a: Dense(*a).block((0xF0, 7, b"private")))


def accept_dense_beside_sparse_blocks():
    """A tensor of three blocks, the second one dense, and a dense tensor before it."""
    dtype, shape, base, reference = drift("BF16", 700)
    few = [r if i % 50 == 0 or 256 <= i < 512 else u for i, (u, r) in enumerate(zip(base, reference))]
    encode = lambda *a: Dense(*a).block() if len(a[0]) > 20 else plain(*a)
    return Case({"b": (dtype, shape, base, few), "a": drift("F32", 200, 127)}, encode=encode).at(0.5)


def accept_dense_beside_class_gaps():
    """Two blocks of a tensor, one dense, the other with class gaps."""
    dtype, shape, base, reference = drift("BF16", 512)
    few = [r if i % 20 == 0 or i < 256 else u for i, (u, r) in enumerate(zip(base, reference))]
    return Case({"w": (dtype, shape, base, few)}, encode=lambda *a: Dense(*a).block() if len(a[0]) > 20 else by_class(*a)).at(0.5)


def accept_dense_with_another_patch():
    """Applied together with accept_several_patches."""
    case = Case({"w": ("BF16", [5], SEVERAL_BASE, [0x3F82, 0x4000, 0xBF08, 0x3E80, 0x3F01])}, encode=dense(parameters=((1, 0, 0),))).at(0.5)
    return case.with_another("accept_several_patches", accept_several_patches(), [1.0, 1.0])


def accept_dense_is_not_portable():
    """A dense block needs its base: elsewhere it is refused."""
    case = Case({"w": drift("BF16")}, encode=dense()).on({"w": moderate(128, 250, "BF16")}, 1.0, refused=True)
    return case, case.file(sections=case.sections(metadata=b'{"portable": true}'))


def spoiled(change, comment, dtype="BF16", n=250, **options):
    """A dense block with one part changed, by default of two groups with low bits and escapes; all digests are right."""
    options = options or dict(parameters=((1, 0, 0), (0, 2, 0)), spans=[127])

    def encode(*arguments):
        made = Dense(*arguments, **options)
        changed = change(made)
        return changed if isinstance(changed, bytes) else made.block()

    def vector():
        return Case({"w": drift(dtype, n, most=9)}, log2=11 if n > 256 else 8, encode=encode)
    vector.__doc__ = comment
    return vector


def assign(**parts):
    """A change for `spoiled`: new values of parts, or of one item of a list, `name_index`."""
    def change(made):
        for key, new in parts.items():
            name, _, index = key.rpartition("_")
            owner, key = (getattr(made, name), int(index)) if index.isdigit() else (vars(made), key)
            owner[key] = new(owner[key]) if callable(new) else new
    return change


def reject_r20_dense_too_few_selected():
    """Changed chunks have 256 elements and 7 are selected."""
    base = moderate(126, 400, "BF16")
    reference = [u ^ (i % 32 == 0 and 0 < i < 256) for i, u in enumerate(base)]
    return Case({"w": ("BF16", [400], base, reference)}, log2=9, encode=dense(parameters=((3, 0, 0),)))


def reject_r20_dense_escape_of_17_bits():
    """The escape integer 2^16 by a Rice code that is no escape."""
    def encode(*arguments):
        made = Dense(*arguments, parameters=((3, 0, 0),))
        made.escape_integers = varint(0) + varint(1) + b"\x0f" + pack_bits([1, 1, 0] + [0] * 15)
        return made.block()
    return Case({"w": ("U16", [1], [5], [6])}, encode=encode)


def reject_r20_dense_33_elements_for_each_selected():
    """Changed chunks have 132 elements and 4 are selected."""
    base = moderate(126, 132, "BF16")
    return Case({"w": ("BF16", [132], base, [u ^ (i in (0, 50, 127, 131)) for i, u in enumerate(base)])}, encode=dense(parameters=((3, 0, 0),)))


def reject_r20_dense_selected_element_of_no_delta():
    """One element more is selected by the table than has a delta that is not 0."""
    dtype, shape, base, reference = drift("BF16")
    where = [i for i, (u, r) in enumerate(zip(base, reference)) if u != r]
    same = next(i for i, (u, r) in enumerate(zip(base, reference)) if u == r)
    return Case({"w": (dtype, shape, base, reference)}, selected={"w": sorted([*where, same])}, encode=dense())


def reject_r20_dense_delta_of_an_element_that_is_not_selected():
    """One element fewer is selected by the table than has a delta that is not 0."""
    def encode(positions, base, reference, dtype, part):
        return Dense([*positions, 249], [*base, part[249]], [*reference, part[249] ^ 1], dtype, part).block()
    dtype, shape, base, reference = drift("BF16")
    return Case({"w": (dtype, shape, base, [*reference[:249], base[249]])}, encode=encode)


def reject_r20_dense_delta_of_2_w():
    """U8: a delta of 256 is none, so that an element too few is selected."""
    def encode(*arguments):
        made = Dense(*arguments)
        made.symbols[0][2], made.escaped = 255, [[fold(256, 16)]]
        made.finish()
        return made.block()
    return Case({"w": ("U8", [4], [1, 2, 3, 4], [2, 3, 4, 5])}, encode=encode)


def reject_r20_dense_of_other_classes():
    """The counts add up, but the groups are of other classes than the base's elements."""
    def encode(positions, base, reference, dtype, part):
        other = [u ^ 0x4000 if i == 5 else u for i, u in enumerate(part)]
        return Dense(positions, base, reference, dtype, other, ((1, 0, 0), (1, 0, 0)), [127]).block()
    return Case({"w": drift("BF16", every=1)}, encode=encode)


def reject_r20_dense_two_groups_of_one_class():
    """Two groups of I32, where there is one class."""
    def encode(*arguments):
        made = Dense(*arguments)
        made.parameters, made.spans, made.symbols, made.escaped, made.bits = made.parameters * 2, [1], [*made.symbols, []], [*made.escaped, []], [[], []]
        made.finish()
        return made.block()
    return Case({"w": drift("I32", 40)}, encode=encode)


def frame_of(make, comment, **options):
    """A dense block with another frame of its first group, which is made of its symbols."""
    def change(made):
        made.frames[0] = make(made.packed(0))
    return spoiled(change, comment, **options)


def dense_symbols(change, comment, **options):
    """A dense block with other symbols of its first group."""
    def changed(made):
        change(made.symbols[0])
        made.finish()
    return spoiled(changed, comment, **options)


def dense_padding(made):
    """Sets the last bit after the low bits of the second group."""
    assert len(made.bits[1]) % 8
    made.low_bits[1] = made.low_bits[1][:-1] + bytes([made.low_bits[1][-1] | 0x80])


def escapes_of(change, comment, **options):
    """A dense block with other escape integers."""
    return spoiled(lambda made: made.escape(change([c for escaped in made.escaped for c in escaped])), comment, **options)


# Rejects


def reject_r01_other_format():
    """A zip archive."""
    return b"PK\x03\x04" + bytes(80)


def reject_r01_empty():
    """No byte at all."""
    return b""


def reject_r01_prefix_of_magic():
    """The first four bytes of the magic."""
    return MAGIC[:4]


def reject_r01_one_byte():
    """The first byte of the magic."""
    return MAGIC[:1]


def reject_r01_seven_bytes():
    """The first seven bytes of the magic."""
    return MAGIC[:7]


def reject_r01_development_magic():
    """A file of a version before the first one, whose magic had an E for the P."""
    return small().file(magic=DEVELOPMENT_MAGIC)


def reject_r01_development_magic_damaged():
    """The same, with its CR LF changed to LF."""
    return small().file(magic=DEVELOPMENT_MAGIC).replace(b"\r\n", b"\n")


def reject_r02_cr_removed():
    """CR LF became LF."""
    return small().file().replace(b"\r\n", b"\n")


def reject_r02_lf_to_cr_lf():
    """LF became CR LF."""
    return small().file().replace(b"\n", b"\r\n")


def reject_r02_second_lf_only():
    """Only the LF after 1A became CR LF."""
    return MAGIC[:7] + b"\r\n" + small().file()[8:]


def reject_r03_version_2():
    """Version 2."""
    return small().file(version=2)


def reject_r03_version_0():
    """Version 0."""
    return small().file(version=0)


def reject_r03_before_r04():
    """Version 2, and a file that is a byte too short."""
    return small().file(version=2)[:-1]


def reject_r03_before_r05():
    """Version 2, and a reserved field that is not 0."""
    return small().file(version=2, reserved_too=1)


def reject_r05_before_r04():
    """A reserved field that is not 0, and a file that is a byte too short."""
    return small().file(reserved=1)[:-1]


def reject_r04_lengths_modulo_2_64():
    """A payload of 2^64 - 1 bytes, and a file that lacks the last byte of its sections: the sum is right modulo 2^64."""
    case = small()
    sections = case.sections()[:-1]
    front = case.file(payload_length=2**64 - 1)[:32]
    return front + H(front + sections) + sections


def reject_r04_one_byte_short():
    """The last byte of the payload is missing."""
    return small().file()[:-1]


def reject_r04_one_byte_long():
    """A byte follows the payload."""
    return small().file() + b"\0"


def reject_r04_inside_preamble():
    """63 bytes."""
    return small().file()[:63]


def reject_r04_lengths_overflow():
    """A payload length of 2^64 - 1."""
    return small().file(payload_length=2**64 - 1)


def reject_r05_reserved_of_preamble():
    """The reserved field at offset 10."""
    return small().file(reserved=1)


def reject_r05_second_reserved_of_preamble():
    """The reserved field at offset 24."""
    return small().file(reserved_too=1 << 63)


def reject_r05_reserved_of_section():
    """The reserved byte of a section head."""
    case = small()
    return case.file(sections=section(1, b"{}", reserved=1) + case.sections()[len(section(1, b"{}")) :])


def reject_r05_before_the_order_of_sections():
    """METADATA twice, the second one with a reserved byte that is not 0."""
    case = small()
    return case.file(sections=section(1, b"{}") + section(1, b"{}", reserved=1) + case.sections()[len(section(1, b"{}")) :])


def reject_r06_header_digest():
    """One bit of the header digest."""
    right = bytearray(small().file())
    right[40] ^= 1
    return bytes(right)


def reject_r06_metadata_changed():
    """A byte of METADATA changed after the digest was made."""
    right = bytearray(small().file())
    right[64 + 12] ^= 0x20
    return bytes(right)


def reject_r06_header_digest_by_sha256():
    """The header digest is BLAKE3, not SHA-256."""
    right = small().file()
    return right[:32] + sha256(right[:32] + small().sections()) + right[64:]


def reject_r07_out_of_order():
    """TABLE before METADATA."""
    case = small()
    return case.file(sections=section(2, case.table()) + section(1, b"{}") + section(3, case.digests()))


def reject_r07_twice():
    """METADATA twice."""
    case = small()
    return case.file(sections=section(1, b"{}") + case.sections())


def packed(metadata, tail=b"", raw=None, shown=None, **options):
    """A file with METADATA in one zstd frame, of these options, and `tail` after it."""
    parameters = zstandard.ZstdCompressionParameters.from_level(9, **options)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(metadata) + tail
    head = struct.pack("<HBBII", 1, 1, 0, len(frame), len(metadata) if raw is None else raw)
    case = small()
    if shown:
        case.shown = shown
    return case, case.file(sections=head + frame + section(2, case.table()) + section(3, case.digests()))


SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"


def windowed(log, content=b"{}"):
    """A zstd frame with no size and a window of 2^`log` bytes, its only block stored as it is (RFC 8878, 3.1.1)."""
    frame = bytes.fromhex("28B52FFD") + bytes([0, (log - 10) << 3]) + (len(content) << 3 | 1).to_bytes(3, "little") + content
    head = struct.pack("<HBBII", 1, 1, 0, len(frame), len(content))
    case = small()
    return case, case.file(sections=head + frame + section(2, case.table()) + section(3, case.digests()))


def accept_zstd_window_24():
    """A frame that asks for a window of 2^24 bytes, the most that is legal."""
    return windowed(24)


def reject_r07_zstd_window_25():
    """A frame that asks for a window of 2^25 bytes."""
    return windowed(25)[1]


def accept_zstd_checksum():
    """A frame with a checksum."""
    return packed(b"{}", write_checksum=True)


def reject_r07_zstd_two_frames():
    """A second frame after the first: together they have the stated size."""
    return packed(b"{", zstandard.ZstdCompressor().compress(b"}"), raw=2)[1]


def reject_r07_zstd_empty_frame_after():
    """An empty frame after the one that has the content."""
    return packed(b"{}", zstandard.ZstdCompressor().compress(b""))[1]


def reject_r07_zstd_skippable_frame_after():
    """A frame to be skipped after the one that has the content."""
    return packed(b"{}", SKIPPABLE)[1]


def reject_r07_zstd_skippable_frame_before():
    """A frame to be skipped before the one that has the content."""
    case, frame = small(), SKIPPABLE + zstandard.ZstdCompressor().compress(b"{}")
    head = struct.pack("<HBBII", 1, 1, 0, len(frame), 2)
    return case.file(sections=head + frame + section(2, case.table()) + section(3, case.digests()))


def reject_r07_zstd_nothing():
    """Encoding 1 of no bytes."""
    case = small()
    return case.file(sections=section(1, b"", encoding=1) + section(2, case.table()) + section(3, case.digests()))


def reject_r07_digests_packed():
    """DIGESTS in zstd."""
    case = small()
    return case.file(sections=section(1, b"{}") + section(2, case.table()) + section(3, case.digests(), zstd=True))


def reject_r07_counterparts_packed():
    """COUNTERPARTS in zstd."""
    case = small()
    return case.file(sections=case.sections(extra=section(0x8005, b"".join(case.reference_digests), zstd=True)))


def text_of(n):
    """Metadata of `n` bytes that zstd packs by less than 256 to 1, most of them in a key that is ignored."""
    words = hashlib.shake_256(b"metadata").digest(n // 128).hex()
    text = '{"license": "MIT", "tool": ["' + "".join(words[at : at + 2] + "-" * 78 for at in range(0, len(words), 2))
    return (text[: n - 3] + "-" * (n - 3 - len(text)) + '"]}').encode()


def accept_metadata_of_2_20_bytes():
    """METADATA of 2^20 bytes, the most that is legal."""
    return packed(text_of(2**20), shown=({"license": "MIT"}, ["/tool"]))


def reject_r07_metadata_of_more_than_2_20_bytes():
    """METADATA of 2^20 + 1 bytes."""
    return packed(text_of(2**20 + 1))[1]


def reject_r07_stored_metadata_of_more_than_2_20_bytes():
    """METADATA of 2^20 + 1 bytes that are stored as they are."""
    case = small()
    return case.file(sections=case.sections(metadata=b"{" + b" " * (2**20 - 1) + b"}"))


def digits(n):
    """`n` numbers, most of them 0, that zstd packs by less than 256 to 1."""
    return b",".join(b"%d" % (u % 10 if u < 24 else 0) for u in hashlib.shake_256(b"digits").digest(n))


def accept_metadata_marks():
    """Metadata with 2^17 marks outside of strings, the most that is legal; those in strings do not count."""
    return marks(2**17)


def accept_metadata_too_many_marks():
    """Metadata with 2^17 + 1 marks outside of strings counts as no keys."""
    return marks(2**17 + 1)


def marks(n):
    """A case of metadata with `n` marks outside of strings, most of them in a key that is ignored, and others in a string."""
    text = b'{"description": "[[[[{{,,::\\\\\\"[", "tool": [' + digits(n - 4) + b"]}"
    return packed(text, shown=({"description": '[[[[{{,,::\\"['}, ["/tool"]) if n <= 2**17 else ({}, [""]))


def accept_metadata_depth_64():
    """Objects and arrays 64 deep in each other, the most that is read."""
    text = b'{"x": {"a": ' + b"[" * 62 + b"]" * 62 + b"}}"
    return with_metadata(text, "", json.loads(text))()


def accept_unknown_optional_section_not_unpacked():
    """Of a type that it does not know a reader only checks that it is as long as it says, and where it stands."""
    case = small()
    bomb = struct.pack("<HBBII", 0xFF01, 1, 0, 3, 2**32 - 1) + b"abc" + struct.pack("<HBBII", 0xFF02, 7, 0, 3, 0) + b"abc"
    bomb += struct.pack("<HBBII", 0xFF03, 0, 0, 3, 9) + b"abc"
    return case, case.file(sections=case.sections(extra=bomb))


def reject_r07_cut_short_before_its_reserved_byte():
    """A section that is longer than what follows, with a reserved byte that is not 0."""
    case = small()
    return case.file(sections=case.sections(extra=section(0x9000, b"abc", reserved=1)[:-1]))


def reject_r07_zstd_nothing_but_a_skippable_frame():
    """A frame to be skipped, and no bytes of content."""
    case = small()
    head = struct.pack("<HBBII", 1, 1, 0, len(SKIPPABLE), 0)
    return case.file(sections=head + SKIPPABLE + section(2, case.table()) + section(3, case.digests()))


def reject_r07_zstd_checksum_cut_short():
    """A frame that lacks the last byte of its checksum."""
    return zstd_metadata(zstandard.ZstdCompressor(write_checksum=True).compress(b"{}")[:-1], 2)[1]


def reject_r07_zstd_wrong_checksum():
    """A frame with a bit of its checksum changed."""
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(b"{}")
    return zstd_metadata(frame[:-1] + bytes([frame[-1] ^ 1]), 2)[1]


def reject_r07_zstd_window_just_above_2_24():
    """A frame that asks for a window of 2^24 + 2^21 bytes."""
    return zstd_metadata(bytes.fromhex("28B52FFD0071") + (2 << 3 | 1).to_bytes(3, "little") + b"{}", 2)[1]


def reject_r07_zstd_dictionary():
    """A frame that names a dictionary."""
    return zstd_metadata(bytes.fromhex("28B52FFD2107") + b"\2" + (2 << 3 | 1).to_bytes(3, "little") + b"{}", 2)[1]


def reject_r07_zstd_longer_than_stated():
    """A section that says that it unpacks to a byte less than it does."""
    return packed(b"{} ", raw=2)[1]


def reject_r07_zstd_shorter_than_stated():
    """A section that says that it unpacks to a byte more than it does."""
    return packed(b"{}", raw=3)[1]


def zstd_metadata(frame, raw):
    case = small()
    head = struct.pack("<HBBII", 1, 1, 0, len(frame), raw)
    return case, case.file(sections=head + frame + section(2, case.table()) + section(3, case.digests()))


def zstd_run(first, repeated, n, last):
    """A zstd frame by hand: `first` as it is, `n` times the byte `repeated`, `last` as it is."""
    blocks = [(len(first) << 3, first)]
    while n:
        run = min(n, 1 << 17)
        blocks.append((run << 3 | 2, repeated))
        n -= run
    blocks.append((len(last) << 3 | 1, last))
    total = len(first) + len(last) + sum(head >> 3 for head, _ in blocks[1:-1])
    return bytes.fromhex("28B52FFD8070") + struct.pack("<I", total) + b"".join(head.to_bytes(3, "little") + data for head, data in blocks), total


def of_ratio(excess):
    """METADATA that unpacks to `excess` bytes more than 4096 + 256 times its size."""
    frame, _ = zstd_run(b"{", b" ", 1000, b"}")
    frame, raw = zstd_run(b"{", b" ", 4096 + 256 * len(frame) - 2 + excess, b"}")
    assert raw == 4096 + 256 * len(frame) + excess
    return zstd_metadata(frame, raw)


def accept_zstd_most_for_its_size():
    """METADATA that unpacks to 4096 + 256 times its size, the most that is legal."""
    return of_ratio(0)


def reject_r07_zstd_more_than_its_size_justifies():
    """METADATA that unpacks to a byte more than 4096 + 256 times its size."""
    return of_ratio(1)[1]


def table_of(raw):
    """A table of blocks of 2^7 elements, which is refused, and many bytes."""
    frame, total = zstd_run(b"\x07" + bytes(65_599), b"\0", raw - 65_601, b"\0")
    assert total == raw <= 4096 + 256 * len(frame)
    return file_of(section(1, b"{}") + struct.pack("<HBBII", 2, 1, 0, len(frame), raw) + frame + section(3, small().digests()))


def reject_r11_table_of_2_24_bytes():
    """A table of 2^24 bytes, the most that is legal: what is refused is its L of 7."""
    return table_of(2**24)


def reject_r07_table_of_more_than_2_24_bytes():
    """A table of 2^24 + 1 bytes."""
    return table_of(2**24 + 1)


def reject_r07_unknown_encoding_of_a_frame():
    """Encoding 2 of a zstd frame."""
    case = small()
    frame = zstd_of(b"{}")
    return case.file(sections=struct.pack("<HBBII", 1, 2, 0, len(frame), 2) + frame + section(2, case.table()) + section(3, case.digests()))


def reject_r07_after_an_unknown_section():
    """STATISTICS of an unknown encoding, after an unknown required section."""
    case = small()
    return case.file(sections=case.sections(extra=section(9, b"") + section(0x8004, bytes(4), encoding=2)))


def reject_r08_before_r09():
    """An unknown required section, and METADATA is missing."""
    case = small()
    return case.file(sections=case.sections(extra=section(9, b""))[len(section(1, b"{}")) :])


def reject_r08_largest_required_type():
    """Type 0x7FFF, which is for private use and required."""
    case = small()
    return case.file(sections=case.sections(extra=section(0x7FFF, b"")))


def accept_smallest_optional_types():
    """Types 0x8000 and 0x8006, which no version knows."""
    case = small()
    extra = section(0x8000, b"a") + section(0x8006, b"b")
    return case, case.file(sections=case.sections(extra=extra))


def accept_statistics_packed():
    """STATISTICS in zstd."""
    case = small()
    return case, case.file(sections=case.sections(extra=section(0x8004, bytes.fromhex("003c803c"), True)))


def reject_r09_no_table():
    """TABLE is missing."""
    case = small()
    return case.file(sections=section(1, b"{}") + section(3, case.digests()))


def reject_r07_unknown_encoding():
    """Encoding 2."""
    case = small()
    return case.file(sections=section(1, b"{}", encoding=2) + section(2, case.table()) + section(3, case.digests()))


def reject_r07_two_lengths():
    """A raw section whose lengths differ."""
    case = small()
    return case.file(sections=section(1, b"{}", raw=3) + section(2, case.table()) + section(3, case.digests()))


def reject_r07_bomb():
    """A section that unpacks to more than 4096 + 256 times its size."""
    case = small()
    return case.file(sections=section(1, b"{" + b" " * 1_000_000 + b"}", zstd=True) + section(2, case.table()) + section(3, case.digests()))


def reject_r07_not_zstd():
    """Encoding 1, and not a zstd frame."""
    case = small()
    return case.file(sections=section(1, b"{}", encoding=1) + section(2, case.table()) + section(3, case.digests()))


def reject_r07_head_cut_short():
    """Eleven bytes of a section head at the end."""
    case = small()
    return case.file(sections=case.sections(extra=section(0x9000, b"")[:11]))


def reject_r07_content_cut_short():
    """A section that says it is longer than what follows."""
    case = small()
    return case.file(sections=case.sections(extra=section(0x9000, b"abc")[:-1]))


def reject_r08_unknown_required_section_not_unpacked():
    """Type 9 with an encoding that nobody knows."""
    case = small()
    return case.file(sections=case.sections() + struct.pack("<HBBII", 9, 7, 0, 3, 0) + b"abc")


def reject_r08_unknown_required_section():
    """Type 9."""
    case = small()
    return case.file(sections=case.sections(extra=section(9, b"")))


def reject_r08_type_4():
    """Type 4, beside DIGESTS."""
    case = small()
    return case.file(sections=case.sections(extra=section(4, case.digests())))


def reject_r09_no_metadata():
    """METADATA is missing."""
    case = small()
    return case.file(sections=case.sections()[len(section(1, b"{}")) :])


def reject_r09_no_digests():
    """DIGESTS is missing."""
    case = small()
    return case.file(sections=section(1, b"{}") + section(2, case.table()))


def with_metadata(metadata, comment, shown, ignored=()):
    """METADATA decides nothing. `shown` is what a reader that shows it must see, `ignored` are the JSON pointers of what it must not see."""
    def vector():
        case = small()
        case.shown = shown, list(ignored)
        return case, case.file(sections=case.sections(metadata=metadata))
    vector.__doc__ = comment
    return vector


def no_profile(metadata, comment):
    """METADATA outside of the profile counts as `{}`."""
    return with_metadata(metadata, comment, {}, [""])


def one_wrong_key(pointer, value, comment):
    """Metadata with one key of another kind, and one of its own beside it on each level; `pointer` without items of arrays."""
    *path, last = pointer[1:].split("/")
    rest, metadata = {"new": 1}, {"new": 1, last: value}
    for key in reversed(path):
        rest, metadata = {"new": 1, key: rest}, {"new": 1, key: metadata}
    return with_metadata(json.dumps(metadata).encode(), comment, rest, [pointer])


def with_table(comment, **changed_parts):
    def vector():
        case = small()
        return case.file(sections=case.sections(table=case.table(**{k: v(case) if callable(v) else v for k, v in changed_parts.items()})))
    vector.__doc__ = comment
    return vector


def one_tensor(name=b"w", dtype="BF16", shape=(8,), code=None):
    return [table_tensor(name, dtype, list(shape), code)]


def reject_r11_table_bytes_left_over():
    """A byte after the last block."""
    case = small()
    return case.file(sections=case.sections(table=case.table() + b"\0"))


def reject_r11_table_cut_short():
    """The last byte of the table is missing."""
    case = small()
    return case.file(sections=case.sections(table=case.table()[:-1]))


def reject_r16_more_tensors_than_digests():
    """Three tensors by the table and digests for fewer: refused before the tensors are read, of which the second has no name."""
    case = small()
    return case.file(sections=case.sections(table=b"\x08\x03" + case.table()[2:] + bytes(16)))


def reject_r17_more_blocks_than_payload():
    """300,000 blocks of one byte each, for which there are neither bytes nor digests."""
    table = b"\x08\x01" + table_tensor(b"w", "U8", [256 * 300_000]) + b"".join(bytes([1 + (u < 24), 1]) for u in hashlib.shake_256(b"blocks").digest(300_000))
    case = small()
    return case.file(sections=section(1, b"{}") + section(2, table, True) + section(3, case.digests()))


def work(selected, blocks, extra=b"", wrong=False):
    """`blocks` blocks of 2^22 elements, the last with fewer selected, so that they are `selected` in all and the file's size counts:
    `selected` gets the file's bytes."""
    def file(counts):
        body = block((1, 1, b"\0"), (2, 1, b"\0"))
        table = b"\x16\x01" + table_tensor(b"w", "U8", [blocks << 22]) + b"".join(varint(k) + varint(len(body)) for k in counts)
        digests = bytes(128) + H(body + b"\0" * wrong) * blocks
        return file_of(section(1, b"{}") + section(2, table) + section(3, digests) + extra, body * blocks)
    size = len(file([1 << 22] * (blocks - 1) + [1 << 20]))
    last = selected(size) - (blocks - 1 << 22)
    assert len(file([1 << 22] * (blocks - 1) + [last])) == size
    return file([1 << 22] * (blocks - 1) + [last])


def reject_r10_one_too_many():
    """One selected element more than 2^27 + 64 times the file's bytes."""
    return work(lambda size: 2**27 + 64 * size + 1, 33)


def reject_r20_work_just_legal():
    """2^27 + 64 times the file's bytes of selected elements are legal: what is refused is the block, whose gaps are cut short."""
    return work(lambda size: 2**27 + 64 * size, 33)


def reject_r11_more_tensors_than_bytes():
    """A count of tensors that the table's size does not justify."""
    case = small()
    return case.file(sections=case.sections(table=b"\x08" + varint(2**40) + case.table()[2:]))


def reject_r11_long_varint():
    """A varint that is not in shortest form."""
    case = small()
    return case.file(sections=case.sections(table=b"\x08\x81\x00" + case.table()[2:]))


def reject_r11_varint_of_65_bits():
    """A dimension whose tenth byte is 2: 2^64."""
    return with_table("", tensors=[b"\1w\x13\1" + b"\x80" * 9 + b"\2"])()


def reject_r11_varint_of_11_bytes():
    """A dimension of eleven bytes."""
    return with_table("", tensors=[b"\1w\x13\1" + b"\x80" * 10 + b"\1"])()


def reject_r11_more_tensors_than_a_fifth_of_the_bytes():
    """One tensor, for which four bytes follow, and no digest."""
    case = small()
    return case.file(sections=case.sections(table=b"\x08\1\1w\x13\0", digests=bytes(96)))


def reject_r16_a_fifth_of_the_bytes():
    """One tensor, for which five bytes follow, and no digest."""
    case = small()
    return case.file(sections=case.sections(table=b"\x08\1\1w\x13\0\1", digests=bytes(96)))


def accept_names_in_the_order_of_bytes():
    """U+FF5E before U+10000, as in UTF-8, but not in UTF-16; and a name that begins another one; and a longer name first."""
    bits = numbers(2, 6)
    return Case({name: ("BF16", [6], bits, changed(bits, "BF16")) for name in ("\uff5e", "\U00010000", "aa", "aaa", "b", "B")})


def reject_r12_names_in_the_order_of_utf_16():
    """U+10000 before U+FF5E."""
    return disordered("\U00010000", "\uff5e")


def reject_r12_names_without_case():
    """a before B."""
    return disordered("a", "B")


def disordered(first, second):
    bits = numbers(13, 3)
    case = Case({name: ("BF16", [3], bits, changed(bits, "BF16")) for name in (first, second)})
    return case.file(sections=case.sections(table=case.table(tensors=case.table_tensors[::-1])))


def reject_r12_before_r13():
    """The same name twice, the second time with an unknown dtype."""
    case = small()
    return case.file(sections=case.sections(table=case.table(tensors=one_tensor() + one_tensor(code=255)), digests=case.digests() + bytes(64)))


def reject_r12_surrogate():
    """A name of a surrogate, which is not UTF-8."""
    return with_table("", tensors=one_tensor(b"\xed\xa0\x80"))()


def reject_r13_before_r11():
    """An unknown dtype, and seventeen dimensions."""
    return with_table("", tensors=one_tensor(code=255, shape=[1] * 16 + [8]))()


def reject_r15_before_r11():
    """A tensor without a selected element, and a byte after the table."""
    return with_table("", blocks=varint(0) + b"\0")()


def reject_r11_before_r17():
    """A byte after the table, and a payload that is a byte longer than the blocks."""
    case = small()
    return case.file(sections=case.sections(table=case.table() + b"\0"), payload=b"".join(case.blocks) + b"\0")


def reject_r17_before_r16():
    """A payload that is a byte longer than the blocks, and a digest too many."""
    case = small()
    return case.file(sections=case.sections(digests=case.digests() + bytes(32)), payload=b"".join(case.blocks) + b"\0")


def reject_r17_modulo_2_64():
    """2^16 blocks of 2^48 bytes, and one of the payload's: the sum is right modulo 2^64."""
    case = small()
    counts = hashlib.shake_256(b"modulo").digest(2**16)
    blocks = b"".join(bytes([1 + u % 100]) + varint(2**48) for u in counts) + b"\1" + varint(len(case.blocks[0]))
    table = b"\x08\1" + table_tensor(b"w", "U8", [256 * (2**16 + 1)]) + blocks
    return case.file(sections=section(1, b"{}") + section(2, table, True) + section(3, case.digests()))


def reject_r16_one_byte_long():
    """DIGESTS with a byte after the last digest."""
    case = small()
    return case.file(sections=case.sections(digests=case.digests() + b"\0"))


def reject_r16_statistics_long():
    """STATISTICS of eight bytes for one tensor."""
    case = small()
    return case.file(sections=case.sections(extra=section(0x8004, bytes(8))))


def reject_r16_before_r10():
    """More selected elements than are legal, and STATISTICS of three bytes."""
    return work(lambda size: 2**27 + 64 * size + 1, 33, section(0x8004, bytes(3)))


def reject_r10_before_r18():
    """More selected elements than are legal, and a block whose digest is another."""
    return work(lambda size: 2**27 + 64 * size + 1, 33, wrong=True)


def accept_dtype_f4_odd():
    """Of 513 entries of 4 bits there are 257 elements, in two blocks. (No base: safetensors has no file of half a byte.)"""
    return without_a_base("F4", [27, 19], 257)


def accept_dtype_f6_odd():
    """Of 341 entries of 6 bits there are 256 elements."""
    return without_a_base("F6_E3M2", [341], 256)


def without_a_base(dtype, shape, n):
    """A patch whose base is not there: one element of each block is selected."""
    bodies = [block((1, 1, grouped([[min(n - start, 256) - 1]], 32)), (2, 1, grouped([[0]], 16))) for start in range(0, n, 256)]
    table = b"\x08\1" + table_tensor(b"w", dtype, shape) + b"".join(b"\1" + varint(len(body)) for body in bodies)
    return file_of(section(1, b"{}") + section(2, table) + section(3, bytes(128) + b"".join(map(H, bodies))), b"".join(bodies))


def reject_r12_names_equal():
    """The same tensor twice."""
    bits = numbers(13, 3)
    case = Case({"a": ("BF16", [3], bits, changed(bits, "BF16")), "b": ("BF16", [3], bits, changed(bits, "BF16"))})
    return case.file(sections=case.sections(table=case.table(tensors=[case.table_tensors[0]] * 2)))


def reject_r12_names_descend():
    """b before a."""
    bits = numbers(13, 3)
    case = Case({"a": ("BF16", [3], bits, changed(bits, "BF16")), "b": ("BF16", [3], bits, changed(bits, "BF16"))})
    return case.file(sections=case.sections(table=case.table(tensors=case.table_tensors[::-1])))


def reject_r16_digests_short():
    """DIGESTS without its last byte."""
    case = small()
    return case.file(sections=case.sections(digests=case.digests()[:-1]))


def reject_r16_digests_long():
    """One digest too many."""
    case = small()
    return case.file(sections=case.sections(digests=case.digests() + bytes(32)))


def reject_r16_digests_of_no_bytes():
    """DIGESTS without content."""
    case = small()
    return case.file(sections=case.sections(digests=b""))


def reject_r16_statistics_short():
    """STATISTICS of three bytes for one tensor."""
    case = small()
    return case.file(sections=case.sections(extra=section(0x8004, bytes(3))))


def with_counterparts(size, comment):
    def vector():
        case = small()
        return case.file(sections=case.sections(extra=section(0x8005, bytes(size))))
    vector.__doc__ = comment
    return vector


def reject_r17_blocks_do_not_add_up():
    """The payload is a byte longer than the blocks."""
    case = small()
    return case.file(payload=b"".join(case.blocks) + b"\0")


def reject_r18_block_digest():
    """One bit of the payload."""
    case = small()
    payload = bytearray(b"".join(case.blocks))
    payload[-1] ^= 0x40
    return case, case.file(payload=bytes(payload))


def reject_r18_block_digest_in_digests():
    """One bit of a block's digest in DIGESTS."""
    case = small()
    digests = bytearray(case.digests())
    digests[-1] ^= 1
    return case, case.file(sections=case.sections(digests=bytes(digests)))


def reject_r18_block_digest_by_sha256():
    """A block's digest is BLAKE3, not SHA-256."""
    case = small()
    return case, case.file(sections=case.sections(digests=case.digests()[:-32] + sha256(case.blocks[0])))


def lying_portable(positions, base, reference, dtype, part):
    """As `portable`, but the first base value is one ULP off."""
    return portable(positions, [base[0] ^ 1, *base[1:]], [reference[0] ^ 1, *reference[1:]], dtype, part)


def reject_r21_base_values():
    """Base values that are not those of the selected root, which is the base's."""
    base = moderate(110, 60, "BF16")
    return Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=lying_portable)


def reject_r21_base_values_elsewhere():
    """The same, and another base with the tensor: it is not edited, for the file itself shows that base values lie."""
    base = moderate(110, 60, "BF16")
    case = Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=lying_portable)
    return case.on({"w": moderate(111, 60, "BF16")}, 1.0, 0.5, refused=True)


def reject_r21_base_values_without_a_base():
    """The same, without its base."""
    base = moderate(110, 60, "BF16")
    return Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=lying_portable).file()


def reject_r21_base_values_beside_right_deltas():
    """A base value that is one ULP off, no selected root, and ULP deltas that are right: only the base shows it."""
    def encode(positions, base, reference, dtype, part):
        return block(good_positions(positions), good_deltas(base, reference, dtype), (3, 1, bits_of([base[0] ^ 1, *base[1:]], dtype)))
    case = small(encode=encode)
    return case, case.file(sections=case.sections(digests=bytes(32) + case.digests()[32:]))


def reject_r21_base_values_root_not_known():
    """The same without a selected root: the base itself shows it."""
    base = moderate(110, 60, "BF16")
    case = Case({"w": ("BF16", [60], base, changed(base, "BF16"))}, encode=lying_portable)
    return case, case.file(sections=case.sections(digests=bytes(32) + case.digests()[32:]))


def with_root(at, comment, extra=False, with_base=True):
    def vector():
        case = small()
        digests = bytearray(case.digests())
        digests[32 * at] ^= 1
        file = case.file(sections=case.sections(digests=bytes(digests), extra=section(0x8005, b"".join(case.reference_digests)) if extra else b""))
        return (case, file) if with_base else file
    vector.__doc__ = comment
    return vector


def with_block(make, comment, tensors=None, **options):
    """A case whose block is `make(positions, base, reference, dtype, part)`, all digests right."""
    def vector():
        if tensors is None:
            return small(encode=make)
        return Case(tensors, encode=make, **options)
    vector.__doc__ = comment
    return vector


good_positions = lambda p: (1, 1, grouped([gaps(p)], 32))
good_deltas = lambda b, r, d: (2, 1, grouped([ulps(b, r, d)], 16))


def with_masks(sums, comment, codec=1, before=None, deltas=None, count=None, kind="BF16"):
    """The block of `small`, or of three elements of another dtype, with a masks stream of these sums for its first two selected
    elements, deltas of the last `count` (or as many as are kept in the reference), and perhaps values before pruning."""
    def make(p, b, r, d, part):
        kept = sum(s >> 1 & 1 for s in sums) if count is None else count
        second = (2, 1, grouped([ulps(b[len(b) - kept :], r[len(r) - kept :], d)], max(16, width(d)))) if deltas is None else deltas
        last = [] if before is None else [(5, 1, grouped([before], max(16, width(d))))]
        return block(good_positions(p), second, (4, codec, grouped([sums], 16)), *last)
    tensors = None if kind == "BF16" else {"w": (kind, [6] if kind == "F4" else [3], [1, 2, 3], [1, 3, 4])}
    return with_block(make, comment, tensors)


def reject_r19_values_before_pruning_without_masks():
    """Kind 5 without kind 4."""
    make = lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), (5, 1, grouped([[]], 16)))
    return with_block(make, "")()


def reject_r20_class_ulps_of_pruned_elements():
    """Class ULP deltas of an element that is pruned in the reference."""
    make = lambda p, b, r, d, part: block(good_positions(p), (2, 2, grouped([[], ulps(b, r, d)], 16, spans=[127])), (4, 1, grouped([[3, 1]], 16)))
    return with_block(make, "")()


def reject_r20_int8_deltas_of_pruned_elements():
    """INT8 deltas of an element that is pruned in the reference."""
    make = lambda p, b, r, d, part: block(good_positions(p), (2, 4, struct.pack("<f", 1) + grouped([[0, 1]], 16)), (4, 1, grouped([[3, 1]], 16)))
    return with_block(make, "")()


VECTORS = {name: function for name, function in globals().items() if name.startswith(("accept_", "reject_"))}
VECTORS |= {f"accept_dtype_{dtype.lower()}": of_dtype(dtype) for dtype in CODES if CODES[dtype] < 32}
VECTORS |= {
    **{f"accept_special_values_{dtype.lower()}": special_values(dtype) for dtype in FLOATS if dtype != "F32"},
    "accept_dtype_c64_as_bytes": of_dtype("C64", [5], 40),
    "accept_dtype_f4_as_bytes": of_dtype("F4", [4, 5], 10),
    "accept_dtype_c64_of_a_block": of_dtype("C64", [32], 256),
    "accept_dtype_f4_of_a_block": of_dtype("F4", [2, 256], 256),
    "accept_dtype_f6_e2m3_of_a_block": of_dtype("F6_E2M3", [340], 255),
    "accept_dtype_f6_e3m2_of_a_block": of_dtype("F6_E3M2", [340], 255),
    "accept_dtype_f8_e8m0_as_bytes": of_dtype("F8_E8M0"),
    "accept_dtype_f8_e4m3fnuz_as_bytes": of_dtype("F8_E4M3FNUZ"),
    "accept_dtype_f8_e5m2fnuz_as_bytes": of_dtype("F8_E5M2FNUZ"),
    **{f"accept_masks_dtype_{dtype.lower()}": masks_of_dtype(dtype) for dtype in FLOATS},
    "accept_companion_f32": companion("F32", "The base has a_mask beside a_orig, which becomes the mask of the result."),
    "accept_companion_bf16": companion("BF16", "A companion of the tensor's own dtype."),
    "accept_companion_f8_e4m3": companion("F8_E4M3", "A companion of one byte, a float."),
    "accept_companion_bool": companion("BOOL", "A companion of dtype BOOL."),
    "accept_companion_u8": companion("U8", "A companion of dtype U8."),
    "accept_companion_of_another_shape": companion("F32", "A tensor a_mask of another shape is no companion and stays.", [24]),
    "accept_companion_of_another_dtype": companion("I32", "A tensor a_mask of dtype I32 is no companion and stays."),
    "accept_companion_of_another_name": companion("F32", "A tensor of another name is no companion and stays.", name="a_orig_mask"),
    "accept_companion_without_masks": companion("F32", "The entry of a_orig has no masks: a_mask stays.", bare=True),
    "accept_companion_contradicts": companion_of(one("F32"), "The mask keeps an element that is pruned by the patch: refused at every alpha."),
    "accept_companion_of_a_half": companion_of(0x3F000000, "An element of the mask is 0.5, neither 0 nor 1: refused at every alpha."),
    "accept_companion_of_a_half_for_one": companion_of(0x3F000000, "An element of the mask is 0.5 where the patch keeps it: refused at every alpha.", at=0),
    "accept_companion_of_two": companion_of(0x40000000, "An element of the mask is 2 where the patch keeps it: refused at every alpha.", at=0),
    "accept_companion_of_nan": companion_of(0x7FC00000, "An element of the mask is NaN: refused at every alpha."),
    "accept_companion_of_negative_zero": companion_of(0x80000000, "-0 is 0.", refused=False),
    "reject_r21_selected_root": with_root(0, "Another selected root, found with the base."),
    "reject_r21_result_root": with_root(2, "Another result root, found with the base."),
    "reject_r21_counterparts_of_another_reference": with_root(1, "COUNTERPARTS of another reference than the reference root.", True),
    "reject_r21_counterparts_of_another_result": with_root(2, "COUNTERPARTS of another result than the result root.", True),
    "accept_metadata_not_json": no_profile(b"{", "METADATA is not JSON."),
    "accept_metadata_of_no_bytes": no_profile(b"", "METADATA has no bytes."),
    "accept_metadata_two_objects": no_profile(b'{"tool": "a"}{}', "An object after the first."),
    "accept_metadata_array": no_profile(b'[{"tool": "a"}]', "METADATA is an array."),
    "accept_metadata_not_utf8": no_profile(b'{"tool": "\xff"}', "METADATA is not UTF-8."),
    "accept_metadata_byte_order_mark": no_profile(b'\xef\xbb\xbf{"tool": "a"}', "A byte order mark before the object."),
    "accept_metadata_control_character": no_profile(b'{"tool": "a\nb"}', "A line break in a string, which is not JSON."),
    "accept_metadata_comma_at_the_end": no_profile(b'{"tool": "a",}', "A comma after the last key, which is not JSON."),
    "accept_metadata_leading_zero": no_profile(b'{"localization": {"k": 07}}', "A number that begins with 0, which is not JSON."),
    "accept_metadata_nan": no_profile(b'{"recommended_alpha": NaN}', "NaN is not JSON."),
    "accept_metadata_infinity": no_profile(b'{"x": {"a": -Infinity}}', "Infinity is not JSON."),
    "accept_metadata_lone_surrogate": no_profile(b'{"tool": "\\ud800"}', "A lone surrogate in a string."),
    "accept_metadata_lone_surrogate_in_a_key": no_profile(b'{"x": {"a": {"\\udfff": 1}}, "tool": "a"}', "A lone surrogate in a free key."),
    "accept_metadata_lone_surrogate_given_twice": no_profile(b'{"x": {"a": "\\udc00\\ud800", "a": 1}}', "A lone surrogate in a value that another one replaces."),
    "accept_metadata_1e999": no_profile(b'{"x": {"a": 1e999}, "tool": "a"}', "A number that F64 cannot hold, below a free key."),
    "accept_metadata_long_integer": no_profile(b'{"x": {"a": 1' + b"0" * 400 + b"}}", "An integer that F64 cannot hold, below a free key."),
    "accept_metadata_depth_65": no_profile(b'{"x": {"a": ' + b"[" * 63 + b"]" * 63 + b"}}", "Objects and arrays 65 deep in each other."),
    "accept_metadata_surrogate_pair": with_metadata(b' {"tool": "\\ud83d\\ude00\\u0000"}\r\n', "A pair of surrogates, U+0000, and white space around the object.", {"tool": "\U0001f600\0"}),
    "accept_metadata_key_given_twice": with_metadata(b'{"tool": 1, "tool": "b", "license": "a", "license": 2}', "Of a key that is given twice the last value counts.", {"tool": "b"}, ["/license"]),
    "accept_metadata_small_number": with_metadata(b'{"recommended_alpha": 1e-999, "reduced": {"max_error": 0, "relative_error": 1E+2}}', "A number that is rounded to 0, and others in other forms.", {"recommended_alpha": 0.0, "reduced": {"max_error": 0, "relative_error": 100.0}}),
    "accept_metadata_names_of_pointers": with_metadata(b'{"masks": {"by_component": {"a/b~": {"both": "1", "neither": 2}}}}', "A JSON pointer through a key with a slash and a tilde.", {"masks": {"by_component": {"a/b~": {"neither": 2}}}}, ["/masks/by_component/a~1b~0/both"]),
    "accept_metadata_masks_not_an_object": one_wrong_key("/masks", [], "The key masks with an array."),
    "accept_metadata_results_not_an_object": one_wrong_key("/results", [1], "The key results with an array."),
    "accept_metadata_x_not_an_object": one_wrong_key("/x", "mine", "The key x with a string."),
    "accept_metadata_base_null": one_wrong_key("/base", None, "The key base with null."),
    "accept_metadata_derived_patches_not_an_array": one_wrong_key("/derived/patches", "a", "The key derived.patches with a string."),
    "accept_metadata_params_as_an_array": one_wrong_key("/candidates/params", ["matrices"], "The key candidates.params with an array."),
    "accept_metadata_family_as_a_number": one_wrong_key("/candidates/family", 3, "The key candidates.family with a number."),
    "accept_metadata_include_with_a_number": one_wrong_key("/candidates/include", ["*", 1], "An array of strings with a number in it is not there at all."),
    "accept_metadata_count_below_0": one_wrong_key("/candidates/by_layer", {"0": 8, "1": -1}, "An object of integers with a negative one in it is not there at all."),
    "accept_metadata_component_not_an_object": one_wrong_key("/masks/by_component", {"a": {"both": 1}, "b": 2}, "An object of objects with a number in it is not there at all."),
    "accept_metadata_prefix_of_three": one_wrong_key("/pairing/prefix", ["a", "b", "c"], "A pair of three strings."),
    "accept_metadata_prefix_of_none": one_wrong_key("/pairing/prefix", [], "A pair of no strings."),
    "accept_metadata_prefixes_of_strings": one_wrong_key("/pairing/prefixes", ["a", "b"], "Strings where arrays of two strings belong."),
    "accept_metadata_renamed_with_one_name": one_wrong_key("/pairing/renamed", [["a", "b"], ["c"]], "An array of pairs, one of which is none, is not there at all."),
    "accept_metadata_rows_not_objects": one_wrong_key("/pairing/rows", [{"name": "v"}, ["w", 8, 9]], "An array of objects with an array in it is not there at all."),
    "accept_metadata_file_not_an_object": one_wrong_key("/reference/files", [{"name": 1}, "content"], "An array of objects with a string in it is not there at all."),
    "accept_metadata_alpha_true": one_wrong_key("/recommended_alpha", True, "The key recommended_alpha with true."),
    "accept_metadata_cast_as_names": one_wrong_key("/pairing/cast", ["w"], "The key pairing.cast with names, where their number belongs."),
    "accept_metadata_seed_with_a_fraction": one_wrong_key("/localization/seed", 0.5, "A seed with a fraction."),
    "accept_metadata_brackets_after_an_escaped_quotation_mark": with_metadata(b'{"tool": "\\"' + b"[" * 70 + b'"}', "Brackets in a string, after an escaped quotation mark.", {"tool": '"' + "[" * 70}),
    "accept_metadata_k_1_0": with_metadata(b'{"localization": {"k": 1.0, "seed": 2}}', "An integer with a fraction.", {"localization": {"seed": 2}}, ["/localization/k"]),
    "accept_metadata_k_1e0": with_metadata(b'{"localization": {"k": 1e0, "seed": 2}}', "An integer with an exponent.", {"localization": {"seed": 2}}, ["/localization/k"]),
    "accept_metadata_k_negative_zero": with_metadata(b'{"localization": {"k": -0, "seed": 2}}', "An integer with a sign.", {"localization": {"seed": 2}}, ["/localization/k"]),
    "accept_metadata_k_2_64": with_metadata(b'{"localization": {"k": 18446744073709551616, "seed": 18446744073709551615}}', "2^64, and 2^64 - 1, the largest integer.", {"localization": {"seed": 2**64 - 1}}, ["/localization/k"]),
    "accept_metadata_of_other_kinds": with_metadata(json.dumps({
        "tool": 1, "license": None, "description": ["d"], "recommended_alpha": "1", "portable": "yes", "portability_bytes": 0.5, "x": {"tool": None},
        "localization": {"method": "value", "scope": True, "density": "0.5", "among": 0},
        "masks": {"source": {}, "before_pruning": 1, "overlap": {"both": True, "neither": 6}, "by_component": {"mlp": {"both": [], "base_only": 1}}},
        "base": {"model_id": None, "elements": "8", "files": [{"name": "a", "bytes": -1}, {"name": 2, "sha256": "0", "content": 3}]},
        "pairing": {"rows": [{"name": "w", "base": "8", "reference": 9}], "cast": None},
        "reduced": {"delta_dtype": 8, "max_error": None, "relative_error": 0.5}}).encode(), "Values of other kinds at every level; each is missing alone.", {
            "x": {"tool": None}, "localization": {"method": "value"}, "masks": {"overlap": {"neither": 6}, "by_component": {"mlp": {"base_only": 1}}},
            "base": {"files": [{"name": "a"}, {"sha256": "0"}]}, "pairing": {"rows": [{"name": "w", "reference": 9}]}, "reduced": {"relative_error": 0.5}}, [
                "/tool", "/license", "/description", "/recommended_alpha", "/portable", "/portability_bytes", "/localization/scope", "/localization/density",
                "/localization/among", "/masks/source", "/masks/before_pruning", "/masks/overlap/both", "/masks/by_component/mlp/both", "/base/model_id",
                "/base/elements", "/base/files/0/bytes", "/base/files/1/name", "/base/files/1/content", "/pairing/rows/0/base", "/pairing/cast",
                "/reduced/delta_dtype", "/reduced/max_error"]),
    "reject_r21_counterparts_of_another_reference_alone": with_root(1, "COUNTERPARTS of another reference than the reference root, without a base.", True, False),
    "reject_r21_counterparts_of_another_result_alone": with_root(2, "COUNTERPARTS of another result than the result root, without a base.", True, False),
    "reject_r11_log2_7": with_table("Blocks of 128 elements.", log2=7),
    "reject_r11_log2_23": with_table("Blocks of 2^23 elements.", log2=23),
    "reject_r11_name_empty": with_table("A name of no bytes.", tensors=one_tensor(b"")),
    "reject_r11_name_4097": with_table("A name of 4097 bytes.", tensors=one_tensor(b"n" * 4097)),
    "reject_r11_rank_17": with_table("Seventeen dimensions.", tensors=one_tensor(shape=[1] * 16 + [8])),
    "reject_r11_more_selected_than_elements": with_table("Nine of eight elements selected.", blocks=lambda c: varint(9) + varint(len(c.blocks[0]))),
    "reject_r11_block_of_no_bytes": with_table("A block with selected elements and no bytes.", blocks=varint(2) + varint(0)),
    "reject_r12_not_utf8": with_table("A name that is not UTF-8.", tensors=one_tensor(b"\xff")),
    "reject_r13_dtype_0": with_table("Dtype 0.", tensors=one_tensor(code=0)),
    "reject_r13_dtype_255": with_table("Dtype 255.", tensors=one_tensor(code=255)),
    "reject_r14_no_element": with_table("A dimension of 0.", tensors=one_tensor(shape=[8, 0])),
    "reject_r14_too_large": with_table("A shape of 2^49 bytes.", tensors=one_tensor(shape=[2**48])),
    "reject_r14_product_modulo_2_64": with_table("Dimensions whose product is 1 modulo 2^64.", tensors=one_tensor(shape=[3, 0xAAAAAAAAAAAAAAAB])),
    "reject_r14_bits_modulo_2_64": with_table("2^60 + 8 elements, whose bits are 128 modulo 2^64.", tensors=one_tensor(shape=[2**60 + 8])),
    "reject_r14_2_48_bytes_and_one": with_table("A shape of 2^48 + 1 bytes.", tensors=one_tensor(dtype="U8", shape=[2**48 + 1])),
    "reject_r14_2_48_elements": with_table("A shape of 2^48 elements of two bytes.", tensors=one_tensor(shape=[2**24, 2**24])),
    "reject_r11_2_48_bytes": with_table("A shape of 2^48 bytes is legal: what is refused is the table, which lacks its blocks.", tensors=one_tensor(dtype="U8", shape=[2**48]), log2=22),
    "reject_r11_block_of_2_48_bytes_and_one": with_table("A block of 2^48 + 1 bytes.", blocks=varint(2) + varint(2**48 + 1)),
    "reject_r17_block_of_2_48_bytes": with_table("A block of 2^48 bytes is legal: what is refused is the payload.", blocks=varint(2) + varint(2**48)),
    "reject_r14_overflow": with_table("Dimensions whose product exceeds 64 bits.", tensors=one_tensor(shape=[2**63, 2**63, 4])),
    "reject_r15_nothing_selected": with_table("A tensor without a selected element.", blocks=varint(0)),
    "reject_r16_counterparts_empty": with_counterparts(0, "COUNTERPARTS of no bytes for one tensor."),
    "reject_r16_counterparts_short": with_counterparts(31, "COUNTERPARTS of 31 bytes for one tensor."),
    "reject_r16_counterparts_of_two_lists": with_counterparts(64, "COUNTERPARTS of 64 bytes for one tensor."),
    "reject_r16_counterparts_of_four_lists": with_counterparts(128, "COUNTERPARTS of 128 bytes for one tensor."),
    "reject_r19_unknown_codec_of_masks": with_masks([3, 3], "Codec 3 of masks.", codec=3),
    "reject_r19_masks_of_integers": with_masks([3, 3], "Masks of an integer tensor.", kind="I16"),
    "reject_r19_masks_of_bytes": with_masks([3, 3], "Masks of a dtype that is carried as bytes.", kind="F4"),
    "reject_r19_unknown_codec_of_values_before_pruning": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), (4, 1, grouped([[3, 3]], 16)), (5, 2, grouped([[]], 16))), "Codec 2 of values before pruning."),
    **{f"reject_r20_mask_{s}": with_masks([3, s], f"A sum of {s} in the masks.") for s in (0, 4, 6, 7, 8, 9, 11)},
    "reject_r20_masks_of_fewer": with_masks([3], "One sum for two elements.", count=2),
    "reject_r20_masks_of_more": with_masks([3, 3, 3], "Three sums for two elements.", count=2),
    "reject_r20_deltas_of_pruned_elements": with_masks([3, 1], "Two deltas, but only one element is kept in the reference.", count=2),
    "reject_r20_deltas_of_fewer_than_kept": with_masks([3, 2], "One delta for two elements that are kept in the reference.", count=1),
    "reject_r20_values_before_pruning_of_all": with_masks([3, 2], "Values before pruning of both elements, one of which is kept in the base.", before=[5, 6]),
    "reject_r20_values_before_pruning_of_none": with_masks([3, 2], "No value before pruning for an element that is pruned in the base.", before=[]),
    "reject_r20_value_before_pruning_too_wide": with_masks([3, 2], "A value before pruning of nine bits for F8_E5M2.", before=[256], kind="F8_E5M2"),
    "reject_r19_directory_cut_short": with_block(lambda p, b, r, d, part: b"\x01\x01", "A directory without an end."),
    "reject_r19_kinds_out_of_order": with_block(lambda p, b, r, d, part: block(good_deltas(b, r, d), good_positions(p)), "Deltas before positions."),
    "reject_r19_kind_twice": with_block(lambda p, b, r, d, part: block(good_positions(p), good_positions(p), good_deltas(b, r, d)), "Positions twice."),
    "reject_r19_unknown_kind": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), (0x10, 1, b"")), "Kind 16."),
    "reject_r19_unknown_codec": with_block(lambda p, b, r, d, part: block((1, 3, b""), good_deltas(b, r, d)), "Codec 3 of positions."),
    "reject_r19_no_deltas": with_block(lambda p, b, r, d, part: block(good_positions(p)), "Positions only."),
    "reject_r19_bytes_left_over": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), tail=b"\0"), "A byte after the last stream."),
    "reject_r19_stream_cut_short": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d))[:-1], "The last stream lacks a byte."),
    "reject_r19_reduced_integers": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 3, grouped([[0] * len(p)], 16))), "BF16 deltas of an integer tensor.", {"w": ("I16", [2], [1, 2], [2, 2])}),
    "reject_r20_position_past_end": with_block(lambda p, b, r, d, part: block((1, 1, grouped([[0, 7]], 32)), good_deltas(b, r, d)), "Position 8 of 8 elements."),
    "reject_r20_count_below_k": with_block(lambda p, b, r, d, part: block((1, 1, grouped([[0]], 32)), good_deltas(b, r, d)), "One gap for two elements."),
    "reject_r20_count_above_k": with_block(lambda p, b, r, d, part: block((1, 1, grouped([[0, 0, 0]], 32)), good_deltas(b, r, d)), "Three gaps for two elements."),
    "reject_r20_two_groups_of_one_class": with_block(lambda p, b, r, d, part: block((1, 1, grouped([[0], [2]], 32, spans=[1])), good_deltas(b, r, d)), "Two groups where there is one class."),
    "reject_r20_span_leaves_no_class": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 2, grouped([[0], [1]], 16, spans=[256]))), "A group that takes all classes, and another."),
    "reject_r20_method_32": with_block(lambda p, b, r, d, part: block((1, 1, grouped([gaps(p)], 32, [32])), good_deltas(b, r, d)), "Rice parameter 32 for 32 bits."),
    "reject_r20_method_16": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, grouped([ulps(b, r, d)], 16, [16]))), "Rice parameter 16 for 16 bits."),
    "reject_r20_method_of_no_integers": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 2, grouped([[], ulps(b, r, d)], 16, [40, 2], [127]))), "An unknown method of a group of no integers."),
    "reject_r20_no_class_for_a_group_of_no_integers": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 2, grouped([ulps(b, r, d), []], 16, [2, 2], [256]))), "A group that takes all classes, and another of no integers."),
    "reject_r20_groups_for_every_class_and_one": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 2, grouped([[]] * 127 + [ulps(b, r, d)] + [[]] * 129, 16, [2] * 257, [1] * 256))), "257 groups of 256 classes."),
    "reject_r20_no_class_for_the_third_group": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 2, grouped([ulps(b, r, d), [], []], 16, [2] * 3, [255, 1]))), "Two groups that take all classes, and a third of no integers."),
    "reject_r20_no_pco_file_of_no_integers": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 2, varint(1) + varint(126) + b"\0\x40" + varint(2) + b"\2" + grouped([ulps(b, r, d)], 16, [2])[3:])), "A pco group of no integers, and no pco file."),
    "reject_r20_positions_modulo_2_32": with_block(lambda p, b, r, d, part: block((1, 1, grouped([[3, 2**32 - 4]], 32, [31])), good_deltas(b, r, d)), "Positions 3 and 2^32."),
    "reject_r20_first_position_past_end": with_block(lambda p, b, r, d, part: block((1, 1, grouped([[2**32 - 1, 0]], 32, [31])), good_deltas(b, r, d)), "Position 2^32 - 1, and the next one."),
    "reject_r20_int8_step_256": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 4, struct.pack("<f", 1) + grouped([[0, 256]], 16, [8]))), "An INT8 step of nine bits."),
    "reject_r20_int8_scale_infinite": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 4, struct.pack("<f", math.inf) + grouped([[0, 1]], 16))), "A scale of infinity."),
    "reject_r20_bf16_delta_nan": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 3, grouped([[fold(image(0xFFC1, "BF16"), 16), 0]], 16, [14]))), "A BF16 delta of NaN."),
    "reject_r19_int8_deltas_of_integers": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 4, struct.pack("<f", 1) + grouped([[0] * len(p)], 16))), "INT8 deltas of an integer tensor.", {"w": ("I16", [2], [1, 2], [2, 2])}),
    "reject_r19_kind_127": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), (127, 1, b"")), "Kind 127, the last one that is required."),
    "accept_kind_128": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), (128, 0, b"a"), (255, 255, b"")), "Kinds 128 and 255, the first and the last that are optional."),
    "reject_r19_codec_0_of_positions": with_block(lambda p, b, r, d, part: block((1, 0, grouped([gaps(p)], 32)), good_deltas(b, r, d)), "Codec 0 of positions."),
    "reject_r19_codec_0_of_deltas": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 0, grouped([ulps(b, r, d)], 16))), "Codec 0 of deltas."),
    "reject_r19_codec_2_of_base_values": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), (3, 2, bits_of(b, d))), "Codec 2 of base values."),
    "reject_r19_no_positions": with_block(lambda p, b, r, d, part: block(good_deltas(b, r, d)), "Deltas only."),
    "reject_r19_dense_deltas_alone": with_block(lambda p, b, r, d, part: block((2, 5, Dense(p, b, r, d, part).stream())), "Dense deltas only."),
    "reject_r20_dense_packing_4_of_no_deltas": spoiled(assign(parameters_0=(4, 0, 0)), "Packing 4 of a group of no deltas.", parameters=((0, 0, 0), (1, 0, 0)), spans=[1]),
    "reject_r20_dense_low_bits_16_of_no_deltas": spoiled(assign(parameters_0=(0, 16, 0)), "16 low bits of a group of no deltas.", parameters=((0, 0, 0), (1, 0, 0)), spans=[1]),
    "reject_r20_dense_zero_bits_16_of_no_deltas": spoiled(assign(parameters_0=(0, 0, 16)), "16 zero bits of a group of no deltas.", parameters=((0, 0, 0), (1, 0, 0)), spans=[1]),
    "reject_r20_dense_no_class_for_a_group_of_no_deltas": spoiled(assign(spans=[256]), "A group of all classes, and another of no deltas.", parameters=((0, 0, 0), (1, 0, 0)), spans=[255]),
    "reject_r20_method_65": with_block(lambda p, b, r, d, part: block((1, 1, grouped([gaps(p)], 32)[:2] + b"\x41"), good_deltas(b, r, d)), "An unknown method."),
    "reject_r20_padding": with_block(lambda p, b, r, d, part: block((1, 1, grouped([gaps(p)], 32)[:-1] + bytes([grouped([gaps(p)], 32)[-1] | 0x80])), good_deltas(b, r, d)), "A padding bit that is 1."),
    "reject_r20_rice_cut_short": with_block(lambda p, b, r, d, part: block((1, 1, grouped([gaps(p)], 32)[:-1]), good_deltas(b, r, d)), "Rice integers without their last byte."),
    "reject_r20_rice_left_over": with_block(lambda p, b, r, d, part: block((1, 1, grouped([gaps(p)], 32) + b"\0"), good_deltas(b, r, d)), "A byte after the Rice integers."),
    "reject_r20_rice_too_wide": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, bytes([0, 2, 15]) + pack_bits([1, 1, 0] + [0] * 15 + [0] * 16))), "Quotient 2 with parameter 15 of 16 bits."),
    "reject_r20_pco_garbage": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, bytes([0, 2, 64]) + b"garbage")), "Not a pco file."),
    "reject_r20_pco_count": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, bytes([0, 2, 64]) + pco([1, 2, 3], 16))), "A pco file of three integers for two."),
    "reject_r20_pco_width": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, bytes([0, 2, 64]) + pco([1, 2], 32))), "A pco file of another width."),
    "reject_r20_pco_left_over": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, bytes([0, 2, 64]) + pco([1, 2], 16) + b"\0")), "A byte after a pco file."),
    "reject_r20_pco_cut_short": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, bytes([0, 2, 64]) + pco([1, 2], 16)[:-1])), "A pco file without its last byte."),
    "reject_r20_class_gaps_past_end": with_block(lambda p, b, r, d, part: block((1, 2, grouped([[0, 100]], 32)), good_deltas(b, r, d)), "A class gap past the end of its group."),
    "reject_r20_class_ulps_of_other_classes": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 2, grouped([[0, 1], []], 16, spans=[1]))), "Deltas counted for classes that no selected element has."),
    "reject_r20_ulp_too_wide": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 1, grouped([[256]], 16))), "A ULP delta of nine bits for U8.", {"w": ("U8", [2], [1, 2], [2, 2])}),
    "reject_r20_base_value_too_wide": with_block(lambda p, b, r, d, part: block(good_positions(p), good_deltas(b, r, d), (3, 1, grouped([[256]], 16))), "A base value of nine bits for U8.", {"w": ("U8", [2], [1, 2], [2, 2])}),
    "reject_r20_bf16_delta_infinite": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 3, grouped([[fold(0x7F80, 16), 0]], 16, [14]))), "A BF16 delta of infinity."),
    "reject_r20_int8_scale_nan": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 4, struct.pack("<I", 0x7FC00000) + grouped([[0, 1]], 16))), "A scale of NaN."),
    "accept_dense_escapes_by_group": escaped_by_group([1, 1, 1], list, "The escape integers of each group of the block in a group of their own, one of them by pco."),
    "accept_dense_escapes_in_two_groups": escaped_by_group([2], lambda e: [e[0] + e[1], e[2] + e[3]], "Escape integers of four groups of the block in two groups, the second one by pco."),
    "accept_dense_escapes_in_other_groups": escaped_by_group([1, 2], lambda e: [e[0][:3], [], e[0][3:] + e[1] + e[2] + e[3]], "Escape integers one after the other in groups that are not those of their elements."),
    **{f"accept_dense_packing_{packing}": dense_packing(packing) for packing in range(4)},
    **{f"accept_dense_dtype_{dtype.lower()}": dense_of_dtype(dtype) for dtype in ("F8_E4M3", "F8_E5M2", "F16", "F32", "F64", "U8", "I8", "U16", "I32")},
    "accept_dense_dtype_f64_low_bits": dense_of_dtype("F64", ((0, 40, 0),), most=2**45),
    "reject_r19_unknown_codec_of_positions": with_block(lambda p, b, r, d, part: block((1, 4, b""), good_deltas(b, r, d)), "Codec 4 of positions."),
    "reject_r19_unknown_codec_of_deltas": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 6, b"")), "Codec 6 of deltas."),
    "reject_r19_unknown_codec_of_both": spoiled(lambda made: made.block(positions=4, deltas=6), "Codecs 4 and 6."),
    "reject_r19_dense_class_gaps": spoiled(lambda made: made.block(positions=2), "Dense deltas with class gaps."),
    "reject_r19_dense_gaps": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 5, Dense(p, b, r, d, part).stream())), "Dense deltas with gaps."),
    "reject_r19_dense_chunks_and_class_ulps": with_block(lambda p, b, r, d, part: block((1, 3, b""), (2, 2, grouped([[], ulps(b, r, d)], 16, spans=[127]))), "Changed chunks with class ULP deltas."),
    "reject_r19_dense_chunks_and_bf16_deltas": with_block(lambda p, b, r, d, part: block((1, 3, b""), (2, 3, grouped([[0] * len(p)], 16))), "Changed chunks with BF16 deltas."),
    "reject_r19_dense_and_base_values": with_block(lambda p, b, r, d, part: Dense(p, b, r, d, part).block((3, 1, bits_of(b, d))), "A dense block with base values."),
    "reject_r19_dense_and_masks": with_block(lambda p, b, r, d, part: Dense(p, b, r, d, part).block((4, 1, grouped([[3] * len(p)], 16))), "A dense block with masks."),
    "reject_r19_dense_and_values_before_pruning": with_block(lambda p, b, r, d, part: Dense(p, b, r, d, part).block((4, 1, grouped([[3] * len(p)], 16)), (5, 1, grouped([[]], 16))), "A dense block with masks and values before pruning."),
    "reject_r20_dense_chunks_not_zstd": spoiled(assign(map=b"\xff\x07"), "Changed chunks that are no zstd frame.", n=1300),
    "reject_r20_dense_chunks_of_fewer_bytes": spoiled(assign(map=zstd_of(b"\xff")), "A byte for 11 chunks.", n=1300),
    "reject_r20_dense_chunks_of_more_bytes": spoiled(assign(map=zstd_of(b"\xff\x07\0")), "Three bytes for 11 chunks.", n=1300),
    "reject_r20_dense_chunks_of_two_frames": spoiled(assign(map=zstd_of(b"\xff") + zstd_of(b"\x07")), "Two frames for 11 chunks.", n=1300),
    "reject_r20_dense_chunks_left_over": spoiled(assign(map=zstd_of(b"\xff\x07") + b"\0"), "A byte after the frame of changed chunks.", n=1300),
    "reject_r20_dense_chunks_of_a_large_window": spoiled(assign(map=bytes.fromhex("28B52FFD0078110000FF07")), "Changed chunks in a frame that asks for a window of 2^25 bytes.", n=1300),
    "reject_r20_dense_chunk_after_the_last": spoiled(assign(map=zstd_of(b"\xff\x0f")), "Chunk 11 of 11.", n=1300),
    "reject_r20_dense_no_chunk": spoiled(lambda made: block((1, 3, zstd_of(b"\0")), (2, 5, bytes.fromhex("0000000000000003000000"))), "No chunk is changed."),
    "reject_r20_dense_other_chunks": spoiled(assign(map=zstd_of(b"\xff\x03")), "The last chunk is none of the changed ones, but has deltas.", n=1300),
    "reject_r20_dense_more_groups_than_classes": spoiled(lambda made: block((1, 3, b""), (2, 5, varint(256) + made.stream()[1:])), "257 groups of BF16, which has 256 classes."),
    "reject_r20_dense_span_leaves_no_class": spoiled(assign(spans=[256]), "A group of all classes, and another."),
    "reject_r20_dense_count_too_small": dense_symbols(lambda symbols: symbols.remove(0), "The counts add up to one delta fewer than changed chunks have elements."),
    "reject_r20_dense_count_too_large": dense_symbols(lambda symbols: symbols.append(0), "The counts add up to one delta more than changed chunks have elements."),
    "reject_r20_dense_packing_4": spoiled(assign(parameters_0=(4, 0, 0)), "Packing 4."),
    **{f"reject_r20_dense_low_bits_{b}_of_{dtype.lower()}": spoiled(assign(parameters_0=(0, b, 0)), f"{b} low bits of {b}.", dtype, parameters=((0, 1, 0),)) for dtype, b in (("U8", 16), ("BF16", 16), ("F32", 32), ("F64", 64))},
    **{f"reject_r20_dense_zero_bits_{b}_of_{dtype.lower()}": spoiled(assign(parameters_0=(0, 1, b)), f"{b} zero bits of {b}.", dtype, parameters=((0, 1, 0),)) for dtype, b in (("U8", 16), ("BF16", 16), ("F32", 32), ("F64", 64))},
    "reject_r20_dense_frame_of_fewer_bytes": frame_of(lambda content: zstd_of(content[:-1]), "A frame lacks a byte."),
    "reject_r20_dense_frame_of_more_bytes": frame_of(lambda content: zstd_of(content + b"\0"), "A frame has a byte more, of symbols 0."),
    "reject_r20_dense_frame_of_much_more": frame_of(lambda content: zstd_of(content + bytes(2**22)), "A frame of a few bytes unpacks to more than 4 MiB."),
    "reject_r20_dense_frame_not_zstd": frame_of(lambda content: content, "Symbols that are no zstd frame."),
    "reject_r20_dense_two_frames": frame_of(lambda content: zstd_of(content[:9]) + zstd_of(content[9:]), "Symbols in two frames."),
    "reject_r20_dense_skippable_frame": frame_of(lambda content: SKIPPABLE + zstd_of(content), "A frame to be skipped before that of the symbols."),
    "reject_r20_dense_frame_left_over": frame_of(lambda content: zstd_of(content) + b"\0", "A byte after a frame, counted as one of its bytes."),
    "reject_r20_dense_frame_cut_short": frame_of(lambda content: zstd_of(content)[:-1], "A frame without its last byte."),
    "reject_r20_dense_frame_of_a_large_window": frame_of(lambda content: bytes.fromhex("28B52FFD0078") + (len(content) << 3 | 1).to_bytes(3, "little") + content, "A frame that asks for a window of 2^25 bytes."),
    "reject_r20_dense_no_frame": spoiled(assign(frames_0=b""), "No frame for a group that has deltas."),
    "reject_r20_dense_frame_of_no_deltas": spoiled(assign(frames_0=zstd_of(b"")), "A frame of no bytes for a group that has no deltas.", parameters=((0, 0, 0), (1, 0, 0)), spans=[1]),
    "reject_r20_dense_frame_bytes_of_more_than_follow": spoiled(lambda made: block((1, 3, b""), (2, 5, made.stream()[:-1])), "A frame whose last byte is missing at the end of the stream.", parameters=((0, 0, 0),)),
    "reject_r20_dense_padding_of_symbols": frame_of(lambda content: zstd_of(content[:-1] + bytes([content[-1] | 0x80])), "A symbol after the last one that is not 0.", n=251, parameters=((3, 0, 0),)),
    "reject_r20_dense_escapes_too_few": escapes_of(lambda integers: integers[:-1], "An escape integer fewer than symbols of escapes."),
    "reject_r20_dense_escapes_left_over": escapes_of(lambda integers: [*integers, 0], "An escape integer more than symbols of escapes."),
    "reject_r20_dense_escapes_of_more_than_elements": escapes_of(lambda integers: [*integers, *[0] * 250], "More escapes than elements."),
    "reject_r20_dense_escapes_of_another_count": spoiled(assign(escapes=lambda n: n - 1), "The escape integers are one more than the escapes."),
    "reject_r20_dense_escapes_of_no_stream": spoiled(assign(escapes=0, escape_integers=b""), "No escapes, and no grouped integers either.", parameters=((0, 0, 0),)),
    "reject_r20_dense_escape_integers_left_over": spoiled(assign(escape_integers=lambda stream: stream + b"\0"), "A byte after the escape integers, counted as one of theirs."),
    "reject_r20_dense_escape_integers_of_more_groups": spoiled(lambda made: vars(made).update(escape_integers=grouped([*made.escaped, []], 16, [1, 1, 1], [1, 1])), "Three groups of escape integers in a block of two groups."),
    "reject_r20_dense_escape_bytes_of_more_than_follow": spoiled(lambda made: block((1, 3, b""), (2, 5, made.table()[:-1])), "The stream ends before the last byte of the escape integers."),
    "reject_r20_dense_escape_integers_cut_short": spoiled(assign(escape_integers=lambda stream: stream[:-1]), "Escape integers without their last byte, counted so."),
    "reject_r20_dense_low_bits_cut_short": spoiled(assign(low_bits_1=lambda bits: bits[:-1]), "Low bits without their last byte."),
    "reject_r20_dense_padding_of_low_bits": spoiled(dense_padding, "A bit that is 1 after the low bits."),
    "reject_r20_dense_bytes_left_over": spoiled(assign(tail=b"\0"), "A byte after the last group."),
    "reject_r20_dense_table_cut_short": spoiled(lambda made: block((1, 3, b""), (2, 5, made.stream()[:5])), "The table of groups ends after a packing."),
    "reject_r20_dense_long_varint": spoiled(lambda made: block((1, 3, b""), (2, 5, b"\x81\0" + made.stream()[1:])), "A varint that is not in shortest form."),
    "reject_r20_int8_no_scale": with_block(lambda p, b, r, d, part: block(good_positions(p), (2, 4, b"\0\0\0")), "Three bytes of scale."),
}


# Writing

# The vectors that also have what comes between bytes and result: a few of each codec.
WITH_BLOCKS = {"accept_" + name for name in (
    "worked_example", "several_blocks_some_empty", "rice_escapes", "pco", "class_worked_example", "class_gaps_and_class_ulps",
    "class_gaps_plain_ulps", "many_groups", "rice_and_pco_groups_mixed", "class_gaps_of_integers", "portable", "base_values_of_integers",
    "bf16_deltas", "int8_deltas", "int8_negative_scale", "zero_delta", "special_values_f32", "dtype_i8", "dtype_f64", "dtype_f8_e4m3", "masks_all_sums",
    "masks_class_ulps", "masks_portable", "masks_bf16_deltas", "masks_in_some_blocks", "values_before_pruning", "dense_worked_example",
    "dense_several_groups", "dense_low_and_zero_bits", "dense_escapes_in_two_groups", "dense_changed_chunks", "last_group_of_no_integers")}


def write(folder, name, function):
    made = function()
    case, data = made if isinstance(made, tuple) else (made, None) if isinstance(made, Case) else (None, made)
    data = case.file() if data is None else data
    expect = "accept" if name.startswith("accept") else f"R{int(name[8:10])}"
    hexed = lambda result: {n: tensor_bytes(bits, case.base[n][0]).hex() for n, bits in result.items()}
    described = {"comment": function.__doc__, "expect": expect, "base": f"{name}.base.safetensors" if case else None}
    if expect == "accept" and not case:
        described |= {"result": {}, "alphas": []}
    if hasattr(case, "shown"):
        described["metadata"], described["ignored"] = case.shown
    if case and expect == "accept":
        described["result"] = case.result and hexed(case.result)
        described["alphas"] = [{"alpha": alpha, "result": result and hexed(result)} for alpha, result in case.alphas]
        if hasattr(case, "edits"):
            described["edits"] = {kind: result and hexed(result) for kind, result in case.edits.items()}
        if hasattr(case, "together"):
            first, alphas, result = case.together
            patches = [{"patch": patch + ".lcepatch", "alpha": alpha} for patch, alpha in zip((first, name), alphas)]
            described["together"] = [{"patches": patches, "result": result and hexed(result)}]
    if name in WITH_BLOCKS:
        described["blocks"] = case.block_values()
    if hasattr(case, "content"):
        described["content"] = case.content
    if hasattr(case, "elsewhere"):
        other = f"{name}.elsewhere.safetensors"
        fits = case.fits_other() if expect == "accept" else (expect, expect)
        described["elsewhere"] = [{"base": other, "fits": fits[0], "quick": fits[1], "alpha": alpha, "result": result and hexed(result)}
                                  for alpha, result in case.elsewhere]
        with open(os.path.join(folder, other), "wb") as file:
            file.write(safetensors(case.other))
    if case:
        with open(os.path.join(folder, described["base"]), "wb") as file:
            file.write(safetensors(case.base))
    with open(os.path.join(folder, name + ".lcepatch"), "wb") as file:
        file.write(data)
    with open(os.path.join(folder, name + ".json"), "w") as file:
        file.write(json.dumps(described, indent=1) + "\n")


def arithmetic():
    rows = []
    for dtype, (e, m) in FLOATS.items():
        w, one = width(dtype), (2 ** (e - 1) - 1) << m
        top = 126 if dtype == "F8_E4M3" else ((2**e - 1) << m) - 1
        sign = 1 << (w - 1)
        pairs = [(one, one + 1), (one + 1, one + 2), (one, one | sign), (0, sign), (sign, 0), (1, 3), (sign | 1, 2), (top, top - 1),
                 (top - 1, top), (top, top | sign), (2**m - 1, 2**m), (one, 2), (one + 3, one - 5)]
        pairs += list(zip(numbers(w + e, 6, dtype), numbers(w + e + 1, 6, dtype)))
        for base, reference in pairs:
            for alpha in (0.5, -2.0, 0.001, 1.5, 1e300):
                rows.append((dtype, base, reference, alpha))
        nan = 127 if dtype == "F8_E4M3" else top + 2
        rows += [(dtype, nan, one, 1.0), (dtype, one, nan, 1.0), (dtype, nan, one, 0.0), (dtype, one, nan, 0.5), (dtype, nan, one, 0.5)]
        infinity = [] if dtype == "F8_E4M3" else [(top + 1, one), (one, top + 1 | sign), (top + 1, top + 1 | sign), (top + 1, top + 1)]
        rows += [(dtype, base, reference, alpha) for base, reference in [(nan | sign, one), (one, nan | sign), *infinity] for alpha in (0.5, -2.0)]
        # Just above the middle between two numbers, or just below: another rounding before the last one would end in the middle.
        for alpha in (0.5 + 2**-33, 0.5 - 2**-33, 0.5 + 2**-13, 0.5 - 2**-13, 0.5 + 2**-50, 0.5 - 2**-50):
            rows += [(dtype, one, one + 1, alpha), (dtype, one + 1, one + 2, alpha), (dtype, one | sign, one + 1 | sign, alpha),
                     (dtype, 1, 2, alpha), (dtype, 2, 3, alpha), (dtype, sign | 1, sign | 2, alpha), (dtype, top - 1, top, 1 + alpha), (dtype, sign | top - 1, sign | top, 1 + alpha)]
        # An alpha that F32 does not hold; products that are rounded before they are added; and -0.
        rows += [(dtype, base, reference, alpha) for base, reference in zip(moderate(w + e, 8, dtype), moderate(w + e + 2, 8, dtype)) for alpha in (0.1, 1 / 3, 1 + 2**-52)]
        rows += [(dtype, sign, one, -0.0), (dtype, one + 1, nan, -0.0), (dtype, sign, sign, 0.5), (dtype, 0, sign, 0.5), (dtype, sign, 0, 1.5)]
    with np.errstate(all="ignore"):
        results = [[edit(base, reference, alpha, dtype, allow) for allow in (False, True)] for dtype, base, reference, alpha in rows]
    lines = [json.dumps({"dtype": d, "base": f"{b:x}", "reference": f"{r:x}", "alpha": a, "result": None if u is None else f"{u:x}"}
                        | ({"allowed": f"{allowed:x}"} if u is None else {})) for (d, b, r, a), (u, allowed) in zip(rows, results)]
    return "[\n" + ",\n".join(lines) + "\n]\n"


PCO_EXAMPLE = [0, 12, 0, 0, 100, 11]
PCO_BINS = [(2, 0, 0), (1, 10, 2), (1, 100, 0)]
# Files of pcodec 1.1.0 with other modes and delta encodings, of 200 integers of 16 bits.
PCODEC = {
    "mode IntMult": """
        70636f2103000732040107c700007100002700000300100f04803001000e00008c000000e68022bf36db0af1012b5c6f6f76b3494a4bf04c2d4cb332dbbb20d632081858
        e59d752d1aae857726028d4a440081562efecbf9faa6fd9275f40cd30bf57acb7cd5feac22678803dfe88b68db297ba78fc5c7e0adece68563517e11f34940d96621794c
        54fac072771d11df3e90623ed1af4320bd9908bfaf48287cc6517f00""",
    "mode Dict": """
        70636f2103000732040107c7000014020000000031006200770054007000070038007e008500690046004d0023005b002a000e003f0015007f0086001c00160078006a00
        4700390008001d000100550040005c0070038031000000008180000000082412000000044e8e5e01d2e5142cbac91c94db61f1c19eafbb9dffaaee23f97f7b19da7e30a0
        a2584ea1e3e87288615029b081b57e0700fca8c9a2b3323cbd5c62b0d4c65f19c30de77ee17d8d9f56a1b5a8d31f1d4b7f865a2aa3c62784463c8d3e6008419614ef2685
        43faa480a5f776d4b04504119044cf016352123663a20000""",
    "delta encoding Consecutive": """
        70636f2103000732040107c7000010520200eeff2784002000010002000f28067abba739ed55ba04108f22cdcc6a1e5fd31191db453cd9bedceee1c96cbb3c5757dc15b5
        39e51b3db797743e43d71b7d7cac9756edc6970e00""",
    "delta encoding Lookback": """
        70636f2103000732040107c70000200740002000000000380100150030a80400010100de1ef707583b5fcede0d63eb9b448a18577cf17389c32c79965be4acf240433
        62bcdc9331423eb0e8f54a70100""",
    "delta encoding Conv1": """
        70636f2103000732040107c70000300d8e03000000000030c4000000627f00004200e0ff4f00010003006aadbded79f9abd7759fe9d7659fe69666de796bedbb65a9fea5
        7f804aa064024191622559085426909068a498aa9990620600""",
}


def pco_example(**changed):
    return pco_chunk(PCO_EXAMPLE, 16, PCO_BINS, 2, **changed)


def drawn(n, bins, b):
    """`n` integers of these bins, each of which has about its weight."""
    bins, dice = [bin for bin in bins for _ in range(bin[0])], hashlib.shake_256(b"bins").digest(9 * n)
    out = []
    for at in range(0, 9 * n, 9):
        _, lower, width = bins[dice[at] % len(bins)]
        out.append((lower + int.from_bytes(dice[at + 1 : at + 9], "little") % 2**width) % 2**b)
    return out


def pco_bins_alone(L, bins, B=None):
    """A chunk of one integer, of bins that need not be legal: all bits after them are 0, as many as state 0 takes for the first bin."""
    fields = [(7, 8), (0, 24), (0, 8), (L, 4), (len(bins) if B is None else B, 15)]
    for weight, lower, width in bins:
        fields += [(weight - 1, L), (lower, 16), (width, 5)]
    weight, _, width = bins[0] if bins else (1, 0, 0)
    batch = L + 1 - weight.bit_length() + width
    return pack_bits([bit for field in fields for bit in bits_of_number(*field)]) + bytes(-(-4 * L // 8) + -(-batch // 8))


def pco_rows():
    """Of each pco file: what it shows, b, its bytes, and its integers or of how many it is refused."""
    rows, example = [], pco_file(6, pco_example())
    accept = lambda comment, b, integers, data: rows.append((comment, b, integers, data))
    reject = lambda comment, data, n=6, b=16: rows.append((comment, b, n, data))
    of_bins = lambda n, b, bins, L, **options: (drawn(n, bins, b), pco_file(n, pco_chunk(drawn(n, bins, b), b, bins, L, **options)))
    accept("the example of §P.8", 16, PCO_EXAMPLE, example)
    assert example.hex() == "70636f2103008201040107050000003200080000a0002020030008050c00"
    for b in (16, 32, 64):
        top = 2**b - 1
        accept("no integers, no chunks", b, [], pco_file(0))
        accept("one bin of the full width", b, [0, top, 1, top // 3, 5], pco_file(5, pco_chunk([0, top, 1, top // 3, 5], b, [(1, 0, b)])))
        accept("one bin of the full width that begins at 3", b, [0, top, 1, 2, 3], pco_file(5, pco_chunk([0, top, 1, 2, 3], b, [(1, 3, b)])))
        accept("a constant, which takes no bits", b, [top] * 5, pco_file(5, pco_chunk([top] * 5, b)))
        accept("lower + offset is taken modulo 2^b", b, *of_bins(40, b, [(3, top - 2, 4), (1, 100, 1)], 2))
        accept("several bins", b, *of_bins(300, b, [(5, 0, 3), (1, 40, 7), (9, 8, 5), (1, 2**15, b - 1)], 4))
    for n in (1, 2, 3, 4, 5, 255, 256, 257, 511, 512, 513, 769):
        accept(f"{n} integers of three bins: batches of 256", 16, *of_bins(n, 16, [(5, 0, 4), (2, 200, 8), (1, 1000, 1)], 3))
    for L in range(1, 11):
        bins = [(2 ** (L - 1), 5, 2), (2 ** (L - 1), 9, 0)] if L == 1 else [(2 ** (L - 1) + 1, 0, 1), (1, 7, 3), (2 ** (L - 1) - 2, 900, 5)]
        bins = [(weight, *rest) for weight, *rest in bins if weight]
        accept(f"L = {L}", 32, *of_bins(150, 32, bins, L))
    accept("as many bins as states", 16, *of_bins(40, 16, [(1, 3 * i, 1) for i in range(64)], 6))
    accept("1024 bins, the most that are legal", 16, *of_bins(40, 16, [(1, 3 * i, 1) for i in range(1024)], 10))
    accept("bins that overlap, are alike, fall, and of which two are never used", 16, *of_bins(30, 16, [(1, 6, 1), (1, 6, 1), (2, 2, 2), (3, 2**16 - 1, 0), (1, 7, 0)], 3))
    accept("states at the end that are not 0", 16, PCO_EXAMPLE, pco_file(6, pco_example(last=(3, 1, 2, 3))))
    accept("hint 0", 16, PCO_EXAMPLE, pco_file(6, pco_example(), hint=0))
    accept("hint 2^64 - 1", 16, PCO_EXAMPLE, pco_file(6, pco_example(), hint=2**64 - 1))
    accept("a hint of 64 bits", 16, PCO_EXAMPLE, pco_file(6, pco_example(), width=64))
    accept("hint 7 of 6 integers", 16, PCO_EXAMPLE, pco_file(6, pco_example(), hint=7))
    accept("three chunks, each with states and bins of its own", 16, PCO_EXAMPLE + [9] * 259 + PCO_EXAMPLE[1:], pco_file(
        270, pco_example(), pco_chunk([9] * 259, 16), pco_chunk(PCO_EXAMPLE[1:], 16, [(3, 0, 7), (5, 8, 5)], 3)))
    spread = [v * 977 % 2**16 for v in range(150)]
    accept("integers that the bins of a writer cover", 16, spread, pco(spread, 16, 60))

    reject("no byte", b"")
    for at in (1, 4, 6, 8, 9, 12, 14, 18, 24, 26, 28, 29):
        reject(f"the first {at} bytes", example[:at])
    reject("another magic", pco_file(6, pco_example(), magic=b"pco?\3\0"))
    reject("standalone version 2, which has no uniform type", pco_file(6, pco_example(), magic=b"pco!\2"))
    reject("standalone version 2", pco_file(6, pco_example(), magic=b"pco!\2\0"))
    reject("standalone version 4", pco_file(6, pco_example(), magic=b"pco!\4\0"))
    reject("uniform type U16", pco_file(6, pco_example(), magic=b"pco!\3\7"))
    for version in (b"\3", b"\3\1", b"\4\0", b"\4\2", b"\5\1"):
        reject("format version " + ".".join(map(str, version)), pco_file(6, pco_example(), version=version))
    for comment, data in PCODEC.items():
        reject(comment, bytes.fromhex("".join(data.split())), 200)
    for field in range(1, 16):
        reject(f"mode {field}", pco_file(6, pco_example(mode=field)))
        reject(f"delta encoding {field}", pco_file(6, pco_example(delta=field)))
    for kind in (1, 2, 3, 8, 9, 10, 11, 255):
        reject(f"number type {kind} where 7 is due", pco_file(6, pco_example(kind=kind)))
    for b in (32, 64):
        reject("integers of 16 bits", example, b=b)
        reject("integers of other widths in two chunks", pco_file(4, pco_chunk([1, 2], b, kind=None), pco_chunk([1, 2], 16)), 4, b)
    reject("one integer fewer", example, 7)
    reject("one integer more", example, 5)
    reject("no integers, where some are due", pco_file(0))
    reject("integers, where none are due", example, 0)
    reject("a chunk of 2^24 integers, where five are due", pco_file(5, pco_chunk([7], 16, n=2**24)), 5)
    reject("a chunk of 2^16 + 5 integers, where five are due", pco_file(5, pco_chunk([7], 16, n=2**16 + 5)), 5)
    reject("a second chunk that makes too many", pco_file(8, pco_example(), pco_chunk([1, 1, 1], 16)), 8)
    reject("a second chunk that makes too few", pco_file(8, pco_example(), pco_chunk([1], 16)), 8)
    reject("a byte after the end", example + b"\0")
    reject("a byte after the end that is not 0", example + b"\1")
    reject("two files", example * 2, 12)
    reject("no end", pco_file(6, pco_example(), end=b""))
    reject("a bit that is 1 after the hint", pco_file(6, pco_example(), padding=1))
    for at, where in enumerate(("the bins", "the first states", "the batches")):
        padding = tuple(int(part == at) for part in range(3))
        reject(f"a bit that is 1 after {where}", pco_file(7, pco_chunk(PCO_EXAMPLE + [0], 16, [(5, 0, 0), (2, 10, 2), (1, 100, 0)], 3, padding=padding)), 7)
    for comment, L, bins, *B in (
            ("no bins", 0, [], 0), ("L = 0 and two bins", 0, [(1, 0, 0)] * 2), ("L = 1 and one bin of both states", 1, [(2, 0, 0)]),
            ("weights that add up to less", 2, [(2, 0, 0), (1, 1, 0)]), ("weights that add up to more", 2, [(2, 0, 0), (3, 1, 0)]),
            ("more bins than states", 1, [(1, 0, 0)] * 3), ("a width of 17 of 16 bits", 0, [(1, 0, 17)]), ("a width of 31 of 16 bits", 0, [(1, 0, 31)]),
            ("a width of 17 in the last of two bins, which is not used", 1, [(1, 0, 0), (1, 0, 17)]), *((f"L = {L}", L, [(2**L - 1, 0, 0), (1, 0, 0)]) for L in (11, 12, 13, 14, 15))):
        reject(comment, pco_file(1, pco_bins_alone(L, bins, *B)), 1)
    return rows


def pco_table():
    """The rows of pco.json."""
    lines = []
    for comment, b, integers, data in pco_rows():
        n, integers = (integers, None) if isinstance(integers, int) else (len(integers), integers)
        lines.append(json.dumps({"comment": comment, "b": b, "n": n, "bytes": data.hex(), "integers": integers}))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def worked_example():
    case = accept_worked_example()
    data, table = case.file(), case.table()
    parts = [
        (8, "magic"), (2, "version 1"), (2, "reserved"), (4, "bytes of all sections"), (8, "bytes of all blocks"), (8, "reserved"),
        (32, "header digest: BLAKE3 of bytes 0 to 31 and 64 to the end of the sections; the patch id"),
        (12, "METADATA: type 1, raw, 2 bytes"), (2, "`{}`"),
        (12, f"TABLE: type 2, raw, {len(table)} bytes"), (1, "L = 8"), (1, "one tensor"), (2, "its name has 1 byte: `w`"), (1, "BF16"),
        (2, "rank 1: 8 elements"), (2, "its only block: 2 selected elements, its bytes"),
        (12, "DIGESTS: type 3, raw, 160 bytes"), (32, "selected root"), (32, "reference root"), (32, "result root"),
        (32, "BLAKE3 of `w` in the base"), (32, "BLAKE3 of the block"),
        (3, "stream kind 1 (positions), codec 1 (gaps), its bytes"), (3, "stream kind 2 (deltas), codec 1 (ULP), its bytes"),
        (1, "end of the directory"),
        (3, "gaps: one group, 2 integers, Rice parameter 3"), (1, "0 as `0 000`, 2 as `0 010`: bits from the lowest: 0 000 0 010"),
        (3, "deltas: one group, 2 integers, Rice parameter 2"), (1, "1 as `0 10`, 2 as `0 01` (low bit first), padding 00"),
    ]
    lines, at = ["```", "offset  bytes"], 0
    for size, meaning in parts:
        chunk = data[at : at + size]
        for line in range(0, size, 16):
            lines.append(f"{at + line:6}  {chunk[line : line + 16].hex(' '):47}  {meaning if line == 0 else ''}".rstrip())
        at += size
    assert at == len(data), (at, len(data))
    base, result = BF16_BASE, case.result["w"]
    lines += ["```", "", f"The base is `w` = {' '.join(f'{u:04X}' for u in base)} (BF16). Gaps 0 and 2 are positions 0 and 3. The coded integer 1 is",
              "`z` = 2, a delta of +1: 3F80 becomes 3F81. The coded integer 2 is `z` = 3, a delta of -2: 4000 becomes 3FFE. At alpha 1 the",
              f"result is {' '.join(f'{u:04X}' for u in result)}."]
    return "\n".join(lines)


def main(out):
    folder = os.path.join(out, "v1")
    os.makedirs(folder, exist_ok=True)
    for name, function in sorted(VECTORS.items()):
        write(folder, name, function)
    for name, table in (("arithmetic.json", arithmetic()), ("pco.json", pco_table())):
        with open(os.path.join(out, name), "w") as file:
            file.write(table)
    print(f"{len(VECTORS)} vectors")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(worked_example()) if sys.argv[1] == "--worked-example" else main(sys.argv[1])
