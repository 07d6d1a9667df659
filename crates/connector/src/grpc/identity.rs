//! `IdentityService`: the first call on a connection.

use std::sync::Arc;

use control_plane::Refusal;
use proto::identity::identity_service_server::IdentityService;
use proto::identity::{ExchangeRequest, ExchangeResponse};
use proto::status::{Audience, to_status};
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::node::Node;
use crate::peers;
use crate::telemetry::metrics;
use crate::transport::Connection;

control_plane::refusal_codes! {
    TOO_MANY_CONNECTIONS = "limit/connections-per-peer", Limit,
        "this participant has too many connections open", "此參與者開啟的連線過多", "该参与者打开的连接过多",
        clause "limits.connections_per_peer", next "close some; a connector of this kind needs a handful";
}

/// Serves the exchange of identities.
pub struct Exchange(pub Arc<Node>);

#[tonic::async_trait]
impl IdentityService for Exchange {
    async fn exchange(
        &self,
        request: Request<ExchangeRequest>,
    ) -> Result<Response<ExchangeResponse>, Status> {
        let node = &self.0;
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("no connection"))?;
        let told = request.into_inner();
        match accept(node, &connection, told).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => {
                let refusal = error.into_refusal();
                tracing::warn!(remote = %connection.remote, code = refusal.code.code, detail = %refusal.detail, "refused a connection");
                metrics::refused(refusal.code.code);
                // A stranger learns only that; the reason is in our log. Who gets these two was verified before.
                let verified = [&crate::node::PEER_SUSPENDED, &TOO_MANY_CONNECTIONS].contains(&refusal.code);
                Err(to_status(&refusal, if verified { Audience::Peer } else { Audience::Stranger }))
            }
        }
    }
}

async fn accept(
    node: &Arc<Node>,
    connection: &Arc<Connection>,
    told: ExchangeRequest,
) -> Result<ExchangeResponse, Error> {
    let peer = node.identity.verify_participant(&connection.chain, &told.statement, node.now())?;
    node.require_not_suspended(peer.id())?;
    let limit = node.config.load().limits.connections_per_peer;
    if node.connections.count_of(peer.id()) >= limit as usize {
        return Err(Refusal::new(&TOO_MANY_CONNECTIONS, format!("{} has {limit}", peer.id())).into());
    }
    peers::remember(node, &peer, told.revocation_list_number).await?;
    peers::remember_enforces(node, peer.id(), told.enforces).await?;
    let seen = match &told.ledger_head {
        Some(head) => peers::ledger_seen(node, peer.id(), head).await?,
        None => 0,
    };
    let ours = peers::exchange_request(node).await?;
    tracing::info!(peer = %peer.id(), remote = %connection.remote, until = %peer.valid_until(), "connected");
    connection.verified(peer);
    Ok(ExchangeResponse {
        statement: ours.statement,
        revocation_list_number: ours.revocation_list_number,
        ledger_head: ours.ledger_head,
        wall_clock: ours.wall_clock,
        your_ledger_size_seen: seen,
        enforces: ours.enforces,
    })
}
