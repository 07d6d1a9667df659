//! What the data plane asks of others: the time, decisions, durable progress.
//!
//! A grant is the answer to one question and cannot be made otherwise: the questions have no public constructor, and
//! [`AccessQuestion::permit`] and [`UseQuestion::permit`] are the only way to a grant.

use control_plane::ids::{AgreementId, DatasetId, ParticipantId, ProviderPid};
use futures::future::BoxFuture;
use policy::refusal::Refusal;
use policy::time::UnixMillis;

use crate::error::BoxError;
use crate::ids::{ObjectId, SessionId};
use crate::sealed::ObjectRecord;
use crate::use_session::{SessionObject, UseReceipt, UseRequest, UseSession};

/// The witnessed time.
pub trait Clock: Send + Sync + 'static {
    /// The instant, never behind an earlier answer.
    fn now(&self) -> UnixMillis;
}

/// Asks whether the next bytes of a pull may leave, before each window.
#[derive(Debug)]
pub struct AccessQuestion {
    pub(crate) subject: AccessSubject,
    pub(crate) object: u32,
    pub(crate) offset: u64,
}

/// Who pulls what under which agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSubject {
    /// The agreement that the transfer rests on.
    pub agreement: AgreementId,
    /// The consumer at the other end of the live connection.
    pub participant: ParticipantId,
    /// The transfer process.
    pub transfer: ProviderPid,
    /// The dataset.
    pub dataset: DatasetId,
}

impl AccessQuestion {
    /// Who pulls what.
    pub const fn subject(&self) -> &AccessSubject {
        &self.subject
    }

    /// Index of the object in the manifest.
    pub const fn object(&self) -> u32 {
        self.object
    }

    /// First plaintext byte of the window.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Yes, and not after `valid_until` (`None`: no instant is known at which this answer changes by itself).
    pub fn permit(self, valid_until: Option<UnixMillis>) -> AccessGrant {
        AccessGrant { object: self.object, offset: self.offset, valid_until }
    }
}

/// Provider side: the window that was asked for may leave.
#[derive(Debug)]
pub struct AccessGrant {
    object: u32,
    offset: u64,
    valid_until: Option<UnixMillis>,
}

impl AccessGrant {
    /// The instant from which on this answer is void.
    pub const fn valid_until(&self) -> Option<UnixMillis> {
        self.valid_until
    }

    pub(crate) const fn answers(&self, object: u32, offset: u64) -> bool {
        self.object == object && self.offset == offset
    }
}

/// Provider side: decides about every window of a pull.
pub trait DecisionPort: Send + Sync + 'static {
    /// Answers from agreement status, transfer state, participant and policy as they are now.
    ///
    /// Called for every chunk of at most 1 MiB and every 100 ms in between: it should not touch the disk.
    fn decide(&self, question: AccessQuestion) -> BoxFuture<'_, Result<AccessGrant, Refusal>>;
}

/// Consumer side: keeps the row of each object.
pub trait ProgressPort: Send + Sync + 'static {
    /// The row as last saved.
    fn load<'a>(
        &'a self,
        agreement: &'a AgreementId,
        object: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Option<ObjectRecord>, BoxError>>;

    /// Replaces the row; resolves only when it is durable. Nonces rest on it: a generation lost here is reused.
    fn save(&self, record: ObjectRecord) -> BoxFuture<'_, Result<(), BoxError>>;
}

/// Asks whether a use session may open, or may go on.
#[derive(Debug)]
pub struct UseQuestion {
    pub(crate) session: SessionId,
    pub(crate) request: UseRequest,
    pub(crate) bytes_released: u64,
}

impl UseQuestion {
    /// The session.
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// What is to be done.
    pub const fn request(&self) -> &UseRequest {
        &self.request
    }

    /// Plaintext bytes released in this session so far.
    pub const fn bytes_released(&self) -> u64 {
        self.bytes_released
    }

    /// Yes, and not after `valid_until` (`None`: no instant is known at which this answer changes by itself).
    pub fn permit(self, valid_until: Option<UnixMillis>) -> UseGrant {
        UseGrant { session: self.session, agreement: self.request.agreement, valid_until }
    }
}

/// Consumer side: the use that was asked for may happen.
#[derive(Debug)]
pub struct UseGrant {
    session: SessionId,
    agreement: AgreementId,
    valid_until: Option<UnixMillis>,
}

impl UseGrant {
    /// The session that was granted.
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// The agreement that permits it.
    pub const fn agreement(&self) -> &AgreementId {
        &self.agreement
    }

    /// The instant from which on this answer is void.
    pub const fn valid_until(&self) -> Option<UnixMillis> {
        self.valid_until
    }
}

/// Consumer side: decides about uses and accounts for them.
pub trait UsePort: Send + Sync + 'static {
    /// Decides, counts and records in one transaction; resolves with a grant only when that is durable.
    fn open(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>>;

    /// Decides again while the session lasts. What the last decision covers is not counted again; where another unit
    /// begins with time alone (a day), it is counted before this resolves.
    ///
    /// Called for every window of at most 1 MiB or 100 ms: otherwise it should not touch the disk.
    fn recheck(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>>;

    /// Records how the session ended.
    fn closed(&self, receipt: UseReceipt) -> BoxFuture<'_, Result<(), Refusal>>;
}

/// An object of a held copy that is to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRead {
    /// The agreement that the copy is held under.
    pub agreement: AgreementId,
    /// The object's name.
    pub object: String,
    /// For what purpose it is passed on, as stated at publication.
    pub purpose: Option<String>,
    /// Who pulls it, under which agreement of ours.
    pub subject: AccessSubject,
}

/// An object of a held copy, open in a session of its own.
pub struct HeldObject {
    /// The session.
    pub session: UseSession,
    /// The object in it.
    pub object: SessionObject,
    /// What must live as long as the session, and is dropped once it has left its receipt.
    pub kept: Box<dyn Send>,
}

/// Provider of what it holds itself: opens a use session for whoever pulls.
pub trait HeldPort: Send + Sync + 'static {
    /// Decides under the agreement that the copy is held under; resolves when the use is counted and recorded.
    fn open(&self, asked: HeldRead) -> BoxFuture<'_, Result<HeldObject, Refusal>>;
}
