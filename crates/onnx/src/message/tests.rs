use super::*;

fn tensor_type(elem_type: DataType, axes: Vec<DimensionValue>) -> TypeProto {
    let dim = axes.into_iter().map(|axis| Dimension { value: Some(axis), ..Default::default() }).collect();
    let shape = Some(TensorShapeProto { dim });
    TypeProto {
        value: Some(TypeValue::Tensor(TensorType { elem_type: elem_type.into(), shape })),
        ..Default::default()
    }
}

/// `y = x @ w + b`, then a softmax over axis 0.
fn model() -> ModelProto {
    let value = |name: &str, columns: i64| ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(tensor_type(
            DataType::Float,
            vec![DimensionValue::Name("batch".to_owned()), DimensionValue::Size(columns)],
        )),
        ..Default::default()
    };
    let node = |op_type: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>| NodeProto {
        op_type: op_type.to_owned(),
        input: input.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..Default::default()
    };
    // Zero must be written: an attribute without its value is malformed.
    let axis =
        AttributeProto { name: "axis".to_owned(), r#type: AttributeType::Int.into(), i: Some(0), ..Default::default() };
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let weights = TensorProto {
        name: "w".to_owned(),
        dims: vec![3, 2],
        data_type: DataType::Float.into(),
        raw_data: Some(bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).into()),
        ..Default::default()
    };
    let bias = TensorProto {
        name: "b".to_owned(),
        dims: vec![2],
        data_type: DataType::Float.into(),
        float_data: vec![0.5, -0.5],
        ..Default::default()
    };
    let graph = GraphProto {
        name: "linear".to_owned(),
        node: vec![
            node("MatMul", &["x", "w"], "xw", vec![]),
            node("Add", &["xw", "b"], "logits", vec![]),
            node("Softmax", &["logits"], "y", vec![axis]),
        ],
        initializer: vec![weights, bias],
        input: vec![value("x", 3)],
        output: vec![value("y", 2)],
        ..Default::default()
    };
    ModelProto {
        ir_version: 8,
        producer_name: "lcepatch".to_owned(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..Default::default()
    }
}

#[test]
fn what_is_written_is_read_back() {
    let model = model();
    let bytes = Bytes::from(model.encode_to_vec());
    assert_eq!(ModelProto::decode(bytes).unwrap(), model);
}

#[test]
fn raw_data_is_a_view_of_what_it_is_read_from() {
    let bytes = Bytes::from(model().encode_to_vec());
    let whole = bytes.as_ptr_range();
    let read = ModelProto::decode(bytes.clone()).unwrap();
    let weights = read.graph.unwrap().initializer.swap_remove(0).raw_data.unwrap();
    assert!(whole.contains(&weights.as_ptr()));
}

#[test]
fn an_attribute_of_zero_is_written() {
    let zero = AttributeProto { i: Some(0), ..Default::default() };
    assert_eq!(zero.encode_to_vec(), [3 << 3, 0]);
}

#[test]
fn nesting_is_bounded() {
    // A graph in an attribute of a node of a graph, a thousand times.
    let mut graph = GraphProto::default();
    for _ in 0..1000 {
        let attribute = AttributeProto { g: Some(graph), ..Default::default() };
        let node = NodeProto { attribute: vec![attribute], ..Default::default() };
        graph = GraphProto { node: vec![node], ..Default::default() };
    }
    // Built and encoded on this thread's stack; only reading is bounded.
    let bytes = ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
    assert!(ModelProto::decode(&bytes[..]).is_err());
}
