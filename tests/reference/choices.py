#!/usr/bin/env python3
"""Make fixtures/measures/choices.json: what lm-evaluation-harness says of fixtures/measures/choices.jsonl, of fixture models.

    python tests/reference/choices.py fixtures      # lm_eval 0.4.13, torch, transformers

Of each model the log-likelihood of every choice, and the accuracies, by sum and by character, as its multiple_choice tasks have them.
"""
import json
import sys
from pathlib import Path

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

MODELS = ["gpt2", "llama", "qwen2"]


def requests(item):
    delimiter = item.get("delimiter", " ")
    for at, choice in enumerate(item["choices"]):
        yield Instance("loglikelihood", item, (item["context"], delimiter + choice), at)


def of_model(folder, items):
    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    sums, right = [], []
    for item in items:
        found = np.array([sum for sum, _ in model.loglikelihood(list(requests(item)), disable_tqdm=True)])
        lengths = np.array([float(len(choice)) for choice in item["choices"]])
        right.append([int(np.argmax(found) == item["gold"]), int(np.argmax(found / lengths) == item["gold"])])
        sums.append(found.tolist())
    acc, acc_norm = (100 * np.mean(right, axis=0)).tolist()
    return {"sums": sums, "acc": acc, "acc_norm": acc_norm}


def main(fixtures):
    measures = Path(fixtures) / "measures"
    items = [json.loads(line) for line in (measures / "choices.jsonl").read_text().splitlines()]
    found = {name: of_model(Path(fixtures) / "models" / name, items) for name in MODELS}
    (measures / "choices.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
