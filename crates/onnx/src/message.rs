//! The protobuf messages of ONNX inference graphs (IR version 13), with the field numbers of the published schema.
//!
//! They are written by hand because neither published schema gives usable types: `onnx.proto` (proto2) makes every field an `Option`, and
//! `onnx.proto3` cannot tell an absent value from zero, which attributes and `raw_data` need; here, only such fields are an `Option`.
//! Fields without a member (`ModelProto` 20 and 26, `NodeProto` 10: training and device placement) are skipped when decoded, which loses
//! nothing, since a user's model is never encoded again: its file is copied, and only bytes of initializers are overwritten.
//!
//! Decoded from [`Bytes`], `raw_data` is a view of that buffer, not a copy.

use prost::bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// A model: a graph and the operator sets that define its operators.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// The version of the format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The program that wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// That program's version.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// A name space, in reverse-DNS form.
    #[prost(string, tag = "4")]
    pub domain: String,
    /// The version of the model.
    #[prost(int64, tag = "5")]
    pub model_version: i64,
    /// A description for people.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// The operator sets that nodes are taken from.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Further entries of text.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Operators that the model defines itself.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// A version of a set of operators.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Its name; the standard operators have the empty one.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A graph: nodes in an order in which they can be computed.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Its name, which is not empty.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Named constants: the weights.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// A description for people.
    #[prost(string, tag = "10")]
    pub doc_string: String,
    /// Inputs.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of intermediate values.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// Scales and zero points of quantized tensors.
    #[prost(message, repeated, tag = "14")]
    pub quantization_annotation: Vec<TensorAnnotation>,
    /// Constants of which most elements are zero.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// Further entries of text.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// One application of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of the values that it reads. An empty name stands for an absent optional input.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values that it computes.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// The operator's parameters.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// A description for people.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The operator set it is taken from; the standard one has the empty name.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Distinguishes functions with the same name.
    #[prost(string, tag = "8")]
    pub overload: String,
    /// Further entries of text.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A parameter of a node: `type` says which one of the fields holds it.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// One number.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// One integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// One string.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// One tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// One graph, the body of a branch or loop.
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    /// Numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// Graphs.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// A description for people.
    #[prost(string, tag = "13")]
    pub doc_string: String,
    /// One type.
    #[prost(message, optional, tag = "14")]
    pub tp: Option<TypeProto>,
    /// Types.
    #[prost(message, repeated, tag = "15")]
    pub type_protos: Vec<TypeProto>,
    /// Which field holds the value.
    #[prost(enumeration = "AttributeType", tag = "20")]
    pub r#type: i32,
    /// In a function: the parameter of the function that gives the value.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
    /// One sparse tensor.
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensorProto>,
    /// Sparse tensors.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
}

/// Which field of an [`AttributeProto`] holds its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum AttributeType {
    Undefined = 0,
    Float = 1,
    Int = 2,
    String = 3,
    Tensor = 4,
    Graph = 5,
    Floats = 6,
    Ints = 7,
    Strings = 8,
    Tensors = 9,
    Graphs = 10,
    SparseTensor = 11,
    SparseTensors = 12,
    TypeProto = 13,
    TypeProtos = 14,
}

/// A tensor. Its elements are in `raw_data`, in a file beside the model, or in the list that fits its type.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Its shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Its element type, a [`DataType`].
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    /// The part of a larger tensor that it holds.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// Elements of `FLOAT`, and pairs of them.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of the integer types of up to 32 bits, and the bits of the narrow floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements of `STRING`.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// Elements of `INT64`.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// All elements, little-endian, row by row.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Elements of `DOUBLE`, and pairs of them.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of `UINT32` and `UINT64`.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// A description for people.
    #[prost(string, tag = "12")]
    pub doc_string: String,
    /// Where the elements are in another file: `location`, `offset`, `length`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// Whether `external_data` says where they are.
    #[prost(enumeration = "DataLocation", tag = "14")]
    pub data_location: i32,
    /// Further entries of text.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A part of a larger tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Segment {
    /// Its first element.
    #[prost(int64, tag = "1")]
    pub begin: i64,
    /// After its last.
    #[prost(int64, tag = "2")]
    pub end: i64,
}

