//! CSV (RFC 4180 with a header row): one record at a time, in memory that is used again.

use std::io::Write;
use std::sync::Arc;

use csv::{ByteRecord, ReaderBuilder, Terminator, WriterBuilder};
use policy::refusal::Refusal;

use super::cell::{Cell, Column, Row};
use super::declaration::MAX_COLUMNS;
use super::format::{Input, Meter, Metered};
use super::{MALFORMED_DATA, TOO_LARGE_RECORD, Table, TableWriter, no_output};
use crate::error::DataError;

pub(super) struct CsvTable {
    input: Arc<dyn Input>,
    columns: Vec<Column>,
}

type Reader = csv::Reader<std::io::BufReader<Metered>>;

impl CsvTable {
    pub(super) fn open(input: Arc<dyn Input>) -> Result<Self, DataError> {
        let (mut reader, meter) = reader(&input);
        let header = reader.byte_headers().map_err(|error| meter.error(0, &error))?;
        let mut columns: Vec<Column> = Vec::with_capacity(header.len());
        for name in header {
            let name = std::str::from_utf8(name).map_err(|_| malformed("the header is not UTF-8"))?;
            if columns.iter().any(|column| column.name == name) {
                return Err(malformed("two columns have one name").into());
            }
            if columns.len() >= MAX_COLUMNS {
                return Err(
                    Refusal::new(&TOO_LARGE_RECORD, format!("more than {MAX_COLUMNS} columns")).into()
                );
            }
            columns.push(Column { name: name.to_owned(), kind: None });
        }
        if columns.is_empty() {
            return Err(malformed("there is no header row").into());
        }
        Ok(Self { input, columns })
    }
}

fn reader(input: &Arc<dyn Input>) -> (Reader, Meter) {
    let (metered, meter) = Metered::new(Arc::clone(input));
    (ReaderBuilder::new().from_reader(metered), meter)
}

fn malformed(detail: &str) -> Refusal {
    Refusal::new(&MALFORMED_DATA, detail)
}

impl Table for CsvTable {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn each(
        &self,
        wanted: &[bool],
        take: &mut dyn FnMut(&mut Row) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let (mut reader, meter) = reader(&self.input);
        let mut record = ByteRecord::new();
        let mut row = Row::default();
        loop {
            let number = row.number.saturating_add(1);
            if !reader.read_byte_record(&mut record).map_err(|error| meter.error(number, &error))? {
                return Ok(());
            }
            meter.reset();
            row.number = number;
            row.cells.resize_with(self.columns.len(), Cell::default);
            for ((cell, field), wanted) in row.cells.iter_mut().zip(&record).zip(wanted) {
                if field.is_empty() || !wanted {
                    *cell = Cell::Null;
                    continue;
                }
                let text = std::str::from_utf8(field)
                    .map_err(|_| malformed(&format!("record {number} is not UTF-8")))?;
                cell.set_text(text);
            }
            take(&mut row)?;
        }
    }

    fn writer<'a>(
        &self,
        columns: &[Column],
        output: &'a mut (dyn Write + Send),
    ) -> Result<Box<dyn TableWriter + 'a>, DataError> {
        // A row of one empty field would read back as no row at all, hence the quotes.
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(output);
        writer.write_record(columns.iter().map(|column| column.name.as_bytes())).map_err(no_output)?;
        Ok(Box::new(CsvOut { writer, record: ByteRecord::new(), text: String::new() }))
    }
}

struct CsvOut<'a> {
    writer: csv::Writer<&'a mut (dyn Write + Send)>,
    record: ByteRecord,
    text: String,
}

impl TableWriter for CsvOut<'_> {
    fn row(&mut self, row: &Row) -> Result<(), DataError> {
        self.record.clear();
        for cell in &row.cells {
            if let Cell::Text(text) = cell {
                self.record.push_field(text.as_bytes());
                continue;
            }
            self.text.clear();
            if !cell.write_text(&mut self.text) {
                return Err(malformed(&format!("record {} cannot be written", row.number)).into());
            }
            self.record.push_field(self.text.as_bytes());
        }
        self.writer.write_byte_record(&self.record).map_err(no_output)
    }

    fn finish(mut self: Box<Self>) -> Result<(), DataError> {
        self.writer.flush().map_err(no_output)
    }
}
