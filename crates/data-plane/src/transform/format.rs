//! Which format an object is in, and reading its bytes wherever they lie.

use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use policy::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::{DICOM, MALFORMED_DATA, TOO_LARGE_RECORD, UNKNOWN_FORMAT};
use crate::error::DataError;

/// Bytes of one record, in CSV and JSON: far beyond rows of tables, and what a missing quote may swallow.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// Read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// A format that transforms know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// RFC 4180 with a header row.
    Csv,
    /// An array of objects, or one object after another.
    Json,
    /// Apache Parquet with flat columns.
    Parquet,
    /// Medical images: named so that it is refused by name, and not as a table.
    Dicom,
}

impl Format {
    /// As declared, else by media type, else by the ending of the object's name.
    pub fn of(declared: Option<Self>, media_type: Option<&str>, name: &str) -> Result<Self, Refusal> {
        let by_type = |media_type: &str| {
            let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            match essence.as_str() {
                "text/csv" => Some(Self::Csv),
                "application/json"
                | "application/jsonl"
                | "application/x-ndjson"
                | "application/geo+json-seq" => Some(Self::Json),
                "application/vnd.apache.parquet" | "application/x-parquet" => Some(Self::Parquet),
                "application/dicom" => Some(Self::Dicom),
                _ => None,
            }
        };
        let by_name = || {
            let (_, ending) = name.rsplit_once('.')?;
            match ending.to_ascii_lowercase().as_str() {
                "csv" => Some(Self::Csv),
                "json" | "jsonl" | "ndjson" => Some(Self::Json),
                "parquet" => Some(Self::Parquet),
                "dcm" | "dicom" => Some(Self::Dicom),
                _ => None,
            }
        };
        match declared.or_else(|| media_type.and_then(by_type)).or_else(by_name) {
            Some(Self::Dicom) => Err(Refusal::new(&DICOM, format!("`{name}`"))),
            Some(known) => Ok(known),
            None => Err(Refusal::new(&UNKNOWN_FORMAT, format!("`{name}`"))),
        }
    }
}

/// Bytes that can be read at any place, and again.
pub trait Input: Send + Sync {
    /// All of them.
    fn size(&self) -> io::Result<u64>;

    /// Reads from `offset` on into `buffer`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Input for std::fs::File {
    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

impl Input for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut rest = self.get(start..).unwrap_or_default();
        rest.read(buffer)
    }
}

/// An input from a place on.
pub(crate) struct From {
    input: Arc<dyn Input>,
    offset: u64,
}

impl From {
    pub(super) const fn new(input: Arc<dyn Input>, offset: u64) -> Self {
        Self { input, offset }
    }
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(read as u64);
        Ok(read)
    }
}

/// What was read since the last record, and what went wrong.
#[derive(Default)]
struct Gauge {
    since: std::cell::Cell<usize>,
    failed: std::cell::Cell<Option<io::Error>>,
    exceeded: std::cell::Cell<bool>,
}

/// An input of which no record may be longer than [`MAX_RECORD_BYTES`]: parsers keep a record whole.
pub(super) struct Metered {
    from: From,
    gauge: Rc<Gauge>,
}

/// The record's end of a [`Metered`] input.
#[derive(Clone)]
pub(super) struct Meter(Rc<Gauge>);

impl Metered {
    pub(super) fn new(input: Arc<dyn Input>) -> (io::BufReader<Self>, Meter) {
        let gauge = Rc::new(Gauge::default());
        let metered = Self { from: From::new(input, 0), gauge: Rc::clone(&gauge) };
        (io::BufReader::with_capacity(BUFFER_BYTES, metered), Meter(gauge))
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What is in the buffers between here and the parser may belong to the next record.
        if self.gauge.since.get() > MAX_RECORD_BYTES + 2 * BUFFER_BYTES {
            self.gauge.exceeded.set(true);
            return Err(io::Error::other("a record is too long"));
        }
        match self.from.read(buffer) {
            Ok(read) => {
                self.gauge.since.set(self.gauge.since.get().saturating_add(read));
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.gauge.failed.set(Some(error));
                Err(kind.into())
            }
        }
    }
}

impl Meter {
    /// A record was read.
    pub(super) fn reset(&self) {
        self.0.since.set(0);
    }

    /// What a parser's error comes from.
    pub(super) fn error(&self, row: u64, parser: &dyn std::fmt::Display) -> DataError {
        if let Some(source) = self.0.failed.take() {
            return DataError::Io { what: "read", path: "the source".to_owned(), source };
        }
        if self.0.exceeded.get() {
            return Refusal::new(
                &TOO_LARGE_RECORD,
                format!("record {row}: more than {MAX_RECORD_BYTES} bytes"),
            )
            .into();
        }
        Refusal::new(&MALFORMED_DATA, format!("record {row}: {parser}")).into()
    }
}
