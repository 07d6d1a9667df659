//! One session that stays open, and the watch that ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use control_plane::digest::Digest;
use control_plane::ids::printable;
use control_plane::{Refusal, UnixMillis};
use data_plane::{ObjectRecord, SessionObject, StopSignal, USE_EXPIRED, UseReceipt, UseRequest, UseSession};
use rand::RngCore as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::granted::{Granted, NO_SUCH_OBJECT, ObjectKeys};
use super::{CLOSED, Ended, IDLE, OVER, STOPPED, TOO_MANY_OBJECTS, held};
use crate::data::Registered;
use crate::data::provider::data_error;
use crate::error::Error;
use crate::node::Node;

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;
/// Objects that one session has opened; each is a file handle.
const MAX_OBJECTS: usize = 256;
/// Readers of one session at once: parallel ranges of a few programs.
const MAX_READERS: usize = 16;
/// A decision that ends by itself is asked for again this long before: a new fact may carry it on.
const RECHECK_AHEAD: Duration = Duration::from_secs(1);
/// The longest sleep of a watch.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What shows that somebody opened a session; only its digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Digest);

impl Token {
    /// A fresh secret and what is kept of it.
    fn fresh() -> (String, Self) {
        let mut random = [0_u8; TOKEN_BYTES];
        rand::rng().fill_bytes(&mut random);
        let secret = URL_SAFE_NO_PAD.encode(random);
        let kept = Self(Digest::of(secret.as_bytes()));
        (secret, kept)
    }

    /// Whether `shown` is the secret. Digests are compared, so that the time this takes tells nothing about it.
    pub fn is(&self, shown: &str) -> bool {
        self.0 == Digest::of(shown.as_bytes())
    }
}

/// A session that was just opened, with the secret that reads it.
pub struct Opened {
    /// The session.
    pub session: Arc<Session>,
    /// Its token; told once.
    pub token: String,
}

