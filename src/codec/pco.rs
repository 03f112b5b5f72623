//! Long sequences by pcodec (spec §9.2): its standalone format, numbers of 16, 32 or 64 bits.

use super::Corrupt;
use pco::data_types::Number;
use pco::standalone::{DecompressorItem, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

/// The effort spent on finding bins. Part of what makes the same inputs give the same bytes.
const LEVEL: usize = 8;
/// Numbers in one pco chunk at most (pco's own limit is 2^24).
const CHUNK_NUMBERS: usize = 1 << 22;
/// Numbers decoded at a time.
const PAGE_NUMBERS: usize = 1 << 12;

/// The chunks of one sequence of numbers below `2^width`, for [`file()`]. Each sequence gets bins of its own.
///
/// # Panics
/// Never for numbers below `2^width`: pco refuses only parameters, and these are constant.
pub fn chunks(numbers: &[u64], width: u32) -> Vec<u8> {
    match width {
        16 => chunks_as::<u16>(numbers, |v| v as u16),
        32 => chunks_as::<u32>(numbers, |v| v as u32),
        _ => chunks_as::<u64>(numbers, |v| v),
    }
}

/// A pco file of the chunks of several sequences, `numbers` numbers in all.
pub fn file<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, numbers: usize) -> Vec<u8> {
    let compressor = FileCompressor::default().with_n_hint(numbers);
    let mut out = Vec::new();
    written(compressor.write_header(&mut out).map(|_| ()));
    chunks.into_iter().for_each(|chunk| out.extend_from_slice(chunk));
    written(compressor.write_footer(&mut out).map(|_| ()));
    out
}

fn chunks_as<T: Number>(numbers: &[u64], narrow: impl Fn(u64) -> T) -> Vec<u8> {
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp);
    let compressor = FileCompressor::default();
    let mut out = Vec::new();
    for part in numbers.chunks(CHUNK_NUMBERS) {
        let part: Vec<T> = part.iter().map(|v| narrow(*v)).collect();
        let chunk = compressor.chunk_compressor(&part, &config);
        written(chunk.and_then(|mut chunk| chunk.write(&mut out).map(|_| ())));
    }
    out
}

/// Memory takes all bytes, and the parameters are constant.
fn written(result: pco::errors::PcoResult<()>) {
    if let Err(error) = result {
        unreachable!("pco refused constant parameters: {error}");
    }
}

/// Appends exactly `count` numbers of `width` bits, decoded from all of `bytes`, to `out`.
///
/// # Errors
/// [`Corrupt::Pco`]; [`Corrupt::Count`] when there are fewer or more numbers; [`Corrupt::Trailing`].
pub fn decode(bytes: &[u8], count: usize, width: u32, out: &mut Vec<u64>) -> Result<(), Corrupt> {
    match width {
        16 => decode_as::<u16>(bytes, count, out, u64::from),
        32 => decode_as::<u32>(bytes, count, out, u64::from),
        _ => decode_as::<u64>(bytes, count, out, |v| v),
    }
}

fn decode_as<T: Number + Default>(
    bytes: &[u8],
    count: usize,
    out: &mut Vec<u64>,
    widen: impl Fn(T) -> u64,
) -> Result<(), Corrupt> {
    let (file, mut rest) = FileDecompressor::new(bytes).map_err(|_| Corrupt::Pco)?;
    let mut page = vec![T::default(); PAGE_NUMBERS.min(count.next_multiple_of(256))];
    let mut found = 0;
    loop {
        match file.chunk_decompressor::<T, _>(rest).map_err(|_| Corrupt::Pco)? {
            DecompressorItem::EndOfData(after) => {
                rest = after;
                break;
            }
            DecompressorItem::Chunk(mut chunk) => {
                if found + chunk.n() > count {
                    return Err(wrong_count(found + chunk.n(), count));
                }
                loop {
                    let progress = chunk.read(&mut page).map_err(|_| Corrupt::Pco)?;
                    found += progress.n_processed;
                    out.extend(page[..progress.n_processed].iter().map(|v| widen(*v)));
                    if progress.finished {
                        break;
                    }
                    if progress.n_processed == 0 {
                        return Err(Corrupt::Pco);
                    }
                }
                rest = chunk.into_src();
            }
        }
    }
    if found != count {
        return Err(wrong_count(found, count));
    }
    super::reader::Reader::new(rest).finish("a pco stream")
}

fn wrong_count(found: usize, expected: usize) -> Corrupt {
    Corrupt::Count { field: "a pco stream's numbers", found: found as u64, expected: expected as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_come_back_in_order_at_every_width() {
        for width in [16, 32, 64] {
            let long: Vec<u64> = (0..70_000u64).map(|i| (i * i * 7919) & (u64::MAX >> (64 - width))).collect();
            let parts = [chunks(&long, width), chunks(&[], width), chunks(&[3], width)];
            let bytes = file(parts.iter().map(Vec::as_slice), long.len() + 1);
            let mut out = Vec::new();
            decode(&bytes, long.len() + 1, width, &mut out).unwrap();
            assert_eq!(out, [&long[..], &[3]].concat());
        }
    }

    #[test]
    fn refuses_other_counts_and_bytes_after_the_end() {
        let mut bytes = file([&chunks(&[1, 2, 3], 16)[..]], 3);
        let wrong = |found, expected| Err(Corrupt::Count { field: "a pco stream's numbers", found, expected });
        assert_eq!(decode(&bytes, 2, 16, &mut Vec::new()), wrong(3, 2));
        assert_eq!(decode(&bytes, 4, 16, &mut Vec::new()), wrong(3, 4));
        assert_eq!(decode(&bytes, 3, 32, &mut Vec::new()), Err(Corrupt::Pco));
        bytes.push(0);
        assert_eq!(decode(&bytes, 3, 16, &mut Vec::new()), Err(Corrupt::Trailing { field: "a pco stream", found: 1 }));
    }
}
