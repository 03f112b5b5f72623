//! Derives architecture, layer and component from the name of a tensor.
//!
//! Everything is in `TABLE`; a new architecture needs a few rows. Patterns match the last segments of a name, so that any prefix of a
//! wrapper (`bert.`, `model.`, `base_model.model.`) is accepted. The longest match wins.

use std::collections::{BTreeMap, BTreeSet};

/// A component of a transformer. The order is that of rows and series in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Component {
    Embeddings,
    AttentionQuery,
    AttentionKey,
    AttentionValue,
    /// Query, key and value in one matrix.
    AttentionQkv,
    AttentionOutput,
    Intermediate,
    /// The gate of a gated intermediate layer.
    Gate,
    Output,
    Norm,
    Bias,
    Pooler,
    Head,
    Other,
}

use Component::*;

impl Component {
    /// The name in tables and metadata.
    pub fn label(self) -> &'static str {
        match self {
            Embeddings => "embeddings",
            AttentionQuery => "attention.query",
            AttentionKey => "attention.key",
            AttentionValue => "attention.value",
            AttentionQkv => "attention.qkv",
            AttentionOutput => "attention.output",
            Intermediate => "intermediate",
            Gate => "gate",
            Output => "output",
            Norm => "norm",
            Bias => "bias",
            Pooler => "pooler",
            Head => "head",
            Other => "other",
        }
    }

    /// Whether this is a dense layer of a transformer block (the weights that the paper prunes).
    pub fn is_dense(self) -> bool {
        (AttentionQuery..=Output).contains(&self)
    }
}

/// Architectures with the same names of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Family {
    /// BERT, RoBERTa, ELECTRA, DeBERTa, MPNet.
    Bert,
    DistilBert,
    Albert,
    Gpt2,
    GptNeoX,
    Opt,
    /// Llama, Mistral, Mixtral, Qwen, Phi-3, Gemma, OLMo 2, SmolLM3, Granite, GLM-4.
    Llama,
    ModernBert,
    T5,
}

impl Family {
    /// The name in metadata.
    pub fn label(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::DistilBert => "distilbert",
            Family::Albert => "albert",
            Family::Gpt2 => "gpt2",
            Family::GptNeoX => "gpt-neox",
            Family::Opt => "opt",
            Family::Llama => "llama",
            Family::ModernBert => "modernbert",
            Family::T5 => "t5",
        }
    }
}

