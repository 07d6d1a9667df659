//! What is measured many times: commits, negotiations, small pulls, uses; the load comes through the administration.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use proto::admin::use_response::Step;
use proto::admin::{NegotiateRequest, ShowTransferRequest, StartTransferRequest, UseRequest};
use store::{Collection, Expect, Options, Store, StoreError};
use tokio::task::JoinSet;

use crate::figures::ms;
use crate::space::Admin;

/// The end of a negotiation or pull is awaited this long.
const WAIT_SECONDS: u32 = 30;
/// What a negotiation writes in one transaction comes to about this.
const COMMITTED_BYTES: usize = 2_048;

/// Milliseconds of durable commits on this disk, one after the other, in a store of their own.
pub async fn commits(folder: &Path, rounds: usize) -> anyhow::Result<Vec<f64>> {
    let store = Store::open(folder, Options::default())?;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let began = Instant::now();
        store
            .write(move |tx| {
                tx.put(Collection::Negotiations, &round.to_string(), &[7; COMMITTED_BYTES], Expect::Absent)?;
                Ok::<_, StoreError>(())
            })
            .await?;
        times.push(ms(began.elapsed()));
    }
    tokio::task::spawn_blocking(move || store.close()).await??;
    std::fs::remove_dir_all(folder)?;
    Ok(times)
}

/// One negotiation to its end; gives the time and the agreement.
///
/// The end is seen at the consumer, in its store and over its socket, after both signatures are durable at both sides.
pub async fn negotiate(admin: &mut Admin, dataset: &str) -> anyhow::Result<(Duration, String)> {
    let request =
        NegotiateRequest { dataset: dataset.to_owned(), wait_seconds: WAIT_SECONDS, ..Default::default() };
    let began = Instant::now();
    let negotiation = admin.negotiate(request).await?.into_inner();
    let took = began.elapsed();
    ensure!(
        negotiation.state == "FINALIZED",
        "{}: {} {}",
        negotiation.state,
        negotiation.code,
        negotiation.reason
    );
    Ok((took, negotiation.agreement))
}

/// `total` negotiations by `callers` at once; gives how many a second, and the agreements.
pub async fn negotiate_at_once(
    admin: &Admin,
    dataset: &str,
    callers: usize,
    total: usize,
) -> anyhow::Result<(f64, Vec<String>)> {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for caller in 0..callers {
        let (mut admin, dataset) = (admin.clone(), dataset.to_owned());
        tasks.spawn(async move {
            let mut agreements = Vec::new();
            for _ in (caller..total).step_by(callers) {
                agreements.push(negotiate(&mut admin, &dataset).await?.1);
            }
            anyhow::Ok(agreements)
        });
    }
    let mut agreements = Vec::with_capacity(total);
    while let Some(task) = tasks.join_next().await {
        agreements.extend(task??);
    }
    Ok((total as f64 / began.elapsed().as_secs_f64(), agreements))
}

/// What a pull took.
pub struct Pulled {
    /// Until the consumer showed that it holds bytes.
    pub first: Duration,
    /// Until both sides had recorded the end at the consumer.
    pub whole: Duration,
}

/// Pulls the dataset of an agreement to the end.
pub async fn pull(admin: &mut Admin, agreement: &str) -> anyhow::Result<Pulled> {
    let began = Instant::now();
    let request = StartTransferRequest { agreement: agreement.to_owned(), ..Default::default() };
    let id = admin.start_transfer(request).await?.into_inner().id;
    let mut changes = admin.watch_transfer(ShowTransferRequest { id }).await?.into_inner();
    let mut first = None;
    loop {
        let transfer = changes.message().await?.context("a transfer is watched until it ends")?;
        let held = transfer.bytes_done;
        if held > 0 {
            first.get_or_insert_with(|| began.elapsed());
        }
        match transfer.state.as_str() {
            "COMPLETED" => {
                let whole = began.elapsed();
                ensure!(held == transfer.bytes_total, "{held} of {} bytes", transfer.bytes_total);
                return Ok(Pulled { first: first.unwrap_or(whole), whole });
            }
            "TERMINATED" => bail!("the transfer ended: {} {}", transfer.code, transfer.reason),
            _ => {}
        }
    }
}

/// Pulls under each agreement, `callers` at once; gives how many a second.
pub async fn pull_at_once(admin: &Admin, agreements: &[String], callers: usize) -> anyhow::Result<f64> {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for caller in 0..callers {
        let mut admin = admin.clone();
        let mine: Vec<String> = agreements.iter().skip(caller).step_by(callers).cloned().collect();
        tasks.spawn(async move {
            for agreement in &mine {
                pull(&mut admin, agreement).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(agreements.len() as f64 / began.elapsed().as_secs_f64())
}

/// From asking for a use session to the first byte of its data; the session is read to its receipt.
pub async fn use_first_byte(admin: &mut Admin, agreement: &str) -> anyhow::Result<Duration> {
    let request = UseRequest {
        agreement: agreement.to_owned(),
        action: "read".to_owned(),
        purpose: "dpv:AcademicResearch".to_owned(),
        ..Default::default()
    };
    let began = Instant::now();
    let mut steps = admin.r#use(request).await?.into_inner();
    let mut first = None;
    while let Some(answer) = steps.message().await? {
        match answer.step {
            Some(Step::Data(bytes)) if !bytes.is_empty() => {
                first.get_or_insert_with(|| began.elapsed());
            }
            Some(Step::Receipt(receipt)) => {
                ensure!(receipt.end.is_empty(), "the session ended with {}", receipt.end);
                return first.context("a use session without a byte");
            }
            Some(Step::Data(_) | Step::Grant(_)) | None => {}
        }
    }
    bail!("a use session without a receipt")
}
