//! Searches for the ONNX Runtime library. The first place that has one wins.

use super::{Build, Provider, RuntimeFault};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The paths that are searched, from the environment of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPaths {
    /// The library in `ORT_DYLIB_PATH`.
    pub named: Option<PathBuf>,
    /// The data directory of this program.
    pub data: Option<PathBuf>,
    /// The folders that the system's loader searches, in its order.
    pub library_folders: Vec<PathBuf>,
    /// The active virtual environment of Python (`VIRTUAL_ENV`).
    pub virtual_environment: Option<PathBuf>,
}

/// A library that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The execution provider that it is for.
    pub provider: Provider,
    /// The library.
    pub library: PathBuf,
    /// Where it was found.
    pub origin: Origin,
    /// Folders of Python packages whose CUDA libraries may be used.
    pub site_packages: Vec<PathBuf>,
}

/// Where a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `ORT_DYLIB_PATH` names it.
    Named,
    /// It was installed by [`super::install()`].
    Installed,
    /// It is in a folder of the system's loader.
    System,
    /// It is in the Python package of the active virtual environment.
    VirtualEnvironment,
}

impl Origin {
    /// A description for people.
    pub fn label(self) -> &'static str {
        match self {
            Origin::Named => "named by ORT_DYLIB_PATH",
            Origin::Installed => "installed by lcepatch",
            Origin::System => "a library of the system",
            Origin::VirtualEnvironment => "a package of the active virtual environment",
        }
    }
}

/// Finds the library for a provider.
///
/// # Errors
/// [`RuntimeFault::NotFound`]; [`RuntimeFault::NoSuchLibrary`] if `ORT_DYLIB_PATH` names a file that does not exist.
pub fn find(provider: Provider) -> Result<Library, RuntimeFault> {
    SearchPaths::current().find(provider)
}

impl SearchPaths {
    /// The paths of this process.
    pub fn current() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    /// The paths in these environment variables.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            named: path("ORT_DYLIB_PATH"),
            data: data_directory(path),
            library_folders: library_folders(&variable),
            virtual_environment: path("VIRTUAL_ENV"),
        }
    }

    /// Finds the library for a provider.
    ///
    /// # Errors
    /// As [`find()`].
    pub fn find(&self, wants: Provider) -> Result<Library, RuntimeFault> {
        if let Some(named) = &self.named {
            let library = std::path::absolute(named).map_err(RuntimeFault::io("find", named))?;
            if !library.is_file() {
                return Err(RuntimeFault::NoSuchLibrary { path: library });
            }
            return Ok(self.found(wants, library, Origin::Named));
        }
        let cuda = wants.build() == Build::Cuda;
        let mut looked = vec!["ORT_DYLIB_PATH is not set".to_owned()];
        for (folder, place) in self.places(cuda) {
            let library = library_in(&folder).filter(|_| !cuda || folder.join(CUDA_PROVIDER).is_file());
            if let Some(library) = library {
                return Ok(self.found(wants, library, place));
            }
            looked.push(format!("none {}in {}", if cuda { "with CUDA " } else { "" }, folder.display()));
        }
        Err(RuntimeFault::NotFound { cuda, looked })
    }

    fn found(&self, provider: Provider, library: PathBuf, origin: Origin) -> Library {
        // A library of a Python package stands in `site-packages/onnxruntime/capi`, beside NVIDIA's packages.
        let containing =
            library.ancestors().nth(3).filter(|folder| folder.ends_with("site-packages")).map(Path::to_owned);
        let active = self.virtual_environment.iter().flat_map(|environment| site_packages(environment));
        let mut site_packages: Vec<PathBuf> = containing.into_iter().chain(active).collect();
        site_packages.dedup();
        Library { provider, library, origin, site_packages }
    }

    /// The folder that a build is installed in.
    pub fn installed(&self, build: Build) -> Option<PathBuf> {
        Some(self.data.as_ref()?.join("runtime").join(build.folder()))
    }

    fn places(&self, cuda: bool) -> Vec<(PathBuf, Origin)> {
        // The CUDA build runs on CPUs as well, so it is the second choice for them.
        let builds = if cuda { [Build::Cuda, Build::Cpu] } else { [Build::Cpu, Build::Cuda] };
        let installed = builds.into_iter().filter_map(|build| self.installed(build));
        let system = self.library_folders.iter().filter(|folder| folder.is_dir()).cloned();
        let packages = self.virtual_environment.iter().flat_map(|environment| site_packages(environment));
        let packages = packages.map(|folder| folder.join("onnxruntime").join("capi"));
        installed
            .map(|folder| (folder, Origin::Installed))
            .chain(system.map(|folder| (folder, Origin::System)))
            .chain(packages.map(|folder| (folder, Origin::VirtualEnvironment)))
            .collect()
    }
}

#[cfg(windows)]
const CUDA_PROVIDER: &str = "onnxruntime_providers_cuda.dll";
#[cfg(not(windows))]
const CUDA_PROVIDER: &str = "libonnxruntime_providers_cuda.so";

fn data_directory(path: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(home) = path("LCEPATCH_HOME") {
        // A relative one would be another directory in every directory.
        return std::path::absolute(home).ok();
    }
    let folder = if cfg!(windows) {
        path("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        path("HOME")?.join("Library").join("Application Support")
    } else {
        // The standard says that a relative XDG_DATA_HOME is to be ignored.
        match path("XDG_DATA_HOME").filter(|folder| folder.is_absolute()) {
            Some(folder) => folder,
            None => path("HOME")?.join(".local").join("share"),
        }
    };
    Some(folder.join("lcepatch"))
}

fn library_folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    if cfg!(windows) {
        // The system's own onnxruntime.dll is an old one, for other programs.
        return Vec::new();
    }
    let (name, usual): (_, &[&str]) = if cfg!(target_os = "macos") {
        ("DYLD_LIBRARY_PATH", &["/usr/local/lib", "/opt/homebrew/lib", "/opt/local/lib"])
    } else {
        ("LD_LIBRARY_PATH", &["/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64", "/lib", "/lib64"])
    };
    let listed = variable(name).map(|list| std::env::split_paths(&list).collect::<Vec<_>>()).unwrap_or_default();
    // An empty or relative entry is the directory one happens to be in: no place to load code from.
    let mut folders: Vec<PathBuf> = listed.into_iter().filter(|folder| folder.is_absolute()).collect();
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    for folder in usual.iter().map(PathBuf::from) {
        if cfg!(target_os = "linux") {
            folders.push(folder.join(&triple));
        }
        folders.push(folder);
    }
    folders
}

/// The `site-packages` folders of a virtual environment.
fn site_packages(environment: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        return vec![environment.join("Lib").join("site-packages")];
    }
    let entries = std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
    let versions = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("python"));
    let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("site-packages")).collect();
    folders.sort();
    folders
}

/// The library of a folder: the one without a version, which is what the folder's owner wants used, or the latest.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join(format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX));
    if plain.is_file() {
        return Some(plain);
    }
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let versions = entries.filter_map(|entry| Some((version_in(entry.file_name().to_str()?)?, entry.path())));
    versions.filter(|(_, path)| path.is_file()).max().map(|(_, path)| path)
}

/// The version in a library's file name: `libonnxruntime.so.1.32.0` or `libonnxruntime.1.32.0.dylib`.
pub(super) fn version_in(name: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix("libonnxruntime.")?;
    let version = rest.strip_prefix("so.").or_else(|| rest.strip_suffix(".dylib"))?;
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
