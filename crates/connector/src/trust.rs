//! Keeps up with the authority, and lets every change of trust reach what is open within a second.
//!
//! Statement and lists are fetched at the interval of the settings, at a reload, and when a peer knows a newer list
//! than we do: peers tell each other the number in the exchange of identities, the lists themselves come from the
//! authority alone. While the authority is down everything goes on until a list's grace ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use identity::participant::{STATEMENT_SUPERSEDED, STATEMENT_THUMBPRINT_MISMATCH};
use identity::trust::CERTIFICATE_REVOKED;
use identity::{
    ConnectorKey, KnownSequences, ParticipantCertificate, Statement, StoredIdentity, TlsIdentity,
    TrustBundle, TrustState, VerifiedParticipant,
};
use store::{Collection, Expect, Snapshot, Tx};

use crate::authority::client::{ANSWER_UNUSABLE, AuthorityClient, pending_key};
use crate::config::Config;
use crate::driver::records;
use crate::error::Error;
use crate::grpc::VERDICT_EXPIRED;
use crate::node::{Node, OwnStatement};
use crate::peers;
use crate::run::{IDENTITY_FILE, NOT_ENROLLED, OTHER_IDENTITY};
use crate::telemetry::metrics;
use crate::transport::Connection;

control_plane::refusal_codes! {
    REVOKED = "peer/revoked", Policy,
        "the authority revoked the other party of this agreement", "管理機構已撤銷此協議另一方的證書",
        "管理机构已吊销此协议另一方的证书",
        clause "RFC 5280 section 5", next "ask the authority; once the party has enrolled again and connected, it goes on";
}

/// Open connections are looked at this often, so that none outlives its verdict by more than a second.
const WATCH: Duration = Duration::from_secs(1);
/// The first pause after the authority could not be asked; doubled with each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause while the authority cannot be asked.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The shortest pause between two fetches that peers asked for. It doubles while their news turn out to be none, so
/// that nobody can use us to keep the authority busy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// The longest answer of the authority that is waited for, all its parts together.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The key of a renewal under way: with the same key a lost answer does no harm.
const RENEWAL_KEY: &str = "keys/renewal.key";

/// One change of our identity at a time: the file is read, changed and replaced.
static CHANGING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Runs until the node stops.
pub async fn run(node: Arc<Node>) {
    tokio::select! {
        () = node.stop.cancelled() => {}
        () = keep_up(&node) => {}
        () = watch(&node) => {}
    }
}

/// Reads certificate, statement and lists from the data directory, then asks the authority for newer ones.
pub async fn reload(node: &Arc<Node>) -> Result<(), Error> {
    {
        let _one_at_a_time = CHANGING.lock().await;
        let stored = load(node).await?;
        let leaf = stored.chain.first().map(|der| ParticipantCertificate::read(der)).transpose()?;
        if let Some(leaf) = leaf.filter(|leaf| *leaf != node.identity.certificate()) {
            if *leaf.participant() != node.us {
                return Err(Refusal::new(&OTHER_IDENTITY, format!("stored `{}`", leaf.participant())).into());
            }
            node.identity.reload_certificate(stored.key, stored.chain)?;
            node.certificates.remember_own(&node.identity.certificate());
            tracing::info!(until = %leaf.not_after(), "certificate reloaded");
        }
        let before = node.identity.trust();
        node.identity.reload_lists(&stored.lists, stored.minimum_sequences.as_deref(), node.now())?;
        take_statement(node, &stored.statement)?;
        judge_all(node, &before).await?;
    }
    tokio::time::timeout(FETCH_TIMEOUT, fetch(node))
        .await
        .map_err(|_| Error::ours("the authority took too long to answer"))?
}

