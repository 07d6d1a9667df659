//! Usage control: what enforcement after delivery costs, and how soon it stops bytes.

use std::path::Path;

use tokio::task::JoinSet;

use crate::figures::{Figure, Pairs};
use crate::files::write_file;
use crate::space::{Admin, Space, Terms};
use crate::{plain, rounds, silence};

/// How often each thing is done.
struct Rounds {
    pairs: usize,
    large_bytes: u64,
    batches: usize,
    uses_in_batch: usize,
    /// Of each way to stop by revocation.
    revocations: usize,
    dates: usize,
}

const FULL: Rounds =
    Rounds { pairs: 9, large_bytes: 1 << 30, batches: 7, uses_in_batch: 640, revocations: 200, dates: 25 };
const SHORT: Rounds =
    Rounds { pairs: 2, large_bytes: 256 << 20, batches: 2, uses_in_batch: 64, revocations: 5, dates: 1 };

/// Sessions at once, as the figure says.
const USING_AT_ONCE: usize = 16;
/// Sessions that one date ends: it is published, and waited for, once.
const ENDED_BY_ONE_DATE: usize = 4;
/// More uses than are measured.
const MANY_USES: u64 = 1_000_000;
const SMALL_BYTES: u64 = 1_024;
/// Read again and again until a session ends.
const READ_BYTES: u64 = 16 << 20;

/// All figures of usage control; state and data lie in `dir`.
pub async fn measure(program: &Path, dir: &Path, short: bool) -> anyhow::Result<Vec<Figure>> {
    let rounds = if short { &SHORT } else { &FULL };
    let mut space = Space::start(program, dir).await?;
    let shared = space.provider.sources();
    write_file(&shared.join("small.bin"), SMALL_BYTES)?;
    write_file(&shared.join("read.bin"), READ_BYTES)?;
    write_file(&shared.join("large.bin"), rounds.large_bytes)?;
    let counted = Terms { uses: Some(MANY_USES), ..Terms::default() };
    let small = space.publish("small", "small.bin", &counted).await?;
    let large = space.publish("large", "large.bin", &Terms::default()).await?;
    let read = space.publish("read", "read.bin", &Terms::default()).await?;
    let leased = Terms { lease: Some("PT1H"), ..Terms::default() };
    let leased = space.publish("leased", "read.bin", &leased).await?;

    let mut figures = Vec::new();
    enforced(&space, &large, &shared.join("large.bin"), rounds, &mut figures).await?;
    sessions(&space, &small, rounds, &mut figures).await?;
    let times = silence::of_sessions(&space, &read, rounds.revocations).await?;
    figures.extend(silence::figures(
        ["revoke_to_session_silence_p50_ms", "revoke_to_session_silence_p99_ms"],
        &times,
    ));
    let times = silence::of_sessions(&space, &leased, rounds.revocations).await?;
    figures.extend(silence::figures(
        ["revoke_to_lease_silence_p50_ms", "revoke_to_lease_silence_p99_ms"],
        &times,
    ));
    let times = silence::of_dates(&space, "read.bin", rounds.dates, ENDED_BY_ONE_DATE).await?;
    figures.extend(silence::figures(["date_to_silence_p50_ms", "date_to_silence_p99_ms"], &times));

    // The measurement takes the consumer's place for the bytes of a stream.
    let mut consumer = space.consumer.admin().await?;
    let mut agreements = Vec::new();
    for _ in 0..rounds.revocations {
        agreements.push(rounds::negotiate(&mut consumer, &large).await?.1);
    }
    space.consumer.stop().await?;
    let times = silence::of_streams(&space, agreements).await?;
    figures.extend(silence::figures(
        ["revoke_to_stream_silence_p50_ms", "revoke_to_stream_silence_p99_ms"],
        &times,
    ));
    space.provider.stop().await?;
    Ok(figures)
}

/// A read of the large dataset through a use session against the same bytes from a plain file over the same HTTP.
async fn enforced(
    space: &Space,
    dataset: &str,
    file: &Path,
    rounds: &Rounds,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<()> {
    let mut consumer = space.consumer.admin().await?;
    let (_, agreement) = rounds::negotiate(&mut consumer, dataset).await?;
    rounds::pull(&mut consumer, &agreement).await?;
    let plain = plain::Server::start(file).await?;
    let session = silence::open(&mut consumer, &agreement).await?;
    let mut pairs = Pairs::default();
    for pair in 0..=rounds.pairs {
        let ours = session.drop_all(rounds.large_bytes).await?;
        let unsealed = plain.place().drop_all(rounds.large_bytes).await?;
        // The first pair fills caches.
        if pair > 0 {
            pairs.push(ours, unsealed, rounds.large_bytes);
        }
    }
    let names = ["enforced_over_unsealed_read", "enforced_mib_per_s", "unsealed_mib_per_s"];
    figures.extend(pairs.times(names, 1.3));
    Ok(())
}

/// Whole sessions under one agreement whose uses are counted: decided, counted, read to the end, and receipted.
async fn sessions(
    space: &Space,
    dataset: &str,
    rounds: &Rounds,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<()> {
    let mut consumer = space.consumer.admin().await?;
    let (_, agreement) = rounds::negotiate(&mut consumer, dataset).await?;
    rounds::pull(&mut consumer, &agreement).await?;
    let mut rates = Vec::new();
    for batch in 0..=rounds.batches {
        let rate = use_at_once(&consumer, &agreement, rounds.uses_in_batch).await?;
        if batch > 0 {
            rates.push(rate);
        }
    }
    figures.push(Figure::median("use_sessions_per_s", "1/s", &rates));
    Ok(())
}

async fn use_at_once(consumer: &Admin, agreement: &str, total: usize) -> anyhow::Result<f64> {
    let mut tasks = JoinSet::new();
    let began = std::time::Instant::now();
    for caller in 0..USING_AT_ONCE {
        let (mut consumer, agreement) = (consumer.clone(), agreement.to_owned());
        tasks.spawn(async move {
            for _ in (caller..total).step_by(USING_AT_ONCE) {
                rounds::use_first_byte(&mut consumer, &agreement).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(total as f64 / began.elapsed().as_secs_f64())
}
