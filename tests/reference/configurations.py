#!/usr/bin/env python3
"""Make small random models with random configurations, and what transformers computes with each, for tests/models.rs.

    python tests/reference/configurations.py OUT [COUNT [SEED]]
    LCEPATCH_CONFIGURATIONS=OUT cargo test --test main random_configurations

Each folder of OUT is a checkpoint whose configuration sets keys of its architecture to values that are legal, and rare: absent, null, of
older versions, two names of one setting, tensors that are missing or too many. expected.safetensors has the hidden states of two
sequences, each computed by itself with eager attention in 32 bits, and the logits, unless transformers had to make up weights of the head.
case.json says what was changed. Configurations that transformers refuses, or for which it makes up other weights, are left out, since
there is no number to agree with; how many they were is printed.
"""
import json
import os
import random
import shutil
import sys
import zlib
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

ABSENT = "<absent>"
VOCABULARY, LENGTHS = 67, (13, 6)
FLAG, TIE = [True, False], [True, False, ABSENT]
ACTIVATIONS = ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "relu", "silu", "swish", "tanh",
               "quick_gelu", "relu2", "mish", "sigmoid", ABSENT]

SIZES = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=40)
DECODER = dict(SIZES, num_key_value_heads=2, pad_token_id=None, bos_token_id=1, eos_token_id=2)
WIDE = dict(DECODER, head_dim=8)
ENCODER = dict(SIZES, pad_token_id=0)

ANY = dict(tie_word_embeddings=TIE, is_causal=[True, True, False], use_cache=FLAG, chunk_size_feed_forward=[0, 2],
           torch_dtype=["float32", "bfloat16"], output_hidden_states=FLAG, id2label=[{"0": "a", "1": "b", "2": "c"}],
           pruned_heads=[{}], quantization_config=[None], tie_last_hidden_states=[None, None, False],
           some_key_of_nobody=[1, "a"], initializer_range=[0.5], is_encoder_decoder=[False])
LLAMA = dict(ANY, hidden_act=ACTIVATIONS, rms_norm_eps=[1e-6, 1e-3, 0.1, ABSENT], num_key_value_heads=[1, 2, 4, None, ABSENT],
             head_dim=[None, 4, 6, 8, ABSENT], attention_bias=FLAG, mlp_bias=FLAG, sliding_window=[None, 3, 5, ABSENT],
             attention_dropout=[0.3], pretraining_tp=[1, 2], use_sliding_window=FLAG, max_window_layers=[0, 1, 5],
             partial_rotary_factor=[0.5, 1.0], original_max_position_embeddings=[8, 20], is_decoder=FLAG,
             layer_types=[["full_attention", "full_attention"], ["sliding_attention", "full_attention"],
                          ["sliding_attention", "sliding_attention"], ["full_attention"], None])
EXPERTS = dict(LLAMA, num_experts_per_tok=[1, 2, 3, 4], num_local_experts=[4, 5], num_experts=[4, 6],
               router_jitter_noise=[0.1], output_router_logits=FLAG)
GEMMA = dict(LLAMA, hidden_activation=ACTIVATIONS, query_pre_attn_scalar=[1, 9, ABSENT],
             final_logit_softcapping=[None, 2.0, ABSENT], attn_logit_softcapping=[None, 1.5, ABSENT],
             use_bidirectional_attention=[None, False, True], sliding_window=[3, 4, ABSENT],
             sliding_window_pattern=[1, 2, 3], rope_local_base_freq=[20.0, 10000.0])
BERT = dict(ANY, hidden_act=ACTIVATIONS, layer_norm_eps=[1e-12, 1e-3, 0.1, ABSENT], type_vocab_size=[1, 3, ABSENT],
            pad_token_id=[0, 1, 3, ABSENT], is_decoder=FLAG, add_cross_attention=[False, True], hidden_dropout_prob=[0.0, 0.4],
            position_embedding_type=["absolute", "relative_key"], classifier_dropout=[0.2],
            attention_probs_dropout_prob=[0.3], max_position_embeddings=[17, 40])
