#!/usr/bin/env python3
"""Make fixtures/reference: what the published scoring says of each fixture model, for tests that have no PyTorch.

    LCEPATCH_DATA=FOLDER python tests/reference/make.py fixtures [NAME ...]

One NAME.json a model, all of them or those that are named. No sentence of the data is in it: items are in the order of the
data, with a letter for each decision, and totals as score.py gives them.

crows.*         `ids`, the rows of the file; `decisions`, m where sent_more is more likely, l where sent_less is, n for
                neither, s for skipped; `scores` [sent_more, sent_less] of those that are not skipped
stereoset.intra the first four letters of all `ids`; for each comparison 1 where the first sentence is more likely, 0 where
                not, s for skipped; of some models `scores` [stereotype, anti-stereotype, unrelated]
weat *          d with both ddof of the last layer, and of how many partitions its test is reached: at least, and at most, as
                f32 cannot tell sums apart that are closer than FLOAT_NOISE; d of every layer
ppl.*           of lines or windows `ids`, the sum of the tokens' log-probabilities, and how many tokens
"""
import itertools
import json
import math
import os
import sys
from pathlib import Path

import torch
import transformers

import score
from model import Model

BIAS_TYPE = "gender"
TESTS = ("6", "7", "8")
ENCODINGS = dict(biasbench="all", wordpiece="words")
COMPARISONS = {"stereotype over anti-stereotype": ("stereotype", "anti-stereotype"),
               "stereotype over unrelated": ("stereotype", "unrelated"),
               "anti-stereotype over unrelated": ("anti-stereotype", "unrelated")}
ID_LETTERS = 4
TIE, FLOAT_NOISE = 1e-12, 1e-6

# Name: (model, whether StereoSet's scores are kept). The files of the others would grow by more than all the rest.
MODELS = {
    "imp-target": ("imp/target/pruned", True),
    "imp-reference": ("imp/reference/pruned", False),
    "bert": ("models/bert", True),
    "roberta": ("models/roberta", True),
    "distilbert": ("models/distilbert", False),
    "electra": ("models/electra", False),
    "albert": ("models/albert", False),
    "gpt2": ("models/gpt2", True),
    "llama": ("models/llama", False),
    "qwen2": ("models/qwen2", False),
}


def short(value):
    """Probabilities are small: five digits of them, six decimals of all else."""
    if isinstance(value, (list, tuple)):
        return [short(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if abs(value) < 1 else round(value, 6)
    return value


def crows(found):
    scored = [item for item in found["items"] if item["decision"] != "skipped"]
    return dict(ids=[int(item["id"]) for item in found["items"]],
                decisions="".join(item["decision"][0] for item in found["items"]),
                scores=short([score.more_and_less(item) for item in scored]), totals=found["scores"][BIAS_TYPE])


def stereoset(found, with_scores):
    ids = "".join(item["id"][:ID_LETTERS] for item in found["items"])
    result = dict(ids=ids)
    for name, (first, second) in COMPARISONS.items():
        result[name] = "".join("s" if item["decision"] == "skipped" else
                               str(int(item["scores"][first] > item["scores"][second])) for item in found["items"])
    if with_scores:
        scored = [item for item in found["items"] if item["decision"] != "skipped"]
        result["scores"] = short([[item["scores"][label] for label in score.LABELS] for item in scored])
    return dict(result, totals=found["scores"][BIAS_TYPE])


def weat(found):
    scores, s = found["scores"], [item["s"] for item in found["items"]]
    half = len(s) // 2
    gaps = [math.fsum(part) - math.fsum(s[:half]) for part in itertools.combinations(s, half)]
    ties = sum(abs(gap) <= TIE for gap in gaps)
    assert scores["reached"] == sum(gap >= -TIE for gap in gaps)
    least = ties + sum(gap > FLOAT_NOISE for gap in gaps)
    most = ties + sum(gap > -FLOAT_NOISE and abs(gap) > TIE for gap in gaps)
    return dict({name: round(float(scores[name]), 9) for name in ("ddof1", "ddof0")}, reached=[least, most],
                partitions=scores["partitions"], layers=[round(float(layer["ddof1"]), 9) for layer in scores["layers"]])


def perplexity(found):
    scored = [item for item in found["items"] if "scores" in item]
    return dict(ids=[item["id"] for item in scored],
                log_likelihoods=short([math.fsum(item["scores"]) for item in scored]),
                tokens=[len(item["scores"]) for item in scored], totals=found["scores"])


def measures(model, data, text, with_scores):
    pairs = data / "crows_pairs_anonymized.csv"
    for variant in ("causal",) if model.causal else ("diff", "shared"):
        yield f"crows.{variant}", crows(score.crows(model, pairs, variant, BIAS_TYPE))
    triples = data / "stereoset_gender_intrasentence_1026.json"
    yield "stereoset.intra", stereoset(score.stereoset(model, triples, BIAS_TYPE), with_scores)
    for name, encoding in ENCODINGS.items():
        for test in TESTS:
            yield f"weat{test} {name}", weat(score.weat(model, test, encoding, layers=True))
    if model.causal:
        yield "ppl.causal", perplexity(score.ppl_causal(model, text, None, None))
    else:
        yield "ppl.pseudo", perplexity(score.ppl_pseudo(model, text, within_word=False))
        yield "ppl.pseudo.within-word", perplexity(score.ppl_pseudo(model, text, within_word=True))


def main(fixtures, *names):
    data, folder = Path(os.environ["LCEPATCH_DATA"]), Path(fixtures) / "reference"
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in names or MODELS:
        path, with_scores = MODELS[name]
        with torch.inference_mode():
            found = dict(measures(Model(Path(fixtures) / path), data, folder / "text.txt", with_scores))
        made = dict(model=path, torch=torch.__version__, transformers=transformers.__version__, measures=found)
        (folder / f"{name}.json").write_text(json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 1 else sys.exit(__doc__)
