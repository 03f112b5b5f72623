#!/usr/bin/env python3
"""`verify` beside transformers, for each family of models that it knows: same weights, same items, 32 bits, one run.

    pip install torch transformers
    python3 benches/families.py target/release/lcepatch DATA --tokenizer DIR [--families bert,llama] [--pairs 100] [--runs 1]

DATA holds crows_pairs_anonymized.csv and seat/, DIR the tokenizer of a BERT, which all families get: speed does not depend on its kind.
Of each family a model of random weights is made, with the class of tests/reference/configurations.py, the sizes of SIZES below, and what
transformers sets otherwise. Masked and causal models score the first pairs of CrowS-Pairs (gender), encoders encode the texts of SEAT 6, 7
and 8.

Two peers, in this process, with the attention that transformers chooses: `one by one` is tests/reference/score.py, the published loops,
batch 1; `batches` asks the same model the same questions, each once, sorted by length, 32 sequences at a time. Only their scoring is
timed, after one pass to warm up; of SEAT only the encoding. Of lcepatch the whole process is timed, loading included. With --runs, each
is the fastest of its runs. Prints a Markdown table, and fails if a decision differs, or a score by more than a share of 1e-4.
"""
import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests" / "reference"))

import configurations
import score
import torch
import transformers
from commands import in_words, machine
from model import Model
from verify import copy_tokenizer, decided_differently, run

