//! The steps of one transform, resolved against the columns of one table, and rows pushed through them.

use std::collections::BTreeSet;

use arrow_schema::DataType;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::ids::printable;
use policy::refusal::Refusal;
use serde_json::Value;

use super::cell::{Cell, Column, Number, Row};
use super::declaration::{Aggregate, Function, Period, Step};
use super::format::Format;
use super::group::{Counts, Groups, push_key};
use super::path::{self, Found, Part, Path};
use super::{BAD_VALUE, Salt, UNKNOWN_COLUMN, WRONG_TYPE};

/// Takes a row that came through all steps.
pub(super) type Sink<'a> = dyn FnMut(&mut Row) -> Result<(), crate::error::DataError> + 'a;

/// Steps that know their columns.
pub(super) struct Pipeline {
    stages: Vec<Stage>,
    /// What comes out.
    pub columns: Vec<Column>,
    /// Which columns of the source any step needs, or leave.
    pub wanted: Vec<bool>,
}

enum Stage {
    /// Only these columns, in the order of the source.
    Select(Vec<usize>),
    Hash {
        columns: Vec<(usize, String)>,
        key: Box<hmac::Key>,
        text: String,
    },
    Replace {
        column: usize,
        path: String,
        within: Vec<Part>,
        with: Cell,
        json: Value,
        found: bool,
        rows: bool,
    },
    Date {
        column: usize,
        name: String,
        to: Period,
    },
    Number {
        column: usize,
        name: String,
        width: i128,
        min: i128,
        max: i128,
    },
    Suppress {
        columns: Vec<(usize, String)>,
        k: u64,
        counts: Counts,
        counted: bool,
        key: String,
    },
    Limit(u64),
    Aggregate {
        by: Vec<(usize, String)>,
        k: u64,
        values: Vec<Computed>,
        groups: Groups,
        key: String,
    },
}

struct Computed {
    function: Function,
    column: Option<(usize, String)>,
}

/// A column on its way through the plan: where it came from, if it is still a column of the source.
#[derive(Clone)]
struct Live {
    column: Column,
    source: Option<usize>,
}

struct Planner<'a> {
    format: Format,
    live: Vec<Live>,
    wanted: Vec<bool>,
    salt: &'a Salt,
}

impl Pipeline {
    /// Resolves `steps` against the source's columns; an unknown column or one of the wrong type refuses.
    pub(super) fn plan(
        steps: &[Step],
        columns: &[Column],
        format: Format,
        salt: &Salt,
    ) -> Result<Self, Refusal> {
        let live = |(index, column): (usize, &Column)| Live { column: column.clone(), source: Some(index) };
        let mut planner = Planner {
            format,
            live: columns.iter().enumerate().map(live).collect(),
            wanted: vec![false; columns.len()],
            salt,
        };
        let stages = steps.iter().map(|step| planner.stage(step)).collect::<Result<_, _>>()?;
        for index in 0..planner.live.len() {
            planner.want(index);
        }
        let columns = planner.live.into_iter().map(|live| live.column).collect();
        Ok(Self { stages, columns, wanted: planner.wanted })
    }

