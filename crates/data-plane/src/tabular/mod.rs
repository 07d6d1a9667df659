//! Objects that are tables, as Arrow reads them: a schema, and batches one after another.
//!
//! Pure but for the input given as argument; nothing is written anywhere. Bytes come from another participant, so
//! every size that a file states is bounded before it is believed, and whatever does not fit ends the reading: no row
//! is skipped, no value replaced.

mod csv;
mod footer;
mod parquet;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use control_plane::ids::printable;
use policy::refusal::Refusal;

use crate::transform::Input;

pub use self::csv::SAMPLE_BYTES;

policy::refusal_codes! {
    NOT_TABULAR = "use/not-tabular", Input,
        "only CSV and Parquet are read as tables", "只有 CSV 與 Parquet 可作為表格讀取", "只有 CSV 与 Parquet 可作为表格读取",
        clause "Arrow Flight", next "read it at its HTTP address or with `fairlead use`; tables have names that end in .csv, .tsv or .parquet";
    MALFORMED_TABLE = "use/malformed-table", Input,
        "the object is not well-formed data of its format", "物件並非其格式的合規資料", "对象并非其格式的合规数据",
        clause "RFC 4180, Apache Parquet", next "read the bytes at its HTTP address, and tell the provider";
    OTHER_TYPE = "use/value-of-another-type", Input,
        "a value does not have the type of its column", "某個值不符合其欄的類型", "某个值不符合其列的类型",
        clause "Arrow Flight: nothing is skipped", next "the types of CSV follow from its first records; read the bytes at its HTTP address with types of your own";
    TOO_LARGE_TABLE = "limit/table", Limit,
        "a part of the table is larger than what is read as a table", "表格的一部分超過可作為表格讀取的大小",
        "表格的一部分超过可作为表格读取的大小",
        clause "Arrow Flight", next "read the bytes at its HTTP address; an unclosed quote also swallows what follows";
}

/// Rows of one batch: enough to make the cost of a batch small.
pub const BATCH_ROWS: usize = 8 * 1024;
/// Bytes of one batch as the file has them, after which it is handed out: a decision window.
pub const BATCH_BYTES: usize = 1 << 20;
/// Columns of one table.
pub const MAX_COLUMNS: usize = 1024;

/// A format that is read as a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// RFC 4180 with a header, fields parted by commas.
    Csv,
    /// The same with tabs.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

impl TableFormat {
    /// By the ending of the object's name; `None` where it is no table.
    pub fn of(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A table whose schema is known.
pub struct TableReader(Kind);

enum Kind {
    Csv(csv::Csv),
    Parquet(parquet::Parquet),
}

/// The rows of a table in their order, batch after batch; ends after the first refusal.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Refusal>> + Send>;

impl TableReader {
    /// Reads the schema: Parquet's own, or what the first records of CSV are. Blocks as the input does.
    ///
    /// # Errors
    /// [`NOT_TABULAR`] by the name, [`MALFORMED_TABLE`], [`TOO_LARGE_TABLE`].
    pub fn open(name: &str, input: Arc<dyn Input>) -> Result<Self, Refusal> {
        let format = TableFormat::of(name);
        let format = format.ok_or_else(|| Refusal::new(&NOT_TABULAR, format!("`{}`", printable(name))))?;
        Ok(Self(match format {
            TableFormat::Csv => Kind::Csv(csv::Csv::open(input, b',')?),
            TableFormat::Tsv => Kind::Csv(csv::Csv::open(input, b'\t')?),
            TableFormat::Parquet => Kind::Parquet(parquet::Parquet::open(input)?),
        }))
    }

    /// Names and types of the columns.
    pub fn schema(&self) -> SchemaRef {
        match &self.0 {
            Kind::Csv(table) => table.schema(),
            Kind::Parquet(table) => table.schema(),
        }
    }

    /// Rows, where the file tells how many it has.
    pub fn rows(&self) -> Option<u64> {
        match &self.0 {
            Kind::Csv(_) => None,
            Kind::Parquet(table) => table.rows(),
        }
    }

    /// All rows. Blocks as the input does.
    pub fn batches(self) -> Result<Batches, Refusal> {
        match self.0 {
            Kind::Csv(table) => Ok(Box::new(table.batches())),
            Kind::Parquet(table) => Ok(Box::new(table.batches()?)),
        }
    }
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(&MALFORMED_TABLE, detail)
}

fn too_large(detail: impl Into<String>) -> Refusal {
    Refusal::new(&TOO_LARGE_TABLE, detail)
}

#[cfg(test)]
mod tests;
