//! `NoticeService`: signed notices about agreements.

use std::sync::Arc;

use control_plane::ids::MessageId;
use proto::notice::notice_service_server::NoticeService;
use proto::notice::{
    DeliverRequest, DeliverResponse, StandingRequest, StandingResponse, TellUsesRequest, TellUsesResponse,
};
use tonic::{Request, Response, Status};

use super::{peer, refuse};
use crate::driver::notices;
use crate::node::Node;
use crate::standing;

/// Serves notices.
pub struct Notices(pub Arc<Node>);

#[tonic::async_trait]
impl NoticeService for Notices {
    async fn deliver(&self, request: Request<DeliverRequest>) -> Result<Response<DeliverResponse>, Status> {
        let peer = peer(&self.0, &request)?;
        let DeliverRequest { message_id, notice } = request.into_inner();
        let message_id = MessageId::parse(&message_id).map_err(refuse)?;
        notices::receive(&self.0, &peer, message_id, notice).await.map_err(refuse)?;
        Ok(Response::new(DeliverResponse {}))
    }

    async fn tell_uses(
        &self,
        request: Request<TellUsesRequest>,
    ) -> Result<Response<TellUsesResponse>, Status> {
        let peer = peer(&self.0, &request)?;
        standing::told(&self.0, peer.id(), request.into_inner().uses).await.map_err(refuse)?;
        Ok(Response::new(TellUsesResponse {}))
    }

    async fn standing(
        &self,
        request: Request<StandingRequest>,
    ) -> Result<Response<StandingResponse>, Status> {
        let peer = peer(&self.0, &request)?;
        let asked = request.into_inner().agreements;
        let standings = standing::answer(&self.0, peer.id(), asked).await.map_err(refuse)?;
        Ok(Response::new(StandingResponse { standings }))
    }
}