/// The dense layers of each family: the last segments of the module's name, without `.weight`. `*` matches a number.
const TABLE: &[(Family, Component, &str)] = &[
    (Family::Bert, AttentionQuery, "layer.*.attention.self.query"),
    (Family::Bert, AttentionKey, "layer.*.attention.self.key"),
    (Family::Bert, AttentionValue, "layer.*.attention.self.value"),
    (Family::Bert, AttentionOutput, "layer.*.attention.output.dense"),
    (Family::Bert, AttentionQuery, "layer.*.crossattention.self.query"),
    (Family::Bert, AttentionKey, "layer.*.crossattention.self.key"),
    (Family::Bert, AttentionValue, "layer.*.crossattention.self.value"),
    (Family::Bert, AttentionOutput, "layer.*.crossattention.output.dense"),
    (Family::Bert, Intermediate, "layer.*.intermediate.dense"),
    (Family::Bert, Output, "layer.*.output.dense"),
    // DeBERTa: joint in the first version; distances have layers of their own.
    (Family::Bert, AttentionQkv, "layer.*.attention.self.in_proj"),
    (Family::Bert, AttentionKey, "layer.*.attention.self.pos_proj"),
    (Family::Bert, AttentionQuery, "layer.*.attention.self.pos_q_proj"),
    (Family::Bert, AttentionQuery, "layer.*.attention.self.query_proj"),
    (Family::Bert, AttentionKey, "layer.*.attention.self.key_proj"),
    (Family::Bert, AttentionValue, "layer.*.attention.self.value_proj"),
    (Family::Bert, AttentionKey, "layer.*.attention.self.pos_key_proj"),
    (Family::Bert, AttentionQuery, "layer.*.attention.self.pos_query_proj"),
    // MPNet.
    (Family::Bert, AttentionQuery, "layer.*.attention.attn.q"),
    (Family::Bert, AttentionKey, "layer.*.attention.attn.k"),
    (Family::Bert, AttentionValue, "layer.*.attention.attn.v"),
    (Family::Bert, AttentionOutput, "layer.*.attention.attn.o"),
    (Family::DistilBert, AttentionQuery, "layer.*.attention.q_lin"),
    (Family::DistilBert, AttentionKey, "layer.*.attention.k_lin"),
    (Family::DistilBert, AttentionValue, "layer.*.attention.v_lin"),
    (Family::DistilBert, AttentionOutput, "layer.*.attention.out_lin"),
    (Family::DistilBert, Intermediate, "layer.*.ffn.lin1"),
    (Family::DistilBert, Output, "layer.*.ffn.lin2"),
    (Family::Albert, AttentionQuery, "albert_layers.*.attention.query"),
    (Family::Albert, AttentionKey, "albert_layers.*.attention.key"),
    (Family::Albert, AttentionValue, "albert_layers.*.attention.value"),
    (Family::Albert, AttentionOutput, "albert_layers.*.attention.dense"),
    (Family::Albert, Intermediate, "albert_layers.*.ffn"),
    (Family::Albert, Output, "albert_layers.*.ffn_output"),
    (Family::Gpt2, AttentionQkv, "h.*.attn.c_attn"),
    (Family::Gpt2, AttentionOutput, "h.*.attn.c_proj"),
    (Family::Gpt2, AttentionQuery, "h.*.crossattention.q_attn"),
    (Family::Gpt2, AttentionQkv, "h.*.crossattention.c_attn"),
    (Family::Gpt2, AttentionOutput, "h.*.crossattention.c_proj"),
    (Family::Gpt2, Intermediate, "h.*.mlp.c_fc"),
    (Family::Gpt2, Output, "h.*.mlp.c_proj"),
    (Family::GptNeoX, AttentionQkv, "layers.*.attention.query_key_value"),
    (Family::GptNeoX, AttentionOutput, "layers.*.attention.dense"),
    (Family::GptNeoX, Intermediate, "layers.*.mlp.dense_h_to_4h"),
    (Family::GptNeoX, Output, "layers.*.mlp.dense_4h_to_h"),
    (Family::Opt, AttentionQuery, "decoder.layers.*.self_attn.q_proj"),
    (Family::Opt, AttentionKey, "decoder.layers.*.self_attn.k_proj"),
    (Family::Opt, AttentionValue, "decoder.layers.*.self_attn.v_proj"),
    (Family::Opt, AttentionOutput, "decoder.layers.*.self_attn.out_proj"),
    (Family::Opt, Intermediate, "decoder.layers.*.fc1"),
    (Family::Opt, Output, "decoder.layers.*.fc2"),
    (Family::Llama, AttentionQuery, "layers.*.self_attn.q_proj"),
    (Family::Llama, AttentionKey, "layers.*.self_attn.k_proj"),
    (Family::Llama, AttentionValue, "layers.*.self_attn.v_proj"),
    (Family::Llama, AttentionQkv, "layers.*.self_attn.qkv_proj"),
    (Family::Llama, AttentionOutput, "layers.*.self_attn.o_proj"),
    (Family::Llama, Intermediate, "layers.*.mlp.up_proj"),
    (Family::Llama, Gate, "layers.*.mlp.gate_proj"),
    (Family::Llama, Gate, "layers.*.mlp.gate_up_proj"),
    (Family::Llama, Output, "layers.*.mlp.down_proj"),
    // The experts of Qwen and of Mixtral.
    (Family::Llama, Intermediate, "layers.*.mlp.experts.*.up_proj"),
    (Family::Llama, Gate, "layers.*.mlp.experts.*.gate_proj"),
    (Family::Llama, Output, "layers.*.mlp.experts.*.down_proj"),
    (Family::Llama, Intermediate, "layers.*.block_sparse_moe.experts.*.w3"),
    (Family::Llama, Gate, "layers.*.block_sparse_moe.experts.*.w1"),
    (Family::Llama, Output, "layers.*.block_sparse_moe.experts.*.w2"),
    (Family::ModernBert, AttentionQkv, "layers.*.attn.Wqkv"),
    (Family::ModernBert, AttentionOutput, "layers.*.attn.Wo"),
    // The gate and the other input of a gated layer.
    (Family::ModernBert, Gate, "layers.*.mlp.Wi"),
    (Family::ModernBert, Output, "layers.*.mlp.Wo"),
    (Family::T5, AttentionQuery, "block.*.layer.*.SelfAttention.q"),
    (Family::T5, AttentionKey, "block.*.layer.*.SelfAttention.k"),
    (Family::T5, AttentionValue, "block.*.layer.*.SelfAttention.v"),
    (Family::T5, AttentionOutput, "block.*.layer.*.SelfAttention.o"),
    (Family::T5, AttentionQuery, "block.*.layer.*.EncDecAttention.q"),
    (Family::T5, AttentionKey, "block.*.layer.*.EncDecAttention.k"),
    (Family::T5, AttentionValue, "block.*.layer.*.EncDecAttention.v"),
    (Family::T5, AttentionOutput, "block.*.layer.*.EncDecAttention.o"),
    (Family::T5, Intermediate, "block.*.layer.*.DenseReluDense.wi"),
    (Family::T5, Gate, "block.*.layer.*.DenseReluDense.wi_0"),
    (Family::T5, Intermediate, "block.*.layer.*.DenseReluDense.wi_1"),
    (Family::T5, Output, "block.*.layer.*.DenseReluDense.wo"),
];

