use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef, Int32Array, ListArray, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use proptest::prelude::*;

use super::*;

fn open(name: &str, content: impl AsRef<[u8]>) -> Result<TableReader, Refusal> {
    TableReader::open(name, Arc::new(content.as_ref().to_vec()))
}

fn read(name: &str, content: impl AsRef<[u8]>) -> Result<Vec<RecordBatch>, Refusal> {
    open(name, content)?.batches()?.collect()
}

fn refused(name: &str, content: impl AsRef<[u8]>, code: &str, detail: &str) {
    let shown = String::from_utf8_lossy(&content.as_ref()[..content.as_ref().len().min(60)]).into_owned();
    let refusal = read(name, content).expect_err(&shown);
    assert_eq!(refusal.code.code, code, "{shown}: {}", refusal.detail);
    assert!(refusal.detail.contains(detail), "{shown}: {}", refusal.detail);
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>, groups: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(groups)).build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

#[test]
fn the_type_of_a_csv_column_is_the_narrowest_that_its_cells_have() {
    let utc = || DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()));
    let local = || DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
    let cases: &[(&[&str], DataType)] = &[
        (&["true", "False", ""], DataType::Boolean),
        (&["1", "-20", "", "9223372036854775807"], DataType::Int64),
        (&["1", "2.5", "-3e-7"], DataType::Float64),
        (&["007", "12"], DataType::Utf8),
        (&["-0", "1"], DataType::Float64),
        (&["9223372036854775808"], DataType::Utf8),
        (&["1e999"], DataType::Utf8),
        (&["NaN"], DataType::Utf8),
        (&["+1"], DataType::Utf8),
        (&["1.", "2"], DataType::Utf8),
        (&["2026-11-28", "1969-12-31"], DataType::Date32),
        (&["2026-13-28"], DataType::Utf8),
        (&["20261128T08"], DataType::Utf8),
        (&["2026-11-28T08:30:00Z", "2026-11-28 08:30:00.25+08:00"], utc()),
        (&["2026-11-28T08:30:00", "2026-11-28 08:30:00.000001"], local()),
        (&["2026-11-28T08:30:00.000000001"], DataType::Utf8),
        (&["2026-11-28T23:59:60Z"], DataType::Utf8),
        (&["2026-11-28T08:30:00Z", "2026-11-28T08:30:00"], DataType::Utf8),
        (&["1", "x"], DataType::Utf8),
        (&["", ""], DataType::Utf8),
    ];
    for (cells, expected) in cases {
        let rows: Vec<String> = cells.iter().map(|cell| format!("{cell},1")).collect();
        let table = open("t.csv", format!("a,b\n{}\n", rows.join("\n"))).unwrap();
        assert_eq!(table.schema().field(0).data_type(), expected, "{cells:?}");
        let batches: Vec<_> = table.batches().unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), cells.len(), "{cells:?}");
    }
}

#[test]
fn csv_keeps_every_value() {
    let text = "\u{feff}name,n,x,day,at,here\r\n\
        \"one, \"\"two\"\"\nthree\",1,0.1,1970-01-02,1970-01-01T08:00:01+08:00,1970-01-01T00:00:02\r\n\
        香港,,,,,\r\n";
    let batches = read("weather.CSV", text).unwrap();
    let [batch] = batches.as_slice() else { panic!("{batches:?}") };
    let schema = batch.schema();
    assert_eq!(
        schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
        ["name", "n", "x", "day", "at", "here"]
    );
    let names: Vec<_> = batch.column(0).as_string::<i32>().iter().map(Option::unwrap).collect();
    assert_eq!(names, ["one, \"two\"\nthree", "香港"]);
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    assert_eq!(batch.column(2).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(0.1), None]);
    assert_eq!(batch.column(3).as_primitive::<Date32Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    for (index, expected) in [(4, 1_000_000), (5, 2_000_000)] {
        let values = batch.column(index).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(values.iter().collect::<Vec<_>>(), [Some(expected), None]);
    }
    // An empty text is a text.
    let texts = read("t.tsv", "a\tb\nx\t\n\ty,z\n").unwrap();
    assert_eq!(texts[0].column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("x"), Some("")]);
    assert_eq!(texts[0].column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some(""), Some("y,z")]);
    assert!(read("t.csv", "a,b\n").unwrap().is_empty());
}

#[test]
fn what_does_not_fit_is_named_by_its_line() {
    // A record over two lines before it: lines are the file's, not records.
    let mut late = "n,text\n1,\"over\ntwo lines\"\n".to_owned();
    for n in 0..csv::SAMPLE_RECORDS {
        late.push_str(&format!("{n},x\n"));
    }
    late.push_str("2.5,the secret\n");
    let line = format!("line {}, column `n`: no whole number", csv::SAMPLE_RECORDS + 4);
    refused("t.csv", &late, "use/value-of-another-type", &line);
    assert!(!read("t.csv", &late).unwrap_err().detail.contains("secret"), "rows are not repeated in errors");

    refused("t.csv", "a,b\n1,2\n3\n", "use/malformed-table", "line 3: 1 fields, and the header has 2");
    refused("t.csv", b"a,b\n1,\xff\n", "use/malformed-table", "line 2: it is not UTF-8");
    refused("t.csv", "", "use/malformed-table", "no header");
    refused("t.csv", "a,".repeat(2_000), "limit/table", "columns");
    refused("t.csv", format!("a\n\"{}", "x".repeat(3 << 20)), "limit/table", "a record of more than");
    for name in ["t.json", "t", "csv", "t.csv.gz", ""] {
        refused(name, "a\n1\n", "use/not-tabular", name);
    }
}

