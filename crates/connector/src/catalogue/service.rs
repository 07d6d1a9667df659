//! The catalogue as peers call it: replication of the logs, and the Dataspace Protocol's view of our own datasets.

use std::sync::Arc;

use ::catalogue::index::{Listed, Query};
use ::catalogue::log::{self, GAP, HeadMark, UNKNOWN_DATASET};
use control_plane::Refusal;
use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::transfer::GRPC_PULL;
use proto::catalogue as wire;
use proto::catalogue::replication_service_server::ReplicationService;
use proto::dsp;
use proto::dsp::catalog_service_server::CatalogService;
use store::Snapshot;
use tonic::{Request, Response, Status};

use super::log_store::{SnapshotLog, log_error};
use super::replication::{from_wire, mark_to_wire, replicas, to_wire};
use super::{admission, heads};
use crate::error::Error;
use crate::grpc::{peer, refuse};
use crate::node::Node;

control_plane::refusal_codes! {
    NOT_A_REPLICA = "catalogue/not-a-replica", Policy,
        "catalogue logs are exchanged only with the peers configured for it",
        "目錄日誌只與已設定的對等方交換", "目录日志只与已配置的对等方交换",
        clause "settings: peers.replicate", next "ask the operator of the other connector to add you as a replicating peer";
    FILTER_RESERVED = "catalogue/filter-reserved", Input,
        "the protocol reserves the filter of a catalogue request", "協定保留目錄請求的篩選欄位", "协议保留目录请求的筛选字段",
        clause "DSP 2025-1, 6.2.1", next "send the request without a filter, or search the shared catalogue";
}

/// Datasets of a page where the caller names no size.
const DEFAULT_PAGE_SIZE: usize = 50;

/// `ReplicationService`, for the peers configured to exchange logs.
pub struct Replication(pub Arc<Node>);

impl Replication {
    fn replica<T>(&self, request: &Request<T>) -> Result<ParticipantId, Status> {
        let peer = peer(&self.0, request)?;
        if !replicas(&self.0.config.load()).contains(peer.id()) {
            return Err(refuse(Refusal::new(&NOT_A_REPLICA, peer.id().as_str())));
        }
        Ok(peer.id().clone())
    }
}

#[tonic::async_trait]
impl ReplicationService for Replication {
    async fn heads(
        &self,
        request: Request<wire::HeadsRequest>,
    ) -> Result<Response<wire::HeadsResponse>, Status> {
        self.replica(&request)?;
        let heads = heads(&self.0).await.map_err(refuse)?;
        Ok(Response::new(wire::HeadsResponse {
            heads: heads.iter().map(|(mark, _)| mark_to_wire(mark)).collect(),
        }))
    }

    async fn fetch(
        &self,
        request: Request<wire::FetchRequest>,
    ) -> Result<Response<wire::FetchResponse>, Status> {
        self.replica(&request)?;
        let wire::FetchRequest { publisher, epoch, from_seq, limit } = request.into_inner();
        let publisher = ParticipantId::parse(&publisher).map_err(refuse)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let read = move |store: &Snapshot<'_>| {
            log::fetch(&SnapshotLog(store), &publisher, epoch, from_seq, limit).map_err(log_error)
        };
        let envelopes = self.0.store.read(read).await.map_err(refuse)?;
        Ok(Response::new(wire::FetchResponse { envelopes: envelopes.into_iter().map(to_wire).collect() }))
    }

    async fn push(
        &self,
        request: Request<wire::PushRequest>,
    ) -> Result<Response<wire::PushResponse>, Status> {
        let from = self.replica(&request)?;
        let envelopes = request.into_inner().envelopes.into_iter().map(from_wire).collect();
        let run = admission::receive(&self.0, &from, None, envelopes).await.map_err(refuse)?;
        match run.refused {
            // What is missing is told by our position, so that the caller can begin there.
            Some(refusal) if refusal.code != &GAP => return Err(refuse(refusal)),
            Some(_) | None => {}
        }
        let heads = match run.publisher {
            Some(publisher) => held(&self.0, publisher).await.map_err(refuse)?,
            None => None,
        };
        Ok(Response::new(wire::PushResponse { heads: heads.iter().map(mark_to_wire).collect() }))
    }
}

/// `CatalogService`: what we ourselves offer, to every verified participant.
pub struct Catalog(pub Arc<Node>);

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn request_catalog(
        &self,
        request: Request<dsp::CatalogRequest>,
    ) -> Result<Response<dsp::CatalogPage>, Status> {
        peer(&self.0, &request)?;
        let dsp::CatalogRequest { filter, page_token, page_size } = request.into_inner();
        if !filter.is_empty() {
            return Err(refuse(Refusal::new(&FILTER_RESERVED, "")));
        }
        let page_size = match usize::try_from(page_size).unwrap_or(usize::MAX) {
            0 => DEFAULT_PAGE_SIZE,
            size => size,
        };
        let query = Query { publisher: Some(self.0.us.clone()), page_size, page_token, ..Query::default() };
        let page = self.0.catalogue.search(query, self.0.now()).map_err(refuse)?;
        Ok(Response::new(dsp::CatalogPage {
            participant_id: self.0.us.to_string(),
            datasets: page.hits.iter().map(|hit| dataset(&hit.listed)).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn get_dataset(
        &self,
        request: Request<dsp::DatasetRequest>,
    ) -> Result<Response<dsp::Dataset>, Status> {
        peer(&self.0, &request)?;
        let id = DatasetId::parse(&request.into_inner().dataset).map_err(refuse)?;
        let listed = self.0.catalogue.get(&id, self.0.now()).map_err(refuse)?;
        if listed.description.publisher != self.0.us {
            return Err(refuse(Refusal::new(
                &UNKNOWN_DATASET,
                format!("`{id}` is published by somebody else"),
            )));
        }
        Ok(Response::new(dataset(&listed)))
    }
}

async fn held(node: &Arc<Node>, publisher: ParticipantId) -> Result<Option<HeadMark>, Error> {
    let read = move |store: &Snapshot<'_>| log::head(&SnapshotLog(store), &publisher).map_err(log_error);
    Ok(node.store.read(read).await?.as_ref().map(HeadMark::from))
}

fn dataset(listed: &Listed) -> dsp::Dataset {
    let description = &listed.description;
    let distribution = |distribution: &::catalogue::description::Distribution| dsp::Distribution {
        format: GRPC_PULL.to_owned(),
        media_type: distribution.media_type.clone().unwrap_or_default(),
        byte_size: distribution.byte_size.unwrap_or_default(),
    };
    dsp::Dataset {
        id: description.dataset.to_string(),
        offers: description.offers.iter().map(|offer| offer.text.clone()).collect(),
        distributions: description.distributions.iter().map(distribution).collect(),
    }
}
