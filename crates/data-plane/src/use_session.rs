//! Consumer side: reads held objects while a use grant lasts, and says at the end what was released.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_plane::ids::{AgreementId, DatasetId};
use policy::refusal::Refusal;
use policy::time::UnixMillis;

use crate::digest::Digest;
use crate::egress::WINDOW_MILLIS;
use crate::error::DataError;
use crate::ids::{ObjectId, SessionId};
use crate::ingress::blocking;
use crate::keys::AgreementKey;
use crate::manifest::CHUNK_BYTES;
use crate::ports::{Clock, UseGrant, UsePort, UseQuestion};
use crate::sealed::{ObjectRecord, SealedReader, SealedStore};
use crate::stop::StopSignal;

policy::refusal_codes! {
    USE_EXPIRED = "use/decision-expired", Policy,
        "the permission to use has ended", "使用許可已終止", "使用许可已终止",
        clause "usage control: a grant never outlives its decision", next "look at the agreement's time limits";
    USE_MISMATCH = "use/grant-mismatch", Ours,
        "the decision is for another session or agreement", "許可決定屬於另一個會話或協議", "许可决定属于另一个会话或协议",
        clause "usage control: mediated use", next "report this to the operator: it is a fault of the connector";
    ALIEN_OBJECT = "use/object-of-another-agreement", Policy,
        "the object was not pulled under the agreement of this session", "此物件並非依本會話的協議拉取", "此对象并非依本会话的协议拉取",
        clause "usage control: mediated use", next "open a session under the object's own agreement";
}

/// What is to be done with which holdings, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseRequest {
    /// The agreement that the use rests on.
    pub agreement: AgreementId,
    /// The dataset used.
    pub dataset: DatasetId,
    /// Who uses it, as the connector knows them (a local user or program).
    pub actor: String,
    /// The action's IRI.
    pub action: String,
    /// The purpose's IRI, as declared.
    pub purpose: Option<String>,
    /// Who receives the result, as declared.
    pub recipient: Option<String>,
    /// The program that reads, as declared.
    pub application: Option<String>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The user was done.
    Closed,
    /// A decision, the time, a revocation or a damaged copy ended it.
    Refused(Refusal),
}

/// What a session released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseReceipt {
    /// The session.
    pub session: SessionId,
    /// What was asked for.
    pub request: UseRequest,
    /// Each object that was opened, in that order.
    pub objects: Vec<ObjectUse>,
    /// Plaintext bytes released in all.
    pub bytes_released: u64,
    /// When it opened.
    pub opened: UnixMillis,
    /// When it ended.
    pub closed: UnixMillis,
    /// How it ended.
    pub end: SessionEnd,
}

/// One object of a [`UseReceipt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUse {
    /// The object.
    pub object: ObjectId,
    /// Its digest.
    pub digest: Digest,
    /// Plaintext bytes released.
    pub bytes_released: u64,
}

/// An open session. A session that is dropped without [`UseSession::close`] leaves no receipt, and stays counted.
pub struct UseSession {
    port: Arc<dyn UsePort>,
    clock: Arc<dyn Clock>,
    stop: StopSignal,
    session: SessionId,
    request: UseRequest,
    opened: UnixMillis,
    decided_at: UnixMillis,
    valid_until: Option<UnixMillis>,
    /// Bytes of the window that the last decision covers.
    window: u64,
    objects: Vec<ObjectUse>,
    bytes_released: u64,
    refused: Option<Refusal>,
}

/// An object opened in one session.
pub struct SessionObject {
    session: SessionId,
    position: usize,
    size: u64,
    reader: Arc<SealedReader>,
}

impl SessionObject {
    /// Plaintext bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }
}

impl UseSession {
    /// Asks the port; the answer is a grant only when decision, count and record are durable.
    pub async fn open(
        port: Arc<dyn UsePort>,
        clock: Arc<dyn Clock>,
        session: SessionId,
        request: UseRequest,
        stop: StopSignal,
    ) -> Result<Self, Refusal> {
        stop.check()?;
        let opened = clock.now();
        let question = UseQuestion { session: session.clone(), request: request.clone(), bytes_released: 0 };
        let grant = port.open(question).await?;
        let mut opened_session = Self {
            port,
            clock,
            stop,
            session,
            request,
            opened,
            decided_at: opened,
            valid_until: None,
            window: 0,
            objects: Vec::new(),
            bytes_released: 0,
            refused: None,
        };
        // Counting may have taken long: the window runs from the durable answer, whose own end is valid_until.
        opened_session.accept(&grant, opened_session.clock.now())?;
        Ok(opened_session)
    }

    /// The session's name.
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// What was asked for.
    pub const fn request(&self) -> &UseRequest {
        &self.request
    }

    /// The instant at which the last decision ends by itself.
    pub const fn valid_until(&self) -> Option<UnixMillis> {
        self.valid_until
    }

    /// Plaintext bytes released so far.
    pub const fn bytes_released(&self) -> u64 {
        self.bytes_released
    }

    /// Opens a complete object of the session's agreement.
    pub async fn object(
        &mut self,
        store: &SealedStore,
        record: &ObjectRecord,
        key: &AgreementKey,
    ) -> Result<SessionObject, DataError> {
        self.check_or_ask().await?;
        if record.agreement() != &self.request.agreement || key.agreement() != &self.request.agreement {
            return Err(Refusal::new(&ALIEN_OBJECT, record.object().as_str()).into());
        }
        let opened = record.data_key(key);
        let (path, row) = (store.path(record.file()), record.clone());
        let reader = match opened {
            Ok(data_key) => blocking(move || SealedReader::open(&path, &row, &data_key)).await,
            Err(error) => Err(error),
        };
        let reader = reader.map_err(|error| self.end_with(error))?;
        let position = self.objects.len();
        self.objects.push(ObjectUse {
            object: record.object().clone(),
            digest: record.digest(),
            bytes_released: 0,
        });
        Ok(SessionObject {
            session: self.session.clone(),
            position,
            size: record.size(),
            reader: Arc::new(reader),
        })
    }

