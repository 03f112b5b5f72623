//! Settings, read from the environment as `huggingface_hub` 2.4.0 reads them.

use crate::Fault;
use crate::address::{Origin, shown};
use std::fmt::{Debug, Formatter};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Uri;

/// Where the hub is, who asks, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The hub's address without a slash at the end: `HF_ENDPOINT`, or that of Hugging Face.
    pub endpoint: String,
    /// What shows to the hub who asks: `HF_TOKEN`, or the first line of the file `HF_TOKEN_PATH`, unless
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`. It is sent to the endpoint's origin only.
    pub token: Option<Token>,
    /// The folder of the cache that all programs of the hub share: `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// Whether only the cache is used and no connection opened: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    pub offline: bool,
    /// Whether a snapshot in the cache is made of symbolic links to its files: not with `HF_HUB_DISABLE_SYMLINKS`.
    pub symlinks: bool,
    /// How long an answer to a question may take to begin: `HF_HUB_ETAG_TIMEOUT`, or 10 s.
    pub answer_timeout: Duration,
    /// How long a file's bytes may stay away: `HF_HUB_DOWNLOAD_TIMEOUT`, or 10 s.
    pub read_timeout: Duration,
    /// Whether other machines may be asked without encryption.
    pub allow_http: bool,
    /// How many files are downloaded side by side, at most 8.
    pub parallel: usize,
    /// How long is waited before the second try; then twice as long each time, at most eight times as long. A server that says how
    /// long to wait is believed, up to five minutes.
    pub back_off: Duration,
}

/// A secret that shows to a hub who asks. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, without the blanks and line ends around it; nothing if nothing remains.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.replace(['\r', '\n'], "").trim().to_owned();
        (!text.is_empty()).then_some(Self(text))
    }

    /// The secret itself, for the header of a request.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl Debug for Token {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        out.write_str("Token(hidden)")
    }
}

/// The hub of Hugging Face.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody waits longer than a day.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);
const DEFAULT_BACK_OFF: Duration = Duration::from_secs(1);
const DEFAULT_PARALLEL: usize = 4;

impl Settings {
    /// Settings from this process's environment.
    ///
    /// # Errors
    /// [`Fault::Setting`]; [`Fault::Io`] if the file with the token is there and cannot be read.
    pub fn from_environment() -> Result<Self, Fault> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Settings from variables that `get` returns. An empty variable counts as none.
    ///
    /// # Errors
    /// As [`Settings::from_environment`].
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, Fault> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let is_true = |name: &str| get(name).is_some_and(|value| is_true_value(&value));
        let path = |value: String| expand(&value, &get);
        let home = match (get("HF_HOME"), get("XDG_CACHE_HOME")) {
            (Some(home), _) => path(home),
            (None, Some(caches)) => path(caches).join("huggingface"),
            (None, None) => path("~/.cache/huggingface".into()),
        };
        let cache = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE"));
        let token_path = get("HF_TOKEN_PATH").map_or_else(|| home.join("token"), path);
        let token = match get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN")) {
            _ if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            Some(token) => Token::new(&token),
            None => token_file(&token_path)?,
        };
        Ok(Self {
            endpoint: get("HF_ENDPOINT").map_or(Ok(DEFAULT_ENDPOINT.into()), endpoint)?,
            token,
            cache: cache.map_or_else(|| home.join("hub"), path),
            offline: get("HF_HUB_OFFLINE")
                .or_else(|| get("TRANSFORMERS_OFFLINE"))
                .is_some_and(|value| is_true_value(&value)),
            symlinks: !is_true("HF_HUB_DISABLE_SYMLINKS"),
            answer_timeout: seconds("HF_HUB_ETAG_TIMEOUT", get("HF_HUB_ETAG_TIMEOUT"))?,
            read_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT", get("HF_HUB_DOWNLOAD_TIMEOUT"))?,
            allow_http: false,
            parallel: DEFAULT_PARALLEL,
            back_off: DEFAULT_BACK_OFF,
        })
    }
}

/// The token in a file; none if there is no file.
fn token_file(path: &Path) -> Result<Option<Token>, Fault> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Token::new(&text)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Fault::io("read the token in", path, error)),
    }
}

/// The address of a hub, without the slash at its end.
fn endpoint(value: String) -> Result<String, Fault> {
    let address: Option<Uri> = value.parse().ok();
    if address.is_none_or(|address| Origin::of(&address).is_none() || address.query().is_some()) {
        let expected = "an address such as https://hub.example.org";
        return Err(Fault::Setting { variable: "the hub's endpoint", value: shown(&value), expected });
    }
    Ok(value.trim_end_matches('/').to_owned())
}

