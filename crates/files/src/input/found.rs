//! Recognizes the kind of a file by its first bytes, and compares it with the kind that was meant.

use super::folder::Folder;
use lcepatch_format::words::plural;
use std::path::Path;

/// First bytes of a part of a patch, which one shard of a diff writes.
pub const PART_MAGIC: [u8; 8] = *b"\x89LCS\r\n\x1a\n";

/// First bytes of the plan of a diff on several machines.
pub const PLAN_MAGIC: [u8; 8] = *b"\x89LCN\r\n\x1a\n";

/// Longest header that the safetensors library reads, in bytes.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// The kind of a file or directory, as far as it can be recognized without reading all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// A Git LFS pointer.
    LfsPointer {
        /// The size in bytes of the file that it stands for, if the pointer says.
        size: Option<u64>,
    },
    /// An HTML page.
    Html,
    /// A zip archive, such as PyTorch's weights.
    Zip,
    /// A pickle, such as PyTorch's older weights.
    Pickle,
    /// A gzip archive.
    Gzip,
    /// Text in UTF-16, as some shells of Windows write it.
    Utf16,
    /// A model of llama.cpp.
    Gguf,
    /// An ONNX file.
    Onnx,
    /// An empty file.
    Empty,
    /// A file that begins with zeros, such as one that was preallocated for a download that failed.
    Zeros,
    /// Weights: a `.safetensors` file.
    Safetensors,
    /// JSON.
    Json,
    /// A patch.
    Patch,
    /// A part of a patch, which one shard of a diff writes.
    Part,
    /// The plan of a diff on several machines.
    Plan,
    /// A directory.
    Directory(Folder),
}

/// What a file was meant to be. Exhaustive, since each is a kind of failure of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// Weights, or masks.
    Checkpoint,
    /// An index of shards.
    Index,
    /// A patch.
    Patch,
    /// A part of a patch.
    Part,
    /// The plan of a diff.
    Plan,
    /// An ONNX file.
    Onnx,
    /// A file of `torch.save`.
    Torch,
    /// `config.json`, a tokenizer, or its settings.
    Model,
    /// Data for measuring a model: sentences or lists of words.
    Data,
    /// Results of measuring.
    Results,
    /// The log of a model directory.
    Log,
    /// A signature.
    Signature,
    /// A list of signers.
    Signers,
    /// A key to sign with.
    Key,
}

/// A file or directory that was recognized as another kind than was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is {found}{}", match (found, meant) {
    (Found::Directory(Folder::Plain), Meant::Checkpoint) => " without weights".to_owned(),
    _ => format!(", not {meant}"),
})]
pub struct Unexpected {
    /// The kind that was recognized.
    pub found: Found,
    /// The kind that was meant.
    pub meant: Meant,
}

impl Found {
    /// Number of first bytes of a file that are examined.
    pub(crate) const FRONT_BYTES: u64 = 512;

    /// The kind of a file that begins with these bytes; `None` if it is not recognized.
    pub fn of(front: &[u8]) -> Option<Self> {
        let text = front.strip_prefix(b"\xef\xbb\xbf").unwrap_or(front).trim_ascii_start();
        let page = |start: &[u8]| text.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start));
        let starts = |start: &[u8]| front.starts_with(start);
        let header = front.first_chunk().map(|length| u64::from_le_bytes(*length));
        Some(if front.is_empty() {
            Self::Empty
        } else if starts(b"version https://git-lfs") {
            let text = String::from_utf8_lossy(front);
            let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
            Self::LfsPointer { size }
        } else if starts(&lcepatch_format::limits::MAGIC) {
            Self::Patch
        } else if starts(&PART_MAGIC) {
            Self::Part
        } else if starts(&PLAN_MAGIC) {
            Self::Plan
        } else if front.get(8) == Some(&b'{') && header.is_some_and(|length| length <= HEADER_BYTES_MAX) {
            Self::Safetensors
        } else if page(b"<!doctype html") || page(b"<html") {
            Self::Html
        } else if starts(b"PK\x03\x04") {
            Self::Zip
        } else if matches!(front, [0x80, 2..=5, ..]) {
            Self::Pickle
        } else if starts(b"\x1f\x8b") {
            Self::Gzip
        } else if starts(b"\xff\xfe") || starts(b"\xfe\xff") {
            Self::Utf16
        } else if starts(b"GGUF") {
            Self::Gguf
        } else if is_onnx(front) {
            Self::Onnx
        } else if front.len() as u64 == Self::FRONT_BYTES && front.iter().all(|byte| *byte == 0) {
            Self::Zeros
        } else if matches!(text, [b'{' | b'[', ..]) {
            Self::Json
        } else {
            return None;
        })
    }
}