    /// Whether rows must be counted in a pass of their own before any may leave.
    pub(super) fn counts(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Suppress { .. }))
    }

    /// Lets rows through by what `counting`, the same plan, has counted.
    pub(super) fn let_through(&mut self, counting: Self) {
        for (stage, counting) in self.stages.iter_mut().zip(counting.stages) {
            if let (Stage::Suppress { counts, counted, .. }, Stage::Suppress { counts: before, .. }) =
                (stage, counting)
            {
                (*counts, *counted) = (before, true);
            }
        }
    }

    /// Pushes one row of the source.
    pub(super) fn push(&mut self, row: &mut Row, sink: &mut Sink<'_>) -> Result<(), crate::error::DataError> {
        push(&mut self.stages, row, sink)
    }

    /// After the last row: groups come out, and places that no record had refuse.
    pub(super) fn finish(mut self, sink: &mut Sink<'_>) -> Result<(), crate::error::DataError> {
        let mut rest = self.stages.as_mut_slice();
        while let Some((stage, after)) = rest.split_first_mut() {
            match stage {
                Stage::Replace { path, found: false, rows: true, .. } => {
                    let detail = format!("no record has `{}`", printable(path));
                    return Err(Refusal::new(&UNKNOWN_COLUMN, detail).into());
                }
                Stage::Aggregate { k, groups, .. } => {
                    for cells in std::mem::take(groups).finish(*k) {
                        push(after, &mut Row { number: 0, cells }, sink)?;
                    }
                }
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

fn push(stages: &mut [Stage], row: &mut Row, sink: &mut Sink<'_>) -> Result<(), crate::error::DataError> {
    for stage in stages {
        if !stage.pass(row)? {
            return Ok(());
        }
    }
    sink(row)
}

impl Planner<'_> {
    fn stage(&mut self, step: &Step) -> Result<Stage, Refusal> {
        Ok(match step {
            Step::Drop { columns } => {
                let dropped: BTreeSet<usize> = self.find_all(columns)?.into_iter().collect();
                let kept = (0..self.live.len()).filter(|index| !dropped.contains(index)).collect();
                self.select(kept)?
            }
            Step::Keep { columns } => {
                let kept: BTreeSet<usize> = self.find_all(columns)?.into_iter().collect();
                self.select(kept.into_iter().collect())?
            }
            Step::Hash { columns } => {
                let found = self.use_all(columns)?;
                for (index, _) in &found {
                    self.becomes(*index, DataType::Utf8);
                }
                Stage::Hash { columns: found, key: Box::new(self.salt.key()), text: String::new() }
            }
            Step::Replace { path, with } => {
                let Path { column, within } = Path::parse(path)?;
                let index = self.find(&column)?;
                if !within.is_empty() && self.format != Format::Json {
                    return Err(wrong_type(path, "only values of JSON have parts"));
                }
                let cell = Cell::constant(with).ok_or_else(|| wrong_type(path, "the constant"))?;
                if within.is_empty() {
                    // The old value is of no use any more.
                    if let Some(kind) = cell.kind() {
                        self.becomes(index, kind);
                    }
                } else {
                    self.want(index);
                }
                Stage::Replace {
                    column: index,
                    path: path.clone(),
                    found: within.is_empty(),
                    within,
                    with: cell,
                    json: with.clone(),
                    rows: false,
                }
            }
            Step::GeneraliseDate { column, to } => {
                let index = self.used(column)?;
                self.require(index, |kind| {
                    matches!(
                        kind,
                        DataType::Utf8 | DataType::LargeUtf8 | DataType::Date32 | DataType::Timestamp(..)
                    )
                })?;
                self.becomes(index, DataType::Utf8);
                Stage::Date { column: index, name: column.clone(), to: *to }
            }
            Step::GeneraliseNumber { column, width, min, max } => {
                let index = self.used(column)?;
                self.require(index, |kind| {
                    is_number(kind) || matches!(kind, DataType::Utf8 | DataType::LargeUtf8)
                })?;
                self.becomes(index, DataType::Utf8);
                let (width, min, max) = (i128::from(*width), i128::from(*min), i128::from(*max));
                Stage::Number { column: index, name: column.clone(), width, min, max }
            }
            Step::Suppress { columns, k } => Stage::Suppress {
                columns: self.use_all(columns)?,
                k: *k,
                counts: Counts::default(),
                counted: false,
                key: String::new(),
            },
            Step::Limit { rows } => Stage::Limit(*rows),
            Step::Aggregate { by, k, values } => self.aggregate(by, *k, values)?,
        })
    }

    fn aggregate(&mut self, by: &[String], k: u64, values: &[Aggregate]) -> Result<Stage, Refusal> {
        let by = self.use_all(by)?;
        let mut result: Vec<Live> =
            by.iter().filter_map(|(index, _)| self.live.get(*index).cloned()).collect();
        let mut computed = Vec::new();
        for Aggregate { name, function, column } in values {
            let column =
                column.as_ref().map(|column| Ok((self.used(column)?, column.clone()))).transpose()?;
            let mut kind = None;
            if let Some((index, _)) = &column
                && *function != Function::Count
            {
                self.require(*index, is_number)?;
                kind = self.live.get(*index).and_then(|live| live.column.kind.clone());
            }
            let kind = match (function, kind) {
                (Function::Count, _) => Some(DataType::Int64),
                (Function::Mean, _) | (_, Some(DataType::Float32 | DataType::Float64)) => {
                    Some(DataType::Float64)
                }
                (_, Some(_)) => Some(DataType::Int64),
                (_, None) => None,
            };
            result.push(Live { column: Column { name: name.clone(), kind }, source: None });
            computed.push(Computed { function: *function, column });
        }
        self.live = result;
        Ok(Stage::Aggregate { by, k, values: computed, groups: Groups::default(), key: String::new() })
    }

    fn select(&mut self, kept: Vec<usize>) -> Result<Stage, Refusal> {
        if kept.is_empty() {
            return Err(Refusal::new(&UNKNOWN_COLUMN, "no column would be left"));
        }
        self.live = kept.iter().filter_map(|index| self.live.get(*index).cloned()).collect();
        Ok(Stage::Select(kept))
    }

    fn find(&self, name: &str) -> Result<usize, Refusal> {
        self.live.iter().position(|live| live.column.name == name).ok_or_else(|| {
            Refusal::new(&UNKNOWN_COLUMN, format!("`{}` is not there, or not any more", printable(name)))
        })
    }

    fn find_all(&self, names: &[String]) -> Result<Vec<usize>, Refusal> {
        names.iter().map(|name| self.find(name)).collect()
    }

    fn used(&mut self, name: &str) -> Result<usize, Refusal> {
        let index = self.find(name)?;
        self.want(index);
        Ok(index)
    }

    fn use_all(&mut self, names: &[String]) -> Result<Vec<(usize, String)>, Refusal> {
        names.iter().map(|name| Ok((self.used(name)?, name.clone()))).collect()
    }

    /// The source's column at this place must be read.
    fn want(&mut self, index: usize) {
        if let Some(wanted) =
            self.live.get(index).and_then(|live| live.source).and_then(|source| self.wanted.get_mut(source))
        {
            *wanted = true;
        }
    }

    fn require(&self, index: usize, fits: fn(&DataType) -> bool) -> Result<(), Refusal> {
        match self.live.get(index) {
            Some(Live { column: Column { name, kind: Some(kind) }, .. }) if !fits(kind) => {
                Err(wrong_type(name, &format!("it is {kind}")))
            }
            _ => Ok(()),
        }
    }

    /// The step gives the column another value: of the type `kind`, where columns have types.
    fn becomes(&mut self, index: usize, kind: DataType) {
        if let Some(live) = self.live.get_mut(index) {
            live.source = None;
            if self.format == Format::Parquet {
                live.column.kind = Some(kind);
            }
        }
    }
}

impl Stage {
    /// Changes the row; false if it goes no further.
    fn pass(&mut self, row: &mut Row) -> Result<bool, Refusal> {
        match self {
            Self::Select(kept) => {
                // In the order of the source, so every cell moves to the left or stays.
                for (to, from) in kept.iter().enumerate() {
                    if to != *from {
                        row.cells.swap(to, *from);
                    }
                }
                row.cells.truncate(kept.len());
                Ok(true)
            }
            Self::Hash { columns, key, text } => {
                for (index, name) in columns {
                    let number = row.number;
                    let Some(cell) = row.cells.get_mut(*index).filter(|cell| **cell != Cell::Null) else {
                        continue;
                    };
                    text.clear();
                    if !cell.write_text(text) {
                        return Err(bad_value(name, number, "an object or array"));
                    }
                    let tag = hmac::sign(key, text.as_bytes());
                    text.clear();
                    URL_SAFE_NO_PAD.encode_string(tag.as_ref(), text);
                    cell.set_text(text);
                }
                Ok(true)
            }
            Self::Replace { column, path, within, with, json, found, rows } => {
                *rows = true;
                let Some(cell) = row.cells.get_mut(*column) else { return Ok(true) };
                if within.is_empty() {
                    cell.clone_from(with);
                    return Ok(true);
                }
                let outcome = match cell {
                    Cell::Nested(value) => path::replace(value, within, json),
                    Cell::Null => Found::Absent,
                    _ => Found::Other,
                };
                match outcome {
                    Found::Yes => *found = true,
                    Found::Absent => {}
                    Found::Other => {
                        return Err(bad_value(path, row.number, "something else stands on the way"));
                    }
                }
                Ok(true)
            }
            Self::Date { column, name, to } => {
                let number = row.number;
                if let Some(cell) = row.cells.get_mut(*column).filter(|cell| **cell != Cell::Null) {
                    let date = cell.date().ok_or_else(|| bad_value(name, number, "not a date"))?;
                    cell.set_text(&to.of(date));
                }
                Ok(true)
            }
            Self::Number { column, name, width, min, max } => {
                let number = row.number;
                if let Some(cell) = row.cells.get_mut(*column).filter(|cell| **cell != Cell::Null) {
                    let value = cell.number().ok_or_else(|| bad_value(name, number, "not a number"))?;
                    cell.set_text(&bin(value, *width, *min, *max));
                }
                Ok(true)
            }
            Self::Suppress { columns, k, counts, counted, key } => {
                write_key(key, columns, row)?;
                if *counted {
                    return Ok(counts.at_least(key, *k));
                }
                counts.add(key)?;
                Ok(false)
            }
            Self::Limit(left) => {
                let pass = *left > 0;
                *left = left.saturating_sub(1);
                Ok(pass)
            }
            Self::Aggregate { by, values, groups, key, .. } => {
                write_key(key, by, row)?;
                let cells = || by.iter().filter_map(|(index, _)| row.cells.get(*index).cloned()).collect();
                let group = groups.row(key, cells, values.iter().map(|value| value.function))?;
                for (computed, accumulator) in values.iter().zip(group) {
                    let Some((index, name)) = &computed.column else { continue };
                    let Some(cell) = row.cells.get(*index).filter(|cell| **cell != Cell::Null) else {
                        continue;
                    };
                    let number = match computed.function {
                        Function::Count => None,
                        _ => Some(cell.number().ok_or_else(|| bad_value(name, row.number, "not a number"))?),
                    };
                    if !accumulator.add(number) {
                        return Err(bad_value(name, row.number, "the sum is too large"));
                    }
                }
                Ok(false)
            }
        }
    }
}

impl Period {
    fn of(self, date: jiff::civil::Date) -> String {
        let (year, month) = (date.year(), date.month());
        match self {
            Self::Day => date.to_string(),
            Self::Month => format!("{year:04}-{month:02}"),
            Self::Quarter => format!("{year:04}-Q{}", (month + 2) / 3),
            Self::Year => format!("{year:04}"),
        }
    }
}

/// `[20,30)`, with the least bound of the outermost bins; what lies beyond the bounds is one bin on each side.
fn bin(value: Number, width: i128, min: i128, max: i128) -> String {
    let whole = value.floor();
    if whole < min {
        return format!("<{min}");
    }
    if whole >= max {
        return format!(">={max}");
    }
    let from = min + (whole - min).div_euclid(width) * width;
    format!("[{from},{})", (from + width).min(max))
}

fn write_key(key: &mut String, columns: &[(usize, String)], row: &Row) -> Result<(), Refusal> {
    key.clear();
    for (index, name) in columns {
        let cell = row.cells.get(*index).unwrap_or(&Cell::Null);
        if !push_key(key, cell) {
            return Err(bad_value(name, row.number, "an object or array"));
        }
    }
    Ok(())
}

fn is_number(kind: &DataType) -> bool {
    kind.is_integer() || matches!(kind, DataType::Float32 | DataType::Float64)
}

/// The value itself is not told: messages are read by people who may not see the data.
pub(super) fn bad_value(column: &str, row: u64, why: &str) -> Refusal {
    Refusal::new(&BAD_VALUE, format!("column `{}`, record {row}: {why}", printable(column)))
}

pub(super) fn wrong_type(column: &str, why: &str) -> Refusal {
    Refusal::new(&WRONG_TYPE, format!("`{}`: {why}", printable(column)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins() {
        let check = |value: Number, expected: &str| assert_eq!(bin(value, 10, 0, 95), expected, "{value:?}");
        check(Number::Int(0), "[0,10)");
        check(Number::Int(19), "[10,20)");
        check(Number::Float(19.999), "[10,20)");
        check(Number::Float(20.0), "[20,30)");
        check(Number::Int(94), "[90,95)");
        check(Number::Int(95), ">=95");
        check(Number::Float(-0.1), "<0");
        check(Number::Int(i128::MAX), ">=95");
        check(Number::Float(-1e300), "<0");
    }

    #[test]
    fn periods() {
        let date = jiff::civil::date(2024, 2, 29);
        let all = [Period::Day, Period::Month, Period::Quarter, Period::Year].map(|period| period.of(date));
        assert_eq!(all, ["2024-02-29", "2024-02", "2024-Q1", "2024"]);
        assert_eq!(Period::Quarter.of(jiff::civil::date(2024, 12, 1)), "2024-Q4");
    }
}
