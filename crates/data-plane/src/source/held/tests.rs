//! Held copies on their way on: the same bytes, each under the session's decision, and a receipt however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use policy::refusal::Refusal;

use super::*;
use crate::egress::SOURCE_CHANGED;
use crate::manifest::CHUNK_BYTES;
use crate::stop::StopHandle;
use crate::use_session::SessionEnd;
use crate::use_session::tests::Case;

policy::refusal_codes! {
    REVOKED = "test/source-revoked", Policy, "revoked", "已撤銷", "已撤销", clause "test", next "none";
}

const MIB: usize = CHUNK_BYTES;
const SIZE: usize = 3 * MIB + 5;
/// More decisions than any of these reads asks for.
const ENOUGH: usize = 1_000;

struct Kept(Arc<AtomicBool>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A reader from `offset`, what stops its session, and whether what it kept was let go.
async fn reading(case: &Case, offset: usize) -> (ChunkReader, StopHandle, Arc<AtomicBool>) {
    let (mut session, stop) = case.open().await.unwrap();
    let object = case.object(&mut session).await.unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let held = HeldObject { session, object, kept: Box::new(Kept(dropped.clone())) };
    let described = case.pull.plan.manifest.object(0).unwrap();
    (read_ahead(held, described, offset as u64), stop, dropped)
}

/// The bytes, and how the session ended once it left its receipt.
async fn drain(case: &Case, reader: &mut ChunkReader, chunks: usize) -> (Vec<u8>, Option<Refusal>) {
    let mut bytes = Vec::new();
    for _ in 0..chunks {
        match reader.next().await {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error.into_refusal())),
        }
    }
    assert!(case.port.0.lock().unwrap().receipts.len() <= 1);
    (bytes, None)
}

async fn receipt(case: &Case, dropped: &AtomicBool) -> SessionEnd {
    while !dropped.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let port = case.port.0.lock().unwrap();
    assert_eq!(port.receipts.len(), 1);
    port.receipts[0].end.clone()
}

#[tokio::test]
async fn the_bytes_leave_as_they_were_pulled() {
    for offset in [0, MIB, 3 * MIB] {
        let case = Case::new(SIZE, 1, ENOUGH).await;
        let (mut reader, _stop, dropped) = reading(&case, offset).await;
        let (bytes, refused) = drain(&case, &mut reader, (SIZE - offset).div_ceil(MIB)).await;
        assert!(refused.is_none() && bytes == case.pull.bytes[offset..], "from {offset}");
        assert_eq!(receipt(&case, &dropped).await, SessionEnd::Closed);
    }
}

#[tokio::test]
async fn a_session_that_is_stopped_ends_the_reading_with_its_reason() {
    let case = Case::new(SIZE, 1, ENOUGH).await;
    let (mut reader, stop, dropped) = reading(&case, 0).await;
    let (first, refused) = drain(&case, &mut reader, 1).await;
    assert!(refused.is_none() && first == case.pull.bytes[..MIB]);
    stop.stop(Refusal::new(&REVOKED, ""));
    let (more, refused) = drain(&case, &mut reader, ENOUGH).await;
    assert_eq!(refused.unwrap().code, &REVOKED);
    assert!(more.len() <= AHEAD * MIB, "{} bytes after the stop", more.len());
    assert!(matches!(receipt(&case, &dropped).await, SessionEnd::Refused(reason) if reason.code == &REVOKED));
}

#[tokio::test]
async fn a_reader_that_goes_away_closes_the_session() {
    let case = Case::new(SIZE, 1, ENOUGH).await;
    let (reader, _stop, dropped) = reading(&case, 0).await;
    drop(reader);
    assert_eq!(receipt(&case, &dropped).await, SessionEnd::Closed);
}

#[tokio::test]
async fn other_bytes_than_the_manifest_names_do_not_leave() {
    let case = Case::new(MIB, 1, ENOUGH).await;
    let other = Case::new(2 * MIB, 1, ENOUGH).await;
    let (mut session, _stop) = case.open().await.unwrap();
    let object = case.object(&mut session).await.unwrap();
    let held = HeldObject { session, object, kept: Box::new(()) };
    let described = other.pull.plan.manifest.object(0).unwrap();
    let mut reader = read_ahead(held, described, MIB as u64);
    let (bytes, refused) = drain(&case, &mut reader, 2).await;
    assert!(bytes.is_empty());
    assert_eq!(refused.unwrap().code, &SOURCE_CHANGED);
}