/// The live identity, under the roots and the grace that the settings name.
pub fn open_identity(
    mut stored: StoredIdentity,
    config: &Config,
    known: Arc<KnownSequences>,
    clock: identity::Clock,
    now: UnixMillis,
) -> Result<TlsIdentity, Error> {
    if let Some(path) = &config.authority.roots {
        stored.bundle = configured_roots(path)?;
    }
    let grace = i64::try_from(config.authority.revocation_grace.as_millis()).unwrap_or(i64::MAX);
    let trust = TrustState::new(stored.bundle, stored.chain.get(1..).unwrap_or_default())
        .with_grace(grace)
        .with_known_sequences(known);
    let trust = if stored.lists.is_empty() { trust } else { trust.updated(&stored.lists, None, now)? };
    let trust = match trust.updated(&[], stored.minimum_sequences.as_deref(), now) {
        Ok(trust) => trust,
        // Their signer's certificate or list ran out while we were down: without fresh lists no peer is accepted
        // anyway, and fresh minimums arrive with them.
        Err(refusal) => {
            tracing::warn!(code = refusal.code.code, "kept minimum sequences do not verify any more");
            trust
        }
    };
    Ok(TlsIdentity::new(stored.key, stored.chain, trust, clock)?)
}

/// The roots in a file of the settings.
pub fn configured_roots(path: &Path) -> Result<TrustBundle, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::ours(format!("cannot read `{}`: {error}", path.display())))?;
    Ok(TrustBundle::from_pem(&text)?)
}

/// The latest instant that the store knows: that of the newest ledger record.
pub fn last_recorded(store: &Snapshot<'_>) -> Result<Option<UnixMillis>, Error> {
    // Erased records have no time any more; one of the newest is always there.
    let size = store.ledger_head()?.size;
    let page = u64::try_from(store::MAX_PAGE).unwrap_or(u64::MAX);
    let newest = store.ledger_page(size.saturating_sub(page), store::MAX_PAGE)?;
    let times = newest.iter().filter_map(|entry| entry.content.as_ref());
    Ok(times.map(|(record, _)| UnixMillis(record.at_millis())).max())
}

/// The statement sequences accepted so far.
pub fn known_sequences(store: &Snapshot<'_>) -> Result<Vec<(ParticipantId, u64)>, Error> {
    let statements = statements(store)?;
    Ok(statements.into_iter().map(|statement| (statement.participant, statement.sequence)).collect())
}

/// Reads our own statement. Its signature is the authority's business and each peer's.
pub fn own_statement(jws: String) -> Result<OwnStatement, Error> {
    let damaged = |cause: &dyn std::fmt::Display| Error::damaged("our membership statement", cause);
    let payload = jws.split('.').nth(1).unwrap_or_default();
    let payload = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload)
        .map_err(|error| damaged(&error))?;
    let statement = Statement::read(&payload).map_err(|refusal| damaged(&refusal))?;
    Ok(OwnStatement { jws, statement })
}

