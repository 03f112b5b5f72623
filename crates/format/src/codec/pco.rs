//! Compresses long sequences with pcodec (spec §9.2), in the part of its standalone format that spec §P.2 to §P.5 define.
//!
//! pcodec reads more than this part: other modes, delta encodings and versions of its format. They are refused here, before pcodec sees
//! them, so that every reader takes the same files. The other rules of that text, pcodec checks itself.

use super::{Corrupt, Effort, Number};
use pco::standalone::{DecompressorItem, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

/// Most numbers in one pco chunk (pco's own limit is 2^24).
const CHUNK_NUMBERS: usize = 1 << 18;

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

/// The start of a file: pcodec's magic, version 3 of its standalone format, and no type that all chunks share (spec §P.2).
const START: &[u8] = b"pco!\x03\x00";

/// Version of pcodec's format: major, minor (spec §P.2).
const VERSION: (u8, u8) = (4, 1);

/// Most states of a chunk's table, as a power of two (spec §P.3): pcodec's compression levels up to 8 need no more, and with its own limit
/// a chunk of 24 bytes could ask for 16 times as much work.
const TABLE_LOG_MAX: u8 = 10;

/// Stands where the type of a chunk would be, after the last one.
const END: u8 = 0;

/// Decodes exactly `count` numbers from all of `bytes`. Allocates memory for `count` numbers, which the caller has bounded.
///
/// # Errors
/// [`Corrupt::Pco`], [`Corrupt::PcoVariant`]; [`Corrupt::Count`] for fewer or more numbers; [`Corrupt::Trailing`].
pub fn decode<N: Number>(bytes: &[u8], count: usize) -> Result<Vec<N>, Corrupt> {
    if !bytes.starts_with(START) {
        return Err(Corrupt::PcoVariant { field: "start" });
    }
    let (file, mut rest) = FileDecompressor::new(bytes).map_err(|_| Corrupt::Pco)?;
    let version = file.format_version();
    if (version.major, version.minor) != VERSION {
        return Err(Corrupt::PcoVariant { field: "version" });
    }
    let mut out = Vec::new();
    loop {
        check_chunk(rest, count - out.len(), count)?;
        match file.chunk_decompressor::<N, _>(rest).map_err(|_| Corrupt::Pco)? {
            DecompressorItem::EndOfData(after) => {
                rest = after;
                break;
            }
            DecompressorItem::Chunk(mut chunk) => {
                let (mut found, end) = (out.len(), out.len() + chunk.n());
                // All of the file's numbers at once, but none before its first chunk is seen to be one.
                out.reserve_exact(count - found);
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

/// Checks the first fields of a chunk, if one begins here (spec §P.3): it has no more numbers than are `missing` of `count`, and is of the
/// only mode and delta encoding, and its table is small. pcodec checks its type, and finds out where it is cut short.
fn check_chunk(bytes: &[u8], missing: usize, count: usize) -> Result<(), Corrupt> {
    let [kind, low, middle, high, rest @ ..] = bytes else { return Ok(()) };
    if *kind == END {
        return Ok(());
    }
    let numbers = u32::from_le_bytes([*low, *middle, *high, 0]) as usize + 1;
    if numbers > missing {
        return Err(wrong_count(count - missing + numbers, count));
    }
    match *rest {
        [mode_and_delta, ..] if mode_and_delta & 0xF != 0 => Err(Corrupt::PcoVariant { field: "mode" }),
        [mode_and_delta, ..] if mode_and_delta != 0 => Err(Corrupt::PcoVariant { field: "delta encoding" }),
        [_, table, ..] if table & 0xF > TABLE_LOG_MAX => Err(Corrupt::PcoVariant { field: "table" }),
        _ => Ok(()),
    }
}

fn wrong_count(found: usize, expected: usize) -> Corrupt {
    Corrupt::Count { field: "a pco stream's numbers", found: found as u64, expected: expected as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

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

    fn check<N: Number + std::fmt::Debug>(vector: &Value) {
        let hex = vector["bytes"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let found = decode::<N>(&bytes, vector["n"].as_u64().unwrap() as usize);
        let found: Option<Vec<u64>> = found.ok().map(|numbers| numbers.into_iter().map(N::into).collect());
        let expected: Option<Vec<u64>> = vector["integers"]
            .as_array()
            .map(|numbers| numbers.iter().map(|number| number.as_u64().unwrap()).collect());
        assert!(found == expected, "{vector}: {found:?}");
    }

    #[test]
    fn every_pco_vector_gives_its_integers_or_is_refused() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/vectors/pco.json");
        let vectors: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(vectors.iter().filter(|vector| vector["integers"].is_null()).count() >= 40);
        assert!(vectors.iter().filter(|vector| vector["integers"].is_array()).count() >= 30);
        for vector in &vectors {
            match vector["b"].as_u64().unwrap() {
                16 => check::<u16>(vector),
                32 => check::<u32>(vector),
                64 => check::<u64>(vector),
                other => panic!("{other} bits"),
            }
        }
    }

    /// A file as pcodec writes it by itself, with another mode or delta encoding than those of patches.
    fn variant(mode: ModeSpec, delta: DeltaSpec) -> Result<Vec<u16>, Corrupt> {
        let numbers: Vec<u16> = (0..300).map(|i| 7 * i).collect();
        let config = ChunkConfig::default().with_mode_spec(mode).with_delta_spec(delta);
        let mut bytes = Vec::new();
        FileCompressor::default().chunk_compressor(&numbers, &config).unwrap().write(&mut bytes).unwrap();
        decode(&file([&bytes[..]], numbers.len()), numbers.len())
    }

    #[test]
    fn what_pcodec_reads_beside_the_part_of_patches_is_refused_by_name() {
        let refused = |field| Err(Corrupt::PcoVariant { field });
        assert!(variant(ModeSpec::Classic, DeltaSpec::NoOp).is_ok());
        assert_eq!(variant(ModeSpec::TryIntMult(7), DeltaSpec::NoOp), refused("mode"));
        assert_eq!(variant(ModeSpec::Classic, DeltaSpec::TryConsecutive(1)), refused("delta encoding"));
        let honest = file([&chunks(&[1u16, 2, 3], Effort::Default)[..]], 3);
        let changed = |at: usize, to: u8| {
            let mut bytes = honest.clone();
            bytes[at] = to;
            decode::<u16>(&bytes, 3)
        };
        assert_eq!(changed(4, 2), refused("start"), "the version of the standalone format");
        assert_eq!(changed(5, 7), refused("start"), "one type for all chunks");
        assert_eq!(changed(8, 0), refused("version"), "version 4.0 of the format");
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
