//! Variable-length integers: little-endian base 128, shortest form only (spec §2).

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::{Corrupt, reader::Reader};

/// Appends `value` to `out`.
pub fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint. `field` names it in errors.
///
/// # Errors
/// [`Corrupt::Truncated`], [`Corrupt::Varint`].
pub fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, Corrupt> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8(field)?;
        let low = u64::from(byte & 0x7f);
        // The tenth byte holds only bit 63; a last byte of zero means that there is a shorter form.
        if (shift == 63 && low > 1) || (byte == 0 && shift > 0) {
            return Err(Corrupt::Varint { field });
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Corrupt::Varint { field })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(value: u64) {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(read(&mut reader, "value"), Ok(value));
            prop_assert_eq!(reader.finish("value"), Ok(()));
        }
    }

    #[test]
    fn refuses_long_forms_and_more_than_64_bits() {
        let refused = |bytes: &[u8]| read(&mut Reader::new(bytes), "value");
        assert_eq!(refused(&[0x80, 0x00]), Err(Corrupt::Varint { field: "value" }));
        assert_eq!(refused(&[0xff; 11]), Err(Corrupt::Varint { field: "value" }));
        let past_64_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(refused(&past_64_bits), Err(Corrupt::Varint { field: "value" }));
        assert_eq!(refused(&[0x80]), Err(Corrupt::Truncated { field: "value", needed: 1, found: 0 }));
    }
}
