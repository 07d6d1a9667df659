//! Apache Parquet, by the types that the file itself has.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use control_plane::ids::printable;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader as _;
use policy::refusal::Refusal;

use super::{BATCH_BYTES, BATCH_ROWS, MAX_COLUMNS, footer, malformed, too_large};
use crate::error::DataError;
use crate::transform::{Input, MAX_COLUMN_CHUNK_BYTES, MAX_FOOTER_BYTES, Whole};

/// The file's end: length of the description and magic.
const TAIL_BYTES: usize = 8;
/// Rows of one batch at least: rows that are large are still not decoded one by one.
const LEAST_ROWS: usize = 64;
/// Bytes of one batch once decoded. A dictionary may unfold far beyond what the file holds.
const MAX_BATCH_BYTES: usize = 128 << 20;

pub(super) struct Parquet {
    input: Whole,
    metadata: ArrowReaderMetadata,
}

impl Parquet {
    pub(super) fn open(input: Arc<dyn Input>) -> Result<Self, Refusal> {
        let measured = |source| DataError::Io { what: "measure", path: "the object".to_owned(), source };
        let size = input.size().map_err(|source| measured(source).into_refusal())?;
        let input = Whole { input, size };
        check_description(&input)?;
        // The types are those of Parquet itself: a schema of Arrow that is embedded beside could say others.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&input, options).map_err(|error| unread(&error))?;
        check_sizes(metadata.metadata())?;
        let columns = metadata.schema().fields().len();
        if columns == 0 {
            return Err(malformed("it has no column"));
        }
        if columns > MAX_COLUMNS {
            return Err(too_large(format!("{columns} columns, at most {MAX_COLUMNS}")));
        }
        Ok(Self { input, metadata })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.metadata.schema().clone()
    }

    pub(super) fn rows(&self) -> Option<u64> {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).ok()
    }

    pub(super) fn batches(
        self,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, Refusal>> + Send, Refusal> {
        let rows = batch_rows(self.metadata.metadata());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.input, self.metadata);
        let reader = builder.with_batch_size(rows).build().map_err(|error| unread(&error))?;
        Ok(Rows(Some(reader)))
    }
}

struct Rows(Option<ParquetRecordBatchReader>);

impl Iterator for Rows {
    type Item = Result<RecordBatch, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = match self.0.as_mut()?.next()? {
            Ok(batch) if batch.get_array_memory_size() > MAX_BATCH_BYTES => Err(too_large(format!(
                "{} rows have {} bytes",
                batch.num_rows(),
                batch.get_array_memory_size()
            ))),
            Ok(batch) => Ok(batch),
            Err(error) => Err(unread(&error)),
        };
        if read.is_err() {
            self.0 = None;
        }
        Some(read)
    }
}

fn check_description(input: &Whole) -> Result<(), Refusal> {
    let cannot = |error: parquet::errors::ParquetError| unread(&error);
    let start = input.size.checked_sub(TAIL_BYTES as u64).ok_or_else(|| malformed("it is too short"))?;
    let tail = input.get_bytes(start, TAIL_BYTES).map_err(cannot)?;
    if !tail.ends_with(b"PAR1") {
        return Err(malformed("it does not end as Parquet does"));
    }
    let length = tail.first_chunk::<4>().map_or(u32::MAX, |length| u32::from_le_bytes(*length));
    if u64::from(length) > MAX_FOOTER_BYTES {
        return Err(too_large(format!("a description of {length} bytes, at most {MAX_FOOTER_BYTES}")));
    }
    let start = start.checked_sub(u64::from(length)).ok_or_else(|| malformed("its description is cut"))?;
    footer::check(&input.get_bytes(start, length as usize).map_err(cannot)?)
}

/// What the library says of bytes that are another participant's, cut and cleaned.
fn unread(error: &dyn std::fmt::Display) -> Refusal {
    malformed(printable(&error.to_string()))
}

fn check_sizes(metadata: &ParquetMetaData) -> Result<(), Refusal> {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    for unpacked in columns.map(|column| column.uncompressed_size()) {
        if !(0..=MAX_COLUMN_CHUNK_BYTES).contains(&unpacked) {
            return Err(too_large(format!(
                "a column of a row group has {unpacked} bytes, at most {MAX_COLUMN_CHUNK_BYTES}"
            )));
        }
    }
    Ok(())
}

/// Rows that make about [`BATCH_BYTES`], by the row group with the largest rows.
fn batch_rows(metadata: &ParquetMetaData) -> usize {
    let largest = metadata.row_groups().iter().map(|group| {
        let bytes = u64::try_from(group.total_byte_size()).unwrap_or(0);
        bytes.checked_div(u64::try_from(group.num_rows()).unwrap_or(0)).unwrap_or(0)
    });
    let row_bytes = usize::try_from(largest.max().unwrap_or(0)).unwrap_or(usize::MAX).max(1);
    BATCH_BYTES.checked_div(row_bytes).unwrap_or(0).clamp(LEAST_ROWS, BATCH_ROWS)
}
