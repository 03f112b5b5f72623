//! Kinds of failures, and which one a reason is.

use super::{ExchangeFault, Obstacle, PartFault, PlanFault, PublishFault, Reason, Refusal};
use crate::durable::Failed;
use crate::format::patch::ReadError;
use crate::input::Meant;
use crate::localize::Impossible;
use crate::mask::MaskFault;
#[cfg(feature = "verify")]
use crate::measure::BadData;
#[cfg(feature = "verify")]
use crate::model::{ModelFault, runtime::RuntimeFault};
use crate::patch::Unreadable;
use crate::patch::encode::EncodeError;
use crate::signature::{KeyFault, SignatureFault};
#[cfg(feature = "net")]
use lcepatch_hub::Fault;

/// Defines [`ErrorKind`] from one table, so that no kind is without a code, nor left out of [`ErrorKind::ALL`].
macro_rules! kinds {
    ($($(#[$about:meta])* $kind:ident = $code:literal,)*) => {
        /// What kind of failure an error is: what a program tells apart. Each has a stable [code](ErrorKind::code) for scripts and logs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$about])* $kind,)*
        }

        impl ErrorKind {
            /// All kinds.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$kind),*];

            /// A stable name for scripts.
            pub const fn code(self) -> &'static str {
                match self {
                    $(ErrorKind::$kind => $code,)*
                }
            }
        }
    };
}

