use super::*;
use crate::message::StringStringEntryProto;

fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto { key: (*key).into(), value: (*value).into() };
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float.into(),
        data_location: DataLocation::External.into(),
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    }
}

fn raw(name: &str, dims: &[i64], bytes: usize) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float.into(),
        raw_data: Some((0..bytes).map(|at| at as u8).collect::<Vec<u8>>().into()),
        ..Default::default()
    }
}

/// Opens a model with these initializers, in a folder `model` with a file `weights` of 100 bytes beside it.
fn open(initializer: Vec<TensorProto>) -> Result<OnnxFile, Malformed> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model").join("model.onnx");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(path.with_file_name("weights"), [7; 100]).unwrap();
    std::fs::write(folder.path().join("secret"), [7; 100]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("secret"), path.with_file_name("link")).unwrap();
    let graph = GraphProto { initializer, ..Default::default() };
    std::fs::write(&path, ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()).unwrap();
    OnnxFile::open(&path).map_err(|error| match error {
        OpenError::Malformed { reason, .. } => reason,
        error => panic!("{error}"),
    })
}

#[test]
fn an_export_is_listed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx/model.onnx");
    let file = OnnxFile::open(&path).unwrap();
    let names = |values: &[ValueInfoProto]| values.iter().map(|value| value.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&file.inputs), ["input_ids", "attention_mask", "token_type_ids"]);
    assert_eq!(names(&file.outputs), ["logits"]);
    assert_eq!(file.opset_import[0].version, 17);
    assert_eq!(file.initializers.len(), 36);
    let first = &file.initializers[0];
    assert_eq!(first.name, "model.bert.embeddings.word_embeddings.weight");
    assert_eq!((first.dtype, &first.shape[..]), (Some(Dtype::F32), &[61, 16][..]));
    // The place is right if the bytes there are the checkpoint's.
    let ElementLocation::Embedded(range) = first.location.clone() else { panic!("{first:?}") };
    let bytes = std::fs::read(&path).unwrap();
    let checkpoint = lcepatch_files::checkpoint::Checkpoint::open(path.with_file_name("model.safetensors")).unwrap();
    let tensor = checkpoint.tensor("bert.embeddings.word_embeddings.weight").unwrap();
    assert_eq!(bytes[range.start as usize..range.end as usize], *tensor.elements(0..61 * 16));
}

#[test]
fn weights_may_be_in_files_of_the_folder() {
    let offset = [("location", "weights"), ("offset", "3"), ("length", "24"), ("checksum", "x")];
    let file = open(vec![
        raw("a", &[2, 3], 24),
        external("b", &[2, 3], &offset),
        external("c", &[25], &[("location", "./weights")]),
        external("d", &[0], &[("location", "weights"), ("offset", "100")]),
    ])
    .unwrap();
    let places: Vec<Option<Range<u64>>> = file
        .initializers
        .iter()
        .map(|initializer| match &initializer.location {
            ElementLocation::External { range, .. } => Some(range.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(places, [None, Some(3..27), Some(0..100), Some(100..100)]);
    assert_eq!(file.tensors().map(|tensor| tensor.info.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(file.tensors().nth(1).unwrap().elements(0..6), [7; 24]);
}

#[test]
fn what_is_not_bytes_is_only_listed() {
    let list = TensorProto { raw_data: None, float_data: vec![1.0, 2.0], ..raw("list", &[2], 0) };
    let text = TensorProto { data_type: DataType::String.into(), ..raw("text", &[2], 0) };
    let unknown = TensorProto { data_type: 999, ..raw("unknown", &[2], 0) };
    let file = open(vec![list, text, unknown]).unwrap();
    assert!(file.initializers.iter().all(|initializer| initializer.location == ElementLocation::Unbindable));
    assert_eq!(file.initializers.iter().map(|it| it.dtype).collect::<Vec<_>>(), [Some(Dtype::F32), None, None]);
    assert_eq!(file.tensors().count(), 0);
}

#[test]
fn files_outside_the_folder_are_refused() {
    let mut locations = vec!["../secret", "/etc/passwd", "a/../../secret", ".."];
    if cfg!(unix) {
        locations.push("link");
    }
    for location in locations {
        let reason = open(vec![external("w", &[2], &[("location", location)])]).unwrap_err();
        assert_eq!(reason, Malformed::Outside { initializer: "w".to_owned(), location: location.to_owned() });
    }
}

#[test]
fn bytes_must_fit_the_shape_and_the_file() {
    let w = || "w".to_owned();
    let length = |found, expected| Malformed::Length { initializer: w(), found, expected };
    let shape = |shape: &[i64]| Malformed::Shape { initializer: w(), shape: shape.to_vec() };
    let at = |entries: &[(&str, &str)]| external("w", &[2, 3], &[&[("location", "weights")], entries].concat());
    let wrong = |key, value: &str| Malformed::External { initializer: w(), key, value: value.to_owned() };
    let beyond = |end| Malformed::Beyond { initializer: w(), location: "weights".to_owned(), end, bytes: 100 };
    let cases = [
        (raw("w", &[2, 3], 23), length(23, 24)),
        (raw("w", &[-1], 0), shape(&[-1])),
        (raw("w", &[1 << 32, 1 << 32], 0), shape(&[1 << 32, 1 << 32])),
        (raw("w", &[1 << 62], 0), shape(&[1 << 62])),
        (at(&[("length", "23")]), length(23, 24)),
        (at(&[("offset", "77")]), beyond(101)),
        (at(&[("offset", "18446744073709551615")]), beyond(u64::MAX)),
        (at(&[("offset", "-1")]), wrong("offset", "-1")),
        (at(&[("length", "many")]), wrong("length", "many")),
        (external("w", &[2], &[]), wrong("location", "")),
    ];
    for (tensor, reason) in cases {
        assert_eq!(open(vec![tensor]).unwrap_err(), reason);
    }
    let twice = Malformed::Twice { initializer: w() };
    assert_eq!(open(vec![raw("w", &[1], 4), raw("w", &[1], 4)]).unwrap_err(), twice);
}

#[test]
fn no_prefix_of_a_file_is_a_model_and_no_flipped_bit_leads_out_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let graph = GraphProto { initializer: vec![raw("a", &[2], 8), raw("b", &[2], 8)], ..Default::default() };
    let bytes = ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
    for end in 0..bytes.len() {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert!(OnnxFile::open(&path).is_err(), "{end}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bytes).unwrap();
        // No panic, and what it lists lies in the file.
        if let Ok(file) = OnnxFile::open(&path) {
            assert!(file.tensors().all(|tensor| tensor.info.range().end <= tensor.file.bytes()));
        }
    }
}
