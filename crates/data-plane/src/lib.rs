//! Moves bytes only while an agreement allows it; keeps sealed copies; opens use sessions.
//!
//! Provider: [`Sources`] publishes files into a [`Publication`] with its [`Manifest`]; [`Egress`] yields the chunks
//! of one object while its [`DecisionPort`] keeps saying yes. Consumer: [`Ingress`] checks each chunk against the
//! manifest and seals it; [`UseSession`] reads it again under a [`UseGrant`]. How an agreement came about is not
//! known here: decisions, progress and counters arrive through the small traits of [`ports`].

mod egress;
mod error;
mod ids;
mod ingress;
mod keys;
mod manifest;
mod sealed;
mod source;
mod stop;
mod tabular;
mod transform;
mod use_session;

pub mod digest;
pub mod ports;

pub use digest::Digest;
pub use egress::{Chunk, Egress, EgressWatch, NO_SUCH_OBJECT, PullRequest, SOURCE_CHANGED, WINDOW_MILLIS};
pub use error::{BoxError, DataError};
pub use ids::{ObjectId, SessionId};
pub use ingress::{Ingress, PullPlan, ReceivedObject};
pub use keys::{AgreementKey, FileKek, KeyEncryption, LeaseShare, WrappedKey};
pub use manifest::{CHUNK_BYTES, MAX_MANIFEST_BYTES, MAX_OBJECTS, Manifest, ManifestObject};
pub use ports::{
    AccessGrant, AccessQuestion, Clock, DecisionPort, HeldObject, HeldPort, HeldRead, ProgressPort, UseGrant,
    UsePort, UseQuestion,
};
pub use sealed::{ObjectRecord, ObjectState, SEGMENT_BYTES, SealedStore};
pub use source::{AppliedTransform, HttpHost, Publication, SourceSettings, SourceSpec, Sources, is_public};
pub use stop::{StopHandle, StopSignal, stop_pair};
pub use tabular::{Batches, NOT_TABULAR, SAMPLE_BYTES, TableFormat, TableReader};
pub use transform::{
    Format, Input, MAX_DECLARATION_BYTES, PERFORMABLE, Performed, Salt, Transform, TransformMark,
};
pub use use_session::{
    ObjectUse, SessionEnd, SessionObject, USE_EXPIRED, UseReceipt, UseRequest, UseSession,
};

use policy::refusal::Code;

/// Every refusal code of this crate, by module.
pub const CODES: &[&[&Code]] = &[
    egress::CODES,
    error::CODES,
    ids::CODES,
    ingress::CODES,
    keys::CODES,
    manifest::CODES,
    sealed::CODES,
    source::CODES,
    source::http::CODES,
    stop::CODES,
    tabular::CODES,
    transform::CODES,
    use_session::CODES,
];
