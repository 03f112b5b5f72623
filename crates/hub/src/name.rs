//! Names of files and folders, here and elsewhere: what a person writes where a checkpoint or a patch is read.

use crate::Fault;
use crate::address::{Origin, decoded};
use crate::settings::Settings;
use std::path::{Path, PathBuf};
use ureq::http::Uri;

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A file or folder of this machine, whether it is there or not.
    Path(PathBuf),
    /// Standard input: `-`.
    Stdin,
    /// A repository of models, or a file in it.
    Hub(RepoName),
    /// A web address, `https://…`, or `http://…` of this machine.
    Web(String),
    /// An object, or several under a prefix: `s3://BUCKET/KEY`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What follows it, without the slash between; can be empty.
        key: String,
    },
}

/// A repository of a hub, or a file or folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName {
    /// `ORG/NAME`.
    pub id: String,
    /// A branch, tag or commit; the hub's `main` if none is given.
    pub revision: Option<String>,
    /// A file or folder in it.
    pub path: Option<String>,
}

impl RepoName {
    /// Checks that it can be a name, since parts of it become paths in the cache.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if is_possible(self) { Ok(()) } else { Err(wrong(&self.to_string(), "cannot be in a repository")) }
    }
}

impl std::fmt::Display for RepoName {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str(&self.id)?;
        if let Some(revision) = &self.revision {
            write!(out, "@{revision}")?;
        }
        self.path.as_ref().map_or(Ok(()), |path| write!(out, "/{path}"))
    }
}

/// Hosts of the hub of Hugging Face, whose pages are pasted.
const HUB_HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];

/// Ends of names of files. `ORG/NAME` with such an end is a file that is not there rather than a repository.
const FILE_ENDS: [&str; 18] = [
    ".safetensors",
    ".lcepatch",
    ".json",
    ".jsonl",
    ".sig",
    ".pub",
    ".onnx",
    ".onnx_data",
    ".bin",
    ".pt",
    ".pth",
    ".gguf",
    ".npz",
    ".npy",
    ".txt",
    ".csv",
    ".tsv",
    ".md",
];

impl Name {
    /// What `text` names. A file or folder that is there always wins. What could be the path of one that is not there, such as
    /// `folder/file.json` or anything in a folder that is there, is a path, so that the message is about the file.
    ///
    /// # Errors
    /// [`Fault::Name`] for schemes and kinds of repositories that are not read, and for repositories with impossible names;
    /// [`Fault::PlainHttp`].
    pub fn parse(text: &str, settings: &Settings) -> Result<Self, Fault> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if Path::new(text).symlink_metadata().is_ok() {
            return Ok(Self::Path(text.into()));
        }
        if let Some((scheme, rest)) = text.split_once("://")
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        {
            return match scheme.to_ascii_lowercase().as_str() {
                "hf" => in_hub(text, rest),
                "https" | "http" => web(text, settings),
                "s3" => s3(text, rest),
                _ => Err(unknown_scheme(text, scheme)),
            };
        }
        let (host, _) = text.split_once('/').unwrap_or((text, ""));
        if HUB_HOSTS.contains(&host) {
            return web(&format!("https://{text}"), settings);
        }
        match repository(text) {
            Some(name) if !is_missing_file(&name) => Ok(Self::Hub(name)),
            _ => Ok(Self::Path(text.into())),
        }
    }
}

/// Whether a path where nothing is has the form of a repository's name, so that it may have been meant for one.
pub fn may_be_repository(path: &str) -> bool {
    repository(path).is_some_and(|name| name.path.is_none()) && Path::new(path).symlink_metadata().is_err()
}

fn wrong(name: &str, reason: impl Into<String>) -> Fault {
    Fault::Name { name: name.to_owned(), reason: reason.into() }
}

