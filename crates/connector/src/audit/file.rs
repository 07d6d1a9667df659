//! The lines of an exported file: written and read in both forms.

use control_plane::{Refusal, UnixMillis};
use ledger::{Evidence, MAX_RECORD_BYTES};

use super::{Format, MALFORMED_EXPORT};
use crate::error::Error;

/// The columns of the CSV form. `record` is the canonical text that the leaf commits to; `at`, `kind` and `agreement` repeat
/// it for people; `proof` is the whole evidence as JSON.
const COLUMNS: [&str; 6] = ["index", "at", "kind", "agreement", "record", "proof"];

/// A record and its path, quoted twice at worst.
const MAX_LINE_BYTES: usize = 4 * MAX_RECORD_BYTES;

/// What stands before the first record.
pub fn head(format: Format) -> Result<Vec<u8>, Error> {
    match format {
        Format::Json => Ok(Vec::new()),
        Format::Csv => row(&COLUMNS),
    }
}

/// One record.
pub fn line(format: Format, evidence: &Evidence) -> Result<Vec<u8>, Error> {
    let proof = evidence.to_json().map_err(Error::ours)?;
    match format {
        Format::Json => Ok(format!("{proof}\n").into_bytes()),
        Format::Csv => {
            let [index, at, kind, agreement] = shown(evidence);
            row(&[&index, &at, &kind, &agreement, evidence.record.canonical(), &proof])
        }
    }
}

/// What the CSV form repeats of a record for people.
fn shown(evidence: &Evidence) -> [String; 4] {
    let record = &evidence.record;
    [
        evidence.index.to_string(),
        UnixMillis(record.at_millis()).to_string(),
        record.kind().to_owned(),
        record.subject().get("agreement").cloned().unwrap_or_default(),
    ]
}

fn row(fields: &[&str]) -> Result<Vec<u8>, Error> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(fields).map_err(Error::ours)?;
    writer.into_inner().map_err(|error| Error::ours(error.to_string()))
}

/// Hands every record of a file to `take`; what the CSV form repeats must be what the record says.
pub fn read(
    format: Format,
    bytes: &[u8],
    mut take: impl FnMut(Evidence) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match format {
        Format::Json => {
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                take(evidence(std::str::from_utf8(line).map_err(malformed)?)?)?;
            }
        }
        Format::Csv => {
            let mut reader = csv::Reader::from_reader(bytes);
            if reader.headers().map_err(malformed)?.iter().ne(COLUMNS) {
                return Err(malformed("the header is another one"));
            }
            for found in reader.records() {
                let found = found.map_err(malformed)?;
                let evidence = evidence(found.get(5).unwrap_or_default())?;
                let [index, at, kind, agreement] = shown(&evidence);
                let expected = [&index, &at, &kind, &agreement, evidence.record.canonical()];
                if found.iter().take(expected.len()).ne(expected) {
                    return Err(malformed(format!("row {index} says another thing than its proof")));
                }
                take(evidence)?;
            }
        }
    }
    Ok(())
}

fn evidence(text: &str) -> Result<Evidence, Refusal> {
    if text.len() > MAX_LINE_BYTES {
        return Err(malformed(format!("a record of {} bytes", text.len())));
    }
    Evidence::from_json(text).map_err(malformed)
}

fn malformed(cause: impl std::fmt::Display) -> Refusal {
    Refusal::new(&MALFORMED_EXPORT, cause.to_string())
}
