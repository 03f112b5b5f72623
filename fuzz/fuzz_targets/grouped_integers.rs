//! The decoder of grouped integers; what decodes encodes again to something that decodes to the same.
#![no_main]

use lcepatch_format::codec::{Effort, Number, groups};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u8, u16, u16, &[u8])| {
    let (width, classes, total, bytes) = data;
    let (classes, total) = (usize::from(classes % 2048) + 1, usize::from(total));
    match width % 3 {
        0 => again::<u16>(bytes, classes, total),
        1 => again::<u32>(bytes, classes, total),
        _ => again::<u64>(bytes, classes, total),
    }
});

fn again<N: Number>(bytes: &[u8], classes: usize, total: usize) {
    if let Ok(sequences) = groups::decode::<N>(bytes, classes, total) {
        let again = sequences.encode(Effort::Default);
        assert_eq!(groups::decode(&again, classes, total), Ok(sequences));
    }
}
