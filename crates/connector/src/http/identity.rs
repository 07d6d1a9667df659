//! Who calls over HTTP.

use std::sync::Arc;

use control_plane::{Fault, Refusal};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use identity::{Digest, ParticipantCertificate, VerifiedParticipant, bearer};

use crate::caller::Caller;
use crate::config::{DspHttp, DspIdentity, Proof};
use crate::error::Error;
use crate::grpc::VERDICT_EXPIRED;
use crate::node::Node;
use crate::peers;
use crate::telemetry::metrics;
use crate::transport::Connection;

control_plane::refusal_codes! {
    NOT_IDENTIFIED = "dsp/not-identified", Identity,
        "the caller did not prove to be a member of this data space", "呼叫者未能證明其為本資料空間的成員",
        "调用者未能证明其为本数据空间的成员",
        clause "DSP 2025-1, 1.4: authorization", next "ask the operator of that connector: its log has the reason";
    OTHER_PROOF = "dsp/other-proof-expected", Identity,
        "the settings expect another proof of identity from this peer", "設定要求此對方以另一方式證明身份",
        "配置要求此对方以另一方式证明身份",
        clause "settings: dsp_http.identity, peers.http_identity", next "agree with the peer's operator on mutual-tls or bearer";
}

/// The caller of a request: by its certificate or token and the statement it shows, or by the settings of a test.
///
/// # Errors
/// [`NOT_IDENTIFIED`] for whatever is wrong with what a stranger shows: the reason is only in our log.
pub async fn caller(
    node: &Arc<Node>,
    settings: &DspHttp,
    connection: Option<&Arc<Connection>>,
    headers: &HeaderMap,
) -> Result<Caller, Error> {
    let caller = match (&settings.identity, connection) {
        (DspIdentity::Test(test), None) => Caller::of_test(test),
        (DspIdentity::Members(_), Some(connection)) => {
            let shown = credential(headers).unwrap_or_default();
            let peer =
                member(node, connection, shown).await.map_err(|error| unidentified(connection, error))?;
            Caller::member(&peer, super::signing(node, settings, peer.id()))
        }
        // The settings were changed and not yet restarted with: neither kind of identity holds here.
        (DspIdentity::Test(_), Some(_)) | (DspIdentity::Members(_), None) => {
            return Err(Refusal::new(&crate::grpc::NOT_EXCHANGED, "").into());
        }
    };
    node.require_not_suspended(caller.id())?;
    Ok(caller)
}

/// The member that a connection and a credential prove.
async fn member(
    node: &Arc<Node>,
    connection: &Arc<Connection>,
    shown: &str,
) -> Result<Arc<VerifiedParticipant>, Error> {
    // The handshake checked it; without one only a token tells anything.
    let certificate = connection.chain.first().map(|leaf| ParticipantCertificate::read(leaf)).transpose()?;
    let expected = match &certificate {
        Some(certificate) => expected(node, certificate.participant()),
        None => Proof::Bearer,
    };
    match expected {
        Proof::MutualTls => by_statement(node, connection, shown).await,
        Proof::Bearer => {
            let thumbprint = certificate.as_ref().map(ParticipantCertificate::thumbprint);
            by_token(node, thumbprint, shown).await
        }
    }
}

async fn by_statement(
    node: &Arc<Node>,
    connection: &Arc<Connection>,
    statement: &str,
) -> Result<Arc<VerifiedParticipant>, Error> {
    match connection.participant() {
        Some(peer) if peer.valid_until() > node.now() => Ok(peer),
        Some(peer) => Err(Refusal::new(&VERDICT_EXPIRED, peer.id().as_str()).into()),
        None => {
            let peer = node.identity.verify_participant(&connection.chain, statement, node.now())?;
            // Its certificate is what its signatures are checked with.
            peers::remember(node, &peer, 0).await?;
            connection.verified(peer.clone());
            Ok(Arc::new(peer))
        }
    }
}

/// Every request is judged by its own token: nothing is remembered on the connection.
async fn by_token(
    node: &Arc<Node>,
    certificate: Option<Digest>,
    token: &str,
) -> Result<Arc<VerifiedParticipant>, Error> {
    let now = node.now();
    let receiver = bearer::Receiver { us: &node.us, certificate };
    let token = bearer::verify(token, receiver, &node.identity.trust(), now)?;
    let peer = token.participant();
    if expected(node, peer.id()) != Proof::Bearer {
        return Err(Refusal::new(&OTHER_PROOF, format!("`{}` by a token", peer.id())).into());
    }
    node.spent_tokens.spend(&token, now)?;
    peers::remember(node, peer, 0).await?;
    Ok(Arc::new(peer.clone()))
}

/// Where members are not served, the stricter proof is expected, and nobody gets that far.
fn expected(node: &Node, peer: &control_plane::ids::ParticipantId) -> Proof {
    node.config.load().http_proof(peer).unwrap_or(Proof::MutualTls)
}

/// Whatever is wrong with a proof, a stranger hears the same; failures of ours and a full table stay what they are.
fn unidentified(connection: &Connection, error: Error) -> Error {
    let refusal = error.into_refusal();
    if matches!(refusal.code.fault, Fault::Ours | Fault::Unavailable | Fault::Limit) {
        return refusal.into();
    }
    let (remote, code, detail) = (connection.remote, refusal.code.code, &refusal.detail);
    tracing::warn!(%remote, code, %detail, "refused the identity of an HTTP caller");
    metrics::refused(code);
    Refusal::new(&NOT_IDENTIFIED, "").into()
}

/// The credential of a request, with or without its scheme: peers differ.
pub fn credential(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(match shown.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => credential.trim(),
        Some(_) | None => shown,
    })
}
