#!/usr/bin/env python3
"""CrowS-Pairs and StereoSet beside the published scoring on PyTorch: same weights, same machine, one run.

    pip install torch transformers
    python3 benches/verify.py target/release/lcepatch DATA [--model DIR] [--stereoset FILE] [--runs 1]

DATA holds crows_pairs_anonymized.csv, and StereoSet as --stereoset names it. Without --model a BERT-base of random weights is made
(speed does not depend on the numbers) with the tokenizer of --tokenizer DIR. The peer is tests/reference/score.py: the published
loops, batch 1, all logits; only its scoring is timed, not its imports and not its loading. Of lcepatch the whole process is timed,
loading included. Prints a Markdown table, and fails if any item is decided differently.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


# What the reference says of a pair or triple, as a decision; skipped ones have none.
YES = {"more": True, "less": False, "neutral": False, "stereotype": True, "anti-stereotype": False}


def run(command, **options):
    """Run a command; return its wall time in seconds, its peak memory in bytes and its output."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, **options)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {status}")
        out.seek(0)
        return time.perf_counter() - start, usage.ru_maxrss * 1024, out.read()


def random_bert(folder, tokenizer):
    import torch
    from transformers import BertConfig, BertForMaskedLM
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig()).save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)


def copy_tokenizer(tokenizer, folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if Path(tokenizer, name).exists():
            shutil.copy(Path(tokenizer, name), folder)


def decided_differently(found, items):
    """The items of CrowS-Pairs or StereoSet that `verify` decides otherwise than the reference, or that only one of them decides."""
    decisions = dict(zip(map(str, found["ids"]), found["values"]))
    wanted = {item["id"]: YES[item["decision"]] for item in items if item["decision"] in YES}
    return {name for name in decisions.keys() | wanted.keys() if decisions.get(name) != wanted.get(name)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="of the random model")
    parser.add_argument("--stereoset", default="stereoset_gender_intrasentence_1026.json")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    reference = Path(__file__).parent.parent / "tests" / "reference" / "score.py"
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model
        if model is None:
            model = Path(scratch, "bert-base")
            random_bert(model, options.tokenizer)
        weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        differing = 0
        print(f"weights: {weights / 2**20:.0f} MiB\n")
        print("| measure | items | passes of the peer | PyTorch, s | lcepatch, s | ratio | peak, MiB | decided differently |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for title, ours, theirs in [
            ("CrowS-Pairs, gender", ["--crows-pairs", options.data / "crows_pairs_anonymized.csv"],
             ["--crows", options.data / "crows_pairs_anonymized.csv", "--bias-type", "gender"]),
            ("StereoSet intrasentence, gender", ["--stereoset", options.data / options.stereoset],
             ["--stereoset", options.data / options.stereoset, "--bias-type", "gender"]),
        ]:
            best, peak = float("inf"), 0
            for _ in range(options.runs):
                seconds, memory, out = run([options.tool, "verify", model, *ours, "--json", "--items", "--quiet"])
                best, peak = min(best, seconds), max(peak, memory)
            found = json.loads(out)["rows"][0]["measures"][0]["items"]
            _, _, out = run([sys.executable, reference, model, *theirs])
            expected = json.loads(out)["results"][0]
            wrong = len(decided_differently(found, expected["items"]))
            differing += wrong
            theirs, ratio = expected["seconds"], expected["seconds"] / best
            print(f"| {title} | {len(found['ids'])} | {expected['passes']} | {theirs:.1f} | {best:.1f} | {ratio:.1f} x "
                  f"| {peak / 2**20:.0f} | {wrong} |", flush=True)
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
