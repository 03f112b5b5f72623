//! What to do about places where patches are published.

use crate::error::PublishFault;

pub fn publish(fault: &PublishFault) -> String {
    let help = match fault {
        PublishFault::Adapter { .. } => {
            "keep the adapter in a place of its own: transformers does not say that it computes with other weights than the adapter means"
        }
        PublishFault::OtherPatch { .. } => "give the patch another name, or replace the one that is there with --force",
        PublishFault::OldSignature { .. } => {
            "sign the new patch with `lcepatch sign`, or remove the signature that is there"
        }
        PublishFault::SameName { .. } => "rename one of them",
        PublishFault::Name { .. } => {
            "name it as in debias.lcepatch: the name ends in .lcepatch, begins with a letter or a digit, and has nothing hidden in it"
        }
        PublishFault::LaterIndex { .. } => "use the version of lcepatch that wrote it, or a later one",
        PublishFault::NotText { file, .. } => return format!("save {file} as UTF-8, or remove it: it is written anew"),
        PublishFault::TooMany { .. } => "spread them over several places",
        PublishFault::Empty { .. } => "`lcepatch push` puts patches there",
        PublishFault::Unknown { files, .. } if files.is_empty() => "`lcepatch push` puts patches there",
        PublishFault::Unknown { files, .. } => {
            return format!(
                "give the name or the first digits of the id of one of them: {}",
                crate::error::list::named(files.iter())
            );
        }
        PublishFault::Replaced { .. } => "others are publishing there: try again",
        PublishFault::Fork { .. } => "say which one with --to",
        PublishFault::Cycle { .. } => "say which version you want with --to",
        PublishFault::Broken { .. } => {
            "`lcepatch find` says how far each patch fits; a patch that leads straight from your checkpoint to the version would join them"
        }
        PublishFault::Current { .. } => "use the checkpoint that you have, or ask for another version with --to",
        PublishFault::TooManyWays { .. } => {
            "say which version you want with --to, or spread the patches over several places"
        }
    };
    help.to_owned()
}
