//! Indexes of Python packages, which also hold libraries that are in no other package (PEP 503, PEP 691).

use crate::Fault;
use crate::address::{decoded, join, shown};
use crate::http::{Failure, Http};
use crate::request::Request;
use lcepatch_files::context::Context;
use serde::Deserialize;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The index that pip uses if nothing else is set up.
const DEFAULT_INDEX: &str = "https://pypi.org/simple";
/// The longest list of a project's files, in bytes.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// The index that pip would use: `PIP_INDEX_URL`, else `index-url` of its configuration files, else its default. None if pip is to use
/// none, or needs a name and password for it, which are pip's.
pub fn of_pip(get: impl Fn(&str) -> Option<String>) -> Option<String> {
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    if get("PIP_NO_INDEX").is_some_and(|value| !["0", "false", "no", "off"].contains(&&*value.to_ascii_lowercase())) {
        return None;
    }
    let configured = || config_files(get).iter().find_map(|path| in_config(&std::fs::read_to_string(path).ok()?));
    let index = get("PIP_INDEX_URL").or_else(configured).unwrap_or_else(|| DEFAULT_INDEX.to_owned());
    let host = index.split_once("://")?.1.split('/').next()?;
    (!host.contains('@')).then_some(index)
}

/// pip's configuration files, those that win first.
fn config_files(get: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(named) = get("PIP_CONFIG_FILE") {
        return vec![named.into()];
    }
    let name = if cfg!(windows) { "pip.ini" } else { "pip.conf" };
    let folder = |variable: &str| get(variable).map(PathBuf::from);
    let mut files: Vec<PathBuf> = folder("VIRTUAL_ENV").map(|folder| folder.join(name)).into_iter().collect();
    if cfg!(windows) {
        files.extend(folder("APPDATA").map(|folder| folder.join("pip").join(name)));
        files.extend(folder("PROGRAMDATA").map(|folder| folder.join("pip").join(name)));
        return files;
    }
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    files.extend(config.map(|folder| folder.join("pip").join(name)));
    files.extend(folder("HOME").map(|folder| folder.join(".pip").join(name)));
    files.push(Path::new("/etc").join(name));
    files
}

