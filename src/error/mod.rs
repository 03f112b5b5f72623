//! The error of every verb: what was refused, about what, with a stable code, an exit code and a next step.

use crate::algebra::Obstacle;
use crate::apply::Refusal;
use crate::checkpoint::{Malformed, OpenError};
use crate::context::Cancelled;
use crate::diff::PartFault;
use crate::durable;
use crate::format::Invalid;
use crate::format::patch::ReadError;
use crate::input::{self, MERGE, Meant, Unexpected};
use crate::localize::Impossible;
use crate::mask::{MaskFault, file::WriteError};
#[cfg(feature = "verify")]
use crate::measure::BadData;
#[cfg(feature = "verify")]
use crate::model::{ModelFault, export::ExportError, runtime::RuntimeFault};
use crate::pair::{Mismatch, Prefix, Suggestion};
use crate::patch::Unreadable;
use crate::patch::gather::GatherError;
use crate::signature::{KeyFault, SignatureFault};
use std::path::{Path, PathBuf};

/// What every verb returns when it cannot do its work. Nothing was written then.
#[derive(Debug)]
pub struct Error {
    reason: Box<Reason>,
}

/// Why. The variants tell whose move it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The operating system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file or directory is known to be something else than was meant.
    #[error("{}: {unexpected}{}", path.display(), if unexpected.meant == Meant::Patch { " (rule R1)" } else { "" })]
    Unexpected {
        /// The file or directory.
        path: PathBuf,
        /// What it is, and was meant to be.
        unexpected: Unexpected,
    },
    /// The bytes of a patch break a rule of the format.
    #[error("{}: {invalid} (rule R{})", patch.display(), invalid.rule())]
    Patch {
        /// The patch.
        patch: PathBuf,
        /// The broken rule.
        invalid: Invalid,
    },
    /// Something is not a checkpoint.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        reason: Malformed,
    },
    /// A weight file changed while it was read.
    #[error("{} {}", path.display(), crate::checkpoint::malformed::changed(*before, *now))]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its bytes when it was opened.
        before: u64,
        /// Its bytes at the end.
        now: u64,
    },
    /// Something is not an ONNX file.
    #[cfg(feature = "verify")]
    #[error("{}: {reason}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: crate::onnx::Malformed,
    },
    /// Target and reference do not pair.
    #[error("target and reference do not have the same tensors")]
    Pair(Box<Mismatch>),
    /// No selection can be made.
    #[error("{0}")]
    Localize(Impossible),
    /// A selection cannot be coded as asked.
    #[error("{0}")]
    Gather(GatherError),
    /// There is no pruning mask, or not as asked.
    #[error("{0}")]
    Mask(MaskFault),
    /// A patch may not be applied to a base.
    #[error("{0}")]
    Refused(Refusal),
    /// A patch cannot be made of others.
    #[error("{0}")]
    Algebra(Obstacle),
    /// A part of a diff cannot be used.
    #[error("{0}")]
    Part(PartFault),
    /// A patch is not signed as it must be.
    #[error("{0}")]
    Signature(SignatureFault),
    /// A patch cannot be signed.
    #[error("{0}")]
    Key(KeyFault),
    /// The log of a model directory cannot be read.
    #[error("{}: not a log of patches: {reason}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A model directory cannot be measured.
    #[cfg(feature = "verify")]
    #[error("{0}")]
    Model(ModelFault),
    /// Data cannot be measured on.
    #[cfg(feature = "verify")]
    #[error("{0}")]
    Data(BadData),
    /// ONNX Runtime is missing or does not work.
    #[cfg(feature = "verify")]
    #[error("{0}")]
    Runtime(RuntimeFault),
    /// A file does not hold results of measuring.
    #[cfg(feature = "verify")]
    #[error("{}{}: not results of `lcepatch sweep` or `verify --json`: {reason}", path.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Results {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on, where there is one.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// Asked to stop, in work that can go on.
    #[cfg(feature = "verify")]
    #[error("interrupted; what was measured is in {}, and the same command goes on", path.display())]
    Paused {
        /// The results.
        path: PathBuf,
    },
    /// A file holds the results of another sweep than the one that shall go on.
    #[cfg(feature = "verify")]
    #[error("{} holds the results of another sweep: {difference}", path.display())]
    OtherSweep {
        /// The file.
        path: PathBuf,
        /// What differs first.
        difference: String,
    },
    /// An output cannot be put in its place.
    #[error("{0}")]
    Output(durable::Failed),
    /// Asked to stop.
    #[error("interrupted; nothing was written")]
    Cancelled,
}

