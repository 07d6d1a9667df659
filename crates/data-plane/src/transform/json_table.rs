//! JSON: an array of objects, or one object after another; one record in memory at a time.

use std::collections::HashSet;
use std::fmt;
use std::io::Write;
use std::sync::Arc;

use policy::refusal::Refusal;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::cell::{Cell, Column, Row};
use super::declaration::MAX_COLUMNS;
use super::format::{Input, Metered};
use super::{MALFORMED_DATA, TOO_LARGE_RECORD, Table, TableWriter, no_output};
use crate::error::DataError;

/// White space before the first record.
const MAX_LEADING_BYTES: usize = 4096;

pub(super) struct JsonTable {
    input: Arc<dyn Input>,
    columns: Vec<Column>,
    array: bool,
}

/// One object: its members in their order, each once.
struct Record(Vec<(String, Value)>);

type Take<'a> = dyn FnMut(Record) -> Result<(), DataError> + 'a;

impl JsonTable {
    /// Reads everything once, as any record may have a member that no other has.
    pub(super) fn open(input: Arc<dyn Input>) -> Result<Self, DataError> {
        let array = begins_array(&*input)?;
        let mut columns: Vec<Column> = Vec::new();
        let mut known = HashSet::new();
        records(&input, array, &mut |record| {
            for (name, _) in record.0 {
                if known.contains(&name) {
                    continue;
                }
                if columns.len() >= MAX_COLUMNS {
                    return Err(
                        Refusal::new(&TOO_LARGE_RECORD, format!("more than {MAX_COLUMNS} members")).into()
                    );
                }
                known.insert(name.clone());
                columns.push(Column { name, kind: None });
            }
            Ok(())
        })?;
        Ok(Self { input, columns, array })
    }
}

fn begins_array(input: &dyn Input) -> Result<bool, DataError> {
    let mut start = vec![0; MAX_LEADING_BYTES];
    let read = input.read_at(&mut start, 0).map_err(|source| DataError::Io {
        what: "read",
        path: "the source".to_owned(),
        source,
    })?;
    let first = start.iter().take(read).find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'[') => Ok(true),
        Some(b'{') | None => Ok(false),
        Some(_) => Err(Refusal::new(&MALFORMED_DATA, "neither an object nor an array of objects").into()),
    }
}

fn records(input: &Arc<dyn Input>, array: bool, take: &mut Take<'_>) -> Result<(), DataError> {
    let (metered, meter) = Metered::new(Arc::clone(input));
    let mut number = 0_u64;
    let mut failed = None;
    let mut one = |record| {
        number = number.saturating_add(1);
        meter.reset();
        take(record)
    };
    let mut parser = serde_json::Deserializer::from_reader(metered);
    let read = if array {
        let records = Records { take: &mut one, failed: &mut failed };
        parser.deserialize_seq(records).and_then(|()| parser.end())
    } else {
        let mut all = parser.into_iter::<Record>();
        loop {
            match all.next() {
                None => break Ok(()),
                Some(Ok(record)) => one(record)?,
                Some(Err(error)) => break Err(error),
            }
        }
    };
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(meter.error(number.saturating_add(1), &error)),
        (None, Ok(())) => Ok(()),
    }
}

/// The elements of the array, each passed on as it is read.
struct Records<'a, F> {
    take: &'a mut F,
    failed: &'a mut Option<DataError>,
}

impl<'de, F: FnMut(Record) -> Result<(), DataError>> Visitor<'de> for Records<'_, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(record) = seq.next_element()? {
            if let Err(error) = (self.take)(record) {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Record;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::new();
                let mut names = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.len() >= MAX_COLUMNS || !names.insert(name.clone()) {
                        return Err(A::Error::custom("a member twice, or too many of them"));
                    }
                    members.push((name, value));
                }
                Ok(Record(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Table for JsonTable {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn each(
        &self,
        wanted: &[bool],
        take: &mut dyn FnMut(&mut Row) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let places: std::collections::HashMap<&str, usize> = self
            .columns
            .iter()
            .enumerate()
            .zip(wanted)
            .filter(|(_, wanted)| **wanted)
            .map(|((index, column), _)| (column.name.as_str(), index))
            .collect();
        let mut row = Row::default();
        records(&self.input, self.array, &mut |record| {
            row.number = row.number.saturating_add(1);
            row.cells.clear();
            row.cells.resize_with(self.columns.len(), Cell::default);
            for (name, value) in record.0 {
                if let Some(cell) = places.get(name.as_str()).and_then(|index| row.cells.get_mut(*index)) {
                    *cell = Cell::of_json(value);
                }
            }
            take(&mut row)
        })
    }

    fn writer<'a>(
        &self,
        columns: &[Column],
        output: &'a mut (dyn Write + Send),
    ) -> Result<Box<dyn TableWriter + 'a>, DataError> {
        let mut members = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            let name = serde_json::to_string(&column.name).map_err(no_output)?;
            members.push(format!("{}{name}:", if index == 0 { '{' } else { ',' }));
        }
        Ok(Box::new(JsonOut { output, members, array: self.array, rows: 0, line: Vec::new() }))
    }
}

struct JsonOut<'a> {
    output: &'a mut (dyn Write + Send),
    /// `{"a":`, `,"b":`, …
    members: Vec<String>,
    array: bool,
    rows: u64,
    line: Vec<u8>,
}

impl TableWriter for JsonOut<'_> {
    fn row(&mut self, row: &Row) -> Result<(), DataError> {
        self.line.clear();
        if self.array {
            self.line.extend_from_slice(if self.rows == 0 { b"[" } else { b",\n" });
        }
        self.rows = self.rows.saturating_add(1);
        for (member, cell) in self.members.iter().zip(&row.cells) {
            self.line.extend_from_slice(member.as_bytes());
            let line = &mut self.line;
            match cell {
                Cell::Null => line.extend_from_slice(b"null"),
                Cell::Bool(value) => line.extend_from_slice(if *value { b"true" } else { b"false" }),
                Cell::Int(value) => line.extend_from_slice(value.to_string().as_bytes()),
                Cell::Float(value) => serde_json::to_writer(line, value).map_err(no_output)?,
                Cell::Text(text) => serde_json::to_writer(line, text).map_err(no_output)?,
                Cell::Nested(value) => serde_json::to_writer(line, value).map_err(no_output)?,
                Cell::Date(_) | Cell::Instant(..) => {
                    let mut text = String::new();
                    cell.write_text(&mut text);
                    serde_json::to_writer(line, &text).map_err(no_output)?;
                }
            }
        }
        self.line.push(b'}');
        if !self.array {
            self.line.push(b'\n');
        }
        self.output.write_all(&self.line).map_err(no_output)
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let end: &[u8] = match (self.array, self.rows) {
            (true, 0) => b"[]\n",
            (true, _) => b"]\n",
            (false, _) => b"",
        };
        self.output.write_all(end).map_err(no_output)
    }
}
