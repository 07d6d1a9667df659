//! Fresh identifiers and salts: the only source of randomness that the driver hands to the pure core.

use control_plane::Refusal;
use control_plane::ids::{AgreementId, MessageId};
use rand::RngCore;
use uuid::Uuid;

/// A new `urn:uuid:` in time order, so that lists sort by age.
pub fn urn() -> String {
    format!("urn:uuid:{}", Uuid::now_v7())
}

/// A new message id.
pub fn message_id() -> Result<MessageId, Refusal> {
    MessageId::parse(&urn())
}

/// A new agreement id.
pub fn agreement_id() -> Result<AgreementId, Refusal> {
    AgreementId::parse(&urn())
}

/// A salt for a ledger leaf.
pub fn salt() -> ledger::Salt {
    let mut salt = [0; 32];
    rand::rng().fill_bytes(&mut salt);
    ledger::Salt(salt)
}

/// The secret that a dataset's hashed columns depend on.
pub fn transform_salt() -> data_plane::Salt {
    let mut salt = [0; 32];
    rand::rng().fill_bytes(&mut salt);
    data_plane::Salt::new(salt)
}