/// What schemes are not read, and what to do instead.
fn unknown_scheme(text: &str, scheme: &str) -> Fault {
    let service = match scheme.to_ascii_lowercase().as_str() {
        "gs" => {
            "is in Google Cloud Storage, which is read through its S3 interface: name it s3://BUCKET/KEY, with AWS_ENDPOINT_URL set"
        }
        "az" | "abfs" | "abfss" | "wasb" | "wasbs" => {
            "is in Azure, which is not read: download it, or name its https:// address"
        }
        "file" => "is the address of a file: name its path",
        _ => "has a scheme that is not read: there are hf://, https:// and s3://",
    };
    wrong(text, service)
}

/// What follows `s3://`.
fn s3(text: &str, rest: &str) -> Result<Name, Fault> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(wrong(text, "names no bucket: it is s3://BUCKET/KEY"));
    }
    Ok(Name::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
}

/// What follows `hf://`.
fn in_hub(text: &str, rest: &str) -> Result<Name, Fault> {
    let (kind, inner) = rest.split_once('/').unwrap_or((rest, ""));
    let rest = match kind {
        "models" => inner,
        "datasets" | "spaces" | "buckets" | "kernels" => {
            return Err(wrong(
                text,
                format!("is in {kind} of the hub, and only repositories of models are read: download it first"),
            ));
        }
        _ => rest,
    };
    let name = repository(rest);
    name.map(Name::Hub)
        .ok_or_else(|| wrong(text, "is not of the form hf://ORG/NAME, hf://ORG/NAME@REVISION or hf://ORG/NAME/FILE"))
}

