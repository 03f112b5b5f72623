//! The decoder of grouped integers; what decodes encodes again to something that decodes to the same.
#![no_main]

use lcepatch::codec::groups;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u8, u16, u16, &[u8])| {
    let (width, classes, total, bytes) = data;
    let width = [16, 32, 64][usize::from(width % 3)];
    let (classes, total) = (usize::from(classes % 2048) + 1, usize::from(total));
    if let Ok((partition, sequences)) = groups::decode(bytes, classes, total, width) {
        let again = groups::encode(&partition, &sequences, width);
        assert_eq!(groups::decode(&again, classes, total, width), Ok((partition, sequences)));
    }
});
