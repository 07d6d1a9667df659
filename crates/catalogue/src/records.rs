//! The durable forms of envelopes, heads and entries: versioned RFC 8785 JSON, checked again when read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::Refusal;
use control_plane::ids::ParticipantId;
use serde_json::{Map, Value, json};

use crate::envelope::{Envelope, instant, text};
use crate::hash::Digest;
use crate::log::{DAMAGED_RECORD, Entry, Head, Renewal};
use crate::scope::SubjectBase;

const VERSION: u64 = 1;

pub(crate) fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let certificates: Vec<String> =
        envelope.certificates.iter().map(|der| URL_SAFE_NO_PAD.encode(der)).collect();
    write(json!({
        "version": VERSION,
        "header": envelope.header,
        "content": String::from_utf8_lossy(&envelope.content),
        "certificates": certificates,
    }))
}

pub(crate) fn decode_envelope(bytes: &[u8]) -> Result<Envelope, Refusal> {
    let object = read(bytes)?;
    let certificates =
        object.get("certificates").and_then(Value::as_array).ok_or_else(|| damaged("certificates"))?;
    let der = |value: &Value| value.as_str().and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    Ok(Envelope {
        header: text(&object, "header")?.to_owned(),
        content: text(&object, "content")?.as_bytes().to_vec(),
        certificates: certificates
            .iter()
            .map(|value| der(value).ok_or_else(|| damaged("certificates")))
            .collect::<Result<_, _>>()?,
    })
}

pub(crate) fn encode_head(head: &Head) -> Vec<u8> {
    let mut object = json!({
        "version": VERSION,
        "publisher": head.publisher.as_str(),
        "epoch": head.epoch,
        "seq": head.seq.to_string(),
        "hash": head.hash.to_string(),
        "live": head.live.to_string(),
        "epochCertificateNotBefore": head.epoch_certificate_not_before.to_string(),
        "frozen": head.frozen,
    });
    if let (Value::Object(members), Some(begun)) = (&mut object, head.begun) {
        members.insert("begun".into(), begun.to_string().into());
    }
    if let (Value::Object(members), Some(renewal)) = (&mut object, &head.renewal) {
        members.insert("renewedAtSeq".into(), renewal.seq.to_string().into());
        members.insert("renewedUntil".into(), renewal.expires.to_string().into());
    }
    write(object)
}

pub(crate) fn decode_head(bytes: &[u8]) -> Result<Head, Refusal> {
    let object = read(bytes)?;
    let renewal = if object.contains_key("renewedAtSeq") {
        Some(Renewal { seq: number(&object, "renewedAtSeq")?, expires: instant(&object, "renewedUntil")? })
    } else {
        None
    };
    Ok(Head {
        publisher: ParticipantId::parse(text(&object, "publisher")?)?,
        epoch: epoch(&object)?,
        seq: number(&object, "seq")?,
        hash: Digest::parse(text(&object, "hash")?)?,
        live: number(&object, "live")?,
        epoch_certificate_not_before: instant(&object, "epochCertificateNotBefore")?,
        begun: if object.contains_key("begun") { Some(instant(&object, "begun")?) } else { None },
        renewal,
        frozen: object.get("frozen").and_then(Value::as_bool).ok_or_else(|| damaged("frozen"))?,
    })
}

pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    write(json!({
        "version": VERSION,
        "epoch": entry.epoch,
        "seq": entry.seq.to_string(),
        "withdrawn": entry.withdrawn,
        "issued": entry.issued.to_string(),
        "expires": entry.expires.to_string(),
        "subjectBase": entry.subject_base.as_str(),
    }))
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, Refusal> {
    let object = read(bytes)?;
    Ok(Entry {
        epoch: epoch(&object)?,
        seq: number(&object, "seq")?,
        withdrawn: object.get("withdrawn").and_then(Value::as_bool).ok_or_else(|| damaged("withdrawn"))?,
        issued: instant(&object, "issued")?,
        expires: instant(&object, "expires")?,
        subject_base: SubjectBase::parse(text(&object, "subjectBase")?)?,
    })
}

fn write(value: Value) -> Vec<u8> {
    serde_jcs::to_vec(&value).unwrap_or_else(|_| value.to_string().into_bytes())
}

fn read(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) if object.get("version").and_then(Value::as_u64) == Some(VERSION) => {
            Ok(object)
        }
        _ => Err(damaged("version")),
    }
}

fn number(object: &Map<String, Value>, name: &str) -> Result<u64, Refusal> {
    text(object, name)?.parse().map_err(|_| damaged(name))
}

fn epoch(object: &Map<String, Value>) -> Result<u32, Refusal> {
    let epoch = object.get("epoch").and_then(Value::as_u64).and_then(|epoch| u32::try_from(epoch).ok());
    epoch.ok_or_else(|| damaged("epoch"))
}

fn damaged(what: &str) -> Refusal {
    Refusal::new(&DAMAGED_RECORD, what.to_owned())
}
