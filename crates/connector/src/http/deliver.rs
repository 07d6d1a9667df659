//! Sends one queued message over HTTP, and says how that ended in the outbox's words.

use std::sync::Arc;

use control_plane::ids::{CallbackAddress, ConsumerPid, ParticipantId, ProviderPid};
use control_plane::{Fault, Refusal, durable};
use dsp::negotiation::Post;
use dsp::{Speaking, below};
use proto::status::RemoteRefusal;
use serde_json::Value;
use store::OutboxEntry;

use super::client::{self, Answer};
use crate::driver::outbox::{Delivered, Undone};
use crate::driver::{negotiations, transfers};
use crate::error::Error;
use crate::node::Node;

/// A message ready to be posted.
struct Ready {
    post: Post,
    /// The names of the process that the message itself carries; an opening one lacks the receiver's.
    provider_pid: Option<String>,
    consumer_pid: Option<String>,
}

/// Sends `entry` to the peer's `address`.
///
/// # Errors
/// Only what is wrong on our side; the peer's no is the inner result.
pub async fn send(
    node: &Arc<Node>,
    entry: &OutboxEntry,
    peer: &ParticipantId,
    address: &CallbackAddress,
) -> Result<Result<Delivered, Undone>, Error> {
    node.require_not_suspended(peer)?;
    let config = node.config.load_full();
    let Some(settings) = &config.dsp_http else {
        return Ok(Err(undone(&Refusal::new(&super::NOT_SPOKEN, ""), Fault::Unavailable)));
    };
    let ready = match written(node, entry, peer).await {
        Ok(ready) => ready,
        Err(Error::Refused(refusal)) if refusal.code == &dsp::policy::NOT_CARRIED => {
            return Ok(Err(undone(&refusal, refusal.code.fault)));
        }
        Err(error) => return Err(error),
    };
    debug_assert_eq!(dsp::conform::check(&ready.post.body), Ok(()), "what is sent keeps to the schemas");
    let url = below(address.as_str(), &ready.post.path);
    let body = serde_json::to_vec(&ready.post.body).map_err(Error::ours)?;
    match client::post(node, settings, peer, &url, body, client::MAX_ANSWER_BYTES).await {
        Ok(answer) => Ok(outcome(ready, &answer)),
        Err(error) => {
            let refusal = error.into_refusal();
            // Whatever else keeps us from calling may pass.
            let fault = match refusal.code.fault {
                Fault::Identity => Fault::Identity,
                Fault::Input => Fault::Input,
                _ => Fault::Unavailable,
            };
            Ok(Err(undone(&refusal, fault)))
        }
    }
}

async fn written(node: &Arc<Node>, entry: &OutboxEntry, peer: &ParticipantId) -> Result<Ready, Error> {
    let damaged = |error: durable::DurableError| Error::damaged(&entry.id, error);
    let names = super::names(node, peer)?;
    if entry.kind == negotiations::OUTBOX_KIND {
        let message = durable::decode_negotiation_message(&entry.body).map_err(damaged)?;
        let role = negotiations::get(node, &entry.lane).await?.role();
        return Ok(Ready {
            post: dsp::negotiation::write(&message, Speaking { names: &names, role })?,
            provider_pid: message.provider_pid().map(ProviderPid::to_string),
            consumer_pid: message.consumer_pid().map(ConsumerPid::to_string),
        });
    }
    let message = durable::decode_transfer_message(&entry.body).map_err(damaged)?;
    let role = transfers::get(node, &entry.lane).await?.role();
    Ok(Ready {
        post: dsp::transfer::write(&message, Speaking { names: &names, role }),
        provider_pid: message.provider_pid().map(ProviderPid::to_string),
        consumer_pid: Some(message.consumer_pid().to_string()),
    })
}

fn outcome(ready: Ready, answer: &Answer) -> Result<Delivered, Undone> {
    let value = serde_json::from_slice::<Value>(&answer.body).unwrap_or(Value::Null);
    if !(200..300).contains(&answer.status) {
        let (code, reason) = dsp::error::read(&value);
        let text = if reason.is_empty() { format!("HTTP {}", answer.status) } else { reason };
        let told = RemoteRefusal {
            code,
            fault: fault(answer.status),
            text,
            detail: format!("HTTP {}", answer.status),
            next: String::new(),
        };
        return Err(Undone { told });
    }
    // Only the answer to an opening tells something new; the body of any other is unspecified.
    let told = dsp::negotiation::read_pids(&value);
    let told = |pick: fn((&str, &str)) -> String| told.map(pick);
    let provider = ready.provider_pid.or_else(|| told(|(provider, _)| provider.to_owned()));
    let consumer = ready.consumer_pid.or_else(|| told(|(_, consumer)| consumer.to_owned()));
    match (provider, consumer) {
        (Some(provider_pid), Some(consumer_pid)) => Ok(Delivered::Process { provider_pid, consumer_pid }),
        (None, _) | (_, None) => {
            Err(undone(&Refusal::new(&client::BAD_ANSWER, "the process is not named"), Fault::Unavailable))
        }
    }
}

/// What a status means for another attempt: any 4xx is the peer's final word, but for those that say "later".
const fn fault(status: u16) -> Fault {
    match status {
        401 | 403 => Fault::Identity,
        404 => Fault::NotFound,
        408 | 425 | 429 => Fault::Unavailable,
        400..=499 => Fault::State,
        _ => Fault::Unavailable,
    }
}

fn undone(refusal: &Refusal, fault: Fault) -> Undone {
    let told = RemoteRefusal {
        code: refusal.code.code.to_owned(),
        fault,
        text: refusal.code.en.to_owned(),
        detail: refusal.detail.clone(),
        next: refusal.code.next.to_owned(),
    };
    Undone { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (status, expected) in [
            (400, Fault::State),
            (401, Fault::Identity),
            (404, Fault::NotFound),
            (409, Fault::State),
            (429, Fault::Unavailable),
            (500, Fault::Unavailable),
            (503, Fault::Unavailable),
            (302, Fault::Unavailable),
        ] {
            assert_eq!(fault(status), expected, "{status}");
        }
    }
}