kinds! {
    /// A file or directory could not be read.
    Io = "io",
    /// Someone asked to stop.
    Interrupted = "interrupted",
    /// A number is NaN or infinite, or would become so.
    NotFinite = "numbers.not-finite",

    /// A checkpoint is not valid, or something else.
    CheckpointMalformed = "checkpoint.malformed",
    /// A checkpoint changed while it was read or edited.
    CheckpointChanged = "checkpoint.changed",
    /// Two checkpoints do not have the same tensors.
    CheckpointUnpaired = "checkpoint.unpaired",
    /// A pruning mask is not valid, or there is none.
    MaskMalformed = "mask.malformed",
    /// A selection cannot be made as asked.
    SelectionImpossible = "selection.impossible",

    /// A patch breaks a rule of the format, or is something else.
    PatchInvalid = "patch.invalid",
    /// Metadata is larger than readers take.
    MetadataTooLarge = "metadata.too-large",
    /// A patch changed while it was read.
    PatchChanged = "patch.changed",
    /// A part of a diff in shards is not valid.
    PartMalformed = "part.malformed",
    /// Parts of a diff in shards are missing, or do not belong together.
    PartUnsuited = "part.unsuited",
    /// A plan of a run on several machines is not valid.
    PlanMalformed = "plan.malformed",
    /// A file is not the one of the plan, or a shard is not one of its shards.
    PlanUnsuited = "plan.unsuited",
    /// A diff cannot be divided into shards.
    ShardUnsupported = "shard.unsupported",

    /// The base is what the patch produces.
    BaseAlreadyApplied = "base.already-applied",
    /// The base is not the one that the patch is for.
    BaseDiffers = "base.differs",
    /// The base's pruning mask is not the one that the patch is for.
    BaseMaskDiffers = "base.mask-differs",
    /// One weight of an ONNX file is several tensors, of which the edits differ.
    BaseShared = "base.shared",
    /// An edit that only floats can have, of other numbers.
    EditInteger = "edit.integer",
    /// Edits that cannot be done together.
    EditTogether = "edit.together",
    /// The patch has no masks to switch.
    EditNoMasks = "edit.no-masks",
    /// The patch does not know the weights from before the pruning.
    EditNoValuesBefore = "edit.no-values-before",
    /// The result's digest is not the one that the patch declares.
    ResultDiffers = "result.differs",
    /// The last step cannot be taken back.
    RevertImpossible = "revert.impossible",
    /// The log of a model directory is not valid.
    LogMalformed = "log.malformed",

    /// A patch needs its base to be worked with.
    AlgebraNeedsBase = "algebra.needs-base",
    /// A patch selects more than is read without its base.
    AlgebraSelected = "algebra.selected",
    /// A patch with deltas of reduced precision, where exact ones are needed.
    AlgebraReduced = "algebra.reduced",
    /// A patch cannot be inverted.
    AlgebraNoInverse = "algebra.no-inverse",
    /// The second patch is not for the result of the first.
    AlgebraChain = "algebra.chain",
    /// Two patches are not for the same base.
    AlgebraBases = "algebra.bases",
    /// A patch is for a base with unpruned weights beside its mask.
    AlgebraUnpruned = "algebra.unpruned",
    /// Changes of other numbers than floats would have to be scaled or ranked.
    AlgebraInteger = "algebra.integer",

    /// A place of patches also has the configuration of an adapter.
    PublishAdapter = "publish.adapter",
    /// A place has another patch of the name.
    PublishExists = "publish.exists",
    /// Patches cannot have the names that they have.
    PublishName = "publish.name",
    /// A file of a place cannot be changed.
    PublishUnreadable = "publish.unreadable",
    /// A place has no patches, or not the one that was asked for.
    PatchNotFound = "patch.not-found",
    /// Patches lead to several versions, or in a circle.
    ChainAmbiguous = "chain.ambiguous",
    /// Patches do not lead from the checkpoint to where they should.
    ChainBroken = "chain.broken",
    /// The checkpoint is the last version.
    ChainComplete = "chain.complete",

    /// A patch cannot be written in another tool's format.
    ExportUnsuited = "export.unsuited",
    /// A file of another tool breaks its own format.
    ImportMalformed = "import.malformed",
    /// A file of another tool does not become a patch of this base.
    ImportUnsuited = "import.unsuited",

    /// There is something where an output would be.
    OutputExists = "output.exists",
    /// Another process uses a file.
    OutputInUse = "output.in-use",
    /// A file cannot be locked.
    OutputNoLocks = "output.no-locks",
    /// An output would be in a hub's cache.
    OutputHubCache = "output.hub-cache",
    /// What is to be edited in place is not on this machine.
    OutputElsewhere = "output.elsewhere",
    /// Something else than a file, or than a directory, is where an output would be.
    OutputNotAFile = "output.not-a-file",
    /// What was read back is not what was written.
    OutputReadBack = "output.read-back",
    /// An output is in its place, and may not outlast a loss of power.
    OutputUnsynced = "output.unsynced",
    /// An output's name is kept for files of this program.
    OutputReserved = "output.reserved",
    /// An output would take the place of the base.
    OutputIsBase = "output.is-base",
    /// Two outputs would be in one place.
    OutputSame = "output.same",
    /// An output could not be written.
    OutputIo = "output.io",
    /// The result of an edit is complete, and not all of it is in its place.
    EditIncomplete = "edit.incomplete",
    /// An edit in place was interrupted.
    EditInterrupted = "edit.interrupted",
    /// The journal of an edit in place is damaged.
    JournalDamaged = "journal.damaged",
    /// A file is not the one that the journal is about.
    JournalOtherFile = "journal.other-file",
    /// A file that the journal is about is not there.
    JournalFileGone = "journal.file-gone",

    /// A patch is not signed.
    SignatureMissing = "signature.missing",
    /// A signature is not valid.
    SignatureMalformed = "signature.malformed",
    /// A signature was made for something else.
    SignatureNamespace = "signature.namespace",
    /// A signature was made with a certificate.
    SignatureCertificate = "signature.certificate",
    /// A signature was made with a kind of key that is not supported.
    SignatureUnsupported = "signature.unsupported",
    /// A signature is not of this patch.
    SignatureWrong = "signature.wrong",
    /// Signing failed.
    SignatureFailed = "signature.failed",
    /// A key is not in the list of signers.
    SignerUnknown = "signer.unknown",
    /// A key is that of another signer.
    SignerOther = "signer.other",
    /// A key may only certify other keys.
    SignerAuthority = "signer.authority",
    /// A key may not sign patches.
    SignerNamespace = "signer.namespace",
    /// A key may not sign yet.
    SignerNotYetValid = "signer.not-yet-valid",
    /// A key may not sign any more.
    SignerExpired = "signer.expired",
    /// A list of signers is not valid.
    SignersMalformed = "signers.malformed",
    /// A file holds no key that can be read.
    KeyMalformed = "key.malformed",
    /// A kind of key that cannot sign here.
    KeyUnsupported = "key.unsupported",
    /// A key is under a passphrase.
    KeyEncrypted = "key.encrypted",
    /// There is no ssh-agent.
    AgentMissing = "agent.missing",
    /// The ssh-agent does not have the key.
    AgentNoKey = "agent.no-key",
    /// The ssh-agent refused to sign.
    AgentRefused = "agent.refused",
    /// The ssh-agent does not work.
    AgentFailed = "agent.failed",

    /// A file of a model directory is missing.
    ModelMissing = "model.missing",
    /// A file of a model directory is not valid.
    ModelMalformed = "model.malformed",
    /// A model of an architecture that is not known.
    ModelUnknown = "model.unknown",
    /// A text is longer than the model takes.
    ModelTooLong = "model.too-long",
    /// An ONNX file is not valid.
    OnnxMalformed = "onnx.malformed",
    /// An ONNX file does not take or give what is needed.
    OnnxUnsuited = "onnx.unsuited",
    /// Edited tensors are not found in an ONNX file.
    OnnxUnbound = "onnx.unbound",
    /// Data to measure on is not valid.
    DataMalformed = "data.malformed",
    /// Data that this kind of model cannot be measured on.
    DataUnsuited = "data.unsuited",
    /// A file of results is not valid.
    ResultsMalformed = "results.malformed",
    /// A file holds the results of another sweep.
    ResultsOther = "results.other",
    /// There is no ONNX Runtime.
    RuntimeMissing = "runtime.missing",
    /// A library of ONNX Runtime cannot be used.
    RuntimeUnusable = "runtime.unusable",
    /// What should compute, such as CUDA, cannot be used.
    RuntimeProvider = "runtime.provider",
    /// ONNX Runtime failed while it computed.
    RuntimeFailed = "runtime.failed",
    /// ONNX Runtime cannot be installed here.
    RuntimeNotInstallable = "runtime.not-installable",
    /// ONNX Runtime could not be downloaded.
    RuntimeDownload = "runtime.download",
    /// What was downloaded is not what was published.
    RuntimeDigestMismatch = "runtime.digest-mismatch",

    /// A name says where something is in a way that is not understood, or leads to several files.
    RemoteName = "remote.name",
    /// A variable about hubs or servers has a value that it cannot have.
    RemoteSetting = "remote.setting",
    /// Another machine would be read without encryption.
    RemotePlainHttp = "remote.plain-http",
    /// A hub or server has no such repository, revision or file.
    RemoteMissing = "remote.missing",
    /// Access to a repository has to be asked for.
    RemoteGated = "remote.gated",
    /// A server does not know the token.
    RemoteToken = "remote.token",
    /// A server refuses.
    RemoteForbidden = "remote.forbidden",
    /// Somebody else published meanwhile.
    RemoteMoved = "remote.moved",
    /// A file is larger than is read.
    RemoteTooLarge = "remote.too-large",
    /// Too many requests.
    RemoteRateLimited = "remote.rate-limited",
    /// A server fails.
    RemoteServer = "remote.server",
    /// A host is unknown, or cannot be connected to.
    RemoteConnection = "remote.connection",
    /// No encrypted connection can be made.
    RemoteTls = "remote.tls",
    /// An answer is not that of a hub or server of files.
    RemoteAnswer = "remote.answer",
    /// A file changed while it was read.
    RemoteChanged = "remote.changed",
    /// What arrived is damaged.
    RemoteDigest = "remote.digest",
    /// The network is turned off, and something is not in the cache.
    RemoteOffline = "remote.offline",
    /// There is not enough space for a download.
    RemoteDiskFull = "remote.disk-full",
}

