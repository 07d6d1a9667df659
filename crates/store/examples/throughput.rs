//! Durable commits per second on this disk: `cargo run --release -p store --example throughput -- <folder>`.
//!
//! One transaction writes an agreement (500 B), a ledger record and a counter, as in the design's measurement.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ledger::{Record, Salt};
use store::{Collection, Expect, Options, Store, StoreError};

const SECONDS: u64 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("give a folder on the disk to measure")?;
    let mut out = std::io::stdout();
    for callers in [1, 8, 64, 512] {
        let dir = PathBuf::from(&folder).join(format!("throughput-{callers}"));
        let store = Store::open(&dir, Options::default())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
        let (rate, p50, p99) = runtime.block_on(measure(&store, callers))?;
        let stats = store.stats();
        writeln!(
            out,
            "{callers:>4} callers: {rate:>7.0} durable transactions/s, p50 {p50:.2} ms, p99 {p99:.2} ms, {:.1} per commit, {:.2} ms a commit",
            stats.writes as f64 / stats.commits as f64,
            stats.commit_micros as f64 / stats.commits as f64 / 1000.0
        )?;
        store.close()?;
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

async fn measure(store: &Store, callers: u64) -> Result<(f64, f64, f64), StoreError> {
    let began = Instant::now();
    let end = began + Duration::from_secs(SECONDS);
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let n = times.len();
                let asked = Instant::now();
                store.write(move |tx| one(tx, caller, n)).await?;
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
            Ok::<_, StoreError>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.extend(task.map_err(|_| StoreError::Closed)??);
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    Ok((times.len() as f64 / seconds, at(0.5), at(0.99)))
}

fn one(tx: &store::Tx<'_>, caller: u64, n: usize) -> Result<(), StoreError> {
    tx.put(Collection::Agreements, &format!("{caller}/{n}"), &[7; 500], Expect::Absent)?;
    let _added = tx.counter_add(&format!("{caller}"), 1, None)?;
    let record = Record::new("use-opened", 1, [("agreement", format!("{caller}/{n}"))])?;
    tx.ledger_append(&record, &Salt([3; 32]))?;
    Ok(())
}
