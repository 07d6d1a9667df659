//! Parquet with flat columns: batches in, row groups out; columns that no step needs are not read.

use std::io::{BufReader, Write};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, LargeStringArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};
use policy::refusal::Refusal;

use super::cell::{Cell, Column, Row};
use super::declaration::MAX_COLUMNS;
use super::format::{From, Input};
use super::pipeline::{bad_value, wrong_type};
use super::{MALFORMED_DATA, TOO_LARGE_RECORD, Table, TableWriter, no_output};
use crate::error::DataError;

/// Rows decoded at once.
const BATCH_ROWS: usize = 1024;
/// Rows of one group that is written; with [`GROUP_BYTES`] what a writer keeps in memory.
const GROUP_ROWS: usize = 64 * 1024;
const GROUP_BYTES: usize = 32 << 20;
/// One column of one row group, unpacked: a page of it is in memory at once, and pages are no larger.
pub const MAX_COLUMN_CHUNK_BYTES: i64 = 128 << 20;
/// The description at the file's end: thousands of row groups.
pub const MAX_FOOTER_BYTES: u64 = 16 << 20;
/// The file's end: length of the description and magic.
const TAIL_BYTES: usize = 8;

/// An input as the parquet library reads it.
#[derive(Clone)]
pub(crate) struct Whole {
    pub(crate) input: Arc<dyn Input>,
    pub(crate) size: u64,
}

pub(super) struct ParquetTable {
    input: Whole,
    metadata: ArrowReaderMetadata,
    columns: Vec<Column>,
}

impl ParquetTable {
    pub(super) fn open(input: Arc<dyn Input>) -> Result<Self, DataError> {
        let size = input.size().map_err(|source| DataError::Io {
            what: "measure",
            path: "the source".to_owned(),
            source,
        })?;
        let input = Whole { input, size };
        input.check_footer()?;
        // The types are those of Parquet itself: a schema of Arrow that is embedded beside could say others.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&input, options).map_err(|error| malformed(&error))?;
        check_sizes(metadata.metadata())?;
        let fields = metadata.schema().fields();
        if fields.is_empty() || fields.len() > MAX_COLUMNS {
            return Err(Refusal::new(&TOO_LARGE_RECORD, format!("{} columns", fields.len())).into());
        }
        let column =
            |field: &Arc<Field>| Column { name: field.name().clone(), kind: Some(field.data_type().clone()) };
        let columns: Vec<Column> = fields.iter().map(column).collect();
        let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != columns.len() {
            return Err(malformed(&"two columns have one name").into());
        }
        Ok(Self { input, metadata, columns })
    }
}

impl Table for ParquetTable {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn each(
        &self,
        wanted: &[bool],
        take: &mut dyn FnMut(&mut Row) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let places: Vec<usize> =
            wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(index, _)| index).collect();
        for index in &places {
            if let Some(Column { name, kind: Some(kind) }) = self.columns.get(*index)
                && !is_flat(kind)
            {
                return Err(wrong_type(name, &format!("{kind} is not understood; drop the column")).into());
            }
        }
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), places.iter().copied());
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.input.clone(), self.metadata.clone());
        let batches = builder
            .with_batch_size(BATCH_ROWS)
            .with_projection(mask)
            .build()
            .map_err(|error| malformed(&error))?;
        let mut row = Row::default();
        for batch in batches {
            let batch = batch.map_err(|error| malformed(&error))?;
            for index in 0..batch.num_rows() {
                row.number = row.number.saturating_add(1);
                row.cells.resize_with(self.columns.len(), Cell::default);
                for (place, array) in places.iter().zip(batch.columns()) {
                    if let Some(cell) = row.cells.get_mut(*place) {
                        read(array, index, cell);
                    }
                }
                take(&mut row)?;
            }
        }
        Ok(())
    }

    fn writer<'a>(
        &self,
        columns: &[Column],
        output: &'a mut (dyn Write + Send),
    ) -> Result<Box<dyn TableWriter + 'a>, DataError> {
        let mut fields = Vec::with_capacity(columns.len());
        for column in columns {
            let kind = column.kind.clone().unwrap_or(DataType::Utf8);
            if !is_flat(&kind) {
                return Err(
                    wrong_type(&column.name, &format!("{kind} is not understood; drop the column")).into()
                );
            }
            fields.push(Field::new(column.name.as_str(), kind, true));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        // The same rows make the same bytes: nothing of the version or the source's own notes is in them.
        let properties = WriterProperties::builder()
            .set_created_by("fairlead".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(output, Arc::clone(&schema), options).map_err(no_output)?;
        let rows = vec![Vec::with_capacity(BATCH_ROWS); columns.len()];
        Ok(Box::new(ParquetOut { writer, schema, columns: rows, first: 0, rows: 0 }))
    }
}

