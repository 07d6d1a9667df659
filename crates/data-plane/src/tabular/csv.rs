//! CSV (RFC 4180 with a header). The first records tell each column's type; a later value of another type ends the
//! reading and is named by its line.
//!
//! Written with the `csv` crate's records rather than Arrow's reader: that one keeps a record of any length in memory,
//! repeats a row's data in its errors, and counts records where people count lines.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use control_plane::ids::printable;
use csv::{ReaderBuilder, StringRecord};
use policy::refusal::Refusal;

use super::{BATCH_BYTES, BATCH_ROWS, MAX_COLUMNS, OTHER_TYPE, malformed, too_large};
use crate::error::DataError;
use crate::transform::Input;

/// Records that tell the types of the columns, at most; also at most [`SAMPLE_BYTES`].
pub const SAMPLE_RECORDS: usize = 10_000;
/// Bytes of the records that tell the types: few enough that a reader may keep them and read on without a second read.
pub const SAMPLE_BYTES: usize = 4 << 20;
/// Bytes of one record: far beyond rows of tables, and what a missing quote may swallow.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// Read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Digits of a whole number that a float still holds exactly.
const EXACT_DIGITS: usize = 15;

pub(super) struct Csv {
    input: Arc<dyn Input>,
    delimiter: u8,
    schema: SchemaRef,
    kinds: Vec<Kind>,
}

impl Csv {
    pub(super) fn open(input: Arc<dyn Input>, delimiter: u8) -> Result<Self, Refusal> {
        let mut records = Records::new(&input, delimiter);
        let names = records.header()?;
        let mut candidates = vec![Candidates::default(); names.len()];
        let (mut seen, mut bytes) = (0_usize, 0_usize);
        while seen < SAMPLE_RECORDS && bytes < SAMPLE_BYTES && records.next()? {
            seen = seen.saturating_add(1);
            bytes = bytes.saturating_add(records.bytes());
            for (candidates, cell) in candidates.iter_mut().zip(&records.record) {
                candidates.see(cell);
            }
        }
        let kinds: Vec<Kind> = candidates.iter().map(Candidates::narrowest).collect();
        let field = |(name, kind): (&String, &Kind)| Field::new(name, kind.data_type(), *kind != Kind::Text);
        let fields: Vec<Field> = names.iter().zip(&kinds).map(field).collect();
        Ok(Self { input, delimiter, schema: Arc::new(Schema::new(fields)), kinds })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub(super) fn batches(self) -> impl Iterator<Item = Result<RecordBatch, Refusal>> + Send {
        let mut records = Records::new(&self.input, self.delimiter);
        let mut columns: Vec<Values> = self.kinds.iter().map(|kind| kind.values()).collect();
        let mut begun = false;
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            if !begun && let Err(refusal) = records.header() {
                ended = true;
                return Some(Err(refusal));
            }
            begun = true;
            let filled = fill(&mut records, &self.schema, &self.kinds, &mut columns);
            ended = !matches!(filled, Ok(Some(_)));
            filled.transpose()
        })
    }
}

/// The next batch; `None` at the end.
fn fill(
    records: &mut Records,
    schema: &SchemaRef,
    kinds: &[Kind],
    columns: &mut [Values],
) -> Result<Option<RecordBatch>, Refusal> {
    let (mut rows, mut bytes) = (0_usize, 0_usize);
    while rows < BATCH_ROWS && bytes < BATCH_BYTES && records.next()? {
        for (index, (values, cell)) in columns.iter_mut().zip(&records.record).enumerate() {
            if !values.push(cell) {
                let kind = kinds.get(index).map(Kind::name).unwrap_or_default();
                let name = schema.fields().get(index).map(|field| field.name().as_str()).unwrap_or_default();
                let detail = format!("line {}, column `{}`: no {kind}", records.line(), printable(name));
                return Err(Refusal::new(&OTHER_TYPE, detail));
            }
        }
        rows = rows.saturating_add(1);
        bytes = bytes.saturating_add(records.bytes());
    }
    if rows == 0 {
        return Ok(None);
    }
    let arrays = columns.iter_mut().map(Values::finish).collect();
    RecordBatch::try_new(schema.clone(), arrays).map(Some).map_err(|error| malformed(error.to_string()))
}

/// Records one after another, in memory that is used again.
struct Records {
    reader: csv::Reader<BufReader<Limited>>,
    record: StringRecord,
    gauge: Arc<Gauge>,
}

impl Records {
    fn new(input: &Arc<dyn Input>, delimiter: u8) -> Self {
        let gauge = Arc::new(Gauge::default());
        let limited = Limited { input: input.clone(), offset: 0, gauge: gauge.clone() };
        let limited = BufReader::with_capacity(BUFFER_BYTES, limited);
        let reader = ReaderBuilder::new().delimiter(delimiter).from_reader(limited);
        Self { reader, record: StringRecord::new(), gauge }
    }

