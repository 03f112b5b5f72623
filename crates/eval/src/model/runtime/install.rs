//! Installs a pinned build of ONNX Runtime into the user's data directory.
//!
//! pip downloads the package, with whatever index and proxy the user has set up for it; its SHA-256 is compared with
//! the one pinned here, and only then is it unpacked, beside its place, and renamed: it is whole or absent.

use super::{Build, CUDA_VERSION, RuntimeFault, SearchPaths, VERSION};
use lcepatch_files::context::Context;
use lcepatch_files::durable::{Failed, NewDirectory};
use lcepatch_format::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program that downloads and unpacks.
pub(super) const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };

/// An installed build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The library.
    pub library: PathBuf,
    /// Whether it was already installed.
    pub before: bool,
}

/// A published package, and the files that are installed from it.
struct Package {
    build: Build,
    /// The system and the architecture, as in [`std::env::consts`].
    machine: (&'static str, &'static str),
    /// pip's platform tag.
    platform: &'static str,
    sha256: &'static str,
    /// The libraries; the first one is ONNX Runtime itself.
    libraries: &'static [&'static str],
}

/// The packages for CPython 3.12. The library in them does not depend on Python.
const PACKAGES: [Package; 5] = [
    Package {
        build: Build::Cpu,
        machine: ("linux", "x86_64"),
        platform: "manylinux_2_28_x86_64",
        sha256: "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8",
        libraries: &["libonnxruntime.so.1.32.0"],
    },
    Package {
        build: Build::Cpu,
        machine: ("linux", "aarch64"),
        platform: "manylinux_2_28_aarch64",
        sha256: "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054",
        libraries: &["libonnxruntime.so.1.32.0"],
    },
    Package {
        build: Build::Cpu,
        machine: ("macos", "aarch64"),
        platform: "macosx_14_0_arm64",
        sha256: "d52510bbbcc880c13b826f7d75cdf33ac5cf0bb864d960000fc29ce73f0cb83e",
        libraries: &["libonnxruntime.1.32.0.dylib"],
    },
    Package {
        build: Build::Cpu,
        machine: ("windows", "x86_64"),
        platform: "win_amd64",
        sha256: "efe7456952c243a05a53d5b8732953625144642c2f3989094277f6217f0c0c40",
        libraries: &["onnxruntime.dll", "onnxruntime_providers_shared.dll"],
    },
    Package {
        build: Build::Cuda,
        machine: ("linux", "x86_64"),
        platform: "manylinux_2_28_x86_64",
        sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
        libraries: &[
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_shared.so",
            "libonnxruntime_providers_cuda.so",
        ],
    },
];

/// Installs a build for this machine. An installed build is kept, unless it is to be replaced.
///
/// # Errors
/// [`RuntimeFault`]; an installed build is then unchanged.
pub fn install(build: Build, replace: bool, context: &Context<'_>) -> Result<Installed, RuntimeFault> {
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let cuda = build == Build::Cuda;
    let package = PACKAGES.iter().find(|it| it.build == build && it.machine == (system, architecture));
    let package = package.ok_or(RuntimeFault::NoBuild { cuda, system, architecture })?;
    let folder = SearchPaths::current().installed(build).ok_or(RuntimeFault::NoDataDirectory)?;
    let library = package.libraries.first().map(|name| folder.join(name)).unwrap_or_default();
    if library.is_file() && !replace {
        return Ok(Installed { library, before: true });
    }
    let parent = folder.parent().unwrap_or(&folder);
    std::fs::create_dir_all(parent).map_err(RuntimeFault::io("create", parent))?;
    // In the same folder, so that files can be moved by renaming. It is removed when this function returns.
    let work = tempfile::Builder::new().prefix(".lcepatch-").tempdir_in(parent);
    let work = work.map_err(RuntimeFault::io("create a folder in", parent))?;
    let wheel = package.download(work.path(), context)?;
    package.check(&wheel, context)?;
    package.unpack(&wheel, work.path(), context)?;
    package.move_into_place(work.path(), &folder)?;
    Ok(Installed { library, before: false })
}

impl Package {
    fn requirement(&self) -> String {
        match self.build {
            Build::Cpu => format!("onnxruntime=={VERSION}"),
            Build::Cuda => format!("onnxruntime-gpu=={CUDA_VERSION}"),
        }
    }

