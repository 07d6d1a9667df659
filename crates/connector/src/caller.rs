//! Who sent a message, as the binding that carried it found out.

use control_plane::UnixMillis;
use control_plane::agreement::Signing;
use control_plane::ids::ParticipantId;
use identity::{Statement, VerifiedParticipant};

use crate::config::TestIdentity;

/// The sender of a message or the reader of data.
#[derive(Clone, Debug)]
pub struct Caller {
    id: ParticipantId,
    statement: Option<Statement>,
    signing: Signing,
    valid_until: Option<UnixMillis>,
}

impl Caller {
    /// A member of our data space: its certificate and statement were verified on the connection in use.
    pub fn member(peer: &VerifiedParticipant, signing: Signing) -> Self {
        Self {
            id: peer.id().clone(),
            statement: Some(peer.statement().clone()),
            signing,
            valid_until: Some(peer.valid_until()),
        }
    }

    /// The one participant that everybody on the loopback listener of a test is. Only its settings make one.
    pub fn of_test(identity: &TestIdentity) -> Self {
        Self {
            id: identity.participant.clone(),
            statement: None,
            signing: Signing::IfOffered,
            valid_until: None,
        }
    }

    /// Whoever shows the credential that the participant `id` was given for one transfer, until it ends.
    pub fn of_credential(id: ParticipantId, statement: Option<Statement>, until: UnixMillis) -> Self {
        let ends = statement.as_ref().map_or(until, |statement| statement.expires.min(until));
        Self { id, statement, signing: Signing::Required, valid_until: Some(ends) }
    }

    /// The participant `id` that we send to, as long as its statement says who it is.
    pub fn of_statement(id: ParticipantId, statement: Option<Statement>) -> Self {
        let ends = statement.as_ref().map(|statement| statement.expires);
        Self { id, statement, signing: Signing::Required, valid_until: ends }
    }

    /// Who.
    pub const fn id(&self) -> &ParticipantId {
        &self.id
    }

    /// What the authority attests about it, if it has one.
    pub const fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// Whether it must sign agreements.
    pub const fn signing(&self) -> Signing {
        self.signing
    }

    /// The end of the verdict, if it has one.
    pub const fn valid_until(&self) -> Option<UnixMillis> {
        self.valid_until
    }
}