fn is_true_value(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

/// A number of whole seconds; 0 means the default, as in Python.
fn seconds(variable: &'static str, value: Option<String>) -> Result<Duration, Fault> {
    let Some(value) = value else { return Ok(DEFAULT_TIMEOUT) };
    match value.trim().parse() {
        Ok(0) => Ok(DEFAULT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds).min(TIMEOUT_MAX)),
        Err(_) => Err(Fault::Setting { variable, value, expected: "a number of seconds" }),
    }
}

/// A path with `~`, `$NAME` and `${NAME}` replaced. Variables that are not set stay as they are.
fn expand(text: &str, get: &impl Fn(&str) -> Option<String>) -> PathBuf {
    let home = || get("HOME").or_else(|| get("USERPROFILE"));
    let text = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\']) => {
            home().map_or_else(|| text.to_owned(), |home| home + rest)
        }
        _ => text.to_owned(),
    };
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, left) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(braced) => braced,
            None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
        };
        match get(name) {
            Some(value) if !name.is_empty() => {
                out.push_str(&value);
                rest = left;
            }
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    PathBuf::from(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        read(variables).unwrap()
    }

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Fault> {
        Settings::from_variables(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_variables_it_is_the_public_hub_and_the_cache_at_home() {
        let found = settings(&[("HOME", "/nowhere")]);
        assert_eq!(found.endpoint, "https://huggingface.co");
        assert_eq!(found.cache, Path::new("/nowhere/.cache/huggingface/hub"));
        assert!(found.token.is_none() && !found.offline && found.symlinks);
        assert_eq!(found.read_timeout, Duration::from_secs(10));
    }

    #[test]
    fn the_cache_is_where_python_finds_it() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache;
        let all =
            [("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/l"), ("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")];
        for (from, expected) in ["/c", "/l", "/h/hub", "/x/huggingface/hub"].iter().enumerate() {
            assert_eq!(cache(&all[from..]), Path::new(expected));
        }
        assert_eq!(cache(&[("HF_HOME", ""), ("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        let expanded = [("HF_HOME", "~/$TEAM/${TEAM}x/$NONE"), ("HOME", "/u"), ("TEAM", "t")];
        assert_eq!(cache(&expanded), Path::new("/u/t/tx/$NONE/hub"));
    }

    #[test]
    fn switches_and_numbers_are_read_as_python_reads_them() {
        for (value, offline) in [("1", true), ("on", true), ("Yes", true), ("TRUE", true), ("0", false), ("2", false)] {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
            assert_eq!(settings(&[("TRANSFORMERS_OFFLINE", value)]).offline, offline, "{value}");
        }
        // The first that is set counts, whatever it says.
        assert!(!settings(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!settings(&[("HF_HUB_DISABLE_SYMLINKS", "1")]).symlinks);
        let found = settings(&[("HF_HUB_ETAG_TIMEOUT", "3"), ("HF_HUB_DOWNLOAD_TIMEOUT", "0")]);
        assert_eq!([found.answer_timeout, found.read_timeout].map(|time| time.as_secs()), [3, 10]);
        let fault = read(&[("HF_HUB_ETAG_TIMEOUT", "soon")]).unwrap_err();
        assert_eq!(fault.to_string(), "HF_HUB_ETAG_TIMEOUT is \"soon\", and a number of seconds is expected");
        assert_eq!(settings(&[("HF_ENDPOINT", "http://127.0.0.1:1/")]).endpoint, "http://127.0.0.1:1");
        for wrong in ["file:///etc", "hub.example.org", "https://", "https://h/?a", "ftp://h"] {
            assert!(matches!(read(&[("HF_ENDPOINT", wrong)]), Err(Fault::Setting { .. })), "{wrong}");
        }
    }

    #[test]
    fn the_token_comes_from_the_environment_or_a_file_and_is_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "hf_file\n").unwrap();
        let (home, file) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
        let secret = |variables: &[(&str, &str)]| settings(variables).token.map(|token| token.secret().to_owned());
        assert_eq!(secret(&[("HF_HOME", home)]).unwrap(), "hf_file");
        assert_eq!(secret(&[("HF_TOKEN_PATH", file)]).unwrap(), "hf_file");
        assert_eq!(secret(&[("HF_HOME", home), ("HF_TOKEN", " hf_a\r\n")]).unwrap(), "hf_a");
        assert_eq!(secret(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).unwrap(), "hf_old");
        assert_eq!(secret(&[("HF_TOKEN", "hf_a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert!(!format!("{:?}", settings(&[("HF_TOKEN", "hf_secret")])).contains("hf_secret"));
    }
}
