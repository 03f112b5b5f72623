//! Builds an ONNX graph from nodes, constants and weights.

use crate::model::ModelFault;
use crate::model::config::Config;
use lcepatch_files::checkpoint::Checkpoint;
use lcepatch_format::dtype::Dtype;
use lcepatch_onnx::message::{
    AttributeProto, AttributeType, DataLocation, DataType, Dimension, DimensionValue, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorType, TypeProto,
    TypeValue, ValueInfoProto,
};
use prost::bytes::Bytes;
use std::collections::BTreeMap;

/// Operator set 20 (ONNX 1.15) has `Gelu` and `LayerNormalization`, and every runtime of the last years has it.
const OPERATOR_SET: i64 = 20;
const IR_VERSION: i64 = 9;

/// The path of a weight file, relative to the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(pub String);

/// A value of the graph, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value(String);

/// The value of an attribute.
pub(super) enum Attribute {
    Float(f32),
    Int(i64),
    Ints(Vec<i64>),
    Text(&'static str),
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// A graph under construction.
pub(super) struct Builder<'a> {
    checkpoint: &'a Checkpoint,
    model_type: &'a str,
    locate: &'a dyn Fn(usize) -> Location,
    graph: GraphProto,
    weights: BTreeMap<String, Value>,
    constants: BTreeMap<String, Value>,
    values: usize,
    ids: Value,
    mask: Value,
    shape: Value,
}

impl<'a> Builder<'a> {
    /// An empty graph with the inputs `input_ids` and `attention_mask`.
    pub fn new(config: &'a Config, checkpoint: &'a Checkpoint, locate: &'a dyn Fn(usize) -> Location) -> Self {
        let graph = GraphProto { name: config.model_type().to_owned(), ..GraphProto::default() };
        let nothing = || Value(String::new());
        let mut builder = Self {
            checkpoint,
            model_type: config.model_type(),
            locate,
            graph,
            weights: BTreeMap::new(),
            constants: BTreeMap::new(),
            values: 0,
            ids: nothing(),
            mask: nothing(),
            shape: nothing(),
        };
        builder.ids = builder.input("input_ids", &["batch", "sequence"]);
        builder.mask = builder.input("attention_mask", &["batch", "sequence"]);
        builder.shape = builder.op("Shape", &[&builder.ids.clone()], &[]);
        builder
    }

    /// The input `input_ids`, `[B, S]`.
    pub fn ids(&self) -> Value {
        self.ids.clone()
    }

    /// The input `attention_mask`, `[B, S]`: 1 for tokens, 0 for padding.
    pub fn mask(&self) -> Value {
        self.mask.clone()
    }

    /// The length of the batch's longest sequence, `[1]`.
    pub fn sequence_length(&mut self) -> Value {
        let shape = self.shape.clone();
        self.slice(&shape, 0, 1, 2)
    }

    /// The shape `[B, S, rest...]` as a value.
    pub fn batch_and_sequence_and(&mut self, rest: &[i64]) -> Value {
        self.once(&format!("batch and sequence and {rest:?}"), |builder| {
            let rest = builder.integers(rest);
            let shape = builder.shape.clone();
            builder.op("Concat", &[&shape, &rest], &[("axis", 0.into())])
        })
    }

    /// A value that the graph computes once, whoever asks for it.
    pub fn once(&mut self, key: &str, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if let Some(value) = self.constants.get(key) {
            return value.clone();
        }
        let value = make(self);
        self.constants.insert(key.to_owned(), value.clone());
        value
    }

    /// An input of 64-bit integers.
    pub fn input(&mut self, name: &str, axes: &[&str]) -> Value {
        self.graph.input.push(described(name, DataType::Int64, axes));
        Value(name.to_owned())
    }

    /// Adds an output of 32-bit floats.
    pub fn output(&mut self, name: &str, value: &Value, axes: &[&str]) {
        self.node("Identity", vec![value.0.clone()], vec![name.to_owned()], &[]);
        self.graph.output.push(described(name, DataType::Float, axes));
    }

