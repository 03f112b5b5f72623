#!/usr/bin/env python3
"""Hold what other tools know of the format against the vectors and decode.py: lcepatch.ksy, lcepatch.magic, registry.md.

    check_registry.py VECTORS    # fixtures/vectors/v1

The description is read by a small interpreter of the part of Kaitai Struct that it uses. Every accepted vector must give the same
fields as decode.py reads, and vectors that break R1, R2, R3 or R5 must fail. Magic is tried where there is file(1).
Needs PyYAML beside what decode.py needs. Exit code 1 and a message where something differs.
"""
import glob
import os
import re
import shutil
import subprocess
import sys

import yaml
import zstandard

import decode

HERE = os.path.dirname(os.path.abspath(__file__))


class Differs(Exception):
    """The files do not say the same."""


class Bytes:
    """A stream that is read from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Differs("a field is cut short")
        self.at += n
        return self.data[self.at - n : self.at]

    def left(self):
        return len(self.data) - self.at


class Items(list):
    """What a repeated field has."""

    size = property(len)


class Names:
    """What names stand for in an expression of a node."""

    def __init__(self, node, own):
        self.node, self.own = node, own

    def __getitem__(self, name):
        try:
            return self.own[name] if name in self.own else getattr(self.node, name)
        except AttributeError:
            raise KeyError(name) from None


class Node:
    """A type of the description, read from bytes. Fields, instances and parameters are attributes, as expressions name them."""

    def __init__(self, description, spec, io, parent, parameters=()):
        self._description, self._spec, self._parent = description, spec, parent
        self._root = parent._root if parent else self
        self._fields = dict(zip((parameter["id"] for parameter in spec.get("params", ())), parameters, strict=True))
        for field in spec.get("seq", ()):
            if "if" not in field or self._evaluate(field["if"]):
                self._repeat(field, io)

    def __getattr__(self, name):
        if name in self._fields:
            return self._fields[name]
        instance = self._spec.get("instances", {}).get(name)
        if instance is None:
            raise AttributeError(name)
        self._fields[name] = self._evaluate(instance["value"]) if "if" not in instance or self._evaluate(instance["if"]) else None
        return self._fields[name]

    def _evaluate(self, expression, **names):
        if not isinstance(expression, str):
            return expression
        names = Names(self, {f"_{name}": value for name, value in names.items()})
        return eval(self._description.python(expression), {"__builtins__": {}}, names)  # of our own file, not of a patch

    def _repeat(self, field, io):
        kind = field.get("repeat")
        if kind is None:
            self._fields[field["id"]] = self._read(field, io, 0)
            return
        items = self._fields[field["id"]] = Items()
        count = self._evaluate(field["repeat-expr"]) if kind == "expr" else None
        while io.left() if kind == "eos" else count is None or len(items) < count:
            items.append(self._read(field, io, len(items)))
            if kind == "until" and self._evaluate(field["repeat-until"], **{"": items[-1]}):
                break

    def _read(self, field, io, index):
        if "contents" in field:
            expected = bytes(field["contents"])
            if io.take(len(expected)) != expected:
                raise Differs(f"{field['id']} is another")
            return expected
        kind = field.get("type")
        if isinstance(kind, dict):
            cases = {self._evaluate(case): of for case, of in kind["cases"].items()}
            kind = cases.get(self._evaluate(kind["switch-on"]))
        if "size" in field:
            io = Bytes(io.take(self._evaluate(field["size"], index=index)))
        if field.get("process") == "zstd":
            io = Bytes(zstandard.ZstdDecompressor().decompressobj().decompress(io.data))
        if kind in ("u1", "u2", "u4", "u8"):
            value = int.from_bytes(io.take(int(kind[1])), "little")
        elif kind in (None, "str"):
            value = io.take(io.left())
            value = value.decode(field["encoding"]) if kind else value
        else:
            name, parameters = re.fullmatch(r"(\w+)(?:\((.*)\))?", kind).groups()
            parameters = [self._evaluate(part, index=index) for part in parameters.split(",")] if parameters else []
            value = Node(self._description, self._description.types[name], io, self, parameters)
            if "size" in field and io.left():
                raise Differs(f"{io.left()} bytes follow {field['id']}")
        valid = field.get("valid", {})
        valid = valid if isinstance(valid, dict) else {"min": valid, "max": valid}
        if "min" in valid and value < valid["min"] or "max" in valid and value > valid["max"]:
            raise Differs(f"{field['id']} is {value}")
        return value


class Description:
    """A .ksy file."""

    def __init__(self, path):
        with open(path) as file:
            self.spec = yaml.safe_load(file)
        self.types, self.enums, self.compiled = self.spec["types"], self.spec["enums"], {}

    def read(self, data):
        io = Bytes(data)
        node = Node(self, self.spec, io, None)
        if io.left():
            raise Differs(f"{io.left()} bytes follow the file")
        return node

    def python(self, expression):
        """An expression as Python writes it."""
        if expression not in self.compiled:
            text = re.sub(r"\.as<\w+>", "", expression)
            text = re.sub(r"(\w+)::(\w+)", lambda found: str(self.number(*found.groups())), text)
            text = re.sub(r"\b0x[0-9a-f]+\b", lambda found: str(int(found[0], 16)), text).replace("/", "//")
            self.compiled[expression] = compile(" ".join(conditions(text).split()), expression, "eval")
        return self.compiled[expression]

    def number(self, enum, name):
        return next(number for number, of in self.enums[enum].items() if of == name)


def conditions(text):
    """`a ? b : c` as `b if a else c`, also in brackets."""
    inner = []

    def choice(text):
        condition, question, rest = text.partition("?")
        if not question:
            return text
        one, _, other = rest.partition(":")
        return f"({one} if {condition} else {choice(other)})"

    def hide(found):
        inner.append(f"({choice(found[1])})")
        return f"\0{len(inner) - 1}\0"

    while "(" in text:
        text = re.sub(r"\(([^()]*)\)", hide, text)
    text = choice(text)
    while "\0" in text:
        text = re.sub("\0(\\d+)\0", lambda found: inner[int(found[1])], text)
    return text


def same(what, found, expected):
    if found != expected:
        raise Differs(f"{what}: the description reads {found!r}, decode.py {expected!r}")


def compare(data, description):
    """Hold a file against decode.py."""
    file, patch = description.read(data), decode.Patch(data)
    preamble, table, sections = file.preamble, file.table, {section.kind: section for section in file.sections.section}
    len_sections, len_blocks, digest = decode.preamble(data[:64], len(data))
    same("lengths and digest", (preamble.len_sections, preamble.len_blocks, preamble.digest), (len_sections, len_blocks, digest))
    contents = decode.unpack_sections(data[64 : 64 + len_sections])
    same("sections", list(sections), list(contents))
    for kind, content in contents.items():
        if content is not None:
            same(f"length of section {kind}", sections[kind].len_raw, len(content))
    metadata = sections[decode.METADATA]
    same("METADATA", metadata.packed if metadata.is_packed else metadata.stored, contents[decode.METADATA])
    same("tensors", [(t.name, t.dtype, [d.value for d in t.dimensions], t.num_elements) for t in table.tensors],
         [(t.name, code(t), t.shape, t.elements) for t in patch.tensors])
    digests = sections[decode.DIGESTS].stored
    roots = [digest.bytes for digest in (digests.selected_root, digests.reference_root, digests.result_root)]
    same("roots", roots, [root or bytes(32) for root in (patch.selected_root, patch.reference_root, patch.result_root)])
    blocks = [block for tensor in patch.tensors for block in tensor.blocks]
    same("digests", [digest.bytes for digest in digests.base_tensors + digests.blocks], [owner.digest for owner in patch.tensors + blocks])
    for tensor, of_table, of_payload in zip(patch.tensors, table.tensor_blocks, file.payload.tensors, strict=True):
        starts = range(0, tensor.elements, 1 << table.block_log2)
        same(f"blocks of {tensor.name!r}", len(of_table.blocks), len(starts))
        slots = [(start, slot) for start, slot in zip(starts, of_payload.slots, strict=True) if slot.entry.num_selected.value]
        same(f"blocks with a selected element of {tensor.name!r}", [(start, slot.entry.num_selected.value, slot.entry.len_block.value) for start, slot in slots],
             [(block.start, block.k, block.size) for block in tensor.blocks])
        for (_, slot), block in zip(slots, tensor.blocks):
            streams = [(entry.kind, (entry.codec, stream.bytes)) for entry, stream in zip(slot.block.directory, slot.block.streams)]
            same(f"streams of {tensor.name!r}", streams, list(decode.streams_of(patch.read(block), tensor.dtype).items()))
    return 1 + len(sections) + len(patch.tensors) + len(blocks)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def code(tensor):
    return next(code for code, dtype in decode.DTYPES.items() if dtype is tensor.dtype)


def check_magic(path):
    """What file(1) says of a patch."""
    say = lambda *options: subprocess.run(["file", "-m", os.path.join(HERE, "lcepatch.magic"), "-b", *options, path],
                                          check=True, capture_output=True, text=True).stdout.strip()
    return say("--mime-type"), say("--extension"), say()


def main(folder):
    description, parts = Description(os.path.join(HERE, "lcepatch.ksy")), 0
    accepted = sorted(glob.glob(os.path.join(folder, "accept_*.lcepatch")))
    rejected = [path for name in ("r01", "r02", "r03", "r05") for path in sorted(glob.glob(os.path.join(folder, f"reject_{name}*.lcepatch")))]
    if len(accepted) < 100 or len(rejected) < 8:
        sys.exit(f"{folder} has {len(accepted)} accepted and {len(rejected)} rejected vectors")
    for path in accepted:
        try:
            parts += compare(read(path), description)
        except Differs as error:
            sys.exit(f"{path}: {error}")
    for path in rejected:
        try:
            description.read(read(path))
        except Differs:
            continue
        sys.exit(f"{path}: the description reads it")
    dtypes = {code: name.upper() for code, name in description.enums["dtype"].items()}
    if dtypes != {code: dtype.name for code, dtype in decode.DTYPES.items()}:
        sys.exit(f"the description names dtypes {dtypes}")
    print(f"lcepatch.ksy: {len(accepted)} files with {parts} parts as decode.py reads them, {len(rejected)} refused")

    registry = read(os.path.join(HERE, "registry.md")).decode()
    for text in (decode.MAGIC.hex(" ").upper(), "application/vnd.lcepatch", "`.lcepatch`"):
        if text not in registry:
            sys.exit(f"registry.md does not have {text}")
    if not shutil.which("file"):
        print("lcepatch.magic: not tried, there is no file(1)")
        return
    example = os.path.join(folder, "accept_worked_example.lcepatch")
    expected = "application/vnd.lcepatch", "lcepatch", "lcepatch patch of a model checkpoint, version 1, 207 bytes of sections, 15 bytes of blocks"
    if check_magic(example) != expected:
        sys.exit(f"file(1) says {check_magic(example)} of {example}")
    for path in rejected:
        damaged = "r01" in path or "r02" in path
        if (check_magic(path)[0] == expected[0]) == damaged:
            sys.exit(f"file(1) says {check_magic(path)} of {path}")
    print("lcepatch.magic: file(1) knows what begins with the magic, and nothing else")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
