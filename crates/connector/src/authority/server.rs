//! The authority's listener: enrolment with a token, membership services with a certificate.
//!
//! A client certificate is optional in the handshake, because a newcomer has none; whoever presents one must
//! present a good one. Membership calls judge the certificate of their connection again under lists that were read
//! from the directory for this very call, so a revocation by the command line counts at once.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use control_plane::{Fault, Refusal, UnixMillis};
use identity::authority::{Lists, TOKEN_UNKNOWN};
use identity::trust::NO_CERTIFICATE;
use identity::{Authority, IdentityError, ParticipantCertificate, TlsIdentity};
use proto::authority::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use proto::authority::membership_service_server::{MembershipService, MembershipServiceServer};
use proto::authority::{
    EnrolRequest, EnrolResponse, GetListsRequest, GetListsResponse, GetStatementRequest,
    GetStatementResponse, RenewRequest,
};
use proto::status::{Audience, to_status};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};
use crate::clock::Clock;
use crate::error::Error;
use crate::run::CANNOT_LISTEN;
use crate::transport::{Connection, Connections, listener, tls_refusal};

/// A data space's members ask a few times an hour; newcomers once.
const LIMITS: listener::AcceptLimits = listener::AcceptLimits {
    connections: 1024,
    handshake: std::time::Duration::from_secs(10),
    // Who enrols has no identity yet; CONNECTION_AGE bounds the stay.
    exchange: None,
};

/// Changes of the directory by the command line reach the TLS settings within this time.
const WATCH: Duration = Duration::from_millis(500);
/// Lists and the authority's own certificate are looked at this often; they are made anew only when due.
const UPKEEP: Duration = Duration::from_secs(60);
/// Calls at once on one connection: a member asks one thing after another.
const CALLS_PER_CONNECTION: usize = 8;
/// A step waits at most for the command line's hold of the directory.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// No member needs the authority for longer at a time; a stranger's place is taken back.
const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long running calls may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The file that `identity::Authority` replaces with each change.
const BOOK: &str = "authority.json";

/// An authority that listens.
pub struct AuthorityServer {
    office: Arc<Office>,
    socket: TcpListener,
    address: SocketAddr,
}

impl AuthorityServer {
    /// Opens the directory and binds the address.
    pub async fn bind(dir: &Path, listen: SocketAddr) -> Result<Self, Error> {
        let dir = dir.to_owned();
        let office = blocking(move || Office::open(&dir)).await?;
        let cannot = |error: io::Error| Refusal::new(&CANNOT_LISTEN, format!("{listen}: {error}"));
        let socket = listener::bind(listen).await.map_err(cannot)?;
        let address = socket.local_addr().map_err(cannot)?;
        Ok(Self { office: Arc::new(office), socket, address })
    }

    /// Where it listens, as bound.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets running calls end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Self { office, socket, address } = self;
        let on_refused = Arc::new(|remote: SocketAddr, error: &io::Error| {
            let refusal = tls_refusal(error);
            let code = refusal.as_ref().map_or("identity/handshake-failed", |refusal| refusal.code.code);
            let detail = refusal.map_or_else(|| error.to_string(), |refusal| refusal.detail);
            tracing::warn!(%remote, code, detail, "refused a TLS handshake");
        });
        let connections = Arc::new(Connections::default());
        let settings = office.clone();
        let accepted = listener::accept(
            socket,
            move || settings.live.load().server.clone(),
            connections.clone(),
            LIMITS,
            on_refused,
            stop.clone(),
        );
        let desk = Desk(office.clone());
        let router = Server::builder()
            .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
            .timeout(CALL_TIMEOUT)
            .max_connection_age(CONNECTION_AGE)
            .add_service(
                EnrolmentServiceServer::new(desk.clone())
                    .max_decoding_message_size(MAX_REQUEST_BYTES)
                    .max_encoding_message_size(MAX_ANSWER_BYTES),
            )
            .add_service(
                MembershipServiceServer::new(desk)
                    .max_decoding_message_size(MAX_REQUEST_BYTES)
                    .max_encoding_message_size(MAX_ANSWER_BYTES),
            );
        tracing::info!(authority = %office.authority.id(), %address, "the authority is listening");
        let upkeep = tokio::spawn(upkeep(office, stop.clone()));
        let incoming = ReceiverStream::new(accepted);
        let serving = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let served = tokio::select! {
            served = serving => served.map_err(Error::ours),
            () = late => Ok(()),
        };
        stop.cancel();
        for connection in connections.open() {
            connection.close();
        }
        upkeep.await.map_err(Error::ours)?;
        tracing::info!("the authority has stopped");
        served
    }
}

