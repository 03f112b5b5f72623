//! Loads the library, once for the process, and starts a provider.

use super::{Library, Origin, Provider, RuntimeFault, install, search};
use ort::environment::Environment;
use ort::ep::{self, ArenaExtendStrategy, ExecutionProvider as _, ExecutionProviderDispatch};
use ort::session::Session;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// NVIDIA's driver, which is not in any Python package.
pub const DRIVER: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// The library that this process has loaded. A process can load only one.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// A loaded library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its version, as precisely as it is known.
    pub version: String,
    /// The description of its build.
    pub build: String,
    /// The providers in its build that this program can use: `cpu`, `cuda`.
    pub providers: Vec<&'static str>,
}

/// Loads the library, and starts the provider that it was found for. Later calls return the same environment.
///
/// # Errors
/// [`RuntimeFault`]: the library does not load or is too old, another one was loaded before, or the provider cannot be
/// used.
pub fn load(found: &Library) -> Result<Environment, RuntimeFault> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = match found.provider {
        Provider::Cpu => Vec::new(),
        Provider::Cuda { .. } => preload_cuda(&found.site_packages),
    };
    let environment = match &*loaded {
        Some((library, _)) if *library != found.library => {
            return Err(RuntimeFault::Loaded { loaded: library.clone(), asked: found.library.clone() });
        }
        Some((_, environment)) => environment.clone(),
        None => {
            if let (Origin::Installed, Some(folder)) = (found.origin, found.library.parent()) {
                install::check_installed(folder)?;
            }
            let environment = open(&found.library)?;
            *loaded = Some((found.library.clone(), environment.clone()));
            environment
        }
    };
    start(found, &environment, missing)?;
    Ok(environment)
}

/// Describes the library that was loaded as `environment`.
///
/// # Errors
/// [`RuntimeFault::Load`].
pub fn about(found: &Library, _environment: &Environment) -> Result<About, RuntimeFault> {
    let minor = ort::util::probe(&found.library);
    // The file that the link points to may have the patch version in its name.
    let file = found.library.canonicalize().ok();
    let name = file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let named = name.and_then(search::version_in).filter(|version| version.get(1).copied() == minor);
    let version = match (named, minor) {
        (Some(version), _) => version.iter().map(u32::to_string).collect::<Vec<_>>().join("."),
        (None, Some(minor)) => format!("1.{minor}"),
        (None, None) => "unknown".to_owned(),
    };
    let has = |available: ort::Result<bool>| {
        available.map_err(|error| RuntimeFault::Load { library: found.library.clone(), reason: error.to_string() })
    };
    let mut providers = Vec::new();
    if has(ep::CPU::is_available())? {
        providers.push("cpu");
    }
    if has(ep::CUDA::is_available())? {
        providers.push("cuda");
    }
    Ok(About { version, build: ort::info().to_owned(), providers })
}

/// The execution providers of a session. A session that cannot use the requested one fails, instead of falling back to the CPU.
pub fn execution_providers(provider: Provider) -> Vec<ExecutionProviderDispatch> {
    let dispatch = match provider {
        // Named explicitly, so that a library with other providers does not choose one of them.
        Provider::Cpu => ep::CPU::default().build(),
        Provider::Cuda { device } => ep::CUDA::default()
            .with_device_id(device)
            // TF32 rounds inputs to 10 bits of mantissa: too coarse for differences between two checkpoints.
            .with_tf32(false)
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
            .build(),
    };
    vec![dispatch.error_on_failure()]
}

fn open(library: &Path) -> Result<Environment, RuntimeFault> {
    let fault = |reason: String| RuntimeFault::Load { library: library.to_owned(), reason };
    let builder = ort::init_from(library).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => {
            RuntimeFault::TooOld { library: library.to_owned(), version: version_str, least: ort::MINOR_VERSION }
        }
        ort::LoadDynamicError::Dlopen { error, .. } => fault(error.to_string()),
        ort::LoadDynamicError::MissingApi { .. } => fault("it does not export OrtGetApiBase".to_owned()),
        error => fault(error.to_string()),
    })?;
    let environment = builder.with_name("lcepatch").with_telemetry(false).build();
    environment.map_err(|error| fault(error.to_string()))
}

/// Registers the provider with a session that is never created, so that missing libraries are reported now.
fn start(found: &Library, environment: &Environment, missing: Vec<String>) -> Result<(), RuntimeFault> {
    if let Provider::Cuda { .. } = found.provider
        && !ep::CUDA::is_available().unwrap_or(false)
    {
        return Err(RuntimeFault::NotBuilt { library: found.library.clone() });
    }
    let registered = Session::builder(environment).and_then(|mut builder| {
        execution_providers(found.provider).iter().try_for_each(|dispatch| dispatch.register(&mut builder))
    });
    registered.map_err(|error| {
        let reason = said(&error.to_string()).to_owned();
        RuntimeFault::Provider { provider: found.provider.label(), reason, missing }
    })
}

/// A message of ONNX Runtime without its code and its source location.
fn said(message: &str) -> &str {
    let after = message.rsplit_once("[ONNXRuntimeError] : ").map_or(message, |(_, after)| after);
    after.splitn(3, " : ").last().unwrap_or(after).trim()
}

/// Loads CUDA's libraries, so that the provider finds them in memory: those on the loader's path first, then those of
/// NVIDIA's Python packages. Returns the names of those that were not found, which need not be fatal.
fn preload_cuda(site_packages: &[PathBuf]) -> Vec<String> {
    let names = [DRIVER].iter().chain(ep::cuda::CUDA_DYLIBS).chain(ep::cuda::CUDNN_DYLIBS);
    let mut folders: Option<Vec<PathBuf>> = None;
    let mut missing = Vec::new();
    for name in names {
        if ort::util::preload_dylib(*name).is_ok() {
            continue;
        }
        let folders = folders.get_or_insert_with(|| nvidia_folders(site_packages));
        let mut copies = folders.iter().map(|folder| folder.join(name)).filter(|file| file.is_file());
        if !copies.any(|file| ort::util::preload_dylib(&file).is_ok()) {
            missing.push((*name).to_owned());
        }
    }
    missing
}

/// The folders with libraries in NVIDIA's Python packages: `site-packages/nvidia/PACKAGE/lib`.
fn nvidia_folders(site_packages: &[PathBuf]) -> Vec<PathBuf> {
    let libraries: &[&str] = if cfg!(windows) { &["bin", "bin/x86_64"] } else { &["lib"] };
    let mut folders = Vec::new();
    for site in site_packages.iter().cloned().chain(search_path_of_python()) {
        let packages = std::fs::read_dir(site.join("nvidia")).into_iter().flatten().flatten();
        let mut packages: Vec<PathBuf> = packages.map(|entry| entry.path()).collect();
        packages.sort();
        folders.extend(packages.iter().flat_map(|package| libraries.iter().map(|library| package.join(library))));
    }
    folders
}

/// The folders of packages of the Python on the path, if there is one.
fn search_path_of_python() -> Vec<PathBuf> {
    let program = super::install::PYTHON;
    let output = Command::new(program).args(["-c", "import sys; print('\\n'.join(sys.path))"]).output();
    let Ok(output) = output else { return Vec::new() };
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(PathBuf::from).filter(|folder| folder.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_runtime_is_shortened_to_what_it_says() {
        let message = "/src/provider.cc:20 Provider& Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load x : y\n";
        assert_eq!(said(message), "Failed to load x : y");
        assert_eq!(said("no device"), "no device");
    }
}
