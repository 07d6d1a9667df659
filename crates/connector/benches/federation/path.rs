//! The whole path: negotiation, pull, stream and use, one after the other and many at once.

use std::path::Path;
use std::time::Duration;

use crate::figures::{Aim, Figure, Pairs, ms};
use crate::files::{settle, write_file};
use crate::space::{Space, Terms};
use crate::{raw, rounds, stream};

/// How often each thing is done.
struct Rounds {
    commits: usize,
    warm_up: usize,
    negotiations: usize,
    /// Batches of negotiations, and of pulls: each gives one rate.
    batches: usize,
    negotiations_in_batch: usize,
    pulls: usize,
    pulls_in_batch: usize,
    uses: usize,
    pairs: usize,
    starts: usize,
    large_bytes: u64,
}

const FULL: Rounds = Rounds {
    commits: 1_000,
    warm_up: 50,
    negotiations: 1_000,
    batches: 7,
    negotiations_in_batch: 640,
    pulls: 200,
    pulls_in_batch: 160,
    uses: 400,
    pairs: 7,
    starts: 15,
    large_bytes: 1 << 30,
};
const SHORT: Rounds = Rounds {
    commits: 50,
    warm_up: 5,
    negotiations: 20,
    batches: 2,
    negotiations_in_batch: 128,
    pulls: 10,
    pulls_in_batch: 32,
    uses: 10,
    pairs: 2,
    starts: 2,
    large_bytes: 64 << 20,
};

/// Negotiations at once, as the figure says.
const NEGOTIATING_AT_ONCE: usize = 64;
/// Pulls at once, as the figure says.
const PULLING_AT_ONCE: usize = 16;
/// Fewer rounds have no 99th percentile.
const ENOUGH_FOR_P99: usize = 1_000;
/// A started connector has done what it does at its start, and its memory is at rest.
const REST: Duration = Duration::from_secs(3);
const SMALL_BYTES: u64 = 1_024;

/// All figures of the path; state and data lie in `dir`.
pub async fn measure(program: &Path, dir: &Path, short: bool) -> anyhow::Result<Vec<Figure>> {
    let rounds = if short { &SHORT } else { &FULL };
    let mut space = Space::start(program, dir).await?;
    tokio::time::sleep(REST).await;
    let idle = [space.provider.memory_mib("VmRSS")?, space.consumer.memory_mib("VmRSS")?];
    let mut figures = vec![Figure::maximum("idle_rss_mib", "MiB", &idle).aiming(Aim::AtMost(60.0))];

    let shared = space.provider.sources();
    write_file(&shared.join("small.bin"), SMALL_BYTES)?;
    write_file(&shared.join("large.bin"), rounds.large_bytes)?;
    let small = space.publish("small", "small.bin", &Terms::default()).await?;
    let large = space.publish("large", "large.bin", &Terms::default()).await?;

    let agreements = control(&space, dir, &small, rounds, &mut figures).await?;
    small_data(&space, agreements, rounds, &mut figures).await?;
    let sender =
        raw::Sender::start(&space.provider.data(), &space.consumer.data(), &shared.join("large.bin")).await?;
    let agreement = to_disk(&space, dir, &large, &sender, rounds, &mut figures).await?;

    let loaded = [space.provider.memory_mib("VmHWM")?, space.consumer.memory_mib("VmHWM")?];
    figures.push(Figure::maximum("loaded_rss_mib", "MiB", &loaded));

    space.consumer.stop().await?;
    streams(&space, &agreement, &sender, rounds, &mut figures).await?;

    let mut starts = Vec::new();
    for _ in 0..rounds.starts {
        starts.push(ms(space.consumer.start().await?));
        space.consumer.stop().await?;
    }
    figures.push(Figure::median("start_ms", "ms", &starts).aiming(Aim::AtMost(300.0)));
    space.provider.stop().await?;
    Ok(figures)
}

