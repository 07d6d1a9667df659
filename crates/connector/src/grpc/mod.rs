//! The services that peers call, and the one way in which each learns who is calling and says no.

pub mod dsp;
pub mod identity;
pub mod lease;
pub mod notice;

use std::sync::Arc;

use ::identity::VerifiedParticipant;
use control_plane::Refusal;
use proto::status::{Audience, to_status};
use tonic::{Request, Status};

use crate::error::Error;
use crate::node::Node;
use crate::telemetry::metrics;
use crate::transport::Connection;

control_plane::refusal_codes! {
    NOT_EXCHANGED = "identity/not-exchanged", Identity,
        "identities must be exchanged before any other call on a connection",
        "連線上須先交換身分才能進行其他呼叫", "连接上须先交换身份才能进行其他调用",
        clause "proto/fairlead/identity: Exchange", next "call IdentityService.Exchange first";
    VERDICT_EXPIRED = "identity/verdict-expired", Identity,
        "the certificate, statement or revocation list behind this connection has expired",
        "此連線所依據的憑證、聲明或撤銷清單已過期", "此连接所依据的证书、声明或吊销列表已过期",
        clause "proto/fairlead/identity: Exchange", next "dial again and exchange identities anew";
}

/// The verified participant at the other end of the connection that carries this call.
pub fn peer<T>(node: &Node, request: &Request<T>) -> Result<Arc<VerifiedParticipant>, Status> {
    let connection = request.extensions().get::<Arc<Connection>>();
    let verified = connection.and_then(|connection| connection.participant());
    let Some(verified) = verified else {
        let remote = connection.map(|connection| connection.remote.to_string()).unwrap_or_default();
        return Err(refuse_stranger(&Refusal::new(&NOT_EXCHANGED, remote)));
    };
    if verified.valid_until() <= node.now() {
        return Err(refuse_stranger(&Refusal::new(&VERDICT_EXPIRED, verified.id().as_str())));
    }
    node.require_not_suspended(verified.id()).map_err(refuse)?;
    Ok(verified)
}

/// Says no to somebody who is not a verified peer (any more): the reason stays in our log.
fn refuse_stranger(refusal: &Refusal) -> Status {
    tracing::warn!(code = refusal.code.code, detail = %refusal.detail, "refused a stranger's call");
    metrics::refused(refusal.code.code);
    to_status(refusal, Audience::Stranger)
}

/// Says no to a verified peer: code and clause; the whole of it goes to our log.
pub fn refuse(error: impl Into<Error>) -> Status {
    let refusal = error.into().into_refusal();
    tracing::info!(code = refusal.code.code, detail = %refusal.detail, "refused a peer's call");
    metrics::refused(refusal.code.code);
    to_status(&refusal, Audience::Peer)
}
