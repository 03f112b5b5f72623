"""A checkpoint in PyTorch as score.py asks it: one sequence at a time, with the logits of the whole vocabulary."""
import json

import numpy as np
import torch
import transformers


class Skipped(Exception):
    """An item that the model cannot be asked, and why."""


class Model:
    """A model and its tokenizer, which count forward passes."""

    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        architecture = config["architectures"][0]
        self.masked = architecture.endswith("ForMaskedLM")
        self.causal = architecture.endswith(("ForCausalLM", "LMHeadModel"))
        self.net = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32).eval()
        self.positions = config.get("max_position_embeddings") or config.get("n_positions")
        if config["model_type"] in ("roberta", "xlm-roberta"):
            self.positions -= config["pad_token_id"] + 1
        self.roberta = "roberta" in config["model_type"]
        self.tokenizer = tokenizer_of(folder)
        self.passes = 0

    def encode(self, text, special=True):
        return self.tokenizer.encode(text, add_special_tokens=special)

    def logits(self, ids):
        if len(ids) > self.positions:
            raise Skipped("longer than the model's positions")
        self.passes += 1
        return self.net(input_ids=torch.tensor([ids])).logits[0]

    def predicted(self, normalize, ids, places, tokens):
        """Of each token at its place of `ids`, by torch.softmax or torch.log_softmax."""
        return normalize(self.logits(ids), dim=-1)[places, tokens].tolist()

    def hidden(self, ids):
        """Of each layer, the embeddings first: [layers, places, hidden]."""
        self.passes += 1
        return torch.stack(self.net(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states)[:, 0]

    def log_probability(self, ids, masked, at, token):
        """Of `token` at place `at` of `ids` with the `masked` places masked."""
        ids = [self.tokenizer.mask_token_id if place in masked else id for place, id in enumerate(ids)]
        return self.predicted(torch.log_softmax, ids, [at], [token])[0]

    def sentence_score(self, text):
        """bias-bench's score of a causal model: 2 to the mean log2 of the tokens' probabilities. The first token comes after a
        sequence of nothing but the token that begins or ends a text. bias-bench knows GPT-2 only, whose tokenizer adds no
        special tokens; those of others are context and not scored."""
        found = self.tokenizer(text, return_special_tokens_mask=True)
        ids, special = found["input_ids"], found["special_tokens_mask"]
        probabilities = []
        if ids and not special[0]:
            start = self.tokenizer.bos_token_id
            start = self.tokenizer.eos_token_id if start is None else start
            probabilities += self.predicted(torch.softmax, [start], [0], ids[:1])
        scored = [at for at in range(1, len(ids)) if not special[at]]
        probabilities += self.predicted(torch.softmax, ids, [at - 1 for at in scored], [ids[at] for at in scored])
        with np.errstate(divide="ignore"):
            return float(2 ** np.mean(np.log2(probabilities)))


def tokenizer_of(folder):
    """The checkpoint's tokenizer. A tokenizer.json is taken as it stands there: AutoTokenizer would rebuild it with the habits of
    the model's family."""
    file = folder / "tokenizer.json"
    if not file.exists():
        return transformers.AutoTokenizer.from_pretrained(folder)
    if (folder / "tokenizer_config.json").exists():
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    known = {token["content"] for token in json.loads(file.read_text())["added_tokens"]}
    names = dict(mask_token=("[MASK]", "<mask>"), pad_token=("[PAD]", "<pad>"), cls_token=("[CLS]", "<s>"),
                 sep_token=("[SEP]", "</s>"), unk_token=("[UNK]", "<unk>"),
                 bos_token=("<s>", "<|begin_of_text|>", "<|endoftext|>"),
                 eos_token=("</s>", "<|end_of_text|>", "<|endoftext|>"))
    special = {name: token for name, tokens in names.items() for token in tokens if token in known}
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **special)