struct ParquetOut<'a> {
    writer: ArrowWriter<&'a mut (dyn Write + Send)>,
    schema: SchemaRef,
    /// The rows that are not written yet, by column.
    columns: Vec<Vec<Cell>>,
    /// Number of the first of them.
    first: u64,
    rows: usize,
}

impl ParquetOut<'_> {
    fn write_batch(&mut self) -> Result<(), DataError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (field, cells) in self.schema.fields().iter().zip(&self.columns) {
            let array = array(field.data_type(), cells).ok_or_else(|| {
                bad_value(field.name(), self.first, "this or a later value leaves its type")
            })?;
            arrays.push(array);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(no_output)?;
        self.writer.write(&batch).map_err(no_output)?;
        self.columns.iter_mut().for_each(Vec::clear);
        self.rows = 0;
        Ok(())
    }
}

impl TableWriter for ParquetOut<'_> {
    fn row(&mut self, row: &Row) -> Result<(), DataError> {
        if self.rows == 0 {
            self.first = row.number;
        }
        for (column, cell) in self.columns.iter_mut().zip(&row.cells) {
            column.push(cell.clone());
        }
        self.rows = self.rows.saturating_add(1);
        if self.rows >= BATCH_ROWS { self.write_batch() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<(), DataError> {
        self.write_batch()?;
        self.writer.close().map(drop).map_err(no_output)
    }
}

/// Types that are one value of ours, and back.
fn is_flat(kind: &DataType) -> bool {
    kind.is_integer()
        || matches!(
            kind,
            DataType::Boolean
                | DataType::Float32
                | DataType::Float64
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Date32
                | DataType::Timestamp(..)
        )
}

fn read(array: &ArrayRef, index: usize, cell: &mut Cell) {
    if array.is_null(index) {
        *cell = Cell::Null;
        return;
    }
    fn at<T: ArrowPrimitiveType>(array: &ArrayRef, index: usize) -> T::Native {
        array.as_primitive::<T>().value(index)
    }
    *cell = match array.data_type() {
        DataType::Utf8 => return cell.set_text(array.as_string::<i32>().value(index)),
        DataType::LargeUtf8 => return cell.set_text(array.as_string::<i64>().value(index)),
        DataType::Boolean => Cell::Bool(array.as_boolean().value(index)),
        DataType::Int8 => Cell::Int(at::<Int8Type>(array, index).into()),
        DataType::Int16 => Cell::Int(at::<Int16Type>(array, index).into()),
        DataType::Int32 => Cell::Int(at::<Int32Type>(array, index).into()),
        DataType::Int64 => Cell::Int(at::<Int64Type>(array, index).into()),
        DataType::UInt8 => Cell::Int(at::<UInt8Type>(array, index).into()),
        DataType::UInt16 => Cell::Int(at::<UInt16Type>(array, index).into()),
        DataType::UInt32 => Cell::Int(at::<UInt32Type>(array, index).into()),
        DataType::UInt64 => Cell::Int(at::<UInt64Type>(array, index).into()),
        // Through its shortest text, so that 0.1 is the number that CSV and JSON have.
        DataType::Float32 => {
            let value = at::<Float32Type>(array, index);
            Cell::Float(value.to_string().parse().unwrap_or_else(|_| value.into()))
        }
        DataType::Float64 => Cell::Float(at::<Float64Type>(array, index)),
        DataType::Date32 => Cell::Date(at::<Date32Type>(array, index)),
        DataType::Timestamp(unit, _) => {
            let value = match unit {
                TimeUnit::Second => at::<TimestampSecondType>(array, index),
                TimeUnit::Millisecond => at::<TimestampMillisecondType>(array, index),
                TimeUnit::Microsecond => at::<TimestampMicrosecondType>(array, index),
                TimeUnit::Nanosecond => at::<TimestampNanosecondType>(array, index),
            };
            Cell::Instant(value, *unit)
        }
        // Others were refused before the first batch.
        _ => Cell::Null,
    };
}

/// A column of cells; `None` if one does not fit the type.
fn array(kind: &DataType, cells: &[Cell]) -> Option<ArrayRef> {
    fn ints<T: ArrowPrimitiveType>(cells: &[Cell]) -> Option<PrimitiveArray<T>>
    where
        T::Native: TryFrom<i128>,
    {
        values(cells, |cell| match cell {
            Cell::Int(value) => T::Native::try_from(*value).ok(),
            _ => None,
        })
        .map(|values| values.into_iter().collect::<PrimitiveArray<T>>())
    }
    fn instants<T: ArrowPrimitiveType<Native = i64>>(cells: &[Cell]) -> Option<PrimitiveArray<T>> {
        values(cells, |cell| match cell {
            Cell::Instant(value, _) => Some(*value),
            _ => None,
        })
        .map(|values| values.into_iter().collect::<PrimitiveArray<T>>())
    }
    let float = |cell: &Cell| match cell {
        Cell::Float(value) => Some(*value),
        Cell::Int(value) => Some(*value as f64),
        _ => None,
    };
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => Some(text.clone()),
        _ => None,
    };
    Some(match kind {
        DataType::Boolean => Arc::new(BooleanArray::from(values(cells, |cell| match cell {
            Cell::Bool(value) => Some(*value),
            _ => None,
        })?)),
        DataType::Utf8 => Arc::new(StringArray::from(values(cells, text)?)),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from(values(cells, text)?)),
        DataType::Int8 => Arc::new(ints::<Int8Type>(cells)?),
        DataType::Int16 => Arc::new(ints::<Int16Type>(cells)?),
        DataType::Int32 => Arc::new(ints::<Int32Type>(cells)?),
        DataType::Int64 => Arc::new(ints::<Int64Type>(cells)?),
        DataType::UInt8 => Arc::new(ints::<UInt8Type>(cells)?),
        DataType::UInt16 => Arc::new(ints::<UInt16Type>(cells)?),
        DataType::UInt32 => Arc::new(ints::<UInt32Type>(cells)?),
        DataType::UInt64 => Arc::new(ints::<UInt64Type>(cells)?),
        DataType::Float32 => {
            let narrow = |cell: &Cell| float(cell).map(|value| value as f32);
            Arc::new(values(cells, narrow)?.into_iter().collect::<PrimitiveArray<Float32Type>>())
        }
        DataType::Float64 => {
            Arc::new(values(cells, float)?.into_iter().collect::<PrimitiveArray<Float64Type>>())
        }
        DataType::Date32 => {
            let day = |cell: &Cell| match cell {
                Cell::Date(days) => Some(*days),
                _ => None,
            };
            Arc::new(values(cells, day)?.into_iter().collect::<PrimitiveArray<Date32Type>>())
        }
        DataType::Timestamp(unit, zone) => match unit {
            TimeUnit::Second => {
                Arc::new(instants::<TimestampSecondType>(cells)?.with_timezone_opt(zone.clone()))
            }
            TimeUnit::Millisecond => {
                Arc::new(instants::<TimestampMillisecondType>(cells)?.with_timezone_opt(zone.clone()))
            }
            TimeUnit::Microsecond => {
                Arc::new(instants::<TimestampMicrosecondType>(cells)?.with_timezone_opt(zone.clone()))
            }
            TimeUnit::Nanosecond => {
                Arc::new(instants::<TimestampNanosecondType>(cells)?.with_timezone_opt(zone.clone()))
            }
        },
        _ => return None,
    })
}

