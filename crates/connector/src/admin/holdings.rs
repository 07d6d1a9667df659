//! Holdings and use sessions as our operator and users see them.

use std::sync::Arc;

use control_plane::ids::{AgreementId, DatasetId};
use data_plane::{DataError, ObjectRecord, ObjectState, SessionEnd, UseReceipt, UseRequest, UseSession};
use policy::vocab::{FL, ODRL, PREFIXES, short};
use proto::admin;
use proto::admin::use_response::Step;
use store::Collection;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::agreements::{clauses, language};
use super::duties::duty_row;
use super::sessions::is_of;
use super::{Answers, bad_argument, instant, next_page, page, refuse};
use crate::data::acts;
use crate::data::counts;
use crate::data::holdings::{self, Holding, NO_HOLDING};
use crate::data::leases;
use crate::data::open_uses::OpenUse;
use crate::data::outlook;
use crate::data::provider::data_error;
use crate::data::sessions::{self, Granted, Wanted};
use crate::data::uses;
use crate::driver::records;
use crate::error::Error;
use crate::layers;
use crate::node::Node;

/// Bytes of one message to the reader: a decision window.
const READ_BYTES: usize = 1024 * 1024;
/// Messages under way to the reader: at most so many MiB are released ahead of it.
const READ_AHEAD: usize = 1;

/// Everything held, oldest agreement first.
pub async fn list(node: &Arc<Node>, request: admin::PageRequest) -> Result<admin::HoldingList, Error> {
    let (rows, after) = page(&request);
    let found =
        node.store.read(move |store| store.scan(Collection::Holdings, "", after.as_deref(), rows)).await?;
    let mut shown = Vec::new();
    for row in &found {
        shown.push(describe(node, holdings::read(&row.key, &row.value)?, None, "").await?);
    }
    Ok(admin::HoldingList { holdings: shown, next_page_token: next_page(rows, found.last(), found.len()) })
}

/// One holding: what the caller may do until when, counts left, duties owed, how each clause is held, what is open.
pub async fn show(
    node: &Arc<Node>,
    request: admin::ShowHoldingRequest,
    actor: String,
) -> Result<admin::Holding, Error> {
    let id = AgreementId::parse(&request.agreement)?;
    let key = id.clone();
    let holding = node.store.read(move |store| holdings::get(store, &key)).await?;
    let holding = records::found(holding, &NO_HOLDING, id.as_str())?;
    let shown = describe(node, holding, Some(&request.language), &actor).await?;
    let open = node.data.open_uses.of(&id).into_iter().filter(|open| is_of(&open.request.actor, &actor));
    Ok(admin::Holding { sessions: open.map(use_shown).collect(), ..shown })
}

/// Destroys the keys of a holding before its deadline, with proof to the provider.
pub async fn delete(node: &Arc<Node>, request: admin::ShowHoldingRequest) -> Result<admin::Holding, Error> {
    let id = AgreementId::parse(&request.agreement)?;
    let holding = holdings::destroy(node, &id, "deleted by the operator").await?;
    describe(node, holding, Some(&request.language), "").await
}

/// A holding's row; with the language of whoever looks at it alone, also what may be done and how it is held.
async fn describe(
    node: &Arc<Node>,
    holding: Holding,
    tag: Option<&str>,
    actor: &str,
) -> Result<admin::Holding, Error> {
    let id = AgreementId::parse(&holding.agreement)?;
    let (worker, key, actor, now) = (node.clone(), id.clone(), actor.to_owned(), node.now());
    let (held, policy, state, objects, counted_so_far, duties, taken, outlook) = node
        .store
        .read(move |store| {
            let held = records::agreement(store, &key)?;
            let held = records::found(held, &crate::driver::transfers::AGREEMENT_NOT_FOUND, key.as_str())?;
            let policy = worker.policies.compiled(held.signed.agreement().text())?;
            let outlook = outlook::of(&worker, store, &key, &policy, &actor, now)?;
            let counted = match counts::counted(store, &key, &policy) {
                // Terms that cannot be counted by are told without.
                Err(Error::Refused(_)) => None,
                counted => Some(counted?),
            };
            Ok::<_, Error>((
                held,
                policy,
                holdings::state(store, &key)?,
                holdings::objects(store, &key)?,
                counted,
                acts::all_of(store, &key)?,
                leases::taken(store, &key)?,
                outlook,
            ))
        })
        .await?;
    let spent = counted_so_far.map_or(0, |counted| counted.spent);
    let left = uses::uses_left(&policy, spent, now);
    let lease = match policy.lease_millis() {
        None => "",
        Some(_) if node.data.leases.live(&id, now).is_some() => "live",
        Some(_) => "needed",
    };
    let (changes_at, changes) = outlook.changes.map(|change| (change.at, change.what)).unzip();
    let mut shown = admin::Holding {
        lease: lease.to_owned(),
        leased_at: instant(taken.map(|granted| granted.last)),
        lease_until: instant(taken.map(|granted| granted.until)),
        agreement: holding.agreement.clone(),
        dataset: holding.dataset.clone(),
        assigner: holding.assigner.clone(),
        state: state.unwrap_or_default().to_owned(),
        objects: objects.iter().map(object_row).collect(),
        uses: spent,
        uses_left: counted(left),
        unit_of_count: counted_so_far.map(|counted| counted.unit.name().to_owned()).unwrap_or_default(),
        first_use: holding.first_use.clone().unwrap_or_default(),
        changes_at: instant(changes_at),
        changes: changes.unwrap_or_default(),
        duties: duties.into_iter().map(duty_row).collect::<Result<_, _>>()?,
        agreement_status: held.status.name().to_owned(),
        unsealed_copies: holding.unsealed,
        transform: holding.transform.unwrap_or_default(),
        derived_from: holding.derived_from,
        ..Default::default()
    };
    if let Some(tag) = tag {
        shown.clauses = clauses(&policy, language(tag));
        shown.may = outlook.may.into_iter().map(may_do).collect();
        shown.layers = layers::of(&policy).into_iter().map(held_clause).collect();
    }
    Ok(shown)
}