    fn header(&mut self) -> Result<Vec<String>, Refusal> {
        let names = match self.reader.headers() {
            Ok(names) => names.iter().map(str::to_owned).collect::<Vec<_>>(),
            Err(error) => return Err(self.gauge.refusal(&error)),
        };
        self.gauge.since.store(0, Ordering::Relaxed);
        if names.is_empty() {
            return Err(malformed("there is no header"));
        }
        if names.len() > MAX_COLUMNS {
            return Err(too_large(format!("{} columns, at most {MAX_COLUMNS}", names.len())));
        }
        Ok(names)
    }

    /// Reads the next record; false at the end.
    fn next(&mut self) -> Result<bool, Refusal> {
        let read = self.reader.read_record(&mut self.record).map_err(|error| self.gauge.refusal(&error));
        self.gauge.since.store(0, Ordering::Relaxed);
        read
    }

    /// Where the record begins, as people count.
    fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    /// Bytes of the record, with what parts its fields.
    fn bytes(&self) -> usize {
        self.record.as_slice().len().saturating_add(self.record.len())
    }
}

/// What was read since the last record, and whether that was too much.
#[derive(Default)]
struct Gauge {
    since: AtomicUsize,
    exceeded: AtomicBool,
}

impl Gauge {
    fn refusal(&self, error: &csv::Error) -> Refusal {
        let line = error.position().map(|position| format!("line {}: ", position.line())).unwrap_or_default();
        if self.exceeded.load(Ordering::Relaxed) {
            return too_large(format!("{line}a record of more than {MAX_RECORD_BYTES} bytes"));
        }
        match error.kind() {
            csv::ErrorKind::Io(source) => {
                let source = io::Error::new(source.kind(), source.to_string());
                DataError::Io { what: "read", path: "the object".to_owned(), source }.into_refusal()
            }
            csv::ErrorKind::Utf8 { .. } => malformed(format!("{line}it is not UTF-8")),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                malformed(format!("{line}{len} fields, and the header has {expected_len}"))
            }
            _ => malformed(format!("{line}it is not CSV")),
        }
    }
}

/// An input of which no record may be longer than [`MAX_RECORD_BYTES`]: the parser keeps a record whole.
struct Limited {
    input: Arc<dyn Input>,
    offset: u64,
    gauge: Arc<Gauge>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What is in the buffer between here and the parser may belong to the next record.
        if self.gauge.since.load(Ordering::Relaxed) > MAX_RECORD_BYTES.saturating_add(BUFFER_BYTES) {
            self.gauge.exceeded.store(true, Ordering::Relaxed);
            return Err(io::Error::other("a record is too long"));
        }
        let read = self.input.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(read as u64);
        self.gauge.since.fetch_add(read, Ordering::Relaxed);
        Ok(read)
    }
}

/// What a column holds. An empty cell is no value, except in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Truth,
    Whole,
    Float,
    Date,
    Instant,
    Local,
    Text,
}

impl Kind {
    /// From the narrowest to the widest.
    const ALL: [Self; 7] =
        [Self::Truth, Self::Whole, Self::Float, Self::Date, Self::Instant, Self::Local, Self::Text];

    fn data_type(self) -> DataType {
        match self {
            Self::Truth => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Local => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Text => DataType::Utf8,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Truth => "`true` or `false`",
            Self::Whole => "whole number of 64 bits",
            Self::Float => "number",
            Self::Date => "date",
            Self::Instant => "date and time with an offset",
            Self::Local => "date and time without an offset",
            Self::Text => "text",
        }
    }

    fn holds(self, cell: &str) -> bool {
        match self {
            Self::Truth => truth(cell).is_some(),
            Self::Whole => whole(cell).is_some(),
            Self::Float => float(cell).is_some(),
            Self::Date => date(cell).is_some(),
            Self::Instant => instant(cell).is_some(),
            Self::Local => local(cell).is_some(),
            Self::Text => true,
        }
    }

    fn values(self) -> Values {
        match self {
            Self::Truth => Values::Truth(BooleanBuilder::new()),
            Self::Whole => Values::Whole(Int64Builder::new()),
            Self::Float => Values::Float(Float64Builder::new()),
            Self::Date => Values::Date(Date32Builder::new()),
            Self::Instant => {
                Values::Instant(TimestampMicrosecondBuilder::new().with_data_type(self.data_type()))
            }
            Self::Local => Values::Local(TimestampMicrosecondBuilder::new()),
            Self::Text => Values::Text(StringBuilder::new()),
        }
    }
}

/// The types that every cell so far has.
#[derive(Clone)]
struct Candidates {
    left: Vec<Kind>,
    any: bool,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { left: Kind::ALL.to_vec(), any: false }
    }
}

impl Candidates {
    fn see(&mut self, cell: &str) {
        if !cell.is_empty() {
            self.any = true;
            self.left.retain(|kind| kind.holds(cell));
        }
    }

