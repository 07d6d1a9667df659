//! The Dataspace Protocol's services: each call becomes one domain message for the role that receives it.

use std::sync::Arc;

use control_plane::agreement::Signing;
use control_plane::pids::Role;
use control_plane::{Refusal, negotiation, transfer};
use proto::dsp;
use proto::dsp::negotiation_consumer_service_server::NegotiationConsumerService;
use proto::dsp::negotiation_provider_service_server::NegotiationProviderService;
use proto::dsp::transfer_consumer_service_server::TransferConsumerService;
use proto::dsp::transfer_provider_service_server::TransferProviderService;
use proto::dsp::version_service_server::VersionService;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::{peer, refuse};
use crate::caller::Caller;
use crate::driver::{negotiations, transfers};
use crate::error::Error;
use crate::node::Node;
use crate::telemetry::{RequestId, metrics};

/// The protocol version that is spoken.
pub const PROTOCOL_VERSION: &str = "2025-1";

/// `VersionService`; the only service that answers before identities were exchanged.
pub struct Versions;

#[tonic::async_trait]
impl VersionService for Versions {
    async fn get_versions(
        &self,
        _request: Request<dsp::GetVersionsRequest>,
    ) -> Result<Response<dsp::VersionResponse>, Status> {
        let version =
            dsp::ProtocolVersion { version: PROTOCOL_VERSION.to_owned(), binding: "GRPC".to_owned() };
        Ok(Response::new(dsp::VersionResponse { protocol_versions: vec![version] }))
    }
}

/// The role that serves a call.
pub struct As(pub Arc<Node>, pub Role);

impl As {
    async fn negotiation<M>(&self, request: Request<M>) -> Result<Response<dsp::ContractNegotiation>, Status>
    where
        M: TryInto<negotiation::Message, Error = Refusal>,
    {
        let peer = peer(&self.0, &request)?;
        let message: negotiation::Message =
            request.into_inner().try_into().map_err(|error: Refusal| refuse(error))?;
        let (id, kind) = (message.id().clone(), message.kind());
        // The same id stands in the log of the connector that sent it.
        let span = RequestId::carried_or_fresh(Some(id.as_str())).span("negotiation");
        let answered = async {
            let answer =
                negotiations::receive(&self.0, &Caller::member(&peer, Signing::Required), self.1, message)
                    .await
                    .map_err(refuse)?;
            metrics::negotiation_step(self.1.as_str(), answer.state.as_str());
            tracing::info!(peer = %peer.id(), received = kind.as_str(), state = %answer.state, role = %self.1, "negotiation");
            Ok::<_, Status>(answer)
        };
        let answer = answered.instrument(span).await?;
        Ok(Response::new(wire_negotiation(answer)))
    }

    async fn get_negotiation(
        &self,
        request: Request<dsp::GetProcessRequest>,
    ) -> Result<Response<dsp::ContractNegotiation>, Status> {
        let peer = peer(&self.0, &request)?;
        let pid = request.into_inner().pid;
        let unknown = || Error::from(Refusal::new(&negotiation::UNKNOWN_PROCESS, format!("`{pid}`")));
        let found = negotiations::get(&self.0, &pid).await.map_err(|_| refuse(unknown()))?;
        if found.counterparty() != peer.id() || found.role() != self.1 {
            return Err(refuse(unknown()));
        }
        Ok(Response::new(wire_negotiation(negotiations::Answer::of(&found))))
    }

    async fn transfer<M>(&self, request: Request<M>) -> Result<Response<dsp::TransferProcess>, Status>
    where
        M: TryInto<transfer::Message, Error = Refusal>,
    {
        let peer = peer(&self.0, &request)?;
        let message: transfer::Message =
            request.into_inner().try_into().map_err(|error: Refusal| refuse(error))?;
        let (id, kind) = (message.id().clone(), message.kind());
        let span = RequestId::carried_or_fresh(Some(id.as_str())).span("transfer");
        let answered = async {
            let answer =
                transfers::receive(&self.0, &Caller::member(&peer, Signing::Required), self.1, message)
                    .await
                    .map_err(refuse)?;
            metrics::transfer_step(self.1.as_str(), answer.state.as_str());
            tracing::info!(peer = %peer.id(), received = kind.as_str(), state = %answer.state, role = %self.1, "transfer");
            Ok::<_, Status>(answer)
        };
        let answer = answered.instrument(span).await?;
        Ok(Response::new(wire_transfer(answer)))
    }

    async fn get_transfer(
        &self,
        request: Request<dsp::GetProcessRequest>,
    ) -> Result<Response<dsp::TransferProcess>, Status> {
        let peer = peer(&self.0, &request)?;
        let pid = request.into_inner().pid;
        let unknown = || Error::from(Refusal::new(&transfer::UNKNOWN_PROCESS, format!("`{pid}`")));
        let found = transfers::get(&self.0, &pid).await.map_err(|_| refuse(unknown()))?;
        if found.counterparty() != peer.id() || found.role() != self.1 {
            return Err(refuse(unknown()));
        }
        Ok(Response::new(wire_transfer(transfers::Answer::of(&found))))
    }
}

fn wire_negotiation(answer: negotiations::Answer) -> dsp::ContractNegotiation {
    let mut wire = dsp::ContractNegotiation {
        provider_pid: answer.provider_pid,
        consumer_pid: answer.consumer_pid,
        ..Default::default()
    };
    wire.set_state(proto::negotiation::wire_state(answer.state));
    wire
}

fn wire_transfer(answer: transfers::Answer) -> dsp::TransferProcess {
    let mut wire = dsp::TransferProcess {
        provider_pid: answer.provider_pid,
        consumer_pid: answer.consumer_pid,
        ..Default::default()
    };
    wire.set_state(proto::transfer::wire_state(answer.state));
    wire
}

/// Declares a service whose every call is a message or a look at a process.
macro_rules! service {
    ($service:ident, $process:ident, $get:ident by $look:ident, $take:ident { $( $call:ident($message:ident) ),* }) => {
        #[tonic::async_trait]
        impl $service for As {
            async fn $get(
                &self,
                request: Request<dsp::GetProcessRequest>,
            ) -> Result<Response<dsp::$process>, Status> {
                As::$look(self, request).await
            }

            $(
                async fn $call(&self, request: Request<dsp::$message>) -> Result<Response<dsp::$process>, Status> {
                    self.$take(request).await
                }
            )*
        }
    };
}

service!(NegotiationProviderService, ContractNegotiation, get_negotiation by get_negotiation, negotiation {
    request_contract(ContractRequestMessage),
    send_event(ContractNegotiationEventMessage),
    verify_agreement(ContractAgreementVerificationMessage),
    terminate(ContractNegotiationTerminationMessage)
});
service!(NegotiationConsumerService, ContractNegotiation, get_negotiation by get_negotiation, negotiation {
    offer_contract(ContractOfferMessage),
    conclude_agreement(ContractAgreementMessage),
    send_event(ContractNegotiationEventMessage),
    terminate(ContractNegotiationTerminationMessage)
});
service!(TransferProviderService, TransferProcess, get_transfer by get_transfer, transfer {
    request_transfer(TransferRequestMessage),
    start(TransferStartMessage),
    complete(TransferCompletionMessage),
    suspend(TransferSuspensionMessage),
    terminate(TransferTerminationMessage)
});
service!(TransferConsumerService, TransferProcess, get_transfer by get_transfer, transfer {
    start(TransferStartMessage),
    complete(TransferCompletionMessage),
    suspend(TransferSuspensionMessage),
    terminate(TransferTerminationMessage)
});
