//! The error of every verb: what was refused, about what, of which kind. What to do about it, and with which flags, is for the
//! program to say: here are only facts.
//!
//! A message and its [source](std::error::Error::source) never say the same: a printer joins the chain with `: `.

mod exchange;
mod kind;
pub(crate) mod list;
mod obstacle;
mod part;
mod plan;
mod published;
mod refusal;

pub use crate::localize::Impossible;
pub(crate) use crate::patch::encode::EncodeError;
pub(crate) use exchange::ExchangeFault;
pub use kind::ErrorKind;
pub(crate) use obstacle::Obstacle;
pub use part::{PartContent, PartFault, Undivided};
pub(crate) use plan::PlanFault;
pub(crate) use published::PublishFault;
pub use refusal::{BaseState, Difference};
pub(crate) use refusal::{NoRevert, Refusal};

use crate::checkpoint::{Malformed, OpenError};
use crate::context::Cancelled;
use crate::durable;
use crate::format::Invalid;
use crate::format::metadata::Unwritable;
use crate::format::patch::{ReadError, RewriteError};
use crate::input::{Meant, Unexpected};
use crate::mask::{MaskFault, WriteError};
#[cfg(feature = "verify")]
use crate::measure::BadData;
#[cfg(feature = "verify")]
use crate::model::{ModelFault, export::ExportError, runtime::RuntimeFault};
use crate::pair::Mismatch;
use crate::patch::{Unreadable, Unwritten};
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
pub(crate) enum Reason {
    /// The operating system refused.
    #[error("{operation} {}", path.display())]
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
    /// A patch cannot be written with the metadata that it shall have.
    #[error("{}: {reason}", patch.display())]
    Metadata {
        /// The patch.
        patch: PathBuf,
        /// What it has too much of.
        reason: Unwritable,
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
    #[error(transparent)]
    Localize(Impossible),
    /// A selection cannot be coded as asked.
    #[error(transparent)]
    Encode(EncodeError),
    /// There is no pruning mask, or not as asked.
    #[error(transparent)]
    Mask(MaskFault),
    /// A patch may not be applied to a base.
    #[error(transparent)]
    Refused(Refusal),
    /// A patch cannot be made of others.
    #[error(transparent)]
    Algebra(Obstacle),
    /// A part of a diff cannot be used.
    #[error(transparent)]
    Part(PartFault),
    /// The plan of a run cannot be used.
    #[error(transparent)]
    Plan(PlanFault),
    /// A patch is not signed as it must be.
    #[error(transparent)]
    Signature(SignatureFault),
    /// A patch cannot be signed.
    #[error(transparent)]
    Key(KeyFault),
    /// Patches are not published, or do not lead anywhere.
    #[error(transparent)]
    Publish(PublishFault),
    /// A patch does not go to or come from another tool's format.
    #[error(transparent)]
    Exchange(ExchangeFault),
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
    #[error(transparent)]
    Model(ModelFault),
    /// Data cannot be measured on.
    #[cfg(feature = "verify")]
    #[error(transparent)]
    Data(BadData),
    /// ONNX Runtime is missing or does not work.
    #[cfg(feature = "verify")]
    #[error(transparent)]
    Runtime(RuntimeFault),
    /// A file does not hold results of measuring.
    #[cfg(feature = "verify")]
    #[error("{}{}: not results of measuring: {reason}", path.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Results {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on, where there is one.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A later version wrote a file of results.
    #[cfg(feature = "verify")]
    #[error("{} was written by a later version: its results have format {found}, and this version reads {known}", path.display())]
    LaterResults {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        found: u64,
        /// The latest that is read.
        known: u64,
    },
    /// Asked to stop, in work that can go on.
    #[cfg(feature = "verify")]
    #[error("interrupted; what was measured is in {}", path.display())]
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
    #[error(transparent)]
    Output(durable::Failed),
    /// A file elsewhere cannot be read or written.
    #[cfg(feature = "net")]
    #[error(transparent)]
    Remote(lcepatch_hub::Fault),
    /// Asked to stop.
    #[error("interrupted; nothing was written")]
    Cancelled,
}

impl Error {
    /// The reason.
    pub(crate) fn reason(&self) -> &Reason {
        &self.reason
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Reason::Io { operation, path: path.to_owned(), source }.into()
    }

    pub(crate) fn invalid(patch: &Path, invalid: Invalid) -> Self {
        Reason::Patch { patch: patch.to_owned(), invalid }.into()
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.reason.kind()
    }