/// Refuses a participant whose certificates were all revoked. Says nothing about one that we never met: such a one
/// has no agreement with us either.
pub fn require_good_standing(
    store: &Snapshot<'_>,
    trust: &TrustState,
    participant: &ParticipantId,
) -> Result<(), Error> {
    match peers::statement(store, participant)? {
        Some(statement) => match revoked(store, trust, &statement)? {
            Some(refusal) => Err(Refusal::new(&REVOKED, refusal.detail).into()),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// Fetches again and again: at the interval of the settings, sooner when a peer knows more, with back-off on failure.
async fn keep_up(node: &Arc<Node>) {
    let mut failures = 0;
    let mut pause = SHORTEST_PAUSE;
    let mut asked_by_peer = false;
    // The first fetch waits for nothing: what we have may be days old.
    loop {
        let before = node.identity.trust().newest_list_number();
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, fetch(node)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(Error::ours("the authority took too long to answer")));
        let refresh = node.config.load().authority.refresh;
        match fetched {
            Ok(()) => {
                failures = 0;
                let news = node.identity.trust().newest_list_number() > before;
                pause = next_pause(pause, asked_by_peer && !news).min(refresh);
                tokio::time::sleep(pause).await;
                asked_by_peer = tokio::select! {
                    () = tokio::time::sleep(refresh.saturating_sub(pause)) => false,
                    () = node.refresh_lists.notified() => true,
                };
            }
            Err(error) => {
                failures += 1;
                let wait = back_off(failures);
                let refusal = error.into_refusal();
                tracing::warn!(code = refusal.code.code, detail = %refusal.detail, failures, ?wait, "the authority could not be asked; what we have stays in use");
                tokio::time::sleep(wait).await;
                asked_by_peer = false;
            }
        }
    }
}

fn next_pause(pause: Duration, in_vain: bool) -> Duration {
    if in_vain { (pause * 2).min(LONGEST_RETRY) } else { SHORTEST_PAUSE }
}

fn back_off(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_RETRY)
}

/// Lists first, because others depend on them; then our statement, and a successor of our certificate when due.
async fn fetch(node: &Arc<Node>) -> Result<(), Error> {
    let _one_at_a_time = CHANGING.lock().await;
    let fetched = fetch_all(node).await;
    let outcome = if fetched.is_ok() { "fetched" } else { "failed" };
    metrics::authority_fetch(outcome);
    fetched
}

async fn fetch_all(node: &Arc<Node>) -> Result<(), Error> {
    let address = node.config.load().authority.address.to_string();
    let mut authority = AuthorityClient::connect(&node.identity, &address).await?;
    let lists = authority.lists().await?;
    let now = node.now();
    let before = node.identity.trust();
    let known = |der: &Vec<u8>| before.lists().any(|list| list.der() == der.as_slice());
    let minimums = lists.minimum_sequences.as_str();
    if !lists.revocation_lists.iter().all(known) || before.minimum_sequences() != Some(minimums) {
        node.identity.reload_lists(&lists.revocation_lists, Some(minimums), now)?;
        judge_all(node, &before).await?;
    }
    let statement = authority.statement().await?;
    let verdict = node.identity.verify_participant(&node.identity.chain(), &statement, now);
    let unnamed = matches!(&verdict, Err(refusal) if refusal.code == &STATEMENT_THUMBPRINT_MISMATCH);
    let renewal = if unnamed || now >= node.identity.certificate().renewal_due() {
        renew(node, &mut authority).await
    } else {
        Ok(false)
    };
    if !matches!(renewal, Ok(true)) {
        verdict?;
        take_statement(node, &statement)?;
    }
    keep(node).await?;
    measure(node);
    renewal.map(|_| ())
}

/// A new key with a new certificate in our name; on disk before it is used.
async fn renew(node: &Arc<Node>, authority: &mut AuthorityClient) -> Result<bool, Error> {
    let data = node.config.load().data.clone();
    let (pending, file) = (data.join(RENEWAL_KEY), data.join(IDENTITY_FILE));
    let key = pending_key(&pending)?;
    let issued = authority.renew(&key).await?;
    let leaf = issued.leaf(&node.us)?;
    if leaf.public_key() != key.public_key() {
        return Err(Refusal::new(&ANSWER_UNUSABLE, "the certificate is for another key").into());
    }
    let now = node.now();
    node.identity.verify_participant(&issued.chain, &issued.statement, now)?;
    // What we signed must stay checkable, also after a restart: both certificates are kept like a peer's.
    let (old, new) = (node.identity.certificate(), leaf.clone());
    node.store.write(move |tx| record_renewal(tx, &old, &new, now)).await?;
    let (chain, statement) = (issued.chain.clone(), issued.statement.clone());
    let step = move || {
        let mut stored =
            StoredIdentity::load(&file)?.ok_or_else(|| Error::ours("the identity file is gone"))?;
        stored.key = ConnectorKey::load(&pending)?;
        stored.chain = chain;
        stored.statement = statement;
        stored.save(&file)?;
        std::fs::remove_file(&pending).map_err(Error::ours)
    };
    blocking(step).await?;
    node.identity.reload_certificate(key, issued.chain)?;
    node.certificates.remember_own(&leaf);
    take_statement(node, &issued.statement)?;
    tracing::info!(certificate = %leaf.thumbprint(), until = %leaf.not_after(), "certificate renewed");
    Ok(true)
}

fn record_renewal(
    tx: &Tx<'_>,
    old: &ParticipantCertificate,
    new: &ParticipantCertificate,
    now: UnixMillis,
) -> Result<(), Error> {
    for certificate in [old, new] {
        let key = peers::certificate_key(certificate.participant(), &certificate.thumbprint().to_string());
        tx.put(Collection::Certificates, &key, certificate.der(), Expect::Any)?;
    }
    let fields = [("certificate", new.thumbprint().to_string()), ("replaces", old.thumbprint().to_string())];
    records::append_fields(tx, "certificate-renewed", now, fields)
}

/// Puts a newer statement of ours in place.
fn take_statement(node: &Node, jws: &str) -> Result<(), Error> {
    let current = node.statement.load();
    if current.jws == jws {
        return Ok(());
    }
    let ours = own_statement(jws.to_owned())?;
    if ours.statement.participant != node.us {
        let detail = format!("a statement about `{}`", ours.statement.participant);
        return Err(Refusal::new(&ANSWER_UNUSABLE, detail).into());
    }
    if ours.statement.sequence >= current.statement.sequence {
        tracing::info!(sequence = ours.statement.sequence, until = %ours.statement.expires, "membership statement taken");
        node.statement.store(Arc::new(ours));
    }
    Ok(())
}

/// Keeps statement and lists for the next start, if they differ from what is kept.
async fn keep(node: &Arc<Node>) -> Result<(), Error> {
    let file = node.config.load().data.join(IDENTITY_FILE);
    let (trust, statement) = (node.identity.trust(), node.statement.load().jws.clone());
    let step = move || {
        let mut stored =
            StoredIdentity::load(&file)?.ok_or_else(|| Error::ours("the identity file is gone"))?;
        let lists: Vec<Vec<u8>> = trust.lists().map(|list| list.der().to_vec()).collect();
        let minimum_sequences = trust.minimum_sequences().map(str::to_owned);
        if stored.lists == lists
            && stored.minimum_sequences == minimum_sequences
            && stored.statement == statement
        {
            return Ok(());
        }
        (stored.lists, stored.minimum_sequences, stored.statement) = (lists, minimum_sequences, statement);
        Ok(stored.save(&file)?)
    };
    blocking(step).await
}

async fn load(node: &Arc<Node>) -> Result<StoredIdentity, Error> {
    let file = node.config.load().data.join(IDENTITY_FILE);
    blocking(move || {
        let stored = StoredIdentity::load(&file)?;
        stored.ok_or_else(|| Refusal::new(&NOT_ENROLLED, file.display().to_string()).into())
    })
    .await
}

/// Judges everybody anew after the lists changed; `before` tells what changed.
async fn judge_all(node: &Arc<Node>, before: &TrustState) -> Result<(), Error> {
    let trust = node.identity.trust();
    node.certificates.apply(&trust);
    tracing::info!(number = trust.newest_list_number(), "newer lists are in force");
    for connection in node.connections.open() {
        let Some(peer) = connection.participant() else { continue };
        match node.recheck(&peer) {
            Ok(verdict) => connection.verified(verdict),
            Err(refusal) => close(node, &connection, &peer, &refusal),
        }
    }
    // Use sessions need no connection, so their providers are judged by what we remember.
    let before = before.clone();
    let fallen = node.store.read(move |store| fallen(store, &before, &trust)).await?;
    for (participant, refusal) in fallen {
        tracing::warn!(%participant, code = refusal.code.code, "what runs with this participant ends");
        node.data.stop_peer(&participant, &refusal);
    }
    Ok(())
}

/// The participants that lost their standing between two states of trust.
fn fallen(
    store: &Snapshot<'_>,
    before: &TrustState,
    trust: &TrustState,
) -> Result<Vec<(ParticipantId, Refusal)>, Error> {
    let mut fallen = Vec::new();
    for statement in statements(store)? {
        let lowest = trust.minimum_sequence(&statement.participant);
        let superseded =
            statement.sequence < lowest && lowest > before.minimum_sequence(&statement.participant);
        let newly_revoked = match revoked(store, trust, &statement)? {
            Some(refusal) if revoked(store, before, &statement)?.is_none() => Some(refusal),
            Some(_) | None => None,
        };
        if let Some(refusal) = newly_revoked {
            fallen.push((statement.participant, refusal));
        } else if superseded {
            let detail =
                format!("`{}`: sequence {}, at least {lowest}", statement.participant, statement.sequence);
            fallen.push((statement.participant, Refusal::new(&STATEMENT_SUPERSEDED, detail)));
        }
    }
    Ok(fallen)
}

/// The refusal of a participant all of whose certificates that we saw and that its statement names were revoked.
fn revoked(
    store: &Snapshot<'_>,
    trust: &TrustState,
    statement: &Statement,
) -> Result<Option<Refusal>, Error> {
    let mut revoked_at = None;
    for thumbprint in &statement.certificates {
        let key = peers::certificate_key(&statement.participant, &thumbprint.to_string());
        let Some(row) = store.get(Collection::Certificates, &key)? else { continue };
        let certificate =
            ParticipantCertificate::read(&row.value).map_err(|refusal| Error::damaged(&row.key, refusal))?;
        match trust.revoked_at(&certificate) {
            Some(at) => revoked_at = Some(at),
            None => return Ok(None),
        }
    }
    let refusal = |at| Refusal::new(&CERTIFICATE_REVOKED, format!("`{}` at {at}", statement.participant));
    Ok(revoked_at.map(refusal))
}

/// The newest statement of each participant that we met.
fn statements(store: &Snapshot<'_>) -> Result<Vec<Statement>, Error> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let rows = store.scan(Collection::Statements, "", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = Some(last.key.clone());
        for row in &rows {
            all.extend(peers::statement(store, &ParticipantId::parse(&row.key)?)?);
        }
    }
}