/// Words in a name that determine the component of other tensors, in order of precedence: poolers and heads also have biases and norms.
const WORDS: &[(Component, &[&str])] = &[
    (Bias, &["bias", "masked_bias"]),
    (Norm, &["LayerNorm", "layer_norm", "layernorm", "norm", "ln_"]),
    (Embeddings, &["embed", "wte", "wpe", "shared", "relative_attention_bias"]),
    (Pooler, &["pooler"]),
    (
        Head,
        &[
            "lm_head",
            "cls",
            "classifier",
            "score",
            "vocab_",
            "generator_",
            "discriminator_",
            "predictions",
            "head.dense",
        ],
    ),
];

/// A layer: its index, and its stack in models that have two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer {
    /// Whether it belongs to the decoder of an encoder-decoder model.
    pub decoder: bool,
    /// Index of the layer in its stack.
    pub index: u32,
}

/// The position of a tensor in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The layer; `None` for embeddings, heads and other tensors outside of layers.
    pub layer: Option<Layer>,
    /// The component.
    pub component: Component,
}

/// The name of a layer in tables and metadata: `3`, `decoder.3`, or `-` outside of layers.
pub fn layer_label(layer: Option<Layer>) -> String {
    match layer {
        None => "-".to_owned(),
        Some(Layer { decoder: false, index }) => index.to_string(),
        Some(Layer { decoder: true, index }) => format!("decoder.{index}"),
    }
}

/// Whether models tie a tensor with this name to their embeddings or to the bias of their head, so that it need not be stored
/// (`_tied_weights_keys` of transformers).
pub fn is_tied_head(name: &str) -> bool {
    let tied = [
        "lm_head.weight",
        "embed_out.weight",
        "predictions.decoder.weight",
        "predictions.decoder.bias",
        "lm_head.decoder.weight",
        "lm_head.decoder.bias",
        "vocab_projector.weight",
        "generator_lm_head.weight",
    ];
    let is_tied =
        tied.iter().any(|end| name.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('.')));
    is_tied || name == DECODER_WEIGHT
}

/// The names of ModernBERT's head over the vocabulary. With a prefix, they are those of a decoder.
const DECODER_WEIGHT: &str = "decoder.weight";
const DECODER_BIAS: &str = "decoder.bias";