#[test]
fn batches_are_bounded_in_rows_and_bytes() {
    let rows: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    let sizes: Vec<_> =
        read("t.csv", format!("n\n{rows}")).unwrap().iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [BATCH_ROWS, BATCH_ROWS, 20_000 - 2 * BATCH_ROWS]);
    let wide: String = (0..20).map(|_| format!("{}\n", "x".repeat(300_000))).collect();
    let sizes: Vec<_> =
        read("t.csv", format!("n\n{wide}")).unwrap().iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [4, 4, 4, 4, 4]);
}

#[test]
fn parquet_comes_back_as_it_was_written() {
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter((0..30_000).map(|n| (n % 7 != 0).then_some(n))));
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..30_000).map(|n| format!("text {}", n % 100))));
    let inner: ArrayRef = Arc::new(Int32Array::from_iter_values(0..30_000));
    let nested: ArrayRef =
        Arc::new(StructArray::from(vec![(Arc::new(Field::new("inner", DataType::Int32, false)), inner)]));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<arrow_array::types::Int32Type, _, _>(
        (0..30_000).map(|n| (n % 3 != 0).then(|| vec![Some(n), None])),
    ));
    let file = parquet_of(vec![("n", numbers), ("t", texts), ("s", nested), ("l", lists)], 12_345);
    let table = open("t.parquet", &file).unwrap();
    assert_eq!(table.rows(), Some(30_000));
    let source =
        ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file))
            .unwrap()
            .with_batch_size(30_000)
            .build()
            .unwrap();
    let [source] = source.map(Result::unwrap).collect::<Vec<_>>().try_into().unwrap();
    let mut row = 0;
    for batch in table.batches().unwrap().map(Result::unwrap) {
        assert!(batch.num_rows() <= BATCH_ROWS);
        for (found, expected) in batch.columns().iter().zip(source.columns()) {
            assert_eq!(found, &expected.slice(row, batch.num_rows()));
        }
        row += batch.num_rows();
    }
    assert_eq!(row, 30_000);
}

#[test]
fn hostile_parquet_is_refused() {
    let whole = parquet_of(vec![("n", Arc::new(Int32Array::from_iter_values(0..100)))], 100);
    refused("t.parquet", "PAR1", "use/malformed-table", "too short");
    refused("t.parquet", "a,b\n1,2\n3,4", "use/malformed-table", "does not end as Parquet does");
    refused("t.parquet", &whole[100..], "use/malformed-table", "");
    let mut long = whole.clone();
    let end = long.len();
    long[end - 8..end - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused("t.parquet", long, "limit/table", "a description of");

    // Columns within columns without end, and more row groups than there are bytes.
    let mut deep = vec![0x15, 0x02, 0x19, 0xfc, 0x90, 0x03];
    deep.extend([0x55, 0x02, 0x00].repeat(400));
    refused("t.parquet", described(&deep), "limit/table", "columns within columns");
    let mut groups = vec![0x15, 0x02, 0x19, 0x1c, 0x00, 0x29, 0xfc];
    groups.extend([0xff, 0xff, 0xff, 0xff, 0x07]);
    refused("t.parquet", described(&groups), "limit/table", "a list of");
    refused("t.parquet", described(&[0x15, 0x02, 0x00]), "use/malformed-table", "no tree of columns");
    refused("t.parquet", described(&[0x28, 0x01, 0x00]), "use/malformed-table", "tree of columns");
}

/// A file with nothing but this description.
fn described(description: &[u8]) -> Vec<u8> {
    let mut file = b"PAR1".to_vec();
    file.extend(description);
    file.extend(u32::try_from(description.len()).unwrap().to_le_bytes());
    file.extend(b"PAR1");
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage of any kind refuses or gives other values; it never panics.
    #[test]
    fn a_damaged_description_does_no_harm(at in 0_usize..2_000, with: u8) {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..50).map(|n| format!("text {n}"))));
        let mut file = parquet_of(vec![("t", texts)], 20);
        let end = file.len();
        let at = end - 8 - at % (end / 2);
        file[at] = with;
        drop(footer::check(&file[end / 2..end - 8]));
        if let Ok(table) = open("t.parquet", file) {
            prop_assert!(table.schema().fields().len() <= 2);
        }
    }

    #[test]
    fn any_bytes_are_checked(description in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(footer::check(&description));
    }
}