/// Whether a file begins as ONNX files do: with the number of a version (field 1), and then the name of the producer, or another field
/// of `ModelProto`.
fn is_onnx(front: &[u8]) -> bool {
    const VERSION: u8 = 1 << 3;
    const TEXT_OR_MESSAGE: u8 = 2;
    let field = |tag: u8| (2..=25).contains(&(tag >> 3)) && tag & 7 == TEXT_OR_MESSAGE;
    matches!(front, [VERSION, 1..=0x7f, tag, ..] if field(*tag))
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LfsPointer { size: Some(size) } => {
                return write!(
                    f,
                    "a Git LFS pointer to a file of {size} {} that was not downloaded",
                    plural(*size, "byte")
                );
            }
            Self::LfsPointer { size: None } => "a Git LFS pointer to a file that was not downloaded",
            Self::Html => "a page for browsers (HTML)",
            Self::Zip => "a zip archive, as PyTorch writes its weights (.bin, .pt)",
            Self::Pickle => "a Python pickle, as PyTorch writes its weights (.bin, .pt)",
            Self::Gzip => "a gzip archive",
            Self::Utf16 => "text in UTF-16",
            Self::Gguf => "a GGUF file",
            Self::Onnx => "an ONNX file",
            Self::Empty => "an empty file",
            Self::Zeros => "a file that begins with zeros, as a download leaves it that did not arrive",
            Self::Safetensors => "a checkpoint (safetensors)",
            Self::Json => "a JSON file",
            Self::Patch => "a patch",
            Self::Part => "a part of a patch, made by one shard of a diff",
            Self::Plan => "the plan of a diff on several machines",
            Self::Directory(folder) => return folder.fmt(f),
        })
    }
}

impl std::fmt::Display for Meant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "a checkpoint (safetensors)",
            Self::Index => "an index of shards",
            Self::Patch => "a patch",
            Self::Part => "a part of a patch",
            Self::Plan => "the plan of a diff",
            Self::Onnx => "an ONNX file",
            Self::Torch => "a file of torch.save (.bin, .pt)",
            Self::Model => "a configuration or a tokenizer",
            Self::Data => "text or data to measure on",
            Self::Results => "results of measuring",
            Self::Log => "a log of patches",
            Self::Signature => "a signature",
            Self::Signers => "a list of signers",
            Self::Key => "an SSH key",
        })
    }
}

impl Meant {
    /// Compares the kind of a file with the kind that was meant. `front` are the first `Found::FRONT_BYTES` bytes, or the whole file if it
    /// is shorter. Files that are not recognized are accepted here, and checked by their readers.
    ///
    /// # Errors
    /// [`Unexpected`].
    pub fn check(self, front: &[u8]) -> Result<(), Unexpected> {
        match Found::of(front) {
            Some(found) if !self.may_be(&found) => Err(Unexpected { found, meant: self }),
            _ => Ok(()),
        }
    }

    fn may_be(self, found: &Found) -> bool {
        match self {
            Self::Checkpoint => *found == Found::Safetensors,
            Self::Patch => *found == Found::Patch,
            Self::Part => *found == Found::Part,
            Self::Plan => *found == Found::Plan,
            Self::Onnx => *found == Found::Onnx,
            Self::Torch => *found == Found::Zip,
            Self::Index | Self::Model | Self::Results | Self::Log | Self::Data => *found == Found::Json,
            // An empty list of signers is valid.
            Self::Signers => *found == Found::Empty,
            Self::Signature | Self::Key => false,
        }
    }
}

impl Unexpected {
    /// The error for a directory at `path`, where something else was meant.
    pub fn directory(path: &Path, meant: Meant) -> Self {
        Self { found: Found::Directory(Folder::of(path)), meant }
    }