impl Error {
    /// The reason.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Reason::Io { operation, path: path.to_owned(), source }.into()
    }

    pub(crate) fn invalid(patch: &Path, invalid: Invalid) -> Self {
        Reason::Patch { patch: patch.to_owned(), invalid }.into()
    }

    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match &*self.reason {
            Reason::Io { .. } => "io",
            Reason::Unexpected { unexpected, .. } => unexpected.meant.code(),
            Reason::Patch { .. } => "patch.invalid",
            Reason::Checkpoint { .. } => "checkpoint.malformed",
            Reason::Changed { .. } => "checkpoint.changed",
            #[cfg(feature = "verify")]
            Reason::Onnx { .. } => "onnx.malformed",
            Reason::Pair(_) => "checkpoint.unpaired",
            Reason::Localize(Impossible::NotFinite { .. } | Impossible::Cast { .. }) => "numbers.not-finite",
            Reason::Localize(Impossible::Cancelled(_)) | Reason::Cancelled => "interrupted",
            Reason::Localize(Impossible::Mask(fault)) | Reason::Gather(GatherError::Mask(fault)) => mask_code(fault),
            Reason::Mask(fault) => mask_code(fault),
            Reason::Localize(Impossible::Unpruned { .. }) => "checkpoint.unpaired",
            Reason::Localize(_) => "selection.impossible",
            Reason::Gather(GatherError::NotFinite { .. }) => "numbers.not-finite",
            Reason::Gather(GatherError::Cancelled(_)) => "interrupted",
            Reason::Refused(refusal) => refusal.code(),
            Reason::Algebra(obstacle) => obstacle.code(),
            Reason::Part(fault) => fault.code(),
            Reason::Signature(fault) => fault.code(),
            Reason::Key(fault) => fault.code(),
            Reason::Log { .. } => "log.malformed",
            #[cfg(feature = "verify")]
            Reason::Model(fault) => fault.code(),
            #[cfg(feature = "verify")]
            Reason::Data(BadData::Io { .. }) => "io",
            #[cfg(feature = "verify")]
            Reason::Data(BadData::Kind { .. }) => "data.unsuited",
            #[cfg(feature = "verify")]
            Reason::Data(_) => "data.malformed",
            #[cfg(feature = "verify")]
            Reason::Runtime(fault) => fault.code(),
            #[cfg(feature = "verify")]
            Reason::Paused { .. } => "interrupted",
            #[cfg(feature = "verify")]
            Reason::Results { .. } => "results.malformed",
            #[cfg(feature = "verify")]
            Reason::OtherSweep { .. } => "results.other",
            Reason::Output(failed) => failed.code(),
        }
    }

    /// The exit code of the command line, by the table in the README.
    pub fn exit_code(&self) -> u8 {
        match self.code() {
            "selection.impossible"
            | "output.exists"
            | "output.in-use"
            | "output.not-a-file"
            | "output.reserved"
            | "output.same"
            | "results.other"
            | "edit.order"
            | "shard.unsupported" => 2,
            "io" | "output.io" | "output.no-locks" | "output.read-back" | "output.unsynced" | "patch.changed" => 3,
            "patch.invalid" => 4,
            "checkpoint.malformed"
            | "checkpoint.changed"
            | "checkpoint.unpaired"
            | "mask.malformed"
            | "log.malformed"
            | "part.malformed"
            | "edit.interrupted"
            | "journal.damaged"
            | "model.malformed"
            | "data.malformed"
            | "onnx.malformed"
            | "results.malformed"
            | "signers.malformed"
            | "key.malformed" => 5,
            "numbers.not-finite" => 7,
            "runtime.missing"
            | "runtime.unusable"
            | "runtime.provider"
            | "runtime.not-installable"
            | "runtime.failed"
            | "model.missing"
            | "key.encrypted"
            | "agent.missing"
            | "agent.no-key"
            | "agent.refused"
            | "agent.failed"
            | "signature.failed" => 8,
            "runtime.download" => 9,
            "edit.incomplete" => 10,
            "signature.missing"
            | "signature.malformed"
            | "signature.namespace"
            | "signature.certificate"
            | "signature.unsupported"
            | "signature.wrong"
            | "signer.unknown"
            | "signer.other"
            | "signer.authority"
            | "signer.namespace"
            | "signer.not-yet-valid"
            | "signer.expired" => 11,
            "interrupted" => 130,
            _ => 6,
        }
    }

    /// Found, expected and where: indented lines below the message.
    pub fn details(&self) -> Vec<String> {
        match &*self.reason {
            Reason::Pair(mismatch) => mismatch_details(mismatch),
            Reason::Refused(refusal) => refusal.details(),
            #[cfg(feature = "verify")]
            Reason::Model(fault) => first_ten(fault.details().into_iter(), "tensors"),
            #[cfg(feature = "verify")]
            Reason::Runtime(fault) => fault.details(),
            _ => Vec::new(),
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match &*self.reason {
            Reason::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => input::absent(path)
                .unwrap_or("there is no such file or folder: look at the path, and at the folder it begins in"),
            Reason::Unexpected { unexpected, .. } => return Some(unexpected.help()),
            Reason::Patch { invalid, .. } => match invalid {
                Invalid::Version { .. } | Invalid::UnknownSection { .. } => "a newer lcepatch may read it",
                Invalid::NotAPatch { .. } => "give an .lcepatch file",
                _ => "download the patch again, in binary mode, and compare its SHA-256 with the published one",
            },
            Reason::Checkpoint { reason, .. } => match reason {
                Malformed::SeveralWeights { .. } => {
                    "give a .safetensors file, a *.safetensors.index.json or a model directory"
                }
                Malformed::Length { .. } => "download the file again, and compare its length with the published one",
                Malformed::MissingShards { .. } => {
                    "the download is incomplete, or the index is of another version of the model: get both again"
                }
                Malformed::NotInShard { .. } => {
                    "the index is of another version of the model: remove the entry from its weight_map, or save the model again"
                }
                Malformed::Header { .. } => "download or convert the checkpoint again; only safetensors files are read",
                _ => return None,
            },
            Reason::Changed { .. } => "wait for the program that writes it, and do it again; nothing was written here",
            Reason::Pair(mismatch) => return Some(mismatch_help(mismatch)),
            Reason::Localize(Impossible::NotFinite { .. }) => {
                "leave the tensor out with --exclude, or use --all, which compares bits and needs no ranking"
            }
            Reason::Localize(Impossible::Cast { .. }) => "leave the tensor out with --exclude, or widen the target",
            Reason::Localize(Impossible::TooMany { .. }) => "ask for fewer, or widen the candidates with --params",
            Reason::Localize(Impossible::NoMasks) => {
                "give --target-mask and --reference-mask, --mask-from zeros, or --sparsity"
            }
            Reason::Localize(Impossible::SameMasks) => "are these the masks of two different checkpoints?",
            Reason::Localize(Impossible::Unpruned { .. }) => "give the target as it was before it was pruned",
            Reason::Localize(Impossible::Mask(fault)) | Reason::Gather(GatherError::Mask(fault)) => {
                return mask_help(fault);
            }
            Reason::Mask(fault) => return mask_help(fault),
            Reason::Localize(Impossible::NoCandidates { .. }) => "`lcepatch diff --params all` considers every tensor",
            Reason::Gather(GatherError::NotFinite { .. }) => "keep exact deltas by leaving out --delta-dtype",
            Reason::Refused(refusal) => return refusal.help(),
            Reason::Algebra(obstacle) => return obstacle.help(),
            Reason::Part(fault) => return fault.help(),
            Reason::Signature(fault) => return fault.help().map(str::to_owned),
            Reason::Key(fault) => return fault.help(),
            Reason::Log { .. } => {
                "remove it, or apply with --no-log: it only says what was done, the weights do not need it"
            }
            #[cfg(feature = "verify")]
            Reason::Model(fault) => return fault.help(),
            #[cfg(feature = "verify")]
            Reason::Data(BadData::Io { path, .. }) => input::absent(path)
                .unwrap_or("benchmark data is not part of this program; docs/measuring.md says where it is published"),
            #[cfg(feature = "verify")]
            Reason::Runtime(fault) => return fault.help(),
            #[cfg(feature = "verify")]
            Reason::OtherSweep { .. } => "choose another file, or go on with what it was made with",
            Reason::Output(failed) => return failed.help(),
            _ => return None,
        };
        Some(help.to_owned())
    }
}

