//! The decoder of blocks, for every dtype, with and without a base.
#![no_main]

use lcepatch_format::block::{BaseElements, InMemory, decode};
use lcepatch_format::dtype::Dtype;
use libfuzzer_sys::fuzz_target;

const ELEMENTS: u32 = 300;

fuzz_target!(|data: (u8, u8, u16, bool, &[u8])| {
    let (dtype, seed, selected, with_base, bytes) = data;
    let dtypes = ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "I32", "U8"];
    let dtype = Dtype::from_name(dtypes[usize::from(dtype) % dtypes.len()]).expect("a known name");
    let selected = u32::from(selected) % ELEMENTS + 1;
    let bytes_of_base = ELEMENTS as usize * dtype.width().bytes();
    let base: Vec<u8> = (0..bytes_of_base).map(|at| (at as u8).wrapping_mul(seed | 1) ^ (at >> 3) as u8).collect();
    let base = InMemory { dtype, bytes: &base };
    let base = with_base.then_some(&base as &dyn BaseElements);
    if let Ok(decoded) = decode(bytes, dtype, ELEMENTS, selected, base) {
        assert_eq!(decoded.positions.len(), selected as usize);
        assert!(decoded.positions.is_sorted_by(|a, b| a < b));
        assert!(decoded.positions.last().is_none_or(|last| *last < ELEMENTS));
    }
});
