use super::*;
use std::collections::BTreeMap;

const CUDA: Provider = Provider::Cuda { device: 0 };

/// A scratch directory with empty libraries in it.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, []).unwrap();
        path
    }

    fn search_paths(&self) -> SearchPaths {
        SearchPaths {
            named: None,
            data: Some(self.path("data")),
            library_folders: vec![self.path("lib64"), self.path("lib")],
            virtual_environment: Some(self.path("venv")),
        }
    }
}

fn library(version: &str) -> String {
    if cfg!(target_os = "macos") {
        format!("libonnxruntime.{version}.dylib")
    } else {
        format!("libonnxruntime.so.{version}")
    }
}

#[test]
fn an_absent_library_is_missing_with_all_places() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.path("lib")).unwrap();
    let fault = machine.search_paths().find(Provider::Cpu).unwrap_err();
    assert!(matches!(fault, RuntimeFault::NotFound { cuda: false, .. }));
    let looked = fault.details().join("\n");
    for place in ["ORT_DYLIB_PATH", "onnxruntime-1.32.0", "onnxruntime-gpu-1.31.1"] {
        assert!(looked.contains(place), "{looked}");
    }
    assert!(looked.ends_with("/lib") && !looked.contains("lib64"), "{looked}");
}

#[cfg(unix)]
#[test]
fn places_are_searched_in_order() {
    let machine = Machine::new();
    let mut search_paths = machine.search_paths();
    let package = machine.put(&format!("venv/lib/python3.12/site-packages/onnxruntime/capi/{}", library("1.30.0")));
    let expect = |path: &Path, origin: Origin| {
        let found = search_paths.find(Provider::Cpu).unwrap();
        assert_eq!((found.library.as_path(), found.origin), (path, origin));
    };
    expect(&package, Origin::VirtualEnvironment);
    expect(&machine.put(&format!("lib/{}", library("1.29.1"))), Origin::System);
    expect(&machine.put(&format!("lib64/{}", library("1.9"))), Origin::System);
    expect(&machine.put(&format!("lib64/{}", library("1.10.0"))), Origin::System);
    let plain = format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    expect(&machine.put(&format!("lib64/{plain}")), Origin::System);
    let folder = "data/runtime/onnxruntime-gpu-1.31.1";
    expect(&machine.put(&format!("{folder}/{}", library("1.31.1"))), Origin::Installed);
    expect(&machine.put(&format!("data/runtime/onnxruntime-1.32.0/{}", library("1.32.0"))), Origin::Installed);
    search_paths.named = Some(machine.put("mine.so"));
    let found = search_paths.find(Provider::Cpu).unwrap();
    assert_eq!((found.library, found.origin), (machine.path("mine.so"), Origin::Named));
}

#[cfg(unix)]
#[test]
fn cuda_is_found_only_where_its_provider_is() {
    let machine = Machine::new();
    let search_paths = machine.search_paths();
    machine.put(&format!("data/runtime/onnxruntime-1.32.0/{}", library("1.32.0")));
    let gpu = machine.put(&format!("data/runtime/onnxruntime-gpu-1.31.1/{}", library("1.31.1")));
    let fault = search_paths.find(CUDA).unwrap_err();
    assert!(matches!(fault, RuntimeFault::NotFound { cuda: true, .. }));
    machine.put(&format!("data/runtime/onnxruntime-gpu-1.31.1/{CUDA_PROVIDER}"));
    assert_eq!(search_paths.find(CUDA).unwrap().library, gpu);
}

#[cfg(unix)]
#[test]
fn cuda_libraries_are_looked_for_beside_the_package() {
    let machine = Machine::new();
    let mut search_paths = machine.search_paths();
    machine.put("venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so");
    machine.put(&format!("venv/lib/python3.12/site-packages/onnxruntime/capi/{}", library("1.31.1")));
    let own = machine.path("venv/lib/python3.12/site-packages");
    assert_eq!(search_paths.find(CUDA).unwrap().site_packages, std::slice::from_ref(&own));
    let other = machine.put(&format!("other/site-packages/onnxruntime/capi/{}", library("1.31.1")));
    search_paths.named = Some(other);
    assert_eq!(search_paths.find(CUDA).unwrap().site_packages, [machine.path("other/site-packages"), own]);
}

#[test]
fn a_named_library_that_is_not_there_is_an_error_even_if_others_are() {
    let machine = Machine::new();
    let mut search_paths = machine.search_paths();
    machine.put(&format!("lib/{}", library("1.32.0")));
    search_paths.named = Some(machine.path("absent.so"));
    let fault = search_paths.find(Provider::Cpu).unwrap_err();
    assert!(matches!(&fault, RuntimeFault::NoSuchLibrary { path } if *path == machine.path("absent.so")), "{fault}");
    search_paths.named = Some(machine.path("lib"));
    assert!(search_paths.find(Provider::Cpu).is_err(), "a folder is no library");
}

#[cfg(target_os = "linux")]
#[test]
fn variables_say_where_data_is() {
    let data = |pairs: &[(&str, &str)]| {
        let map: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        let search_paths = SearchPaths::of(|name| map.get(name).map(OsString::from));
        search_paths.data.map(|path| path.to_str().unwrap().to_owned())
    };
    let home = ("HOME", "/somebody");
    assert_eq!(data(&[]), None);
    assert_eq!(data(&[home]).unwrap(), "/somebody/.local/share/lcepatch");
    assert_eq!(data(&[home, ("XDG_DATA_HOME", "/data")]).unwrap(), "/data/lcepatch");
    assert_eq!(data(&[home, ("XDG_DATA_HOME", "data")]).unwrap(), "/somebody/.local/share/lcepatch");
    assert_eq!(data(&[home, ("XDG_DATA_HOME", "/data"), ("LCEPATCH_HOME", "/mine")]).unwrap(), "/mine");
}

#[cfg(target_os = "linux")]
#[test]
fn the_loaders_path_comes_before_the_usual_folders_and_skips_what_is_relative() {
    let variable = |name: &str| (name == "LD_LIBRARY_PATH").then(|| OsString::from("/a::b:/c"));
    let folders = SearchPaths::of(variable).library_folders;
    assert_eq!(folders[..2], [PathBuf::from("/a"), PathBuf::from("/c")]);
    assert!(folders.contains(&PathBuf::from(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH))));
    assert!(folders.iter().all(|folder| folder.is_absolute()));
}