impl Reason {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Reason::Io { .. } => ErrorKind::Io,
            Reason::Unexpected { unexpected, .. } => of_unexpected(unexpected.meant),
            Reason::Patch { .. } => ErrorKind::PatchInvalid,
            Reason::Metadata { .. } => ErrorKind::MetadataTooLarge,
            Reason::Checkpoint { .. } => ErrorKind::CheckpointMalformed,
            Reason::Changed { .. } => ErrorKind::CheckpointChanged,
            Reason::Onnx { .. } => ErrorKind::OnnxMalformed,
            Reason::Pair(_) => ErrorKind::CheckpointUnpaired,
            Reason::Localize(impossible) => of_localize(impossible),
            Reason::Encode(EncodeError::NotFinite { .. }) => ErrorKind::NotFinite,
            Reason::Encode(EncodeError::Mask(fault)) | Reason::Mask(fault) => of_mask(fault),
            Reason::Encode(EncodeError::Cancelled(_)) | Reason::Cancelled => ErrorKind::Interrupted,
            Reason::Refused(refusal) => of_refusal(refusal),
            Reason::Algebra(obstacle) => of_obstacle(obstacle),
            Reason::Part(fault) => of_part(fault),
            Reason::Plan(PlanFault::OtherSource { .. } | PlanFault::OtherShards { .. }) => ErrorKind::PlanUnsuited,
            Reason::Plan(_) => ErrorKind::PlanMalformed,
            Reason::Signature(fault) => of_signature(fault),
            Reason::Key(fault) => of_key(fault),
            Reason::Publish(fault) => of_publish(fault),
            Reason::Exchange(fault) => of_exchange(fault),
            Reason::Log { .. } => ErrorKind::LogMalformed,
            #[cfg(feature = "verify")]
            Reason::Model(fault) => of_model(fault),
            #[cfg(feature = "verify")]
            Reason::Data(bad) => of_data(bad),
            #[cfg(feature = "verify")]
            Reason::Runtime(fault) => of_runtime(fault),
            #[cfg(feature = "verify")]
            Reason::Paused { .. } => ErrorKind::Interrupted,
            #[cfg(feature = "verify")]
            Reason::Results { .. } | Reason::LaterResults { .. } => ErrorKind::ResultsMalformed,
            #[cfg(feature = "verify")]
            Reason::OtherSweep { .. } => ErrorKind::ResultsOther,
            Reason::Output(failed) => of_output(failed),
            #[cfg(feature = "net")]
            Reason::Remote(fault) => of_remote(fault),
        }
    }
}