/// `index-url` in a configuration file; what is set for `download` wins.
fn in_config(text: &str) -> Option<String> {
    let (mut section, mut of_all, mut of_download) = ("", None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(['=', ':'])
            && ["index-url", "index_url"].contains(&key.trim())
        {
            match section {
                "global" => of_all = Some(value.trim().to_owned()),
                "download" => of_download = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    of_download.or(of_all)
}

#[derive(Deserialize)]
struct List {
    files: Vec<ListedFile>,
}

#[derive(Deserialize)]
struct ListedFile {
    filename: String,
    url: String,
}

/// Writes the file named `file` of a `project` to `to`.
///
/// # Errors
/// [`Fault`], such as a file that the index does not have.
pub fn download(
    http: &Http,
    index: &str,
    (project, file): (&str, &str),
    to: &mut File,
    context: &Context<'_>,
) -> Result<(), Fault> {
    let page = format!("{}/{project}/", index.trim_end_matches('/'));
    let accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.2";
    let (answer, list) = http.send_and_read(&Request::get(&page).header("Accept", accept), LIST_BYTES_MAX, context)?;
    let refused = |status| Fault::NotFound { address: shown(&page), status };
    if !answer.is_success() {
        return Err(refused(answer.status));
    }
    let is_json = answer.header("content-type").is_some_and(|kind| kind.contains("json"));
    let url = if is_json { in_json(&list, file) } else { in_html(&String::from_utf8_lossy(&list), file) };
    let missing = || Fault::NoSuchFile { place: shown(&page), path: file.to_owned(), nearest: Vec::new() };
    let base = answer.address.parse().map_err(|_| refused(answer.status))?;
    let address = join(&base, &url.ok_or_else(missing)?).ok_or_else(missing)?.to_string();
    http.retry(context, || {
        let mut answer = http.try_once(&Request::get(&address), context)?;
        if !answer.is_success() {
            return Err(Fault::NotFound { address: shown(&address), status: answer.status }.into());
        }
        let local = |error| Failure::from(Fault::io("write", Path::new(file), error));
        to.set_len(0).and_then(|()| to.rewind()).map_err(local)?;
        context.begin(&format!("downloading {file}"), answer.length().unwrap_or(0));
        let expected = answer.length();
        let (mut reader, mut window, mut received) = (answer.reader(), vec![0; 1 << 16], 0);
        loop {
            let read = reader.read(&mut window).map_err(|error| http.broken(&address, &error))?;
            if read == 0 {
                break;
            }
            to.write_all(window.get(..read).unwrap_or_default()).map_err(local)?;
            received += read as u64;
            context.advance(read as u64).map_err(Fault::from)?;
        }
        match expected {
            Some(expected) if expected != received => {
                Err(http.broken(&address, &std::io::ErrorKind::UnexpectedEof.into()))
            }
            _ => Ok(()),
        }
    })
}

/// The address of a file in a list of PEP 691.
fn in_json(list: &[u8], file: &str) -> Option<String> {
    let list: List = serde_json::from_slice(list).ok()?;
    list.files.into_iter().find(|listed| listed.filename == file).map(|listed| listed.url)
}

/// The address of a file on a page of PEP 503: the link that ends with its name.
fn in_html(page: &str, file: &str) -> Option<String> {
    let links = page.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
        rest.get(1..)?.split(quote).next()
    });
    let is_it = |link: &&str| {
        let path = link.split(['#', '?']).next().unwrap_or_default();
        decoded(path.rsplit('/').next().unwrap_or_default()).is_some_and(|name| name == file)
    };
    links.into_iter().find(is_it).map(|link| link.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_that_of_pip() {
        let of = |variables: &[(&str, &str)]| {
            of_pip(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        let none = ("PIP_CONFIG_FILE", "/nowhere");
        assert_eq!(of(&[none]).as_deref(), Some(DEFAULT_INDEX));
        assert_eq!(of(&[none, ("PIP_INDEX_URL", "https://i/simple/")]).as_deref(), Some("https://i/simple/"));
        assert_eq!(of(&[none, ("PIP_INDEX_URL", "https://user:secret@i/simple/")]), None);
        assert_eq!(of(&[none, ("PIP_NO_INDEX", "1")]), None);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pip.conf");
        std::fs::write(&file, "[global]\nindex-url = https://of-all/s\n[install]\nindex-url=https://other/s\n")
            .unwrap();
        let named = ("PIP_CONFIG_FILE", file.to_str().unwrap());
        assert_eq!(of(&[named]).as_deref(), Some("https://of-all/s"));
        assert_eq!(in_config("[download]\nindex_url: https://d\n[global]\nindex-url=x").as_deref(), Some("https://d"));
    }

    #[test]
    fn files_are_found_in_both_kinds_of_lists() {
        let json = br#"{"files": [{"filename": "a-1.whl", "url": "../a-1.whl"}, {"filename": "b.whl", "url": "x"}]}"#;
        assert_eq!(in_json(json, "a-1.whl").as_deref(), Some("../a-1.whl"));
        assert_eq!(in_json(json, "c.whl"), None);
        let html = r#"<a href="../../p/a-1%2Bcpu.whl#sha256=00" >a</a><a href='https://h/b.whl?x&amp;y'>b</a>"#;
        assert_eq!(in_html(html, "a-1+cpu.whl").as_deref(), Some("../../p/a-1%2Bcpu.whl#sha256=00"));
        assert_eq!(in_html(html, "b.whl").as_deref(), Some("https://h/b.whl?x&y"));
        assert_eq!(in_html(html, "whl"), None);
    }
}