fn may_do(row: outlook::MayDo) -> admin::MayDo {
    admin::MayDo {
        action: row.action,
        outcome: row.outcome.to_owned(),
        code: row.code.unwrap_or_default().to_owned(),
        until: instant(row.until),
        needs: row.needs,
    }
}

fn held_clause(held: layers::Held) -> admin::HeldClause {
    admin::HeldClause {
        clause: held.clause,
        term: held.term,
        part: held.part.to_owned(),
        layer: held.layer.name().to_owned(),
    }
}

fn use_shown(open: OpenUse) -> admin::OpenUse {
    admin::OpenUse {
        session: open.session.to_string(),
        actor: open.request.actor,
        action: short(&open.request.action),
        purpose: open.request.purpose.as_deref().map(short).unwrap_or_default(),
        opened: open.opened.to_string(),
        valid_until: instant(open.until.get()),
    }
}

fn object_row(record: &ObjectRecord) -> admin::HeldObject {
    let state = match record.state() {
        ObjectState::Partial => "partial",
        ObjectState::Complete => "sealed",
        ObjectState::Destroyed => "destroyed",
    };
    admin::HeldObject {
        path: record.name().to_owned(),
        bytes: record.size(),
        digest: record.checksum().to_string(),
        state: state.to_owned(),
    }
}

/// What a use would be answered, without using.
pub async fn explain_use(
    node: &Arc<Node>,
    request: admin::UseRequest,
    actor: String,
) -> Result<admin::Explanation, Error> {
    let tag = language(&request.language);
    let asked = use_request(node, &request, actor).await?;
    let explanation = uses::explain(node, asked, tag).await?;
    Ok(admin::Explanation {
        outcome: explanation.outcome.to_owned(),
        code: explanation.code.unwrap_or_default().to_owned(),
        text: explanation.headline.clone(),
        details: explanation.lines(),
        valid_until: explanation.valid_until.unwrap_or_default(),
    })
}