    /// The error of this type inside of an I/O error, if there is one.
    pub fn within(error: &std::io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether a patch was given for a checkpoint or a checkpoint for a patch, so that two arguments may be swapped.
    pub fn is_swapped(&self) -> bool {
        let weights = matches!(self.found, Found::Safetensors | Found::Directory(_));
        self.meant == Meant::Patch && weights || self.meant == Meant::Checkpoint && self.found == Found::Patch
    }
}

impl From<Unexpected> for std::io::Error {
    fn from(unexpected: Unexpected) -> Self {
        let kind = match unexpected.found {
            Found::Directory(_) => std::io::ErrorKind::IsADirectory,
            _ => std::io::ErrorKind::InvalidData,
        };
        Self::new(kind, unexpected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: [Meant; 12] = [
        Meant::Checkpoint,
        Meant::Index,
        Meant::Patch,
        Meant::Part,
        Meant::Onnx,
        Meant::Model,
        Meant::Data,
        Meant::Results,
        Meant::Log,
        Meant::Signature,
        Meant::Signers,
        Meant::Key,
    ];

    #[test]
    fn files_are_recognized_by_their_first_bytes() {
        let header = [&8u64.to_le_bytes()[..], b"{\"a\":{}}"].concat();
        // A header length whose first two bytes look like a pickle.
        let long = [&[0x80, 2, 0, 0, 0, 0, 0, 0][..], b"{\"a\":"].concat();
        let cases: &[(&[u8], Option<Found>)] = &[
            (b"", Some(Found::Empty)),
            (b"version https://git-lfs.github.com/spec/v1\noid x\nsize 7\n", Some(Found::LfsPointer { size: Some(7) })),
            (b"version https://git-lfs.github.com/spec/v1\n", Some(Found::LfsPointer { size: None })),
            (b"\n <!DOCTYPE HTML>", Some(Found::Html)),
            (b"<html lang=en>", Some(Found::Html)),
            (b"<!doctype book>", None),
            (b"PK\x03\x04", Some(Found::Zip)),
            (b"\x80\x02}q\x00", Some(Found::Pickle)),
            (b"\x80\x04\x95", Some(Found::Pickle)),
            (&long, Some(Found::Safetensors)),
            (&header, Some(Found::Safetensors)),
            (b"\x1f\x8b\x08", Some(Found::Gzip)),
            (b"\xff\xfeh\0", Some(Found::Utf16)),
            (b"GGUF\x03", Some(Found::Gguf)),
            (b"\x08\x08\x12\x07pytorch", Some(Found::Onnx)),
            (b"\x08\x0a\x3a\x05graph", Some(Found::Onnx)),
            (b"\x08\x08", None),
            (b"\x08\x08\x08\x07", None),
            (&[0; 512], Some(Found::Zeros)),
            (&[0; 511], None),
            (b"\xef\xbb\xbf {\"a\": 1}", Some(Found::Json)),
            (&lcepatch_format::limits::MAGIC, Some(Found::Patch)),
            (&PART_MAGIC, Some(Found::Part)),
            (b"He was late.", None),
        ];
        for (front, found) in cases {
            assert_eq!(Found::of(front), *found, "{front:?}");
        }
    }

    #[test]
    fn results_of_failed_downloads_are_always_refused() {
        let fronts: [&[u8]; 6] =
            [b"version https://git-lfs", b"<html>", b"PK\x03\x04", b"\x80\x02}", b"GGUF", b"\x1f\x8b"];
        for meant in EVERYTHING {
            for front in fronts {
                let unexpected = meant.check(front).unwrap_err();
                assert!(unexpected.to_string().starts_with("this is a"));
            }
            assert_eq!(meant.check(b"\x08\x07"), Ok(()));
        }
    }

    #[test]
    fn swapped_arguments_are_recognized() {
        let swapped = |meant: Meant, front: &[u8]| meant.check(front).unwrap_err().is_swapped();
        let weights = [&8u64.to_le_bytes()[..], b"{\"a\":{}}"].concat();
        assert!(swapped(Meant::Checkpoint, &lcepatch_format::limits::MAGIC) && swapped(Meant::Patch, &weights));
        assert!(!swapped(Meant::Checkpoint, b"GGUF") && !swapped(Meant::Patch, &PART_MAGIC));
        assert!(!swapped(Meant::Data, &lcepatch_format::limits::MAGIC));
        assert!(Unexpected::directory(Path::new("."), Meant::Patch).is_swapped());
    }
}
