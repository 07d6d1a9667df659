//! `LeaseService`: key leases of agreements that ask for them.

use std::sync::Arc;

use bytes::Bytes;
use control_plane::Refusal;
use control_plane::ids::AgreementId;
use data_plane::SessionId;
use identity::VerifiedParticipant;
use proto::lease::acquire_request::Reason;
use proto::lease::lease_service_server::LeaseService;
use proto::lease::{
    AcquireRequest, LeaseResponse, LeasedObject, ReleaseRequest, ReleaseResponse, RenewRequest, Share,
};
use tonic::{Request, Response, Status};

use super::{NOT_EXCHANGED, peer, refuse};
use crate::data::lease_provider::{self, Asked, SessionUse, WhatFor};
use crate::data::shares::Turned;
use crate::node::Node;
use crate::transport::Connection;

control_plane::refusal_codes! {
    MALFORMED = "use/lease-malformed", Input,
        "a request for a key lease needs a nonce of 32 bytes and a reason", "金鑰租約請求須有 32 位元組的隨機數和事由",
        "密钥租约请求须有 32 字节的随机数和事由",
        clause "proto/fairlead/use", next "send nonce, and session or transfer";
}

/// Serves leases.
pub struct Leases(pub Arc<Node>);

#[tonic::async_trait]
impl LeaseService for Leases {
    async fn acquire(&self, request: Request<AcquireRequest>) -> Result<Response<LeaseResponse>, Status> {
        let (peer, channel) = self.caller(&request)?;
        let AcquireRequest { agreement, nonce, objects, reason } = request.into_inner();
        let what_for = match reason {
            Some(Reason::Session(of)) => session(of).map(|of| WhatFor::Sessions(vec![of])),
            Some(Reason::Transfer(pid)) => Ok(WhatFor::Transfer(pid)),
            None => Err(Refusal::new(&MALFORMED, "no reason")),
        };
        let asked = asked(&agreement, &nonce, &objects, what_for).map_err(refuse)?;
        self.answer(&peer, channel, asked).await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<LeaseResponse>, Status> {
        let (peer, channel) = self.caller(&request)?;
        let RenewRequest { agreement, nonce, objects, sessions } = request.into_inner();
        let sessions = sessions.into_iter().map(session).collect::<Result<_, _>>();
        let asked = asked(&agreement, &nonce, &objects, sessions.map(WhatFor::Sessions)).map_err(refuse)?;
        self.answer(&peer, channel, asked).await
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let peer = peer(&self.0, &request)?;
        let ReleaseRequest { agreement, session } = request.into_inner();
        let agreement = AgreementId::parse(&agreement).map_err(refuse)?;
        let session = SessionId::parse(&session).map_err(refuse)?;
        lease_provider::release(&self.0, peer.id(), agreement, session).await.map_err(refuse)?;
        Ok(Response::new(ReleaseResponse {}))
    }
}

impl Leases {
    /// Who asks, and on which connection: the answer is bound to both.
    fn caller<T>(&self, request: &Request<T>) -> Result<(Arc<VerifiedParticipant>, [u8; 32]), Status> {
        let peer = peer(&self.0, request)?;
        let connection = request.extensions().get::<Arc<Connection>>();
        let channel = connection.and_then(|connection| connection.binding().copied());
        let channel = channel.ok_or_else(|| refuse(Refusal::new(&NOT_EXCHANGED, "no channel binding")))?;
        Ok((peer, channel))
    }

    async fn answer(
        &self,
        peer: &VerifiedParticipant,
        channel: [u8; 32],
        asked: Asked,
    ) -> Result<Response<LeaseResponse>, Status> {
        let granted = lease_provider::grant(&self.0, peer, channel, asked).await.map_err(refuse)?;
        let shares = granted.shares.iter().map(share).collect();
        Ok(Response::new(LeaseResponse { grant: granted.grant, shares }))
    }
}

fn asked(
    agreement: &str,
    nonce: &[u8],
    objects: &[LeasedObject],
    what_for: Result<WhatFor, Refusal>,
) -> Result<Asked, Refusal> {
    Ok(Asked {
        agreement: AgreementId::parse(agreement)?,
        nonce: nonce.try_into().map_err(|_| Refusal::new(&MALFORMED, format!("{} bytes", nonce.len())))?,
        objects: objects.iter().map(|object| (object.object, object.epoch)).collect(),
        what_for: what_for?,
    })
}

fn session(of: proto::lease::SessionUse) -> Result<SessionUse, Refusal> {
    SessionUse::parse(&of.session, &of.action, &of.purpose)
}

fn share(turned: &Turned) -> Share {
    let bytes = |share: &data_plane::LeaseShare| Bytes::copy_from_slice(share.bytes());
    Share {
        object: turned.object,
        held: turned.held.as_ref().map(bytes).unwrap_or_default(),
        next_epoch: turned.next.epoch(),
        next: bytes(&turned.next),
    }
}