/// A web address: a page of the hub, or a file anywhere.
fn web(text: &str, settings: &Settings) -> Result<Name, Fault> {
    let address: Uri = text
        .parse()
        .map_err(|_| wrong(text, "is not a web address: blanks and letters with accents are written as %XX"))?;
    let origin = Origin::of(&address).ok_or_else(|| wrong(text, "is a web address without a host"))?;
    let endpoint: Option<Uri> = settings.endpoint.parse().ok();
    let below = endpoint.filter(|endpoint| Origin::of(endpoint).as_ref() == Some(&origin)).and_then(|endpoint| {
        let prefix = endpoint.path().trim_end_matches('/');
        address.path().strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    match below {
        Some(path) => page(text, path),
        None if HUB_HOSTS.contains(&origin.host()) => page(text, address.path()),
        None if origin.is_exposed() && !settings.allow_http => {
            Err(Fault::PlainHttp { address: crate::address::shown(text) })
        }
        None => Ok(Name::Web(text.to_owned())),
    }
}

/// A page of a hub, as it is copied from a browser: `/ORG/NAME`, `/ORG/NAME/tree/REV`, `/ORG/NAME/blob/REV/FILE`.
fn page(text: &str, path: &str) -> Result<Name, Fault> {
    let unclear = || wrong(text, "is no page of a repository of models, or of a file in one");
    let mut parts =
        path.split('/').filter(|part| !part.is_empty()).map(decoded).collect::<Option<Vec<_>>>().ok_or_else(unclear)?;
    match parts.first().map(String::as_str) {
        Some("models") => drop(parts.remove(0)),
        Some(kind @ ("datasets" | "spaces" | "buckets" | "kernels")) => {
            return Err(wrong(
                text,
                format!("is in {kind} of the hub, and only repositories of models are read: download it first"),
            ));
        }
        _ => {}
    }
    let (id, rest) = match parts.as_slice() {
        [owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        _ => return Err(unclear()),
    };
    let (revision, inside) = match rest {
        [] => (None, None),
        [view, special @ ..] if ["tree", "blob", "resolve", "raw", "blame"].contains(&view.as_str()) => match special {
            [refs, kind, number, inside @ ..] if refs == "refs" && ["pr", "convert"].contains(&kind.as_str()) => {
                (Some(format!("refs/{kind}/{number}")), Some(inside))
            }
            [revision, inside @ ..] => (Some(revision.clone()), Some(inside)),
            [] => (None, None),
        },
        _ => return Err(unclear()),
    };
    let path = inside.map(|parts| parts.join("/")).filter(|path| !path.is_empty());
    checked(RepoName { id, revision, path }).map(Name::Hub).ok_or_else(unclear)
}

/// `ORG/NAME[@REV][/PATH]`.
fn repository(text: &str) -> Option<RepoName> {
    let (owner, rest) = text.split_once('/')?;
    let end = rest.find(['@', '/']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let id = format!("{owner}/{name}");
    let (revision, path) = match rest.strip_prefix('@') {
        Some(rest) => {
            let slashes = if rest.starts_with("refs/pr/") || rest.starts_with("refs/convert/") { 2 } else { 0 };
            let end = rest.match_indices('/').nth(slashes).map_or(rest.len(), |(at, _)| at);
            let (revision, path) = rest.split_at(end);
            (Some(decoded(revision)?), path.strip_prefix('/'))
        }
        None => (None, rest.strip_prefix('/')),
    };
    // A slash at the end, as shells complete folders.
    let path = path.map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty()).map(str::to_owned);
    checked(RepoName { id, revision, path })
}

/// The name if it can be one.
fn checked(name: RepoName) -> Option<RepoName> {
    is_possible(&name).then_some(name)
}

fn is_possible(name: &RepoName) -> bool {
    let is_id =
        name.id.split('/').count() == 2 && name.id.split('/').all(is_repository_word) && !name.id.ends_with(".git");
    let revision = name.revision.as_deref().unwrap_or("main");
    is_id && is_revision(revision) && name.path.as_deref().is_none_or(is_inner_path)
}

/// Whether a hub takes this as the name of an owner or a repository.
fn is_repository_word(word: &str) -> bool {
    let has_only = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&word.len())
        && word.chars().all(has_only)
        && !word.starts_with(['-', '.'])
        && !word.ends_with(['-', '.'])
        && !word.contains("--")
        && !word.contains("..")
}

/// Whether git takes this as a name, as far as it matters for a path in the cache.
pub(crate) fn is_revision(revision: &str) -> bool {
    is_inner_path(revision) && !revision.contains(['?', '*', '[', '^', ' ', ':', '\\'])
}

/// Whether this is a path to something in a folder, on every system.
pub(crate) fn is_inner_path(path: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    path.len() <= 1024
        && !path.contains(['\\', '\0'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(is_part)
        && !is_drive(path)
}

fn is_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Whether a name of the form of a repository rather is the path of a file that is not there.
///
/// A folder that is there and is named as the owner makes it one: paths are mistyped more often.
fn is_missing_file(name: &RepoName) -> bool {
    let (first, second) = name.id.split_once('/').unwrap_or((&name.id, ""));
    let is_file = name.path.is_none() && name.revision.is_none() && FILE_ENDS.iter().any(|end| second.ends_with(end));
    is_file || Path::new(first).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Name, Fault> {
        let variables = |name: &str| (name == "HF_ENDPOINT").then(|| "https://hub.example:8443/hf".to_owned());
        Name::parse(text, &Settings::from_variables(variables).unwrap())
    }

    #[track_caller]
    fn is_hub(text: &str, id: &str, revision: Option<&str>, path: Option<&str>) {
        let [revision, path] = [revision, path].map(|part| part.map(str::to_owned));
        assert_eq!(parse(text).unwrap(), Name::Hub(RepoName { id: id.to_owned(), revision, path }), "{text}");
    }

    #[track_caller]
    fn is_path(text: &str) {
        assert_eq!(parse(text).unwrap(), Name::Path(text.into()), "{text}");
    }

    #[test]
    fn repositories_are_named_as_elsewhere() {
        for start in ["hf://models/", "hf://", ""] {
            is_hub(&format!("{start}alice/base"), "alice/base", None, None);
            is_hub(&format!("{start}alice/base@v1.0"), "alice/base", Some("v1.0"), None);
            is_hub(&format!("{start}alice/base/sub/p.lcepatch"), "alice/base", None, Some("sub/p.lcepatch"));
            is_hub(&format!("{start}alice/base@v1/p.lcepatch"), "alice/base", Some("v1"), Some("p.lcepatch"));
            is_hub(&format!("{start}alice/base@refs/pr/3"), "alice/base", Some("refs/pr/3"), None);
            is_hub(&format!("{start}alice/base@refs/pr/3/a/b"), "alice/base", Some("refs/pr/3"), Some("a/b"));
            is_hub(&format!("{start}alice/base@feature%2Fx/a"), "alice/base", Some("feature/x"), Some("a"));
            is_hub(&format!("{start}meta-llama/Llama-3.2_1B"), "meta-llama/Llama-3.2_1B", None, None);
        }
        is_hub("hf://a/model.safetensors", "a/model.safetensors", None, None);
    }

    #[test]
    fn pasted_pages_are_the_same() {
        for host in ["https://huggingface.co/", "huggingface.co/", "https://hf.co/", "https://hub.example:8443/hf/"] {
            is_hub(&format!("{host}a/b"), "a/b", None, None);
            is_hub(&format!("{host}a/b/"), "a/b", None, None);
            is_hub(&format!("{host}a/b/tree/main"), "a/b", Some("main"), None);
            is_hub(&format!("{host}a/b/tree/main/sub%20dir"), "a/b", Some("main"), Some("sub dir"));
            is_hub(&format!("{host}a/b/blob/refs%2Fpr%2F1/x"), "a/b", Some("refs/pr/1"), Some("x"));
            is_hub(&format!("{host}a/b/resolve/refs/pr/1/x?download=true"), "a/b", Some("refs/pr/1"), Some("x"));
            assert!(matches!(parse(&format!("{host}a/b/discussions/1")), Err(Fault::Name { .. })));
            assert!(matches!(parse(&format!("{host}datasets/a/b")), Err(Fault::Name { .. })));
        }
        let elsewhere = "https://hub.example/hf/a/b";
        assert_eq!(parse(elsewhere).unwrap(), Name::Web(elsewhere.into()), "another port is another server");
    }

    #[test]
    fn paths_stay_paths() {
        for path in [
            "./a/b",
            "../a/b",
            "/a/b",
            "~/a",
            "C:/a",
            "C:\\a\\b",
            "a\\b",
            "plain",
            "p.lcepatch",
            "a/../b",
            "a//b",
            "a/b c",
            "a/-b",
            "a/b/../c",
            ".hidden/x",
            "a/b.",
            "",
        ] {
            is_path(path);
        }
        // Files that are not there, of which the first part is no repository of anybody.
        for path in ["models/model.safetensors", "out/p.lcepatch", "out/results.json"] {
            is_path(path);
        }
        // In a folder that is there: the package's own.
        is_path("src/nothing");
        is_path("src/nothing/deeper");
        assert_eq!(parse("src/lib.rs").unwrap(), Name::Path("src/lib.rs".into()));
    }

    #[test]
    fn a_path_that_is_there_wins() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("s3:").join("a");
        std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
        std::fs::write(&inside, b"").unwrap();
        let text = inside.to_str().unwrap();
        is_path(text);
        is_path(&text.replace("s3:/", "s3://"));
    }

    #[test]
    fn other_places() {
        assert_eq!(parse("-").unwrap(), Name::Stdin);
        assert_eq!(parse("https://h:8080/p.lcepatch").unwrap(), Name::Web("https://h:8080/p.lcepatch".into()));
        assert_eq!(parse("http://127.0.0.1:1/p").unwrap(), Name::Web("http://127.0.0.1:1/p".into()));
        assert!(matches!(parse("http://h/p"), Err(Fault::PlainHttp { .. })));
        let s3 = |bucket: &str, key: &str| Name::S3 { bucket: bucket.into(), key: key.into() };
        assert_eq!(parse("s3://b/k/p.lcepatch").unwrap(), s3("b", "k/p.lcepatch"));
        assert_eq!(parse("s3://b").unwrap(), s3("b", ""));
        for refused in [
            "s3://",
            "s3:///k",
            "gs://b/k",
            "az://c/k",
            "file:///a",
            "ftp://h/a",
            "hf://a",
            "hf://datasets/a/b",
            "hf://a/b/../c",
        ] {
            assert!(matches!(parse(refused), Err(Fault::Name { .. })), "{refused}");
        }
    }
}
