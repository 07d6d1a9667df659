//! Use sessions: no byte without a durable grant, none after it ended, and exact receipts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::BoxFuture;

use super::*;
use crate::egress::tests::TestClock;
use crate::ingress::tests::Pull;
use crate::stop::{StopHandle, stop_pair};

policy::refusal_codes! {
    SPENT = "test/spent", Policy, "spent", "已用盡", "已用尽", clause "test", next "none";
}

#[derive(Default)]
pub(crate) struct Port {
    opens_left: usize,
    rechecks_left: usize,
    valid_until: Option<UnixMillis>,
    rechecked: Vec<u64>,
    pub(crate) receipts: Vec<UseReceipt>,
}

pub(crate) struct Shared(pub(crate) Mutex<Port>);

impl UsePort for Shared {
    fn open(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>> {
        let mut port = self.0.lock().unwrap();
        let answer = match port.opens_left.checked_sub(1) {
            None => Err(Refusal::new(&SPENT, "")),
            Some(rest) => {
                port.opens_left = rest;
                Ok(question.permit(port.valid_until))
            }
        };
        Box::pin(std::future::ready(answer))
    }

    fn recheck(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>> {
        let mut port = self.0.lock().unwrap();
        port.rechecked.push(question.bytes_released());
        let answer = match port.rechecks_left.checked_sub(1) {
            None => Err(Refusal::new(&SPENT, "")),
            Some(rest) => {
                port.rechecks_left = rest;
                Ok(question.permit(port.valid_until))
            }
        };
        Box::pin(std::future::ready(answer))
    }

    fn closed(&self, receipt: UseReceipt) -> BoxFuture<'_, Result<(), Refusal>> {
        self.0.lock().unwrap().receipts.push(receipt);
        Box::pin(std::future::ready(Ok(())))
    }
}

pub(crate) struct Case {
    pub(crate) pull: Pull,
    pub(crate) port: Arc<Shared>,
    clock: Arc<TestClock>,
}

const MIB: usize = CHUNK_BYTES;

impl Case {
    pub(crate) async fn new(size: usize, opens: usize, rechecks: usize) -> Self {
        let pull = Pull::new(size);
        pull.pull().await;
        let port = Port { opens_left: opens, rechecks_left: rechecks, ..Port::default() };
        let clock = Arc::new(TestClock(AtomicI64::new(1_000)));
        Self { pull, port: Arc::new(Shared(Mutex::new(port))), clock }
    }

    pub(crate) async fn open(&self) -> Result<(UseSession, StopHandle), Refusal> {
        let (handle, stop) = stop_pair();
        let request = UseRequest {
            agreement: self.pull.plan.agreement.clone(),
            dataset: self.pull.plan.manifest.dataset().clone(),
            actor: "researcher".into(),
            action: "http://www.w3.org/ns/odrl/2/read".into(),
            purpose: None,
            recipient: None,
            application: None,
        };
        let port: Arc<dyn UsePort> = Arc::<Shared>::clone(&self.port);
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        let session = SessionId::parse("session-1").unwrap();
        UseSession::open(port, clock, session, request, stop).await.map(|session| (session, handle))
    }

    pub(crate) async fn object(&self, session: &mut UseSession) -> Result<SessionObject, DataError> {
        session.object(&self.pull.store, &self.pull.rows.record().unwrap(), &self.pull.key).await
    }
}

fn code<T>(result: Result<T, DataError>) -> &'static policy::refusal::Code {
    result.err().unwrap().into_refusal().code
}

#[tokio::test]
async fn a_session_releases_the_bytes_and_says_so() {
    let case = Case::new(3 * MIB + 5, 1, 9).await;
    let (mut session, _handle) = case.open().await.unwrap();
    let object = case.object(&mut session).await.unwrap();
    let mut all = Vec::new();
    loop {
        let part = session.read(&object, all.len() as u64, usize::MAX).await.unwrap();
        if part.is_empty() {
            break;
        }
        all.extend_from_slice(&part);
    }
    assert!(all == case.pull.bytes);
    let receipt = session.close().await.unwrap();
    assert_eq!(receipt.bytes_released, all.len() as u64);
    assert_eq!(receipt.objects[0].bytes_released, all.len() as u64);
    assert_eq!(receipt.objects[0].digest, case.pull.plan.manifest.object(0).unwrap().digest());
    assert_eq!(receipt.end, SessionEnd::Closed);
    let port = case.port.0.lock().unwrap();
    assert_eq!(port.receipts, [receipt]);
    assert_eq!(port.rechecked, [MIB as u64, 2 * MIB as u64, 3 * MIB as u64], "one decision a window");
}

#[tokio::test]
async fn no_grant_no_session() {
    let case = Case::new(10, 0, 0).await;
    assert_eq!(case.open().await.err().unwrap().code, &SPENT);
}