DEBERTA = dict(BERT, relative_attention=FLAG, max_relative_positions=[-1, 3, 8, 40, ABSENT], position_biased_input=FLAG,
               pos_att_type=[None, [], "c2p", "p2c", "c2p|p2c", ["p2c", "c2p"], ["c2p"], "P2C | C2P", ABSENT],
               legacy=FLAG, talking_head=[False, True], type_vocab_size=[0, 2, ABSENT],
               pooler_hidden_size=[16, 8], embedding_size=[16, 12])

# model_type: (class, sizes, keys and their values, whether it has rotary embeddings).
FAMILIES = {
    "llama": ("LlamaForCausalLM", DECODER, LLAMA, True),
    "mistral": ("MistralForCausalLM", DECODER, LLAMA, True),
    "qwen2": ("Qwen2ForCausalLM", DECODER, LLAMA, True),
    "qwen3": ("Qwen3ForCausalLM", WIDE, LLAMA, True),
    "qwen3_moe": ("Qwen3MoeForCausalLM", dict(WIDE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12),
                  dict(EXPERTS, norm_topk_prob=FLAG, decoder_sparse_step=[1, 2, 3], mlp_only_layers=[None, [], [0], [1]],
                       moe_intermediate_size=[8, 12]), True),
    "gemma2": ("Gemma2ForCausalLM", WIDE, GEMMA, True),
    "gemma3_text": ("Gemma3ForCausalLM", dict(WIDE, sliding_window=4), GEMMA, True),
    "phi3": ("Phi3ForCausalLM", DECODER, dict(LLAMA, resid_pdrop=[0.1], embd_pdrop=[0.1]), True),
    "olmo2": ("Olmo2ForCausalLM", DECODER, LLAMA, True),
    "smollm3": ("SmolLM3ForCausalLM", DECODER,
                dict(LLAMA, no_rope_layers=[None, [1, 0], [0, 0], [1, 1]], no_rope_layer_interval=[1, 2, 3]), True),
    "granite": ("GraniteForCausalLM", DECODER,
                dict(LLAMA, embedding_multiplier=[1, 3.5], logits_scaling=[1.0, 4], residual_multiplier=[0.3, 1],
                     attention_multiplier=[0.5, 0.1]), True),
    "mixtral": ("MixtralForCausalLM", dict(DECODER, num_local_experts=4, num_experts_per_tok=2), EXPERTS, True),
    "glm4": ("Glm4ForCausalLM", WIDE, LLAMA, True),
    "gpt_neox": ("GPTNeoXForCausalLM", dict(DECODER, num_attention_heads=2),
                 dict(ANY, hidden_act=ACTIVATIONS, layer_norm_eps=[1e-5, 0.1, ABSENT], use_parallel_residual=[*FLAG, ABSENT],
                      attention_bias=[*FLAG, ABSENT], rotary_pct=[0.25, 0.5, 1.0], rotary_emb_base=[50, 10000],
                      partial_rotary_factor=[0.5, 1.0], rope_theta=[70.0], is_decoder=FLAG, hidden_dropout=[0.2]), True),
    "gpt2": ("GPT2LMHeadModel", dict(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=40, bos_token_id=1,
                                     eos_token_id=2),
             dict(ANY, n_inner=[None, 20, ABSENT], activation_function=ACTIVATIONS, layer_norm_epsilon=[1e-5, 0.1, ABSENT],
                  scale_attn_weights=FLAG, scale_attn_by_inverse_layer_idx=FLAG, reorder_and_upcast_attn=FLAG,
                  add_cross_attention=[False, True], n_ctx=[20, 40], hidden_size=[12, 16], num_attention_heads=[2, 4],
                  num_hidden_layers=[1, 2], max_position_embeddings=[20, 40], summary_type=["first"]), False),
    "opt": ("OPTForCausalLM", dict(vocab_size=VOCABULARY, hidden_size=16, ffn_dim=20, num_hidden_layers=2,
                                   num_attention_heads=4, max_position_embeddings=40),
            dict(ANY, word_embed_proj_dim=[None, 12, 16, ABSENT], activation_function=ACTIVATIONS,
                 do_layer_norm_before=[*FLAG, ABSENT], _remove_final_layer_norm=FLAG, enable_bias=FLAG,
                 layer_norm_elementwise_affine=FLAG, dropout=[0.3], layerdrop=[0.4], activation_dropout=[0.1]), False),
    "bert": ("BertForMaskedLM", ENCODER, BERT, False),
    "roberta": ("RobertaForMaskedLM", ENCODER, BERT, False),
    "xlm-roberta": ("XLMRobertaForMaskedLM", ENCODER, BERT, False),
    "camembert": ("CamembertForMaskedLM", ENCODER, BERT, False),
    "electra": ("ElectraForMaskedLM", ENCODER,
                dict(BERT, embedding_size=[12, 16, 128, ABSENT], summary_activation=["tanh"]), False),
    "albert": ("AlbertForMaskedLM", dict(ENCODER, embedding_size=12),
               dict(BERT, num_hidden_groups=[1, 2], inner_group_num=[1, 2], embedding_size=[8, 16, ABSENT]), False),
    "distilbert": ("DistilBertForMaskedLM", dict(vocab_size=VOCABULARY, dim=16, hidden_dim=20, n_layers=2, n_heads=4,
                                                 max_position_embeddings=40),
                   dict(ANY, activation=["gelu", "relu", ABSENT, "silu"], sinusoidal_pos_embds=FLAG, hidden_size=[12, 16],
                        num_attention_heads=[2, 4], layer_norm_eps=[0.1], num_hidden_layers=[1, 2], dropout=[0.3]), False),
    "mpnet": ("MPNetForMaskedLM", ENCODER, dict(BERT, relative_attention_num_buckets=[16, 32, 40, ABSENT]), False),
    "modernbert": ("ModernBertForMaskedLM",
                   dict(SIZES, pad_token_id=0, bos_token_id=1, cls_token_id=1, eos_token_id=2, sep_token_id=2),
                   dict(ANY, hidden_activation=ACTIVATIONS, norm_eps=[1e-5, 0.1, ABSENT], norm_bias=FLAG, attention_bias=FLAG,
                        mlp_bias=FLAG, decoder_bias=FLAG, classifier_bias=FLAG, classifier_activation=["gelu", "relu", "tanh"],
                        local_attention=[2, 3, 7, ABSENT], global_attn_every_n_layers=[1, 2, 3],
                        layer_types=LLAMA["layer_types"], global_rope_theta=[30.0], local_rope_theta=[20.0, 70.0],
                        sliding_window=[2], sparse_prediction=FLAG, rope_theta=[99.0], classifier_pooling=["mean"]), True),
    "deberta": ("DebertaForMaskedLM", dict(ENCODER, relative_attention=True, pos_att_type=["c2p", "p2c"]), DEBERTA, False),
    "deberta-v2": ("DebertaV2ForMaskedLM", dict(ENCODER, relative_attention=True, pos_att_type=["c2p", "p2c"]),
                   dict(DEBERTA, share_att_key=FLAG, position_buckets=[-1, 2, 4, 8], norm_rel_ebd=["none", "layer_norm"],
                        attention_head_size=[4, 6], conv_kernel_size=[0, 3, 5], conv_act=["gelu", "relu"], conv_groups=[1, 2]), False),
    "t5": ("T5EncoderModel", dict(vocab_size=VOCABULARY, d_model=16, d_kv=6, d_ff=20, num_layers=2, num_heads=4),
           dict(ANY, feed_forward_proj=["relu", "gated-gelu", "gated-silu", "gelu", ABSENT], is_encoder_decoder=FLAG,
                relative_attention_num_buckets=[4, 7, 8, 32], relative_attention_max_distance=[4, 9, 128], n_positions=[5],
                layer_norm_epsilon=[1e-6, 0.1, ABSENT], hidden_size=[12, 16], d_kv=[4, 6], num_heads=[2, 4], is_decoder=FLAG,
                dropout_rate=[0.2]), False),
}

