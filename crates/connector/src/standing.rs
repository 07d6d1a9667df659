//! What a peer knows of an agreement with us: told while it happens, asked for after a restore.
//!
//! A consumer tells how often data was used, and when first, wherever the policy rests on it; so its own backup cannot
//! give uses back once the provider is reached. Both sides answer how an agreement stands with them: revoked,
//! suspended, and whether its copies were destroyed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::pids::Role;
use control_plane::status::AgreementStatus;
use control_plane::{Refusal, UnixMillis};
use policy::Policy;
use policy::vocab::operand;
use proto::notice as wire;
use proto::notice::notice_service_client::NoticeServiceClient;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Snapshot, Tx};
use tokio::time::Instant;
use tonic::Status;

use crate::data::{counts, holdings};
use crate::driver::notices::NOT_A_PARTY;
use crate::driver::{agreements, records};
use crate::error::Error;
use crate::node::Node;
use crate::restored;

control_plane::refusal_codes! {
    TOO_MANY = "limit/standings", Limit,
        "one question names too many agreements", "單次查詢所列的協議過多", "单次查询所列的协议过多",
        clause "proto/fairlead/notice", next "ask for at most 256 at once";
}

/// Agreements of one question or one telling: an answer stays far below the largest message.
pub const MAX_ASKED: usize = 256;
/// Between two looks at what is to be told or asked: so much of the newest uses may be lost with a machine.
const LOOK: Duration = Duration::from_secs(1);
/// The longest pause after a peer could not be reached.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Operands that count uses or measure time from the first one.
const COUNTING: &[&str] = &[
    operand::COUNT,
    operand::ELAPSED_TIME,
    operand::SINCE_FIRST_USE,
    "https://w3id.org/idsa/code/COUNT",
    "https://w3id.org/idsa/code/ELAPSED_TIME",
];

/// Prefix of the local rows of agreements whose uses are to be told; the value names the provider.
const OWED: &str = "uses-owed ";
/// Prefix of the local rows of what a consumer told.
const TOLD: &str = "uses-told ";

/// What a consumer told about an agreement; the durable form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Told {
    version: u32,
    /// A string, as integers that may pass 2^53 are.
    uses: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_use: Option<String>,
}

const VERSION: u32 = 1;

/// In the transaction that counts a use: the provider is to be told, where the policy rests on it and the provider
/// does not count itself.
pub fn owe(
    tx: &Tx<'_>,
    policy: &Policy,
    is_leased: bool,
    agreement: &AgreementId,
    provider: &str,
) -> Result<(), Error> {
    let operands = policy.operands();
    if !is_leased && COUNTING.iter().any(|counting| operands.contains(counting)) {
        tx.put(Collection::Local, &format!("{OWED}{agreement}"), provider.as_bytes(), Expect::Any)?;
    }
    Ok(())
}

/// Tells what is owed, and asks what a restore left unknown, until the node stops.
pub async fn run(node: Arc<Node>) {
    // Bounded by the peers that we have agreements with.
    let mut pauses: HashMap<ParticipantId, (Duration, Instant)> = HashMap::new();
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let waiting = match waiting(&node).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(%error, "what is to be told to peers cannot be read");
                continue;
            }
        };
        pauses.retain(|peer, _| waiting.contains(peer));
        for peer in waiting {
            if pauses.get(&peer).is_some_and(|(_, until)| *until > Instant::now()) {
                continue;
            }
            let talked = async {
                tell(&node, &peer).await?;
                restored::ask(&node, &peer).await
            };
            let done = tokio::select! {
                () = node.stop.cancelled() => return,
                done = talked => done,
            };
            match done {
                // What an answer left open is asked again, but not at once.
                Ok(true) => drop(pauses.remove(&peer)),
                Ok(false) | Err(_) => {
                    if let Err(error) = done {
                        tracing::info!(%peer, %error, "the peer could not be told or asked yet");
                    }
                    let pause = pauses.get(&peer).map_or(LOOK, |(pause, _)| pause.saturating_mul(2));
                    let pause = pause.min(LONGEST_PAUSE);
                    pauses.insert(peer, (pause, Instant::now() + pause));
                }
            }
        }
    }
}

async fn waiting(node: &Node) -> Result<Vec<ParticipantId>, Error> {
    node.store
        .read(|store| {
            let mut peers = restored::to_ask(store)?;
            let mut after = None;
            loop {
                let rows = store.scan(Collection::Local, OWED, after.as_deref(), store::MAX_PAGE)?;
                let Some(last) = rows.last() else { break };
                after = Some(last.key.clone());
                for row in &rows {
                    peers.push(ParticipantId::parse(&String::from_utf8_lossy(&row.value))?);
                }
                peers.sort();
                peers.dedup();
            }
            Ok(peers)
        })
        .await
}

/// Tells `provider` what is owed to it; what is used meanwhile stays owed.
async fn tell(node: &Arc<Node>, provider: &ParticipantId) -> Result<(), Error> {
    let name = provider.clone();
    let owed = node.store.read(move |store| owed_to(store, &name)).await?;
    if owed.is_empty() {
        return Ok(());
    }
    let link = node.links.control(node, provider).await?;
    let request = wire::TellUsesRequest { uses: owed.clone() };
    if let Err(status) = NoticeServiceClient::new(link.channel.clone()).tell_uses(request).await {
        return Err(unanswered(node, &link, &status));
    }
    node.store
        .write(move |tx| {
            for told in owed {
                let agreement = AgreementId::parse(&told.agreement)?;
                if counts::spent(tx, &agreement)? == told.uses {
                    tx.delete(Collection::Local, &format!("{OWED}{agreement}"), Expect::Any)?;
                }
            }
            Ok(())
        })
        .await
}