fn of_exchange(fault: &ExchangeFault) -> ErrorKind {
    match fault {
        ExchangeFault::NotLinear { .. }
        | ExchangeFault::Nothing { .. }
        | ExchangeFault::Rank { .. }
        | ExchangeFault::Padding { .. }
        | ExchangeFault::Dtype { .. }
        | ExchangeFault::TooLong { .. } => ErrorKind::ExportUnsuited,
        ExchangeFault::NotFinite { .. } | ExchangeFault::BecomesNotFinite { .. } => ErrorKind::NotFinite,
        ExchangeFault::BesidePatches { .. } => ErrorKind::PublishAdapter,
        ExchangeFault::Malformed { .. } => ErrorKind::ImportMalformed,
        ExchangeFault::Unsuited { .. }
        | ExchangeFault::OtherAdapter { .. }
        | ExchangeFault::Torch { .. }
        | ExchangeFault::NotInBase { .. }
        | ExchangeFault::OtherTensor { .. } => ErrorKind::ImportUnsuited,
    }
}

fn of_publish(fault: &PublishFault) -> ErrorKind {
    match fault {
        PublishFault::Adapter { .. } => ErrorKind::PublishAdapter,
        PublishFault::OtherPatch { .. } | PublishFault::OldSignature { .. } => ErrorKind::PublishExists,
        PublishFault::SameName { .. } | PublishFault::Name { .. } => ErrorKind::PublishName,
        PublishFault::LaterIndex { .. } | PublishFault::NotText { .. } => ErrorKind::PublishUnreadable,
        PublishFault::Replaced { .. } => ErrorKind::RemoteMoved,
        PublishFault::TooMany { .. } => ErrorKind::RemoteTooLarge,
        PublishFault::Empty { .. } | PublishFault::Unknown { .. } => ErrorKind::PatchNotFound,
        PublishFault::Fork { .. } | PublishFault::Cycle { .. } | PublishFault::TooManyWays { .. } => {
            ErrorKind::ChainAmbiguous
        }
        PublishFault::Broken { .. } => ErrorKind::ChainBroken,
        PublishFault::Current { .. } => ErrorKind::ChainComplete,
    }
}

