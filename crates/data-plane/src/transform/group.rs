//! Groups of rows: how often each combination occurs, and what is computed of each; bounded, without the values where
//! a count is enough.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest::{Context, SHA256};
use policy::refusal::Refusal;

use super::TOO_MANY_GROUPS;
use super::cell::{Cell, Number};
use super::declaration::Function;

/// Combinations whose rows are counted: some 16 MiB for each pull that needs them.
pub const MAX_COUNTED_GROUPS: usize = 500_000;
/// Groups of an aggregate, which keep their values: more than anyone reads as statistics.
pub const MAX_AGGREGATED_GROUPS: usize = 100_000;
/// Text of all groups of an aggregate.
pub const MAX_GROUP_BYTES: usize = 32 << 20;

/// How often each combination occurs; keyed by a hash, so that values need not be kept.
#[derive(Debug, Default)]
pub(super) struct Counts(HashMap<[u8; 16], u32>);

impl Counts {
    pub(super) fn add(&mut self, key: &str) -> Result<(), Refusal> {
        let hash = hash(key);
        if let Some(count) = self.0.get_mut(&hash) {
            *count = count.saturating_add(1);
            return Ok(());
        }
        if self.0.len() >= MAX_COUNTED_GROUPS {
            return Err(Refusal::new(
                &TOO_MANY_GROUPS,
                format!("more than {MAX_COUNTED_GROUPS} combinations"),
            ));
        }
        self.0.insert(hash, 1);
        Ok(())
    }

    pub(super) fn at_least(&self, key: &str, k: u64) -> bool {
        self.0.get(&hash(key)).is_some_and(|count| u64::from(*count) >= k)
    }
}

/// 128 bits of SHA-256: two of half a million combinations meet with a chance of one in 2^90.
fn hash(key: &str) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    context.update(key.as_bytes());
    let digest = context.finish();
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    short
}

/// Appends one value of a key; null, and where a value ends, are part of it. False for nested values.
pub(super) fn push_key(key: &mut String, cell: &Cell) -> bool {
    if *cell == Cell::Null {
        key.push_str("\u{0}\u{0}");
        return true;
    }
    let start = key.len();
    key.push('\u{1}');
    let written = cell.write_text(key);
    // The length behind the value keeps ("a", "bc") and ("ab", "c") apart, and the order that of the texts.
    key.push('\u{0}');
    key.push_str(&(key.len() - start).to_string());
    key.push('\u{0}');
    written
}

/// What is computed of one group.
#[derive(Debug)]
struct Group {
    by: Vec<Cell>,
    rows: u64,
    values: Vec<Accumulator>,
}

/// All groups, in the order of their keys, so that the result does not tell the order of the rows.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<String, Group>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Accumulator {
    function: Function,
    /// Values that are not null.
    count: u64,
    value: Option<Number>,
}

impl Groups {
    /// The accumulators of the group with this key, one row more.
    pub(super) fn row<'a>(
        &'a mut self,
        key: &str,
        by: impl FnOnce() -> Vec<Cell>,
        functions: impl Iterator<Item = Function>,
    ) -> Result<&'a mut [Accumulator], Refusal> {
        if !self.groups.contains_key(key) {
            self.bytes = self.bytes.saturating_add(key.len().saturating_mul(2));
            if self.groups.len() >= MAX_AGGREGATED_GROUPS || self.bytes > MAX_GROUP_BYTES {
                let detail =
                    format!("more than {MAX_AGGREGATED_GROUPS} groups or {MAX_GROUP_BYTES} bytes of them");
                return Err(Refusal::new(&TOO_MANY_GROUPS, detail));
            }
            let values = functions.map(Accumulator::new).collect();
            self.groups.insert(key.to_owned(), Group { by: by(), rows: 0, values });
        }
        match self.groups.get_mut(key) {
            Some(group) => {
                group.rows = group.rows.saturating_add(1);
                Ok(&mut group.values)
            }
            None => Ok(&mut []),
        }
    }

    /// The groups of at least `k` rows as rows; a value of fewer than `k` rows is withheld like its group.
    pub(super) fn finish(self, k: u64) -> impl Iterator<Item = Vec<Cell>> {
        self.groups.into_values().filter(move |group| group.rows >= k).map(move |group| {
            let Group { mut by, rows, values } = group;
            by.extend(values.iter().map(|value| value.result(rows, k)));
            by
        })
    }
}

impl Accumulator {
    const fn new(function: Function) -> Self {
        Self { function, count: 0, value: None }
    }

    /// Takes one value that is not null. False if a sum left every range.
    pub(super) fn add(&mut self, number: Option<Number>) -> bool {
        self.count = self.count.saturating_add(1);
        let Some(number) = number else { return true };
        let next = match (self.function, self.value) {
            (Function::Count, _) => None,
            (_, None) => Some(number),
            (Function::Sum | Function::Mean, Some(Number::Int(sum))) if matches!(number, Number::Int(_)) => {
                let Number::Int(number) = number else { return false };
                match sum.checked_add(number) {
                    Some(sum) => Some(Number::Int(sum)),
                    None => return false,
                }
            }
            (Function::Sum | Function::Mean, Some(sum)) => {
                let sum = sum.as_f64() + number.as_f64();
                if !sum.is_finite() {
                    return false;
                }
                Some(Number::Float(sum))
            }
            (Function::Min, Some(least)) => Some(if number.less_than(least) { number } else { least }),
            (Function::Max, Some(most)) => Some(if most.less_than(number) { number } else { most }),
        };
        self.value = next;
        true
    }

    fn result(&self, rows: u64, k: u64) -> Cell {
        let of = match (self.function, self.value) {
            (Function::Count, _) if self.count == 0 => return Cell::Int(rows.into()),
            _ => self.count,
        };
        if of < k {
            return Cell::Null;
        }
        match (self.function, self.value) {
            (Function::Count, _) => Cell::Int(self.count.into()),
            // Counts are far below 2^53.
            (Function::Mean, Some(sum)) => Cell::Float(sum.as_f64() / self.count as f64),
            (_, Some(value)) => value.cell(),
            (_, None) => Cell::Null,
        }
    }
}
