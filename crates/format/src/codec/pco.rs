//! Compresses long sequences with pcodec (spec §9.2), in its standalone format.

use super::{Corrupt, Effort, Number};
use pco::standalone::{DecompressorItem, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

/// Most numbers in one pco chunk (pco's own limit is 2^24).
const CHUNK_NUMBERS: usize = 1 << 22;

/// pco's compression level. It must not change: the same inputs must give the same bytes.
const fn level(effort: Effort) -> usize {
    match effort {
        Effort::Fast => 5,
        Effort::Default | Effort::Best => 8,
    }
}

/// Compresses one sequence of numbers to the chunks that [`file()`] takes. Sequences share no bins.
pub fn chunks<N: Number>(numbers: &[N], effort: Effort) -> Vec<u8> {
    let config = ChunkConfig::default()
        .with_compression_level(level(effort))
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp);
    let compressor = FileCompressor::default();
    let mut out = Vec::new();
    for part in numbers.chunks(CHUNK_NUMBERS) {
        let chunk = compressor.chunk_compressor(part, &config);
        expect_written(chunk.and_then(|mut chunk| chunk.write(&mut out).map(|_| ())));
    }
    out
}

/// Joins the chunks of several sequences, `numbers` numbers in total, into a pco file.
pub fn file<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, numbers: usize) -> Vec<u8> {
    let compressor = FileCompressor::default().with_n_hint(numbers);
    let mut out = Vec::new();
    expect_written(compressor.write_header(&mut out).map(|_| ()));
    chunks.into_iter().for_each(|chunk| out.extend_from_slice(chunk));
    expect_written(compressor.write_footer(&mut out).map(|_| ()));
    out
}

/// Compression cannot fail: writing to a `Vec` does not, and pco only rejects parameters, which are constants here.
fn expect_written(result: pco::errors::PcoResult<()>) {
    if let Err(error) = result {
        unreachable!("pco refused constant parameters: {error}");
    }
}

/// Decodes exactly `count` numbers from all of `bytes`. Allocates memory for `count` numbers, which the caller has bounded.
///
/// # Errors
/// [`Corrupt::Pco`]; [`Corrupt::Count`] for fewer or more numbers; [`Corrupt::Trailing`].
pub fn decode<N: Number>(bytes: &[u8], count: usize) -> Result<Vec<N>, Corrupt> {
    let (file, mut rest) = FileDecompressor::new(bytes).map_err(|_| Corrupt::Pco)?;
    let mut out = Vec::with_capacity(count);
    loop {
        match file.chunk_decompressor::<N, _>(rest).map_err(|_| Corrupt::Pco)? {
            DecompressorItem::EndOfData(after) => {
                rest = after;
                break;
            }
            DecompressorItem::Chunk(mut chunk) => {
                let (mut found, end) = (out.len(), out.len() + chunk.n());
                if end > count {
                    return Err(wrong_count(end, count));
                }
                out.resize(end, N::default());
                while found < end {
                    let progress = chunk.read(&mut out[found..]).map_err(|_| Corrupt::Pco)?;
                    found += progress.n_processed;
                    if progress.n_processed == 0 {
                        return Err(Corrupt::Pco);
                    }
                }
                rest = chunk.into_src();
            }
        }
    }
    if out.len() != count {
        return Err(wrong_count(out.len(), count));
    }
    super::reader::Reader::new(rest).finish("a pco stream")?;
    Ok(out)
}

fn wrong_count(found: usize, expected: usize) -> Corrupt {
    Corrupt::Count { field: "a pco stream's numbers", found: found as u64, expected: expected as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<N: Number>() {
        let long: Vec<N> = (0..70_000u64).map(|i| N::low(i * i * 7919)).collect();
        let parts = [&long[..], &[], &[N::low(3)]].map(|part| chunks(part, Effort::Default));
        let bytes = file(parts.iter().map(Vec::as_slice), long.len() + 1);
        assert_eq!(decode(&bytes, long.len() + 1), Ok([&long[..], &[N::low(3)]].concat()));
    }

    #[test]
    fn sequences_come_back_in_order_at_every_width() {
        round_trip::<u16>();
        round_trip::<u32>();
        round_trip::<u64>();
    }

    #[test]
    fn refuses_other_counts_and_bytes_after_the_end() {
        let mut bytes = file([&chunks(&[1u16, 2, 3], Effort::Default)[..]], 3);
        let wrong = |found, expected| Err(Corrupt::Count { field: "a pco stream's numbers", found, expected });
        assert_eq!(decode::<u16>(&bytes, 2), wrong(3, 2));
        assert_eq!(decode::<u16>(&bytes, 4), wrong(3, 4));
        assert_eq!(decode::<u32>(&bytes, 3), Err(Corrupt::Pco));
        bytes.push(0);
        assert_eq!(decode::<u16>(&bytes, 3), Err(Corrupt::Trailing { field: "a pco stream", found: 1 }));
    }
}
