//! Data for outsiders: HttpData-PULL with a credential that belongs to one transfer, decided anew for each window.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use control_plane::digest::Digest as TextDigest;
use control_plane::transfer::{DataAddress, TransferProcess, UNKNOWN_PROCESS};
use control_plane::{Refusal, UnixMillis};
use data_plane::ports::AccessSubject;
use data_plane::{CHUNK_BYTES, Egress, PullRequest};
use dsp::HTTP_PULL;
use dsp::transfer::{AUTH_TYPE, AUTHORIZATION, HTTP_ENDPOINT};
use futures::stream;
use hyper::{HeaderMap, StatusCode, header};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Snapshot, Tx};
use tokio::sync::OwnedSemaphorePermit;

use super::identity::credential;
use super::range::Range;
use crate::caller::Caller;
use crate::data::provider::{Windows, data_error, started};
use crate::data::{FlowOf, Registered, register};
use crate::driver::{records, transfers};
use crate::error::Error;
use crate::node::Node;
use crate::peers;
use crate::telemetry::metrics;

control_plane::refusal_codes! {
    BAD_CREDENTIAL = "dsp/bad-data-credential", Identity,
        "the credential is not that of this transfer, or has expired", "憑證不屬於此傳輸或已過期", "凭证不属于此传输或已过期",
        clause "DSP 2025-1, 1.4: dataAddress", next "show the `authorization` of the newest start message; suspend and resume for a new one";
    TOO_MANY_PULLS = "limit/pulls", Limit,
        "too many pulls are under way", "進行中的拉取過多", "进行中的拉取过多",
        clause "limits.transfers_at_once", next "try again in a few seconds";
}

/// How long a credential opens the data: a day's pull of a large dataset suspends and resumes for a new one.
const CREDENTIAL_LIFE_MS: i64 = 60 * 60 * 1000;
/// Bytes of randomness in a credential.
const CREDENTIAL_BYTES: usize = 32;

/// What is kept of a credential: enough to know it again, not enough to show it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    digest: String,
    expires: String,
}

const KEPT_VERSION: u32 = 1;

fn key(pid: &str) -> String {
    format!("pull-credential {pid}")
}