    /// A stable name for scripts: that of the kind.
    pub fn code(&self) -> &'static str {
        self.kind().code()
    }

    /// The rule of the format (spec §12) that a patch breaks, if that is the failure.
    pub fn rule(&self) -> Option<u8> {
        match &*self.reason {
            Reason::Patch { invalid, .. } => Some(invalid.rule()),
            Reason::Unexpected { unexpected, .. } if unexpected.meant == Meant::Patch => Some(1),
            _ => None,
        }
    }

    /// Found, expected and where: lines below the message.
    pub fn details(&self) -> Vec<String> {
        match &*self.reason {
            Reason::Pair(mismatch) => mismatch_details(mismatch),
            Reason::Refused(Refusal::Base { differences, .. }) => {
                list::lines(differences.iter().map(|(name, how)| format!("{name}: {how}")), "tensor", "")
            }
            Reason::Publish(fault) => list::lines(fault.details().into_iter(), "patch", ""),
            Reason::Exchange(fault) => list::lines(fault.details().into_iter(), "tensor", ""),
            #[cfg(feature = "verify")]
            Reason::Model(fault) => list::lines(fault.details().into_iter(), "tensor", ""),
            #[cfg(feature = "verify")]
            Reason::Runtime(fault) => fault.details(),
            _ => Vec::new(),
        }
    }
}

fn mismatch_details(mismatch: &Mismatch) -> Vec<String> {
    let only = |names: &[String], side: &str| {
        list::lines(
            names.iter().map(|name| format!("{name}: only in the {side}")),
            "tensor",
            &format!(" only in the {side}"),
        )
    };
    let differing = |tensors: &[(String, String)], what: &str, how: &str| {
        list::lines(tensors.iter().map(|(name, why)| format!("{name}: {why}")), what, how)
    };
    [
        differing(&mismatch.collisions, "name", ""),
        only(&mismatch.only_in_target, "target"),
        only(&mismatch.only_in_reference, "reference"),
        differing(&mismatch.differing, "tensor", " of another shape or kind of dtype"),
        differing(&mismatch.other_dtype, "tensor", " of another float dtype"),
    ]
    .concat()
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

/// The error of what could not be opened; `malformed` says what content that is something else is.
fn unopened<M>(error: OpenError<M>, malformed: impl FnOnce(PathBuf, M) -> Reason) -> Error {
    match error {
        OpenError::Io { operation, path, source } => return of_reading(operation, &path, source),
        OpenError::Malformed { path, reason } => malformed(path, reason),
        OpenError::Changed { path, before, now } => Reason::Changed { path, before, now },
        OpenError::Unfinished(failed) => Reason::Output(failed),
    }
    .into()
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        unopened(error, |path, reason| Reason::Checkpoint { path, reason })
    }
}

impl From<crate::onnx::OpenError> for Error {
    fn from(error: crate::onnx::OpenError) -> Self {
        unopened(error, |path, reason| Reason::Onnx { path, reason })
    }
}

impl From<Unreadable> for Error {
    fn from(Unreadable { patch, reason }: Unreadable) -> Self {
        match reason {
            ReadError::Io(source) => of_reading("read", &patch, source),
            ReadError::Invalid(invalid) => Self::invalid(&patch, invalid),
        }
    }
}

/// Something that could not be read from where it is.
fn of_reading(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    #[cfg(feature = "net")]
    let source = match source.downcast::<lcepatch_hub::Fault>() {
        Ok(fault) => return fault.into(),
        Err(source) => source,
    };
    match source.downcast::<PlanFault>() {
        Ok(fault) => fault.into(),
        Err(source) => Error::io(operation, path, source),
    }
}

#[cfg(feature = "net")]
impl From<lcepatch_hub::Fault> for Error {
    fn from(fault: lcepatch_hub::Fault) -> Self {
        match fault {
            lcepatch_hub::Fault::Cancelled => Reason::Cancelled.into(),
            lcepatch_hub::Fault::Io { operation, path, source } => Reason::Io { operation, path, source }.into(),
            lcepatch_hub::Fault::Output(failed) => failed.into(),
            fault => Reason::Remote(fault).into(),
        }
    }
}

