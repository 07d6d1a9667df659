//! The calls of Arrow Flight: four are served, and the others say so.

use std::sync::Arc;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use control_plane::Refusal;
use control_plane::ids::printable;
use data_plane::{NOT_TABULAR, ObjectRecord};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::table::Open;
use super::{NO_SUCH_TABLE, NOT_SUPPORTED, refused, ticket};
use crate::data::sessions::Session;
use crate::error::Error;
use crate::node::Node;
use crate::use_endpoint::checks::BAD_TOKEN;

/// The tables of whichever session a call's token opened.
pub(super) struct Tables {
    pub(super) node: Arc<Node>,
    pub(super) cut: CancellationToken,
    pub(super) places: Arc<Semaphore>,
}

type Stream<T> = BoxStream<'static, Result<T, Status>>;

impl Tables {
    async fn open(&self, session: Arc<Session>, name: &str) -> Result<(Open, ObjectRecord), Refusal> {
        let record = session.objects().iter().find(|object| object.name() == name).cloned();
        let record = record.ok_or_else(|| Refusal::new(&NO_SUCH_TABLE, format!("`{}`", printable(name))))?;
        if ticket(name).is_none() {
            return Err(Refusal::new(&NOT_TABULAR, format!("`{}`", printable(name))));
        }
        Ok((Open::new(&self.node, session, &record, &self.places).await?, record))
    }

    async fn described(&self, request: Request<FlightDescriptor>) -> Result<(Open, ObjectRecord), Refusal> {
        let session = session(&request)?;
        let name = name(request.get_ref())?;
        self.open(session, &name).await
    }
}

/// The session that let the call in.
fn session<T>(request: &Request<T>) -> Result<Arc<Session>, Refusal> {
    request.extensions().get::<Arc<Session>>().cloned().ok_or_else(|| Refusal::new(&BAD_TOKEN, ""))
}

/// A descriptor names an object by its path, whole or in parts.
fn name(descriptor: &FlightDescriptor) -> Result<String, Refusal> {
    match descriptor.r#type() {
        DescriptorType::Path if !descriptor.path.is_empty() => Ok(descriptor.path.join("/")),
        DescriptorType::Path | DescriptorType::Cmd | DescriptorType::Unknown => {
            Err(Refusal::new(&NOT_SUPPORTED, "a descriptor names an object by its path"))
        }
    }
}

fn listed(record: &ObjectRecord) -> Option<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket(record.name())?));
    let info = FlightInfo::new()
        .with_descriptor(FlightDescriptor::new_path(vec![record.name().to_owned()]))
        .with_endpoint(endpoint)
        .with_ordered(true);
    Some(info.with_total_bytes(i64::try_from(record.size()).unwrap_or(-1)))
}

fn not_supported(call: &str) -> Status {
    refused(&Refusal::new(&NOT_SUPPORTED, call))
}

fn ours(error: impl std::fmt::Display) -> Status {
    refused(&Error::ours(error.to_string()).into_refusal())
}

#[tonic::async_trait]
impl FlightService for Tables {
    type HandshakeStream = Stream<HandshakeResponse>;
    type ListFlightsStream = Stream<FlightInfo>;
    type DoGetStream = Stream<FlightData>;
    type DoPutStream = Stream<PutResult>;
    type DoActionStream = Stream<arrow_flight::Result>;
    type ListActionsStream = Stream<ActionType>;
    type DoExchangeStream = Stream<FlightData>;

    /// The session's tables, without their schemas: to list them opens none.
    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let session = session(&request).map_err(|refusal| refused(&refusal))?;
        if !request.get_ref().expression.is_empty() {
            return Err(not_supported("ListFlights with criteria"));
        }
        let infos: Vec<_> = session.objects().iter().filter_map(listed).map(Ok).collect();
        Ok(Response::new(futures::stream::iter(infos).boxed()))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.get_ref().clone();
        let (open, record) = self.described(request).await.map_err(|refusal| refused(&refusal))?;
        let rows = open.rows().and_then(|rows| i64::try_from(rows).ok()).unwrap_or(-1);
        let info = listed(&record).unwrap_or_default().with_descriptor(descriptor).with_total_records(rows);
        info.try_with_schema(&open.schema()).map(Response::new).map_err(ours)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let (open, _) = self.described(request).await.map_err(|refusal| refused(&refusal))?;
        let info = FlightInfo::new().try_with_schema(&open.schema()).map_err(ours)?;
        Ok(Response::new(SchemaResult { schema: info.schema }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let begun = async {
            let session = session(&request)?;
            let named = std::str::from_utf8(&request.get_ref().ticket);
            let name = named.map_err(|_| Refusal::new(&NO_SUCH_TABLE, "the ticket is no name"))?;
            Ok(self.open(session, name).await?.0)
        };
        let open: Open = begun.await.map_err(|refusal: Refusal| refused(&refusal))?;
        Ok(Response::new(open.messages(self.cut.clone()).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(not_supported("Handshake"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(not_supported("PollFlightInfo"))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(not_supported("DoPut: held data is only read"))
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(not_supported("DoAction"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(not_supported("ListActions"))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(not_supported("DoExchange"))
    }
}