# Two thirds of a base model's width, depth and heads. A family takes those that configurations.py has for it.
WIDTH, INNER, LAYERS, HEADS, POSITIONS, EXPERTS = 512, 2048, 8, 8, 512, 8
SIZES = dict(hidden_size=WIDTH, n_embd=WIDTH, dim=WIDTH, d_model=WIDTH, intermediate_size=INNER, hidden_dim=INNER, ffn_dim=INNER,
             d_ff=INNER, num_hidden_layers=LAYERS, n_layer=LAYERS, n_layers=LAYERS, num_layers=LAYERS, num_attention_heads=HEADS, n_head=HEADS,
             n_heads=HEADS, num_heads=HEADS, num_key_value_heads=HEADS // 4, head_dim=WIDTH // HEADS, d_kv=WIDTH // HEADS,
             max_position_embeddings=POSITIONS, n_positions=POSITIONS, sliding_window=POSITIONS, embedding_size=WIDTH // 4,
             num_experts=EXPERTS, num_local_experts=EXPERTS, moe_intermediate_size=INNER // 4)
# What the family's published models have, and transformers does not set by itself.
PUBLISHED = {
    "deberta": dict(position_biased_input=False),
    "deberta-v2": dict(position_biased_input=False, position_buckets=256, share_att_key=True, norm_rel_ebd="layer_norm"),
    "gemma3-encoder": dict(use_bidirectional_attention=True),
    "mixtral": dict(intermediate_size=INNER // 4),
}
FAMILIES = {name: (kind, sizes) for name, (kind, sizes, *_) in sorted(configurations.FAMILIES.items())}
FAMILIES["gemma3-encoder"] = ("Gemma3TextModel", FAMILIES["gemma3_text"][1])

BIAS_TYPE, TOGETHER, APART = "gender", 32, 1e-4


def make(folder, name, tokenizer):
    copy_tokenizer(tokenizer, folder)
    words = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    kind, sizes = FAMILIES[name]
    ids = dict(vocab_size=len(words), pad_token_id=words.pad_token_id, bos_token_id=words.cls_token_id,
               cls_token_id=words.cls_token_id, eos_token_id=words.sep_token_id, sep_token_id=words.sep_token_id)
    # So large that each layer matters to the result, and no larger, so that f32 is exact enough: vectors keep their length.
    random = dict(initializer_range=WIDTH ** -0.5, init_std=WIDTH ** -0.5)
    cls = getattr(transformers, kind)
    random = {key: value for key, value in random.items() if hasattr(cls.config_class(), key)}
    config = {key: SIZES.get(key, value) for key, value in sizes.items()} | ids | random | PUBLISHED.get(name, {})
    if name in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        config["max_position_embeddings"] += words.pad_token_id + 1  # their positions are counted from there
    torch.manual_seed(0)
    cls(cls.config_class(**config)).save_pretrained(folder)


class Batched(Model):
    """A model that answers many questions at a time: a first run of the scoring tells what is asked, a second one takes the answers."""

    def __init__(self, model):
        vars(self).update(vars(model))
        self.asked, self.answers = {}, {}

    def run(self, scoring):
        scoring(self)
        ordered = sorted(self.asked, key=lambda question: len(question[1]))
        for start in range(0, len(ordered), TOGETHER):
            self.answer(ordered[start:start + TOGETHER])
        return scoring(self)

    def ask(self, question, meanwhile):
        self.asked.setdefault(question)
        return self.answers.get(question, meanwhile)

    def predicted(self, normalize, ids, places, tokens):
        return self.ask((normalize, tuple(ids), tuple(places), tuple(tokens)), [1.0] * len(places))

    def hidden(self, ids):
        return self.ask((None, tuple(ids)), torch.ones(1, len(ids), 1))

    def answer(self, questions):
        self.passes += 1
        shape = len(questions), max(len(question[1]) for question in questions)
        ids, mask = torch.full(shape, self.tokenizer.pad_token_id), torch.zeros(shape, dtype=torch.int64)
        for row, (_, sequence, *_) in enumerate(questions):
            ids[row, :len(sequence)], mask[row, :len(sequence)] = torch.tensor(sequence), 1
        out = self.net(input_ids=ids, attention_mask=mask, output_hidden_states=questions[0][0] is None)
        for row, question in enumerate(questions):
            normalize, sequence, *asked = question
            if normalize is None:
                self.answers[question] = torch.stack([layer[row, :len(sequence)] for layer in out.hidden_states])
            else:
                places, tokens = asked
                found = normalize(out.logits[row, list(places)], dim=-1)
                self.answers[question] = found[range(len(places)), list(tokens)].tolist()


class Pairs:
    """CrowS-Pairs, with the score of the model's kind."""

    def __init__(self, data, scratch, count):
        with open(data / "crows_pairs_anonymized.csv", newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            kept = [row for row in rows if row["bias_type"] == BIAS_TYPE][:count]
        self.path, self.items = scratch / "pairs.csv", len(kept)
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows.fieldnames)
            writer.writeheader()
            writer.writerows(row | {"": number} for number, row in enumerate(kept))
        self.arguments = ["--crows-pairs", self.path]

    def title(self, model):
        return "crows.causal" if model.causal else "crows.diff"

    def scoring(self, model):
        return score.crows(model, self.path, "diff", BIAS_TYPE)["items"]

    def differing(self, measures, expected):
        found = measures[0]["items"]
        scores = dict(zip(found["ids"], found["scores"]))
        both = [item for item in expected if "scores" in item and item["id"] in scores]
        near = {item["id"] for item in both
                if all(abs(a - b) <= APART * abs(b) for a, b in zip(scores[item["id"]], score.more_and_less(item), strict=True))}
        return {item["id"] for item in both} - near | decided_differently(found, expected)


class Associations:
    """SEAT, of which the peers only encode the texts."""

    def __init__(self, data):
        self.paths = [data / "seat" / f"sent-weat{number}.jsonl" for number in (6, 7, 8)]
        self.items = sum(len(texts) for path in self.paths for texts in score.examples(path))
        self.arguments = ["--weat", ",".join(map(str, self.paths))]

    def title(self, _):
        return "SEAT 6, 7, 8"

    def scoring(self, model):
        return {path.stem: [score.encode(model, texts, "all") for texts in score.examples(path)] for path in self.paths}

    def differing(self, measures, expected):
        found = {measure["measure"]: measure["scores"][0]["value"] for measure in measures}
        wanted = {name: score.effect(*(layers[-1] for layers in sets))[0]["ddof1"] for name, sets in expected.items()}
        return {name for name, d in wanted.items() if not abs(found[name] - d) <= APART}


def fastest(runs, command):
    """The least seconds, and the last result."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = command()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def compare(folder, measure, tool, threads, runs):
    """A row, without the family."""
    model = Model(folder)
    with torch.inference_mode():
        model.hidden(model.encode("One pass to warm up."))
        model.passes = 0
        alone, expected = fastest(runs, lambda: measure.scoring(model))
        passes = model.passes // runs
        together, batched = fastest(runs, lambda: Batched(model).run(measure.scoring))
    command = [tool, "verify", folder, *measure.arguments, "--json", "--items", "--quiet", "--threads", str(threads)]
    ours, (_, _, out) = fastest(runs, lambda: run(command))
    measures = json.loads(out)["rows"][0]["measures"]
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    wrong = [len(measure.differing(measures, found)) for found in (expected, batched)]
    return (f"{weights / 2**20:.0f} | {measure.title(model)} | {measure.items} | {passes} | {alone:.1f} | {together:.1f} | {ours:.1f} "
            f"| {alone / ours:.1f} x | {together / ours:.1f} x | {wrong[0]} | {wrong[1]} |"), any(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder with the tokenizer of a BERT")
    parser.add_argument("--families", default=",".join(FAMILIES), help="some of them, separated by commas")
    parser.add_argument("--pairs", type=int, default=100, help="how many pairs of CrowS-Pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    names = options.families.split(",")
    if unknown := set(names) - FAMILIES.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Known are {', '.join(FAMILIES)}")
    torch.set_num_threads(options.threads)
    transformers.logging.disable_progress_bar()
    about = in_words(machine(argparse.Namespace(program=options.tool, work=tempfile.gettempdir())))
    print(f"{about}, transformers {transformers.__version__}; {options.threads} threads\n")
    differing = False
    print("| family | weights, MiB | measure | items | passes one by one | one by one, s | batches, s | lcepatch, s "
          "| ratio | to batches | differing | from batches |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "model")
            folder.mkdir()
            make(folder, name, options.tokenizer)
            headless = FAMILIES[name][0].endswith(("EncoderModel", "TextModel"))
            measure = Associations(options.data) if headless else Pairs(options.data, Path(scratch), options.pairs)
            row, wrong = compare(folder, measure, options.tool, options.threads, options.runs)
        print(f"| {name} | {row}", flush=True)
        differing |= wrong
    sys.exit(differing)


if __name__ == "__main__":
    main()