fn owed_to(store: &Snapshot<'_>, provider: &ParticipantId) -> Result<Vec<wire::Uses>, Error> {
    // What a peer that is away has piled up hides nothing of another's.
    let (mut theirs, mut after) = (Vec::new(), None);
    while theirs.len() < MAX_ASKED {
        let rows = store.scan(Collection::Local, OWED, after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { break };
        after = Some(last.key.clone());
        theirs.extend(rows.into_iter().filter(|row| row.value == provider.as_str().as_bytes()));
    }
    theirs.truncate(MAX_ASKED);
    theirs
        .into_iter()
        .map(|row| -> Result<wire::Uses, Error> {
            let agreement = AgreementId::parse(row.key.strip_prefix(OWED).unwrap_or_default())?;
            let first_use = holdings::get(store, &agreement)?.and_then(|holding| holding.first_use);
            Ok(wire::Uses {
                uses: counts::spent(store, &agreement)?,
                first_use: first_use.unwrap_or_default(),
                agreement: agreement.to_string(),
            })
        })
        .collect()
}

/// The peer said no, or the connection ended.
pub fn unanswered(node: &Node, link: &crate::transport::dialer::Link, status: &Status) -> Error {
    if proto::status::from_status(status).code.is_empty() {
        node.links.failed(link);
    }
    Error::ours(status.message())
}

/// As provider: takes what a consumer tells. Counts never go back, and a first use never becomes later.
pub async fn told(node: &Arc<Node>, peer: &ParticipantId, uses: Vec<wire::Uses>) -> Result<(), Error> {
    require_few(uses.len())?;
    let (peer, now) = (peer.clone(), node.now());
    node.store
        .write(move |tx| {
            for told in uses {
                let id = AgreementId::parse(&told.agreement)?;
                let held = records::found(records::agreement(tx, &id)?, &NOT_A_PARTY, id.as_str())?;
                if *held.signed.agreement().assignee() != peer {
                    return Err(Refusal::new(&NOT_A_PARTY, id.as_str()).into());
                }
                let known = told_of(tx, &id)?;
                let count = uses_of(&known).max(told.uses);
                let first = [known.first_use.as_deref(), Some(told.first_use.as_str())];
                let first = first.into_iter().flatten().filter_map(UnixMillis::parse_rfc3339).min();
                let next = Told {
                    version: VERSION,
                    uses: count.to_string(),
                    first_use: first.map(|first| first.to_string()),
                };
                if next == known {
                    continue;
                }
                let bytes = serde_jcs::to_vec(&next).map_err(Error::ours)?;
                tx.put(Collection::Local, &format!("{TOLD}{id}"), &bytes, Expect::Any)?;
                let fields = [("agreement", id.to_string()), ("from", peer.to_string()), ("uses", next.uses)];
                records::append_fields(tx, "uses-told", now, fields)?;
            }
            Ok(())
        })
        .await
}

fn told_of(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<Told, Error> {
    let Some(row) = store.get(Collection::Local, &format!("{TOLD}{agreement}"))? else {
        return Ok(Told::default());
    };
    serde_json::from_slice(&row.value).map_err(|error| Error::damaged(&row.key, error))
}

fn uses_of(told: &Told) -> u64 {
    told.uses.parse().unwrap_or(0)
}

fn require_few(asked: usize) -> Result<(), Refusal> {
    if asked > MAX_ASKED { Err(Refusal::new(&TOO_MANY, format!("{asked}"))) } else { Ok(()) }
}

/// A consumer's copies under an agreement are gone, as it told: what its own backup forgets is remembered here.
pub fn remember_deleted(tx: &Tx<'_>, agreement: &AgreementId, now: UnixMillis) -> Result<(), Error> {
    tx.put(Collection::Tombstones, agreement.as_str(), now.to_string().as_bytes(), Expect::Any)?;
    Ok(())
}

/// How agreements with `peer` stand with us; nothing of others' agreements is told.
pub async fn answer(
    node: &Arc<Node>,
    peer: &ParticipantId,
    asked: Vec<String>,
) -> Result<Vec<wire::Standing>, Error> {
    require_few(asked.len())?;
    let (worker, peer) = (node.clone(), peer.clone());
    node.store
        .read(move |store| {
            asked
                .iter()
                .map(|asked| -> Result<wire::Standing, Error> {
                    let id = AgreementId::parse(asked)?;
                    let nothing = wire::Standing { agreement: id.to_string(), ..Default::default() };
                    let Some(held) = records::agreement(store, &id)? else { return Ok(nothing) };
                    let role = agreements::role(&worker, &held);
                    if *held.signed.agreement().party(role.other()) != peer {
                        return Ok(nothing);
                    }
                    let holds = |role: Role| match &held.status {
                        AgreementStatus::Suspended(holds) => holds.held_by(role),
                        _ => false,
                    };
                    let told = told_of(store, &id)?;
                    Ok(wire::Standing {
                        known: true,
                        revoked: matches!(held.status, AgreementStatus::Revoked { .. }),
                        suspended_here: holds(role),
                        suspended_by_you: holds(role.other()),
                        deleted: store.get(Collection::Tombstones, id.as_str())?.is_some(),
                        uses: uses_of(&told),
                        first_use: told.first_use.unwrap_or_default(),
                        ..nothing
                    })
                })
                .collect()
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_format_is_frozen() {
        let text = r#"{"firstUse":"1970-01-01T00:00:00.000Z","uses":"2","version":1}"#;
        let told: Told = serde_json::from_str(text).unwrap();
        assert_eq!((uses_of(&told), serde_jcs::to_string(&told).unwrap()), (2, text.to_owned()));
    }
}
