//! Reads untrusted JSON files with bounds on memory.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::input::{self, Meant};
use lcepatch_format::json::Structure;
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// Largest file that is read into memory as a whole: settings, logs, results, lists of sentences.
pub const FILE_BYTES_MAX: u64 = 1 << 28;

/// Reads the file at `path`, which must have at most [`FILE_BYTES_MAX`] bytes and is `meant` to be of this kind.
///
/// # Errors
/// I/O; inside of the [`Error`]: [`input::Unexpected`] for a file of another kind. [`ErrorKind::FileTooLarge`].
pub fn read_file(path: &Path, meant: Meant) -> std::io::Result<Vec<u8>> {
    read(&input::open(path, meant)?)
}

/// Reads an open file from its current position to its end, which must be at most [`FILE_BYTES_MAX`] bytes.
///
/// # Errors
/// As [`read_file`].
pub fn read(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("it has more than the {FILE_BYTES_MAX} bytes that are read of such a file");
        return Err(Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// Number of marks ([`Structure::marks`]) that a text of any size may have.
const MARKS_FREE: u64 = 1 << 16;
/// A text may have one more mark per this many bytes. Text and numbers with a meaning are longer.
const BYTES_PER_MARK: u64 = 8;

/// Refuses a text that would take much more memory when parsed than it has bytes.
///
/// # Errors
/// A message with the number of values and keys, and the limit.
pub fn check(text: &[u8]) -> Result<(), String> {
    let found = Structure::of(text).marks;
    let most = MARKS_FREE + text.len() as u64 / BYTES_PER_MARK;
    let bytes = text.len();
    if found <= most {
        return Ok(());
    }
    Err(format!("{found} values and keys in {bytes} bytes of JSON, more than the {most} that are read from so many"))
}

/// Refuses a text in which an object is written as an array of its values, which serde accepts for the fields of a type. `text` is the
/// value that was read, `value` what it was read as.
///
/// # Errors
/// A message that names the first such array.
pub fn refuse_arrays_for_objects(text: &Value, value: &impl Serialize) -> Result<(), String> {
    fn first(found: &Value, meant: &Value, path: &str) -> Option<String> {
        match (found, meant) {
            (Value::Array(_), Value::Object(_)) if path.is_empty() => Some("it is an array, not an object".to_owned()),
            (Value::Array(_), Value::Object(_)) => Some(format!("{path} is an array, not an object")),
            (Value::Object(found), Value::Object(meant)) => found.iter().find_map(|(key, found)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                first(found, meant.get(key)?, &path)
            }),
            (Value::Array(found), Value::Array(meant)) => {
                let mut pairs = found.iter().zip(meant).enumerate();
                pairs.find_map(|(at, (found, meant))| first(found, meant, &format!("{path}[{at}]")))
            }
            _ => None,
        }
    }
    let meant = serde_json::to_value(value).map_err(|error| error.to_string())?;
    first(text, &meant, "").map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dense_texts_are_refused() {
        assert!(check("[0]".as_bytes()).is_ok());
        let dense = [b"[", &b"0,".repeat(100_000)[..], b"0]"].concat();
        let error = check(&dense).unwrap_err();
        assert!(error.contains("100001 values"), "{error}");
        assert!(check(&b"{\"sentence\": \"a b c d e\"},".repeat(100_000)).is_ok());
    }

    #[test]
    fn arrays_for_objects_are_found() {
        #[derive(Serialize, serde::Deserialize)]
        struct Inner {
            pair: (f64, f64),
        }
        #[derive(Serialize, serde::Deserialize)]
        struct Outer {
            inner: Vec<Inner>,
        }
        let refused = |text: &str| {
            let value: Outer = serde_json::from_str(text).unwrap();
            refuse_arrays_for_objects(&serde_json::from_str(text).unwrap(), &value)
        };
        assert_eq!(refused(r#"{"inner": [{"pair": [1, 2]}], "other": []}"#), Ok(()));
        assert_eq!(refused("[[]]"), Err("it is an array, not an object".to_owned()));
        let inner = r#"{"inner": [{"pair": [1, 2]}, [[1, 2]]]}"#;
        assert_eq!(refused(inner), Err("inner[1] is an array, not an object".to_owned()));
    }
}
