#!/usr/bin/env python3
"""What one would write with PyTorch: the peer of benches/commands.py. Needs torch and safetensors.

    torch_peer.py diff BASE REFERENCE PATCH all|DENSITY    # indices and values: of all that differ, or the exact top k
    torch_peer.py apply BASE PATCH RESULT
    torch_peer.py agree BASE REFERENCE OURS THEIRS         # do two results select as large differences?

A patch is a safetensors file with NAME.indices (int32) and NAME.values. Nothing is checked, nothing is compressed.
"""
import sys

import torch
from safetensors.torch import load_file, save_file

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor):
    return tensor.view(BITS[tensor.element_size()]).flatten()


def magnitudes(base, reference):
    """|reference - base| of all tensors, in one row."""
    row = torch.empty(sum(tensor.numel() for tensor in base.values()))
    at = 0
    for name, tensor in base.items():
        part = row[at:at + tensor.numel()]
        torch.sub(reference[name].flatten().float(), tensor.flatten().float(), out=part)
        at += tensor.numel()
    return row.abs_()


def diff(base_path, reference_path, patch_path, amount):
    base, reference = load_file(base_path), load_file(reference_path)
    if amount == "all":
        chosen = {name: torch.nonzero(bits(base[name]) != bits(reference[name])).flatten() for name in base}
    else:
        row = magnitudes(base, reference)
        density = float(amount.rstrip("%")) / (100 if amount.endswith("%") else 1)
        top = row.topk(round(density * len(row)), sorted=False).indices.sort().values
        ends = torch.tensor([tensor.numel() for tensor in base.values()]).cumsum(0)
        cuts = [0, *torch.searchsorted(top, ends).tolist()]
        starts = [0, *ends.tolist()]
        chosen = {name: top[cuts[i]:cuts[i + 1]] - starts[i] for i, name in enumerate(base)}
    patch = {}
    for name, indices in chosen.items():
        patch[name + ".indices"] = indices.int()
        patch[name + ".values"] = reference[name].flatten()[indices]
    save_file(patch, patch_path)


def apply(base_path, patch_path, result_path):
    base, patch = load_file(base_path), load_file(patch_path)
    for name, tensor in base.items():
        tensor.flatten().index_put_((patch[name + ".indices"].long(),), patch[name + ".values"])
    save_file(base, result_path)


def agree(base_path, reference_path, *result_paths):
    """Equal differences may be chosen one for another, so the sizes of what was chosen are compared, not the places."""
    base, reference = load_file(base_path), load_file(reference_path)
    chosen = []
    for path in result_paths:
        result = load_file(path)
        for name, tensor in result.items():
            moved = bits(tensor) != bits(base[name])
            if not torch.equal(bits(tensor)[moved], bits(reference[name])[moved]):
                sys.exit(f"{path}: {name} has values that are neither the base's nor the reference's")
        moved = magnitudes(base, result)
        chosen.append(moved[moved > 0].sort().values)
    if not torch.equal(*chosen):
        sys.exit("the two results select differences of other sizes")


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:] or sys.exit(__doc__)
    {"diff": diff, "apply": apply, "agree": agree}[verb](*arguments)
