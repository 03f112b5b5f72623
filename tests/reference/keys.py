#!/usr/bin/env python3
"""Make fixtures/configurations/keys.json: for each architecture, the keys of config.json that transformers reads, off its source.

    python tests/reference/keys.py fixtures      # transformers; PyTorch is not needed

A key is a field of the configuration's class, another name of one, an argument that the class takes from older files, or an attribute
that the code of the model, of masks or of rotary embeddings asks the configuration for.
"""
import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

MODEL_TYPES = """albert bert camembert deberta deberta-v2 distilbert electra gemma2 gemma3_text glm4 gpt2 gpt_neox granite llama mistral
mixtral modernbert mpnet olmo2 opt phi3 qwen2 qwen3 qwen3_moe roberta smollm3 t5 xlm-roberta""".split()
ARGUMENT = re.compile(r'kwargs\.(?:get|pop|setdefault)\(\s*"(\w+)"')
ATTRIBUTE = re.compile(r'\bconfig\.(\w+)(?!\w*\()|getattr\((?:self\.)?config, "(\w+)"')
# What these ask for is asked for of every architecture.
SHARED = ("masking_utils.py", "modeling_rope_utils.py")


def keys(model_type):
    configuration = CONFIG_MAPPING[model_type]
    folder = Path(inspect.getfile(configuration)).parent
    found = {field.name for field in dataclasses.fields(configuration)}
    found |= set(configuration.attribute_map) | set(configuration.attribute_map.values())
    sources = [Path(inspect.getfile(configuration)).read_text()]
    found |= set(ARGUMENT.findall(sources[0]))
    models = sorted(folder.glob("modeling_*.py"))
    assert models, folder
    for source in models:
        text = source.read_text()
        if model_type == "gemma3_text":
            # The models of images have another configuration.
            text = text[:text.index("class Gemma3MultiModalProjector")]
        found |= {one or other for one, other in ATTRIBUTE.findall(text)}
    methods = {name for name, value in inspect.getmembers(transformers.PreTrainedConfig) if callable(value)}
    methods |= {"auto", "num_labels", "name_or_path", "is_heterogeneous", "encoder", "decoder"}
    return sorted(name for name in found - methods if not name.startswith("_attn") and not name.startswith("__"))


def main(fixtures):
    made = dict(transformers=transformers.__version__, keys={name: keys(name) for name in MODEL_TYPES})
    library = Path(transformers.__file__).parent
    made["keys"]["*"] = sorted({one or other for file in SHARED for one, other in ATTRIBUTE.findall((library / file).read_text())}
                               - {name for name, value in inspect.getmembers(transformers.PreTrainedConfig) if callable(value)})
    (Path(fixtures) / "configurations" / "keys.json").write_text(json.dumps(made, indent=0) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 2 else sys.exit(__doc__)
