//! The table of a `Precompiled` normalizer: a double array, as of Darts, that leads from characters to places in a text of replacements,
//! each of which ends with a zero byte.

use base64ct::{Base64, Encoding};

/// How many times longer the table can make a text.
///
/// # Errors
/// Says what is wrong with a table by which the library that reads it would look behind the table's end.
pub(super) fn growth(text: &str) -> Result<u64, String> {
    let bytes = Base64::decode_vec(text).map_err(|_| damaged("it is not in base64"))?;
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged("it is empty"))?;
    let length = u32::from_le_bytes(*length) as usize / 4 * 4;
    let (array, replacements) = rest.split_at_checked(length).ok_or_else(|| damaged("its array is cut short"))?;
    let array: Vec<u32> = array.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let replacements = std::str::from_utf8(replacements).map_err(|_| damaged("its replacements are not UTF-8"))?;
    let outside = || damaged("it leads behind its end");
    let at = |place: usize| array.get(place).copied().ok_or_else(outside);
    let offset = |unit: u32| ((unit as usize) >> 10) << ((unit & 1 << 9) >> 6);

    let mut longest = 1;
    let mut seen = vec![false; array.len()];
    let mut left = vec![offset(at(0)?)];
    while let Some(place) = left.pop() {
        // All that a byte can lead to, so that none leads behind the end.
        at(place | 0xff)?;
        if std::mem::replace(&mut seen[place], true) {
            continue;
        }
        for byte in 1..=0xff {
            let unit = at(place ^ byte)?;
            if unit & (1 << 31 | 0xff) != byte as u32 {
                continue;
            }
            let next = place ^ byte ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let start = (at(next)? & !(1 << 31)) as usize;
                let replacement = replacements.get(start..).ok_or_else(outside)?;
                longest = longest.max(replacement.bytes().position(|byte| byte == 0).unwrap_or(replacement.len()));
            }
            left.push(next);
        }
    }
    Ok(longest as u64)
}

fn damaged(why: &str) -> String {
    format!("precompiled_charsmap is damaged: {why}")
}