    fn download(&self, work: &Path, context: &Context<'_>) -> Result<PathBuf, RuntimeFault> {
        let package = self.requirement();
        context.begin(&format!("downloading {package}"), 0);
        let mut pip = Command::new(PYTHON);
        pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]);
        pip.args(["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12"]);
        pip.args(["--abi", "cp312", "--platform", self.platform, "--dest"]).arg(work).arg(&package);
        let output = run(pip, context)?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            if said.contains("No module named pip") {
                return Err(RuntimeFault::NoPip { program: PYTHON });
            }
            return Err(RuntimeFault::Download { package, reason: last_line(&said) });
        }
        let entries = std::fs::read_dir(work).map_err(RuntimeFault::io("list", work))?;
        let mut wheels = entries.flatten().map(|entry| entry.path());
        let wheel = wheels.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
        wheel.ok_or(RuntimeFault::Download { package, reason: "it left no wheel".to_owned() })
    }

    fn check(&self, wheel: &Path, context: &Context<'_>) -> Result<(), RuntimeFault> {
        let mut file = File::open(wheel).map_err(RuntimeFault::io("open", wheel))?;
        let (mut hasher, mut window) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let read = file.read(&mut window).map_err(RuntimeFault::io("read", wheel))?;
            if read == 0 {
                break;
            }
            hasher.update(&window[..read]);
            context.advance(read as u64)?;
        }
        let found = Digest(hasher.finalize().into());
        match Digest::from_hex(self.sha256) {
            Some(expected) if expected == found => Ok(()),
            expected => {
                let expected = expected.unwrap_or(Digest::UNKNOWN);
                Err(RuntimeFault::Digest { file: name_of(wheel), found, expected })
            }
        }
    }

    fn unpack(&self, wheel: &Path, work: &Path, context: &Context<'_>) -> Result<(), RuntimeFault> {
        context.begin("unpacking", 0);
        let mut zipfile = Command::new(PYTHON);
        zipfile.args(["-m", "zipfile", "-e"]).arg(wheel).arg(work.join("unpacked"));
        let output = run(zipfile, context)?;
        if output.status.success() {
            return Ok(());
        }
        let reason = last_line(&String::from_utf8_lossy(&output.stderr));
        Err(RuntimeFault::Unpack { package: name_of(wheel), reason })
    }

    /// Moves the libraries and their licence into their folder.
    fn move_into_place(&self, work: &Path, folder: &Path) -> Result<(), RuntimeFault> {
        let root = work.join("unpacked").join("onnxruntime");
        let replaced = work.join("replaced");
        let had = folder.is_dir();
        if had {
            std::fs::rename(folder, &replaced).map_err(RuntimeFault::io("replace", folder))?;
        }
        let moved = NewDirectory::create(folder).map_err(failed).and_then(|new| {
            let libraries = self.libraries.iter().map(|name| (root.join("capi").join(name), *name));
            let notices = ["LICENSE", "ThirdPartyNotices.txt"].map(|name| (root.join(name), name));
            for (from, name) in libraries.chain(notices) {
                let synced = File::open(&from).and_then(|file| file.sync_all());
                synced.map_err(RuntimeFault::io("sync", &from))?;
                std::fs::rename(&from, new.temporary_path().join(name)).map_err(RuntimeFault::io("move", &from))?;
            }
            new.commit().map_err(failed)
        });
        if moved.is_err() && had {
            // The previous installation is restored. If that fails, too, the first error is reported.
            let _ = std::fs::rename(&replaced, folder);
        }
        moved
    }
}

fn failed(failed: Failed) -> RuntimeFault {
    match failed {
        Failed::Io { operation, path, source } => RuntimeFault::Io { operation, path, source },
        Failed::Exists { path } | Failed::InUse { path, .. } => {
            RuntimeFault::Io { operation: "create", path, source: std::io::ErrorKind::AlreadyExists.into() }
        }
        failed => {
            RuntimeFault::Io { operation: "write", path: "the library".into(), source: std::io::Error::other(failed) }
        }
    }
}

fn run(mut command: Command, context: &Context<'_>) -> Result<Output, RuntimeFault> {
    let output = command.output().map_err(|source| RuntimeFault::NoPython { program: PYTHON, source })?;
    // An interruption also stops the child process, whose failure is then not reported.
    context.advance(0)?;
    Ok(output)
}

fn last_line(text: &str) -> String {
    let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next().unwrap_or("it said nothing");
    line.trim_start_matches("ERROR: ").to_owned()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_digest_is_one_and_every_build_its_version() {
        for package in &PACKAGES {
            assert!(Digest::from_hex(package.sha256).is_some_and(|digest| digest.is_known()));
            let version = package.build.folder().rsplit('-').next().map(str::to_owned).unwrap_or_default();
            let versioned = package.libraries[0].contains(&version);
            assert!(versioned || package.machine.0 == "windows", "{:?}", package.libraries);
        }
    }

    #[test]
    fn what_pip_says_last_is_the_reason() {
        assert_eq!(last_line("WARNING: slow\nERROR: No matching distribution\n\n"), "No matching distribution");
        assert_eq!(last_line("\n"), "it said nothing");
    }
}
