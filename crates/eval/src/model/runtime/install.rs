//! Installs a pinned build of ONNX Runtime into the user's data directory.
//!
//! The package comes from the index of Python packages that the user's pip has, by a client that the caller gives, or else by pip itself.
//! Its SHA-256 is compared with the one pinned here, and only then is it unpacked, beside its place, and renamed: it is whole or absent.
//! Whenever an installed library is loaded, its SHA-256 is compared, too ([`check_installed`]).

use super::{Build, CUDA_VERSION, RuntimeFault, SearchPaths, VERSION};
use lcepatch_files::context::Context;
use lcepatch_files::durable::{Failed, NewDirectory};
use lcepatch_format::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program whose pip downloads if nothing else does.
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
    /// That of the wheel.
    sha256: &'static str,
    /// The libraries, with their SHA-256; the first one is ONNX Runtime itself.
    libraries: &'static [(&'static str, &'static str)],
}

/// A wheel, the form in which Python packages are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wheel {
    /// The package's name in an index, such as `onnxruntime`.
    pub project: &'static str,
    /// The wheel's name there.
    pub file: String,
}

/// A client of package indexes: writes a wheel to a file, and says why if it cannot.
pub type Download<'a> = &'a dyn Fn(&Wheel, &mut File, &Context<'_>) -> Result<(), String>;

/// The packages for CPython 3.12. The library in them does not depend on Python.
const PACKAGES: [Package; 5] = [
    Package {
        build: Build::Cpu,
        machine: ("linux", "x86_64"),
        platform: "manylinux_2_28_x86_64",
        sha256: "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8",
        libraries: &[("libonnxruntime.so.1.32.0", "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f")],
    },
    Package {
        build: Build::Cpu,
        machine: ("linux", "aarch64"),
        platform: "manylinux_2_28_aarch64",
        sha256: "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054",
        libraries: &[("libonnxruntime.so.1.32.0", "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a")],
    },
    Package {
        build: Build::Cpu,
        machine: ("macos", "aarch64"),
        platform: "macosx_14_0_arm64",
        sha256: "d52510bbbcc880c13b826f7d75cdf33ac5cf0bb864d960000fc29ce73f0cb83e",
        libraries: &[(
            "libonnxruntime.1.32.0.dylib",
            "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
        )],
    },
    Package {
        build: Build::Cpu,
        machine: ("windows", "x86_64"),
        platform: "win_amd64",
        sha256: "efe7456952c243a05a53d5b8732953625144642c2f3989094277f6217f0c0c40",
        libraries: &[
            ("onnxruntime.dll", "443c0065fcdba17618ddef05050308f4b471893c5c7da0337d6957c9073ad8a7"),
            ("onnxruntime_providers_shared.dll", "b7ce00a1246473401b9b7fed2816852c1f9ecd70f2e68a136761c40d6523b712"),
        ],
    },
    Package {
        build: Build::Cuda,
        machine: ("linux", "x86_64"),
        platform: "manylinux_2_28_x86_64",
        sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
        libraries: &[
            ("libonnxruntime.so.1.31.1", "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303"),
            ("libonnxruntime_providers_shared.so", "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"),
            ("libonnxruntime_providers_cuda.so", "8387867e857499e045caff5d13ac6a5de29571c801562fa2dde0e45f1f31de52"),
        ],
    },
];

/// Installs a build for this machine. An installed build is kept, unless it is to be replaced. `download` is tried first, and then pip.
///
/// # Errors
/// [`RuntimeFault`]; an installed build is then unchanged.
pub fn install(
    build: Build,
    replace: bool,
    download: Option<Download<'_>>,
    context: &Context<'_>,
) -> Result<Installed, RuntimeFault> {
    let package = Package::of(build)?;
    let folder = SearchPaths::current().installed(build).ok_or(RuntimeFault::NoDataDirectory)?;
    let library = package.libraries.first().map(|(name, _)| folder.join(name)).unwrap_or_default();
    if library.is_file() && !replace {
        return Ok(Installed { library, before: true });
    }
    let parent = folder.parent().unwrap_or(&folder);
    std::fs::create_dir_all(parent).map_err(RuntimeFault::io("create", parent))?;
    // In the same folder, so that files can be moved by renaming. It is removed when this function returns.
    let work = tempfile::Builder::new().prefix(".lcepatch-").tempdir_in(parent);
    let work = work.map_err(RuntimeFault::io("create a folder in", parent))?;
    let wheel = package.download(work.path(), download, context)?;
    context.begin("checking", 0);
    check(&wheel, package.sha256, context)?;
    let unpacked = work.path().join("unpacked");
    package.unpack(&wheel, &unpacked, context)?;
    package.move_into_place(work.path(), &unpacked, &folder)?;
    Ok(Installed { library, before: false })
}

/// Compares the libraries that [`install()`] has put into `folder` with their pinned SHA-256, since what they hold is about to run.
///
/// # Errors
/// [`RuntimeFault::Altered`]; I/O.
pub(super) fn check_installed(folder: &Path) -> Result<(), RuntimeFault> {
    let is_its_folder = |build: &Build| folder.ends_with(build.folder());
    let Some(build) = [Build::Cpu, Build::Cuda].into_iter().find(is_its_folder) else { return Ok(()) };
    for (name, sha256) in Package::of(build)?.libraries {
        let library = folder.join(name);
        check(&library, sha256, &Context::silent()).map_err(|fault| match fault {
            RuntimeFault::Digest { found, expected, .. } => RuntimeFault::Altered { library, found, expected },
            fault => fault,
        })?;
    }
    Ok(())
}

impl Package {
    /// The package with a build for this machine.
    fn of(build: Build) -> Result<&'static Self, RuntimeFault> {
        let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
        let package = PACKAGES.iter().find(|it| it.build == build && it.machine == (system, architecture));
        package.ok_or(RuntimeFault::NoBuild { cuda: build == Build::Cuda, system, architecture })
    }

    fn wheel(&self) -> Wheel {
        let (project, file) = match self.build {
            Build::Cpu => ("onnxruntime", format!("onnxruntime-{VERSION}")),
            Build::Cuda => ("onnxruntime-gpu", format!("onnxruntime_gpu-{CUDA_VERSION}")),
        };
        Wheel { project, file: format!("{file}-cp312-cp312-{}.whl", self.platform) }
    }

    fn requirement(&self) -> String {
        match self.build {
            Build::Cpu => format!("onnxruntime=={VERSION}"),
            Build::Cuda => format!("onnxruntime-gpu=={CUDA_VERSION}"),
        }
    }

    /// Writes the wheel into `work`.
    fn download(
        &self,
        work: &Path,
        download: Option<Download<'_>>,
        context: &Context<'_>,
    ) -> Result<PathBuf, RuntimeFault> {
        context.begin(&format!("downloading {}", self.requirement()), 0);
        let Some(download) = download else { return self.download_by_pip(work, context) };
        let wheel = self.wheel();
        let path = work.join(&wheel.file);
        let mut file = File::create(&path).map_err(RuntimeFault::io("create", &path))?;
        let Err(reason) = download(&wheel, &mut file, context) else { return Ok(path) };
        context.advance(0)?;
        std::fs::remove_file(&path).map_err(RuntimeFault::io("remove", &path))?;
        // pip knows more ways: proxies, certificates, accounts. If there is no pip, what the client said is what is wrong.
        self.download_by_pip(work, context).map_err(|fault| match fault {
            RuntimeFault::NoPython { .. } | RuntimeFault::NoPip { .. } => {
                RuntimeFault::Download { package: self.requirement(), reason }
            }
            fault => fault,
        })
    }

    fn download_by_pip(&self, work: &Path, context: &Context<'_>) -> Result<PathBuf, RuntimeFault> {
        let package = self.requirement();
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

    /// Unpacks the libraries and their licence into the new folder `unpacked`.
    fn unpack(&self, wheel: &Path, unpacked: &Path, context: &Context<'_>) -> Result<(), RuntimeFault> {
        context.begin("unpacking", 0);
        let fault =
            |error: zip::result::ZipError| RuntimeFault::Unpack { package: name_of(wheel), reason: error.to_string() };
        let file = File::open(wheel).map_err(RuntimeFault::io("open", wheel))?;
        let mut archive = zip::ZipArchive::new(file).map_err(fault)?;
        std::fs::create_dir(unpacked).map_err(RuntimeFault::io("create", unpacked))?;
        for (name, inside) in self.contents() {
            let mut from = archive.by_name(&inside).map_err(fault)?;
            let to = unpacked.join(name);
            let mut out = File::create_new(&to).map_err(RuntimeFault::io("create", &to))?;
            let mut window = vec![0; 1 << 20];
            loop {
                // Damage was excluded by the digest, so that only the disk is left to fail.
                let read = from.read(&mut window).map_err(RuntimeFault::io("unpack", wheel))?;
                if read == 0 {
                    break;
                }
                out.write_all(&window[..read]).map_err(RuntimeFault::io("write", &to))?;
                context.advance(read as u64)?;
            }
            out.sync_all().map_err(RuntimeFault::io("sync", &to))?;
        }
        Ok(())
    }

    /// What is installed: names, and where they are in the wheel.
    fn contents(&self) -> impl Iterator<Item = (&'static str, String)> {
        let libraries = self.libraries.iter().map(|(name, _)| (*name, format!("onnxruntime/capi/{name}")));
        libraries.chain(["LICENSE", "ThirdPartyNotices.txt"].map(|name| (name, format!("onnxruntime/{name}"))))
    }

    /// Moves what is `unpacked` into its folder.
    fn move_into_place(&self, work: &Path, unpacked: &Path, folder: &Path) -> Result<(), RuntimeFault> {
        let replaced = work.join("replaced");
        let had = folder.is_dir();
        if had {
            std::fs::rename(folder, &replaced).map_err(RuntimeFault::io("replace", folder))?;
        }
        let moved = NewDirectory::create(folder).map_err(failed).and_then(|new| {
            for (name, _) in self.contents() {
                let from = unpacked.join(name);
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

/// Compares the SHA-256 of a file with the expected one.
fn check(path: &Path, sha256: &str, context: &Context<'_>) -> Result<(), RuntimeFault> {
    let mut file = File::open(path).map_err(RuntimeFault::io("open", path))?;
    let (mut hasher, mut window) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut window).map_err(RuntimeFault::io("read", path))?;
        if read == 0 {
            break;
        }
        hasher.update(&window[..read]);
        context.advance(read as u64)?;
    }
    let found = Digest(hasher.finalize().into());
    match Digest::from_hex(sha256) {
        Some(expected) if expected == found => Ok(()),
        expected => {
            let expected = expected.unwrap_or(Digest::UNKNOWN);
            Err(RuntimeFault::Digest { file: name_of(path), found, expected })
        }
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
            let mut digests = package.libraries.iter().map(|(_, sha256)| *sha256).chain([package.sha256]);
            assert!(digests.all(|sha256| Digest::from_hex(sha256).is_some_and(|digest| digest.is_known())));
            let version = package.build.folder().rsplit('-').next().map(str::to_owned).unwrap_or_default();
            let versioned = package.libraries[0].0.contains(&version);
            assert!(versioned || package.machine.0 == "windows", "{:?}", package.libraries);
        }
    }

    #[test]
    fn what_pip_says_last_is_the_reason() {
        assert_eq!(last_line("WARNING: slow\nERROR: No matching distribution\n\n"), "No matching distribution");
        assert_eq!(last_line("\n"), "it said nothing");
    }
}
