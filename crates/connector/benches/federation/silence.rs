//! From an event to the last byte that came after it, while a reader takes all it can get.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use control_plane::UnixMillis;
use proto::admin::{ChangeAgreementRequest, ShowHoldingRequest, UseRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::figures::{Figure, ms};
use crate::reader::Place;
use crate::rounds;
use crate::space::{Admin, Space, Terms};
use crate::stream::Receiver;

/// The event comes when this much was read: the reader is at its full speed.
const AT_SPEED_BYTES: u64 = 8 << 20;
/// Nothing is read for longer than this after an event, or it had no effect.
const PATIENCE: Duration = Duration::from_secs(20);
/// A dataset is published, found, negotiated, pulled and opened within this time before its date passes.
const AHEAD_MILLIS: i64 = 4_000;

/// Figures of one way to stop: the median and the 99th percentile, or the maximum of too few.
pub fn figures([p50, p99]: [&'static str; 2], times: &[f64]) -> [Figure; 2] {
    [
        Figure::median(p50, "ms", times),
        Figure::p99(p99, "ms", times).aiming(crate::figures::Aim::AtMost(100.0)),
    ]
}

/// Opens a session on a held copy.
pub async fn open(consumer: &mut Admin, agreement: &str) -> anyhow::Result<Place> {
    let request = UseRequest {
        agreement: agreement.to_owned(),
        action: "read".to_owned(),
        purpose: "dpv:AcademicResearch".to_owned(),
        ..Default::default()
    };
    Place::of(&consumer.open_session(request).await?.into_inner())
}

/// The provider revokes while a program reads in a session at the consumer. From the operator's call, so that the
/// provider's commit, the message to the consumer and the consumer's commit are in it.
pub async fn of_sessions(space: &Space, dataset: &str, samples: usize) -> anyhow::Result<Vec<f64>> {
    let mut consumer = space.consumer.admin().await?;
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        let (_, agreement) = rounds::negotiate(&mut consumer, dataset).await?;
        rounds::pull(&mut consumer, &agreement).await?;
        let place = open(&mut consumer, &agreement).await?;
        let (progress, mut read) = watch::channel(0);
        let reader = tokio::spawn(async move { place.read_until_silent(progress).await });
        read.wait_for(|bytes| *bytes >= AT_SPEED_BYTES).await.context("the session is read")?;
        let event = revoke(space, agreement.clone()).await?;
        times.push(silent_after(event, reader.await??)?);
        consumer.delete_holding(ShowHoldingRequest { agreement, ..Default::default() }).await?;
    }
    Ok(times)
}

/// The provider revokes while it streams to a consumer. From the operator's call, as above.
pub async fn of_streams(space: &Space, agreements: Vec<String>) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(agreements.len());
    for agreement in agreements {
        let mut receiver = Receiver::open(space, &agreement).await?;
        let (progress, mut read) = watch::channel(0);
        let reader = tokio::spawn(async move { receiver.read_until_silent(progress).await });
        read.wait_for(|bytes| *bytes >= AT_SPEED_BYTES).await.context("the stream is read")?;
        let event = revoke(space, agreement).await?;
        times.push(silent_after(event, reader.await??)?);
    }
    Ok(times)
}

/// The date of an offer passes while programs read in `at_once` sessions. From the date itself, by the clock that both
/// the reader and the connector have.
pub async fn of_dates(space: &Space, file: &str, dates: usize, at_once: usize) -> anyhow::Result<Vec<f64>> {
    let mut consumer = space.consumer.admin().await?;
    let mut times = Vec::with_capacity(dates * at_once);
    for date in 0..dates {
        let (now, clock) = (wall()?, Instant::now());
        let until = now.plus_millis(AHEAD_MILLIS);
        let event = clock + Duration::from_millis(AHEAD_MILLIS.unsigned_abs());
        let terms = Terms { until: Some(until), ..Terms::default() };
        let dataset = space.publish(&format!("dated-{date}"), file, &terms).await?;
        let mut agreements = Vec::new();
        for _ in 0..at_once {
            let (_, agreement) = rounds::negotiate(&mut consumer, &dataset).await?;
            rounds::pull(&mut consumer, &agreement).await?;
            agreements.push(agreement);
        }
        let mut readers = JoinSet::new();
        for agreement in &agreements {
            let place = open(&mut consumer, agreement).await?;
            let (progress, _) = watch::channel(0);
            readers.spawn(async move { place.read_until_silent(progress).await });
        }
        ensure!(Instant::now() < event, "the date passed before the sessions were open");
        while let Some(reader) = readers.join_next().await {
            times.push(silent_after(event, reader??)?);
        }
        for agreement in agreements {
            consumer.delete_holding(ShowHoldingRequest { agreement, ..Default::default() }).await?;
        }
    }
    Ok(times)
}

/// Has the provider revoke; gives when it was asked to.
async fn revoke(space: &Space, id: String) -> anyhow::Result<Instant> {
    let mut provider = space.provider.admin().await?;
    let request = ChangeAgreementRequest { id, reason: "measured".to_owned() };
    let asked = Instant::now();
    provider.revoke_agreement(request).await?;
    Ok(asked)
}

/// Milliseconds from the event to the last byte; none where that came before.
fn silent_after(event: Instant, last: Instant) -> anyhow::Result<f64> {
    let silence = last.saturating_duration_since(event);
    ensure!(silence < PATIENCE, "bytes came {silence:?} after the event");
    Ok(ms(silence))
}

fn wall() -> anyhow::Result<UnixMillis> {
    Ok(UnixMillis(i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?))
}