fn mask_code(fault: &MaskFault) -> &'static str {
    match fault {
        MaskFault::NotFinite { .. } => "numbers.not-finite",
        MaskFault::Before { .. } => "selection.impossible",
        _ => "mask.malformed",
    }
}

fn mask_help(fault: &MaskFault) -> Option<String> {
    let help = match fault {
        MaskFault::Shape { .. } | MaskFault::Value { .. } | MaskFault::Padding { .. } => {
            "a mask holds 0 and 1 for each weight, in its shape, or packed bits; `lcepatch mask` writes such files"
        }
        MaskFault::Unmatched { .. } => "is it the mask of another checkpoint?",
        MaskFault::None { .. } => "give a mask file, or say where the mask is",
        MaskFault::NotFinite { .. } => "leave the tensor out with --exclude",
        MaskFault::Before { .. } => "ask for a higher sparsity: it counts from the unpruned checkpoint",
        _ => return None,
    };
    Some(help.to_owned())
}

/// How many names an error lists before it only counts.
pub(crate) const LISTED: usize = 10;

/// The first ten, then the count of the others.
pub(crate) fn first_ten(lines: impl ExactSizeIterator<Item = String>, what: &str) -> Vec<String> {
    let more = lines.len().saturating_sub(LISTED);
    let mut out: Vec<String> = lines.take(LISTED).collect();
    if more > 0 {
        out.push(format!("and {more} more {what}"));
    }
    out
}