/// The directory with what the listener made of it.
struct Office {
    authority: Authority,
    book: PathBuf,
    clock: Arc<Clock>,
    live: ArcSwap<Live>,
}

/// TLS settings and trust of one moment.
struct Live {
    identity: TlsIdentity,
    server: Arc<ServerConfig>,
}

impl Office {
    fn open(dir: &Path) -> Result<Self, Error> {
        let authority = Authority::open(dir)?;
        let clock = Arc::new(Clock::start(None));
        let live = Live::read(&authority, &clock)?;
        let book = dir.join(BOOK);
        Ok(Self { authority, book, clock, live: ArcSwap::from_pointee(live) })
    }

    /// Reads the directory again: lists that the command line changed, lists and leaf that were due.
    fn refresh(&self) -> Result<(), Error> {
        self.live.store(Arc::new(Live::read(&self.authority, &self.clock)?));
        Ok(())
    }

    /// Tells one state of the directory from another.
    fn stamp(&self) -> Option<(SystemTime, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        // The book is replaced, never written over: each change is another file.
        let metadata = std::fs::metadata(&self.book).ok()?;
        Some((metadata.modified().ok()?, metadata.ino()))
    }

    /// The member at the other end, judged under the lists of this moment, and those lists.
    fn member(
        &self,
        connection: &Connection,
        now: UnixMillis,
    ) -> Result<(ParticipantCertificate, Lists), Error> {
        if connection.chain.is_empty() {
            return Err(Refusal::new(&NO_CERTIFICATE, "").into());
        }
        let lists = self.authority.lists(now)?;
        let trust = self.live.load().identity.trust();
        let trust = trust.updated(&lists.revocation_lists, Some(&lists.minimum_sequences), now)?;
        Ok((trust.verify_chain(&connection.chain, now)?, lists))
    }
}

impl Live {
    fn read(authority: &Authority, clock: &Arc<Clock>) -> Result<Self, IdentityError> {
        let ticking = clock.clone();
        let identity = authority.tls_identity(Arc::new(move || ticking.now()), clock.now())?;
        let server = identity.enrolment_server_config()?;
        Ok(Self { identity, server })
    }
}

/// Keeps the listener's settings up with the directory.
async fn upkeep(office: Arc<Office>, stop: CancellationToken) {
    let mut watch = tokio::time::interval(WATCH);
    watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = None;
    let mut refreshed = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = watch.tick() => {}
        }
        if office.stamp() == seen && refreshed.elapsed() < UPKEEP {
            continue;
        }
        let fresh = office.clone();
        let done = blocking(move || {
            fresh.refresh()?;
            // Reading writes what was due, so the stamp is taken afterwards. A change that falls between the two
            // shows in the handshakes a minute later; calls see it at once in any case.
            Ok::<_, Error>(fresh.stamp())
        });
        match done.await {
            Ok(stamp) => seen = stamp,
            Err(error) => {
                tracing::error!(%error, "the authority's lists were not made anew; the old ones stay")
            }
        }
        refreshed = tokio::time::Instant::now();
    }
}

/// Serves the calls.
#[derive(Clone)]
struct Desk(Arc<Office>);

#[tonic::async_trait]
impl EnrolmentService for Desk {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let remote = connection(&request)?.remote;
        let EnrolRequest { secret, csr_der } = request.into_inner();
        let office = self.0.clone();
        let enrolled = blocking(move || {
            let secret = zeroize::Zeroizing::new(secret);
            Ok(office.authority.enrol(&csr_der, &secret, office.clock.now())?)
        });
        let enrolled = enrolled.await.map_err(|error| {
            let refusal = error.into_refusal();
            // Who knows the secret may learn why it does not work; who does not is a stranger.
            let stranger = refusal.code == &TOKEN_UNKNOWN;
            say_no("enrolment", remote, &refusal, if stranger { Audience::Stranger } else { Audience::Peer })
        })?;
        tracing::info!(%remote, participant = %named(&enrolled.chain), "enrolled");
        Ok(Response::new(answer(enrolled)))
    }
}

