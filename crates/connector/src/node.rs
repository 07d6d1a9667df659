//! One running participant: what its services and tasks share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use identity::{RememberedCertificates, Statement, TlsIdentity, VerifiedParticipant};
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::config::Config;
use crate::data::Data;
use crate::policies::Policies;
use crate::transport::Connections;
use crate::transport::dialer::Links;

control_plane::refusal_codes! {
    PEER_SUSPENDED = "peer/suspended", Policy,
        "this participant is suspended here", "此參與者在本方已被暫停", "该参与者在本方已被暂停",
        clause "peer suspend", next "ask the operator of the other connector, who has recorded the reason";
}

/// One participant, as its services and tasks see it.
pub struct Node {
    /// Who we are.
    pub us: ParticipantId,
    /// The settings; replaced whole on reload.
    pub config: ArcSwap<Config>,
    /// The file that the settings were read from, to read it again.
    pub settings: Option<std::path::PathBuf>,
    /// Durable state.
    pub store: Store,
    /// Certificate, key and trust.
    pub identity: TlsIdentity,
    /// Our own membership statement, as the authority signed it.
    pub statement: ArcSwap<OwnStatement>,
    /// Every certificate accepted from a peer, to check what it signed.
    pub certificates: RememberedCertificates,
    /// Compiled policies.
    pub policies: Arc<Policies>,
    /// The witness of time.
    pub clock: Arc<Clock>,
    /// Connections we dialled.
    pub links: Links,
    /// Connections we accepted.
    pub connections: Arc<Connections>,
    /// The shared catalogue.
    pub catalogue: Catalogue,
    /// Running streams, sealed copies and use sessions.
    pub data: Data,
    /// Participants that are suspended here.
    pub suspended: ArcSwap<Vec<ParticipantId>>,
    /// Sets the level of the logs on reload; `None` where somebody else owns them.
    pub logs: Option<crate::telemetry::Logs>,
    /// Bearer tokens bound to no certificate that were shown over HTTP.
    pub spent_tokens: identity::bearer::SpentTokens,
    /// Told when newer revocation lists or a newer statement should be fetched at once.
    pub refresh_lists: tokio::sync::Notify,
    /// Where peers connect and where health is served, once bound.
    pub bound: arc_swap::ArcSwapOption<(std::net::SocketAddr, std::net::SocketAddr)>,
    /// Where programs of this host read held data, once it is served.
    pub use_endpoint: std::sync::OnceLock<std::net::SocketAddr>,
    /// Where they read its tables over Arrow Flight, once that is served.
    pub use_flight: std::sync::OnceLock<std::net::SocketAddr>,
    /// The root of our Dataspace Protocol service over HTTP, once it listens.
    pub dsp_root: std::sync::OnceLock<String>,
    /// Set when the process is to end.
    pub stop: CancellationToken,
}

/// Our membership statement with what it says.
pub struct OwnStatement {
    /// The compact JWS.
    pub jws: String,
    /// What it says.
    pub statement: Statement,
}

impl Node {
    /// The time for records and messages.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Refuses a participant that is suspended here.
    pub fn require_not_suspended(&self, participant: &ParticipantId) -> Result<(), Refusal> {
        if self.suspended.load().contains(participant) {
            return Err(Refusal::new(&PEER_SUSPENDED, participant.as_str()));
        }
        Ok(())
    }

    /// Judges a peer anew, by the trust of this moment.
    pub fn recheck(&self, peer: &VerifiedParticipant) -> Result<VerifiedParticipant, Refusal> {
        peer.recheck(&self.identity.trust(), self.now())
    }
}
