#!/usr/bin/env python3
"""Fill the corpora of the fuzz targets from the vectors and the hostile files, so that they start behind the first checks.

    python3 fuzz/seeds.py fuzz/corpus

A typed target takes its numbers from the front of an input and its bytes from the rest; see the tuple in each target.
"""
import glob
import io
import os
import struct
import sys
import zipfile

import numpy as np
import zstandard

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(root, "spec"))
import decode  # noqa: E402
import make_vectors  # noqa: E402

DTYPES = ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "I32", "U8"]


def write(corpus, target, name, data):
    os.makedirs(os.path.join(corpus, target), exist_ok=True)
    with open(os.path.join(corpus, target, name), "wb") as file:
        file.write(data)


def dense_blocks(dtype, base):
    """Legal dense blocks of a base with these bits: each packing, low bits and zero bits, a group for all classes and several, changed
    chunks and all. Yields how many elements are selected, and the block."""
    b, classes = max(16, make_vectors.width(dtype)), 2 ** make_vectors.FLOATS[dtype][0] if dtype in make_vectors.FLOATS else 1
    for parameters in ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (0, b - 8, 0), (0, 0, b - 3), (1, b // 2, 3)):
        for last, groups in ((len(base), 1), (len(base), 3), (128, 1)):
            if groups > classes:
                continue
            drifted = make_vectors.drifted(base[:last], dtype, 1, 3, 2)
            where = [at for at, (bits, moved) in enumerate(zip(base, drifted)) if bits != moved]
            spans = [classes // groups] * (groups - 1)
            made = make_vectors.Dense(where, [base[at] for at in where], [drifted[at] for at in where], dtype, base, [parameters] * groups, spans)
            yield len(where), made.block()


def without_last_byte(content, dtype):
    """A block for a target that adds a byte of 0: a last stream, which readers ignore, gets it."""
    try:
        streams = decode.streams_of(content, dtype)
    except decode.Reject:
        return content
    return make_vectors.block(*((kind, codec, data) for kind, (codec, data) in streams.items() if kind != 0xF0), (0xF0, 0, b"\0"))[:-1]


def main(corpus):
    for path in sorted(glob.glob(os.path.join(root, "fixtures", "vectors", "v1", "*"))):
        name = os.path.basename(path)
        with open(path, "rb") as file:
            data = file.read()
        if name.endswith(".safetensors"):
            write(corpus, "safetensors_header", name, data)
        if not name.endswith(".lcepatch"):
            continue
        write(corpus, "header", name, data)
        if not name.startswith(("accept", "reject_r19", "reject_r20", "reject_r21")):
            continue
        patch, base = decode.Patch(data), path.replace(".lcepatch", ".base.safetensors")
        if os.path.exists(base):
            with open(base, "rb") as file:
                file = file.read()
            for flags in range(8):
                front = struct.pack("<BBBdI", flags & 1, flags >> 1 & 1, flags >> 2, 0.5, len(data))
                write(corpus, "verbs", f"{name}.{flags}", front + data + file)
        for tensor in patch.tensors:
            for number, block in enumerate(tensor.blocks):
                if block.k > 0xFFFF:
                    continue  # larger than the numbers at the front of an input
                content, seed = patch.read(block), f"{name}.{number}"
                if tensor.dtype.name in DTYPES:
                    for with_base in (0, 1):
                        front = struct.pack("<BBHB", DTYPES.index(tensor.dtype.name), 7, block.k - 1, with_base)
                        write(corpus, "block", f"{seed}.{with_base}", front + content)
                if tensor.dtype.name in ("F32", "BF16") and block.k <= 64:
                    front = struct.pack("<BBdB", tensor.dtype.name == "BF16", block.k - 1, 0.5, 1)
                    write(corpus, "read_and_apply", seed, front + without_last_byte(content, tensor.dtype))
                for width in range(3):
                    write(corpus, "grouped_integers", f"{seed}.{width}", struct.pack("<BHH", width, 255, block.k) + content[7:])
    # Vectors of dense blocks are for their own bases. These are for the bases that the targets make.
    for number, dtype in enumerate(DTYPES):
        bits = np.frombuffer(bytes((at * 7 & 255) ^ (at >> 3) & 255 for at in range(300 * make_vectors.width(dtype) // 8)), f"<u{make_vectors.width(dtype) // 8}")
        for index, (selected, block) in enumerate(dense_blocks(dtype, bits.tolist())):
            write(corpus, "block", f"dense.{dtype}.{index}", struct.pack("<BBHB", number, 7, selected - 1, 1) + block)
    for dtype, size in (("F32", 4), ("BF16", 2)):
        bits = np.frombuffer(bytes((at * 37 >> 2) & 255 for at in range(64 * size)), f"<u{size}")
        for index, (selected, block) in enumerate(dense_blocks(dtype, bits.tolist())):
            for alpha in (1.0, 0.5):
                front = struct.pack("<BBdB", dtype == "BF16", selected - 1, alpha, 0)
                content = without_last_byte(block, decode.DTYPES[make_vectors.CODES[dtype]])
                write(corpus, "read_and_apply", f"dense.{dtype}.{index}.{alpha}", front + content)
    for path in sorted(glob.glob(os.path.join(root, "fixtures", "models", "*", "config.json"))):
        with open(path, "rb") as file:
            write(corpus, "model_config", os.path.basename(os.path.dirname(path)), file.read())
    with open(os.path.join(root, "fixtures", "onnx", "model.onnx"), "rb") as file:
        write(corpus, "onnx_file", "export", file.read())
    # A state dict of a matrix, alone and in its archive.
    state = (b"\x80\x02}q\0(X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\6tQ"
             b"K\0K\2K\3\x86K\3K\1\x86\x89ccollections\nOrderedDict\n)RtRq\1X\1\0\0\0vh\1u.")
    write(corpus, "torch_file", "pickle", state)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in (("data.pkl", state), ("byteorder", b"little"), ("data/0", bytes(24)), ("version", b"3\n")):
            file.writestr(f"archive/{name}", data)
    write(corpus, "torch_file", "archive", archive.getvalue())
    for path in sorted(glob.glob(os.path.join(root, "fixtures", "signatures", "*"))):
        with open(path, "rb") as file:
            write(corpus, "signature", os.path.basename(path), file.read())
    for path in sorted(glob.glob(os.path.join(root, "fixtures", "hostile", "*.zst"))):
        name = os.path.basename(path)
        target = HOSTILE.get(name.split("_")[0])
        with open(path, "rb") as file:
            data = zstandard.ZstdDecompressor().decompress(file.read())
        # Long inputs are slow to mutate, and what is long in them is the same over and over.
        if target and len(data) <= 1 << 13:
            # A journal gets its digest in the target.
            write(corpus, target, name, data[:-32] if data.startswith(b"lcejrnl2") else data)
    # A journal of two changes of two bytes in the file "f" of 64, without its digest.
    segment = struct.pack("<QIIHH", 4, 8, 0, 1, 2) + struct.pack("<HH", 0, 3) + bytes(4) + b"\1\2\3\4"
    write(corpus, "journal", "two", b"lcejrnl2" + struct.pack("<IH1sQQ", 1, 1, b"f", 64, 0) + segment)
    steps = b'{"rename":[{"from":".lcepatch-0-1.tmp","to":"f","inode":0}],"remove":["lcepatch-undo-1.lcepatch"],"edited":["f"]}'
    write(corpus, "journal", "commit", b"lcejcmt1" + steps)
    for name, text in DATA_FILES.items():
        write(corpus, "data_files", name, text.encode())


# The targets of hostile files, by the first word of their names.
HOSTILE = {"patch": "header", "checkpoint": "safetensors_header", "config": "model_config", "journal": "journal", "onnx": "onnx_file",
           "signature": "signature", "signers": "signature", "crows": "data_files", "stereoset": "data_files", "seat": "data_files"}

# The forms of benchmark data, as small as they can be.
DATA_FILES = {
    "crows": ",sent_more,sent_less,stereo_antistereo,bias_type\n0,\"a b, c\",a d,stereo,gender\n1,x,y,antistereo,age\n",
    "stereoset": '{"version": "1", "data": {"intrasentence": [{"id": "1", "bias_type": "gender", "target": "t", "context": '
                 '"a BLANK b", "sentences": [{"id": "2", "sentence": "a c b", "gold_label": "stereotype"}, {"id": "3", '
                 '"sentence": "a d b", "gold_label": "anti-stereotype"}, {"id": "4", "sentence": "a e b", "gold_label": '
                 '"unrelated"}]}], "intersentence": []}}',
    "weat": '{"targ1": {"category": "X", "examples": ["a"]}, "targ2": {"category": "Y", "examples": ["b"]}, '
            '"attr1": {"category": "A", "examples": ["c"]}, "attr2": {"category": "B", "examples": ["d"]}}',
    "text": " = A heading = \n\nA line.\nAnother one, with \u00e9.\n",
    "condition": "|stereoset.intra.lm| <= -2pt",
}


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__)