    fn narrowest(&self) -> Kind {
        self.left.first().copied().filter(|_| self.any).unwrap_or(Kind::Text)
    }
}

/// The cells of one column of a batch.
enum Values {
    Truth(BooleanBuilder),
    Whole(Int64Builder),
    Float(Float64Builder),
    Date(Date32Builder),
    Instant(TimestampMicrosecondBuilder),
    Local(TimestampMicrosecondBuilder),
    Text(StringBuilder),
}

impl Values {
    /// Whether the cell has the column's type.
    fn push(&mut self, cell: &str) -> bool {
        /// An empty cell has no value; any other must have one.
        fn value<T>(cell: &str, read: fn(&str) -> Option<T>) -> Option<Option<T>> {
            if cell.is_empty() { Some(None) } else { read(cell).map(Some) }
        }
        match self {
            Self::Truth(values) => value(cell, truth).map(|value| values.append_option(value)),
            Self::Whole(values) => value(cell, whole).map(|value| values.append_option(value)),
            Self::Float(values) => value(cell, float).map(|value| values.append_option(value)),
            Self::Date(values) => value(cell, date).map(|value| values.append_option(value)),
            Self::Instant(values) => value(cell, instant).map(|value| values.append_option(value)),
            Self::Local(values) => value(cell, local).map(|value| values.append_option(value)),
            Self::Text(values) => {
                values.append_value(cell);
                Some(())
            }
        }
        .is_some()
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Truth(values) => Arc::new(values.finish()),
            Self::Whole(values) => Arc::new(values.finish()),
            Self::Float(values) => Arc::new(values.finish()),
            Self::Date(values) => Arc::new(values.finish()),
            Self::Instant(values) | Self::Local(values) => Arc::new(values.finish()),
            Self::Text(values) => Arc::new(values.finish()),
        }
    }
}

fn truth(cell: &str) -> Option<bool> {
    if cell.eq_ignore_ascii_case("true") {
        Some(true)
    } else {
        cell.eq_ignore_ascii_case("false").then_some(false)
    }
}

/// Digits without leading zeros: `007` is a name, not a number, and `-0` would come back as another text.
fn is_whole(digits: &str) -> bool {
    digits == "0" || (!digits.starts_with('0') && !digits.is_empty() && is_digits(digits))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn whole(cell: &str) -> Option<i64> {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    (is_whole(digits) && cell != "-0").then(|| cell.parse().ok()).flatten()
}

fn float(cell: &str) -> Option<f64> {
    let unsigned = cell.strip_prefix('-').unwrap_or(cell);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent_is_one = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && is_digits(digits)
    });
    let mantissa_is_one = match mantissa.split_once('.') {
        Some((before, after)) => is_whole(before) && !after.is_empty() && is_digits(after),
        // A whole number that a float cannot hold is an identifier, or a count that must stay exact.
        None => is_whole(mantissa) && (exponent.is_some() || mantissa.len() <= EXACT_DIGITS),
    };
    let number = cell.parse::<f64>().ok().filter(|_| mantissa_is_one && exponent_is_one)?;
    number.is_finite().then_some(number)
}

/// `2026-11-28`; anything that continues is another type.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    matches!(*parts.as_slice(), [year, month, day] if year.len() == 4 && month.len() == 2 && day.len() == 2
        && [year, month, day].iter().all(|part| is_digits(part)))
}

fn date(cell: &str) -> Option<i32> {
    let date: jiff::civil::Date = is_date(cell).then(|| cell.parse().ok()).flatten()?;
    // Days since 1970-01-01.
    let days = date.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).ok()?;
    Some(days.get_days())
}

/// The time of `2026-11-28T08:30:00.5Z`, if the text is a date and a time; a leap second is not told from the one before.
fn time_of(cell: &str) -> Option<&str> {
    let time = cell.get(11..)?;
    let parted = matches!(cell.as_bytes().get(10), Some(b'T' | b' '));
    let seconds = time.get(5..8);
    let written = time.bytes().all(|byte| byte.is_ascii_digit() || b":.+-Z".contains(&byte));
    (parted && written && is_date(cell.get(..10)?) && seconds != Some(":60")).then_some(time)
}

/// Microseconds since 1970, of a time with its offset.
fn instant(cell: &str) -> Option<i64> {
    let time = time_of(cell)?;
    let instant: jiff::Timestamp = time.contains(['Z', '+', '-']).then(|| cell.parse().ok()).flatten()?;
    (instant.subsec_nanosecond() % 1_000 == 0).then(|| instant.as_microsecond())
}

/// Microseconds since 1970 on the clock of wherever it was written.
fn local(cell: &str) -> Option<i64> {
    let time = time_of(cell)?;
    let written: jiff::civil::DateTime =
        (!time.contains(['Z', '+', '-'])).then(|| cell.parse().ok()).flatten()?;
    let instant = written.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    (instant.subsec_nanosecond() % 1_000 == 0).then(|| instant.as_microsecond())
}
