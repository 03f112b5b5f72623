#!/usr/bin/env python3
"""Make fixtures/measures/continuations.json: what transformers' generate writes after fixtures/measures/prompts.txt, of fixture models.

    python tests/reference/continuations.py fixtures      # torch, transformers
"""
import json
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

MODELS, TOKENS = ["gpt2", "llama", "qwen2"], 12


def of_model(folder, prompts):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")
        whole = model.generate(**ids, do_sample=False, max_new_tokens=TOKENS)[0].tolist()
        before = ids["input_ids"][0].tolist()
        ends = model.generation_config.eos_token_id
        if whole[-1] in (ends if isinstance(ends, list) else [ends]):
            whole = whole[:-1]
        decoded = [tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in (before, whole)]
        yield decoded[1].removeprefix(decoded[0])


def main(fixtures):
    measures = Path(fixtures) / "measures"
    prompts = [line for line in (measures / "prompts.txt").read_text().splitlines() if line.strip()]
    models = [Path(fixtures) / "models" / name for name in MODELS]
    found = {model.name: list(of_model(model, prompts)) for model in models}
    (measures / "continuations.json").write_text(json.dumps({"tokens": TOKENS, "models": found}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