#[cfg(feature = "net")]
fn of_remote(fault: &Fault) -> ErrorKind {
    match fault {
        Fault::Name { .. } => ErrorKind::RemoteName,
        Fault::Setting { .. } => ErrorKind::RemoteSetting,
        Fault::PlainHttp { .. } => ErrorKind::RemotePlainHttp,
        Fault::NoSuchRepository { .. }
        | Fault::NoSuchRevision { .. }
        | Fault::NoSuchFile { .. }
        | Fault::NotFound { .. }
        | Fault::Store { refusal: lcepatch_hub::Refusal::NoSuchBucket, .. } => ErrorKind::RemoteMissing,
        Fault::Gated { .. } => ErrorKind::RemoteGated,
        Fault::WrongToken { .. } => ErrorKind::RemoteToken,
        Fault::Forbidden { .. } | Fault::Store { .. } => ErrorKind::RemoteForbidden,
        Fault::Moved { .. } => ErrorKind::RemoteMoved,
        Fault::TooLarge { .. } => ErrorKind::RemoteTooLarge,
        Fault::RateLimited { .. } => ErrorKind::RemoteRateLimited,
        Fault::Server { .. } => ErrorKind::RemoteServer,
        Fault::NoSuchHost { .. } | Fault::Connection { .. } => ErrorKind::RemoteConnection,
        Fault::Tls { .. } => ErrorKind::RemoteTls,
        Fault::RedirectLoop { .. } | Fault::NotAHub { .. } | Fault::Answer { .. } => ErrorKind::RemoteAnswer,
        Fault::Changed { .. } => ErrorKind::RemoteChanged,
        Fault::Digest { .. } => ErrorKind::RemoteDigest,
        Fault::Offline { .. } => ErrorKind::RemoteOffline,
        Fault::DiskFull { .. } => ErrorKind::RemoteDiskFull,
        Fault::Io { .. } => ErrorKind::Io,
        Fault::Output(failed) => of_output(failed),
        Fault::Cancelled => ErrorKind::Interrupted,
    }
}

/// Of something else than the file that was meant: as of such a file that is not valid.
fn of_unexpected(meant: Meant) -> ErrorKind {
    match meant {
        Meant::Checkpoint | Meant::Index => ErrorKind::CheckpointMalformed,
        Meant::Patch => ErrorKind::PatchInvalid,
        Meant::Part => ErrorKind::PartMalformed,
        Meant::Plan => ErrorKind::PlanMalformed,
        Meant::Onnx => ErrorKind::OnnxMalformed,
        Meant::Torch => ErrorKind::ImportMalformed,
        Meant::Model => ErrorKind::ModelMalformed,
        Meant::Data => ErrorKind::DataMalformed,
        Meant::Results => ErrorKind::ResultsMalformed,
        Meant::Log => ErrorKind::LogMalformed,
        Meant::Signature => ErrorKind::SignatureMalformed,
        Meant::Signers => ErrorKind::SignersMalformed,
        Meant::Key => ErrorKind::KeyMalformed,
    }
}

