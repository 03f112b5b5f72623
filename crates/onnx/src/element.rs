//! The element types of ONNX and their [`Dtype`]s.

use super::message::DataType;
use lcepatch_format::dtype::Dtype;

/// The types that both have, with the same bits. ONNX has 6-bit types too, but does not specify how they are packed.
const SHARED: [(DataType, Dtype); 20] = [
    (DataType::Bool, Dtype::Bool),
    (DataType::Uint8, Dtype::U8),
    (DataType::Int8, Dtype::I8),
    (DataType::Uint16, Dtype::U16),
    (DataType::Int16, Dtype::I16),
    (DataType::Uint32, Dtype::U32),
    (DataType::Int32, Dtype::I32),
    (DataType::Uint64, Dtype::U64),
    (DataType::Int64, Dtype::I64),
    (DataType::Float8e4m3fn, Dtype::F8E4M3),
    (DataType::Float8e5m2, Dtype::F8E5M2),
    (DataType::Float16, Dtype::F16),
    (DataType::Bfloat16, Dtype::Bf16),
    (DataType::Float, Dtype::F32),
    (DataType::Double, Dtype::F64),
    (DataType::Complex64, Dtype::C64),
    (DataType::Float8e8m0, Dtype::F8E8M0),
    (DataType::Float8e4m3fnuz, Dtype::F8E4M3Fnuz),
    (DataType::Float8e5m2fnuz, Dtype::F8E5M2Fnuz),
    (DataType::Float4e2m1, Dtype::F4),
];

impl DataType {
    /// The dtype of a checkpoint with the same elements.
    pub fn dtype(self) -> Option<Dtype> {
        SHARED.iter().find(|(onnx, _)| *onnx == self).map(|(_, dtype)| *dtype)
    }

    /// The type of ONNX with the elements of `dtype`.
    pub fn of(dtype: Dtype) -> Option<Self> {
        SHARED.iter().find(|(_, other)| *other == dtype).map(|(onnx, _)| *onnx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_both_ways() {
        for (onnx, dtype) in SHARED {
            assert_eq!((onnx.dtype(), DataType::of(dtype)), (Some(dtype), Some(onnx)));
        }
        assert_eq!((DataType::String.dtype(), DataType::of(Dtype::F6E2M3)), (None, None));
    }
}