/// Closes connections whose verdict ended, and those of a statement that a newer one replaced.
async fn watch(node: &Arc<Node>) {
    let mut tick = tokio::time::interval(WATCH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (now, trust) = (node.now(), node.identity.trust());
        for connection in node.connections.open() {
            let Some(peer) = connection.participant() else { continue };
            // Also what was verified while newer lists arrived.
            if let Some(refusal) = outlived(&peer, &trust, now).or_else(|| node.recheck(&peer).err()) {
                close(node, &connection, &peer, &refusal);
            }
        }
    }
}

/// Why a verdict ended, if it did.
fn outlived(peer: &VerifiedParticipant, trust: &TrustState, now: UnixMillis) -> Option<Refusal> {
    if peer.valid_until() <= now {
        return Some(Refusal::new(&VERDICT_EXPIRED, format!("`{}` at {}", peer.id(), peer.valid_until())));
    }
    let (sequence, lowest) = (peer.statement().sequence, trust.minimum_sequence(peer.id()));
    (sequence < lowest).then(|| {
        let detail = format!("`{}`: sequence {sequence}, at least {lowest}", peer.id());
        Refusal::new(&STATEMENT_SUPERSEDED, detail)
    })
}

/// Closes a connection and stops what runs with its participant.
fn close(node: &Node, connection: &Connection, peer: &VerifiedParticipant, refusal: &Refusal) {
    if connection.closed().is_cancelled() {
        return;
    }
    tracing::warn!(peer = %peer.id(), remote = %connection.remote, code = refusal.code.code, detail = %refusal.detail, "connection closed");
    metrics::refused(refusal.code.code);
    connection.close();
    node.data.stop_peer(peer.id(), refusal);
}

