//! Signatures of requests: AWS Signature Version 4, in the headers.
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use super::credentials::Keys;
use crate::address::encoded;
use crate::listing::hex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::time::SystemTime;

/// What is signed of a request.
pub(crate) struct ToSign<'a> {
    pub(crate) method: &'a str,
    /// The path of the address, as it is sent.
    pub(crate) path: &'a str,
    /// The query of the address, as [`query`] makes it.
    pub(crate) query: &'a str,
    /// Headers, names in any case, in any order.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of what is sent along, in hexadecimal digits.
    pub(crate) content: &'a str,
}

/// The query of an address: its parts in order, encoded as signatures want it.
pub(crate) fn query(parts: &[(&str, &str)]) -> String {
    let mut parts: Vec<String> =
        parts.iter().map(|(name, value)| format!("{}={}", encoded(name, false), encoded(value, false))).collect();
    parts.sort();
    parts.join("&")
}

/// A time as signatures want it: `20130524T000000Z`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "")
}

/// The header `Authorization` of a request to S3 in a region, at a time as [`timestamp`] writes it.
pub(crate) fn authorization(request: &ToSign, keys: &Keys, region: &str, time: &str) -> String {
    let mut headers: Vec<(String, &str)> =
        request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.trim())).collect();
    headers.sort();
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let ToSign { method, path, query, content, .. } = request;
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{content}");
    let date = time.split('T').next().unwrap_or_default();
    let scope = format!("{date}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", keys.secret.text()).into_bytes();
    for part in [date, region, "s3", "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &text));
    format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", keys.id)
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length is right: one that is longer than a block is hashed.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Secret;
    use super::*;

    const TIME: &str = "20130524T000000Z";
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// The requests of AWS's documentation.
    #[track_caller]
    fn signed(method: &str, path: &str, query: &str, more: &[(&str, &str)], content: &str, expected: &str) {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session: None,
        };
        let always =
            [("Host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", content), ("x-amz-date", TIME)];
        let headers = [more, &always].concat();
        let request = ToSign { method, path, query, headers: &headers, content };
        let found = authorization(&request, &keys, "us-east-1", TIME);
        let start =
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=";
        assert!(found.starts_with(start), "{found}");
        assert_eq!(found.rsplit('=').next(), Some(expected), "{found}");
    }

    #[test]
    fn a_part_of_an_object() {
        let expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        signed("GET", "/test.txt", "", &[("Range", "bytes=0-9")], NOTHING, expected);
    }

    #[test]
    fn a_new_object() {
        let content = hex(&Sha256::digest("Welcome to Amazon S3."));
        let more = [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let expected = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
        signed("PUT", &format!("/{}", encoded("test$file.text", true)), "", &more, &content, expected);
    }

    #[test]
    fn lists() {
        let expected = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
        signed("GET", "/", &query(&[("prefix", "J"), ("max-keys", "2")]), &[], NOTHING, expected);
        let expected = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
        signed("GET", "/", &query(&[("lifecycle", "")]), &[], NOTHING, expected);
    }

    #[test]
    fn times_are_written_without_marks() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_369_353_600);
        assert_eq!(timestamp(time), TIME);
    }
}