fn mismatch_details(mismatch: &Mismatch) -> Vec<String> {
    let only = |names: &[String], side: &str| {
        first_ten(names.iter().map(|name| format!("{name}: only in the {side}")), &format!("only in the {side}"))
    };
    let differing = |tensors: &[(String, String)], what: &str| {
        first_ten(tensors.iter().map(|(name, why)| format!("{name}: {why}")), what)
    };
    [
        differing(&mismatch.collisions, "names"),
        only(&mismatch.only_in_target, "target"),
        only(&mismatch.only_in_reference, "reference"),
        differing(&mismatch.differing, "that differ in shape or kind of dtype"),
        differing(&mismatch.other_dtype, "of another float dtype"),
    ]
    .concat()
}

fn mismatch_help(mismatch: &Mismatch) -> String {
    if !mismatch.collisions.is_empty() {
        return "map only names that become different ones".to_owned();
    }
    if let Some(adapter) = &mismatch.adapter {
        return format!("{} holds an adapter (such as LoRA); {MERGE}", adapter.display());
    }
    if let Some(Suggestion { prefixes, paired, of }) = &mismatch.suggestion {
        let option = |prefix: &Prefix| format!("--map-prefix {}={}", prefix.from, prefix.to);
        let options = prefixes.iter().map(option).collect::<Vec<_>>().join(" ");
        let share = if paired == of { format!("all {of}") } else { format!("{paired} of {of}") };
        return format!("`{options}` pairs {share} of the reference's tensors with the target's by name");
    }
    let names_pair = mismatch.only_in_target.is_empty() && mismatch.only_in_reference.is_empty();
    if names_pair && mismatch.differing.is_empty() && !mismatch.other_dtype.is_empty() {
        return "`--cast` rounds the reference to the target's dtype".to_owned();
    }
    if mismatch.paired == 0 {
        return "no tensor is in both; are these checkpoints of the same architecture?".to_owned();
    }
    let tensors = if mismatch.paired == 1 { "one tensor".to_owned() } else { format!("{} tensors", mismatch.paired) };
    format!(
        "`--common` works on the {tensors} that both have, and on the rows that embeddings of two vocabularies have \
         in common; the others are listed in the patch"
    )
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.reason)
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        // Whoever opens a file is told by an I/O error that it is something else.
        let unexpected = match &reason {
            Reason::Io { path, source, .. } => Unexpected::within(source).map(|unexpected| (path, unexpected)),
            Reason::Checkpoint { path, reason: Malformed::Unexpected(unexpected) } => Some((path, unexpected)),
            _ => None,
        };
        let unexpected = unexpected.map(|(path, unexpected)| (path.clone(), unexpected.clone()));
        let reason = unexpected.map_or(reason, |(path, unexpected)| Reason::Unexpected { path, unexpected });
        Self { reason: Box::new(reason) }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io { operation, path, source } => Reason::Io { operation, path, source },
            OpenError::Malformed { path, reason } => Reason::Checkpoint { path, reason },
            OpenError::Changed { path, before, now } => Reason::Changed { path, before, now },
            OpenError::Unfinished(failed) => Reason::Output(failed),
        }
        .into()
    }
}

