//! Where S3 is, and who asks: the variables and files of AWS's own programs.

use crate::Fault;
use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::path::{Path, PathBuf};

/// The region if none is set anywhere.
const DEFAULT_REGION: &str = "us-east-1";
/// The profile if none is named.
const DEFAULT_PROFILE: &str = "default";
/// What a profile says that has no keys itself, but leads to some.
const OTHER_WAYS: [&str; 6] =
    ["credential_process", "sso_session", "sso_start_url", "role_arn", "web_identity_token_file", "login_session"];

/// Where S3 is, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// Another service than AWS's, without a slash at the end.
    pub endpoint: Option<String>,
    /// What requests are signed with. Without, only what is public can be read.
    pub keys: Option<Keys>,
    /// The folder for what is downloaded: `lcepatch/s3` in the user's folder of caches.
    pub cache: PathBuf,
}

/// What requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Says who asks. It is no secret.
    pub id: String,
    pub(crate) secret: Secret,
    /// Of keys that are valid for some hours.
    pub(crate) session: Option<Secret>,
}

/// A secret. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    #[cfg(test)]
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        out.write_str("Secret(hidden)")
    }
}

impl Access {
    /// As this process's environment says, and the files that it names.
    ///
    /// # Errors
    /// [`Fault::Setting`]; [`Fault::Io`] if a file is there and cannot be read.
    pub fn from_environment() -> Result<Self, Fault> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As variables say that `get` returns, and the files that they name. An empty variable counts as none.
    ///
    /// Keys in variables go before those of the profile, and so do the region and the endpoint.
    ///
    /// # Errors
    /// As [`Access::from_environment`].
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, Fault> {
        let get = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let home = PathBuf::from(get("HOME").or_else(|| get("USERPROFILE")).unwrap_or_default());
        let file = |variable: &str, name: &str| match get(variable) {
            Some(path) => path.strip_prefix("~/").map_or_else(|| PathBuf::from(&path), |inner| home.join(inner)),
            None => home.join(".aws").join(name),
        };
        let named = get("AWS_PROFILE");
        let profile = named.clone().unwrap_or_else(|| DEFAULT_PROFILE.to_owned());
        let files = [file("AWS_CONFIG_FILE", "config"), file("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
            .map(|path| read(&path));
        let mut settings = BTreeMap::new();
        let mut is_there = false;
        for text in files {
            for (section, found) in sections(&text?) {
                // The one file calls it `profile NAME`, and the other `NAME`.
                let words: Vec<&str> = section.split_whitespace().collect();
                if matches!(words[..], [name] | ["profile", name] if name.trim_matches('"') == profile) {
                    is_there = true;
                    settings.extend(found);
                }
            }
        }
        if let Some(value) = named.filter(|_| !is_there) {
            let expected = "the name of a profile in ~/.aws/config or ~/.aws/credentials";
            return Err(Fault::Setting { variable: "AWS_PROFILE", value, expected });
        }
        let of_profile = |name: &str| settings.get(name).cloned().filter(|value| !value.is_empty());
        let from_variables = keys(
            [get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"), get("AWS_SESSION_TOKEN")],
            "AWS_SECRET_ACCESS_KEY",
        )?;
        let keys = match from_variables {
            Some(keys) => Some(keys),
            None => keys(
                ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"].map(of_profile),
                "AWS_PROFILE",
            )?,
        };
        if keys.is_none() && OTHER_WAYS.iter().any(|way| settings.contains_key(*way)) {
            let expected = "a profile with keys: run `aws configure export-credentials` and set the variables";
            return Err(Fault::Setting { variable: "AWS_PROFILE", value: profile, expected });
        }
        let region = get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")).or_else(|| of_profile("region"));
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        // It becomes part of the name of a host.
        if !region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Fault::Setting {
                variable: "AWS_REGION",
                value: region,
                expected: "a region, such as us-east-1",
            });
        }
        let endpoint =
            get("AWS_ENDPOINT_URL_S3").or_else(|| get("AWS_ENDPOINT_URL")).or_else(|| of_profile("endpoint_url"));
        let caches = get("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        Ok(Self {
            region,
            endpoint: endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()),
            keys,
            cache: caches.join("lcepatch").join("s3"),
        })
    }
}