/// Opens a use session and streams grant, bytes and receipt.
pub async fn open_use(
    node: &Arc<Node>,
    request: admin::UseRequest,
    actor: String,
) -> Result<Answers<admin::UseResponse>, Error> {
    let asked = use_request(node, &request, actor).await?;
    let mut granted = sessions::grant(node, asked, Wanted::One(&request.object)).await?;
    let (object, record) = match granted.only_object(node).await {
        Ok(opened) => opened,
        // The use is spent; its receipt says that nothing was released.
        Err(error) => {
            granted.session.close().await?;
            return Err(error);
        }
    };
    let Granted { session, uses_left, registered, place, .. } = granted;
    let end = match request.length {
        0 => record.size(),
        length => request.offset.saturating_add(length).min(record.size()),
    };
    let grant = admin::UseGrant {
        session: session.session().to_string(),
        valid_until: instant(session.valid_until()),
        bytes: end.saturating_sub(request.offset),
        object: record.name().to_owned(),
        rule: String::new(),
        uses_left: counted(uses_left),
    };
    let (to_reader, answers) = mpsc::channel(READ_AHEAD);
    let node = node.clone();
    tokio::spawn(async move {
        let held = (registered, place);
        let reading = Reading { node, session, to_reader };
        let last = reading.run(grant, &object, request.offset, end).await;
        // Whoever waits for a session does not wait for this reader to take its last word.
        drop(held);
        if let Some((to_reader, answer)) = last {
            drop(to_reader.send(answer).await);
        }
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

/// A number of uses as rows tell it: -1 where they are not counted.
pub fn counted(left: Option<u64>) -> i64 {
    left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX))
}

/// The way to a session's reader.
type ToReader = mpsc::Sender<Result<admin::UseResponse, Status>>;

/// An open session on its way to its reader.
struct Reading {
    node: Arc<Node>,
    session: UseSession,
    to_reader: ToReader,
}

impl Reading {
    /// Releases bytes until the end or a refusal, and closes the session; gives the last word, if there is a reader
    /// to tell.
    async fn run(
        mut self,
        grant: admin::UseGrant,
        object: &data_plane::SessionObject,
        from: u64,
        end: u64,
    ) -> Option<(ToReader, Result<admin::UseResponse, Status>)> {
        let mut failure = self.send(Step::Grant(grant)).await.err();
        let mut offset = from;
        while failure.is_none() && offset < end {
            let limit = usize::try_from(end - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
            match self.session.read(object, offset, limit).await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    offset = offset.saturating_add(bytes.len() as u64);
                    failure = self.send(Step::Data(bytes)).await.err();
                }
                Err(error) => failure = Some(Failure::Refused(error)),
            }
        }
        let Self { node, session, to_reader } = self;
        let closed = session.close().await;
        let answer = match (failure, closed) {
            // A reader that went away needs no last word: the session is closed and recorded.
            (Some(Failure::Gone), _) => return None,
            (Some(Failure::Refused(error)), _) => Err(refuse(data_error(error))),
            (None, Ok(receipt)) => receipt_shown(&node, &receipt)
                .await
                .map(|shown| admin::UseResponse { step: Some(Step::Receipt(shown)) })
                .map_err(refuse),
            (None, Err(refusal)) => Err(refuse(refusal)),
        };
        Some((to_reader, answer))
    }

    /// Sends as soon as the reader has room. One that has stopped reading keeps no session open that is over.
    async fn send(&mut self, step: Step) -> Result<(), Failure> {
        let answer = Ok(admin::UseResponse { step: Some(step) });
        tokio::select! {
            biased;
            reason = self.session.over() => Err(Failure::Refused(reason.into())),
            sent = self.to_reader.send(answer) => sent.map_err(|_| Failure::Gone),
        }
    }
}

enum Failure {
    Gone,
    Refused(DataError),
}

/// A receipt, with its signed form as it was stored.
pub async fn receipt_shown(node: &Node, receipt: &UseReceipt) -> Result<admin::UseReceipt, Error> {
    let key = receipt.session.to_string();
    let signed = node.store.read(move |store| store.get(Collection::Receipts, &key)).await?;
    let end = match &receipt.end {
        SessionEnd::Closed => String::new(),
        SessionEnd::Refused(refusal) => refusal.code.code.to_owned(),
    };
    Ok(admin::UseReceipt {
        session: receipt.session.to_string(),
        bytes: receipt.bytes_released,
        receipt: signed.map(|row| String::from_utf8_lossy(&row.value).into_owned()).unwrap_or_default(),
        end,
    })
}

/// A use as the connector takes it, with prefixes expanded.
pub async fn use_request(
    node: &Arc<Node>,
    request: &admin::UseRequest,
    actor: String,
) -> Result<UseRequest, Error> {
    let agreement = AgreementId::parse(&request.agreement)?;
    let key = agreement.clone();
    let held = node.store.read(move |store| records::agreement(store, &key)).await?;
    let held = records::found(held, &crate::driver::transfers::AGREEMENT_NOT_FOUND, agreement.as_str())?;
    let dataset: DatasetId = held.signed.agreement().target().clone();
    let optional = |text: &str| (!text.is_empty()).then(|| expand(text));
    Ok(UseRequest {
        agreement,
        dataset,
        actor,
        action: expand_action(&request.action)?,
        purpose: optional(&request.purpose),
        recipient: optional(&request.recipient),
        application: optional(&request.application),
    })
}

/// An action in full: bare names are ODRL's, `export` is ours.
pub fn expand_action(text: &str) -> Result<String, Error> {
    match text {
        "" => Err(bad_argument("an action is needed, e.g. read")),
        "export" => Ok(format!("{FL}export")),
        term if !term.contains(':') => Ok(format!("{ODRL}{term}")),
        term => Ok(expand(term)),
    }
}

/// A prefixed name in full; anything else stays as it is.
pub fn expand(text: &str) -> String {
    let known = text.split_once(':').and_then(|(prefix, name)| {
        let (_, namespace) = PREFIXES.iter().find(|(known, _)| *known == prefix)?;
        Some(format!("{namespace}{name}"))
    });
    known.unwrap_or_else(|| text.to_owned())
}