#[cfg(feature = "verify")]
impl From<crate::onnx::OpenError> for Error {
    fn from(error: crate::onnx::OpenError) -> Self {
        use crate::onnx::OpenError;
        match error {
            OpenError::Io { operation, path, source } => Reason::Io { operation, path, source },
            OpenError::Malformed { path, reason } => Reason::Onnx { path, reason },
            OpenError::Unfinished(failed) => Reason::Output(failed),
        }
        .into()
    }
}

impl From<Unreadable> for Error {
    fn from(Unreadable { patch, reason }: Unreadable) -> Self {
        match reason {
            ReadError::Io(source) => Self::io("read", &patch, source),
            ReadError::Invalid(invalid) => Self::invalid(&patch, invalid),
        }
    }
}

impl From<Impossible> for Error {
    fn from(reason: Impossible) -> Self {
        Reason::Localize(reason).into()
    }
}

impl From<MaskFault> for Error {
    fn from(fault: MaskFault) -> Self {
        match fault {
            MaskFault::Cancelled(cancelled) => cancelled.into(),
            fault => Reason::Mask(fault).into(),
        }
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Mask(fault) => fault.into(),
            WriteError::Checkpoint(error) => error.into(),
            WriteError::Output(failed) => failed.into(),
        }
    }
}

impl From<GatherError> for Error {
    fn from(reason: GatherError) -> Self {
        Reason::Gather(reason).into()
    }
}

impl From<Box<Mismatch>> for Error {
    fn from(mismatch: Box<Mismatch>) -> Self {
        Reason::Pair(mismatch).into()
    }
}

impl From<Obstacle> for Error {
    fn from(obstacle: Obstacle) -> Self {
        Reason::Algebra(obstacle).into()
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Reason::Refused(refusal).into()
    }
}

impl From<SignatureFault> for Error {
    fn from(fault: SignatureFault) -> Self {
        match fault {
            SignatureFault::Io { operation, path, source } => Reason::Io { operation, path, source }.into(),
            SignatureFault::Patch(unreadable) => unreadable.into(),
            SignatureFault::Cancelled(cancelled) => cancelled.into(),
            fault => Reason::Signature(fault).into(),
        }
    }
}

impl From<KeyFault> for Error {
    fn from(fault: KeyFault) -> Self {
        match fault {
            KeyFault::File(fault) => fault.into(),
            fault => Reason::Key(fault).into(),
        }
    }
}

impl From<durable::Failed> for Error {
    fn from(failed: durable::Failed) -> Self {
        Reason::Output(failed).into()
    }
}

#[cfg(feature = "verify")]
impl From<ModelFault> for Error {
    fn from(fault: ModelFault) -> Self {
        match fault {
            ModelFault::Cancelled(cancelled) => cancelled.into(),
            ModelFault::Io { operation, path, source } => Reason::Io { operation, path, source }.into(),
            ModelFault::Onnx(error) => error.into(),
            fault => Reason::Model(fault).into(),
        }
    }
}

#[cfg(feature = "verify")]
impl From<BadData> for Error {
    fn from(bad: BadData) -> Self {
        match bad {
            BadData::Unexpected { path, unexpected } => Reason::Unexpected { path, unexpected }.into(),
            bad => Reason::Data(bad).into(),
        }
    }
}

#[cfg(feature = "verify")]
impl From<ExportError> for Error {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Model(fault) => fault.into(),
            ExportError::Output(failed) => failed.into(),
        }
    }
}

#[cfg(feature = "verify")]
impl From<RuntimeFault> for Error {
    fn from(fault: RuntimeFault) -> Self {
        match fault {
            RuntimeFault::Cancelled(cancelled) => cancelled.into(),
            fault => Reason::Runtime(fault).into(),
        }
    }
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Reason::Cancelled.into()
    }
}
