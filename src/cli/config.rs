//! What a user wants everywhere: the configuration file, and the variables that win over it. Nothing of it changes a byte of a patch or
//! a checkpoint.

use super::exit::Failure;
use super::terminal::{Color, Form};
use crate::error::Error;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Defaults for flags.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Config {
    /// Threads to use.
    pub threads: Option<u16>,
    /// When text is coloured.
    pub color: Option<Color>,
    /// In which form progress is shown.
    pub progress: Option<Form>,
    /// The address of the hub.
    pub endpoint: Option<String>,
    /// The list of who may sign patches.
    pub allowed_signers: Option<PathBuf>,
}

/// The keys of the file.
const KEYS: [&str; 5] = ["threads", "color", "progress", "endpoint", "allowed_signers"];
/// A misspelt key is at least this similar to the one that was meant, from 0 to 1.
const SIMILAR: f64 = 0.7;

impl Config {
    /// Reads the file, if there is one, and the variables that stand for keys without a flag everywhere. Those for threads, colour and
    /// progress are read with their flags.
    pub fn read() -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var_os(name);
        let path = path(variable);
        let mut config = match &path {
            Some(path) => Self::of_file(path, variable("LCEPATCH_CONFIG").is_some())?,
            None => Self::default(),
        };
        // A variable that is set to nothing takes back what the file says.
        if let Some(list) = variable("LCEPATCH_ALLOWED_SIGNERS") {
            config.allowed_signers = Some(PathBuf::from(list)).filter(|list| !list.as_os_str().is_empty());
        }
        if let Some(endpoint) = variable("LCEPATCH_ENDPOINT").filter(|endpoint| !endpoint.is_empty()) {
            config.endpoint = Some(endpoint.to_string_lossy().into_owned());
        }
        Ok(config)
    }

    /// The file at `path`; without one the defaults, unless it was `named`.
    fn of_file(path: &Path, named: bool) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            // A home that may not be read, as after `setpriv` or `su`, is somebody else's, and so is the file.
            Err(error) if [ErrorKind::NotFound, ErrorKind::PermissionDenied].contains(&error.kind()) && !named => {
                return Ok(Self::default());
            }
            text => text.map_err(|error| Error::io("read", path, error))?,
        };
        let mut config = Self::parse(&text).map_err(|(message, help)| {
            Failure::usage(format!("{}: {message}", path.display()), help.unwrap_or_else(known))
        })?;
        config.allowed_signers = config.allowed_signers.map(|list| from_file(path, &list));
        Ok(config)
    }

    /// The error is a message, and what to do where it is not the usual.
    fn parse(text: &str) -> Result<Self, (String, Option<String>)> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
            (format!("line {line}: {}", error.message()), None)
        })?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let nearest = KEYS.into_iter().map(|known| (strsim::jaro_winkler(key, known), known));
            let nearest = nearest.filter(|(likeness, _)| *likeness >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0));
            let help = nearest.map(|(_, known)| format!("{known} is similar, and there is such a key"));
            return Err((format!("there is no key {key:?}"), help));
        }
        let config = Self::deserialize(table).map_err(|error| (error.to_string().trim().replace('\n', " "), None))?;
        if config.threads.is_some_and(|threads| !(1..=1024).contains(&threads)) {
            return Err(("threads has to be from 1 to 1024".to_owned(), None));
        }
        Ok(config)
    }
}

fn known() -> String {
    format!("it may have {}, as docs/configuration.md says", KEYS.join(", "))
}

/// Where the file is, if variables say.
fn path(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(named) = variable("LCEPATCH_CONFIG") {
        return Some(PathBuf::from(named)).filter(|path| !path.as_os_str().is_empty());
    }
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let configuration = match cfg!(windows) {
        true => folder("APPDATA"),
        false => folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config"))),
    };
    Some(configuration?.join("lcepatch/config.toml"))
}

/// A path in the file: from the home directory, or else from where the file is.
fn from_file(file: &Path, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => file.parent().unwrap_or(Path::new("")).join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_type() {
        let text =
            "threads = 4\ncolor = 'never'\nprogress = 'plain'\nendpoint = 'https://hub'\nallowed_signers = 'list'";
        let config = Config::parse(text).unwrap();
        assert_eq!((config.threads, config.color, config.progress), (Some(4), Some(Color::Never), Some(Form::Plain)));
        assert_eq!((config.endpoint.as_deref(), config.allowed_signers), (Some("https://hub"), Some("list".into())));
        assert_eq!(Config::parse("").unwrap(), Config::default());
        for key in KEYS {
            assert!(text.contains(&format!("{key} =")), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_nearest_name() {
        let wrong = |text: &str| Config::parse(text).unwrap_err();
        assert_eq!(wrong("colour = 'never'").1.unwrap(), "color is similar, and there is such a key");
        assert_eq!(wrong("alpha = 2"), ("there is no key \"alpha\"".to_owned(), None));
        assert!(wrong("color = 'blue'").0.contains("blue") && wrong("color = 'blue'").0.contains("always"));
        assert!(wrong("threads = 0").0.contains("1 to 1024") && wrong("threads = 'many'").0.contains("threads"));
        assert!(wrong("threads = 4\ncolor = ").0.starts_with("line 2: "), "{:?}", wrong("threads = 4\ncolor = "));
    }

    #[test]
    fn the_file_is_where_the_variables_say() {
        let at = |variables: &[(&str, &str)]| {
            path(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        let home = ("HOME", "/somebody");
        assert_eq!(at(&[]), None);
        if cfg!(unix) {
            assert_eq!(at(&[home]), Some("/somebody/.config/lcepatch/config.toml".into()));
            assert_eq!(at(&[home, ("XDG_CONFIG_HOME", "/c")]), Some("/c/lcepatch/config.toml".into()));
        }
        assert_eq!(at(&[home, ("LCEPATCH_CONFIG", "mine")]), Some("mine".into()));
        assert_eq!(at(&[home, ("LCEPATCH_CONFIG", "")]), None);
    }
}
