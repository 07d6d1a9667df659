//! The data plane in this connector: what it pulls, holds and lets be used, and how all of it is stopped.

pub mod acts;
pub mod counts;
pub mod duties;
pub mod events;
mod facts;
pub mod holdings;
pub mod keys;
pub mod lease_grant;
pub mod lease_provider;
pub mod lease_renewal;
pub mod leases;
pub mod live_leases;
pub mod onward;
pub mod open_uses;
pub mod outlook;
pub mod provider;
pub mod pull;
pub mod push;
mod receipts;
pub mod sessions;
pub mod shares;
pub mod situation;
pub mod transforms;
pub mod uses;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};

use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::transfer::TransferProcess;
use control_plane::{Refusal, UnixMillis};
use data_plane::{
    HttpHost, Manifest, ObjectState, SealedStore, SourceSettings, Sources, StopHandle, StopSignal, stop_pair,
};
use store::Store;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::{Config, Host, HttpSource};
use crate::error::Error;
use crate::node::Node;
use keys::Keys;
use live_leases::Leases;

impl data_plane::Clock for Clock {
    fn now(&self) -> UnixMillis {
        Self::now(self)
    }
}

/// Where bytes come from, where sealed copies lie, and what is running.
pub struct Data {
    /// Configured places that published data is read from.
    pub sources: Sources,
    /// Sealed copies.
    pub sealed: SealedStore,
    /// The key-encryption key.
    pub keys: Keys,
    /// Key leases that we hold.
    pub leases: Leases,
    /// Places for what is pulled from others.
    pub pulls: Arc<Semaphore>,
    /// Places for what others pull here: apart, so that two connectors never wait for each other.
    pub streams: Arc<Semaphore>,
    /// Places for use sessions.
    pub session_places: Arc<Semaphore>,
    /// How many there are.
    session_limit: u32,
    /// Use sessions that stay open.
    pub sessions: sessions::Sessions,
    /// Every open use session, these and those of one read.
    pub open_uses: open_uses::OpenUses,
    /// Told when what was passed on may have to follow its source.
    pub onward: tokio::sync::Notify,
    running: Mutex<Running>,
    workers: Mutex<BTreeSet<String>>,
}

/// Streams and sessions that can be stopped from outside.
#[derive(Default)]
struct Running {
    next: u64,
    flows: HashMap<u64, Flow>,
}

/// What a running stream or session belongs to.
#[derive(Clone, Debug)]
pub struct FlowOf {
    /// Our name of its transfer; `None` for a use session.
    pub transfer: Option<String>,
    /// Its agreement.
    pub agreement: AgreementId,
    /// The other party of the agreement.
    pub peer: ParticipantId,
}

struct Flow {
    of: FlowOf,
    handle: StopHandle,
}

/// Takes a flow off the list when it ends.
pub struct Registered {
    node: Arc<Node>,
    number: u64,
}

impl Registered {
    /// Stops what it stands for, and nothing else.
    pub fn stop(&self, reason: &Refusal) {
        if let Some(flow) = self.node.data.running().flows.get(&self.number) {
            flow.handle.stop(reason.clone());
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.node.data.running().flows.remove(&self.number);
    }
}

impl Data {
    /// Opens sources, sealed copies and keys; finishes a deletion that a crash interrupted.
    pub async fn open(config: &Config, store: &Store) -> Result<Self, Error> {
        let sources = Sources::open(&source_settings(config)?, &config.data).map_err(Error::ours)?;
        let sealed = SealedStore::open(&config.data.join("sealed")).map_err(Error::ours)?;
        let keys = Keys::open(&config.data.join("keys"), store).await?;
        let records = store.read(holdings::all_objects).await?;
        let swept = sealed.sweep(&records).map_err(Error::ours)?;
        if swept > 0 {
            tracing::info!(files = swept, "removed sealed files that are nobody's or were destroyed");
        }
        Ok(Self {
            sources,
            sealed,
            keys,
            leases: Leases::default(),
            pulls: Arc::new(Semaphore::new(config.limits.transfers_at_once as usize)),
            streams: Arc::new(Semaphore::new(config.limits.transfers_at_once as usize)),
            session_places: Arc::new(Semaphore::new(config.limits.use_sessions as usize)),
            session_limit: config.limits.use_sessions,
            sessions: sessions::Sessions::default(),
            open_uses: open_uses::OpenUses::default(),
            onward: tokio::sync::Notify::new(),
            running: Mutex::default(),
            workers: Mutex::default(),
        })
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the streams of a transfer.
    pub fn stop_transfer(&self, pid: &str, reason: &Refusal) {
        self.stop(reason, |of| of.transfer.as_deref() == Some(pid));
    }

    /// Stops everything that runs with a participant.
    pub fn stop_peer(&self, peer: &ParticipantId, reason: &Refusal) {
        self.leases.forget_of(peer);
        self.onward.notify_one();
        self.stop(reason, |of| of.peer == *peer);
    }

    /// Stops everything that runs under an agreement, unless it may be acted on.
    pub fn agreement_changed(&self, held: &HeldAgreement) {
        self.onward.notify_one();
        if let Err(reason) = held.status.require_active() {
            self.stop_agreement(held.signed.agreement().id(), &reason);
        }
    }

    /// Stops everything under an agreement, and drops what its key leases brought.
    pub fn stop_agreement(&self, agreement: &AgreementId, reason: &Refusal) {
        self.leases.forget(agreement);
        self.onward.notify_one();
        self.stop(reason, |of| of.agreement == *agreement);
    }

    /// The agreements under which something runs.
    pub fn agreements_running(&self) -> BTreeSet<AgreementId> {
        self.running().flows.values().map(|flow| flow.of.agreement.clone()).collect()
    }

    fn stop(&self, reason: &Refusal, which: impl Fn(&FlowOf) -> bool) {
        for flow in self.running().flows.values().filter(|flow| which(&flow.of)) {
            flow.handle.stop(reason.clone());
        }
    }

    /// Resolves when no use session is open any more, and each has left its receipt.
    pub async fn sessions_ended(&self) {
        // The last thing that a session gives back is its place; the semaphore is never closed.
        drop(self.session_places.acquire_many(self.session_limit).await);
    }

    /// Marks a transfer as worked on; `false` if somebody already does.
    fn take_work(&self, pid: &str) -> bool {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.to_owned())
    }