fn measure(node: &Node) {
    metrics::certificate_expires(node.identity.certificate().not_after());
    metrics::statement_expires(node.statement.load().statement.expires);
    if let Some(first) = node.identity.trust().lists().map(identity::RevocationList::next_update).min() {
        metrics::revocation_lists_expire(first);
    }
}

/// Files are written and synced on a thread for it.
async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(step).await.map_err(Error::ours)?
}

#[cfg(test)]
mod tests {
    use identity::authority::TokenRequest;
    use identity::membership::{Jurisdiction, PeerAddress, SubjectBase};
    use identity::{Authority, LegalName, Membership, Revocation, SecurityProfile};

    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_start_over() {
        let seconds: Vec<u64> = (1..=8).map(|failures| back_off(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(back_off(u32::MAX), LONGEST_RETRY);

        let mut pause = SHORTEST_PAUSE;
        for _ in 0..20 {
            pause = next_pause(pause, true);
        }
        assert_eq!(pause, LONGEST_RETRY);
        assert_eq!(next_pause(pause, false), SHORTEST_PAUSE);
    }

    #[test]
    fn a_statement_that_cannot_be_read_is_damage() {
        for text in ["", "a.b", "e30.e30.e30", "a.*.c"] {
            assert!(own_statement(text.to_owned()).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn standing_falls_with_revocation_and_with_a_higher_minimum() {
        const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
        let dir = tempfile::tempdir().unwrap();
        let authority =
            Authority::init(&dir.path().join("authority"), "https://authority.example/id", &[], NOW).unwrap();
        let store = store::Store::open(&dir.path().join("data"), store::Options::default()).unwrap();
        let trust_now = || {
            let lists = authority.lists(NOW).unwrap();
            let issuing = authority.tls_identity(Arc::new(|| NOW), NOW).unwrap().chain().split_off(1);
            let trust = TrustState::new(authority.trust_bundle().unwrap(), &issuing);
            trust.updated(&lists.revocation_lists, Some(&lists.minimum_sequences), NOW).unwrap()
        };
        let mut members = Vec::new();
        for name in ["hong-kong", "macao", "unmet"] {
            let participant = format!("https://{name}.example/id");
            let membership = Membership {
                legal_name: LegalName { en: name.to_owned(), zh_hant: None, zh_hans: None },
                jurisdiction: Jurisdiction::parse("HK").unwrap(),
                city: "Hong Kong".to_owned(),
                prefixes: Vec::new(),
                addresses: Vec::new(),
                roles: Vec::new(),
                security_profile: SecurityProfile::Base,
                subject_base: SubjectBase::parse(&format!("{participant}/")).unwrap(),
            };
            let request = TokenRequest {
                participant,
                names: Vec::new(),
                membership: membership.clone(),
                address: PeerAddress::parse("authority.example:7400").unwrap(),
                expires: NOW.plus_millis(1_000),
            };
            let token = authority.create_token(request, NOW).unwrap();
            let csr = ConnectorKey::generate().unwrap().csr().unwrap();
            let enrolled = authority.enrol(&csr, token.secret().expose(), NOW).unwrap();
            let id = token.participant().clone();
            members.push((id.clone(), membership));
            if name == "unmet" {
                continue;
            }
            let (certificate, statement) = (enrolled.chain.first().unwrap().clone(), enrolled.statement);
            let thumbprint = identity::Digest::of(&certificate).to_string();
            let keep = move |tx: &Tx<'_>| -> Result<(), Error> {
                tx.put(Collection::Statements, id.as_str(), statement.as_bytes(), Expect::Any)?;
                let key = peers::certificate_key(&id, &thumbprint);
                tx.put(Collection::Certificates, &key, &certificate, Expect::Any)?;
                Ok(())
            };
            store.write(keep).await.unwrap();
        }
        let fell = async |before: &TrustState, after: &TrustState| {
            let (before, after) = (before.clone(), after.clone());
            let fallen = store.read(move |store| fallen(store, &before, &after)).await.unwrap();
            fallen.into_iter().map(|(id, refusal)| (id, refusal.code.code)).collect::<Vec<_>>()
        };
        let stands = async |trust: &TrustState, id: &ParticipantId| {
            let (trust, id) = (trust.clone(), id.clone());
            let standing = store.read(move |store| require_good_standing(store, &trust, &id)).await;
            standing.map_err(|error| error.into_refusal().code.code)
        };
        let [(hong_kong, _), (macao, about_macao), (unmet, _)] = members.try_into().unwrap();

        let first = trust_now();
        assert_eq!(fell(&first, &first).await, []);
        assert_eq!(stands(&first, &hong_kong).await, Ok(()));

        authority.revoke(&Revocation::Participant(hong_kong.clone()), NOW).unwrap();
        authority.revoke(&Revocation::Participant(unmet.clone()), NOW).unwrap();
        let second = trust_now();
        assert_eq!(fell(&first, &second).await, [(hong_kong.clone(), CERTIFICATE_REVOKED.code)]);
        assert_eq!(stands(&second, &hong_kong).await, Err(REVOKED.code));
        assert_eq!(stands(&second, &macao).await, Ok(()));
        assert_eq!(stands(&second, &unmet).await, Ok(()), "nothing is agreed with somebody we never met");

        authority.update_member(&macao, about_macao, NOW).unwrap();
        let third = trust_now();
        assert_eq!(
            fell(&second, &third).await,
            [(macao.clone(), STATEMENT_SUPERSEDED.code)],
            "who fell before is not told again"
        );
        assert_eq!(stands(&third, &macao).await, Ok(()), "it is still a member");
    }

    #[tokio::test]
    async fn the_latest_instant_is_that_of_the_newest_record() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(dir.path(), store::Options::default()).unwrap();
        assert_eq!(store.read(last_recorded).await.unwrap(), None);
        for at in [1_000, 3_000] {
            store.write(move |tx| records::append_fields(tx, "test", UnixMillis(at), [])).await.unwrap();
        }
        assert_eq!(store.read(last_recorded).await.unwrap(), Some(UnixMillis(3_000)));
        assert_eq!(store.read(known_sequences).await.unwrap(), []);
    }
}