fn of_localize(impossible: &Impossible) -> ErrorKind {
    match impossible {
        Impossible::NotFinite { .. } | Impossible::Cast { .. } => ErrorKind::NotFinite,
        Impossible::Mask(fault) => of_mask(fault),
        Impossible::Unpruned { .. } => ErrorKind::CheckpointUnpaired,
        Impossible::TooMany { .. }
        | Impossible::SameMasks
        | Impossible::NoMasks
        | Impossible::NoCandidates { .. }
        | Impossible::Glob { .. }
        | Impossible::TooRegular { .. }
        | Impossible::Unmatched { .. } => ErrorKind::SelectionImpossible,
        Impossible::Cancelled(_) => ErrorKind::Interrupted,
    }
}

fn of_mask(fault: &MaskFault) -> ErrorKind {
    match fault {
        MaskFault::NotFinite { .. } => ErrorKind::NotFinite,
        MaskFault::Before { .. } => ErrorKind::SelectionImpossible,
        MaskFault::Cancelled(_) => ErrorKind::Interrupted,
        MaskFault::Shape { .. }
        | MaskFault::Value { .. }
        | MaskFault::Padding { .. }
        | MaskFault::Unmatched { .. }
        | MaskFault::None { .. }
        | MaskFault::TooFew { .. } => ErrorKind::MaskMalformed,
    }
}

fn of_refusal(refusal: &Refusal) -> ErrorKind {
    match refusal {
        Refusal::Base { state: super::BaseState::Result, .. } => ErrorKind::BaseAlreadyApplied,
        Refusal::Base { .. } => ErrorKind::BaseDiffers,
        Refusal::Integer { .. } | Refusal::IntegerSum { .. } => ErrorKind::EditInteger,
        Refusal::Together { .. } => ErrorKind::EditTogether,
        Refusal::NoMasks { .. } => ErrorKind::EditNoMasks,
        Refusal::NoValuesBefore { .. } => ErrorKind::EditNoValuesBefore,
        Refusal::Mask { .. } => ErrorKind::BaseMaskDiffers,
        Refusal::NotFinite { .. } => ErrorKind::NotFinite,
        Refusal::DeclaredDigest { .. } => ErrorKind::ResultDiffers,
        Refusal::NoRevert { .. } => ErrorKind::RevertImpossible,
        Refusal::SameFile { .. } | Refusal::BesideBase { .. } | Refusal::OfBase { .. } => ErrorKind::OutputIsBase,
        Refusal::SamePlace { .. } => ErrorKind::OutputSame,
        Refusal::Shared { .. } => ErrorKind::BaseShared,
    }
}

fn of_obstacle(obstacle: &Obstacle) -> ErrorKind {
    match obstacle {
        Obstacle::NeedsBase { .. } => ErrorKind::AlgebraNeedsBase,
        Obstacle::Selected { .. } => ErrorKind::AlgebraSelected,
        Obstacle::Reduced { .. } => ErrorKind::AlgebraReduced,
        Obstacle::NoInverse { .. } => ErrorKind::AlgebraNoInverse,
        Obstacle::Chain { .. } => ErrorKind::AlgebraChain,
        Obstacle::Bases { .. } => ErrorKind::AlgebraBases,
        Obstacle::Unpruned { .. } => ErrorKind::AlgebraUnpruned,
        Obstacle::Integer { .. } => ErrorKind::AlgebraInteger,
        Obstacle::NotFinite { .. } => ErrorKind::NotFinite,
        Obstacle::TooMany { .. } | Obstacle::Empty { .. } => ErrorKind::SelectionImpossible,
    }
}