    /// The only output of an operator.
    pub fn op(&mut self, operator: &str, inputs: &[&Value], attributes: &[(&str, Attribute)]) -> Value {
        let output = self.name(operator);
        self.node(operator, inputs.iter().map(|value| value.0.clone()).collect(), vec![output.clone()], attributes);
        Value(output)
    }

    /// The two outputs of an operator.
    pub fn op_pair(&mut self, operator: &str, inputs: &[&Value], attributes: &[(&str, Attribute)]) -> [Value; 2] {
        let outputs = [(); 2].map(|()| self.name(operator));
        self.node(operator, inputs.iter().map(|value| value.0.clone()).collect(), outputs.to_vec(), attributes);
        outputs.map(Value)
    }

    /// Splits `value` along its last axis into parts of these sizes.
    pub fn split(&mut self, value: &Value, sizes: &[i64]) -> Vec<Value> {
        let lengths = self.integers(sizes);
        let outputs: Vec<String> = sizes.iter().map(|_| self.name("Split")).collect();
        self.node("Split", vec![value.0.clone(), lengths.0], outputs.clone(), &[("axis", (-1).into())]);
        outputs.into_iter().map(Value).collect()
    }

    /// Elements `start` to `end` along an axis.
    pub fn slice(&mut self, value: &Value, axis: i64, start: i64, end: i64) -> Value {
        let [start, end, axis] = [start, end, axis].map(|at| self.integers(&[at]));
        self.op("Slice", &[value, &start, &end, &axis], &[])
    }

    pub fn unsqueeze(&mut self, value: &Value, axes: &[i64]) -> Value {
        let axes = self.integers(axes);
        self.op("Unsqueeze", &[value, &axes], &[])
    }

    pub fn squeeze(&mut self, value: &Value, axes: &[i64]) -> Value {
        let axes = self.integers(axes);
        self.op("Squeeze", &[value, &axes], &[])
    }

    /// Permutes the axes of `value`.
    pub fn transpose(&mut self, value: &Value, order: &[i64]) -> Value {
        self.op("Transpose", &[value], &[("perm", Attribute::Ints(order.to_vec()))])
    }

    /// Casts `value` to 32-bit floats.
    pub fn float(&mut self, value: &Value) -> Value {
        self.op("Cast", &[value], &[("to", i64::from(DataType::Float as i32).into())])
    }

    /// Casts `value` to 64-bit floats.
    pub fn double(&mut self, value: &Value) -> Value {
        self.op("Cast", &[value], &[("to", i64::from(DataType::Double as i32).into())])
    }

    /// A list of integers, `[n]`.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(format!("{values:?}"), DataType::Int64, &[values.len() as i64], bytes)
    }

    /// A scalar integer.
    pub fn integer(&mut self, value: i64) -> Value {
        self.constant(format!("integer {value}"), DataType::Int64, &[], value.to_le_bytes().to_vec())
    }

    /// A scalar float.
    pub fn number(&mut self, value: f32) -> Value {
        self.constant(format!("number {value:e}"), DataType::Float, &[], value.to_le_bytes().to_vec())
    }

    /// A list of floats, `[n]`.
    pub fn numbers(&mut self, values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(format!("numbers {values:?}"), DataType::Float, &[values.len() as i64], bytes)
    }

