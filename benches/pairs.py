#!/usr/bin/env python3
"""Make pairs of checkpoints for the benchmarks: OUT_DIR/NAME_a.safetensors (base) and NAME_b.safetensors (reference).

    python3 benches/pairs.py OUT_DIR NAME ...      # numpy only; the same bytes each time

bert32      f32, BERT-base's shapes, 438 MB each; every weight took an Adam-like step (the hard case for a full delta)
bert32s     the same base; 0.5 % of the weights took that step (an edit)
sft         bf16, a decoder's shapes, 1 GB each; a full fine-tune: 40 % of the weights show their step, and most of these differ
            by the same few amounts
many        bf16, 100,000 tensors of 16 by 16, as of a model of many experts, 64 MB each; 2 % of the weights differ, in every tensor
mini16      bf16, MiniLM-L6's shapes, 45 MB each; the step is so small that 0.7 % of the weights show it
sparse:GB   bf16, of any size: 1/16 of it is real, half a MiB in every 8, and 40 % of the real weights differ (2.5 % of
            all, as after a training step); the rest is a hole in the file, which reads as zeros and takes no disk
"""
import json
import os
import struct
import sys

import numpy as np

PERIOD, REAL = 8 << 20, 512 << 10
PAGE = 4096


def bf16_bits(x):
    """Round float32 to bfloat16 (nearest, ties to even); return the bits as uint16."""
    u = x.view(np.uint32)
    return ((u + (((u >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)


def weights(rng, n, step, share):
    """Weights of a base, and the same after a step that `share` of them takes."""
    before = rng.standard_normal(n, dtype=np.float32) * np.float32(0.02)
    delta = np.tanh(rng.standard_normal(n, dtype=np.float32)) * np.float32(step)
    after = before + delta
    if share < 1:
        still = rng.random(n, dtype=np.float32) >= share
        after[still] = before[still]  # not + 0, which would make 0 of -0
    return before, after


def encoder(width, layers):
    """Names and shapes of a BERT of that width."""
    linear = lambda name, out, into: [(name + ".weight", (out, into)), (name + ".bias", (out,))]
    norm = lambda name: [(name + ".LayerNorm.weight", (width,)), (name + ".LayerNorm.bias", (width,))]
    tables = (("word", 30522), ("position", 512), ("token_type", 2))
    shapes = [(f"bert.embeddings.{name}_embeddings.weight", (rows, width)) for name, rows in tables]
    shapes += norm("bert.embeddings")
    for layer in (f"bert.encoder.layer.{i}" for i in range(layers)):
        for name in ("query", "key", "value"):
            shapes += linear(f"{layer}.attention.self.{name}", width, width)
        shapes += linear(f"{layer}.attention.output.dense", width, width) + norm(f"{layer}.attention.output")
        shapes += linear(f"{layer}.intermediate.dense", 4 * width, width)
        shapes += linear(f"{layer}.output.dense", width, 4 * width) + norm(f"{layer}.output")
    return shapes + linear("bert.pooler.dense", width, width)


def decoder(size):
    """Names and shapes of about `size` bytes of bf16: squares of 32 MiB, and the rest as one embedding."""
    rows = size // 2 // 4096
    layers = rows * 94 // 100 // 4096
    return [("model.embed_tokens.weight", (rows - 4096 * layers, 4096))] + [
        (f"model.layers.{i}.self_attn.q_proj.weight", (4096, 4096)) for i in range(layers)]


def blocks(width, hidden, layers):
    """Names and shapes of a decoder with a gate, and a quarter as many heads for keys and values."""
    of_layer = {"self_attn.q_proj": (width, width), "self_attn.k_proj": (width // 4, width), "self_attn.v_proj": (width // 4, width),
                "self_attn.o_proj": (width, width), "mlp.up_proj": (hidden, width), "mlp.gate_proj": (hidden, width),
                "mlp.down_proj": (width, hidden)}
    return [("model.embed_tokens.weight", (32000, width))] + [
        (f"model.layers.{i}.{name}.weight", shape) for i in range(layers) for name, shape in of_layer.items()]


def head(dtype, shapes):
    """The head of a safetensors file, a whole number of pages, and how many bytes follow it."""
    header, offset = {}, 0
    for name, shape in shapes:
        end = offset + int(np.prod(shape)) * (4 if dtype == "F32" else 2)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % PAGE)
    return struct.pack("<Q", len(text)) + text, offset


def dense(files, dtype, shapes, step, share):
    bits = bf16_bits if dtype == "BF16" else lambda x: x.view(np.uint32)
    changed = total = 0
    for file in files:
        file.write(head(dtype, shapes)[0])
    for seed, (_, shape) in enumerate(shapes):
        before, after = map(bits, weights(np.random.default_rng([1, seed]), int(np.prod(shape)), step, share))
        changed, total = changed + int((before != after).sum()), total + len(before)
        for file, side in zip(files, (before, after)):
            file.write(side.tobytes())
    return changed, total


def many(files, tensors):
    """One draw for all tensors: a generator for each would take longer than the rest."""
    shapes = [(f"model.layers.{i // 768}.mlp.experts.{i // 3 % 256}.{('gate', 'up', 'down')[i % 3]}_proj.weight", (16, 16))
              for i in range(tensors)]
    rng = np.random.default_rng(3)
    before = bf16_bits(rng.standard_normal(tensors * 256, dtype=np.float32))
    changed = rng.random(len(before), dtype=np.float32) < 0.02
    for file, side in zip(files, (before, before ^ changed.astype(np.uint16))):
        file.write(head("BF16", shapes)[0])
        file.write(side.tobytes())
    return int(changed.sum()), len(before)


def sparse(files, size):
    changed = 0
    text, size = head("BF16", decoder(size))
    for file in files:
        file.write(text)
        file.truncate(len(text) + size)
    for at in range(0, size, PERIOD):
        before, after = map(bf16_bits, weights(np.random.default_rng([2, at]), min(REAL, size - at) // 2, 4.2e-5, 1))
        changed += int((before != after).sum())
        for file, side in zip(files, (before, after)):
            file.seek(len(text) + at)
            file.write(side.tobytes())
    return changed, size // 2


def main(out, names):
    os.makedirs(out, exist_ok=True)
    for name in names:
        kind, _, size = name.partition(":")
        paths = [os.path.join(out, f"{kind}{size}_{side}.safetensors") for side in "ab"]
        with open(paths[0], "wb") as a, open(paths[1], "wb") as b:
            changed, total = {
                "bert32": lambda: dense((a, b), "F32", encoder(768, 12), 2e-5, 1),
                "bert32s": lambda: dense((a, b), "F32", encoder(768, 12), 2e-5, 0.005),
                "sft": lambda: dense((a, b), "BF16", blocks(2048, 5632, 10), 4.2e-5, 1),
                "many": lambda: many((a, b), 100_000),
                "mini16": lambda: dense((a, b), "BF16", encoder(384, 6), 2.2e-7, 1),
                "sparse": lambda: sparse((a, b), int(float(size) * 1e9)),
            }[kind]()
        print(f"{name}: {changed / total:.3%} of {total:,} weights differ, {os.path.getsize(paths[0]):,} bytes each")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:]) if len(sys.argv) > 2 else sys.exit(__doc__)