/// Each value as `fit` has it, nulls as they are; `None` if one does not fit.
fn values<T>(cells: &[Cell], fit: impl Fn(&Cell) -> Option<T>) -> Option<Vec<Option<T>>> {
    cells.iter().map(|cell| if *cell == Cell::Null { Some(None) } else { fit(cell).map(Some) }).collect()
}

/// What a file says of its sizes is held against the bounds before anything of it is unpacked.
fn check_sizes(metadata: &ParquetMetaData) -> Result<(), Refusal> {
    for group in metadata.row_groups() {
        for column in group.columns() {
            let unpacked = column.uncompressed_size();
            if !(0..=MAX_COLUMN_CHUNK_BYTES).contains(&unpacked) {
                let detail =
                    format!("a column of a row group has {unpacked} bytes, at most {MAX_COLUMN_CHUNK_BYTES}");
                return Err(Refusal::new(&TOO_LARGE_RECORD, detail));
            }
        }
    }
    Ok(())
}

impl Whole {
    fn check_footer(&self) -> Result<(), DataError> {
        let start = self.size.checked_sub(TAIL_BYTES as u64).ok_or_else(|| malformed(&"too short"))?;
        let tail = self.get_bytes(start, TAIL_BYTES).map_err(|error| malformed(&error))?;
        if !tail.ends_with(b"PAR1") {
            return Err(malformed(&"it does not end as Parquet does").into());
        }
        let length = tail.first_chunk::<4>().map_or(u32::MAX, |length| u32::from_le_bytes(*length));
        if u64::from(length) > MAX_FOOTER_BYTES {
            return Err(Refusal::new(&TOO_LARGE_RECORD, format!("a description of {length} bytes")).into());
        }
        Ok(())
    }
}

impl Length for Whole {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Whole {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(From::new(Arc::clone(&self.input), start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.size);
        if end.is_none() || length as u64 > MAX_COLUMN_CHUNK_BYTES.unsigned_abs() {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.size)));
        }
        let mut bytes = vec![0; length];
        std::io::Read::read_exact(&mut From::new(Arc::clone(&self.input), start), &mut bytes)?;
        Ok(bytes.into())
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(&MALFORMED_DATA, error.to_string())
}
