//! What the command line makes of an error of the library: an exit code for each kind, and what to do about it, in words that name
//! flags and subcommands. The library itself speaks of facts only.

mod exchange;
pub mod files;
#[cfg(feature = "verify")]
mod models;
mod patches;
mod published;
#[cfg(feature = "net")]
mod remote;
mod signatures;

#[cfg(feature = "verify")]
pub use models::runtime;

use crate::error::{Error, ErrorKind, Reason};
#[cfg(feature = "verify")]
use crate::input::Meant;
use crate::patch::encode::EncodeError;

/// The exit code of a kind of failure, by the table in `docs/exit-codes.md`.
pub fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::SelectionImpossible
        | ErrorKind::MetadataTooLarge
        | ErrorKind::OutputExists
        | ErrorKind::OutputInUse
        | ErrorKind::OutputNotAFile
        | ErrorKind::OutputReserved
        | ErrorKind::OutputSame
        | ErrorKind::PublishExists
        | ErrorKind::PublishName
        | ErrorKind::ResultsOther
        | ErrorKind::RemoteName
        | ErrorKind::RemoteSetting
        | ErrorKind::RemotePlainHttp
        | ErrorKind::ShardUnsupported => 2,
        ErrorKind::Io
        | ErrorKind::OutputIo
        | ErrorKind::OutputNoLocks
        | ErrorKind::OutputReadBack
        | ErrorKind::OutputUnsynced
        | ErrorKind::PatchChanged
        | ErrorKind::RemoteDiskFull => 3,
        ErrorKind::PatchInvalid => 4,
        ErrorKind::CheckpointMalformed
        | ErrorKind::CheckpointChanged
        | ErrorKind::CheckpointUnpaired
        | ErrorKind::MaskMalformed
        | ErrorKind::LogMalformed
        | ErrorKind::PlanMalformed
        | ErrorKind::PartMalformed
        | ErrorKind::ImportMalformed
        | ErrorKind::EditInterrupted
        | ErrorKind::JournalDamaged
        | ErrorKind::ModelMalformed
        | ErrorKind::DataMalformed
        | ErrorKind::OnnxMalformed
        | ErrorKind::ResultsMalformed
        | ErrorKind::SignersMalformed
        | ErrorKind::KeyMalformed => 5,
        ErrorKind::BaseAlreadyApplied
        | ErrorKind::BaseDiffers
        | ErrorKind::BaseMaskDiffers
        | ErrorKind::BaseShared
        | ErrorKind::EditInteger
        | ErrorKind::EditTogether
        | ErrorKind::EditNoMasks
        | ErrorKind::EditNoValuesBefore
        | ErrorKind::ResultDiffers
        | ErrorKind::RevertImpossible
        | ErrorKind::AlgebraNeedsBase
        | ErrorKind::AlgebraSelected
        | ErrorKind::AlgebraReduced
        | ErrorKind::AlgebraNoInverse
        | ErrorKind::AlgebraChain
        | ErrorKind::AlgebraBases
        | ErrorKind::AlgebraUnpruned
        | ErrorKind::AlgebraInteger
        | ErrorKind::PartUnsuited
        | ErrorKind::ExportUnsuited
        | ErrorKind::ImportUnsuited
        | ErrorKind::PlanUnsuited
        | ErrorKind::PublishAdapter
        | ErrorKind::PublishUnreadable
        | ErrorKind::PatchNotFound
        | ErrorKind::ChainAmbiguous
        | ErrorKind::ChainBroken
        | ErrorKind::ChainComplete
        | ErrorKind::OutputHubCache
        | ErrorKind::OutputElsewhere
        | ErrorKind::OutputIsBase
        | ErrorKind::JournalOtherFile
        | ErrorKind::JournalFileGone
        | ErrorKind::KeyUnsupported
        | ErrorKind::ModelUnknown
        | ErrorKind::ModelTooLong
        | ErrorKind::OnnxUnsuited
        | ErrorKind::OnnxUnbound
        | ErrorKind::DataUnsuited
        | ErrorKind::RuntimeDigestMismatch
        | ErrorKind::RemoteMissing
        | ErrorKind::RemoteGated
        | ErrorKind::RemoteToken
        | ErrorKind::RemoteForbidden
        | ErrorKind::RemoteMoved
        | ErrorKind::RemoteTooLarge => 6,
        ErrorKind::NotFinite => 7,
        ErrorKind::RuntimeMissing
        | ErrorKind::RuntimeUnusable
        | ErrorKind::RuntimeProvider
        | ErrorKind::RuntimeNotInstallable
        | ErrorKind::RuntimeFailed
        | ErrorKind::ModelMissing
        | ErrorKind::KeyEncrypted
        | ErrorKind::AgentMissing
        | ErrorKind::AgentNoKey
        | ErrorKind::AgentRefused
        | ErrorKind::AgentFailed
        | ErrorKind::SignatureFailed => 8,
        ErrorKind::RuntimeDownload
        | ErrorKind::RemoteRateLimited
        | ErrorKind::RemoteServer
        | ErrorKind::RemoteConnection
        | ErrorKind::RemoteTls
        | ErrorKind::RemoteAnswer
        | ErrorKind::RemoteChanged
        | ErrorKind::RemoteDigest
        | ErrorKind::RemoteOffline => 9,
        ErrorKind::EditIncomplete => 10,
        ErrorKind::SignatureMissing
        | ErrorKind::SignatureMalformed
        | ErrorKind::SignatureNamespace
        | ErrorKind::SignatureCertificate
        | ErrorKind::SignatureUnsupported
        | ErrorKind::SignatureWrong
        | ErrorKind::SignerUnknown
        | ErrorKind::SignerOther
        | ErrorKind::SignerAuthority
        | ErrorKind::SignerNamespace
        | ErrorKind::SignerNotYetValid
        | ErrorKind::SignerExpired => 11,
        ErrorKind::Interrupted => 130,
    }
}

