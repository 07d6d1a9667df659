//! Who calls over HTTP.

use std::sync::Arc;

use control_plane::Refusal;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::caller::Caller;
use crate::config::{DspHttp, DspIdentity};
use crate::error::Error;
use crate::grpc::VERDICT_EXPIRED;
use crate::node::Node;
use crate::peers;
use crate::transport::Connection;

/// The caller of a request: by its certificate and the statement it shows, or by the settings of a test.
pub async fn caller(
    node: &Arc<Node>,
    settings: &DspHttp,
    connection: Option<&Arc<Connection>>,
    headers: &HeaderMap,
) -> Result<Caller, Error> {
    let caller = match (&settings.identity, connection) {
        (DspIdentity::Test(test), None) => Caller::of_test(test),
        (DspIdentity::MutualTls, Some(connection)) => {
            let peer = match connection.participant() {
                Some(peer) if peer.valid_until() > node.now() => peer,
                Some(peer) => return Err(Refusal::new(&VERDICT_EXPIRED, peer.id().as_str()).into()),
                None => {
                    let statement = credential(headers).unwrap_or_default();
                    let peer = node.identity.verify_participant(&connection.chain, statement, node.now())?;
                    // Its certificate is what its signatures are checked with.
                    peers::remember(node, &peer, 0).await?;
                    connection.verified(peer.clone());
                    Arc::new(peer)
                }
            };
            Caller::member(&peer, super::signing(node, settings, peer.id()))
        }
        // The settings were changed and not yet restarted with: neither kind of identity holds here.
        (DspIdentity::Test(_), Some(_)) | (DspIdentity::MutualTls, None) => {
            return Err(Refusal::new(&crate::grpc::NOT_EXCHANGED, "").into());
        }
    };
    node.require_not_suspended(caller.id())?;
    Ok(caller)
}

/// The credential of a request, with or without its scheme: peers differ.
pub fn credential(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(match shown.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => credential.trim(),
        Some(_) | None => shown,
    })
}