impl From<Unwritten> for Error {
    fn from(Unwritten { patch, reason }: Unwritten) -> Self {
        match reason {
            // The limits of readers keep damaged and hostile files out. What was made here is neither.
            RewriteError::Read(ReadError::Invalid(Invalid::Work { found, most, file_bytes })) => {
                Impossible::TooRegular { selected: found, most, file_bytes }.into()
            }
            RewriteError::Read(reason) => Unreadable { patch, reason }.into(),
            RewriteError::Metadata(reason) => Reason::Metadata { patch: patch.into(), reason }.into(),
        }
    }
}

impl From<Impossible> for Error {
    fn from(reason: Impossible) -> Self {
        match reason {
            Impossible::Mask(fault) => fault.into(),
            Impossible::Cancelled(cancelled) => cancelled.into(),
            reason => Reason::Localize(reason).into(),
        }
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

impl From<EncodeError> for Error {
    fn from(reason: EncodeError) -> Self {
        match reason {
            EncodeError::Mask(fault) => fault.into(),
            EncodeError::Cancelled(cancelled) => cancelled.into(),
            reason => Reason::Encode(reason).into(),
        }
    }
}

impl From<Box<Mismatch>> for Error {
    fn from(mismatch: Box<Mismatch>) -> Self {
        Reason::Pair(mismatch).into()
    }
}

impl From<PlanFault> for Error {
    fn from(fault: PlanFault) -> Self {
        Reason::Plan(fault).into()
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

impl From<PartFault> for Error {
    fn from(fault: PartFault) -> Self {
        Reason::Part(fault).into()
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

impl From<PublishFault> for Error {
    fn from(fault: PublishFault) -> Self {
        Reason::Publish(fault).into()
    }
}

impl From<ExchangeFault> for Error {
    fn from(fault: ExchangeFault) -> Self {
        Reason::Exchange(fault).into()
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
            RuntimeFault::Io { operation, path, source } => Reason::Io { operation, path, source }.into(),
            fault => Reason::Runtime(fault).into(),
        }
    }
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Reason::Cancelled.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{Access, Failed};
    use crate::input::Found;
    use std::error::Error as _;

    const CAUSE: &str = "the very cause";

    fn cause() -> std::io::Error {
        std::io::Error::other(CAUSE)
    }

    fn path() -> PathBuf {
        "some/file".into()
    }

    fn unexpected() -> Unexpected {
        Unexpected { found: Found::Gzip, meant: Meant::Checkpoint }
    }

    fn unreadable(reason: ReadError) -> Unreadable {
        Unreadable { patch: path().into(), reason }
    }

    fn chain(error: &Error) -> Vec<String> {
        let mut texts = vec![error.to_string()];
        let mut next = error.source();
        while let Some(source) = next {
            texts.push(source.to_string());
            next = source.source();
        }
        texts
    }

    /// Of every way in which an I/O error gets into an error.
    fn caused() -> Vec<Error> {
        let (operation, output) = ("read", || Failed::Io { operation: "write", path: path(), source: cause() });
        let open = || OpenError::Io { operation, path: path(), source: cause() };
        let signature = || SignatureFault::Io { operation, path: path(), source: cause() };
        vec![
            Error::io(operation, &path(), cause()),
            unreadable(ReadError::Io(cause())).into(),
            open().into(),
            OpenError::<Malformed>::Unfinished(output()).into(),
            WriteError::Checkpoint(open()).into(),
            WriteError::Output(output()).into(),
            output().into(),
            Failed::NoLocks { path: path(), source: cause() }.into(),
            Failed::Unsynced { path: path(), operation, source: cause() }.into(),
            Failed::Incomplete { path: path(), failed: Box::new(output()) }.into(),
            signature().into(),
            Reason::Signature(signature()).into(),
            SignatureFault::Patch(unreadable(ReadError::Io(cause()))).into(),
            Reason::Signature(SignatureFault::Patch(unreadable(ReadError::Io(cause())))).into(),
            KeyFault::File(signature()).into(),
            Reason::Key(KeyFault::File(signature())).into(),
            KeyFault::Unreachable { socket: path(), source: cause() }.into(),
            KeyFault::Agent(cause()).into(),
        ]
    }

    #[cfg(feature = "verify")]
    fn caused_in_models() -> Vec<Error> {
        use crate::onnx::OpenError;
        let operation = "read";
        let onnx = || OpenError::Io { operation, path: path(), source: cause() };
        let model = || ModelFault::Io { operation, path: path(), source: cause() };
        let runtime = || RuntimeFault::Io { operation, path: path(), source: cause() };
        vec![
            onnx().into(),
            model().into(),
            Reason::Model(model()).into(),
            ModelFault::Onnx(onnx()).into(),
            Reason::Model(ModelFault::Onnx(onnx())).into(),
            BadData::Io { operation, path: path(), reason: CAUSE.to_owned() }.into(),
            ExportError::Model(model()).into(),
            ExportError::Output(Failed::Io { operation, path: path(), source: cause() }).into(),
            runtime().into(),
            Reason::Runtime(runtime()).into(),
            RuntimeFault::NoPython { program: "python3", source: cause() }.into(),
        ]
    }

    #[cfg(not(feature = "verify"))]
    fn caused_in_models() -> Vec<Error> {
        Vec::new()
    }

    /// Errors with something else inside of them.
    fn composed() -> Vec<Error> {
        let invalid = || Invalid::TextMode;
        let mask = || MaskFault::Padding { tensor: "w".to_owned() };
        let malformed = || Malformed::Unexpected(unexpected());
        vec![
            Reason::Unexpected { path: path(), unexpected: unexpected() }.into(),
            Error::invalid(&path(), invalid()),
            OpenError::Malformed { path: path(), reason: malformed() }.into(),
            OpenError::Malformed { path: path(), reason: Malformed::Header { reason: "cut".to_owned() } }.into(),
            Reason::Localize(Impossible::Mask(mask())).into(),
            Reason::Localize(Impossible::Cancelled(Cancelled)).into(),
            Reason::Encode(EncodeError::Mask(mask())).into(),
            Reason::Encode(EncodeError::Cancelled(Cancelled)).into(),
            WriteError::Mask(mask()).into(),
            Reason::Signature(SignatureFault::Cancelled(Cancelled)).into(),
            Reason::Signature(SignatureFault::Patch(unreadable(ReadError::Invalid(invalid())))).into(),
            KeyFault::Computation(ssh_key::Error::AlgorithmUnknown).into(),
            Failed::Incomplete { path: path(), failed: Box::new(Failed::InUse { path: path(), access: Access::Read }) }
                .into(),
            #[cfg(feature = "verify")]
            Reason::Model(ModelFault::Cancelled(Cancelled)).into(),
            #[cfg(feature = "verify")]
            Reason::Runtime(RuntimeFault::Cancelled(Cancelled)).into(),
            #[cfg(feature = "verify")]
            BadData::Unexpected { path: path(), unexpected: unexpected() }.into(),
            #[cfg(feature = "verify")]
            crate::onnx::OpenError::Malformed { path: path(), reason: crate::onnx::Malformed::NoGraph }.into(),
        ]
    }

    #[test]
    fn a_cause_is_in_the_chain_and_nothing_is_there_twice() {
        let caused: Vec<Error> = caused().into_iter().chain(caused_in_models()).collect();
        for error in &caused {
            let said = chain(error).join(": ");
            assert_eq!(said.matches(CAUSE).count(), 1, "{said}");
        }
        for error in caused.iter().chain(&composed()) {
            let texts = chain(error);
            for (at, text) in texts.iter().enumerate() {
                let others = texts.iter().enumerate().filter(|(other, _)| *other != at);
                assert!(!others.map(|(_, other)| other).any(|other| other.contains(text.as_str())), "{texts:?}");
            }
        }
    }

    #[test]
    fn an_interruption_is_one_wherever_it_was_noticed() {
        for error in [
            Cancelled.into(),
            Impossible::Cancelled(Cancelled).into(),
            EncodeError::Cancelled(Cancelled).into(),
            MaskFault::Cancelled(Cancelled).into(),
            Error::from(SignatureFault::Cancelled(Cancelled)),
        ] {
            assert_eq!((error.code(), error.to_string().as_str()), ("interrupted", "interrupted; nothing was written"));
        }
    }

    #[test]
    fn what_was_made_here_is_not_called_damaged() {
        let reason = Invalid::Work { found: 1 << 28, most: 1 << 27, file_bytes: 2000 };
        let unwritten = Unwritten { patch: path().into(), reason: RewriteError::Read(reason.into()) };
        let error = Error::from(unwritten);
        assert_eq!(error.kind(), ErrorKind::SelectionImpossible);
        assert!(error.to_string().contains("268,435,456 weights change so regularly"), "{error}");
    }

    #[test]
    fn what_is_something_else_is_of_the_kind_that_was_meant() {
        let error = Error::io("open", &path(), unexpected().into());
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::CheckpointMalformed, "some/file: this is a gzip archive, not a checkpoint (safetensors)")
        );
    }
}