/// The type of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum DataType {
    Undefined = 0,
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Uint16 = 4,
    Int16 = 5,
    Int32 = 6,
    Int64 = 7,
    String = 8,
    Bool = 9,
    Float16 = 10,
    Double = 11,
    Uint32 = 12,
    Uint64 = 13,
    Complex64 = 14,
    Complex128 = 15,
    Bfloat16 = 16,
    Float8e4m3fn = 17,
    Float8e4m3fnuz = 18,
    Float8e5m2 = 19,
    Float8e5m2fnuz = 20,
    Uint4 = 21,
    Int4 = 22,
    Float4e2m1 = 23,
    Float8e8m0 = 24,
    Uint2 = 25,
    Int2 = 26,
    Float6e2m3 = 27,
    Float6e3m2 = 28,
}

/// Where the elements of a [`TensorProto`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum DataLocation {
    /// In the message.
    Default = 0,
    /// In a file beside the model.
    External = 1,
}

/// A tensor of which most elements are zero.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// The other elements; its name is the tensor's.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Where they are.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// The shape.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// Scale and zero point of a quantized tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorAnnotation {
    /// The tensor.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// Names of the tensors that quantize it.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}

/// Named text.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The text.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A value with its type: an input, an output, or one in between.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// A description for people.
    #[prost(string, tag = "3")]
    pub doc_string: String,
    /// Further entries of text.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// The type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// What kind.
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 7, 8, 9")]
    pub value: Option<TypeValue>,
    /// What it means, by the standard's names.
    #[prost(string, tag = "6")]
    pub denotation: String,
}

/// The kinds of types.
#[derive(Clone, PartialEq, Oneof)]
pub enum TypeValue {
    /// A tensor.
    #[prost(message, tag = "1")]
    Tensor(TensorType),
    /// A sequence.
    #[prost(message, boxed, tag = "4")]
    Sequence(Box<SequenceType>),
    /// A map.
    #[prost(message, boxed, tag = "5")]
    Map(Box<MapType>),
    /// Something only a runtime's extension knows.
    #[prost(message, tag = "7")]
    Opaque(OpaqueType),
    /// A sparse tensor.
    #[prost(message, tag = "8")]
    SparseTensor(TensorType),
    /// A value that may be absent.
    #[prost(message, boxed, tag = "9")]
    Optional(Box<OptionalType>),
}

/// The type of a tensor, dense or sparse.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// Its element type, a [`DataType`].
    #[prost(enumeration = "DataType", tag = "1")]
    pub elem_type: i32,
    /// Its shape, where it is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// The type of a sequence.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceType {
    /// Of its elements.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// The type of a value that may be absent.
#[derive(Clone, PartialEq, Message)]
pub struct OptionalType {
    /// Of the value.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// The type of a map.
#[derive(Clone, PartialEq, Message)]
pub struct MapType {
    /// Of its keys, a [`DataType`].
    #[prost(enumeration = "DataType", tag = "1")]
    pub key_type: i32,
    /// Of its values.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// A type that only an extension knows.
#[derive(Clone, PartialEq, Message)]
pub struct OpaqueType {
    /// Its name space.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// The shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// One for each axis.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// The size of an axis.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// The size, or its name; neither where it may be any.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
    /// What it means, by the standard's names.
    #[prost(string, tag = "3")]
    pub denotation: String,
}

/// The size of an axis, or the name of a size that is only known when the graph runs.
#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    /// The size.
    #[prost(int64, tag = "1")]
    Size(i64),
    /// Its name: axes with one name have one size.
    #[prost(string, tag = "2")]
    Name(String),
}

/// An operator that a model defines itself.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Names of its inputs.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of its outputs.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Names of its parameters.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// Its nodes.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// A description for people.
    #[prost(string, tag = "8")]
    pub doc_string: String,
    /// The operator sets that its nodes are taken from.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The operator set it belongs to.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Parameters with a default.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// Types of its values.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfoProto>,
    /// Distinguishes functions with the same name.
    #[prost(string, tag = "13")]
    pub overload: String,
    /// Further entries of text.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

#[cfg(test)]
mod tests;
