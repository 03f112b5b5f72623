//! The CSV file of CrowS-Pairs.

use super::super::BadData;
use super::super::data::DataFile;
use csv::{ErrorKind, StringRecord};

/// The direction of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// The sentence about the disadvantaged group says a stereotype.
    Stereo,
    /// The sentence about the disadvantaged group contradicts a stereotype.
    Antistereo,
}

/// Two sentences that differ in the group they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The record of the file, from 0 on.
    pub row: usize,
    /// The sentence that is more stereotypical.
    pub more: String,
    /// The sentence that is less stereotypical.
    pub less: String,
    /// How the pair was written.
    pub direction: Direction,
    /// The kind of bias.
    pub bias_type: String,
}

impl Pair {
    /// The sentences in the order in which the published code aligns them.
    pub fn in_order(&self) -> [&str; 2] {
        match self.direction {
            Direction::Stereo => [&self.more, &self.less],
            Direction::Antistereo => [&self.less, &self.more],
        }
    }
}

/// Reads all pairs. Columns are found by their names; quoting is that of Python's `csv`.
///
/// # Errors
/// [`BadData::Malformed`] with the line where the record begins.
pub(crate) fn read_pairs(file: &DataFile) -> Result<Vec<Pair>, BadData> {
    let mut reader = csv::Reader::from_reader(file.without_byte_order_mark());
    let header = reader.headers().map_err(|error| unreadable(file, &error))?.clone();
    let column = |name: &str| {
        let index = header.iter().position(|column| column == name);
        index.ok_or_else(|| file.malformed(Some(1), format!("there is no column {name:?} in the header")))
    };
    let columns = [column("sent_more")?, column("sent_less")?, column("stereo_antistereo")?, column("bias_type")?];
    let mut pairs = Vec::new();
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| unreadable(file, &error))?;
        pairs.push(pair(row, &record, columns).map_err(|reason| file.malformed(line(&record), reason))?);
    }
    Ok(pairs)
}

fn pair(row: usize, record: &StringRecord, columns: [usize; 4]) -> Result<Pair, String> {
    let [more, less, direction, bias_type] = columns.map(|column| record.get(column).unwrap_or_default());
    let direction = match direction {
        "stereo" => Direction::Stereo,
        "antistereo" => Direction::Antistereo,
        other => return Err(format!("stereo_antistereo is {other:?}, neither \"stereo\" nor \"antistereo\"")),
    };
    for (name, value) in [("sent_more", more), ("sent_less", less), ("bias_type", bias_type)] {
        if value.trim().is_empty() {
            return Err(format!("{name} is empty"));
        }
    }
    Ok(Pair { row, more: more.to_owned(), less: less.to_owned(), direction, bias_type: bias_type.to_owned() })
}

fn line(record: &StringRecord) -> Option<u64> {
    record.position().map(csv::Position::line)
}

fn unreadable(file: &DataFile, error: &csv::Error) -> BadData {
    let line = error.position().map(csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            file.malformed(line, format!("the record has {len} fields, the header {expected_len}"))
        }
        ErrorKind::Utf8 { .. } => file.malformed(line, "the record is not UTF-8"),
        _ => file.malformed(line, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lcepatch_format::digest::Digest;

    fn read(text: &[u8]) -> Result<Vec<Pair>, (Option<u64>, String)> {
        let file = DataFile { path: "pairs.csv".into(), bytes: text.to_vec(), digest: Digest::UNKNOWN };
        read_pairs(&file).map_err(|error| match error {
            BadData::Malformed { line, reason, .. } => (line, reason),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn columns_are_found_by_name_and_quotes_keep_line_breaks() {
        let text = "\u{feff}bias_type,stereo_antistereo,sent_less,x,sent_more\n\
                    age,antistereo,\"He said \"\"no\"\",\nthen left.\",,Old  one\n";
        let pairs = read(text.as_bytes()).unwrap();
        assert_eq!(pairs[0].less, "He said \"no\",\nthen left.");
        assert_eq!(pairs[0].in_order(), [pairs[0].less.as_str(), "Old  one"]);
        assert_eq!((pairs.len(), pairs[0].row, pairs[0].bias_type.as_str()), (1, 0, "age"));
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_line() {
        let header = "sent_more,sent_less,stereo_antistereo,bias_type\n\"a\n b\",c,stereo,age\n";
        let of = |record: &str| read(format!("{header}{record}").as_bytes()).unwrap_err();
        assert_eq!(of("a,b,stereo\n"), (Some(4), "the record has 3 fields, the header 4".to_owned()));
        assert_eq!(of("a,b,both,age").0, Some(4));
        assert_eq!(of("a,b,stereo,age\na,,stereo,age"), (Some(5), "sent_less is empty".to_owned()));
        assert_eq!(read(b"").unwrap_err(), (Some(1), "there is no column \"sent_more\" in the header".to_owned()));
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(b"\xff,b,stereo,age\n");
        assert_eq!(read(&bytes).unwrap_err(), (Some(4), "the record is not UTF-8".to_owned()));
    }
}
