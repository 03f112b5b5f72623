#!/usr/bin/env python3
"""A decoder of lcepatch files that follows lcepatch-v1.md and apply-v1.md, in the order of their text.

    decode.py show PATCH
    decode.py check PATCH [BASE] [--quick]
    decode.py blocks PATCH [BASE]         # what each block decodes to, as in the key `blocks` of vectors
    decode.py apply BASE PATCH[:ALPHA] ... [--edit ip|pr|sw] [--alpha A] [--allow-non-finite] [--allow-different-base] -o RESULT

Edits: ip, interpolation and extrapolation (§A3, §A5); pr, pruning (§A6); sw, mask switch (§A7). Only ip uses alphas.

Needs numpy, a binding of Zstandard, and blake3. BASE is one safetensors file.
Exit codes: 0 done or yes, 1 the base does not fit (check), 3 files, 4 not a valid patch ("Rn: ..." on stderr), 6 refused,
7 an edited number is not finite.
"""
import argparse
import json
import math
import os
import re
import struct
import sys
from functools import partial

import numpy as np
import zstandard
from blake3 import blake3


class Reject(Exception):
    """The file breaks a rule of §12."""

    def __init__(self, rule, message):
        super().__init__(f"R{rule}: {message}")
        self.rule = rule


class Refuse(Exception):
    """The patch is valid, and may not be applied all the same."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# §2 Conventions


class Reader:
    """Reads fields off the front of bytes; running out of them breaks `rule`."""

    def __init__(self, data, rule):
        self.data, self.at, self.rule = data, 0, rule

    def left(self):
        return len(self.data) - self.at

    def take(self, n, what):
        if n > self.left():
            raise Reject(self.rule, f"{what} is cut short")
        self.at += n
        return self.data[self.at - n : self.at]

    def uint(self, n, what):
        return int.from_bytes(self.take(n, what), "little")

    def varint(self, what, least=0, most=2**64 - 1):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.uint(1, what)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        if byte >= 0x80 or shift and byte == 0:
            raise Reject(self.rule, f"{what} is not a varint of at most 64 bits in its shortest form")
        if not least <= value <= most:
            raise Reject(self.rule, f"{what} is {value}, not {least} to {most}")
        return value

    def finish(self, what):
        if self.left():
            raise Reject(self.rule, f"{self.left()} bytes follow {what}")


def H(data):
    return blake3(data).digest()


class Bits:
    """A bit stream, lowest bit of each byte first; running out of it, or padding that is not 0, breaks R20."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, n):
        start, end = self.at, self.at + n
        if end > 8 * len(self.data):
            raise Reject(20, "a bit stream is cut short")
        self.at = end
        return int.from_bytes(self.data[start >> 3 : (end + 7) >> 3], "little") >> (start & 7) & ((1 << n) - 1)

    def align(self):
        if self.number(-self.at % 8):
            raise Reject(20, "padding bits are not 0")

    def rest(self):
        """The bytes after the stream, which ends here."""
        self.align()
        return self.data[self.at // 8 :]


# §5 Header

MAGIC = bytes.fromhex("894C43500D0A1A0A")
DAMAGED = [b"\x89LCP" + tail for tail in (b"\n\x1a\n", b"\r\r\n", b"\r\n\x1a\r")]
METADATA, TABLE, DIGESTS, STATISTICS, COUNTERPARTS = KNOWN_SECTIONS = 1, 2, 3, 0x8004, 0x8005


def preamble(front, file_bytes):
    """§5.1: return the lengths of sections and payload, and the header digest."""
    if not front.startswith(MAGIC):
        if any(front.startswith(damaged) for damaged in DAMAGED):
            raise Reject(2, "line endings were changed in transfer")
        raise Reject(1, "not an lcepatch file")
    if len(front) < 64:
        raise Reject(4, "fewer than 64 bytes")
    version, reserved, sections, payload, reserved_too = struct.unpack_from("<HHIQQ", front, 8)
    if version != 1:
        raise Reject(3, f"version {version}")
    if reserved or reserved_too:
        raise Reject(5, "a reserved field of the preamble is not 0")
    if sections > 67_108_864 or 64 + sections + payload != file_bytes:
        raise Reject(4, f"{file_bytes} bytes, not 64 + {sections} + {payload}")
    return sections, payload, front[32:64]


def unpack_sections(data):
    """§5.2: return {type: content}."""
    reader, sections, last = Reader(data, 7), {}, -1
    while reader.left():
        kind, encoding, reserved, stored, raw = struct.unpack("<HBBII", reader.take(12, "a section head"))
        content = reader.take(stored, "a section")
        if reserved:
            raise Reject(5, "a reserved field of a section is not 0")
        if kind <= last:
            raise Reject(7, "sections out of order or twice")
        last = kind
        if kind not in KNOWN_SECTIONS:
            sections[kind] = None
            continue
        if encoding not in (0, 1) or encoding == 1 and kind in (DIGESTS, COUNTERPARTS):
            raise Reject(7, f"section encoding {encoding}")
        if encoding == 0 and raw != stored:
            raise Reject(7, "raw section of two lengths")
        if encoding == 1 and raw > min(4096 + 256 * stored, 2**24):
            raise Reject(7, "section unpacks to more than its size justifies")
        if kind == METADATA and raw > 2**20:
            raise Reject(7, "METADATA of more than 2^20 bytes")
        sections[kind] = content if encoding == 0 else unpack(content, raw)
    for kind in sections:
        if kind not in KNOWN_SECTIONS and not kind & 0x8000:
            raise Reject(8, f"unknown required section {kind:#06x}")
    for kind in (METADATA, TABLE, DIGESTS):
        if kind not in sections:
            raise Reject(9, f"section {kind} is missing")
    return sections


def unpack(content, raw, rule=7):
    """§2: exactly one zstd frame of `raw` bytes. It is fed in small pieces, so that it never unpacks to much more."""
    out, unpacker = bytearray(), zstandard.ZstdDecompressor(max_window_size=2**24).decompressobj()
    if content[:4] != bytes.fromhex("28B52FFD"):
        raise Reject(rule, "not a zstd frame")
    try:
        for at in range(0, len(content), 64):
            out += unpacker.decompress(content[at : at + 64])
            if len(out) > raw:
                break
    except zstandard.ZstdError as error:
        raise Reject(rule, f"zstd: {error}") from None
    if not unpacker.eof or unpacker.unused_data or len(out) != raw:
        raise Reject(rule, "not one zstd frame of the stated size, with a window of at most 2^24 bytes")
    return bytes(out)


# §6 Metadata: nothing else needs it


class Each:
    """An object whose values are all of one kind."""

    def __init__(self, kind):
        self.kind = kind


STRING, BOOLEAN, INTEGER, NUMBER, PAIR = str, bool, "integer", "number", "pair of strings"
FREE = {}
OVERLAP = {"both": INTEGER, "base_only": INTEGER, "reference_only": INTEGER, "neither": INTEGER}
CHECKPOINT = {"model_id": STRING, "elements": INTEGER, "files": [{"name": STRING, "bytes": INTEGER, "sha256": STRING, "content": STRING}]}
# A kind in brackets is that of the items of an array, and braces have the known keys of an object.
KNOWN = {
    "tool": STRING, "license": STRING, "description": STRING, "recommended_alpha": NUMBER, "portable": BOOLEAN, "portability_bytes": INTEGER,
    "localization": {"method": STRING, "scope": STRING, "k": INTEGER, "density": NUMBER, "seed": INTEGER, "among": STRING},
    "masks": {"source": STRING, "before_pruning": BOOLEAN, "overlap": OVERLAP, "by_component": Each(OVERLAP)},
    "derived": {"verb": STRING, "patches": [STRING]},
    "candidates": {"params": STRING, "include": [STRING], "exclude": [STRING], "family": STRING, "tensors": INTEGER, "elements": INTEGER,
                   "by_component": Each(INTEGER), "by_layer": Each(INTEGER)},
    "base": CHECKPOINT, "reference": CHECKPOINT,
    "pairing": {"only_in_base": [STRING], "only_in_reference": [STRING], "mismatched": [STRING], "cast": INTEGER, "prefix": PAIR,
                "prefixes": [PAIR], "renamed": [PAIR], "rows": [{"name": STRING, "base": INTEGER, "reference": INTEGER}]},
    "reduced": {"delta_dtype": STRING, "max_error": NUMBER, "relative_error": NUMBER},
    "results": FREE, "x": FREE,
}


def is_of(value, kind):
    """Whether a value is of a kind. Inside of an object with known keys nothing is looked at."""
    if isinstance(kind, Each):
        return isinstance(value, dict) and all(is_of(item, kind.kind) for item in value.values())
    if isinstance(kind, list):
        return isinstance(value, list) and all(is_of(item, kind[0]) for item in value)
    if isinstance(kind, dict):
        return isinstance(value, dict)
    if kind is PAIR:
        return is_of(value, [STRING]) and len(value) == 2
    if kind is INTEGER:
        return type(value) is int and value < 2**64
    if kind is NUMBER:
        return type(value) in (int, float)
    return isinstance(value, kind)


def known(value, kind, at, ignored):
    """`value`, which is of `kind`, without the known keys with values of other kinds. Their JSON pointers go to `ignored`."""
    if isinstance(kind, list):
        return [known(item, kind[0], f"{at}/{index}", ignored) for index, item in enumerate(value)]
    if not isinstance(kind, (dict, Each)):
        return value
    out = {}
    for key, item in value.items():
        inner = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
        expected = kind.kind if isinstance(kind, Each) else kind.get(key)
        if expected is None:
            out[key] = item
        elif is_of(item, expected):
            out[key] = known(item, expected, inner, ignored)
        else:
            ignored.append(inner)
    return out


def parse_json(content):
    """Read JSON of the profile, else raise ValueError."""
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", content, flags=re.DOTALL)
    depth = marks = 0
    for byte in outside:
        marks += byte in b"{[,:"
        depth += (byte in b"{[") - (byte in b"}]")
        if depth > 64 or marks > 2**17:
            raise ValueError("more than 2^17 marks, or more than 64 deep")

    def number(text):
        if not math.isfinite(float(text)):
            raise ValueError(f"{text} is no number of F64")
        return int(text) if text.isdigit() else float(text)

    def members(pairs):
        json.dumps(pairs, ensure_ascii=False).encode()  # a lone surrogate is a ValueError
        return dict(pairs)

    return json.loads(content.decode(), parse_int=number, parse_float=number, parse_constant=number, object_pairs_hook=members)


def read_metadata(content):
    """What METADATA says, and the JSON pointers of what is ignored; that of all of it is the empty one."""
    try:
        metadata = parse_json(content)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        return {}, [""]
    ignored = []
    return known(metadata, KNOWN, "", ignored), ignored


# §7 Tensor table


class Dtype:
    """§7.2. `bits` is the storage of an entry of the shape, `w` the width of an element."""

    def __init__(self, name, w, bits=None, e=None, m=None):
        self.name, self.w, self.bits, self.e, self.m = name, w, bits or w, e, m
        self.numpy = np.dtype(f"<u{w // 8}")
        self.W = max(w, 16)

    @property
    def is_float(self):
        return self.e is not None

    @property
    def C(self):
        return 2**self.e if self.is_float else 1

    def classes(self, bits):
        """§9.1"""
        if not self.is_float:
            return np.zeros(len(bits), np.int64)
        return (bits.astype(np.uint64) >> np.uint64(self.m)).astype(np.int64) & (2**self.e - 1)


DTYPES = {
    1: Dtype("BOOL", 8), 2: Dtype("U8", 8), 3: Dtype("I8", 8), 4: Dtype("U16", 16), 5: Dtype("I16", 16),
    6: Dtype("U32", 32), 7: Dtype("I32", 32), 8: Dtype("U64", 64), 9: Dtype("I64", 64),
    16: Dtype("F8_E4M3", 8, e=4, m=3), 17: Dtype("F8_E5M2", 8, e=5, m=2), 18: Dtype("F16", 16, e=5, m=10),
    19: Dtype("BF16", 16, e=8, m=7), 20: Dtype("F32", 32, e=8, m=23), 21: Dtype("F64", 64, e=11, m=52),
    32: Dtype("C64", 8, 64), 33: Dtype("F8_E8M0", 8), 34: Dtype("F8_E4M3FNUZ", 8), 35: Dtype("F8_E5M2FNUZ", 8),
    36: Dtype("F4", 8, 4), 37: Dtype("F6_E2M3", 8, 6), 38: Dtype("F6_E3M2", 8, 6),
}


class Block:
    def __init__(self, start, n, k, offset, size):
        self.start, self.n, self.k, self.offset, self.size = start, n, k, offset, size


class Tensor:
    def __init__(self, name, dtype, shape):
        self.name, self.dtype, self.shape, self.blocks = name, dtype, shape, []
        size = (math.prod(shape) * dtype.bits + 7) // 8
        self.elements = size // (dtype.w // 8)
        if size == 0 or size > 2**48:
            raise Reject(14, f"shape {shape} of {name!r}")


def parse_table(content, payload, digests):
    """§7.1: return the tensors. `digests` is the content of DIGESTS."""
    reader, tensors, most = Reader(content, 11), [], len(digests) // 32 - 3
    log2 = reader.uint(1, "L")
    if not 8 <= log2 <= 22:
        raise Reject(11, f"L is {log2}")
    count = reader.varint("tensors")
    if count > reader.left() // 5:
        raise Reject(11, f"{count} tensors in {reader.left()} bytes")
    if count > most:
        raise Reject(16, "length of DIGESTS")
    last = b""
    for _ in range(count):
        raw = bytes(reader.take(reader.varint("name length", 1, 4096), "name"))
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise Reject(12, "a name is not UTF-8") from None
        if raw <= last:
            raise Reject(12, "names do not ascend")
        last, code = raw, reader.uint(1, "dtype")
        if code not in DTYPES:
            raise Reject(13, f"dtype {code}")
        shape = [reader.varint("dimension") for _ in range(reader.varint("rank", 0, 16))]
        tensors.append(Tensor(name, DTYPES[code], shape))
    offset = blocks = 0
    for tensor in tensors:
        before = blocks
        for start in range(0, tensor.elements, 2**log2):
            n = min(2**log2, tensor.elements - start)
            k = reader.varint("selected", 0, n)
            if k:
                size, blocks = reader.varint("bytes", 1, 2**48), blocks + 1
                if count + blocks <= most:  # else R16 or R17 at the end
                    tensor.blocks.append(Block(start, n, k, offset, size))
                offset += size
        if blocks == before:
            raise Reject(15, f"{tensor.name!r} has no selected element")
    reader.finish("the table")
    if offset != payload:
        raise Reject(17, f"blocks have {offset} bytes, the payload {payload}")
    if len(digests) != 32 * (3 + count + blocks):
        raise Reject(16, "length of DIGESTS")
    return tensors


# §9 Codecs


def partition(reader, C, k, parameters):
    """The groups of `k` integers: where the classes of each end, its count, and what `parameters` reads after that."""
    ends, counts, rest = [0], [], []
    G = reader.varint("groups - 1", 0, C - 1) + 1
    for g in range(1, G + 1):
        ends.append(ends[-1] + reader.varint("span - 1", 0, C - ends[-1] - 1 - (G - g)) + 1 if g < G else C)
        counts.append(reader.varint("count", 0, k))
        k -= counts[-1]
        rest.append(parameters())
    if k:
        raise Reject(20, "the counts of groups do not add up")
    return np.array(ends[1:]), counts, rest


def grouped_integers(data, C, k, b):
    """§9.2: return where the classes of each group end, and the integers of each group as uint64."""
    reader = Reader(data, 20)
    ends, counts, methods = partition(reader, C, k, lambda: reader.uint(1, "method"))
    if any(m != 64 and m >= b for m in methods):
        raise Reject(20, f"methods {methods}")
    bits = Bits(reader.take(reader.left(), "integers"))
    groups = [[] if m == 64 else [rice(bits, m, b) for _ in range(count)] for count, m in zip(counts, methods)]
    rest = bits.rest()
    if 64 in methods:
        numbers = pco(rest, sum(count for count, m in zip(counts, methods) if m == 64), b)
        for g, (count, m) in enumerate(zip(counts, methods)):
            if m == 64:
                groups[g], numbers = numbers[:count], numbers[count:]
    elif rest:
        raise Reject(20, "bytes follow the Rice integers")
    return ends, [np.array(group, np.uint64) for group in groups]


def rice(bits, r, b):
    """The next Rice integer."""
    q = 0
    while q < 24 and bits.number(1):
        q += 1
    v = bits.number(b) if q == 24 else q << r | bits.number(r)
    if v >= 2**b:
        raise Reject(20, "a Rice integer has too many bits")
    return v


# Appendix P: pco


def pco(data, N, b):
    """§P.2: the `N` integers of `b` bits of a file."""
    if data[:6] != b"pco!\3\0":
        raise Reject(20, "not a pco file of standalone version 3")
    bits, integers = Bits(data[6:]), []
    bits.number(bits.number(6) + 1)  # the hint
    bits.align()
    if (bits.number(8), bits.number(8)) != (4, 1):
        raise Reject(20, "not pco's format version 4.1")
    while kind := bits.number(8):
        if kind != {16: 7, 32: 1, 64: 2}[b]:
            raise Reject(20, f"pco's number type {kind}")
        integers += pco_chunk(bits, b, N - len(integers))
    if len(integers) != N or bits.rest():
        raise Reject(20, "another number of pco integers, or bytes after them")
    return integers


def pco_chunk(bits, b, most):
    """§P.3 and §P.5"""
    n = bits.number(24) + 1
    if n > most:
        raise Reject(20, "too many pco integers")
    if bits.number(4) or bits.number(4):
        raise Reject(20, "pco's mode or delta encoding is not 0")
    L, B = bits.number(4), bits.number(15)
    if L > 10 or not (B == 1 if L == 0 else 2 <= B <= 2**L):
        raise Reject(20, f"{B} pco bins for L = {L}")
    weights, lowers, widths = zip(*((bits.number(L) + 1, bits.number(b), bits.number(b.bit_length())) for _ in range(B)))
    if max(widths) > b or sum(weights) != 2**L:
        raise Reject(20, "widths or weights of pco bins")
    bits.align()
    states = [bits.number(L) for _ in range(4)]
    bits.align()
    table, integers = pco_states(L, weights), []
    for start in range(0, n, 256):
        batch = []
        for k in range(min(256, n - start)):
            i, r, s = table[states[k % 4]]
            states[k % 4] = s + bits.number(r)
            batch.append(i)
        integers += [(lowers[i] + bits.number(widths[i])) % 2**b for i in batch]
    bits.align()
    return integers


def pco_states(L, weights):
    """§P.4: of each state its bin, how many bits lead to the next state, and from where."""
    T, bins = 2**L, [0] * 2**L
    stride = 3 * T // 5 | 1
    for j, i in enumerate(i for i, weight in enumerate(weights) for _ in range(weight)):
        bins[j * stride % T] = i
    x, table = list(weights), []
    for i in bins:
        r = L + 1 - x[i].bit_length()
        table.append((i, r, (x[i] << r) - T))
        x[i] += 1
    return table


# §9.3 and on: streams


def gaps(numbers, n):
    """§9.3"""
    positions = np.cumsum(numbers.astype(np.int64) + 1) - 1
    if positions[-1] >= n:
        raise Reject(20, "positions run past the block")
    return positions


def class_gaps(ends, groups, dtype, base):
    """§9.4: the elements of each group are numbered, and gaps counted among them."""
    group = np.searchsorted(ends, dtype.classes(base), side="right")
    found = []
    for g, numbers in enumerate(groups):
        members = np.flatnonzero(group == g)
        inner = np.cumsum(numbers.astype(np.int64) + 1) - 1
        if len(inner) and inner[-1] >= len(members):
            raise WrongBase(20, "gaps run past the elements of their group")
        found.append(members[inner])
    return np.sort(np.concatenate(found))


class WrongBase(Reject):
    """R20, if the base is the right one."""


def signed(c, b):
    """From coded integers of `b` bits to deltas (§9.5, §9.11), as uint64 of which only the low `b` bits count."""
    z = (c + np.uint64(1)) & np.uint64(2**b - 1)
    return (z >> np.uint64(1)) ^ (np.uint64(0) - (z & np.uint64(1)))


def unfold(c, w):
    """§9.5: from coded integers to deltas modulo 2^w, as uint64."""
    below(c, w)
    return signed(c, w) & np.uint64(2**w - 1)


def below(numbers, w):
    if (numbers > np.uint64(2**w - 1)).any():
        raise Reject(20, "an integer is not below 2^w")


def by_class(ends, groups, classes):
    """§9.5: the integers of elements with these classes, in the order of these."""
    group, out = np.searchsorted(ends, classes, side="right"), np.empty(len(classes), np.uint64)
    for g, numbers in enumerate(groups):
        members = group == g
        if np.count_nonzero(members) != len(numbers):
            raise WrongBase(20, "deltas do not fit the classes of the base")
        out[members] = numbers
    return out


def changed_chunks(data, n):
    """§9.11: which of the block's elements are in changed chunks."""
    chunks = -(-n // 128)
    if not data:
        return np.ones(n, bool)
    bits = np.unpackbits(np.frombuffer(unpack(data, -(-chunks // 8), 20), np.uint8), bitorder="little").astype(bool)
    if bits[chunks:].any():
        raise Reject(20, "bits after the last chunk are not 0")
    return np.repeat(bits[:chunks], 128)[:n]


def dense_deltas(data, N, dtype, classes):
    """§9.11: the deltas modulo 2^w of the elements in changed chunks, of which there are `N`, with these `classes`; the escape integers by
    their groups; and the symbols by group."""
    reader, b = Reader(data, 20), dtype.W
    parameters = lambda: (*reader.take(3, "packing, low bits and zero bits"), reader.varint("frame bytes"))
    ends, counts, groups = partition(reader, dtype.C, N, parameters)
    if any(packing > 3 or r >= b or y >= b for packing, r, y, _ in groups):
        raise Reject(20, "packing, low bits or zero bits of a group")
    escapes = reader.varint("escapes", 0, N)
    _, integers = grouped_integers(reader.take(reader.varint("escape bytes"), "escape integers"), len(groups), escapes, b)
    escaped, used = signed(np.concatenate(integers), b), 0
    decoded, all_symbols = [], []
    for count, (packing, r, y, size) in zip(counts, groups):
        frame, s = reader.take(size, "symbols"), 8 >> packing
        if not count and frame:
            raise Reject(20, "a frame of no symbols")
        symbols = packed_symbols(frame, count, packing) if count else np.empty(0, np.uint64)
        all_symbols.append(symbols)
        deltas = np.zeros(count, np.uint64)
        escape = np.flatnonzero(symbols == 2**s - 1)
        if used + len(escape) > escapes:
            raise Reject(20, "more symbols of escapes than escape integers")
        deltas[escape] = escaped[used : used + len(escape)]
        used += len(escape)
        direct = np.flatnonzero((symbols != 0) & (symbols != 2**s - 1))
        bits = Bits(reader.take((len(direct) * r + 7) // 8, "low bits"))
        low = np.array([bits.number(r) for _ in direct], np.uint64)
        bits.align()
        c = (symbols[direct] - np.uint64(1) << np.uint64(r)) + low
        deltas[direct] = signed(c & np.uint64(2**b - 1), b) << np.uint64(y)
        decoded.append(deltas & np.uint64(2**dtype.w - 1))
    reader.finish("the last group")
    if used != escapes:
        raise Reject(20, "escape integers are left over")
    return by_class(ends, decoded, classes), integers, all_symbols


def packed_symbols(frame, count, packing):
    """§9.11: the symbols of a group, lowest bits of each byte first."""
    s, size = 8 >> packing, -(-count // 2**packing)
    content = np.frombuffer(unpack(frame, size, 20), np.uint8)
    symbols = (content[:, None] >> np.arange(0, 8, s, dtype=np.uint8) & np.uint8(2**s - 1)).reshape(-1)
    if symbols[count:].any():
        raise Reject(20, "symbols after the last one are not 0")
    return symbols[:count].astype(np.uint64)


def bf16_deltas(numbers):
    """§9.6"""
    return finite(values(from_image(unfold(numbers, 16), DTYPES[19]), DTYPES[19]))


def int8_deltas(scale, numbers):
    """§9.7"""
    return unfold(numbers, 8).astype(np.uint8).view(np.int8) * finite(np.frombuffer(scale, "<f4").astype(np.float64))


def finite(numbers):
    if not np.isfinite(numbers).all():
        raise Reject(20, "a delta is not finite")
    return numbers


def stored_bits(numbers, dtype):
    """§9.8 and §9.10"""
    below(numbers, dtype.w)
    half = np.uint64(2 ** (dtype.w - 1) if dtype.is_float else 0)
    return from_image(numbers ^ half, dtype)


KEPT_IN_BASE, KEPT_IN_REFERENCE, NEGATIVE = 1, 2, 4


def masks(numbers):
    """§9.9: what of each selected element is kept in the base, kept in the reference, and -0 there."""
    if not np.isin(numbers, (1, 2, 3, 5)).all():
        raise Reject(20, "an integer of the masks is not 1, 2, 3 or 5")
    return [numbers.astype(np.int64) & bit != 0 for bit in (KEPT_IN_BASE, KEPT_IN_REFERENCE, NEGATIVE)]


# §8 Blocks


class NeedsBase(Refuse):
    """The block cannot be decoded without its base."""


class Decoded:
    """The streams of a block: `positions`; `deltas` of the elements that are kept in the reference, as uint64 ULPs or float64
    values; `own` base bits, or None; `mask_codec`, or None without masks; `in_base`, `in_reference`, `negative`: what the masks
    say of each selected element; `before`: the bits before pruning of those that are pruned in the base, or None; `integers`: those of
    each stream by groups; `symbols` of a dense block by groups, or None."""


def streams_of(data, dtype):
    """{kind: (codec, bytes)}"""
    reader, entries = Reader(data, 19), []
    while kind := reader.uint(1, "stream kind"):
        if entries and kind <= entries[-1][0]:
            raise Reject(19, "stream kinds out of order or twice")
        entries.append((kind, reader.uint(1, "codec"), reader.varint("stream length")))
    streams = {kind: (codec, reader.take(size, "a stream")) for kind, codec, size in entries}
    reader.finish("the streams")
    for kind, (codec, _) in streams.items():
        known = {1: (1, 2, 3), 2: (1, 2, 3, 4, 5), 3: (1,), 4: (1, 2), 5: (1,)}.get(kind)
        if known is None and kind < 128:
            raise Reject(19, f"unknown stream kind {kind}")
        if known is not None and codec not in known:
            raise Reject(19, f"unknown codec {codec} of stream kind {kind}")
    if 1 not in streams or 2 not in streams:
        raise Reject(19, "positions or deltas are missing")
    if 5 in streams and 4 not in streams:
        raise Reject(19, "values before pruning without masks")
    chunks, dense = streams[1][0] == 3, streams[2][0] == 5
    if chunks != dense or dense and (3 in streams or 4 in streams):
        raise Reject(19, "changed chunks and dense deltas go together, without other streams")
    if (streams[2][0] in (3, 4) or 4 in streams) and not dtype.is_float:
        raise Reject(19, "reduced deltas or masks of a dtype that is no float")
    return streams


def decode_block(data, block, dtype, base, own_base=False):
    """Return a Decoded. `base`: the block's bits or None; `own_base`: whether it is the one that the patch is for."""
    streams, k, out = streams_of(data, dtype), block.k, Decoded()
    (positions, where), (deltas, content) = streams[1], streams[2]
    out.integers, out.symbols, out.mask_codec, out.own, out.before = {}, None, None, None, None

    def grouped(kind, count, b, C=1, skip=0):
        ends, out.integers[kind] = grouped_integers(streams[kind][1][skip:], C, count, b)
        return ends, out.integers[kind]

    def ungrouped(*arguments, **options):
        _, [numbers] = grouped(*arguments, **options)
        return numbers

    if 3 in streams:
        out.own = stored_bits(ungrouped(3, k, dtype.W), dtype)
    sums = np.full(k, KEPT_IN_BASE | KEPT_IN_REFERENCE)
    if 4 in streams:
        out.mask_codec, sums = streams[4][0], ungrouped(4, k, 16)
    out.in_base, out.in_reference, out.negative = masks(sums)
    if 5 in streams:
        out.before = stored_bits(ungrouped(5, np.count_nonzero(~out.in_base), dtype.W), dtype)
    if positions in (2, 3) and base is None:
        raise NeedsBase(6, "positions need the base")
    if positions == 3:
        changed = np.flatnonzero(changed_chunks(where, block.n))
        if len(changed) > 32 * k:
            raise Reject(20, "more than 32 times as many elements in changed chunks as selected")
        ulps, out.integers[2], out.symbols = dense_deltas(content, len(changed), dtype, dtype.classes(base[changed]))
        if np.count_nonzero(ulps) != k:
            raise Reject(20, "another number of elements is selected")
        out.positions, out.deltas = changed[ulps != 0], ulps[ulps != 0]
        return out
    out.positions = gaps(ungrouped(1, k, 32), block.n) if positions == 1 else class_gaps(*grouped(1, k, 32, dtype.C), dtype, base)
    kept = np.count_nonzero(out.in_reference)
    if deltas == 1:
        out.deltas = unfold(ungrouped(2, kept, dtype.W), dtype.w)
    elif deltas == 2:
        if out.own is None and base is None:
            raise NeedsBase(6, "deltas need the base")
        bits = base[out.positions] if out.own is None else out.own
        out.deltas = unfold(by_class(*grouped(2, kept, dtype.W, dtype.C), dtype.classes(bits[out.in_reference])), dtype.w)
    elif deltas == 3:
        out.deltas = bf16_deltas(ungrouped(2, kept, 16))
    else:
        out.deltas = int8_deltas(content[:4], ungrouped(2, kept, 16, skip=4))
    if own_base and out.own is not None and not np.array_equal(out.own, base[out.positions]):
        raise Reject(21, "base values are not the base's")
    return out


# §10 Values


def image(bits, dtype):
    """§10.1, modulo 2^w, as uint64."""
    bits = bits.astype(np.uint64)
    if not dtype.is_float:
        return bits
    sign, mask = np.uint64(2 ** (dtype.w - 1)), np.uint64(2**dtype.w - 1)
    return np.where(bits & sign, ~(bits ^ sign) & mask, bits)


def from_image(images, dtype):
    if not dtype.is_float:
        return images.astype(dtype.numpy)
    sign, mask = np.uint64(2 ** (dtype.w - 1)), np.uint64(2**dtype.w - 1)
    return np.where(images & sign, (~images & mask) | sign, images).astype(dtype.numpy)


def add_ulps(base, deltas, dtype):
    """§10.2: the reference's bits."""
    return from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)


def values(bits, dtype):
    """§10.3: the exact values as float64."""
    if dtype.w == 64:
        return bits.view("<f8")
    bits = bits.astype(np.int64)
    magnitude = bits & (2 ** (dtype.w - 1) - 1)
    x, f = magnitude >> dtype.m, magnitude & (2**dtype.m - 1)
    bias = 2 ** (dtype.e - 1) - 1
    value = np.ldexp((np.where(x > 0, 2**dtype.m, 0) + f).astype(np.float64), np.maximum(x, 1) - bias - dtype.m)
    if dtype.name == "F8_E4M3":
        value = np.where(magnitude == 2 ** (dtype.w - 1) - 1, np.nan, value)
    else:
        value = np.where(x == 2**dtype.e - 1, np.where(f == 0, np.inf, np.nan), value)
    return np.where(bits >> (dtype.w - 1), -value, value)


def round_to(numbers, dtype):
    """§10.3: return bits, and where the number is not finite or overflows."""
    bits = numbers.view(np.int64)
    nan, magnitude = np.isnan(numbers), bits & (2**63 - 1)
    top = (2**dtype.e - 1) << dtype.m if dtype.name != "F8_E4M3" else 127  # the first pattern that is not finite
    if dtype.w == 64:
        rounded = magnitude
    else:
        bias, exponent = 2 ** (dtype.e - 1) - 1, (magnitude >> 52) - 1023
        significand = np.where(exponent > -1023, magnitude & (2**52 - 1) | 2**52, 0)
        drop = np.minimum(52 - dtype.m + np.maximum(1 - bias - exponent, 0), 60)
        kept, rest, half = significand >> drop, significand & ((1 << drop) - 1), 1 << (drop - 1)
        kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))
        # For a normal number the hidden bit adds one to the exponent below, and a carry of the rounding one more.
        rounded = np.where(exponent >= 1 - bias, ((exponent + bias - 1) << dtype.m) + kept, kept)
    over = (rounded >= top) | nan
    sign = np.where(nan, 0, (bits < 0).astype(np.int64)) << (dtype.w - 1) if dtype.w < 64 else np.where(nan, 0, bits & -(2**63))
    quiet = top if dtype.name == "F8_E4M3" else top | 1 << (dtype.m - 1)
    result = np.where(nan, quiet, np.minimum(rounded, top))
    return (result | sign).astype(np.uint64).astype(dtype.numpy), over


# §4, §11 The whole file


class Patch:
    def __init__(self, data):
        sections, payload, self.id = preamble(data[:64], len(data))
        if H(data[:32] + data[64 : 64 + sections]) != self.id:
            raise Reject(6, "header digest")
        content = unpack_sections(data[64 : 64 + sections])
        self.metadata, digests, counterparts = content[METADATA], content[DIGESTS], content.get(COUNTERPARTS)
        self.tensors = parse_table(content[TABLE], payload, digests)
        self.payload = memoryview(data)[64 + sections :]
        blocks, size = [block for tensor in self.tensors for block in tensor.blocks], 32 * len(self.tensors)
        if STATISTICS in content and len(content[STATISTICS]) != 4 * len(self.tensors):
            raise Reject(16, "length of STATISTICS")
        if counterparts is not None and len(counterparts) not in (size, 3 * size):
            raise Reject(16, "length of COUNTERPARTS")
        if sum(block.k for block in blocks) > 2**27 + 64 * len(data):
            raise Reject(10, "more selected elements than the file's size justifies")
        digests = [digests[at : at + 32] for at in range(0, len(digests), 32)]
        self.selected_root, self.reference_root, self.result_root = (None if root == bytes(32) else root for root in digests[:3])
        for owner, digest in zip(self.tensors + blocks, digests[3:]):
            owner.digest = digest
        self.counterparts = [counterparts[at : at + size] for at in range(0, len(counterparts), size)] if counterparts else []

    @classmethod
    def open(cls, path):
        with open(path, "rb") as file:
            return cls(file.read())

    def read(self, block):
        data = bytes(self.payload[block.offset : block.offset + block.size])
        if H(data) != block.digest:
            raise Reject(18, "block digest")
        return data


def same_root(patch, what, content, root):
    """§11.5: whether `content`, digests one after the other, has this root, if it is known."""
    if root is not None and H(content) != root:
        raise Reject(21, f"the root of {what} is another")


def without_base(patch, decoded):
    """§11.5: what a patch says twice; `decoded` are all its blocks, None where one needs its base."""
    if patch.counterparts:
        same_root(patch, "the reference", patch.counterparts[0], patch.reference_root)
        same_root(patch, "the result", patch.counterparts[1 if len(patch.counterparts) == 3 else 0], patch.result_root)
    if all(block is not None and block.own is not None for block in decoded):
        digests = b"".join(H(block.own.tobytes()) for block in decoded)
        same_root(patch, "the base values that blocks carry", digests, patch.selected_root)


def is_portable(patch):
    """§8"""
    streams = (streams_of(patch.read(block), tensor.dtype) for tensor in patch.tensors for block in tensor.blocks)
    return all(found[1][0] == 1 and 3 in found for found in streams)


class Checkpoint:
    """One safetensors file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        size = int.from_bytes(self.data[:8], "little")
        header = json.loads(self.data[8 : 8 + size])
        self.info = {name: info for name, info in header.items() if name != "__metadata__"}
        self.start = 8 + size

    def bits(self, tensor):
        """The elements of the patch's tensor, or None if they are not there."""
        info = self.info.get(tensor.name)
        if info is None or info["dtype"] != tensor.dtype.name or info["shape"] != tensor.shape:
            return None
        begin, end = info["data_offsets"]
        return np.frombuffer(self.data, tensor.dtype.numpy, (end - begin) * 8 // tensor.dtype.w, self.start + begin)

    def content(self):
        """§6: what names the whole file, from the digests of its tensors."""
        spans = sorted(info["data_offsets"] for info in self.info.values())
        digests = (H(self.data[self.start + begin : self.start + end]) for begin, end in spans)
        return H(self.data[: self.start] + b"".join(digests))

    def write(self, name, bits):
        begin = self.start + self.info[name]["data_offsets"][0]
        self.data[begin : begin + bits.nbytes] = bits.tobytes()


def fits(patch, base):
    """§A2, full: return whether the base fits, and whether the patch is already applied (None: cannot be checked)."""
    bits = [base.bits(tensor) for tensor in patch.tensors]
    if any(b is None for b in bits):
        return False, False
    digests = [H(b.tobytes()) for b in bits]
    same = digests == [tensor.digest for tensor in patch.tensors]
    if not same and patch.result_root is None:
        return False, None
    return same, not same and H(b"".join(digests)) == patch.result_root


def fits_quickly(patch, base):
    """§A2, quick: return whether the base fits, or None if only the full check can tell."""
    if patch.selected_root is None:
        return None
    bits, digests = {tensor: base.bits(tensor) for tensor in patch.tensors}, []
    if any(b is None for b in bits.values()):
        return False
    for tensor in patch.tensors:
        for block in tensor.blocks:
            here = bits[tensor][block.start : block.start + block.n]
            try:
                digests.append(H(here[decode_block(patch.read(block), block, tensor.dtype, here).positions].tobytes()))
            except WrongBase:
                return None
    return H(b"".join(digests)) == patch.selected_root


# apply-v1.md


class Term:
    """One block of one patch and its `alpha`: `where` its selected elements are in the tensor, what it `decoded` to, the
    `reference`'s bits (None where they do not count) and the deltas `d` in value (None if not floats)."""

    def __init__(self, alpha, block, dtype, decoded, bits, is_added):
        self.alpha, self.where, self.decoded = alpha, decoded.positions + block.start, decoded
        from_bits = decoded.own if is_added and decoded.own is not None else bits[self.where]  # §A10
        kept, ulps, self.d = decoded.in_reference, decoded.deltas.dtype == np.uint64, None
        reference = (decoded.negative.astype(np.uint64) << np.uint64(dtype.w - 1)).astype(dtype.numpy)
        if ulps:
            reference[kept] = add_ulps(from_bits[kept], decoded.deltas, dtype)
        if dtype.is_float:
            t = np.where(decoded.in_base, values(from_bits, dtype), 0.0)
            with np.errstate(all="ignore"):
                self.d = 0.0 - t
                self.d[kept] = values(reference[kept], dtype) - t[kept] if ulps else decoded.deltas
        self.reference = reference if ulps and not is_added else None


def interpolate(allow_non_finite, name, dtype, bits, terms):
    """§A3 to §A5"""
    times = selections(bits, terms)
    total = values(bits, dtype).copy() if dtype.is_float else None
    result, done = bits.copy(), np.zeros(len(bits), bool)
    for term in terms if dtype.is_float else []:
        total[term.where[~term.decoded.in_base]] = 0
    for term in terms:
        rest = np.ones(len(term.where), bool)
        if term.alpha == 1 and term.reference is not None:
            rest = times[term.where] > 1
            result[term.where[~rest]] = term.reference[~rest]
        if not rest.any():
            continue
        if term.d is None:
            raise Refuse(6, f"{name!r} holds no floats, and alpha is {term.alpha}")
        with np.errstate(all="ignore"):
            total[term.where[rest]] += term.alpha * term.d[rest]
        done[term.where[rest]] = True
    if done.any():
        rounded, over = round_to(total[done], dtype)
        if over.any() and not allow_non_finite:
            raise Refuse(7, f"an element of {name!r} would not be finite")
        result[done] = rounded
    return result


def selections(bits, terms):
    """How many patches select each element."""
    times = np.zeros(len(bits), np.int32)
    for term in terms:
        times[term.where] += 1
    return times


def prune(name, dtype, bits, terms):
    """§A6"""
    if not dtype.is_float:
        raise Refuse(6, f"{name!r} holds no floats, which cannot be pruned")
    result = bits.copy()
    for term in terms:
        result[term.where] = 0
    return result


def switch(name, dtype, bits, terms):
    """§A7"""
    result = bits.copy()
    for term in terms:
        decoded = term.decoded
        if decoded.mask_codec is None:
            raise Refuse(6, f"a block of {name!r} has no masks")
        result[term.where[~decoded.in_reference]] = 0
        if decoded.before is not None:
            result[term.where[~decoded.in_base]] = decoded.before
        elif decoded.mask_codec == 1 and not decoded.in_base.all():
            raise Refuse(6, f"the patch does not have the values of {name!r} from before pruning")
    return result


def write_mask(base, tensor, kind, terms, tables):
    """§A8: the companion of the tensor, if it has one; `tables` are the names of all tensors that patches have."""
    name = tensor.name[: -len("orig")] + "mask"
    info = base.info.get(name) if tensor.name.endswith("_orig") and name not in tables else None
    if info is None or info["shape"] != tensor.shape:
        return
    dtype = next((d for d in DTYPES.values() if d.name == info["dtype"] and (d.is_float or d.name in ("BOOL", "U8"))), None)
    if dtype is None:
        return
    one = round_to(np.ones(1), dtype)[0][0] if dtype.is_float else 1
    mask = base.bits(Tensor(name, dtype, tensor.shape))
    moved = [term for term in terms if kind != "ip" or term.alpha != 0]
    result, times = mask.copy(), selections(mask, moved)
    for term in terms:
        if term.decoded.mask_codec is None:
            continue
        here = values(mask[term.where], dtype) if dtype.is_float else mask[term.where]
        if (here != term.decoded.in_base).any():
            wrong = here[here != term.decoded.in_base][0]
            raise Refuse(6 if wrong in (0, 1) else 5, f"{name!r} is not the mask that the patch has of its base")
        if term not in moved:
            continue
        kept = term.decoded.in_reference & (kind != "pr")
        if kind == "ip":
            kept |= (term.alpha != 1) | (times[term.where] > 1)
        result[term.where] = np.where(kept, one, 0)
    base.write(name, result)


def apply(base, kind, edits, allow_non_finite, allow_different_base, masks_too=True):
    """Edit `base.data`; `edits` are (patch, alpha). Masks beside weights are edited with them if `masks_too`."""
    if kind == "sw" and len(edits) > 1:
        raise Refuse(6, "a mask switch takes one patch")
    added = []
    for patch, _ in edits:
        same, _ = fits(patch, base)
        if not same:
            there = all(base.bits(tensor) is not None for tensor in patch.tensors)
            if not (allow_different_base and there and is_portable(patch)):
                raise Refuse(6, "the base does not fit")
            without_base(patch, [decode_block(patch.read(block), block, tensor.dtype, None) for tensor in patch.tensors for block in tensor.blocks])
        added.append(not same)
    edited = {}
    for (patch, alpha), is_added in zip(edits, added):
        for tensor in patch.tensors:
            bits = base.bits(tensor)
            for block in tensor.blocks:
                here = bits[block.start : block.start + block.n]
                decoded = decode_block(patch.read(block), block, tensor.dtype, here, not is_added)
                edited.setdefault(tensor.name, (tensor, []))[1].append(Term(alpha, block, tensor.dtype, decoded, bits, is_added))
    for name, (tensor, terms) in edited.items():
        arguments = name, tensor.dtype, base.bits(tensor), [term for term in terms if kind != "ip" or term.alpha != 0]
        base.write(name, {"ip": partial(interpolate, allow_non_finite), "pr": prune, "sw": switch}[kind](*arguments))
    for tensor, terms in edited.values() if masks_too else []:
        write_mask(base, tensor, kind, terms, {tensor.name for patch, _ in edits for tensor in patch.tensors})
    if kind == "ip" and [alpha for _, alpha in edits] == [1] and not any(added):  # §A9
        [(patch, _)] = edits
        digests = (H(base.bits(tensor).tobytes()) for tensor in patch.tensors)
        same_root(patch, "the result", b"".join(digests), patch.result_root)


# The command line


def check(path, base_path, quick):
    patch = Patch.open(path)
    base = Checkpoint(base_path) if base_path else None
    same, applied = fits_quickly(patch, base) if base and quick else None, None
    if base and same is None:
        same, applied = fits(patch, base)
    blocks, selected_digests = [], []
    for tensor in patch.tensors:
        bits = base.bits(tensor) if base else None
        for block in tensor.blocks:
            data, here = patch.read(block), bits[block.start : block.start + block.n] if bits is not None else None
            blocks.append(None)
            try:
                blocks[-1] = decode_block(data, block, tensor.dtype, here, bool(same))
                if same:
                    selected_digests.append(H(here[blocks[-1].positions].tobytes()))
            except NeedsBase:
                pass
            except WrongBase:
                if same:
                    raise
    without_base(patch, blocks)
    if same:
        same_root(patch, "the base's selected values", b"".join(selected_digests), patch.selected_root)
    if same and not quick:
        result = Checkpoint(base_path)
        apply(result, "ip", [(patch, 1.0)], True, False, masks_too=False)
    decoded = sum(block is not None for block in blocks)
    selected = sum(block.k for tensor in patch.tensors for block in tensor.blocks)
    print(json.dumps({"id": patch.id.hex(), "tensors": len(patch.tensors), "selected": selected, "blocks": len(blocks),
                      "decoded": decoded, "fits": same, "already_applied": applied,
                      "base_content": base.content().hex() if base else None}))
    return 1 if same is False else 0


def show(path):
    patch = Patch.open(path)
    rows = [{"name": t.name, "dtype": t.dtype.name, "shape": t.shape, "selected": sum(b.k for b in t.blocks)} for t in patch.tensors]
    metadata, ignored = read_metadata(patch.metadata)
    print(json.dumps({"id": patch.id.hex(), "metadata": metadata, "ignored": ignored, "tensors": rows}, indent=2))
    return 0


def hexed(bits, dtype):
    return [f"{u:0{dtype.w // 4}x}" for u in bits.tolist()]


def blocks_of(patch, base=None):
    """The intermediate values of each block: of its streams, by kind, and of each selected element."""
    rows = []
    for tensor in patch.tensors:
        dtype, bits = tensor.dtype, base.bits(tensor) if base else None
        for block in tensor.blocks:
            here = None if bits is None else bits[block.start : block.start + block.n]
            data = patch.read(block)
            found = decode_block(data, block, dtype, here, base is not None)
            streams = {str(kind): {"codec": codec} for kind, (codec, _) in streams_of(data, dtype).items()}
            for kind, groups in found.integers.items():
                streams[str(kind)]["integers"] = [group.tolist() for group in groups]
            if found.symbols is not None:
                streams["2"]["symbols"] = [group.tolist() for group in found.symbols]
            deltas = found.deltas
            if deltas.dtype == np.uint64:
                deltas = (deltas << np.uint64(64 - dtype.w)).view(np.int64) >> (64 - dtype.w)
            own = found.own if found.own is not None else here[found.positions] if base else None
            rows.append({"tensor": tensor.name, "start": block.start, "streams": streams, "positions": found.positions.tolist(),
                         "base": None if own is None else hexed(own, dtype), "classes": None if own is None else dtype.classes(own).tolist(),
                         "deltas": deltas.tolist()})
    return rows


def edit(text, default):
    path, colon, alpha = text.rpartition(":")
    if colon and not os.path.exists(text):
        return Patch.open(path), float(alpha)
    return Patch.open(text), default


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show").add_argument("patch")
    command = commands.add_parser("check")
    command.add_argument("patch")
    command.add_argument("base", nargs="?")
    command.add_argument("--quick", action="store_true")
    command = commands.add_parser("blocks")
    command.add_argument("patch")
    command.add_argument("base", nargs="?")
    command = commands.add_parser("apply")
    command.add_argument("base")
    command.add_argument("patches", nargs="+")
    command.add_argument("--edit", choices=["ip", "pr", "sw"], default="ip")
    command.add_argument("--alpha", type=float, default=1.0)
    command.add_argument("--allow-non-finite", action="store_true")
    command.add_argument("--allow-different-base", action="store_true")
    command.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    try:
        if arguments.command == "show":
            return show(arguments.patch)
        if arguments.command == "check":
            return check(arguments.patch, arguments.base, arguments.quick)
        if arguments.command == "blocks":
            base = Checkpoint(arguments.base) if arguments.base else None
            print(json.dumps(blocks_of(Patch.open(arguments.patch), base), indent=1))
            return 0
        base, edits = Checkpoint(arguments.base), [edit(text, arguments.alpha) for text in arguments.patches]
        apply(base, arguments.edit, edits, arguments.allow_non_finite, arguments.allow_different_base)
        with open(arguments.output, "wb") as file:
            file.write(base.data)
        return 0
    except Reject as error:
        print(error, file=sys.stderr)
        return 4
    except Refuse as error:
        print(error, file=sys.stderr)
        return error.code
    except OSError as error:
        print(error, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
