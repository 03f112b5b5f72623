//! What to do about what other tools read and write.

use crate::error::ExchangeFault;

pub fn exchange(fault: &ExchangeFault) -> Option<String> {
    let help = match fault {
        ExchangeFault::NotLinear { .. } => {
            "PEFT's SHiRA changes weights of nn.Linear only; `lcepatch select --include` makes a patch of these, and --to values takes every tensor"
        }
        ExchangeFault::Nothing { .. } => "give another --alpha, or look into the patch with `lcepatch show`",
        ExchangeFault::Rank { .. } => {
            "PEFT's SHiRA has one r for all modules; `lcepatch select` makes a patch of fewer weights or modules, and --to values needs no r"
        }
        ExchangeFault::Padding { .. } => {
            "PEFT's SHiRA lists r * (in + out) weights in every module; to write it all the same, add --force, or use --to values"
        }
        ExchangeFault::Dtype { .. } => "leave the tensor out with `lcepatch select --exclude`",
        ExchangeFault::TooLong { .. } => "add --wide for indices of 64 bits",
        ExchangeFault::BesidePatches { .. } => "give a new directory",
        ExchangeFault::NotInBase { near: Some(near), .. } => {
            return Some(format!(
                "the base has {near:?}: exchange the beginning of the names with --map-prefix, or give another --base"
            ));
        }
        ExchangeFault::NotInBase { near: None, .. } | ExchangeFault::OtherTensor { .. } => {
            "give the checkpoint that it was made for with --base"
        }
        ExchangeFault::OtherAdapter { .. } => {
            "load it with PEFT, merge it (`merge_and_unload`), save the model, and make the patch with `lcepatch diff`"
        }
        ExchangeFault::Torch { .. } => {
            "load it with torch where you trust it, and save its state dict alone: plain tensors, made contiguous, best as safetensors"
        }
        ExchangeFault::Malformed { .. } => "download it again, or have the program that made it write it again",
        ExchangeFault::NotFinite { .. } | ExchangeFault::BecomesNotFinite { .. } | ExchangeFault::Unsuited { .. } => {
            return None;
        }
    };
    Some(help.to_owned())
}