fn of_part(fault: &PartFault) -> ErrorKind {
    match fault {
        PartFault::NotAPart { .. }
        | PartFault::Damaged { .. }
        | PartFault::OtherFile { .. }
        | PartFault::Version { .. }
        | PartFault::Malformed { .. } => ErrorKind::PartMalformed,
        PartFault::OtherRun { .. }
        | PartFault::Content { .. }
        | PartFault::Missing { .. }
        | PartFault::Twice { .. }
        | PartFault::Changed { .. } => ErrorKind::PartUnsuited,
        PartFault::Unsupported { .. } => ErrorKind::ShardUnsupported,
    }
}

fn of_signature(fault: &SignatureFault) -> ErrorKind {
    match fault {
        SignatureFault::Io { .. } | SignatureFault::Patch(Unreadable { reason: ReadError::Io(_), .. }) => ErrorKind::Io,
        SignatureFault::Patch(Unreadable { reason: ReadError::Invalid(_), .. }) => ErrorKind::PatchInvalid,
        SignatureFault::Cancelled(_) => ErrorKind::Interrupted,
        SignatureFault::Changed { .. } => ErrorKind::PatchChanged,
        SignatureFault::Missing { .. } => ErrorKind::SignatureMissing,
        SignatureFault::Malformed { .. } => ErrorKind::SignatureMalformed,
        SignatureFault::Namespace { .. } => ErrorKind::SignatureNamespace,
        SignatureFault::Certificate { .. } => ErrorKind::SignatureCertificate,
        SignatureFault::Unsupported { .. } => ErrorKind::SignatureUnsupported,
        SignatureFault::Wrong { .. } => ErrorKind::SignatureWrong,
        SignatureFault::Unknown { .. } => ErrorKind::SignerUnknown,
        SignatureFault::OtherSigner { .. } => ErrorKind::SignerOther,
        SignatureFault::Authority { .. } => ErrorKind::SignerAuthority,
        SignatureFault::NotForPatches { .. } => ErrorKind::SignerNamespace,
        SignatureFault::NotYet { .. } => ErrorKind::SignerNotYetValid,
        SignatureFault::Expired { .. } => ErrorKind::SignerExpired,
        SignatureFault::List { .. } => ErrorKind::SignersMalformed,
    }
}

fn of_key(fault: &KeyFault) -> ErrorKind {
    match fault {
        KeyFault::File(fault) => of_signature(fault),
        KeyFault::Malformed { .. } | KeyFault::OtherFormat { .. } => ErrorKind::KeyMalformed,
        KeyFault::Unsupported { .. } => ErrorKind::KeyUnsupported,
        KeyFault::Encrypted { .. } => ErrorKind::KeyEncrypted,
        KeyFault::NoAgent { .. } | KeyFault::Unreachable { .. } => ErrorKind::AgentMissing,
        KeyFault::NotInAgent { .. } => ErrorKind::AgentNoKey,
        KeyFault::Agent(_) | KeyFault::Protocol | KeyFault::OldAgent => ErrorKind::AgentFailed,
        KeyFault::AgentRefused => ErrorKind::AgentRefused,
        KeyFault::Computation(_) | KeyFault::Broken { .. } => ErrorKind::SignatureFailed,
    }
}

#[cfg(feature = "verify")]
fn of_model(fault: &ModelFault) -> ErrorKind {
    use crate::onnx::OpenError;
    match fault {
        ModelFault::Io { .. } | ModelFault::Onnx(OpenError::Io { .. }) => ErrorKind::Io,
        ModelFault::NoConfig { .. } | ModelFault::NoTokenizer { .. } => ErrorKind::ModelMissing,
        ModelFault::Architecture { .. } | ModelFault::Setting { .. } | ModelFault::Unused { .. } => {
            ErrorKind::ModelUnknown
        }
        ModelFault::Malformed { .. }
        | ModelFault::NoTensor { .. }
        | ModelFault::Tensor { .. }
        | ModelFault::Vocabulary { .. } => ErrorKind::ModelMalformed,
        ModelFault::TooLong { .. } => ErrorKind::ModelTooLong,
        ModelFault::Onnx(OpenError::Unfinished(failed)) => of_output(failed),
        ModelFault::Onnx(OpenError::Changed { .. }) => ErrorKind::CheckpointChanged,
        ModelFault::Onnx(OpenError::Malformed { .. }) | ModelFault::Output { .. } => ErrorKind::OnnxMalformed,
        ModelFault::Input { .. } | ModelFault::NoOutput { .. } => ErrorKind::OnnxUnsuited,
        ModelFault::Unbound { .. } | ModelFault::Shared { .. } => ErrorKind::OnnxUnbound,
        ModelFault::Runtime { .. } => ErrorKind::RuntimeFailed,
        ModelFault::NotFinite { .. } => ErrorKind::NotFinite,
        ModelFault::Cancelled(_) => ErrorKind::Interrupted,
    }
}

