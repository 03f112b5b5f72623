"""Files that torch writes, for tests/neighbours.rs, and what is in them, by the safetensors library."""

import sys
from collections import OrderedDict

import torch
from safetensors.torch import save_file

torch.manual_seed(0)
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")

model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Conv2d(2, 3, 2))
whole = torch.randn(4, 6)
tied = torch.nn.Parameter(torch.randn(5, 2))
readable = {
    "module": model.state_dict(),
    "half": model.half().state_dict(),
    "dtypes": {name: (torch.randn(2, 3) * 3).to(getattr(torch, name)) for name in DTYPES},
    "views": {"rows": whole[1:3], "row": whole[2], "one": whole[:1, 2:5], "last": whole[3, 5], "none": whole[4:]},
    "tied": OrderedDict([("embedding", tied), ("head", tied)]),
    "masks": {"0.weight": torch.rand(4, 3) > 0.5},
    "unicode": {"größe/重み": torch.ones(1)},
    "empty": {},
    "large": {f"layer.{at}.weight": torch.full((2,), float(at)) for at in range(1500)},
}
refused = {
    "transposed": {"w": whole.T},
    "expanded": {"w": torch.ones(1).expand(1000)},
    "model": model,
    "nested": {"epoch": 3, "state_dict": model.state_dict()},
    "list": [torch.ones(2)],
    "sparse": {"w": torch.eye(3).to_sparse()},
    "float8": {"w": torch.ones(2).to(torch.float8_e4m3fn)},
}

for name, content in readable.items():
    torch.save(content, f"{name}.pt")
    tensors = {key: value.detach().clone().contiguous() for key, value in content.items()}
    save_file(tensors, f"{name}.safetensors")
torch.save(readable["dtypes"], "protocol4.pt", pickle_protocol=4)
torch.save(readable["dtypes"], "protocol5.pt", pickle_protocol=5)
save_file({key: value.clone() for key, value in readable["dtypes"].items()}, "protocol4.safetensors")
save_file({key: value.clone() for key, value in readable["dtypes"].items()}, "protocol5.safetensors")
for name, content in refused.items():
    torch.save(content, f"{name}.refused")
torch.save(readable["module"], "old.refused", _use_new_zipfile_serialization=False)
torch.jit.script(torch.nn.Linear(2, 2)).save("script.refused")
print("\n".join([*readable, "protocol4", "protocol5"]))