/// Commits of the disk, and negotiations one by one and many at once; gives the agreements.
async fn control(
    space: &Space,
    dir: &Path,
    dataset: &str,
    rounds: &Rounds,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<Vec<String>> {
    let mut admin = space.consumer.admin().await?;
    let mut agreements = Vec::new();
    for _ in 0..rounds.warm_up {
        agreements.push(rounds::negotiate(&mut admin, dataset).await?.1);
    }
    // Half of the commits before and half after what they are compared with.
    let mut commits = rounds::commits(&dir.join("commits"), rounds.commits / 2).await?;
    let mut times = Vec::new();
    for _ in 0..rounds.negotiations {
        let (took, agreement) = rounds::negotiate(&mut admin, dataset).await?;
        times.push(ms(took));
        agreements.push(agreement);
    }
    commits.extend(rounds::commits(&dir.join("commits"), rounds.commits / 2).await?);
    let commit = Figure::median("commit_p50_ms", "ms", &commits);
    let aim = Aim::AtMost(8.0f64.mul_add(commit.value, 10.0));
    figures.push(commit);
    figures.push(Figure::median("negotiation_p50_ms", "ms", &times).aiming(aim));
    figures.push(if times.len() >= ENOUGH_FOR_P99 {
        Figure::p99("negotiation_p99_ms", "ms", &times)
    } else {
        Figure::maximum("negotiation_max_ms", "ms", &times)
    });

    let mut rates = Vec::new();
    for _ in 0..rounds.batches {
        let (rate, concluded) =
            rounds::negotiate_at_once(&admin, dataset, NEGOTIATING_AT_ONCE, rounds.negotiations_in_batch)
                .await?;
        rates.push(rate);
        agreements.extend(concluded);
    }
    figures.push(Figure::median("negotiations_per_s", "1/s", &rates).aiming(Aim::AtLeast(300.0)));
    Ok(agreements)
}

/// Pulls and uses of the small dataset: each pull under an agreement of its own.
async fn small_data(
    space: &Space,
    agreements: Vec<String>,
    rounds: &Rounds,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<()> {
    let mut admin = space.consumer.admin().await?;
    let mut unused = agreements.into_iter();
    let mut times = Vec::new();
    let mut held = Vec::new();
    for agreement in unused.by_ref().take(rounds.pulls) {
        times.push(ms(rounds::pull(&mut admin, &agreement).await?.first));
        held.push(agreement);
    }
    figures.push(Figure::median("first_byte_p50_ms", "ms", &times));

    let mut rates = Vec::new();
    for _ in 0..rounds.batches {
        let batch: Vec<String> = unused.by_ref().take(rounds.pulls_in_batch).collect();
        rates.push(rounds::pull_at_once(&admin, &batch, PULLING_AT_ONCE).await?);
    }
    figures.push(Figure::median("small_pulls_per_s", "1/s", &rates));

    let mut times = Vec::new();
    for agreement in held.iter().cycle().take(rounds.uses) {
        times.push(ms(rounds::use_first_byte(&mut admin, agreement).await?));
    }
    figures.push(Figure::median("use_first_byte_p50_ms", "ms", &times).aiming(Aim::AtMost(10.0)));
    Ok(())
}

/// The large dataset pulled to a sealed copy against the same bytes over TLS to a plain file; gives an agreement.
async fn to_disk(
    space: &Space,
    dir: &Path,
    dataset: &str,
    sender: &raw::Sender,
    rounds: &Rounds,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<String> {
    let mut admin = space.consumer.admin().await?;
    let mut pairs = Pairs::default();
    let mut last = String::new();
    for pair in 0..=rounds.pairs {
        let (_, agreement) = rounds::negotiate(&mut admin, dataset).await?;
        settle(dir)?;
        let ours = rounds::pull(&mut admin, &agreement).await?.whole;
        if pair < rounds.pairs {
            let request = proto::admin::ShowHoldingRequest { agreement, ..Default::default() };
            admin.delete_holding(request).await?;
        } else {
            last = agreement;
        }
        settle(dir)?;
        let raw = sender.to_disk(rounds.large_bytes, dir.join("plain.bin")).await?;
        // The first pair fills caches.
        if pair > 0 {
            pairs.push(ours, raw, rounds.large_bytes);
        }
    }
    let names = ["pull_over_tls_to_disk", "pull_mib_per_s", "tls_to_disk_mib_per_s"];
    figures.extend(pairs.figures(names, 0.7));
    Ok(last)
}

/// The large dataset streamed to a receiver that checks and drops it, against raw TLS to one that drops it.
async fn streams(
    space: &Space,
    agreement: &str,
    sender: &raw::Sender,
    rounds: &Rounds,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<()> {
    let mut receiver = stream::Receiver::open(space, agreement).await?;
    let mut pairs = Pairs::default();
    for pair in 0..=rounds.pairs {
        let ours = receiver.drop_all(rounds.large_bytes).await?;
        let raw = sender.drop_all(rounds.large_bytes).await?;
        if pair > 0 {
            pairs.push(ours, raw, rounds.large_bytes);
        }
    }
    figures.extend(pairs.figures(["stream_over_raw_tls", "stream_mib_per_s", "raw_tls_mib_per_s"], 0.6));
    Ok(())
}
