//! The decoder of blocks, for every dtype, with and without a base.
#![no_main]

use lcepatch::checkpoint::Checkpoint;
use lcepatch::dtype::Dtype;
use lcepatch::patch::BaseBlock;
use lcepatch::patch::decode::decode;
use libfuzzer_sys::fuzz_target;

const ELEMENTS: u32 = 300;

fn base(dtype: Dtype, seed: u8) -> Checkpoint {
    let bytes = ELEMENTS as usize * dtype.width().bytes();
    let mut header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[{ELEMENTS}],"data_offsets":[0,{bytes}]}}}}"#);
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let data = (0..bytes).map(|at| (at as u8).wrapping_mul(seed | 1) ^ (at >> 3) as u8);
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data.collect::<Vec<_>>()].concat();
    Checkpoint::from_bytes("base".as_ref(), file).expect("a well-formed file")
}

fuzz_target!(|data: (u8, u8, u16, bool, &[u8])| {
    let (dtype, seed, selected, with_base, bytes) = data;
    let dtypes = ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "I32", "U8"];
    let dtype = Dtype::from_name(dtypes[usize::from(dtype) % dtypes.len()]).expect("a known name");
    let selected = u32::from(selected) % ELEMENTS + 1;
    let checkpoint = base(dtype, seed);
    let block = with_base.then(|| BaseBlock::new(checkpoint.tensor("w").expect("it is there"), 0..ELEMENTS.into()));
    if let Ok(decoded) = decode(bytes, dtype, ELEMENTS, selected, block.as_ref()) {
        assert_eq!(decoded.positions.len(), selected as usize);
        assert!(decoded.positions.is_sorted_by(|a, b| a < b));
        assert!(decoded.positions.last().is_none_or(|last| *last < ELEMENTS));
    }
});