# What else may be wrong with the files.
MUTATIONS = ["none"] * 15 + ["no head", "one more tensor", "another class", "its own code", "head beside its table"]


def rotary(pick, model_type):
    """Keys of rotary embeddings, in one of the ways that versions of transformers write them."""
    pairs = {"gpt_neox": 1, "phi3": 2, "glm4": 2}.get(model_type, 2)
    kind = pick.choice(["default", "default", "linear", "dynamic", "llama3", "yarn", "longrope"])
    if model_type == "phi3":
        kind = pick.choice(["default", "longrope", "su"])
    block = {pick.choice(["rope_type", "rope_type", "type"]): kind}
    if kind != "default":
        block["factor"] = pick.choice([1.0, 2.0, 4.0])
    if kind == "llama3":
        block.update(low_freq_factor=1.0, high_freq_factor=pick.choice([2.0, 4.0]))
    if kind == "yarn":
        block.update(pick.choice([{}, dict(beta_fast=16, beta_slow=2), dict(mscale=0.8, mscale_all_dim=0.5),
                                  dict(attention_factor=1.2), dict(truncate=False)]))
    if kind in ("longrope", "su"):
        size = pick.choice([pairs, pairs, pairs + 2])
        block.update(short_factor=[1.0 + 0.25 * at for at in range(size)], long_factor=[2.0 + at for at in range(size)])
    if pick.random() < 0.5:
        block["original_max_position_embeddings"] = pick.choice([8, 10, 20])
    where = pick.choice(["rope_parameters", "rope_scaling", "both"])
    if model_type in ("gemma3_text", "modernbert") and where == "rope_parameters" and pick.random() < 0.7:
        nested = dict(full_attention=dict(block, rope_theta=pick.choice([300.0, 5000.0])))
        if pick.random() < 0.7:
            nested["sliding_attention"] = dict(rope_type="default", rope_theta=pick.choice([20.0, 60.0]))
        return dict(rope_parameters=nested)
    theta = dict(rope_theta=pick.choice([100.0, 500.0, 10000.0]))
    if pick.random() < 0.3:
        block["partial_rotary_factor"] = pick.choice([0.5, 1.0])
    if where == "rope_parameters":
        return dict(rope_parameters=pick.choice([dict(block, **theta), block]))
    if where == "rope_scaling":
        return dict(rope_scaling=pick.choice([block, None]), **pick.choice([theta, {}]))
    return dict(rope_scaling=block, rope_parameters=dict(rope_type="default", rope_theta=77.0))


