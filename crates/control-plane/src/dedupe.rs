//! One rule for repeated messages: the key is peer and message id, the body decides what a second arrival is.

use policy::refusal::Refusal;

use crate::digest::Digest;
use crate::ids::MessageId;

policy::refusal_codes! {
    MESSAGE_ID_REUSED = "message/message-id-reused", Input,
        "this message id was already used for another message",
        "此訊息識別碼已用於另一則訊息", "此消息标识符已用于另一条消息",
        clause "proto/fairlead/dsp: message id", next "send a new message under a new id, and repeat a message unchanged";
}

/// What an arriving message is, given what was accepted before under the same peer and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not seen before: act on it.
    New,
    /// Accepted before: answer as then, and change nothing.
    Repeat,
}

/// Compares a message's body with the one `accepted` earlier from the same peer under the same id, if any.
///
/// # Errors
/// [`MESSAGE_ID_REUSED`] if the body differs.
pub fn arrival(id: &MessageId, body: &Digest, accepted: Option<&Digest>) -> Result<Arrival, Refusal> {
    match accepted {
        None => Ok(Arrival::New),
        Some(earlier) if earlier == body => Ok(Arrival::Repeat),
        Some(_) => Err(Refusal::new(&MESSAGE_ID_REUSED, format!("`{id}`"))),
    }
}

/// What was accepted before under this id. A derived id names a body, not an act: a peer that gives its messages no
/// ids may well suspend twice in the same words, so that only its last message can be a repeat.
pub fn known<'a, T>(id: &MessageId, accepted: &'a [T], id_of: impl Fn(&T) -> &MessageId) -> Option<&'a T> {
    if id.is_derived() {
        return accepted.last().filter(|last| id_of(last) == id);
    }
    accepted.iter().find(|earlier| id_of(earlier) == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_cases() {
        let id = MessageId::parse("m").unwrap();
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        assert_eq!(arrival(&id, &one, None), Ok(Arrival::New));
        assert_eq!(arrival(&id, &one, Some(&one)), Ok(Arrival::Repeat));
        assert_eq!(arrival(&id, &one, Some(&other)).unwrap_err().code, &MESSAGE_ID_REUSED);
    }

    #[test]
    fn a_derived_id_repeats_only_the_last_message() {
        let derived = MessageId::derived(&Digest::of(b"1"));
        let named = MessageId::parse("m").unwrap();
        let accepted = [derived.clone(), named.clone()];
        assert_eq!(known(&named, &accepted, |id| id), Some(&named));
        assert_eq!(known(&derived, &accepted, |id| id), None);
        assert_eq!(known(&derived, &accepted[..1], |id| id), Some(&derived));
    }
}
