use super::*;
use crate::message::{DataType, GraphProto, ModelProto, TensorProto};
use prost::Message;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx").join(name)
}

fn names(sources: &[BoundTensor]) -> Vec<&str> {
    sources.iter().map(|source| source.tensor.as_str()).collect()
}

#[test]
fn every_weight_of_an_export_is_bound() {
    let file = OnnxFile::open(&fixture("model.onnx")).unwrap();
    let checkpoint = Checkpoint::open(fixture("model.safetensors")).unwrap();
    let bindings = bind(&file, &checkpoint, &Context::silent()).unwrap();
    assert_eq!(bindings.unbound_initializers, [""; 0]);
    assert_eq!(bindings.unbound_tensors, [""; 0]);
    let bound = |name: &str| bindings.bound.iter().find(|binding| binding.initializer == name).unwrap();
    // Where the exporter kept a name, it is the same one behind the wrapper's prefix.
    for binding in bindings.bound.iter().filter(|binding| binding.alternatives.is_empty()) {
        if let Some(name) = binding.initializer.strip_prefix("model.") {
            assert_eq!(binding.source, BoundTensor { transposed: false, tensor: name.to_owned() });
        }
    }
    // Twelve dense layers of the encoder and two of the head, whose decoder is tied to the embeddings.
    let transposed: Vec<&Binding> = bindings.bound.iter().filter(|binding| binding.source.transposed).collect();
    let mut tensors: Vec<&str> = transposed.iter().map(|binding| binding.source.tensor.as_str()).collect();
    tensors.sort_unstable();
    assert_eq!(tensors.len(), 14);
    assert_eq!(tensors[0], "bert.embeddings.word_embeddings.weight");
    assert!(transposed.iter().all(|binding| binding.alternatives.is_empty()));
    let encoder = tensors.iter().filter(|name| name.starts_with("bert.encoder.layer.") && name.ends_with(".weight"));
    assert_eq!(encoder.count(), 12);
    assert!(!bound("model.bert.embeddings.word_embeddings.weight").source.transposed);
    // The zero biases of layer 1 were written once.
    let zeros = bound("model.bert.encoder.layer.1.attention.self.query.bias");
    assert_eq!(zeros.source.tensor, "bert.encoder.layer.1.attention.output.LayerNorm.bias");
    assert_eq!(zeros.alternatives.len(), 6);
    assert!(names(&zeros.alternatives).contains(&"bert.encoder.layer.1.attention.self.query.bias"));
}

/// A file in a scratch directory with these matrices, and a checkpoint with those.
fn bound(initializers: &[(&str, [u64; 2], &[f32])], tensors: &[(&str, [u64; 2], &[f32])]) -> Bindings {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let initializer = initializers.iter().map(|(name, shape, values)| TensorProto {
        name: (*name).to_owned(),
        dims: shape.iter().map(|dim| *dim as i64).collect(),
        data_type: DataType::Float.into(),
        raw_data: Some(bytes(values).into()),
        ..Default::default()
    });
    let graph = GraphProto { initializer: initializer.collect(), ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()).unwrap();
    let owned: Vec<(Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(_, shape, values)| (shape.iter().map(|dim| *dim as usize).collect(), bytes(values)))
        .collect();
    let views = tensors.iter().zip(&owned).map(|((name, ..), (shape, bytes))| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (*name, view.unwrap())
    });
    let checkpoint = safetensors::serialize(views, None).unwrap();
    let checkpoint = Checkpoint::from_bytes(Path::new("checkpoint"), checkpoint).unwrap();
    bind(&OnnxFile::open(&path).unwrap(), &checkpoint, &Context::silent()).unwrap()
}

fn source(tensor: &str, transposed: bool) -> BoundTensor {
    BoundTensor { transposed, tensor: tensor.to_owned() }
}

#[test]
fn a_transpose_is_one_only_if_every_element_is() {
    let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let transpose = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0];
    let other = [1.0, 4.0, 2.0, 5.0, 3.0, 7.0];
    let bindings =
        bound(&[("a", [3, 2], &transpose), ("b", [3, 2], &other)], &[("w", [2, 3], &weights), ("x", [1, 1], &[0.0])]);
    let a = Binding { initializer: "a".to_owned(), source: source("w", true), alternatives: vec![] };
    assert_eq!(bindings.bound, [a]);
    assert_eq!((bindings.unbound_initializers, bindings.unbound_tensors), (vec!["b".to_owned()], vec!["x".to_owned()]));
}

#[test]
fn a_symmetric_matrix_may_be_either() {
    let bindings = bound(&[("a", [2, 2], &[1.0, 2.0, 2.0, 1.0])], &[("w", [2, 2], &[1.0, 2.0, 2.0, 1.0])]);
    assert_eq!(bindings.bound[0].source, source("w", false));
    assert_eq!(bindings.bound[0].alternatives, [source("w", true)]);
}

#[test]
fn equal_tensors_are_alternatives_and_signed_zeros_are_not_equal() {
    let zeros: &[f32] = &[0.0; 6];
    let tensors = [
        ("u", [2, 3], zeros),
        ("v", [3, 2], zeros),
        ("w", [2, 3], zeros),
        ("z", [2, 3], &[-0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ];
    let bindings = bound(&[("a", [3, 2], zeros)], &tensors);
    assert_eq!(bindings.bound[0].source, source("u", false));
    let alternatives = [source("v", false), source("w", false), source("u", true), source("w", true)];
    assert_eq!(bindings.bound[0].alternatives, alternatives);
    assert_eq!(bindings.unbound_tensors, ["z"]);
}

#[test]
fn tiles_cover_the_whole_of_a_large_matrix() {
    let (rows, columns) = (70, 131);
    let weights: Vec<f32> = (0..rows * columns).map(|at| at as f32).collect();
    let mut transpose: Vec<f32> = (0..rows * columns).map(|at| weights[(at % rows) * columns + at / rows]).collect();
    let shapes = [[rows as u64, columns as u64], [columns as u64, rows as u64]];
    let bindings = bound(&[("a", shapes[1], &transpose)], &[("w", shapes[0], &weights)]);
    assert_eq!(bindings.bound[0].source, source("w", true));
    *transpose.last_mut().unwrap() += 1.0;
    let bindings = bound(&[("a", shapes[1], &transpose)], &[("w", shapes[0], &weights)]);
    assert_eq!(bindings.unbound_initializers, ["a"]);
}

#[test]
fn names_tell_equal_tensors_apart_only_if_each_has_an_initializer() {
    let zeros = [0.0; 4];
    let tensors: [(&str, [u64; 2], &[f32]); 2] = [("a.bias", [2, 2], &zeros), ("b.bias", [2, 2], &zeros)];
    let bindings = bound(&[("model.b.bias", [2, 2], &zeros), ("a.bias", [2, 2], &zeros)], &tensors);
    assert!(bindings.bound.iter().all(|binding| binding.alternatives.is_empty()));
    assert_eq!([0, 1].map(|at| &bindings.bound[at].source.tensor[..]), ["b.bias", "a.bias"]);
    // An exporter that writes equal tensors once keeps one of the names.
    let bindings = bound(&[("a.bias", [2, 2], &zeros)], &tensors);
    assert!(bindings.bound[0].alternatives.iter().any(|source| source.tensor == "b.bias"));
}
