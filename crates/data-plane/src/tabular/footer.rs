//! The description at the end of a Parquet file, walked before the library reads it.
//!
//! The library builds the tree of columns by recursion and reserves memory for as many row groups as a file states;
//! a file from a stranger could end the process with either. Here both are bounded, and whatever is not laid out as
//! the format says is refused. (Thrift's compact protocol; parquet.thrift: `FileMetaData`, `SchemaElement`.)

use policy::refusal::Refusal;

use super::{MAX_COLUMNS, malformed, too_large};

/// Levels of columns within columns.
const MAX_DEPTH: usize = 32;
/// Nodes of the tree of columns: each column may stand under a few groups.
const MAX_NODES: usize = 8 * MAX_COLUMNS;
/// Entries of any list: a hundred thousand row groups.
const MAX_LIST: u64 = 100_000;
/// Structures within structures; the deepest of the format has eight.
const MAX_NESTED: usize = 24;

/// Members that are looked at.
const SCHEMA: i64 = 2;
const CHILDREN: i64 = 5;

/// Types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// Refuses a description that is not laid out well, or nests or lists too much.
pub(super) fn check(description: &[u8]) -> Result<(), Refusal> {
    let mut rest = Rest(description);
    let mut id = 0;
    let mut seen = false;
    while let Some(kind) = rest.field(&mut id)? {
        if id != SCHEMA {
            rest.skip(kind, MAX_NESTED)?;
            continue;
        }
        if kind != LIST || seen {
            return Err(unlike("its tree of columns"));
        }
        seen = true;
        rest.tree()?;
    }
    if seen { Ok(()) } else { Err(unlike("no tree of columns")) }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Result<u8, Refusal> {
        let (first, rest) = self.0.split_first().ok_or_else(|| unlike("it ends early"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn bytes(&mut self, count: u64) -> Result<(), Refusal> {
        let rest = usize::try_from(count).ok().and_then(|count| self.0.get(count..));
        self.0 = rest.ok_or_else(|| unlike("it ends early"))?;
        Ok(())
    }

    fn number(&mut self) -> Result<u64, Refusal> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(unlike("a number is too long"))
    }

    fn signed(&mut self) -> Result<i64, Refusal> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// The type of the next member, and its number in `id`; `None` at the end of the structure.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>, Refusal> {
        let head = self.byte()?;
        let kind = head & 0x0f;
        if kind == 0 {
            return Ok(None);
        }
        *id = match head >> 4 {
            0 => self.signed()?,
            delta => id.saturating_add(i64::from(delta)),
        };
        Ok(Some(kind))
    }

    /// The count and the type of a list's entries.
    fn list(&mut self) -> Result<(u64, u8), Refusal> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.number()?,
            count => u64::from(count),
        };
        if count > MAX_LIST {
            return Err(too_large(format!("a list of {count}, at most {MAX_LIST}")));
        }
        Ok((count, head & 0x0f))
    }

    fn skip(&mut self, kind: u8, levels: usize) -> Result<(), Refusal> {
        let levels = levels.checked_sub(1).ok_or_else(|| unlike("it nests too deep"))?;
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.bytes(1),
            I16 | I32 | I64 => self.number().map(drop),
            DOUBLE => self.bytes(8),
            BINARY => {
                let length = self.number()?;
                self.bytes(length)
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_entry(kind, levels))
            }
            MAP => {
                let count = self.number()?;
                if count == 0 {
                    return Ok(());
                }
                if count > MAX_LIST {
                    return Err(too_large(format!("a map of {count}, at most {MAX_LIST}")));
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.skip_entry(kinds >> 4, levels)?;
                    self.skip_entry(kinds & 0x0f, levels)
                })
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, levels)?;
                }
                Ok(())
            }
            _ => Err(unlike("a type is unknown")),
        }
    }

    /// An entry of a list or map: there, a truth value is a byte of its own.
    fn skip_entry(&mut self, kind: u8, levels: usize) -> Result<(), Refusal> {
        if matches!(kind, TRUE | FALSE) { self.bytes(1) } else { self.skip(kind, levels) }
    }

    /// The tree of columns, listed depth first, each node with the number of its children.
    fn tree(&mut self) -> Result<(), Refusal> {
        let (count, kind) = self.list()?;
        if kind != STRUCT {
            return Err(unlike("its tree of columns"));
        }
        if count > MAX_NODES as u64 {
            return Err(too_large(format!("{count} columns and groups, at most {MAX_NODES}")));
        }
        // How many children each open node still has.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..count {
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left = left.saturating_sub(1);
            }
            let children = self.children()?;
            if children > 0 {
                open.push(children);
            }
            if open.len() > MAX_DEPTH {
                return Err(too_large(format!("columns within columns, more than {MAX_DEPTH} deep")));
            }
        }
        Ok(())
    }

    fn children(&mut self) -> Result<i64, Refusal> {
        let (mut id, mut children) = (0, None);
        while let Some(kind) = self.field(&mut id)? {
            if id != CHILDREN {
                self.skip(kind, MAX_NESTED)?;
            } else if kind == I32 && children.is_none() {
                children = Some(self.signed()?);
            } else {
                return Err(unlike("a number of children"));
            }
        }
        Ok(children.unwrap_or(0))
    }
}

fn unlike(what: &str) -> Refusal {
    malformed(format!("the description at the file's end: {what}"))
}
