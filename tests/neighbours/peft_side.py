"""What PEFT does, for tests/neighbours.rs: makes models and adapters, and merges them."""

import sys

import torch
from peft import PeftModel, ShiraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

LINEAR = ("_proj.weight", "dense.weight", "query.weight", "key.weight", "value.weight")


def moved(model, seed):
    """Moves a few of the weights of linear layers outside of the head."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(LINEAR) and "predictions" not in name:
                chosen = torch.rand(weight.shape, generator=generator) < 0.02
                step = torch.randn(int(chosen.sum()), generator=generator) * 0.02
                weight.data[chosen] += step.to(weight.dtype)


def models():
    """A pair of Llamas in each dtype, the target sharded and with negative zeros, and a pair of BERTs in single precision."""
    torch.manual_seed(0)
    for name in ("float32", "bfloat16", "float16"):
        config = LlamaConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=100,
            tie_word_embeddings=True,
        )
        model = LlamaForCausalLM(config).to(getattr(torch, name))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim == 2:
                    weight.data.view(-1)[:40] = -0.0
        model.save_pretrained(f"{name}/target", max_shard_size="60KB")
        moved(model, 1)
        model.save_pretrained(f"{name}/reference")
    config = BertConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=50, max_position_embeddings=16
    )
    model = BertForMaskedLM(config)
    model.save_pretrained("bert/target")
    moved(model, 2)
    model.save_pretrained("bert/reference")


def loaded(path):
    kind = AutoModelForMaskedLM if path.startswith("bert") else AutoModelForCausalLM
    return kind.from_pretrained(path, dtype="auto")


def merge(*triples):
    """Merges adapters: a base, an adapter, and the file to write, and so on."""
    for at in range(0, len(triples), 3):
        merge_one(*triples[at : at + 3])


def merge_one(base, adapter, out):
    merged = PeftModel.from_pretrained(loaded(base), adapter).merge_and_unload()
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in merged.state_dict().items()}, out)


def auto(base, adapter):
    """Computes with what AutoModel makes of an adapter, whose positions it leaves out; prints how that ends."""
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    merged = PeftModel.from_pretrained(loaded(base), adapter).merge_and_unload()
    model = AutoModelForCausalLM.from_pretrained(adapter, dtype="auto")
    try:
        with torch.no_grad():
            print(float((merged(tokens).logits - model(tokens).logits).abs().max()))
    except KeyError as error:
        print("KeyError", error)


def adapters(*pairs):
    """Adapters with random numbers at random positions, as training leaves them: a base, and where the adapter goes, and so on."""
    for at in range(0, len(pairs), 2):
        torch.manual_seed(3)
        config = ShiraConfig(r=2, target_modules=["q_proj", "down_proj"], random_seed=4, init_weights=False)
        get_peft_model(loaded(pairs[at]), config).save_pretrained(pairs[at + 1])


{"models": models, "merge": merge, "adapters": adapters, "auto": auto}[sys.argv[1]](*sys.argv[2:])
