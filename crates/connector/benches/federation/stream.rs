//! Our stream with a receiver that checks every chunk's hash and drops it: what the product does but for the disk.
//!
//! The receiver speaks as the consumer while that does not run, over the connection that the product would make.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use connector::driver::negotiations::callback;
use connector::fresh;
use connector::transport::dialer::{self, Purpose};
use connector::transport::{Connection, PeerStream};
use control_plane::ids::ParticipantId;
use control_plane::transfer::GRPC_PULL;
use data_plane::{Digest, Manifest};
use proto::data::data_service_client::DataServiceClient;
use proto::data::pull_request::Step as Ask;
use proto::data::pull_response::Step as Told;
use proto::data::{ManifestRequest, PullOpen, PullReceipt, PullRequest};
use proto::dsp::TransferRequestMessage;
use proto::dsp::transfer_provider_service_client::TransferProviderServiceClient;
use proto::identity::ExchangeRequest;
use proto::identity::identity_service_client::IdentityServiceClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::raw::identity;
use crate::space::Space;

/// A message may be a manifest.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// Chunks between receiving and hashing, as in the product.
const STAGE_CHUNKS: usize = 4;

/// A started transfer and the connection for its bytes.
pub struct Receiver {
    client: DataServiceClient<Channel>,
    provider_pid: String,
    manifest: Manifest,
}

impl Receiver {
    /// Exchanges identities as the consumer, which must not run, and has a transfer under `agreement` started.
    pub async fn open(space: &Space, agreement: &str) -> anyhow::Result<Self> {
        let (identity, statement) = identity(&space.consumer.data())?;
        let (socket, remote) = dialer::connect(&space.provider.address).await?;
        let provider = ParticipantId::parse(&space.provider.participant)?;
        let tls = dialer::handshake(socket, identity.client_config(&provider)?).await?;
        let stream = PeerStream::new(tls, Connection::new(remote, Vec::new()));
        let channel = dialer::channel(stream, Purpose::Data).await?;
        let enforces = connector::enforceable::told();
        let request = ExchangeRequest { statement, enforces, ..Default::default() };
        IdentityServiceClient::new(channel.clone()).exchange(request).await?;

        let request = TransferRequestMessage {
            message_id: fresh::urn(),
            consumer_pid: fresh::urn(),
            agreement_id: agreement.to_owned(),
            format: GRPC_PULL.to_owned(),
            callback_address: callback(identity.certificate().participant())?.to_string(),
            data_address: None,
        };
        let answer = TransferProviderServiceClient::new(channel.clone()).request_transfer(request).await?;
        let provider_pid = answer.into_inner().provider_pid;
        let mut client = DataServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = ManifestRequest { provider_pid: provider_pid.clone() };
        let manifest = Manifest::parse(&client.get_manifest(request).await?.into_inner().manifest)?;
        Ok(Self { client, provider_pid, manifest })
    }

    /// Pulls the one object; gives the time from asking to the last chunk's hash.
    pub async fn drop_all(&mut self, size: u64) -> anyhow::Result<Duration> {
        let object = self.manifest.object(0).context("an object")?;
        ensure!(object.size() == size, "{} of {size} bytes", object.size());
        let (asked, requests) = mpsc::channel(2);
        let (feed, mut unchecked) = mpsc::channel::<(Digest, bytes::Bytes)>(STAGE_CHUNKS);
        let hasher = tokio::task::spawn_blocking(move || {
            let mut hashed = 0;
            while let Some((expected, data)) = unchecked.blocking_recv() {
                ensure!(Digest::of(&data) == expected, "a chunk is not what the manifest says");
                hashed += data.len() as u64;
            }
            Ok(hashed)
        });
        let began = Instant::now();
        asked.send(PullRequest { step: Some(Ask::Open(self.whole_object())) }).await?;
        let mut told = self.client.pull(ReceiverStream::new(requests)).await?.into_inner();
        for digest in object.chunks() {
            let Some(Told::Chunk(chunk)) = told.message().await?.and_then(|message| message.step) else {
                anyhow::bail!("the stream ended early");
            };
            feed.send((*digest, chunk.data)).await?;
        }
        drop(feed);
        let hashed = hasher.await??;
        let took = began.elapsed();
        ensure!(hashed == size, "{hashed} of {size} bytes");
        let receipt = PullReceipt { bytes: size, digest: object.digest().to_string() };
        asked.send(PullRequest { step: Some(Ask::Receipt(receipt)) }).await?;
        let accepted = told.message().await?.and_then(|message| message.step);
        ensure!(matches!(accepted, Some(Told::ReceiptAccepted(_))), "the receipt was not accepted");
        Ok(took)
    }

    /// Reads the one object until no more comes; gives when the last chunk came, and tells the bytes read meanwhile.
    pub async fn read_until_silent(&mut self, progress: watch::Sender<u64>) -> anyhow::Result<Instant> {
        let (asked, requests) = mpsc::channel(2);
        asked.send(PullRequest { step: Some(Ask::Open(self.whole_object())) }).await?;
        let mut told = self.client.pull(ReceiverStream::new(requests)).await?.into_inner();
        let mut last = Instant::now();
        while let Ok(Some(message)) = told.message().await {
            if let Some(Told::Chunk(chunk)) = message.step {
                last = Instant::now();
                progress.send_modify(|bytes| *bytes += chunk.data.len() as u64);
            }
        }
        Ok(last)
    }

    fn whole_object(&self) -> PullOpen {
        PullOpen {
            provider_pid: self.provider_pid.clone(),
            manifest_digest: self.manifest.digest().to_string(),
            object: 0,
            offset: 0,
        }
    }
}