/// Keys of their three parts; none without the first.
fn keys([id, secret, session]: [Option<String>; 3], variable: &'static str) -> Result<Option<Keys>, Fault> {
    let Some(id) = id else { return Ok(None) };
    let secret = secret.map(Secret).ok_or(Fault::Setting {
        variable,
        value: String::new(),
        expected: "the secret of the access key",
    })?;
    Ok(Some(Keys { id, secret, session: session.map(Secret) }))
}

/// The text of a file; nothing if there is none.
fn read(path: &Path) -> Result<String, Fault> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        Err(error) => Err(Fault::io("read", path, error)),
    }
}

/// The sections of a file of AWS's programs, and what each says. Lines that are indented belong to a setting of several, of which none
/// is needed here.
fn sections(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.trim_end().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            found.push((name.trim().to_owned(), BTreeMap::new()));
        } else if !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = line.split_once('=')
            && let Some((_, settings)) = found.last_mut()
        {
            settings.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_access(variables: &[(&str, &str)]) -> Result<Access, Fault> {
        Access::from_variables(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    /// A home with both files.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let credentials = "# of a person\n[default]\naws_access_key_id = A\naws_secret_access_key=secret/1\n\n\
            [work]\naws_access_key_id=B\naws_secret_access_key = secret2\naws_session_token = secret3\n";
        let config = "[default]\nregion = eu-west-1\n[profile work]\nregion = eu-central-1\nendpoint_url = http://127.0.0.1:1/\n\
            s3 =\n  region = nowhere\n[profile sso]\nsso_session = x\n[profile half]\naws_access_key_id = C\n";
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        home
    }

    #[test]
    fn without_anything_requests_are_not_signed() {
        let access = read_access(&[("HOME", "/nowhere")]).unwrap();
        let expected = Access {
            region: "us-east-1".into(),
            endpoint: None,
            keys: None,
            cache: "/nowhere/.cache/lcepatch/s3".into(),
        };
        assert_eq!(access, expected);
        assert_eq!(read_access(&[("XDG_CACHE_HOME", "/c")]).unwrap().cache, Path::new("/c/lcepatch/s3"));
    }

    #[test]
    fn profiles_are_read_from_both_files() {
        let home = home();
        let home = ("HOME", home.path().to_str().unwrap());
        let keys = |access: &Access| access.keys.clone().map(|keys| (keys.id.clone(), keys.secret.text().to_owned()));
        let default = read_access(&[home]).unwrap();
        assert_eq!((keys(&default), &default.region[..]), (Some(("A".into(), "secret/1".into())), "eu-west-1"));
        let work = read_access(&[home, ("AWS_PROFILE", "work")]).unwrap();
        assert_eq!((keys(&work), &work.region[..]), (Some(("B".into(), "secret2".into())), "eu-central-1"));
        assert_eq!(work.endpoint.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(work.keys.unwrap().session.unwrap().text(), "secret3");
        let set = [
            home,
            ("AWS_ACCESS_KEY_ID", "D"),
            ("AWS_SECRET_ACCESS_KEY", "d"),
            ("AWS_REGION", "r"),
            ("AWS_PROFILE", "work"),
        ];
        let set = read_access(
            &[&set[..], &[("AWS_ENDPOINT_URL", "http://e"), ("AWS_ENDPOINT_URL_S3", "http://s/")]].concat(),
        );
        let set = set.unwrap();
        assert_eq!(
            (keys(&set), &set.region[..], set.endpoint.as_deref()),
            (Some(("D".into(), "d".into())), "r", Some("http://s"))
        );
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_said() {
        let home = home();
        let profile =
            |name: &str| read_access(&[("HOME", home.path().to_str().unwrap()), ("AWS_PROFILE", name)]).unwrap_err();
        assert!(profile("none").to_string().contains("the name of a profile"));
        assert!(profile("sso").to_string().contains("aws configure export-credentials"));
        assert!(profile("half").to_string().contains("the secret of the access key"));
        assert!(matches!(
            read_access(&[("AWS_ACCESS_KEY_ID", "A")]),
            Err(Fault::Setting { variable: "AWS_SECRET_ACCESS_KEY", .. })
        ));
        assert!(matches!(read_access(&[("AWS_REGION", "evil.example/")]), Err(Fault::Setting { .. })));
    }

    #[test]
    fn secrets_are_not_printed() {
        let home = home();
        let access = read_access(&[("HOME", home.path().to_str().unwrap()), ("AWS_PROFILE", "work")]).unwrap();
        let printed = format!("{access:?}");
        assert!(printed.contains("\"B\"") && !printed.contains("secret2") && !printed.contains("secret3"), "{printed}");
    }
}
