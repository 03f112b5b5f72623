//! Why a store of objects refuses.

use std::fmt::{Display, Formatter};

/// Why a store of objects refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such bucket.
    NoSuchBucket,
    /// Whoever asks may not do this. Of an object that is not there, the same is said to those who may not list the bucket.
    Denied {
        /// Whether the request was signed.
        is_signed: bool,
        /// What the server says.
        message: String,
    },
    /// The access key is not known.
    UnknownKey,
    /// The secret is not that of the access key.
    Signature,
    /// The keys were for some hours, which are over; or they are incomplete.
    Expired,
    /// The clocks of both differ too much.
    Clock,
    /// The bucket is in another region.
    OtherRegion {
        /// Which, if the server says so.
        region: Option<String>,
    },
    /// Something else.
    Other {
        /// The status of the answer.
        status: u16,
        /// The server's word for it.
        code: String,
        /// What the server says.
        message: String,
    },
}

impl Display for Refusal {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        match self {
            Refusal::NoSuchBucket => out.write_str("there is no such bucket"),
            Refusal::Denied { is_signed, message } => {
                out.write_str("access is denied")?;
                out.write_str(if *is_signed {
                    ""
                } else {
                    " (there are no credentials, so the request was not signed)"
                })?;
                if message.is_empty() { Ok(()) } else { write!(out, ": {message}") }
            }
            Refusal::UnknownKey => out.write_str("the server does not know the access key"),
            Refusal::Signature => {
                out.write_str("the signature is not right: the secret key is not that of the access key")
            }
            Refusal::Expired => out.write_str("the session of the credentials has expired, or its token is not right"),
            Refusal::Clock => out.write_str("the clock of this machine and that of the server differ too much"),
            Refusal::OtherRegion { region: Some(region) } => write!(out, "the bucket is in another region: {region}"),
            Refusal::OtherRegion { region: None } => out.write_str("the bucket is in another region"),
            Refusal::Other { status, code, message } => {
                write!(out, "it was refused (status {status})")?;
                [code, message].iter().filter(|text| !text.is_empty()).try_for_each(|text| write!(out, ": {text}"))
            }
        }
    }
}