def configuration(pick, model_type):
    """A configuration, and the keys of it that were chosen by chance."""
    kind, sizes, keys, turns = FAMILIES[model_type]
    chosen = {key: pick.choice(keys[key]) for key in pick.sample(sorted(keys), pick.randint(1, 5))}
    if turns and pick.random() < 0.6:
        chosen.update(rotary(pick, model_type))
    config = dict(sizes, **chosen)
    config = {key: value for key, value in config.items() if value != ABSENT}
    return dict(architectures=[kind], model_type=model_type, **config), chosen


def fill(model, seed):
    """Random weights, of which no norm is 1 and no bias 0."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
            values = rng.standard_normal(tuple(weight.shape), dtype=np.float32) * np.float32(0.3)
            if weight.dim() == 1 and name.endswith("weight"):
                values += np.float32(1)
            weight.copy_(torch.from_numpy(values))
    return model.eval()


def mutate(folder, pick, config):
    """Changes something else than a key. Returns what."""
    mutation = pick.choice(MUTATIONS)
    file = folder / "model.safetensors"
    tensors = load_file(file) if file.exists() else None
    heads = ("lm_head.", "cls.", "vocab_", "generator_", "predictions.", "embed_out.", "decoder.weight", "decoder.bias",
             "head.", "lm_predictions.")
    if mutation == "another class":
        config["architectures"] = ["MyOwn" + config["architectures"][0]]
    elif mutation == "its own code":
        config["auto_map"] = {"AutoModel": "modeling_own.OwnModel"}
    elif tensors is None:
        return "none"
    elif mutation == "no head":
        save_file({name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}, file,
                  metadata=dict(format="pt"))
    elif mutation == "one more tensor":
        name = next(name for name in tensors if ".0." in name and name.endswith("weight"))
        save_file({**tensors, name.replace("weight", "weight_scale"): torch.ones(1)}, file, metadata=dict(format="pt"))
    elif mutation == "head beside its table":
        name = {"bert": "cls.predictions.decoder.weight", "gpt_neox": "embed_out.weight"}.get(config["model_type"], "lm_head.weight")
        if name not in tensors and config["model_type"] not in ("t5", "modernbert", "deberta"):
            save_file({**tensors, name: torch.randn(VOCABULARY, 16) * 0.3}, file, metadata=dict(format="pt"))
    return mutation


def expected(folder, kind, seed):
    """What transformers computes, or why there is nothing to compare with."""
    cls = getattr(transformers, kind)
    model, info = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    model = model.eval()
    made_up = set(info["missing_keys"]) | {name for name, *_ in info.get("mismatched_keys", ())}
    base = getattr(model, model.base_model_prefix, model)
    of_head = {name for name in made_up if not name.startswith(model.base_model_prefix + ".")} if base is not model else set()
    if made_up - of_head:
        raise ValueError(f"made up: {sorted(made_up - of_head)[:3]}")
    rng = np.random.default_rng(seed)
    ids = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    rows = []
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.from_numpy(rng.integers(0, VOCABULARY, length))
        mask[row, :length] = 1
        with torch.no_grad():
            out = model(input_ids=ids[row:row + 1, :length], attention_mask=mask[row:row + 1, :length],
                        output_hidden_states=True)
        found = {f"hidden.{at}": hidden for at, hidden in enumerate(out.hidden_states)}
        if "logits" in out and not made_up:
            found["logits"] = out.logits
        rows.append(found)
    padded = {name: torch.cat([torch.nn.functional.pad(row[name], (0, 0, 0, max(LENGTHS) - row[name].shape[1]))
                               for row in rows]) for name in rows[0]}
    if not all(torch.isfinite(tensor).all() for tensor in padded.values()):
        raise ValueError("not finite")
    save_file({"input_ids": ids, "attention_mask": mask, **{name: tensor.contiguous() for name, tensor in padded.items()}},
              folder / "expected.safetensors")
    return sorted(made_up)


def make(folder, model_type, seed):
    """Writes one checkpoint; raises what transformers raises."""
    pick = random.Random(f"{model_type} {seed}")
    config, chosen = configuration(pick, model_type)
    kind = config["architectures"][0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cls = getattr(transformers, kind)
    dtype = pick.choice([torch.float32, torch.float32, torch.bfloat16])
    model = fill(cls(cls.config_class.from_dict(dict(config))), seed).to(dtype)
    model.save_pretrained(folder, max_shard_size=pick.choice(["5GB", "5GB", "8KB"]))
    mutation = mutate(folder, pick, config)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    made_up = expected(folder, kind, seed)
    (folder / "generation_config.json").unlink(missing_ok=True)
    case = dict(family=model_type, chosen={key: str(value) for key, value in chosen.items()}, dtype=str(dtype),
                mutation=mutation, made_up=made_up)
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def main(out, count="500", seed="0"):
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    families, seed, refused = sorted(FAMILIES), int(seed) * 1_000_000, 0
    for number in range(int(count)):
        model_type = families[number % len(families)]
        folder = Path(out) / f"{number:04}-{model_type}"
        while True:
            seed += 1
            try:
                make(folder, model_type, seed)
                break
            except Exception:
                refused += 1
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{count} configurations; {refused} more have no number of transformers")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 1 else sys.exit(__doc__)