    fn leave_work(&self, pid: &str) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(pid);
    }
}

/// Puts a stream or session on the list of what can be stopped; do this before looking at what permits it.
pub fn register(node: &Arc<Node>, of: FlowOf) -> (Registered, StopSignal) {
    let (handle, signal) = stop_pair();
    let mut running = node.data.running();
    let number = running.next;
    running.next = number.wrapping_add(1);
    running.flows.insert(number, Flow { of, handle });
    (Registered { node: node.clone(), number }, signal)
}

fn source_settings(config: &Config) -> Result<SourceSettings, Error> {
    let mut roots_pem = String::new();
    for source in &config.sources.http {
        if let Some(file) = &source.roots {
            roots_pem.push_str(&std::fs::read_to_string(file).map_err(Error::ours)?);
        }
    }
    Ok(SourceSettings {
        roots: config.sources.roots.values().cloned().collect(),
        http: config
            .sources
            .http
            .iter()
            .map(|source| HttpHost {
                host: match &source.address.host {
                    Host::Name(name) => name.clone(),
                    Host::Ip(address) => address.to_string(),
                },
                port: source.address.port,
                // Without roots of its own a host can only be reached in the clear.
                plain: source.roots.is_none(),
                addresses: private_addresses(source),
            })
            .collect(),
        http_roots_pem: roots_pem.into_bytes(),
    })
}

/// The addresses of a host that may be private: those it has now; a name that moves needs a restart.
fn private_addresses(source: &HttpSource) -> Vec<IpAddr> {
    if !source.private_addresses {
        return Vec::new();
    }
    match &source.address.host {
        Host::Ip(address) => vec![*address],
        Host::Name(name) => (name.as_str(), source.address.port)
            .to_socket_addrs()
            .map(|found| found.map(|address| address.ip()).collect())
            .unwrap_or_default(),
    }
}

/// How far a transfer has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Plaintext bytes that are held durably.
    pub bytes_done: u64,
    /// Plaintext bytes in all; 0 while the manifest is not known.
    pub bytes_total: u64,
    /// Objects held whole.
    pub objects_done: u32,
    /// Objects in all.
    pub objects_total: u32,
    /// The manifest's digest.
    pub manifest_digest: String,
}

/// How far a transfer has come, on whichever side.
pub async fn progress(node: &Arc<Node>, process: &TransferProcess) -> Result<Progress, Error> {
    let (role, pid) = (process.role(), process.pids().ours().to_owned());
    let (agreement, pushed) = (process.agreement_id().clone(), process.destination().is_some());
    let manifest = node
        .store
        .read(move |store| match role {
            Role::Provider => {
                let taken = if pushed { push::taken(store, &pid)? } else { Vec::new() };
                let manifest = provider::pinned(store, &pid)?.map(|p| p.manifest().clone());
                Ok::<_, Error>((manifest, Vec::new(), taken))
            }
            Role::Consumer => {
                let objects = holdings::objects(store, &agreement)?;
                Ok((holdings::manifest(store, &agreement)?, objects, Vec::new()))
            }
        })
        .await?;
    let (Some(manifest), objects, taken) = manifest else { return Ok(Progress::default()) };
    let mut progress = totals(&manifest);
    for object in &objects {
        progress.bytes_done = progress.bytes_done.saturating_add(object.durable());
        if object.state() == ObjectState::Complete {
            progress.objects_done = progress.objects_done.saturating_add(1);
        }
    }
    for described in taken.into_iter().filter_map(|index| manifest.object(index)) {
        progress.bytes_done = progress.bytes_done.saturating_add(described.size());
        progress.objects_done = progress.objects_done.saturating_add(1);
    }
    if role == Role::Provider && process.state_name() == control_plane::transfer::StateName::Completed {
        progress.bytes_done = progress.bytes_total;
        progress.objects_done = progress.objects_total;
    }
    Ok(progress)
}

fn totals(manifest: &Manifest) -> Progress {
    Progress {
        bytes_total: manifest.total_bytes(),
        objects_total: u32::try_from(manifest.objects().len()).unwrap_or(u32::MAX),
        manifest_digest: manifest.digest().to_string(),
        ..Progress::default()
    }
}