/// An open session.
pub struct Session {
    id: String,
    request: UseRequest,
    token: Token,
    opened: UnixMillis,
    uses_left: Option<u64>,
    objects: Vec<ObjectRecord>,
    keys: ObjectKeys,
    work: tokio::sync::Mutex<Work>,
    times: Mutex<Times>,
    changed: Notify,
    stop: StopSignal,
    registered: Registered,
    readers: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

struct Work {
    /// Gone once it was closed.
    session: Option<UseSession>,
    opened: BTreeMap<String, Arc<SessionObject>>,
}

#[derive(Clone, Copy)]
struct Times {
    /// When it ends for want of a reader.
    idle: Instant,
    /// When it ends for want of a renewal.
    life: Instant,
    /// When its decision ends by itself.
    valid_until: Option<UnixMillis>,
    bytes: u64,
}

impl Session {
    /// Keeps a granted use open.
    pub fn start(node: &Arc<Node>, granted: Granted) -> Opened {
        let (secret, token) = Token::fresh();
        let Granted { session, objects, keys, uses_left, stop, registered, place } = granted;
        let limits = node.config.load().limits;
        let now = Instant::now();
        let opened = Arc::new(Self {
            id: session.session().to_string(),
            request: session.request().clone(),
            token,
            opened: node.now(),
            uses_left,
            objects,
            keys,
            times: Mutex::new(Times {
                idle: now + limits.use_session_idle,
                life: now + limits.use_session_life,
                valid_until: session.valid_until(),
                bytes: 0,
            }),
            work: tokio::sync::Mutex::new(Work { session: Some(session), opened: BTreeMap::new() }),
            changed: Notify::new(),
            stop,
            registered,
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            _place: place,
        });
        node.data.sessions.insert(opened.clone());
        tokio::spawn(watch(node.clone(), opened.clone()));
        Opened { session: opened, token: secret }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is for, and for whom.
    pub const fn request(&self) -> &UseRequest {
        &self.request
    }

    /// When it was opened.
    pub const fn opened(&self) -> UnixMillis {
        self.opened
    }

    /// What may be read.
    pub fn objects(&self) -> &[ObjectRecord] {
        &self.objects
    }

    /// Uses left after this one, where they are counted.
    pub const fn uses_left(&self) -> Option<u64> {
        self.uses_left
    }

    /// When its decision ends by itself, as far as is known.
    pub fn valid_until(&self) -> Option<UnixMillis> {
        held(&self.times).valid_until
    }

    /// Plaintext bytes released so far.
    pub fn bytes(&self) -> u64 {
        held(&self.times).bytes
    }

    /// How long it lasts without a renewal.
    pub fn life_left(&self) -> Duration {
        held(&self.times).life.saturating_duration_since(Instant::now())
    }

    /// Hears when it is stopped.
    pub fn stop_signal(&self) -> StopSignal {
        self.stop.clone()
    }

    /// Whether `shown` opens it.
    pub fn is_opened_by(&self, shown: &str) -> bool {
        self.token.is(shown)
    }

    /// A place for one more reader; `None` while there are too many.
    pub fn reader(&self) -> Option<OwnedSemaphorePermit> {
        self.readers.clone().try_acquire_owned().ok()
    }

    /// Whether somebody reads from it now.
    fn is_read(&self) -> bool {
        self.readers.available_permits() < MAX_READERS
    }

    /// Plaintext of an object from `offset`, at most `limit` and 1 MiB bytes.
    pub async fn read(&self, node: &Node, name: &str, offset: u64, limit: usize) -> Result<Bytes, Refusal> {
        let mut work = self.work.lock().await;
        let read = match self.opened_in(node, &mut work, name).await {
            Ok(object) => self.read_in(node, &mut work, &object, offset, limit).await,
            Err(refusal) => Err(refusal),
        };
        let valid_until = work.session.as_ref().and_then(UseSession::valid_until);
        drop(work);
        match &read {
            Ok(bytes) => {
                let mut times = held(&self.times);
                times.idle = Instant::now() + node.config.load().limits.use_session_idle;
                times.valid_until = valid_until;
                times.bytes = times.bytes.saturating_add(bytes.len() as u64);
            }
            Err(refusal) => self.end_unless_about_request(refusal),
        }
        read
    }

    /// Opens an object ahead of its first read: where objects are counted, it is counted, or refused.
    pub async fn open_object(&self, node: &Node, name: &str) -> Result<(), Refusal> {
        let mut work = self.work.lock().await;
        let opened = self.opened_in(node, &mut work, name).await;
        drop(work);
        opened.map(drop).inspect_err(|refusal| self.end_unless_about_request(refusal))
    }

    /// What a read was refused for ends the session, unless it is about the request alone: another object may not be
    /// known or not be paid for while those that are open go on.
    fn end_unless_about_request(&self, refusal: &Refusal) {
        if ![&NO_SUCH_OBJECT, &TOO_MANY_OBJECTS, &policy::COUNT_SPENT].contains(&refusal.code) {
            self.registered.stop(refusal);
        }
    }

    async fn opened_in(
        &self,
        node: &Node,
        work: &mut Work,
        name: &str,
    ) -> Result<Arc<SessionObject>, Refusal> {
        let session = work.session.as_mut().ok_or_else(|| self.why_over(node))?;
        match work.opened.get(name) {
            Some(object) => Ok(object.clone()),
            None => {
                let record = self.objects.iter().find(|object| object.name() == name);
                let record =
                    record.ok_or_else(|| Refusal::new(&NO_SUCH_OBJECT, format!("`{}`", printable(name))))?;
                if work.opened.len() >= MAX_OBJECTS {
                    return Err(Refusal::new(&TOO_MANY_OBJECTS, MAX_OBJECTS.to_string()));
                }
                let object = self.keys.open(node, session, record).await;
                let object = Arc::new(object.map_err(Error::into_refusal)?);
                work.opened.insert(name.to_owned(), object.clone());
                Ok(object)
            }
        }
    }

    async fn read_in(
        &self,
        node: &Node,
        work: &mut Work,
        object: &SessionObject,
        offset: u64,
        limit: usize,
    ) -> Result<Bytes, Refusal> {
        let session = work.session.as_mut().ok_or_else(|| self.why_over(node))?;
        session.read(object, offset, limit).await.map_err(|error| data_error(error).into_refusal())
    }

    fn why_over(&self, node: &Node) -> Refusal {
        let ended = node.data.sessions.ended(&self.id);
        ended.map_or_else(|| Refusal::new(&CLOSED, self.id.as_str()), |ended| ended.reason)
    }

    /// Decides again and gives the session another life; counts nothing.
    pub async fn renew(&self, node: &Node) -> Result<(), Refusal> {
        self.decide_again(node).await?;
        let limits = node.config.load().limits;
        let now = Instant::now();
        let mut times = held(&self.times);
        (times.idle, times.life) = (now + limits.use_session_idle, now + limits.use_session_life);
        drop(times);
        self.changed.notify_one();
        Ok(())
    }

    /// Refuses what was stopped, or whose decision has ended by itself.
    pub fn require_permitted(&self, node: &Node) -> Result<(), Refusal> {
        self.stop.check()?;
        match self.valid_until() {
            Some(until) if until <= node.now() => {
                Err(Refusal::new(&USE_EXPIRED, format!("valid until {until}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Decides again, and neither counts nor releases anything: what was read a while ago is handed out only after it.
    pub async fn decide_again(&self, node: &Node) -> Result<(), Refusal> {
        let mut work = self.work.lock().await;
        let session = work.session.as_mut().ok_or_else(|| self.why_over(node))?;
        let renewed = session.renew().await;
        let valid_until = session.valid_until();
        drop(work);
        match renewed {
            Ok(()) => {
                held(&self.times).valid_until = valid_until;
                Ok(())
            }
            Err(refusal) => {
                self.registered.stop(&refusal);
                Err(refusal)
            }
        }
    }

    /// Ends it by its user's wish; gives the receipt.
    pub async fn close(&self, node: &Node) -> Result<UseReceipt, Refusal> {
        let session = self.work.lock().await.session.take().ok_or_else(|| self.why_over(node))?;
        // Whatever still reads hears it.
        self.registered.stop(&Refusal::new(&CLOSED, self.id.as_str()));
        let receipt = session.close().await;
        self.forget(node, Refusal::new(&CLOSED, self.id.as_str()));
        receipt
    }

    /// Ends it for `reason`, which its receipt names.
    async fn end(&self, node: &Node, reason: Refusal) {
        self.registered.stop(&reason);
        let Some(mut session) = self.work.lock().await.session.take() else { return };
        // It hears the reason that came first.
        let reason = session.over().await;
        if let Err(refusal) = session.close().await {
            tracing::error!(session = %self.id, %refusal, "a session ended without its receipt");
        }
        tracing::info!(session = %self.id, code = reason.code.code, "use session ended");
        self.forget(node, reason);
    }

    fn forget(&self, node: &Node, reason: Refusal) {
        node.data.sessions.remove(Ended {
            id: self.id.clone(),
            actor: self.request.actor.clone(),
            reason,
            token: self.token.clone(),
        });
    }

    /// When the watch looks again, and what is over then if nothing changed.
    fn due(&self, now: UnixMillis) -> (Instant, Due) {
        let times = *held(&self.times);
        let (mut due, mut what) = (times.idle, Due::Idle);
        if times.life < due {
            (due, what) = (times.life, Due::Life);
        }
        if let Some(until) = times.valid_until {
            let left = Duration::from_millis(u64::try_from(until.millis_since(now)).unwrap_or(0));
            let (wait, then) = match left.checked_sub(RECHECK_AHEAD) {
                Some(ahead) => (ahead, Due::Recheck),
                None => (left, Due::Expired),
            };
            if Instant::now() + wait < due {
                (due, what) = (Instant::now() + wait, then);
            }
        }
        (due, what)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Idle,
    Life,
    Recheck,
    Expired,
}

/// Ends the session when it is stopped, idle, over, or no longer permitted.
async fn watch(node: Arc<Node>, session: Arc<Session>) {
    let mut stop = session.stop_signal();
    loop {
        let (due, what) = session.due(node.now());
        let far = due.saturating_duration_since(Instant::now()) > LONGEST_SLEEP;
        let reason = tokio::select! {
            biased;
            reason = stop.stopped() => Some(reason),
            () = node.stop.cancelled() => Some(Refusal::new(&STOPPED, "")),
            () = session.changed.notified() => None,
            () = tokio::time::sleep(LONGEST_SLEEP), if far => None,
            () = tokio::time::sleep_until(due), if !far => over(&node, &session, what).await,
        };
        if let Some(reason) = reason {
            return session.end(&node, reason).await;
        }
    }
}

/// What is due, if a reader or a renewal did not move it meanwhile.
async fn over(node: &Node, session: &Session, what: Due) -> Option<Refusal> {
    let (due, still) = session.due(node.now());
    if still != what || due > Instant::now() {
        return None;
    }
    match what {
        Due::Idle => Some(Refusal::new(&IDLE, "")),
        Due::Life => Some(Refusal::new(&OVER, "")),
        // Whoever reads at that moment asks again: where days are counted, another one is paid for.
        Due::Expired if session.is_read() => session.decide_again(node).await.err(),
        Due::Expired => Some(Refusal::new(&USE_EXPIRED, "")),
        Due::Recheck => session.decide_again(node).await.err(),
    }
}