/// Whether a tensor with this name belongs to a LoRA adapter, as PEFT names them.
pub fn is_of_adapter(name: &str) -> bool {
    name.split('.').any(|segment| {
        ["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"].contains(&segment)
    })
}

/// Recognizes the family by the names of its dense layers. They must include attention output, output, and at least two other components.
pub fn recognize<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Family> {
    let mut components_of: BTreeMap<Family, BTreeSet<Component>> = BTreeMap::new();
    for name in names {
        if let Some((family, component)) = dense(name) {
            components_of.entry(family).or_default().insert(component);
        }
    }
    let complete = components_of.into_iter().find(|(_, components)| {
        components.contains(&AttentionOutput) && components.contains(&Output) && components.len() >= 4
    });
    complete.map(|(family, _)| family)
}

/// Whether a tensor of `rank` dimensions is the weight matrix of a dense layer of a transformer block.
pub fn is_encoder_dense(name: &str, rank: usize) -> bool {
    rank == 2 && dense(name).is_some()
}

/// The position of the tensor named `name`.
pub fn place(name: &str) -> Place {
    let segments: Vec<&str> = name.split('.').collect();
    let component = dense(name).map_or_else(|| component_by_word(name), |(_, component)| component);
    Place { layer: layer(&segments), component }
}

/// The component of a tensor that is not the weight of a dense layer.
fn component_by_word(name: &str) -> Component {
    if name == DECODER_WEIGHT {
        return Head;
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    for (component, words) in WORDS {
        let matches = match component {
            Bias => words.contains(&last),
            // No word has a dot, so a word in the name is a word in a segment.
            _ => words.iter().any(|word| name.contains(word)),
        };
        if matches {
            return *component;
        }
    }
    Other
}

/// The position of the module that a tensor belongs to: as [`place`], but a bias has the component of its module.
pub fn owner(name: &str) -> Place {
    match name.strip_suffix(".bias").or_else(|| name.strip_suffix(".beta")) {
        Some(module) => place(&format!("{module}.weight")),
        None => place(name),
    }
}

/// Words in the names of heads that have a row per token of the vocabulary.
const VOCABULARY_HEADS: [&str; 3] = ["lm_head", "predictions", "vocab_"];

/// Whether a tensor with this name may have a row per token of the vocabulary: embeddings, language model heads, and their biases.
pub fn is_of_vocabulary(name: &str) -> bool {
    match owner(name).component {
        Embeddings => true,
        _ if [DECODER_WEIGHT, DECODER_BIAS].contains(&name) => true,
        // Includes biases whose module has no other tensor (`cls.predictions.bias`), but not heads over labels.
        Head | Bias => VOCABULARY_HEADS.iter().any(|head| name.contains(head)),
        _ => false,
    }
}

/// Suffixes of names for the same weight: in checkpoints converted from TensorFlow and later ones, and with weight norm before and after
/// torch's parametrizations.
const ALIASES: [(&str, &str); 4] = [
    (".gamma", ".weight"),
    (".beta", ".bias"),
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
];

/// The other name that libraries use for the weight named `name`, if there is one. `gamma` and `beta` are names in layer norms only.
pub fn alias(name: &str) -> Option<String> {
    for (old, new) in ALIASES {
        let (module, suffix) = match (name.strip_suffix(old), name.strip_suffix(new)) {
            (Some(module), _) => (module, new),
            (None, Some(module)) => (module, old),
            (None, None) => continue,
        };
        let is_norm = module.rsplit('.').next().is_some_and(|last| ["LayerNorm", "layer_norm"].contains(&last));
        if is_norm || old.starts_with(".weight_") {
            return Some(format!("{module}{suffix}"));
        }
    }
    None
}

/// The family and component of a weight of a dense layer. `weight_orig`, the name of a weight that torch prunes, counts too.
fn dense(name: &str) -> Option<(Family, Component)> {
    let module = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".weight_orig"))?;
    let rows = TABLE.iter().filter(|(_, _, pattern)| ends_with(module, pattern));
    rows.max_by_key(|(_, _, pattern)| pattern.len()).map(|(family, component, _)| (*family, *component))
}