#[tokio::test]
async fn small_reads_share_a_window_until_it_is_old() {
    let case = Case::new(1000, 1, 1).await;
    let (mut session, _handle) = case.open().await.unwrap();
    let object = case.object(&mut session).await.unwrap();
    for offset in [0, 100, 200] {
        let read = session.read(&object, offset, 100).await.unwrap();
        assert!(read == case.pull.bytes[offset as usize..][..100]);
    }
    assert!(case.port.0.lock().unwrap().rechecked.is_empty());
    case.clock.0.fetch_add(WINDOW_MILLIS, Ordering::SeqCst);
    session.read(&object, 300, 100).await.unwrap();
    assert_eq!(case.port.0.lock().unwrap().rechecked, [300]);
    // A clock that goes back is no younger decision.
    case.clock.0.fetch_sub(50, Ordering::SeqCst);
    assert_eq!(code(session.read(&object, 400, 100).await), &SPENT);
    assert_eq!(code(session.read(&object, 0, 1).await), &SPENT, "refused once, over");
    let receipt = session.close().await.unwrap();
    assert_eq!(receipt.bytes_released, 400);
    assert!(matches!(receipt.end, SessionEnd::Refused(reason) if reason.code == &SPENT));
}

#[tokio::test]
async fn expiry_and_revocation_end_it() {
    let case = Case::new(1000, 2, 9).await;
    case.port.0.lock().unwrap().valid_until = Some(UnixMillis(1_050));
    let (mut session, _handle) = case.open().await.unwrap();
    let object = case.object(&mut session).await.unwrap();
    session.read(&object, 0, 10).await.unwrap();
    case.clock.0.store(1_050, Ordering::SeqCst);
    assert_eq!(code(session.read(&object, 0, 10).await), &USE_EXPIRED);

    case.port.0.lock().unwrap().valid_until = None;
    let (mut session, handle) = case.open().await.unwrap();
    let object = case.object(&mut session).await.unwrap();
    session.read(&object, 0, 10).await.unwrap();
    handle.stop(Refusal::new(&SPENT, "revoked"));
    assert_eq!(code(session.read(&object, 0, 10).await), &SPENT);
    assert_eq!(code(case.object(&mut session).await), &SPENT);
}

#[tokio::test]
async fn only_whole_unaltered_objects_of_the_agreement_open() {
    let case = Case::new(2 * MIB, 9, 9).await;
    let record = case.pull.rows.record().unwrap();
    let (mut session, _handle) = case.open().await.unwrap();
    let other = AgreementKey::generate(AgreementId::parse("urn:agreement:2").unwrap()).unwrap();
    assert_eq!(code(session.object(&case.pull.store, &record, &other).await), &ALIEN_OBJECT);

    let object = case.object(&mut session).await.unwrap();
    let path = case.pull.store.path(record.file());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    session.read(&object, 0, 100).await.unwrap();
    assert_eq!(code(session.read(&object, MIB as u64, MIB).await), &crate::sealed::ALTERED);
    assert_eq!(code(session.read(&object, 0, 100).await), &crate::sealed::ALTERED, "the session is over");

    let (mut session, _handle) = case.open().await.unwrap();
    let destroyed = record.destroy(UnixMillis(5));
    let opened = session.object(&case.pull.store, &destroyed, &case.pull.key).await;
    assert_eq!(code(opened), &crate::sealed::DESTROYED);

    let partial = Pull::new(3 * MIB);
    let mut ingress = partial.open().await.unwrap();
    partial.push(&mut ingress, 2).await;
    ingress.suspend().await.unwrap();
    let (mut session, _handle) = case.open().await.unwrap();
    let opened = session.object(&partial.store, &partial.rows.record().unwrap(), &partial.key).await;
    assert_eq!(code(opened), &crate::sealed::INCOMPLETE);
}

#[tokio::test]
async fn a_decision_that_has_ended_is_followed_by_another_or_by_none() {
    let case = Case::new(1000, 1, 9).await;
    case.port.0.lock().unwrap().valid_until = Some(UnixMillis(1_050));
    let (mut session, _handle) = case.open().await.unwrap();
    let object = case.object(&mut session).await.unwrap();
    case.clock.0.store(1_050, Ordering::SeqCst);
    case.port.0.lock().unwrap().valid_until = Some(UnixMillis(2_000));
    session.renew().await.unwrap();
    assert_eq!(session.valid_until(), Some(UnixMillis(2_000)));
    session.read(&object, 0, 10).await.unwrap();

    case.clock.0.store(2_000, Ordering::SeqCst);
    case.port.0.lock().unwrap().rechecks_left = 0;
    assert_eq!(session.renew().await.unwrap_err().code, &USE_EXPIRED);
    assert_eq!(code(session.read(&object, 0, 10).await), &USE_EXPIRED);
}
