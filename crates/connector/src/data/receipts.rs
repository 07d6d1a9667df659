//! The signed receipt of a use session: what it released, and why it ended.

use data_plane::{SessionEnd, UseReceipt};
use serde::Serialize;

use crate::error::Error;

/// The signed receipt of a session; the durable form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptJson<'a> {
    version: u32,
    session: &'a str,
    agreement: &'a str,
    actor: &'a str,
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a str>,
    objects: Vec<ReceiptObject>,
    bytes: String,
    opened: String,
    closed: String,
    /// Why it ended; absent where its user closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptObject {
    object: String,
    digest: String,
    bytes: String,
}

/// What is signed about a session that has ended.
pub(super) fn payload(receipt: &UseReceipt) -> Result<Vec<u8>, Error> {
    let json = ReceiptJson {
        version: 1,
        session: receipt.session.as_str(),
        agreement: receipt.request.agreement.as_str(),
        actor: &receipt.request.actor,
        action: &receipt.request.action,
        purpose: receipt.request.purpose.as_deref(),
        recipient: receipt.request.recipient.as_deref(),
        application: receipt.request.application.as_deref(),
        objects: receipt
            .objects
            .iter()
            .map(|object| ReceiptObject {
                object: object.object.to_string(),
                digest: object.digest.to_string(),
                bytes: object.bytes_released.to_string(),
            })
            .collect(),
        bytes: receipt.bytes_released.to_string(),
        opened: receipt.opened.to_string(),
        closed: receipt.closed.to_string(),
        end: match &receipt.end {
            SessionEnd::Closed => None,
            SessionEnd::Refused(refusal) => Some(refusal.code.code),
        },
    };
    serde_jcs::to_vec(&json).map_err(Error::ours)
}