fn ends_with(module: &str, pattern: &str) -> bool {
    // Fast checks that rule out most patterns. They are valid because no pattern ends with `*`.
    if module.as_bytes().last() != pattern.as_bytes().last() {
        return false;
    }
    let literal = pattern.rsplit_once('*').map_or(pattern, |(_, end)| end);
    if !module.ends_with(literal) {
        return false;
    }
    let mut segments = module.rsplit('.');
    pattern.rsplit('.').all(|wanted| {
        segments.next().is_some_and(|found| if wanted == "*" { is_number(found) } else { found == wanted })
    })
}

/// The layer: the first number that follows the name of a list of layers.
fn layer(segments: &[&str]) -> Option<Layer> {
    const LISTS: [&str; 6] = ["layer", "layers", "h", "block", "blocks", "albert_layer_groups"];
    let at = segments.windows(2).position(|pair| LISTS.contains(&pair[0]) && is_number(pair[1]))?;
    let index = segments[at + 1].parse().ok()?;
    // `decoder.block` (T5) is one of two stacks; `model.decoder.layers` (OPT) is the only one.
    let decoder = segments[..at].contains(&"decoder") && segments[at] == "block";
    Some(Layer { decoder, index })
}

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names from state dicts of transformers 5.23: one block of each family, with and without the prefix of a model with a head.
    const REAL: &[(Family, &[(&str, Component)])] = &[
        (
            Family::Bert,
            &[
                ("bert.encoder.layer.0.attention.self.query.weight", AttentionQuery),
                ("bert.encoder.layer.0.attention.self.key.weight", AttentionKey),
                ("bert.encoder.layer.0.attention.self.value.weight", AttentionValue),
                ("encoder.layer.11.attention.output.dense.weight", AttentionOutput),
                ("roberta.encoder.layer.0.intermediate.dense.weight", Intermediate),
                ("electra.encoder.layer.0.output.dense.weight", Output),
            ],
        ),
        (
            Family::DistilBert,
            &[
                ("distilbert.transformer.layer.0.attention.q_lin.weight", AttentionQuery),
                ("transformer.layer.0.attention.k_lin.weight", AttentionKey),
                ("transformer.layer.0.attention.v_lin.weight", AttentionValue),
                ("transformer.layer.0.attention.out_lin.weight", AttentionOutput),
                ("transformer.layer.0.ffn.lin1.weight", Intermediate),
                ("transformer.layer.0.ffn.lin2.weight", Output),
            ],
        ),
        (
            Family::Albert,
            &[
                ("albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight", AttentionQuery),
                ("encoder.albert_layer_groups.0.albert_layers.0.attention.key.weight", AttentionKey),
                ("encoder.albert_layer_groups.0.albert_layers.0.attention.value.weight", AttentionValue),
                ("encoder.albert_layer_groups.0.albert_layers.0.attention.dense.weight", AttentionOutput),
                ("encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", Intermediate),
                ("encoder.albert_layer_groups.0.albert_layers.0.ffn_output.weight", Output),
            ],
        ),
        (
            Family::Gpt2,
            &[
                ("transformer.h.0.attn.c_attn.weight", AttentionQkv),
                ("h.0.attn.c_proj.weight", AttentionOutput),
                ("h.0.mlp.c_fc.weight", Intermediate),
                ("h.0.mlp.c_proj.weight", Output),
            ],
        ),
        (
            Family::GptNeoX,
            &[
                ("gpt_neox.layers.0.attention.query_key_value.weight", AttentionQkv),
                ("gpt_neox.layers.0.attention.dense.weight", AttentionOutput),
                ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", Intermediate),
                ("layers.0.mlp.dense_4h_to_h.weight", Output),
            ],
        ),
        (
            Family::Opt,
            &[
                ("model.decoder.layers.0.self_attn.q_proj.weight", AttentionQuery),
                ("decoder.layers.0.self_attn.k_proj.weight", AttentionKey),
                ("decoder.layers.0.self_attn.v_proj.weight", AttentionValue),
                ("decoder.layers.0.self_attn.out_proj.weight", AttentionOutput),
                ("model.decoder.layers.0.fc1.weight", Intermediate),
                ("model.decoder.layers.0.fc2.weight", Output),
            ],
        ),
        (
            Family::Llama,
            &[
                ("model.layers.0.self_attn.q_proj.weight", AttentionQuery),
                ("layers.0.self_attn.k_proj.weight", AttentionKey),
                ("base_model.model.model.layers.0.self_attn.v_proj.weight", AttentionValue),
                ("model.layers.0.self_attn.o_proj.weight", AttentionOutput),
                ("model.layers.0.mlp.gate_proj.weight", Gate),
                ("model.layers.0.mlp.up_proj.weight", Intermediate),
                ("model.layers.0.mlp.down_proj.weight", Output),
            ],
        ),
        (
            Family::Llama,
            &[
                ("model.layers.0.self_attn.qkv_proj.weight", AttentionQkv),
                ("model.layers.0.self_attn.o_proj.weight", AttentionOutput),
                ("model.layers.0.mlp.gate_up_proj.weight", Gate),
                ("model.layers.0.mlp.down_proj.weight", Output),
            ],
        ),
        (
            Family::Llama,
            &[
                ("model.layers.0.self_attn.q_proj.weight", AttentionQuery),
                ("model.layers.0.self_attn.o_proj.weight", AttentionOutput),
                ("model.layers.0.mlp.experts.0.gate_proj.weight", Gate),
                ("model.layers.0.mlp.experts.11.up_proj.weight", Intermediate),
                ("model.layers.0.mlp.experts.0.down_proj.weight", Output),
                ("model.layers.0.block_sparse_moe.experts.0.w1.weight", Gate),
                ("model.layers.0.block_sparse_moe.experts.0.w3.weight", Intermediate),
                ("model.layers.0.block_sparse_moe.experts.0.w2.weight", Output),
            ],
        ),
        (
            Family::ModernBert,
            &[
                ("model.layers.0.attn.Wqkv.weight", AttentionQkv),
                ("layers.0.attn.Wo.weight", AttentionOutput),
                ("model.layers.0.mlp.Wi.weight", Gate),
                ("layers.0.mlp.Wo.weight", Output),
            ],
        ),
        (
            Family::Bert,
            &[
                ("deberta.encoder.layer.0.attention.self.in_proj.weight", AttentionQkv),
                ("deberta.encoder.layer.0.attention.self.pos_proj.weight", AttentionKey),
                ("deberta.encoder.layer.0.attention.self.pos_q_proj.weight", AttentionQuery),
                ("deberta.encoder.layer.0.attention.self.query_proj.weight", AttentionQuery),
                ("encoder.layer.0.attention.self.key_proj.weight", AttentionKey),
                ("encoder.layer.0.attention.self.value_proj.weight", AttentionValue),
                ("deberta.encoder.layer.0.attention.output.dense.weight", AttentionOutput),
                ("deberta.encoder.layer.0.output.dense.weight", Output),
            ],
        ),
        (
            Family::Bert,
            &[
                ("mpnet.encoder.layer.0.attention.attn.q.weight", AttentionQuery),
                ("mpnet.encoder.layer.0.attention.attn.k.weight", AttentionKey),
                ("encoder.layer.0.attention.attn.v.weight", AttentionValue),
                ("encoder.layer.0.attention.attn.o.weight", AttentionOutput),
                ("mpnet.encoder.layer.0.intermediate.dense.weight", Intermediate),
                ("mpnet.encoder.layer.0.output.dense.weight", Output),
            ],
        ),
        (
            Family::T5,
            &[
                ("encoder.block.0.layer.0.SelfAttention.q.weight", AttentionQuery),
                ("decoder.block.0.layer.1.EncDecAttention.k.weight", AttentionKey),
                ("decoder.block.0.layer.0.SelfAttention.o.weight", AttentionOutput),
                ("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", Gate),
                ("encoder.block.0.layer.1.DenseReluDense.wi_1.weight", Intermediate),
                ("encoder.block.0.layer.1.DenseReluDense.wo.weight", Output),
            ],
        ),
    ];

    #[test]
    fn every_family_and_its_dense_layers_are_recognized() {
        for (family, names) in REAL {
            assert_eq!(recognize(names.iter().map(|(name, _)| *name)), Some(*family));
            for (name, component) in *names {
                assert_eq!(place(name).component, *component, "{name}");
                assert!(component.is_dense() && is_encoder_dense(name, 2) && !is_encoder_dense(name, 1), "{name}");
                assert!(is_encoder_dense(&name.replace(".weight", ".weight_orig"), 2), "{name}");
            }
        }
    }

    #[test]
    fn other_tensors_are_not_dense_layers() {
        let others = [
            ("bert.embeddings.word_embeddings.weight", Embeddings),
            ("electra.embeddings_project.weight", Embeddings),
            ("bert.encoder.layer.0.attention.output.dense.bias", Bias),
            ("bert.encoder.layer.0.attention.output.LayerNorm.weight", Norm),
            ("bert.pooler.dense.weight", Pooler),
            ("cls.predictions.transform.dense.weight", Head),
            ("discriminator_predictions.dense.weight", Head),
            ("transformer.h.0.attn.bias", Bias),
            ("transformer.h.0.ln_1.weight", Norm),
            ("transformer.wte.weight", Embeddings),
            ("model.layers.0.input_layernorm.weight", Norm),
            ("model.layers.0.self_attn.q_norm.weight", Norm),
            ("model.layers.0.self_attn.q_proj.bias", Bias),
            ("lm_head.weight", Head),
            ("shared.weight", Embeddings),
            ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", Embeddings),
            ("decoder.weight", Head),
            ("head.dense.weight", Head),
            ("model.embeddings.tok_embeddings.weight", Embeddings),
            ("model.layers.0.block_sparse_moe.gate.weight", Other),
            ("model.layers.0.mlp.gate.weight", Other),
            ("deberta.encoder.rel_embeddings.weight", Embeddings),
            ("conv.weight", Other),
        ];
        for (name, component) in others {
            assert_eq!(place(name).component, component, "{name}");
            assert!(!is_encoder_dense(name, 2), "{name}");
        }
        assert_eq!(recognize(others.map(|(name, _)| name)), None);
    }

    #[test]
    fn vocabulary_heads_and_label_heads_are_distinguished() {
        let of_vocabulary = [
            "bert.embeddings.word_embeddings.weight",
            "transformer.wte.weight",
            "model.embed_tokens.weight",
            "shared.weight",
            "lm_head.weight",
            "lm_head.bias",
            "cls.predictions.bias",
            "cls.predictions.decoder.weight",
            "vocab_projector.bias",
            "decoder.weight",
            "decoder.bias",
        ];
        assert_eq!(of_vocabulary.iter().find(|name| !is_of_vocabulary(name)), None);
        let others = [
            "classifier.weight",
            "classifier.bias",
            "score.weight",
            "bert.embeddings.LayerNorm.weight",
            "bert.pooler.dense.bias",
            "model.layers.0.mlp.up_proj.weight",
        ];
        assert_eq!(others.iter().find(|name| is_of_vocabulary(name)), None);
    }

    #[test]
    fn layers_are_numbered_and_stacks_distinguished() {
        let label = |name| layer_label(place(name).layer);
        assert_eq!(label("bert.encoder.layer.11.output.dense.weight"), "11");
        assert_eq!(label("model.decoder.layers.3.fc1.weight"), "3");
        assert_eq!(label("decoder.block.2.layer.1.EncDecAttention.q.weight"), "decoder.2");
        assert_eq!(label("encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"), "0");
        assert_eq!(label("bert.embeddings.word_embeddings.weight"), "-");
    }
}