#[cfg(feature = "verify")]
fn of_data(bad: &BadData) -> ErrorKind {
    match bad {
        BadData::Io { .. } => ErrorKind::Io,
        BadData::Unexpected { unexpected, .. } => of_unexpected(unexpected.meant),
        BadData::Malformed { .. } | BadData::Empty { .. } => ErrorKind::DataMalformed,
        BadData::Kind { .. } => ErrorKind::DataUnsuited,
    }
}

#[cfg(feature = "verify")]
fn of_runtime(fault: &RuntimeFault) -> ErrorKind {
    match fault {
        RuntimeFault::NotFound { .. } | RuntimeFault::NoSuchLibrary { .. } => ErrorKind::RuntimeMissing,
        RuntimeFault::Load { .. } | RuntimeFault::TooOld { .. } | RuntimeFault::Loaded { .. } => {
            ErrorKind::RuntimeUnusable
        }
        RuntimeFault::NotBuilt { .. } | RuntimeFault::Provider { .. } => ErrorKind::RuntimeProvider,
        RuntimeFault::NoDataDirectory
        | RuntimeFault::NoBuild { .. }
        | RuntimeFault::NoPython { .. }
        | RuntimeFault::NoPip { .. } => ErrorKind::RuntimeNotInstallable,
        RuntimeFault::Download { .. } => ErrorKind::RuntimeDownload,
        RuntimeFault::Digest { .. } | RuntimeFault::Altered { .. } | RuntimeFault::Unpack { .. } => {
            ErrorKind::RuntimeDigestMismatch
        }
        RuntimeFault::Io { .. } => ErrorKind::Io,
        RuntimeFault::Cancelled(_) => ErrorKind::Interrupted,
    }
}

fn of_output(failed: &Failed) -> ErrorKind {
    match failed {
        Failed::Exists { .. } => ErrorKind::OutputExists,
        Failed::InUse { .. } | Failed::Busy { .. } => ErrorKind::OutputInUse,
        Failed::Replaced { .. } => ErrorKind::CheckpointChanged,
        Failed::NoLocks { .. } => ErrorKind::OutputNoLocks,
        Failed::HubCache { .. } => ErrorKind::OutputHubCache,
        Failed::Elsewhere { .. } => ErrorKind::OutputElsewhere,
        Failed::NotAFile { .. } | Failed::Directory { .. } | Failed::NotADirectory { .. } => ErrorKind::OutputNotAFile,
        Failed::ReadBack { .. } => ErrorKind::OutputReadBack,
        Failed::Unsynced { .. } => ErrorKind::OutputUnsynced,
        Failed::Incomplete { .. } => ErrorKind::EditIncomplete,
        Failed::Interrupted { .. } => ErrorKind::EditInterrupted,
        Failed::Damaged { .. } => ErrorKind::JournalDamaged,
        Failed::OtherFile { .. } => ErrorKind::JournalOtherFile,
        Failed::Gone { .. } => ErrorKind::JournalFileGone,
        Failed::Reserved { .. } => ErrorKind::OutputReserved,
        Failed::Io { .. } => ErrorKind::OutputIo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_kinds_have_one_code() {
        let codes: BTreeSet<&str> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
    }
}