/// One thing to do about an error.
pub fn help(error: &Error) -> Option<String> {
    match error.reason() {
        Reason::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let help = files::absent(path);
            let help =
                help.unwrap_or("there is no such file or folder: look at the path, and at the folder it begins in");
            Some(help.to_owned())
        }
        Reason::Unexpected { unexpected, .. } => Some(files::unexpected(unexpected)),
        Reason::Patch { invalid, .. } => Some(files::patch(invalid).to_owned()),
        Reason::Metadata { .. } => Some(
            "shorten the description, or keep long results and lists beside the patch: readers would show none of it"
                .to_owned(),
        ),
        Reason::Checkpoint { reason, .. } => files::checkpoint(reason).map(str::to_owned),
        Reason::Onnx { .. } => Some("export the model again, or download the file again".to_owned()),
        Reason::Changed { .. } => {
            Some("wait for the program that writes it, and do it again; nothing was written here".to_owned())
        }
        Reason::Output(failed) => files::output(failed),
        Reason::Log { .. } => {
            Some("remove it, or apply with --no-log: it only says what was done, the weights do not need it".to_owned())
        }
        Reason::Pair(mismatch) => Some(patches::mismatch(mismatch)),
        Reason::Encode(EncodeError::Mask(fault)) | Reason::Mask(fault) => patches::mask(fault).map(str::to_owned),
        Reason::Localize(impossible) => patches::localize(impossible).map(str::to_owned),
        Reason::Encode(EncodeError::NotFinite { .. }) => {
            Some("keep exact deltas by leaving out --delta-dtype".to_owned())
        }
        Reason::Refused(refusal) => Some(patches::refusal(refusal)),
        Reason::Algebra(obstacle) => patches::obstacle(obstacle).map(str::to_owned),
        Reason::Part(fault) => Some(patches::part(fault)),
        Reason::Plan(fault) => Some(patches::plan(fault).to_owned()),
        Reason::Publish(fault) => Some(published::publish(fault)),
        Reason::Exchange(fault) => exchange::exchange(fault),
        Reason::Signature(fault) => signatures::signature(fault).map(str::to_owned),
        Reason::Key(fault) => signatures::key(fault),
        #[cfg(feature = "net")]
        Reason::Remote(fault) => remote::help(fault),
        #[cfg(feature = "verify")]
        Reason::Model(fault) => models::model(fault),
        #[cfg(feature = "verify")]
        Reason::Data(bad) => models::data(bad).map(str::to_owned),
        #[cfg(feature = "verify")]
        Reason::Runtime(fault) => models::runtime(fault).map(str::to_owned),
        #[cfg(feature = "verify")]
        Reason::Paused { .. } => Some("run the same command again: it goes on from there".to_owned()),
        #[cfg(feature = "verify")]
        Reason::Results { .. } => Some(files::give(Meant::Results).to_owned()),
        #[cfg(feature = "verify")]
        Reason::LaterResults { .. } => Some("use the version of lcepatch that wrote it, or a later one".to_owned()),
        #[cfg(feature = "verify")]
        Reason::OtherSweep { .. } => {
            Some("give another file; or, to go on with this one, the same command that it was made with".to_owned())
        }
        Reason::Io { .. } | Reason::Encode(EncodeError::Cancelled(_)) | Reason::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_an_exit_code_that_is_documented() {
        let table = include_str!("../../../docs/exit-codes.md");
        let codes = table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok());
        let documented: BTreeSet<u8> = codes.collect();
        for kind in ErrorKind::ALL {
            assert!(documented.contains(&exit_code(*kind)), "{}: {}", kind.code(), exit_code(*kind));
        }
        // And none is documented for nothing: the others are those of answers and of arguments.
        let used: BTreeSet<u8> = ErrorKind::ALL.iter().map(|kind| exit_code(*kind)).chain([0, 1]).collect();
        assert_eq!(used, documented);
    }
}