    /// Plaintext from `offset`, at most `limit` and 1 MiB bytes; empty at the end of the object.
    ///
    /// Decides again when 1 MiB or 100 ms passed since the last decision. After a refusal the session is over.
    pub async fn read(
        &mut self,
        object: &SessionObject,
        offset: u64,
        limit: usize,
    ) -> Result<Bytes, DataError> {
        self.check_or_ask().await?;
        if object.session != self.session {
            return Err(Refusal::new(&ALIEN_OBJECT, self.session.as_str()).into());
        }
        let reader = Arc::clone(&object.reader);
        let read = tokio::select! {
            biased;
            reason = self.stop.stopped() => Err(reason.into()),
            read = blocking(move || reader.read(offset, limit)) => read,
        };
        let data = read.map_err(|error| self.end_with(error))?;
        self.decide_for(data.len() as u64).await.map_err(|reason| self.end_with(reason.into()))?;

        let released = data.len() as u64;
        self.bytes_released = self.bytes_released.saturating_add(released);
        self.window = self.window.saturating_add(released);
        if let Some(used) = self.objects.get_mut(object.position) {
            used.bytes_released = used.bytes_released.saturating_add(released);
        }
        Ok(data)
    }

    /// Decides again without releasing anything, also when the last decision has just ended by itself. After a refusal
    /// the session is over.
    pub async fn renew(&mut self) -> Result<(), Refusal> {
        self.check_or_ask().await?;
        let asked_at = self.clock.now();
        let question = self.question();
        let granted = tokio::select! {
            biased;
            reason = self.stop.stopped() => Err(reason),
            grant = self.port.recheck(question) => grant,
        };
        let renewed = granted.and_then(|grant| self.accept(&grant, asked_at));
        renewed.inspect_err(|reason| self.refused = Some(reason.clone()))
    }

    /// Resolves with the reason when the session is stopped, or when its last decision ends by itself: for whoever
    /// waits for something else than the next bytes. The session is over then. May be dropped before it resolves.
    pub async fn over(&mut self) -> Refusal {
        loop {
            if let Err(reason) = self.check_or_ask().await {
                return reason;
            }
            let left = self.valid_until.map(|until| until.millis_since(self.clock.now()).max(1));
            let ends = async {
                match left {
                    Some(left) => tokio::time::sleep(Duration::from_millis(left.unsigned_abs())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                reason = self.stop.stopped() => {
                    self.refused = Some(reason.clone());
                    return reason;
                }
                () = ends => {}
            }
        }
    }

    /// Ends the session and records what it released.
    pub async fn close(self) -> Result<UseReceipt, Refusal> {
        let receipt = UseReceipt {
            session: self.session,
            request: self.request,
            objects: self.objects,
            bytes_released: self.bytes_released,
            opened: self.opened,
            closed: self.clock.now(),
            end: self.refused.map_or(SessionEnd::Closed, SessionEnd::Refused),
        };
        self.port.closed(receipt.clone()).await?;
        Ok(receipt)
    }

    /// The decision that covers `bytes` more: the last one, or a new one.
    async fn decide_for(&mut self, bytes: u64) -> Result<(), Refusal> {
        let asked_at = self.clock.now();
        let age = asked_at.millis_since(self.decided_at);
        if self.window.saturating_add(bytes) > CHUNK_BYTES as u64 || !(0..WINDOW_MILLIS).contains(&age) {
            let question = self.question();
            let grant = tokio::select! {
                biased;
                reason = self.stop.stopped() => return Err(reason),
                grant = self.port.recheck(question) => grant?,
            };
            self.accept(&grant, asked_at)?;
        }
        self.check_or_ask().await
    }

    fn question(&self) -> UseQuestion {
        UseQuestion {
            session: self.session.clone(),
            request: self.request.clone(),
            bytes_released: self.bytes_released,
        }
    }

    /// A decision that ended by itself may be followed by another: under a renewed lease the session goes on.
    async fn check_or_ask(&mut self) -> Result<(), Refusal> {
        if self.refused.is_none() && self.stop.check().is_ok() && self.check_time().is_err() {
            let asked_at = self.clock.now();
            // A refusal here means that the last decision has ended, and that is what is told.
            if let Ok(grant) = self.port.recheck(self.question()).await {
                drop(self.accept(&grant, asked_at));
            }
        }
        self.check()
    }

    fn accept(&mut self, grant: &UseGrant, decided_at: UnixMillis) -> Result<(), Refusal> {
        if grant.session() != &self.session || grant.agreement() != &self.request.agreement {
            return Err(Refusal::new(&USE_MISMATCH, self.session.as_str()));
        }
        self.valid_until = grant.valid_until();
        self.decided_at = decided_at;
        self.window = 0;
        self.check_time()
    }

    fn check(&mut self) -> Result<(), Refusal> {
        if let Some(reason) = &self.refused {
            return Err(reason.clone());
        }
        self.stop.check().and_then(|()| self.check_time()).inspect_err(|reason| {
            self.refused = Some(reason.clone());
        })
    }

    fn check_time(&self) -> Result<(), Refusal> {
        match self.valid_until {
            Some(until) if until <= self.clock.now() => {
                Err(Refusal::new(&USE_EXPIRED, format!("valid until {until}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn end_with(&mut self, error: DataError) -> DataError {
        let reason = error.into_refusal();
        self.refused = Some(reason.clone());
        reason.into()
    }
}

#[cfg(test)]
pub(crate) mod tests;
