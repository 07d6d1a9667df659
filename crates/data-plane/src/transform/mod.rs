//! What is done to data before it leaves: declared steps over CSV, JSON and Parquet.
//!
//! Pure but for the input and output given as arguments; the same input, declaration and salt make the same bytes.
//! Whatever is not understood refuses, and then nothing of the object leaves. No copy is written anywhere: a row at a
//! time is in memory, and of groups a bounded number of counts.

mod cell;
mod csv_table;
mod declaration;
mod format;
mod group;
mod json_table;
mod parquet_table;
mod path;
mod pipeline;

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use aws_lc_rs::hmac;
use zeroize::Zeroize;

pub use declaration::{MAX_DECLARATION_BYTES, PERFORMABLE, Performed, Transform, TransformMark};
pub use format::{Format, Input};
pub(crate) use parquet_table::{MAX_COLUMN_CHUNK_BYTES, MAX_FOOTER_BYTES, Whole};

use cell::{Column, Row};
use pipeline::Pipeline;

use crate::error::DataError;

policy::refusal_codes! {
    MALFORMED_DECLARATION = "transform/malformed-declaration", Input,
        "the declaration of the transform is not understood", "無法理解轉換的宣告", "无法理解转换的声明",
        clause "usage control: an unknown transform denies", next "correct the file; `docs/transforms.md` shows each step";
    UNKNOWN_COLUMN = "transform/unknown-column", Input,
        "the transform names a column or place that the data does not have", "轉換指名的欄或位置在資料中不存在",
        "转换指名的列或位置在数据中不存在",
        clause "usage control: fail closed", next "correct the name; a step sees only the columns that earlier steps left";
    WRONG_TYPE = "transform/wrong-type", Input,
        "the step cannot be applied to a column of this type", "此步驟不適用於該類型的欄", "该步骤不适用于该类型的列",
        clause "usage control: fail closed", next "use another step, or drop the column";
    BAD_VALUE = "transform/bad-value", Input,
        "a value is not what the step needs, so nothing of the object leaves", "某個值不符合步驟所需，因此該物件完全不予釋出",
        "某个值不符合步骤所需，因此该对象完全不予释出",
        clause "usage control: fail closed", next "correct the record in the source, or leave the column out before the step";
    MALFORMED_DATA = "transform/malformed-data", Input,
        "the source is not well-formed data of its format", "來源並非其格式的合規資料", "来源并非其格式的合规数据",
        clause "RFC 4180, RFC 8259, Apache Parquet", next "correct the source, then publish the dataset again";
    UNKNOWN_FORMAT = "transform/unknown-format", Input,
        "transforms read CSV, JSON and Parquet, and this object is none of them", "轉換可讀取 CSV、JSON 與 Parquet，而此物件並非其一",
        "转换可读取 CSV、JSON 与 Parquet，而该对象并非其一",
        clause "usage control: an unknown transform denies", next "state the media type in the description, or `data` in the declaration";
    DICOM = "transform/dicom-not-served", Input,
        "medical images are not de-identified by this connector", "此連接器不對醫學影像去識別化", "此连接器不对医学影像去标识化",
        clause "DICOM PS3.15, annex E", next "de-identify the images before you publish them";
    NEEDS_FILES = "transform/needs-files", Input,
        "a transform reads its source more than once, so the source must be files", "轉換須多次讀取來源，因此來源須為檔案",
        "转换须多次读取来源，因此来源须为文件",
        clause "usage control: no plaintext on disk", next "publish a file or folder instead of a URL";
    TOO_MANY_GROUPS = "limit/transform-groups", Limit,
        "the data has more groups than a transform counts", "資料的分組數目超過轉換所能計算者", "数据的分组数目超过转换所能计算者",
        clause "usage control: no plaintext on disk", next "generalise the columns first, or group by fewer";
    TOO_LARGE_RECORD = "limit/transform-record", Limit,
        "a record, its columns or a part of the file is larger than transforms read", "某筆記錄、其欄數或檔案的一部分超過轉換所能讀取者",
        "某条记录、其列数或文件的一部分超过转换所能读取者",
        clause "usage control: no plaintext on disk", next "split the record or file; an unclosed quote also swallows what follows";
}

/// The secret of one dataset that hashed columns depend on; stays with the provider.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// Of 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be kept.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Salt")
    }
}

impl Drop for Salt {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A source that can be read as often as the steps need.
trait Table {
    fn columns(&self) -> &[Column];

    /// Each row in turn; the cells of columns that are not wanted are null.
    fn each(
        &self,
        wanted: &[bool],
        take: &mut dyn FnMut(&mut Row) -> Result<(), DataError>,
    ) -> Result<(), DataError>;

    /// Writes in the same format.
    fn writer<'a>(
        &self,
        columns: &[Column],
        output: &'a mut (dyn Write + Send),
    ) -> Result<Box<dyn TableWriter + 'a>, DataError>;
}

trait TableWriter {
    fn row(&mut self, row: &Row) -> Result<(), DataError>;

    fn finish(self: Box<Self>) -> Result<(), DataError>;
}

impl Transform {
    /// Writes what leaves of `input` to `output`; stops at the first record that is not understood.
    ///
    /// What was written before a refusal is of no worth to anyone who was promised the whole: discard it, or compare
    /// it with what the whole made when it was published.
    pub fn apply(
        &self,
        format: Format,
        input: Arc<dyn Input>,
        salt: &Salt,
        output: &mut (dyn Write + Send),
    ) -> Result<(), DataError> {
        let table: Box<dyn Table> = match format {
            Format::Csv => Box::new(csv_table::CsvTable::open(input)?),
            Format::Json => Box::new(json_table::JsonTable::open(input)?),
            Format::Parquet => Box::new(parquet_table::ParquetTable::open(input)?),
            Format::Dicom => return Err(policy::refusal::Refusal::new(&DICOM, "").into()),
        };
        let mut pipeline = Pipeline::plan(self.steps(), table.columns(), format, salt)?;
        let wanted = pipeline.wanted.clone();
        if pipeline.counts() {
            table.each(&wanted, &mut |row| pipeline.push(row, &mut |_| Ok(())))?;
            // The limits of the first pass are used up: the second begins from the declaration again.
            let mut fresh = Pipeline::plan(self.steps(), table.columns(), format, salt)?;
            fresh.let_through(pipeline);
            pipeline = fresh;
        }
        let mut writer = table.writer(&pipeline.columns, output)?;
        table.each(&wanted, &mut |row| pipeline.push(row, &mut |row| writer.row(row)))?;
        pipeline.finish(&mut |row| writer.row(row))?;
        writer.finish()
    }
}

fn no_output(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DataError {
    DataError::Io {
        what: "write",
        path: "the transformed data".to_owned(),
        source: std::io::Error::other(error),
    }
}

#[cfg(test)]
mod tests;