    /// Whether the checkpoint has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.tensor(name).is_some()
    }

    /// The first prefix under which the checkpoint has a tensor. Models with a head have a prefix, models without have none.
    pub fn prefix(&self, prefixes: &[&'static str], tensor: &str) -> &'static str {
        prefixes.iter().find(|prefix| self.has(&format!("{prefix}{tensor}"))).copied().unwrap_or(prefixes[0])
    }

    /// A weight of the checkpoint as 32-bit floats.
    ///
    /// # Errors
    /// [`ModelFault::NoTensor`]; [`ModelFault::Tensor`] if its shape is not `shape`, or its dtype is not a float that runtimes support.
    pub fn weight(&mut self, name: &str, shape: &[u64]) -> Result<Value, ModelFault> {
        if let Some(value) = self.weights.get(name) {
            return Ok(value.clone());
        }
        let tensor = self.checkpoint.tensor(name).ok_or_else(|| {
            let names = self.checkpoint.tensors().map(|tensor| &tensor.info.name);
            let longer =
                names.into_iter().find(|longer| longer.strip_suffix(name).is_some_and(|front| front.ends_with('.')));
            ModelFault::NoTensor {
                tensor: name.to_owned(),
                model_type: self.model_type.to_owned(),
                longer: longer.cloned(),
            }
        })?;
        let (info, data_type) = (tensor.info, data_type(tensor.info.dtype));
        let (Some(data_type), true) = (data_type, info.shape == shape) else {
            let found = format!("{} {:?}", info.dtype, info.shape);
            let expected = format!("F32, F16 or BF16 {shape:?}");
            return Err(ModelFault::Tensor { tensor: name.to_owned(), found, expected });
        };
        let Location(location) = (self.locate)(tensor.file_index);
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: info.shape.iter().map(|dim| *dim as i64).collect(),
            data_type: data_type as i32,
            data_location: DataLocation::External as i32,
            external_data: vec![
                entry("location", location),
                entry("offset", info.range().start.to_string()),
                entry("length", info.bytes().to_string()),
            ],
            ..TensorProto::default()
        });
        let stored = Value(name.to_owned());
        let value = if data_type == DataType::Float { stored } else { self.float(&stored) };
        self.weights.insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// Finishes the graph, and lists the tensors of the checkpoint that are its weights.
    pub fn finish(self) -> (ModelProto, Vec<String>) {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "lcepatch".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        (model, self.weights.into_keys().collect())
    }

    fn constant(&mut self, key: String, data_type: DataType, dims: &[i64], bytes: Vec<u8>) -> Value {
        if let Some(value) = self.constants.get(&key) {
            return value.clone();
        }
        let name = self.name("constant");
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: dims.to_vec(),
            data_type: data_type as i32,
            raw_data: Some(Bytes::from(bytes)),
            ..TensorProto::default()
        });
        self.constants.insert(key, Value(name.clone()));
        Value(name)
    }

    /// A new name for a value. It has a colon, which tensor names do not have.
    fn name(&mut self, what: &str) -> String {
        self.values += 1;
        format!("{what}:{}", self.values)
    }

    fn node(&mut self, operator: &str, input: Vec<String>, output: Vec<String>, attributes: &[(&str, Attribute)]) {
        let attribute = attributes.iter().map(|(name, value)| attribute(name, value)).collect();
        let name = output.first().cloned().unwrap_or_default();
        self.graph.node.push(NodeProto {
            input,
            output,
            name,
            op_type: operator.to_owned(),
            attribute,
            ..NodeProto::default()
        });
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let empty = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    match value {
        Attribute::Float(f) => AttributeProto { f: Some(*f), r#type: AttributeType::Float as i32, ..empty },
        Attribute::Int(i) => AttributeProto { i: Some(*i), r#type: AttributeType::Int as i32, ..empty },
        Attribute::Ints(ints) => AttributeProto { ints: ints.clone(), r#type: AttributeType::Ints as i32, ..empty },
        Attribute::Text(text) => AttributeProto {
            s: Some(Bytes::from_static(text.as_bytes())),
            r#type: AttributeType::String as i32,
            ..empty
        },
    }
}

/// An input or output with named axes.
fn described(name: &str, data_type: DataType, axes: &[&str]) -> ValueInfoProto {
    let dim = |axis: &&str| Dimension { value: Some(DimensionValue::Name((*axis).to_owned())), ..Dimension::default() };
    let shape = Some(TensorShapeProto { dim: axes.iter().map(dim).collect() });
    let tensor = TensorType { elem_type: data_type as i32, shape };
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() });
    ValueInfoProto { name: name.to_owned(), r#type, ..ValueInfoProto::default() }
}

fn data_type(dtype: Dtype) -> Option<DataType> {
    match dtype {
        Dtype::F32 => Some(DataType::Float),
        Dtype::F16 => Some(DataType::Float16),
        Dtype::Bf16 => Some(DataType::Bfloat16),
        _ => None,
    }
}