/// A fresh data address of a transfer of ours as provider; an earlier credential ends.
pub fn address(
    node: &Node,
    tx: &Tx<'_>,
    process: &TransferProcess,
    now: UnixMillis,
) -> Result<DataAddress, Error> {
    let mut random = [0_u8; CREDENTIAL_BYTES];
    rand::rng().fill_bytes(&mut random);
    let credential = URL_SAFE_NO_PAD.encode(random);
    let kept = Kept {
        version: KEPT_VERSION,
        digest: TextDigest::of(credential.as_bytes()).to_string(),
        expires: now.plus_millis(CREDENTIAL_LIFE_MS).to_string(),
    };
    let bytes = serde_jcs::to_vec(&kept).map_err(Error::ours)?;
    let pid = process.pids().ours();
    tx.put(Collection::Manifests, &key(pid), &bytes, Expect::Any)?;
    let endpoint = format!("{}/data/{pid}", super::root(node)?);
    let properties = [(AUTHORIZATION, credential.as_str()), (AUTH_TYPE, "bearer")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(DataAddress::new(HTTP_ENDPOINT, &endpoint, properties)?)
}

/// The end of the credential that `shown` is; anything else is refused alike.
fn known(store: &Snapshot<'_>, pid: &str, shown: &str, now: UnixMillis) -> Result<UnixMillis, Error> {
    let refuse = || Error::from(Refusal::new(&BAD_CREDENTIAL, ""));
    let row = store.get(Collection::Manifests, &key(pid))?.ok_or_else(refuse)?;
    let kept: Kept = serde_json::from_slice(&row.value).map_err(|error| Error::damaged(&key(pid), error))?;
    let expires = UnixMillis::parse_rfc3339(&kept.expires)
        .ok_or_else(|| Error::damaged(&key(pid), "`expires` is no instant"))?;
    // Digests are compared, so that the time this takes tells nothing about the credential.
    if kept.digest != TextDigest::of(shown.as_bytes()).as_str() || expires <= now {
        return Err(refuse());
    }
    Ok(expires)
}

/// Answers a pull of one object; of a dataset of several, without a number, their manifest.
pub async fn pull(
    node: &Arc<Node>,
    pid: &str,
    index: Option<u32>,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let now = node.clock.trusted_now()?;
    let shown = credential(headers).unwrap_or_default().to_owned();
    let key = pid.to_owned();
    let expires = node.store.read(move |store| known(store, &key, &shown, now)).await?;
    let process = transfers::get(node, pid).await;
    let process = process.map_err(|_| Refusal::new(&UNKNOWN_PROCESS, format!("`{pid}`")))?;
    let peer = process.counterparty().clone();
    node.require_not_suspended(&peer)?;
    let statement = peers::latest_statement(node, &peer).await?;
    let of = FlowOf {
        transfer: Some(pid.to_owned()),
        agreement: process.agreement_id().clone(),
        peer: peer.clone(),
    };
    // On the list first: what is revoked between here and the first decision stops it too.
    let (registered, stop) = register(node, of);
    let (process, held, publication) = started(node, &peer, pid).await?;
    if process.format() != HTTP_PULL {
        return Err(Refusal::new(&BAD_CREDENTIAL, "another format").into());
    }
    let manifest = publication.manifest();
    let object = match (index, manifest.objects()) {
        (Some(index), _) => index,
        (None, [_]) => 0,
        (None, _) => return Ok(json(manifest.text().to_owned())),
    };
    let described = manifest
        .object(object)
        .ok_or_else(|| Refusal::new(&data_plane::NO_SUCH_OBJECT, object.to_string()))?;
    let size = described.size();
    let range = Range::asked(headers, size)?;
    let place = node.data.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::new(&TOO_MANY_PULLS, ""))?;
    let agreement = held.signed.agreement();
    let subject = AccessSubject {
        agreement: agreement.id().clone(),
        participant: peer.clone(),
        transfer: process
            .pids()
            .provider()
            .cloned()
            .ok_or_else(|| Error::ours("a transfer without its pid"))?,
        dataset: agreement.target().clone(),
    };
    let fields = [
        ("transfer", pid.to_owned()),
        ("agreement", agreement.id().to_string()),
        ("consumer", peer.to_string()),
        ("object", object.to_string()),
        ("from", range.first.to_string()),
        ("bytes", range.length.to_string()),
    ];
    node.store.write(move |tx| records::append_fields(tx, "transfer-http-pull", now, fields)).await?;

    let chunk = CHUNK_BYTES as u64;
    let offset = range.first / chunk * chunk;
    let port = Windows {
        node: node.clone(),
        policy: node.policies.compiled(agreement.text())?,
        peer: Caller::of_credential(peer, statement, expires),
    };
    let request = PullRequest { subject, manifest: manifest.digest(), object, offset };
    let clock: Arc<dyn data_plane::Clock> = node.clock.clone();
    let publication = Arc::new(publication);
    let egress = Egress::open(Arc::new(port), clock, &node.data.sources, publication, request, stop).await;
    let body = Sending {
        egress: egress.map_err(data_error)?,
        skip: range.first.saturating_sub(offset),
        left: range.length,
        _registered: registered,
        _place: place,
    };
    let body = Body::from_stream(stream::try_unfold(body, Sending::next));
    let mut response = Response::new(body);
    let told = response.headers_mut();
    told.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    told.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    told.insert(header::CONTENT_LENGTH, header::HeaderValue::from(range.length));
    if range.partial {
        told.insert(header::CONTENT_RANGE, range.told(size).parse().map_err(Error::ours)?);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn json(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let value = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// A body under way; dropping it ends the pull.
struct Sending {
    egress: Egress,
    skip: u64,
    left: u64,
    _registered: Registered,
    _place: OwnedSemaphorePermit,
}

impl Sending {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Refusal> {
        while self.left > 0 {
            let Some(chunk) = self.egress.next().await else { return Ok(None) };
            let mut data = chunk.map_err(|error| data_error(error).into_refusal())?.data;
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
            data = data.slice(skipped..);
            self.skip = self.skip.saturating_sub(skipped as u64);
            data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len()));
            self.left = self.left.saturating_sub(data.len() as u64);
            if !data.is_empty() {
                metrics::bytes_sent(data.len() as u64);
                return Ok(Some((data, self)));
            }
        }
        Ok(None)
    }
}
