//! What to do where a model cannot be measured.

use super::files::absent;
use crate::measure::BadData;
use crate::model::ModelFault;
use crate::model::runtime::{DRIVER, RuntimeFault};

pub fn model(fault: &ModelFault) -> Option<String> {
    let help = match fault {
        ModelFault::NoTokenizer { .. } => {
            "`AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)` of transformers writes tokenizer.json, for most models"
        }
        ModelFault::NoConfig { .. } => {
            "a model directory has config.json, a tokenizer and the weights, as `save_pretrained` writes them"
        }
        ModelFault::Architecture { .. } | ModelFault::Setting { .. } => {
            "export the model to ONNX with a tool that knows it, and give the file with --onnx"
        }
        ModelFault::Unused { .. } => {
            "are config.json and the weights of the same model? If they are, export it to ONNX with a tool that knows it, and give \
             the file with --onnx"
        }
        ModelFault::NoTensor { longer: Some(longer), .. } => {
            return Some(format!(
                "it is there as {longer:?}: save the model itself, not what wraps it (such as `torch.compile`, FSDP or DDP)"
            ));
        }
        ModelFault::NoTensor { .. } | ModelFault::Tensor { .. } => "are config.json and the weights of the same model?",
        ModelFault::Vocabulary { .. } => "are the tokenizer and the weights of the same model?",
        ModelFault::Input { .. } => "export without past keys, with dynamic axes, as `optimum-cli export onnx` does",
        ModelFault::NoOutput { .. } => "export with this output, or choose another measure",
        ModelFault::Output { .. } => "are config.json and the export of the same model?",
        ModelFault::Unbound { .. } => {
            "export in the dtype of the checkpoint and without fusing weights, or leave them out: `lcepatch select --exclude`"
        }
        ModelFault::Shared { .. } => {
            "export without merging equal weights, or leave them out: `lcepatch select --exclude`"
        }
        ModelFault::NotFinite { .. } => "an alpha nearer to 0 keeps the numbers finite",
        ModelFault::Io { .. }
        | ModelFault::Malformed { .. }
        | ModelFault::TooLong { .. }
        | ModelFault::Onnx(_)
        | ModelFault::Runtime { .. }
        | ModelFault::Cancelled(_) => return None,
    };
    Some(help.to_owned())
}

pub fn data(bad: &BadData) -> Option<&'static str> {
    match bad {
        BadData::Io { path, .. } => Some(
            absent(path)
                .unwrap_or("benchmark data is not part of this program; docs/measuring.md says where it is published"),
        ),
        BadData::Unexpected { .. } | BadData::Malformed { .. } | BadData::Kind { .. } | BadData::Empty { .. } => None,
    }
}

pub fn runtime(fault: &RuntimeFault) -> Option<&'static str> {
    Some(match fault {
        RuntimeFault::NotFound { cuda: false, .. } | RuntimeFault::TooOld { .. } => {
            "`lcepatch runtime install` puts one in place"
        }
        RuntimeFault::NotFound { cuda: true, .. } | RuntimeFault::NotBuilt { .. } => {
            "`lcepatch runtime install --cuda` puts one in place"
        }
        RuntimeFault::NoSuchLibrary { .. } => {
            "let it name the library file, such as libonnxruntime.so, or unset it and use `lcepatch runtime install`"
        }
        RuntimeFault::Load { .. } => "give another one with ORT_DYLIB_PATH, or `lcepatch runtime install --force`",
        RuntimeFault::Provider { missing, .. } if missing.iter().any(|library| library == DRIVER) => {
            "CUDA needs NVIDIA's driver, version 580 or later"
        }
        RuntimeFault::Provider { missing, .. } if !missing.is_empty() => {
            "put CUDA 13 and cuDNN 9 where the loader looks, or `pip install nvidia-cuda-runtime nvidia-cublas \
             nvidia-curand nvidia-cufft nvidia-cuda-nvrtc nvidia-cudnn-cu13` into the active environment"
        }
        RuntimeFault::NoDataDirectory => "say where with LCEPATCH_HOME",
        RuntimeFault::NoBuild { .. } => {
            "install ONNX Runtime 1.22 or later by other means, and name it with ORT_DYLIB_PATH"
        }
        RuntimeFault::NoPython { .. } | RuntimeFault::NoPip { .. } => {
            "install Python with pip, or download the library by hand and name it with ORT_DYLIB_PATH"
        }
        RuntimeFault::Download { .. } => {
            "set the index with PIP_INDEX_URL, and the proxy with HTTPS_PROXY; or name a library with ORT_DYLIB_PATH"
        }
        RuntimeFault::Altered { .. } => "it is not loaded; `lcepatch runtime install --force` installs it again",
        RuntimeFault::Digest { .. } => "nothing was installed; is the package index one that you trust?",
        RuntimeFault::Provider { .. }
        | RuntimeFault::Loaded { .. }
        | RuntimeFault::Unpack { .. }
        | RuntimeFault::Io { .. }
        | RuntimeFault::Cancelled(_) => return None,
    })
}