#[tonic::async_trait]
impl MembershipService for Desk {
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrolResponse>, Status> {
        let csr = request.get_ref().csr_der.clone();
        let renewed = self
            .for_member("renewal", &request, move |office, member, _, now| {
                Ok(office.authority.renew(member.der(), &csr, now)?)
            })
            .await?;
        Ok(Response::new(answer(renewed)))
    }

    async fn get_statement(
        &self,
        request: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        let statement = self
            .for_member("statement", &request, |office, member, _, now| {
                Ok(office.authority.statement(member.participant(), now)?)
            })
            .await?;
        Ok(Response::new(GetStatementResponse { statement }))
    }

    async fn get_lists(
        &self,
        request: Request<GetListsRequest>,
    ) -> Result<Response<GetListsResponse>, Status> {
        let lists = self.for_member("lists", &request, |_, _, lists, _| Ok(lists)).await?;
        Ok(Response::new(GetListsResponse {
            revocation_lists: lists.revocation_lists.into_iter().map(bytes::Bytes::from).collect(),
            minimum_sequences: lists.minimum_sequences,
        }))
    }
}

impl Desk {
    /// Does `step` for the member whose live, unrevoked certificate the connection carries.
    async fn for_member<M, T: Send + 'static>(
        &self,
        what: &'static str,
        request: &Request<M>,
        step: impl FnOnce(&Office, &ParticipantCertificate, Lists, UnixMillis) -> Result<T, Error>
        + Send
        + 'static,
    ) -> Result<T, Status> {
        let connection = connection(request)?;
        let (office, theirs) = (self.0.clone(), connection.clone());
        let done = blocking(move || {
            let now = office.clock.now();
            // Two outcomes apart: who it is, and what became of the request.
            let (member, lists) = office.member(&theirs, now)?;
            let done = step(&office, &member, lists, now);
            Ok::<_, Error>((member.participant().clone(), done))
        });
        let remote = connection.remote;
        let (member, done) = done.await.map_err(|error| {
            let refusal = error.into_refusal();
            // A failure of ours says nothing about the caller: it may ask again.
            let audience =
                if refusal.code.fault == Fault::Ours { Audience::Peer } else { Audience::Stranger };
            say_no(what, remote, &refusal, audience)
        })?;
        let done = done.map_err(|error| say_no(what, remote, &error.into_refusal(), Audience::Peer))?;
        tracing::info!(%remote, participant = %member, what, "served a member");
        Ok(done)
    }
}

fn connection<T>(request: &Request<T>) -> Result<Arc<Connection>, Status> {
    request.extensions().get::<Arc<Connection>>().cloned().ok_or_else(|| Status::internal("no connection"))
}

fn say_no(what: &'static str, remote: SocketAddr, refusal: &Refusal, audience: Audience) -> Status {
    tracing::warn!(%remote, what, code = refusal.code.code, detail = %refusal.detail, "refused");
    to_status(refusal, audience)
}

fn named(chain: &[identity::CertificateDer<'static>]) -> String {
    let leaf = chain.first().map(|leaf| ParticipantCertificate::read(leaf));
    leaf.and_then(Result::ok).map(|leaf| leaf.participant().to_string()).unwrap_or_default()
}

fn answer(enrolled: identity::authority::Enrolled) -> EnrolResponse {
    let bytes = |certificates: Vec<identity::CertificateDer<'static>>| {
        certificates.into_iter().map(|certificate| bytes::Bytes::copy_from_slice(&certificate)).collect()
    };
    EnrolResponse {
        chain: bytes(enrolled.chain),
        statement: enrolled.statement,
        roots: bytes(enrolled.roots),
    }
}

/// The directory's lock and files block; they do so on a thread for it.
async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(step).await.map_err(Error::ours)?
}
