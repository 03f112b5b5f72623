//! What S3 answers: lists of objects, and refusals.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::refusal::Refusal;
use crate::tag;
use serde::Deserialize;

/// An object of a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its key in the bucket.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The server's tag of its content, without quotation marks. It is no digest that can be relied on: of objects that were sent in parts
    /// or are encrypted, it is something else than MD5.
    pub tag: String,
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

/// Reads a page of a list.
///
/// # Errors
/// What is not understood.
pub(crate) fn page(bytes: &[u8]) -> Result<Page, String> {
    #[derive(Deserialize)]
    #[serde(rename = "ListBucketResult", rename_all = "PascalCase")]
    struct List {
        #[serde(default)]
        is_truncated: bool,
        next_continuation_token: Option<String>,
        #[serde(default)]
        contents: Vec<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        key: String,
        size: u64,
        #[serde(default, rename = "ETag")]
        tag: String,
    }
    let list: List = read(bytes)?;
    let next = match (list.is_truncated, list.next_continuation_token) {
        (true, None) => return Err("it is not the last page, and does not say where the next begins".to_owned()),
        (true, next) => next,
        (false, _) => None,
    };
    let object = |entry: Entry| Object { key: entry.key, bytes: entry.size, tag: tag::bare(&entry.tag).to_owned() };
    Ok(Page { objects: list.contents.into_iter().map(object).collect(), next })
}

/// What a refusal says.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Said {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

/// Reads a refusal; nothing if it is none.
pub(crate) fn said(bytes: &[u8]) -> Option<Said> {
    read::<Said>(bytes).ok().filter(|said| !said.code.is_empty())
}

/// What an answer means. `region` is that of its header.
pub(crate) fn refusal(status: u16, said: Said, region: Option<String>, is_signed: bool) -> Refusal {
    match (said.code.as_str(), status) {
        ("NoSuchBucket", _) => Refusal::NoSuchBucket,
        ("InvalidAccessKeyId", _) => Refusal::UnknownKey,
        ("SignatureDoesNotMatch", _) => Refusal::Signature,
        ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => Refusal::Expired,
        ("RequestTimeTooSkewed", _) => Refusal::Clock,
        ("PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException", _) | (_, 301 | 307) => {
            Refusal::OtherRegion { region: region.or(said.region).or(said.endpoint) }
        }
        ("AuthorizationHeaderMalformed", _) if region.is_some() || said.region.is_some() => {
            Refusal::OtherRegion { region: region.or(said.region) }
        }
        ("AccessDenied" | "AllAccessDisabled" | "", 401 | 403) | ("AccessDenied", _) => {
            Refusal::Denied { is_signed, message: said.message }
        }
        // Not all servers have a word for a request without a signature.
        (code, 400 | 401 | 403) if !is_signed => {
            Refusal::Denied { is_signed, message: format!("{code}: {}", said.message) }
        }
        _ => Refusal::Other { status, code: said.code, message: said.message },
    }
}

/// The name of an upload in parts that begins.
///
/// # Errors
/// What is not understood.
pub(crate) fn upload(bytes: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Begun {
        #[serde(rename = "UploadId")]
        id: String,
    }
    Ok(read::<Begun>(bytes)?.id)
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    quick_xml::de::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_lists_objects_and_where_the_next_begins() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>a</Prefix>
            <IsTruncated>true</IsTruncated><NextContinuationToken>x/+=</NextContinuationToken>
            <Contents><Key>a &amp; b&#x41;.json</Key><Size>3</Size><ETag>&quot;e1&quot;</ETag><Owner><ID>z</ID></Owner></Contents>
            <CommonPrefixes><Prefix>a/f/</Prefix></CommonPrefixes>
            <Contents><Size>4</Size><Key>c</Key><ETag>e2</ETag></Contents></ListBucketResult>"#;
        let object = |key: &str, bytes, tag: &str| Object { key: key.into(), bytes, tag: tag.into() };
        let expected =
            Page { objects: vec![object("a & bA.json", 3, "e1"), object("c", 4, "e2")], next: Some("x/+=".into()) };
        assert_eq!(page(text.as_bytes()).unwrap(), expected);
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert_eq!(page(empty.as_bytes()).unwrap(), Page { objects: vec![], next: None });
    }

    #[test]
    fn what_is_not_a_list_is_refused() {
        for text in [
            "",
            "<html><body>proxy</body>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
            "<!DOCTYPE x [<!ENTITY e \"ee\">]><ListBucketResult><Contents><Key>&e;</Key><Size>1</Size></Contents></ListBucketResult>",
        ] {
            assert!(page(text.as_bytes()).is_err(), "{text}");
        }
        assert!(page(b"<ListBucketResult>\xff</ListBucketResult>").is_err());
    }

    #[test]
    fn refusals_say_why() {
        let text =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region></Error>";
        let said = said(text.as_bytes()).unwrap();
        assert_eq!(
            (&said.code[..], &said.message[..], said.region.as_deref()),
            ("AuthorizationHeaderMalformed", "m", Some("eu-west-1"))
        );
        let unsigned = Said { code: "UnsupportedAlgorithm".into(), ..Said::default() };
        assert!(matches!(refusal(400, unsigned, None, false), Refusal::Denied { is_signed: false, .. }));
        assert_eq!(super::said(b"<html>no</html>"), None);
        assert_eq!(super::said(b""), None);
        assert_eq!(upload(b"<R><Bucket>b</Bucket><UploadId>u</UploadId></R>").unwrap(), "u");
    }
}
