#!/usr/bin/env python3
"""Make small mistakes in decode.py, one at a time, and see which of them the vectors notice.

    mutate.py [VECTORS] [--jobs N] [--only WORD]     # VECTORS is fixtures/vectors by default

A mistake replaces one piece of decode.py by another one. It is found if a vector then gives something else than its JSON file says, or does
not end. Those that are not found must be in EXPLAINED, with the reason; exit code 1 if one is not, or one is explained and found.
"""
import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import types

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))


# The vectors


class Vectors:
    """The test of a decoder: `difference` names the first thing in which it is not what the vectors say."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "v1")
        names = sorted(name.removesuffix(".json") for name in os.listdir(self.folder) if name.endswith(".json"))
        self.vectors = {name: self.json(os.path.join(self.folder, name + ".json")) for name in names}
        self.arithmetic, self.pco = (self.json(os.path.join(folder, name + ".json")) for name in ("arithmetic", "pco"))

    @staticmethod
    def json(path):
        with open(path) as file:
            return json.load(file)

    def path(self, name):
        return os.path.join(self.folder, name)

    def difference(self, decode):
        tests = [*((name, lambda name=name: self.vector(decode, name)) for name in self.in_order()),
                 ("arithmetic.json", lambda: self.table(self.arithmetic, lambda row: interpolated(decode, row))),
                 ("pco.json", lambda: self.table(self.pco, lambda row: unpacked(decode, row)))]
        for name, test in tests:
            found = test()
            if found:
                return f"{name}: {found}"
        return None

    def in_order(self):
        """The names of vectors: first those to be rejected, which take less time, and last the large ones."""
        size = lambda name: os.path.getsize(self.path(name + ".lcepatch"))
        return sorted(self.vectors, key=lambda name: (size(name) > 12_000, self.vectors[name]["expect"] == "accept", size(name)))

    @staticmethod
    def table(rows, test):
        return next((f"row {number}" for number, row in enumerate(rows) if not test(row)), None)

    def vector(self, decode, name):
        """What is not as expected of a vector, or None."""
        expected, path = self.vectors[name], self.path(name + ".lcepatch")
        base = expected["base"] and self.path(expected["base"])
        found = outcome(decode, lambda: quietly(decode.check, path, base, False))
        if found != (0 if expected["expect"] == "accept" else expected["expect"]):
            return f"check gives {found}"
        if isinstance(found, str):
            return self.elsewhere(decode, expected, path) if "elsewhere" in expected else None
        patch = decode.Patch.open(path)
        if "metadata" in expected:
            metadata, ignored = decode.read_metadata(patch.metadata)
            if not same_json(metadata, expected["metadata"]) or sorted(ignored) != sorted(expected["ignored"]):
                return "metadata"
        if not base:
            return None
        checkpoint = decode.Checkpoint(base)
        if "blocks" in expected and not same_json(decode.blocks_of(patch, checkpoint), expected["blocks"]):
            return "blocks"
        if "content" in expected and checkpoint.content().hex() != expected["content"]:
            return "content"
        if quietly(decode.check, path, base, True) != 0:
            return "a quick check of the base"
        kept = {"alpha": 0.0, "result": expected["result"] and tensors(checkpoint.data)}
        for row in [{"alpha": 1.0, "result": expected["result"]}, kept, *expected["alphas"]]:
            if applied(decode, base, "ip", [(patch, row["alpha"])]) != row["result"]:
                return f"alpha {row['alpha']}"
        if expected["result"]:
            decode.apply(checkpoint, "ip", [(patch, 1.0)], False, False)
            changes = tensors(checkpoint.data) != kept["result"]
            applied_too = patch.result_root is not None and changes
            if decode.fits(patch, checkpoint) != (not changes, None if changes and patch.result_root is None else applied_too):
                return "whether the patch is already applied"
        for kind, result in expected.get("edits", {}).items():
            if applied(decode, base, kind, [(patch, 1.0)]) != result:
                return f"edit {kind}"
        for row in expected.get("together", []):
            edits = [(decode.Patch.open(self.path(of["patch"])), of["alpha"]) for of in row["patches"]]
            if applied(decode, base, "ip", edits) != row["result"]:
                return "several patches"
            if applied(decode, base, "sw", edits) is not None:
                return "a mask switch of several patches"
        return self.elsewhere(decode, expected, path) if "elsewhere" in expected else None

    def elsewhere(self, decode, expected, path):
        for row in expected["elsewhere"]:
            other, patch = self.path(row["base"]), decode.Patch.open(path)
            if applied(decode, other, "ip", [(patch, row["alpha"])], True) != row["result"]:
                return f"another base, alpha {row['alpha']}"
            if applied(decode, other, "ip", [(patch, row["alpha"])]) is not None:
                return "another base, without leave"
            for quick in (False, True):
                same = row["quick" if quick else "fits"]
                if outcome(decode, lambda: quietly(decode.check, path, other, quick)) != (expected["expect"] if isinstance(same, str) else 0 if same else 1):
                    return f"another base, {'quick' if quick else 'full'} check"
        return None


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def outcome(decode, function):
    try:
        return function()
    except decode.Reject as error:
        return f"R{error.rule}"


def same_json(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def tensors(data):
    size = int.from_bytes(data[:8], "little")
    spans = ((name, info["data_offsets"]) for name, info in json.loads(data[8 : 8 + size]).items())
    return {name: bytes(data[8 + size + begin : 8 + size + end]).hex() for name, (begin, end) in spans}


def applied(decode, base, kind, edits, allow_different_base=False):
    """The tensors of the result, or None if there is none."""
    checkpoint = decode.Checkpoint(base)
    try:
        decode.apply(checkpoint, kind, edits, False, allow_different_base)
    except (decode.Refuse, decode.Reject):
        return None
    return tensors(checkpoint.data)


def interpolated(decode, row):
    """Whether a row of arithmetic.json is right, by a patch of one element."""
    dtype = next(dtype for dtype in decode.DTYPES.values() if dtype.name == row["dtype"])
    base, reference = (np.array([int(row[key], 16)], dtype.numpy) for key in ("base", "reference"))
    decoded, one = decode.Decoded(), np.array([True])
    decoded.positions, decoded.own, decoded.in_base, decoded.in_reference, decoded.negative = np.array([0]), None, one, one, ~one
    decoded.deltas = (decode.image(reference, dtype) - decode.image(base, dtype)) & np.uint64(2**dtype.w - 1)
    term = decode.Term(row["alpha"], decode.Block(0, 1, 1, 0, 1), dtype, decoded, base, False)
    results = []
    for allow_non_finite in (False, True):
        try:
            result = decode.interpolate(allow_non_finite, "w", dtype, base, [term] if row["alpha"] else [])
            results.append(f"{int(result[0]):x}")
        except decode.Refuse:
            results.append(None)
    return results == [row["result"], row.get("allowed", row["result"])]


def unpacked(decode, row):
    """Whether a row of pco.json is right."""
    try:
        return decode.pco(bytes.fromhex(row["bytes"]), row["n"], row["b"]) == row["integers"]
    except decode.Reject:
        return row["integers"] is None


# The mistakes: what is wrong, the piece of decode.py, and what stands there instead

MUTATIONS = [
    # §2 Conventions
    ("a varint may end in a byte of 0", " or shift and byte == 0", ""),
    ("a varint of ten bytes may pass 2^64", "least=0, most=2**64 - 1", "least=0, most=2**70"),
    ("a varint has at most nine bytes", "range(0, 70, 7)", "range(0, 63, 7)"),
    ("a varint of eleven bytes is cut off after ten", "byte >= 0x80 or shift", "shift"),
    ("a varint is checked to be at least its least alone", "if not least <= value <= most:", "if value < least:"),
    ("a varint is checked to be at most its most alone", "if not least <= value <= most:", "if value > most:"),
    ("padding of bit streams may be anything", "if self.number(-self.at % 8):", "if self.number(-self.at % 8) < 0:"),
    ("a bit stream goes on with bits of 0", "if end > 8 * len(self.data):", "if end > 8 * len(self.data) + 64:"),
    ("several zstd frames are one", ".decompressobj()", ".decompressobj(read_across_frames=True)"),
    ("bytes after a zstd frame are ignored", " or unpacker.unused_data", ""),
    ("frames to be skipped are skipped", 'if content[:4] != bytes.fromhex("28B52FFD"):', "if not content:"),
    ("no bytes are a frame of none", 'if content[:4] != bytes.fromhex("28B52FFD"):', 'if content and content[:4] != bytes.fromhex("28B52FFD"):'),
    ("a zstd frame may ask for a window of 2^25 bytes", "max_window_size=2**24", "max_window_size=2**25"),
    ("a zstd frame may ask for the window that libzstd allows", "max_window_size=2**24", ""),
    ("a zstd frame may ask for a window of 2^23 bytes at most", "max_window_size=2**24", "max_window_size=2**23"),
    ("a zstd frame may unpack to less", " or len(out) != raw", " or len(out) > raw"),
    ("a zstd frame may unpack to more", " or len(out) != raw", " or len(out) < raw"),
    ("a zstd frame may lack its end", "if not unpacker.eof or", "if"),
    ("a zstd frame is unpacked to its end, however long", "            if len(out) > raw:\n                break\n", ""),
    # §5 Header
    ("only the first four bytes of the magic count", "if not front.startswith(MAGIC):", "if not front.startswith(MAGIC[:4]):"),
    ("files of development versions are read", "if not front.startswith(MAGIC):", "if front[:3] != MAGIC[:3] or front[4:8] != MAGIC[4:]:"),
    ("CR LF changed to LF is not told", r'(b"\n\x1a\n", b"\r\r\n"', r'(b"\r\r\n"'),
    ("LF changed to CR LF is not told", r'b"\r\r\n", b"\r\n\x1a\r")', r'b"\r\n\x1a\r")'),
    ("only the last LF changed is not told", r', b"\r\n\x1a\r")]', ")]"),
    ("line endings of files of development versions are told", r'[b"\x89LCP" + tail for tail', r'[magic + tail for magic in (b"\x89LCP", b"\x89LCE") for tail'),
    ("a part of the magic is a short file", "    if not front.startswith(MAGIC):\n", "    if len(front) < 8 and MAGIC.startswith(front):\n        raise Reject(4, '')\n    if not front.startswith(MAGIC):\n"),
    ("a short file is not told as one", "    if len(front) < 64:\n        raise Reject(4,", "    if len(front) < 64:\n        raise Reject(6,"),
    ("version 0 is read", "if version != 1:", "if version > 1:"),
    ("later versions are read", "if version != 1:", "if version < 1:"),
    ("the length is checked before the version", "    if version != 1:\n", "    if 64 + sections + payload != file_bytes:\n        raise Reject(4, '')\n    if version != 1:\n"),
    ("reserved fields are checked before the version", "    if version != 1:\n", "    if reserved or reserved_too:\n        raise Reject(5, '')\n    if version != 1:\n"),
    ("the length is checked before reserved fields", "    if reserved or reserved_too:\n", "    if 64 + sections + payload != file_bytes:\n        raise Reject(4, '')\n    if reserved or reserved_too:\n"),
    ("the second reserved field may be anything", "if reserved or reserved_too:", "if reserved:"),
    ("the first reserved field may be anything", "if reserved or reserved_too:", "if reserved_too:"),
    ("sections may have any number of bytes", "if sections > 67_108_864 or", "if"),
    ("sections have at most 2^26 - 1 bytes", "if sections > 67_108_864 or", "if sections >= 67_108_864 or"),
    ("bytes after the payload are ignored", "64 + sections + payload != file_bytes", "64 + sections + payload > file_bytes"),
    ("a payload may be cut short", "64 + sections + payload != file_bytes", "64 + sections + payload < file_bytes"),
    ("lengths are added modulo 2^64", "64 + sections + payload != file_bytes", "(64 + sections + payload) % 2**64 != file_bytes"),
    ("the header digest is not checked", "if H(data[:32] + data[64 : 64 + sections]) != self.id:", "if False:"),
    ("the header digest does not cover the preamble", "H(data[:32] + data[64 : 64 + sections])", "H(data[64 : 64 + sections])"),
    ("the reserved field of sections may be anything", "        if reserved:\n", "        if False:\n"),
    ("the reserved field of a section is checked before its length", '        content = reader.take(stored, "a section")\n        if reserved:\n            raise Reject(5, "a reserved field of a section is not 0")\n',
     '        if reserved:\n            raise Reject(5, "")\n        content = reader.take(stored, "a section")\n'),
    ("the order of sections is checked before their reserved field", "        if reserved:\n", "        if kind <= last:\n            raise Reject(7, '')\n        if reserved:\n"),
    ("a section may come twice", "if kind <= last:", "if kind < last:"),
    ("sections may come in any order", "if kind <= last:", "if kind in sections:"),
    ("unknown sections must have a known encoding", "        if kind not in KNOWN_SECTIONS:\n", "        if encoding > 1:\n            raise Reject(7, '')\n        if kind not in KNOWN_SECTIONS:\n"),
    ("unknown sections that are not packed must have one length", "        if kind not in KNOWN_SECTIONS:\n", "        if encoding == 0 and raw != stored:\n            raise Reject(7, '')\n        if kind not in KNOWN_SECTIONS:\n"),
    ("unknown sections must not unpack to much", "        if kind not in KNOWN_SECTIONS:\n", "        if encoding == 1 and raw > 2**24:\n            raise Reject(7, '')\n        if kind not in KNOWN_SECTIONS:\n"),
    ("DIGESTS may be packed", "kind in (DIGESTS, COUNTERPARTS)", "kind == COUNTERPARTS"),
    ("COUNTERPARTS may be packed", "kind in (DIGESTS, COUNTERPARTS)", "kind == DIGESTS"),
    ("STATISTICS must not be packed", "kind in (DIGESTS, COUNTERPARTS)", "kind in (DIGESTS, COUNTERPARTS, STATISTICS)"),
    ("encoding 2 is stored as it is", "if encoding not in (0, 1) or", "if"),
    ("the raw length of a stored section is not looked at", "if encoding == 0 and raw != stored:", "if False:"),
    ("a section may unpack to 257 times its size", "min(4096 + 256 * stored, 2**24)", "min(4096 + 257 * stored, 2**24)"),
    ("a section may unpack to 255 times its size", "min(4096 + 256 * stored, 2**24)", "min(4096 + 255 * stored, 2**24)"),
    ("a section may unpack to 4097 bytes more", "min(4096 + 256 * stored, 2**24)", "min(4097 + 256 * stored, 2**24)"),
    ("a section may unpack to 4095 bytes more", "min(4096 + 256 * stored, 2**24)", "min(4095 + 256 * stored, 2**24)"),
    ("a section may unpack to 2^24 + 1 bytes", "min(4096 + 256 * stored, 2**24)", "min(4096 + 256 * stored, 2**24 + 1)"),
    ("a section may unpack to 2^24 - 1 bytes", "min(4096 + 256 * stored, 2**24)", "min(4096 + 256 * stored, 2**24 - 1)"),
    ("stored sections have at most 2^24 bytes", "        if encoding == 0 and raw != stored:\n", "        if raw > 2**24:\n            raise Reject(7, '')\n        if encoding == 0 and raw != stored:\n"),
    ("METADATA may have 2^20 + 1 bytes", "raw > 2**20", "raw > 2**20 + 1"),
    ("METADATA may have 2^20 - 1 bytes", "raw > 2**20", "raw >= 2**20"),
    ("METADATA that is stored may have any size", "if kind == METADATA and raw", "if kind == METADATA and encoding == 1 and raw"),
    ("unknown required sections are ignored", "and not kind & 0x8000:", "and False:"),
    ("the bit of optional sections is 0x4000", "and not kind & 0x8000:", "and not kind & 0x4000:"),
    ("unknown required sections are told before later faults of others", "            sections[kind] = None\n", "            sections[kind] = None\n            if not kind & 0x8000:\n                raise Reject(8, '')\n"),
    ("missing sections are told before unknown ones", "    for kind in sections:\n", "    if not {METADATA, TABLE, DIGESTS} <= set(sections):\n        raise Reject(9, '')\n    for kind in sections:\n"),
    ("METADATA may be missing", "    for kind in (METADATA, TABLE, DIGESTS):\n", "    sections.setdefault(METADATA, b'{}')\n    for kind in (METADATA, TABLE, DIGESTS):\n"),
    # §6 Metadata
    ("2^17 + 1 marks are read", "marks > 2**17", "marks > 2**17 + 1"),
    ("2^17 marks are not read", "marks > 2**17", "marks >= 2**17"),
    ("marks in strings count", r'''re.sub(rb'"(?:[^"\\]|\\.)*"', b"", content, flags=re.DOTALL)''', "content"),
    ("an escaped quotation mark ends a string", r'(?:[^"\\]|\\.)*', '[^"]*'),
    ("colons are no marks", 'byte in b"{[,:"', 'byte in b"{[,"'),
    ("65 deep is read", "depth > 64", "depth > 65"),
    ("64 deep is not read", "depth > 64", "depth >= 64"),
    ("numbers that F64 cannot hold are read", "if not math.isfinite(float(text)):", 'if text[-1] in "yN":'),
    ("NaN and infinity are read", "parse_constant=number, ", ""),
    ("lone surrogates are read", "        json.dumps(pairs, ensure_ascii=False).encode()  # a lone surrogate is a ValueError\n", ""),
    ("lone surrogates in free keys are read", "json.dumps(pairs, ensure_ascii=False)", "json.dumps(list(dict(pairs).values()), ensure_ascii=False)"),
    ("a value that another one replaces is not looked at", "json.dumps(pairs, ensure_ascii=False)", "json.dumps(dict(pairs), ensure_ascii=False)"),
    ("of a key given twice the first value counts", "        return dict(pairs)\n", "        return dict(pairs[::-1])\n"),
    ("1.0 is an integer", "int(text) if text.isdigit() else float(text)", "int(float(text)) if float(text).is_integer() else float(text)"),
    ("-0 is an integer", "int(text) if text.isdigit() else", "int(text) if text.lstrip('-').isdigit() else"),
    ("a byte order mark is skipped", "content.decode()", "content.decode('utf-8-sig')"),
    ("bytes that are not UTF-8 are replaced", "content.decode()", "content.decode(errors='replace')"),
    ("an array is an object", "if not isinstance(metadata, dict):", "if metadata is None:"),
    ("integers are below 2^63", "value < 2**64", "value < 2**63"),
    ("integers have any size", "type(value) is int and value < 2**64", "type(value) is int"),
    ("true is an integer", "return type(value) is int and", "return isinstance(value, int) and"),
    ("true is a number", "return type(value) in (int, float)", "return isinstance(value, (int, float))"),
    ("integers are no numbers", "return type(value) in (int, float)", "return type(value) is float"),
    ("a pair may have any length", "is_of(value, [STRING]) and len(value) == 2", "is_of(value, [STRING])"),
    ("items of arrays are not looked at", "isinstance(value, list) and all(is_of(item, kind[0]) for item in value)", "isinstance(value, list)"),
    ("values of free objects of one kind are not looked at", "isinstance(value, dict) and all(is_of(item, kind.kind) for item in value.values())", "isinstance(value, dict)"),
    ("null is of each kind", "    if isinstance(kind, Each):\n        return isinstance", "    if value is None:\n        return True\n    if isinstance(kind, Each):\n        return isinstance"),
    ("a wrong key takes its whole object with it", "            ignored.append(inner)\n", "            ignored.append(at)\n            return {}\n"),
    ("unknown keys are dropped", "            out[key] = item\n", "            pass\n"),
    ("pointers do not escape", ".replace('~', '~0').replace('/', '~1')", ""),
    ("pointers escape in the wrong order", ".replace('~', '~0').replace('/', '~1')", ".replace('/', '~1').replace('~', '~0')"),
    ("params is an array", '"params": STRING', '"params": [STRING]'),
    ("cast is an array", '"cast": INTEGER', '"cast": [STRING]'),
    ("family is anything", '"family": STRING, ', ""),
    ("portable is anything", '"portable": BOOLEAN, ', ""),
    ("portability_bytes is a number", '"portability_bytes": INTEGER', '"portability_bytes": NUMBER'),
    ("seed is a number", '"seed": INTEGER', '"seed": NUMBER'),
    ("prefixes is an array of strings", '"prefixes": [PAIR]', '"prefixes": [STRING]'),
    ("by_component of masks is a free object", '"by_component": Each(OVERLAP)', '"by_component": FREE'),
    ("rows is anything", ', "rows": [{"name": STRING, "base": INTEGER, "reference": INTEGER}]', ""),
    ("results is anything", '"results": FREE, "x": FREE,', '"x": FREE,'),
    ("x is anything", '"results": FREE, "x": FREE,', '"results": FREE,'),
    # §7 Tensor table
    ("blocks of 2^7 elements", "if not 8 <= log2 <= 22:", "if not 7 <= log2 <= 22:"),
    ("blocks of 2^23 elements", "if not 8 <= log2 <= 22:", "if not 8 <= log2 <= 23:"),
    ("blocks of 2^8 elements are refused", "if not 8 <= log2 <= 22:", "if not 9 <= log2 <= 22:"),
    ("blocks of 2^22 elements are refused", "if not 8 <= log2 <= 22:", "if not 8 <= log2 <= 21:"),
    ("the count of tensors is among the bytes that follow it", "if count > reader.left() // 5:", "if count > (reader.left() + 1) // 5:"),
    ("a tensor takes six bytes", "if count > reader.left() // 5:", "if count > reader.left() // 6:"),
    ("too few digests are told after the table", "    if count > most:\n", "    if count > 2**60:\n"),
    ("too few digests are told before too many tensors", "    if count > reader.left() // 5:\n", "    if count > most:\n        raise Reject(16, '')\n    if count > reader.left() // 5:\n"),
    ("a name may be empty", '"name length", 1, 4096', '"name length", 0, 4096'),
    ("a name may have 4097 bytes", '"name length", 1, 4096', '"name length", 1, 4097'),
    ("a name may have 4095 bytes", '"name length", 1, 4096', '"name length", 1, 4095'),
    ("bytes of names that are not UTF-8 are replaced", "name = raw.decode()", "name = raw.decode(errors='replace')"),
    ("names of surrogates are UTF-8", "name = raw.decode()", "name = raw.decode(errors='surrogatepass')"),
    ("a name may come twice", "if raw <= last:", "if raw < last:"),
    ("names may be in any order", "if raw <= last:", "if raw == last:"),
    ("names are ordered by UTF-16", "if raw <= last:", "if name.encode('utf-16-be') <= last.decode().encode('utf-16-be'):"),
    ("names are ordered without case", "if raw <= last:", "if name.casefold() <= last.decode().casefold():"),
    ("shorter names are first", "if raw <= last:", "if (len(raw), raw) <= (len(last), last):"),
    ("names are compared after their dtypes", "if raw <= last:", "if raw <= last and reader.data[reader.at] in DTYPES:"),
    ("dtypes are checked after shapes", "        if code not in DTYPES:\n            raise Reject(13, f\"dtype {code}\")\n        shape = [reader.varint(\"dimension\") for _ in range(reader.varint(\"rank\", 0, 16))]\n",
     "        shape = [reader.varint(\"dimension\") for _ in range(reader.varint(\"rank\", 0, 16))]\n        if code not in DTYPES:\n            raise Reject(13, '')\n"),
    ("seventeen dimensions", '"rank", 0, 16', '"rank", 0, 17'),
    ("fifteen dimensions at most", '"rank", 0, 16', '"rank", 0, 15'),
    ("a scalar is refused", '"rank", 0, 16', '"rank", 1, 16'),
    ("a dimension has at most 32 bits", 'reader.varint("dimension")', 'reader.varint("dimension", 0, 2**32 - 1)'),
    ("half a byte of F4 is left out", "(math.prod(shape) * dtype.bits + 7) // 8", "math.prod(shape) * dtype.bits // 8"),
    ("an entry of F4 is a byte", '36: Dtype("F4", 8, 4)', '36: Dtype("F4", 8)'),
    ("an entry of F6_E2M3 is a byte", '37: Dtype("F6_E2M3", 8, 6)', '37: Dtype("F6_E2M3", 8)'),
    ("an entry of F6_E3M2 is a byte", '38: Dtype("F6_E3M2", 8, 6)', '38: Dtype("F6_E3M2", 8)'),
    ("F6_E2M3 and F6_E3M2 change places", '37: Dtype("F6_E2M3", 8, 6), 38: Dtype("F6_E3M2", 8, 6)', '38: Dtype("F6_E2M3", 8, 6), 37: Dtype("F6_E3M2", 8, 6)'),
    ("F8_E8M0 is a float", '33: Dtype("F8_E8M0", 8)', '33: Dtype("F8_E8M0", 8, e=7, m=0)'),
    ("F8_E4M3FNUZ is a float", '34: Dtype("F8_E4M3FNUZ", 8)', '34: Dtype("F8_E4M3FNUZ", 8, e=4, m=3)'),
    ("F8_E5M2FNUZ is a float", '35: Dtype("F8_E5M2FNUZ", 8)', '35: Dtype("F8_E5M2FNUZ", 8, e=5, m=2)'),
    ("an entry of C64 has 16 bytes", '32: Dtype("C64", 8, 64)', '32: Dtype("C64", 8, 128)'),
    ("dimensions are multiplied modulo 2^64", "math.prod(shape) * dtype.bits", "math.prod(shape) % 2**64 * dtype.bits"),
    ("bits are multiplied modulo 2^64", "(math.prod(shape) * dtype.bits + 7)", "(math.prod(shape) * dtype.bits % 2**64 + 7)"),
    ("a shape may have no element", "if size == 0 or size > 2**48:", "if size > 2**48:"),
    ("a shape of 2^48 bytes is refused", "size > 2**48:", "size >= 2**48:"),
    ("a shape may have 2^48 + 1 bytes", "size > 2**48:", "size > 2**48 + 1:"),
    ("a shape may have 2^48 elements", "if size == 0 or size > 2**48:", "if size == 0 or self.elements > 2**48:"),
    ("a block may have more selected elements than elements", 'reader.varint("selected", 0, n)', 'reader.varint("selected", 0, 2**log2)'),
    ("a block may have no byte", '"bytes", 1, 2**48', '"bytes", 0, 2**48'),
    ("a block may have 2^48 + 1 bytes", '"bytes", 1, 2**48', '"bytes", 1, 2**48 + 1'),
    ("a block may have 2^48 - 1 bytes", '"bytes", 1, 2**48', '"bytes", 1, 2**48 - 1'),
    ("blocks beyond the digests are kept", "if count + blocks <= most:", "if True:"),
    ("a tensor may have no selected element", "if blocks == before:", "if False:"),
    ("tensors without a selected element are told after the table", "        if blocks == before:\n            raise Reject(15, f\"{tensor.name!r} has no selected element\")\n    reader.finish(\"the table\")\n",
     "        tensor.bad = blocks == before\n    reader.finish(\"the table\")\n    if any(t.bad for t in tensors):\n        raise Reject(15, '')\n"),
    ("bytes after the table are ignored", '    reader.finish("the table")\n', ""),
    ("the sum of blocks is told before bytes after the table", '    reader.finish("the table")\n', '    if offset != payload:\n        raise Reject(17, "")\n    reader.finish("the table")\n'),
    ("bytes after the last block are ignored", "if offset != payload:", "if offset > payload:"),
    ("blocks may lie past the payload", "if offset != payload:", "if offset < payload:"),
    ("blocks are added modulo 2^64", "if offset != payload:", "if offset % 2**64 != payload:"),
    ("the length of DIGESTS is told before the sum of blocks", "    if offset != payload:\n", "    if len(digests) != 32 * (3 + count + blocks):\n        raise Reject(16, '')\n    if offset != payload:\n"),
    ("DIGESTS may have a part of a digest more", "if len(digests) != 32 * (3 + count + blocks):", "if len(digests) // 32 != 3 + count + blocks:"),
    ("DIGESTS may be longer", "if len(digests) != 32 * (3 + count + blocks):", "if len(digests) < 32 * (3 + count + blocks):"),
    ("the length of STATISTICS is not looked at", "if STATISTICS in content and len(content[STATISTICS]) != 4 * len(self.tensors):", "if False:"),
    ("STATISTICS may be longer", "len(content[STATISTICS]) != 4", "len(content[STATISTICS]) < 4"),
    ("the length of COUNTERPARTS is not looked at", "len(counterparts) not in (size, 3 * size)", "size and len(counterparts) < size"),
    ("COUNTERPARTS have one list", "not in (size, 3 * size)", "not in (size,)"),
    ("COUNTERPARTS have one, two or three lists", "not in (size, 3 * size)", "not in (size, 2 * size, 3 * size)"),
    ("more selected elements are told before STATISTICS and COUNTERPARTS", "        if STATISTICS in content and len", "        if sum(block.k for block in blocks) > 2**27 + 64 * len(data):\n            raise Reject(10, '')\n        if STATISTICS in content and len"),
    ("2^27 + 64 b + 1 elements may be selected", "> 2**27 + 64 * len(data)", "> 2**27 + 64 * len(data) + 1"),
    ("2^27 + 64 b - 1 elements may be selected", "> 2**27 + 64 * len(data)", ">= 2**27 + 64 * len(data)"),
    ("only the payload justifies selected elements", "> 2**27 + 64 * len(data)", "> 2**27 + 64 * payload"),
    # §8 Blocks
    ("a kind may come twice", "kind <= entries[-1][0]", "kind < entries[-1][0]"),
    ("kinds may come in any order", "kind <= entries[-1][0]", "kind in dict((e[0], 0) for e in entries)"),
    ("unknown kinds are ignored", "if known is None and kind < 128:", "if False:"),
    ("kind 127 is optional", "if known is None and kind < 128:", "if known is None and kind < 127:"),
    ("kind 128 is required", "if known is None and kind < 128:", "if known is None and kind <= 128:"),
    ("codec 3 of masks is known", "4: (1, 2), 5: (1,)", "4: (1, 2, 3), 5: (1,)"),
    ("codec 2 of base values is known", "3: (1,), 4:", "3: (1, 2), 4:"),
    ("codec 0 of positions is known", "{1: (1, 2, 3), 2:", "{1: (0, 1, 2, 3), 2:"),
    ("codec 6 of deltas is known", "2: (1, 2, 3, 4, 5), 3:", "2: (1, 2, 3, 4, 5, 6), 3:"),
    ("values before pruning need no masks", "if 5 in streams and 4 not in streams:", "if False:"),
    ("deltas may be missing", "if 1 not in streams or 2 not in streams:", "if 1 not in streams:"),
    ("positions may be missing", "if 1 not in streams or 2 not in streams:", "if 2 not in streams:"),
    ("bytes after the streams are ignored", '    reader.finish("the streams")\n', ""),
    ("dense deltas may have other positions", "if chunks != dense or", "if chunks and not dense or"),
    ("changed chunks may have other deltas", "if chunks != dense or", "if dense and not chunks or"),
    ("a dense block may have base values", "(3 in streams or 4 in streams)", "4 in streams"),
    ("a dense block may have masks", "(3 in streams or 4 in streams)", "3 in streams"),
    ("integers may have BF16 deltas", "streams[2][0] in (3, 4)", "streams[2][0] == 4"),
    ("integers may have INT8 deltas", "streams[2][0] in (3, 4)", "streams[2][0] == 3"),
    ("integers may have masks", "in (3, 4) or 4 in streams)", "in (3, 4))"),
    ("block digests are not checked", "if H(data) != block.digest:", "if False:"),
    # §9.1 and §9.2
    ("a class has a bit of the sign", "astype(np.int64) & (2**self.e - 1)", "astype(np.int64)"),
    ("integers have classes", "return 2**self.e if self.is_float else 1", "return 2**self.e if self.is_float else 2"),
    ("as many groups as classes and one more", '"groups - 1", 0, C - 1', '"groups - 1", 0, C'),
    ("one group fewer than classes", '"groups - 1", 0, C - 1', '"groups - 1", 0, max(C - 2, 0)'),
    ("the last group may be left no class", "C - ends[-1] - 1 - (G - g)", "C - ends[-1] - (G - g)"),
    ("later groups are left two classes each", "C - ends[-1] - 1 - (G - g)", "C - ends[-1] - 2 - (G - g)"),
    ("only the next group must be left a class", "C - ends[-1] - 1 - (G - g)", "C - ends[-1] - 2"),
    ("the counts of groups may add up to less", "    if k:\n        raise Reject(20, \"the counts", "    if k < 0:\n        raise Reject(20, \"the counts"),
    ("the last group must have an integer", "        rest.append(parameters())\n    if k:\n", "        rest.append(parameters())\n    if k or len(counts) > 1 and not counts[-1]:\n"),
    ("Rice parameter b is legal", "m != 64 and m >= b for m in methods", "m != 64 and m > b for m in methods"),
    ("Rice parameters of 16 and more are legal for 16 bits", "m != 64 and m >= b for m in methods", "m != 64 and m >= max(b, 32) for m in methods"),
    ("the method of a group of no integers is not looked at", "m != 64 and m >= b for m in methods", "n and m != 64 and m >= b for n, m in zip(counts, methods)"),
    ("pco groups of no integers have no pco file", "    if 64 in methods:\n", "    if any(n and m == 64 for n, m in zip(counts, methods)):\n"),
    ("bytes after Rice integers are ignored", "    elif rest:\n", "    elif False:\n"),
    ("a quotient of 23 is an escape", "while q < 24 and bits.number(1):", "while q < 23 and bits.number(1):"),
    ("a Rice integer that is not an escape may have more bits", "    if v >= 2**b:\n", "    if False:\n"),
    ("a Rice integer with more bits is taken modulo 2^b", "    if v >= 2**b:\n", "    v %= 2**b\n    if False:\n"),
    ("escapes of small integers are refused", "    if v >= 2**b:\n", "    if v >= 2**b or q == 24 and v >> r < 24:\n"),
    ("an escape has a zero bit after its ones", "v = bits.number(b) if q == 24 else", "v = bits.number(b + 1) >> 1 if q == 24 else"),
    ("an escape has b - r bits", "v = bits.number(b) if q == 24 else", "v = bits.number(b - r) if q == 24 else"),
    ("the pco integers of groups come in the other order", "groups[g], numbers = numbers[:count], numbers[count:]", "groups[g], numbers = numbers[len(numbers) - count :], numbers[: len(numbers) - count]"),
    # §9.3 to §9.10
    ("a position may be n", "if positions[-1] >= n:", "if positions[-1] > n:"),
    ("positions are added modulo 2^32", "    if positions[-1] >= n:\n", "    positions %= 2**32\n    if positions[-1] >= n:\n"),
    ("a gap of classes may end after the last element", "if len(inner) and inner[-1] >= len(members):", "if False:"),
    ("class gaps count all elements", "        members = np.flatnonzero(group == g)\n        inner", "        members = np.arange(len(group))\n        inner"),
    ("class gaps go into the next group's classes", 'dtype.classes(base), side="right")\n    found', 'dtype.classes(base), side="left")\n    found'),
    ("class deltas go into the next group's classes", 'classes, side="right"), np.empty', 'classes, side="left"), np.empty'),
    ("integers of deltas may have more than w bits", '    """§9.5: from coded integers to deltas modulo 2^w, as uint64."""\n    below(c, w)\n', '    """"""\n'),
    ("integers of base values may have more than w bits", '    below(numbers, dtype.w)\n', ""),
    ("an integer may be 2^w", "if (numbers > np.uint64(2**w - 1)).any():", "if (numbers > np.uint64(min(2**w, 2**64 - 1))).any():"),
    ("integers of INT8 deltas are taken modulo 256", "unfold(numbers, 8).astype", "signed(numbers, 8).astype"),
    ("INT8 deltas are unsigned", ".astype(np.uint8).view(np.int8) *", ".astype(np.uint8).astype(np.int64) *"),
    ("INT8 deltas are products in F32", 'np.frombuffer(scale, "<f4").astype(np.float64)', 'np.frombuffer(scale, "<f4")'),
    ("a scale may be infinite", '    if not np.isfinite(numbers).all():\n', "    if np.isnan(numbers).any():\n"),
    ("a scale may be NaN", '    if not np.isfinite(numbers).all():\n', "    if np.isinf(numbers).any():\n"),
    ("BF16 deltas may be infinite", "return finite(values(from_image(unfold(numbers, 16), DTYPES[19]), DTYPES[19]))", "return values(from_image(unfold(numbers, 16), DTYPES[19]), DTYPES[19])"),
    ("a scale must be above 0", "    if not np.isfinite(numbers).all():\n", "    if not np.isfinite(numbers).all() or len(numbers) == 1 and numbers[0] <= 0:\n"),
    ("base values of integers ascend as if signed", "half = np.uint64(2 ** (dtype.w - 1) if dtype.is_float else 0)", "half = np.uint64(2 ** (dtype.w - 1))"),
    ("base values of floats are images", "half = np.uint64(2 ** (dtype.w - 1) if dtype.is_float else 0)", "half = np.uint64(0)"),
    ("the mask 0 is legal", "(1, 2, 3, 5)", "(0, 1, 2, 3, 5)"),
    ("the mask 4 is legal", "(1, 2, 3, 5)", "(1, 2, 3, 4, 5)"),
    ("the mask 6 is legal", "(1, 2, 3, 5)", "(1, 2, 3, 5, 6)"),
    ("the mask 7 is legal", "(1, 2, 3, 5)", "(1, 2, 3, 5, 7)"),
    ("masks count modulo 8", "    if not np.isin(numbers, (1", "    numbers = numbers % 8\n    if not np.isin(numbers, (1"),
    ("values before pruning are of what is pruned in the reference", "np.count_nonzero(~out.in_base)", "np.count_nonzero(~out.in_reference)"),
    ("deltas are of all selected elements", "kept = np.count_nonzero(out.in_reference)", "kept = k"),
    ("classes of deltas are those of all selected elements", "dtype.classes(bits[out.in_reference])", "dtype.classes(bits)"),
    ("classes of deltas come from the base beside base values too", "bits = base[out.positions] if out.own is None else out.own", "bits = base[out.positions] if base is not None else out.own"),
    ("base values are not held against the base", "if own_base and out.own is not None and not", "if False and not"),
    # §9.11
    ("no bytes of changed chunks are none", "return np.ones(n, bool)", "return np.zeros(n, bool)"),
    ("bits after the last chunk may be 1", "if bits[chunks:].any():", "if False:"),
    ("chunks are bits from the highest", "np.frombuffer(unpack(data, -(-chunks // 8), 20), np.uint8), bitorder=\"little\"", "np.frombuffer(unpack(data, -(-chunks // 8), 20), np.uint8), bitorder=\"big\""),
    ("33 elements for each selected one", "if len(changed) > 32 * k:", "if len(changed) > 33 * k:"),
    ("31 elements for each selected one", "if len(changed) > 32 * k:", "if len(changed) > 31 * k:"),
    ("32 elements of the block for each selected one", "if len(changed) > 32 * k:", "if block.n > 32 * k:"),
    ("a dense block may select another number of elements", "if np.count_nonzero(ulps) != k:", "if False:"),
    ("packing 4", "packing > 3 or", "packing > 4 or"),
    ("b low bits", "r >= b or y", "r > b or y"),
    ("b zero bits", "y >= b for", "y > b for"),
    ("a group of no deltas may have a frame", "        if not count and frame:\n", "        if False:\n"),
    ("more escapes than deltas", 'reader.varint("escapes", 0, N)', 'reader.varint("escapes", 0, 2**40)'),
    ("escape integers have one class", "\"escape integers\"), len(groups), escapes, b)", "\"escape integers\"), 1, escapes, b)"),
    ("escape integers have the classes of the dtype", "\"escape integers\"), len(groups), escapes, b)", "\"escape integers\"), dtype.C, escapes, b)"),
    ("no escapes have no stream", "    _, integers = grouped_integers(", "    _, integers = (reader.varint(''), [np.empty(0, np.uint64)]) if not escapes else grouped_integers("),
    ("more escapes than integers are 0", "        if used + len(escape) > escapes:\n            raise Reject(20, \"more symbols of escapes than escape integers\")\n", "        escaped = np.append(escaped, np.zeros(len(escape), np.uint64))\n"),
    ("padding of low bits may be anything", "for _ in direct], np.uint64)\n        bits.align()\n", "for _ in direct], np.uint64)\n"),
    ("bytes after the last group are ignored", '    reader.finish("the last group")\n', ""),
    ("escape integers may be left over", "    if used != escapes:\n", "    if False:\n"),
    ("symbols after the last one may be anything", "if symbols[count:].any():", "if False:"),
    ("symbols are bits from the highest", "np.arange(0, 8, s, dtype=np.uint8)", "np.arange(8 - s, -1, -s, dtype=np.uint8)"),
    ("dense deltas count modulo 2^b", "decoded.append(deltas & np.uint64(2**dtype.w - 1))", "decoded.append(deltas)"),
    ("symbols and low bits are not taken modulo 2^b", "signed(c & np.uint64(2**b - 1), b)", "signed(np.minimum(c, np.uint64(2**b - 1)), b)"),
    ("zero bits are shifted before unfolding", "signed(c & np.uint64(2**b - 1), b) << np.uint64(y)", "signed(c << np.uint64(y) & np.uint64(2**b - 1), b)"),
    ("escapes have zero bits", "deltas[escape] = escaped[used : used + len(escape)]", "deltas[escape] = escaped[used : used + len(escape)] << np.uint64(y)"),
    ("escapes are unfolded modulo 2^w", "escaped, used = signed(np.concatenate(integers), b), 0", "escaped, used = signed(np.concatenate(integers), dtype.w), 0"),
    ("a dense block is taken as sparse where its chunks are all changed", "if positions == 3:", "if positions == 3 and where:"),
    # Appendix P
    ("pco of any standalone version", r'data[:6] != b"pco!\3\0"', r'data[:4] != b"pco!"'),
    ("pco of any uniform type", r'data[:6] != b"pco!\3\0"', r'data[:5] != b"pco!\3"'),
    ("the hint is the count", "    bits.number(bits.number(6) + 1)  # the hint\n", "    if bits.number(bits.number(6) + 1) != N:\n        raise Reject(20, '')\n"),
    ("the hint is at least the count", "    bits.number(bits.number(6) + 1)  # the hint\n", "    if bits.number(bits.number(6) + 1) < N:\n        raise Reject(20, '')\n"),
    ("the hint has at most 32 bits", "    bits.number(bits.number(6) + 1)  # the hint\n", "    if bits.number(bits.number(6) + 1) >= 2**32:\n        raise Reject(20, '')\n"),
    ("the width of the hint has five bits", "bits.number(bits.number(6) + 1)", "bits.number((bits.number(6) & 31) + 1)"),
    ("padding after the hint may be anything", "  # the hint\n    bits.align()\n", "  # the hint\n    bits.number(-bits.at % 8)\n"),
    ("pco of any minor format version", "(bits.number(8), bits.number(8)) != (4, 1)", "bits.number(16) & 255 != 4"),
    ("pco of format version 4.1 and before", "(bits.number(8), bits.number(8)) != (4, 1)", "(bits.number(8), bits.number(8)) > (4, 1)"),
    ("the number type is not looked at", "if kind != {16: 7, 32: 1, 64: 2}[b]:", "if False:"),
    ("signed numbers and floats are unsigned numbers", "if kind != {16: 7, 32: 1, 64: 2}[b]:", "if kind not in {16: (7, 8, 9), 32: (1, 3, 5), 64: (2, 4, 6)}[b]:"),
    ("a chunk may have an integer more than are left", "    if n > most:\n", "    if n > most + 1:\n"),
    ("a chunk has at most 2^16 integers", "n = bits.number(24) + 1", "n = (bits.number(24) & 65535) + 1"),
    ("the mode is not looked at", "if bits.number(4) or bits.number(4):", "if bits.number(4) < 0 or bits.number(4):"),
    ("the delta encoding is not looked at", "if bits.number(4) or bits.number(4):", "if bits.number(4) or bits.number(4) < 0:"),
    ("L may be 11", "if L > 10 or", "if L > 11 or"),
    ("L may be 14, as pcodec allows", "if L > 10 or", "if L > 14 or"),
    ("L is at most 9", "if L > 10 or", "if L > 9 or"),
    ("one bin may have several states", "2 <= B <= 2**L", "1 <= B <= 2**L"),
    ("as many bins as states are refused", "2 <= B <= 2**L", "2 <= B < 2**L"),
    ("there may be no bin", "(B == 1 if L == 0 else", "(B < 2 if L == 0 else"),
    ("widths may be larger than b", "if max(widths) > b or", "if"),
    ("the widths of bins that are used alone count", "if max(widths) > b or", "if widths[0] > b or"),
    ("a width of b is refused", "if max(widths) > b or", "if max(widths) >= b or"),
    ("weights may add up to less", "sum(weights) != 2**L", "sum(weights) > 2**L"),
    ("weights may add up to more", "sum(weights) != 2**L", "sum(weights) < 2**L"),
    ("padding after the bins may be anything", "    bits.align()\n    states", "    bits.number(-bits.at % 8)\n    states"),
    ("padding after the first states may be anything", "    bits.align()\n    table", "    bits.number(-bits.at % 8)\n    table"),
    ("padding after the batches may be anything", "    bits.align()\n    return integers", "    bits.number(-bits.at % 8)\n    return integers"),
    ("there is one batch", "range(0, n, 256)", "range(0, n, 2**24)"),
    ("batches of 255", "for start in range(0, n, 256):\n        batch = []\n        for k in range(min(256, n - start)):", "for start in range(0, n, 255):\n        batch = []\n        for k in range(min(255, n - start)):"),
    ("batches of 512", "for start in range(0, n, 256):\n        batch = []\n        for k in range(min(256, n - start)):", "for start in range(0, n, 512):\n        batch = []\n        for k in range(min(512, n - start)):"),
    ("batches are aligned", "        batch = []\n", "        batch = []\n        bits.align()\n"),
    ("offsets follow each state", "            batch.append(i)\n        integers += [(lowers[i] + bits.number(widths[i])) % 2**b for i in batch]", "            integers.append((lowers[i] + bits.number(widths[i])) % 2**b)"),
    ("no bits are read after the last integers", "states[k % 4] = s + bits.number(r)", "states[k % 4] = s + bits.number(r if start + k + 4 < n else 0)"),
    ("states start anew in each batch", "    for start in range(0, n, 256):\n        batch = []\n", "    first = tuple(states)\n    for start in range(0, n, 256):\n        batch, states = [], list(first)\n"),
    ("three states", "states[k % 4] = s", "states[k % 3] = s"),
    ("states must end at 0", "    bits.align()\n    return integers", "    bits.align()\n    if any(states):\n        raise Reject(20, '')\n    return integers"),
    ("sums of pco are not taken modulo 2^b", "(lowers[i] + bits.number(widths[i])) % 2**b", "lowers[i] + bits.number(widths[i])"),
    ("sums of pco must be below 2^b", "integers += [(lowers[i]", "if any(lowers[i] + 2**widths[i] > 2**b for i in batch):\n            raise Reject(20, '')\n        integers += [(lowers[i]"),
    ("an even stride", "stride = 3 * T // 5 | 1", "stride = 3 * T // 5"),
    ("a stride that is always one more", "stride = 3 * T // 5 | 1", "stride = 3 * T // 5 + 1"),
    ("bins must not overlap", "    bits.align()\n    states", "    if len(set(lowers)) != len(lowers):\n        raise Reject(20, '')\n    bits.align()\n    states"),
    ("bins must ascend", "    bits.align()\n    states", "    if list(lowers) != sorted(lowers):\n        raise Reject(20, '')\n    bits.align()\n    states"),
    ("states of a bin count down", "x, table = list(weights), []\n    for i in bins:", "x, table = list(weights), []\n    for i in bins[::-1]:"),
    ("pco may hold fewer integers", "if len(integers) != N or bits.rest():", "if bits.rest():"),
    ("bytes after pco are ignored", "if len(integers) != N or bits.rest():", "if len(integers) != N:"),
    ("bytes of 0 after pco are ignored", "if len(integers) != N or bits.rest():", "if len(integers) != N or any(bits.rest()):"),
    # §10 Values
    ("-0 and 0 have the same image", "~(bits ^ sign) & mask", "(~(bits ^ sign) + np.uint64(1)) & mask"),
    ("subnormal numbers are 0", "(np.where(x > 0, 2**dtype.m, 0) + f)", "np.where(x > 0, 2**dtype.m + f, 0)"),
    ("subnormal numbers have the exponent of 0", "np.maximum(x, 1) - bias", "x - bias"),
    ("F8_E4M3 has infinity", 'if dtype.name == "F8_E4M3":\n        value', 'if False:\n        value'),
    ("ties are rounded away from 0", "(rest > half) | ((rest == half) & (kept & 1 == 1))", "rest >= half"),
    ("ties are rounded towards 0", "(rest > half) | ((rest == half) & (kept & 1 == 1))", "rest > half"),
    ("numbers are cut off", "kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))", "kept = kept + 0"),
    ("numbers are rounded to F32 first", "    bits = numbers.view(np.int64)\n", "    with np.errstate(all='ignore'):\n        numbers = numbers if dtype.w > 32 else numbers.astype(np.float32).astype(np.float64)\n    bits = numbers.view(np.int64)\n"),
    ("numbers are rounded to F32 first for floats of 8 bits", "    bits = numbers.view(np.int64)\n", "    with np.errstate(all='ignore'):\n        numbers = numbers if dtype.w > 8 else numbers.astype(np.float32).astype(np.float64)\n    bits = numbers.view(np.int64)\n"),
    ("numbers are rounded to F16 first for floats of 8 bits", "    bits = numbers.view(np.int64)\n", "    with np.errstate(all='ignore'):\n        numbers = numbers if dtype.w > 8 else numbers.astype(np.float16).astype(np.float64)\n    bits = numbers.view(np.int64)\n"),
    ("subnormal results are rounded twice", "        drop = np.minimum(", "        significand = significand + (significand & 2**(52 - dtype.m - 1)) * (exponent < 1 - bias)\n        drop = np.minimum("),
    ("subnormal results are 0", "exponent + bias - 1) << dtype.m) + kept, kept)", "exponent + bias - 1) << dtype.m) + kept, 0)"),
    ("an overflow is told before rounding", "over = (rounded >= top) | nan", "over = (rounded >= top) | (np.abs(numbers) > values(np.array([top - 1], dtype.numpy), dtype)) | nan"),
    ("a result of the largest number is an overflow", "over = (rounded >= top) | nan", "over = (rounded >= top - 1) | nan"),
    ("an overflow is infinity", "over = (rounded >= top) | nan", "over = nan"),
    ("NaN keeps its sign", "sign = np.where(nan, 0, (bits < 0).astype(np.int64)) << (dtype.w - 1) if", "sign = (bits < 0).astype(np.int64) << (dtype.w - 1) if"),
    ("an overflow loses its sign", "sign = np.where(nan, 0, (bits < 0)", "sign = np.where(over, 0, (bits < 0)"),
    ("NaN has all bits of its mantissa", "else top | 1 << (dtype.m - 1)", "else top | (1 << dtype.m) - 1"),
    ("an overflow is the largest number", "np.minimum(rounded, top))", "np.minimum(rounded, top - 1))"),
    # §11 Identity
    ("a root of zero bytes is a digest", "(None if root == bytes(32) else root for root in digests[:3])", "digests[:3]"),
    ("the reference root is the result root", "self.selected_root, self.reference_root, self.result_root", "self.selected_root, self.result_root, self.reference_root"),
    ("COUNTERPARTS are not held against the reference root", '        same_root(patch, "the reference", patch.counterparts[0], patch.reference_root)\n', ""),
    ("COUNTERPARTS are not held against the result root", '        same_root(patch, "the result", patch.counterparts[1 if len(patch.counterparts) == 3 else 0], patch.result_root)\n', ""),
    ("the result root is of the first list of COUNTERPARTS", "patch.counterparts[1 if len(patch.counterparts) == 3 else 0]", "patch.counterparts[0]"),
    ("the result root is of the last list of COUNTERPARTS", "patch.counterparts[1 if len(patch.counterparts) == 3 else 0]", "patch.counterparts[-1]"),
    ("base values are not held against the selected root", '        same_root(patch, "the base values that blocks carry", digests, patch.selected_root)\n', ""),
    ("the selected root is of all base values together", 'digests = b"".join(H(block.own.tobytes()) for block in decoded)', 'digests = b"".join(block.own.tobytes() for block in decoded)'),
    ("the base is not held against the selected root", 'same_root(patch, "the base\'s selected values", b"".join(selected_digests), patch.selected_root)', "pass"),
    ("the result is not held against the result root", 'same_root(patch, "the result", b"".join(digests), patch.result_root)', "pass"),
    ("the order of tensors in `content` is that of their names", 'spans = sorted(info["data_offsets"] for info in self.info.values())', 'spans = [self.info[name]["data_offsets"] for name in sorted(self.info)]'),
    ("`content` is a hash of hashes", 'return H(self.data[: self.start] + b"".join(digests))', 'return H(H(self.data[: self.start]) + b"".join(digests))'),
    ("`content` does not cover the length of the header", 'return H(self.data[: self.start] + b"".join(digests))', 'return H(self.data[8 : self.start] + b"".join(digests))'),
    # §8 and apply-v1.md
    ("a patch is portable if it has base values", "found[1][0] == 1 and 3 in found for", "3 in found for"),
    ("a patch is portable if its positions need no base", "found[1][0] == 1 and 3 in found for", "found[1][0] == 1 for"),
    ("a patch is portable if one block is", "return all(found[1][0] == 1 and", "return not patch.tensors or any(found[1][0] == 1 and"),
    ("a base of another dtype fits", 'info["dtype"] != tensor.dtype.name or ', ""),
    ("a base of another shape fits", 'tensor.dtype.name or info["shape"] != tensor.shape', 'tensor.dtype.name'),
    ("a base of which the first tensor is right fits", "same = digests == [tensor.digest for tensor in patch.tensors]", "same = digests[:1] == [tensor.digest for tensor in patch.tensors][:1]"),
    ("that a patch is already applied is not told", 'H(b"".join(digests)) == patch.result_root', "False"),
    ("a patch is already applied if the base is the reference", 'H(b"".join(digests)) == patch.result_root', 'H(b"".join(digests)) == patch.reference_root'),
    ("a patch without a result root is not applied", "        return False, None\n    return same", "        return False, False\n    return same"),
    ("a quick check compares whole blocks", "digests.append(H(here[decode_block(", "digests.append(H(here[0 * decode_block("),
    ("a base that fits quickly need not have the selected root", '    return H(b"".join(digests)) == patch.selected_root\n', "    return True\n"),
    ("a base fits if its selected elements do", "    same = digests == [tensor.digest for tensor in patch.tensors]\n", "    same = digests == [tensor.digest for tensor in patch.tensors] or bool(fits_quickly(patch, base))\n"),
    ("another base is taken without leave", "if not (allow_different_base and there and", "if not (there and"),
    ("a base without the tensors is another base", "there and is_portable(patch)", "is_portable(patch)"),
    ("a patch that is not portable is applied to another base", "there and is_portable(patch)", "there"),
    ("base values are not checked before another base is edited", "            without_base(patch, [decode_block(", "            ([decode_block("),
    ("on another base deltas begin at its own values", "decoded.own if is_added and decoded.own is not None else", ""),
    ("on another base alpha 1 gives the reference's bits", "self.reference = reference if ulps and not is_added else None", "self.reference = reference if ulps else None"),
    ("deltas of reduced precision give the reference's bits", "self.reference = reference if ulps and not is_added else None", "self.reference = reference if not is_added else None"),
    ("an element that is pruned in the base has its value", "t = np.where(decoded.in_base, values(from_bits, dtype), 0.0)", "t = values(from_bits, dtype)"),
    ("an element that is pruned in the reference does not move", "self.d = 0.0 - t", "self.d = 0.0 * t"),
    ("the negative zero of the reference is positive", "(decoded.negative.astype(np.uint64) << np.uint64(dtype.w - 1))", "np.zeros(len(decoded.negative))"),
    ("the sum begins at the base's value where it is pruned", "        total[term.where[~term.decoded.in_base]] = 0\n", "        pass\n"),
    ("the sum begins at the base's value where another patch does not prune it", "    for term in terms if dtype.is_float else []:\n", "    for term in terms[:1] if dtype.is_float else []:\n"),
    ("at alpha 1 the reference's bits are computed", "if term.alpha == 1 and term.reference is not None:", "if False:"),
    ("the reference's bits of one of several patches count", "rest = times[term.where] > 1", "rest = times[term.where] > 2"),
    ("several patches are rounded one by one", "total[term.where[rest]] += term.alpha * term.d[rest]", "total[term.where[rest]] += term.alpha * term.d[rest]\n            total = values(round_to(total, dtype)[0], dtype)"),
    ("several patches are added in the other order", "    times = selections(bits, terms)\n", "    times, terms = selections(bits, terms), terms[::-1]\n"),
    ("products are rounded to F32", "total[term.where[rest]] += term.alpha * term.d[rest]", "total[term.where[rest]] += (term.alpha * term.d[rest]).astype(np.float32) if dtype.w < 64 else term.alpha * term.d[rest]"),
    ("alpha is rounded to F32", "total[term.where[rest]] += term.alpha * term.d[rest]", "total[term.where[rest]] += float(np.float32(term.alpha)) * term.d[rest]"),
    ("sum and product are rounded once", "total[term.where[rest]] += term.alpha * term.d[rest]", "total[term.where[rest]] = (total[term.where[rest]] + np.longdouble(term.alpha) * term.d[rest]).astype(np.float64)"),
    ("the result is (1 - alpha) t + alpha r", "total[term.where[rest]] += term.alpha * term.d[rest]", "total[term.where[rest]] = (1 - term.alpha) * total[term.where[rest]] + term.alpha * (total[term.where[rest]] + term.d[rest])"),
    ("patches at alpha 0 count", 'if kind != "ip" or term.alpha != 0]\n        base.write', 'if True]\n        base.write'),
    ("alpha -0 counts", 'if kind != "ip" or term.alpha != 0]\n        base.write', 'if kind != "ip" or repr(term.alpha) != "0.0"]\n        base.write'),
    ("integers of which the sum is not defined stay", "        if term.d is None:\n            raise Refuse(6, f\"{name!r} holds", "        if term.d is None:\n            continue\n            raise Refuse(6, f\"{name!r} holds"),
    ("what overflows is written", "if over.any() and not allow_non_finite:", "if False:"),
    ("integers can be pruned", "    if not dtype.is_float:\n        raise Refuse(6, f\"{name!r} holds no floats, which", "    if False:\n        raise Refuse(6, f\"{name!r} holds no floats, which"),
    ("pruning keeps the sign", "result[term.where] = 0\n    return result\n\n\ndef switch", "result[term.where] &= 2 ** (dtype.w - 1)\n    return result\n\n\ndef switch"),
    ("a switch of blocks without masks does nothing", "        if decoded.mask_codec is None:\n            raise Refuse(6, f\"a block", "        if decoded.mask_codec is None:\n            continue\n            raise Refuse(6, f\"a block"),
    ("a switch takes the base's bits though it has those from before", "        if decoded.before is not None:\n", "        if decoded.before is not None and decoded.mask_codec == 1:\n"),
    ("a switch without values from before pruning leaves zeros", "elif decoded.mask_codec == 1 and not decoded.in_base.all():", "elif False:"),
    ("a switch is refused where nothing has to come back", "elif decoded.mask_codec == 1 and not decoded.in_base.all():", "elif decoded.mask_codec == 1:"),
    ("a tensor of a patch may be a mask", "and name not in tables else None", "else None"),
    ("only a tensor of the same patch is no mask", "{tensor.name for patch, _ in edits for tensor in patch.tensors}", "{tensor.name for tensor in edits[0][0].tensors}"),
    ("a mask may have another shape", '    if info is None or info["shape"] != tensor.shape:\n', '    if info is None or math.prod(info["shape"]) != math.prod(tensor.shape):\n'),
    ("a mask may be of any dtype", '(d.is_float or d.name in ("BOOL", "U8"))', '(d.is_float or d.name[0] in "BUI")'),
    ("a mask is no U8", 'd.name in ("BOOL", "U8")', 'd.name == "BOOL"'),
    ("the mask of the base is not looked at", "if (here != term.decoded.in_base).any():", "if False:"),
    ("a mask of not 0 is kept", "if (here != term.decoded.in_base).any():", "if ((here != 0) != term.decoded.in_base).any():"),
    ("a mask of not 1 is pruned", "if (here != term.decoded.in_base).any():", "if ((here == 1) != term.decoded.in_base).any():"),
    ("the mask of the base is not looked at where alpha is 0", "        if (here != term.decoded.in_base).any():\n", "        if term in moved and (here != term.decoded.in_base).any():\n"),
    ("alpha 0 changes the mask", "        if term not in moved:\n", "        if False:\n"),
    ("pruning leaves the mask of the reference", 'kept = term.decoded.in_reference & (kind != "pr")', "kept = term.decoded.in_reference.copy()"),
    ("other alphas leave the mask of the reference", "kept |= (term.alpha != 1) | (times[term.where] > 1)", "kept |= times[term.where] > 1"),
    ("several patches leave the mask of the last one", "kept |= (term.alpha != 1) | (times[term.where] > 1)", "kept |= term.alpha != 1"),
    ("the mask of another base is not looked at", "        if term.decoded.mask_codec is None:\n            continue\n", "        if term.decoded.mask_codec is None or tensor.digest != H(base.bits(tensor).tobytes()) and term.reference is None:\n            continue\n"),
    ("bits of F64 are moved as numbers", 'return from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)', 'bits = from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)\n    return np.where(np.isnan(bits.view("<f8")), bits | np.uint64(2**51), bits) if dtype.name == "F64" else bits'),
    ("bits of F32 are moved as numbers", 'return from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)', 'bits = from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)\n    return np.where(np.isnan(bits.view("<f4")), bits | np.uint32(2**22), bits) if dtype.name == "F32" else bits'),
    ("bits of 16 are moved as numbers", 'return from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)', 'bits = from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)\n    return np.where(np.isnan(values(bits, dtype)), bits | np.uint16(2 ** (dtype.m - 1)), bits) if dtype.is_float and dtype.w == 16 else bits'),
    ("bits of 8 are moved as numbers", 'return from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)', 'bits = from_image((image(base, dtype) + deltas) & np.uint64(2**dtype.w - 1), dtype)\n    return round_to(values(bits, dtype), dtype)[0] if dtype.is_float and dtype.w == 8 else bits'),
    ("a mask switch takes several patches", 'if kind == "sw" and len(edits) > 1:', "if False:"),
    ("a result of several patches is held against a result root", 'if kind == "ip" and [alpha for _, alpha in edits] == [1] and not any(added):', 'if kind == "ip" and edits[-1][1] == 1 and not any(added):'),
    ("a result at another alpha is held against the result root", 'if kind == "ip" and [alpha for _, alpha in edits] == [1] and not any(added):', 'if kind == "ip" and len(edits) == 1 and not any(added):'),
    ("a result on another base is held against the result root", "== [1] and not any(added):", "== [1]:"),
]

# Why no vector can tell.
EXPLAINED = {
    "no bytes are a frame of none": "a frame of no bytes has no end either",
    "a zstd frame is unpacked to its end, however long": "it is refused for its length then; only memory is saved",
    "sections may have any number of bytes": "a vector would have 64 MiB",
    "sections have at most 2^26 - 1 bytes": "a vector would have 64 MiB",
    "stored sections have at most 2^24 bytes": "a vector would have 16 MiB",
    "blocks beyond the digests are kept": "such a table is refused at its end; only memory is saved",
    "as many groups as classes and one more": "the classes do not suffice for the spans, so that one of them is refused",
    "only the next group must be left a class": "the span of the next group is refused then",
    "more escapes than deltas": "escape integers are left over then",
    "more escapes than integers are 0": "the numbers of both are compared at the end, too",
    "a chunk may have an integer more than are left": "their number is compared at the end, too",
    "a patch is portable if it has base values": "other positions cannot be decoded without the base, and are refused for that",
}


# The run


class TooLong(BaseException):
    """A mistake that does not end."""


def too_long(*_):
    raise TooLong


def module_of(source):
    module = types.ModuleType("decode")
    exec(compile(source, "decode.py", "exec"), vars(module))
    return module


def run(job):
    """What the vectors say of one mistake: the first difference, or None."""
    number, limit = job
    _, old, new = MUTATIONS[number]
    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        with np.errstate(all="ignore"):
            return number, VECTORS.difference(module_of(SOURCE.replace(old, new)))
    except TooLong:
        return number, "does not end"
    except NameError:
        raise  # not a mistake of a reader, but of this script
    except Exception as error:
        return number, f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def start(source, vectors):
    """Prepares a process: mistakes may also ask for much memory."""
    global SOURCE, VECTORS
    SOURCE, VECTORS = source, vectors
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", nargs="?", default=os.path.join(HERE, "..", "fixtures", "vectors"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="mistakes whose words have this one in them")
    parser.add_argument("--verbose", action="store_true", help="tell also what finds each mistake")
    arguments = parser.parse_args()
    with open(os.path.join(HERE, "decode.py")) as file:
        source = file.read()
    vectors = Vectors(arguments.vectors)
    for what, old, _ in MUTATIONS:
        if source.count(old) != 1:
            sys.exit(f"{what}: {old!r} stands {source.count(old)} times in decode.py")
    if len({what for what, _, _ in MUTATIONS}) != len(MUTATIONS) or not EXPLAINED.keys() <= {what for what, _, _ in MUTATIONS}:
        sys.exit("two mistakes have the same words, or one that is explained is not made")
    began = time.monotonic()
    found = vectors.difference(module_of(source))
    if found:
        sys.exit(f"decode.py itself: {found}")
    limit = 10 + 5 * (time.monotonic() - began)
    jobs = [(number, limit) for number, (what, _, _) in enumerate(MUTATIONS) if arguments.only in what]
    survivors, wrong = 0, 0
    with multiprocessing.Pool(arguments.jobs, start, (source, vectors)) as pool:
        for number, found in pool.imap(run, jobs):
            what = MUTATIONS[number][0]
            survivors += found is None
            if arguments.verbose or (found is None) != (what in EXPLAINED):
                print(f"{what}: {found or 'NOT FOUND'}{' (explained: ' + EXPLAINED[what] + ')' if what in EXPLAINED else ''}", flush=True)
            wrong += (found is None) != (what in EXPLAINED)
    print(f"{len(jobs)} mistakes, {len(jobs) - survivors} found, {survivors} not found, {wrong} of which the script says otherwise")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
