//! The same step on the three formats gives the same table; what is not understood refuses; hostile input is bounded.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray,
};
use arrow_schema::DataType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use policy::refusal::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SALT: [u8; 32] = [7; 32];

fn declare(steps: &Value) -> Transform {
    let form = json!({"format": "fairlead-transform/1", "name": "t", "version": "1", "performs": [], "steps": steps});
    Transform::parse(&form.to_string()).unwrap_or_else(|refusal| panic!("{refusal}: {steps}"))
}

fn apply(transform: &Transform, format: Format, input: &[u8]) -> Result<Vec<u8>, DataError> {
    let mut output = Vec::new();
    transform.apply(format, Arc::new(input.to_vec()), &Salt::new(SALT), &mut output)?;
    Ok(output)
}

#[track_caller]
fn refused(steps: &Value, format: Format, input: &[u8], code: &Code) {
    let refusal = apply(&declare(steps), format, input).unwrap_err().into_refusal();
    assert_eq!(refusal.code.code, code.code, "{steps}: {refusal}");
}

/// A table as its texts; nulls are empty.
type Texts = Vec<Vec<String>>;

const COLUMNS: [&str; 6] = ["name", "born", "age", "weight", "ward", "insured"];

/// Name, day of birth, age, weight, ward, insured.
type Person = (Option<&'static str>, &'static str, i64, f64, &'static str, bool);

const PEOPLE: [Person; 5] = [
    (Some("陳大文"), "1980-01-31", 46, 70.5, "A", true),
    (Some("Lee, \"Al\""), "1980-11-02", 46, 81.25, "A", false),
    (None, "1991-06-30", 35, 64.5, "B", true),
    (Some("Wong\nMei"), "1975-04-01", 51, 90.0, "A", true),
    (Some("陳大文"), "2001-12-31", 24, 55.75, "B", false),
];

fn csv_of(rows: &Texts) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.into_inner().unwrap()
}

fn people_texts() -> Texts {
    let header = COLUMNS.map(str::to_owned).to_vec();
    let row = |(name, born, age, weight, ward, insured): &Person| {
        let [age, weight, insured] = [age.to_string(), weight.to_string(), insured.to_string()];
        vec![name.unwrap_or_default().into(), (*born).into(), age, weight, (*ward).into(), insured]
    };
    std::iter::once(header).chain(PEOPLE.iter().map(row)).collect()
}

fn people_json() -> Vec<Value> {
    let row = |(name, born, age, weight, ward, insured): &Person| {
        let mut all = json!({"name": name, "born": born, "age": age, "weight": weight, "ward": ward, "insured": insured});
        if name.is_none() {
            all.as_object_mut().unwrap().remove("name");
        }
        all
    };
    PEOPLE.iter().map(row).collect()
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut output = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut output, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    output
}

fn days(text: &str) -> i32 {
    let date: jiff::civil::Date = text.parse().unwrap();
    (date - jiff::civil::date(1970, 1, 1)).get_days()
}

fn people_parquet() -> Vec<u8> {
    let text = |of: fn(&Person) -> Option<&'static str>| -> ArrayRef {
        Arc::new(PEOPLE.iter().map(of).collect::<StringArray>())
    };
    parquet_of(vec![
        ("name", text(|person| person.0)),
        ("born", Arc::new(Date32Array::from_iter_values(PEOPLE.iter().map(|person| days(person.1))))),
        ("age", Arc::new(Int64Array::from_iter_values(PEOPLE.iter().map(|person| person.2)))),
        ("weight", Arc::new(Float64Array::from_iter_values(PEOPLE.iter().map(|person| person.3)))),
        ("ward", text(|person| Some(person.4))),
        ("insured", Arc::new(PEOPLE.iter().map(|person| Some(person.5)).collect::<BooleanArray>())),
    ])
}

fn read_csv(bytes: &[u8]) -> Texts {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn json_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().unwrap().to_string(),
        other => other.to_string(),
    }
}

/// The columns are named by the CSV, as parsers may sort the members of objects.
fn read_json(bytes: &[u8], columns: &[String]) -> Texts {
    let all: Vec<Value> = match bytes.first() {
        Some(b'[') => serde_json::from_slice(bytes).unwrap(),
        _ => serde_json::Deserializer::from_slice(bytes).into_iter().map(Result::unwrap).collect(),
    };
    let row = |value: &Value| {
        assert_eq!(value.as_object().unwrap().len(), columns.len());
        columns.iter().map(|column| json_text(&value[column])).collect()
    };
    std::iter::once(columns.to_vec()).chain(all.iter().map(row)).collect()
}

fn read_parquet(bytes: &[u8]) -> Texts {
    // By the reader of the transform itself, which other tests hold against what the library wrote.
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::copy_from_slice(bytes)).unwrap();
    let columns: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    let table = parquet_table::ParquetTable::open(Arc::new(bytes.to_vec())).unwrap();
    let mut rows = vec![columns.clone()];
    table
        .each(&vec![true; columns.len()], &mut |row| {
            let text = |cell: &cell::Cell| {
                let mut text = String::new();
                assert!(*cell == cell::Cell::Null || cell.write_text(&mut text));
                text
            };
            rows.push(row.cells.iter().map(text).collect());
            Ok(())
        })
        .unwrap();
    rows
}

/// The same table from each format, as declared; twice the same bytes.
#[track_caller]
fn check(steps: &Value, expected: &[&str]) {
    let transform = declare(steps);
    let expected: Texts =
        expected.iter().map(|row| row.split('|').map(str::to_owned).collect::<Vec<_>>()).collect();
    let lines: String = people_json().iter().map(|row| format!("{row}\n")).collect();
    let array = Value::Array(people_json()).to_string();
    for (format, input) in [
        (Format::Csv, csv_of(&people_texts())),
        (Format::Json, array.into_bytes()),
        (Format::Json, lines.into_bytes()),
        (Format::Parquet, people_parquet()),
    ] {
        let output =
            apply(&transform, format, &input).unwrap_or_else(|error| panic!("{steps} {format:?}: {error}"));
        assert_eq!(apply(&transform, format, &input).unwrap(), output, "deterministic: {steps} {format:?}");
        let table = match format {
            Format::Csv => read_csv(&output),
            Format::Json => read_json(&output, &expected[0]),
            Format::Parquet => read_parquet(&output),
            Format::Dicom => unreachable!(),
        };
        assert_eq!(table, expected, "{steps} {format:?}");
    }
}

fn hashed(text: &str) -> String {
    use base64::Engine as _;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SALT);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()))
}

#[test]
fn each_step_on_each_format() {
    check(
        &json!([{"step": "keep", "columns": ["ward", "age"]}]),
        &["age|ward", "46|A", "46|A", "35|B", "51|A", "24|B"],
    );
    check(
        &json!([{"step": "drop", "columns": ["name", "born", "weight", "insured"]}, {"step": "limit", "rows": 2}]),
        &["age|ward", "46|A", "46|A"],
    );
    let chan = hashed("陳大文");
    check(
        &json!([{"step": "keep", "columns": ["name"]}, {"step": "hash", "columns": ["name"]}]),
        &["name", &chan, &hashed("Lee, \"Al\""), "", &hashed("Wong\nMei"), &chan],
    );
    check(
        &json!([{"step": "keep", "columns": ["age", "insured"]}, {"step": "hash", "columns": ["age", "insured"]}, {"step": "limit", "rows": 1}]),
        &["age|insured", &format!("{}|{}", hashed("46"), hashed("true"))],
    );
    check(
        &json!([{"step": "replace", "path": "$.name", "with": "hidden"}, {"step": "replace", "path": "$[*].age", "with": 0}, {"step": "keep", "columns": ["name", "age"]}, {"step": "limit", "rows": 3}]),
        &["name|age", "hidden|0", "hidden|0", "hidden|0"],
    );
    for (to, expected) in [
        ("day", ["born", "1980-01-31", "1980-11-02", "1991-06-30"]),
        ("month", ["born", "1980-01", "1980-11", "1991-06"]),
        ("quarter", ["born", "1980-Q1", "1980-Q4", "1991-Q2"]),
        ("year", ["born", "1980", "1980", "1991"]),
    ] {
        check(
            &json!([{"step": "limit", "rows": 3}, {"step": "generalise-date", "column": "born", "to": to}, {"step": "keep", "columns": ["born"]}]),
            &expected,
        );
    }
    check(
        &json!([{"step": "generalise-number", "column": "age", "width": 20, "min": 0, "max": 50}, {"step": "generalise-number", "column": "weight", "width": 10, "min": 60, "max": 100}, {"step": "keep", "columns": ["age", "weight"]}]),
        &[
            "age|weight",
            "[40,50)|[70,80)",
            "[40,50)|[80,90)",
            "[20,40)|[60,70)",
            ">=50|[90,100)",
            "[20,40)|<60",
        ],
    );
    check(
        &json!([{"step": "suppress", "columns": ["ward"], "k": 3}, {"step": "keep", "columns": ["age", "ward"]}]),
        &["age|ward", "46|A", "46|A", "51|A"],
    );
    check(
        &json!([{"step": "generalise-date", "column": "born", "to": "year"}, {"step": "suppress", "columns": ["born", "age"], "k": 2}, {"step": "keep", "columns": ["born"]}]),
        &["born", "1980", "1980"],
    );
    check(
        &json!([{"step": "limit", "rows": 3}, {"step": "suppress", "columns": ["ward"], "k": 2}, {"step": "keep", "columns": ["age"]}]),
        &["age", "46", "46"],
    );
    check(
        &json!([{"step": "aggregate", "by": ["ward"], "k": 2, "values": [
            {"as": "people", "function": "count"}, {"as": "named", "function": "count", "column": "name"},
            {"as": "years", "function": "sum", "column": "age"}, {"as": "mean", "function": "mean", "column": "weight"},
            {"as": "least", "function": "min", "column": "weight"}, {"as": "most", "function": "max", "column": "age"}]}]),
        // One name alone in ward B is not counted: a value of fewer than k rows is withheld.
        &[
            "ward|people|named|years|mean|least|most",
            "A|3|3|143|80.58333333333333|70.5|51",
            "B|2||59|60.125|55.75|35",
        ],
    );
    check(
        &json!([{"step": "aggregate", "by": ["ward"], "k": 3, "values": [{"as": "n", "function": "count"}]}, {"step": "hash", "columns": ["ward"]}]),
        &["ward|n", &format!("{}|3", hashed("A"))],
    );
    check(
        &json!([{"step": "aggregate", "by": [], "k": 5, "values": [{"as": "n", "function": "count"}, {"as": "sum", "function": "sum", "column": "age"}]}]),
        &["n|sum", "5|202"],
    );
}

#[test]
fn places_within_json() {
    let steps = json!([{"step": "replace", "path": "$.home.street", "with": "hidden"}, {"step": "replace", "path": "$.visits[*].by", "with": null}]);
    let input = r#" [{"home":{"street":"1 Pok Fu Lam","city":"HK"},"visits":[{"by":"Dr Lee"},{"by":"Dr Ho","on":2}]},{"visits":[]}]"#;
    let output = apply(&declare(&steps), Format::Json, input.as_bytes()).unwrap();
    let output: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(
        output,
        json!([{"home": {"street": "hidden", "city": "HK"}, "visits": [{"by": null}, {"by": null, "on": 2}]}, {"home": null, "visits": []}])
    );
    let step = json!([{"step": "replace", "path": "$.home.street", "with": "hidden"}]);
    // The address as one text would leave with the street in it.
    refused(&step, Format::Json, br#"{"home":{"street":1}}{"home":"1 Pok Fu Lam"}"#, &BAD_VALUE);
    refused(&step, Format::Json, br#"{"home":{"road":1}}"#, &UNKNOWN_COLUMN);
    refused(&step, Format::Csv, b"home\nx\n", &WRONG_TYPE);
    refused(&json!([{"step": "hash", "columns": ["home"]}]), Format::Json, br#"{"home":{}}"#, &BAD_VALUE);
    refused(
        &json!([{"step": "suppress", "columns": ["home"], "k": 2}]),
        Format::Json,
        br#"{"home":[]}"#,
        &BAD_VALUE,
    );
}

#[test]
fn nothing_leaves_of_what_is_not_understood() {
    let hash = json!([{"step": "hash", "columns": ["b"]}]);
    let year = json!([{"step": "generalise-date", "column": "b", "to": "year"}]);
    let bins = json!([{"step": "generalise-number", "column": "b", "width": 1, "min": 0, "max": 9}]);
    let sum = json!([{"step": "aggregate", "by": ["a"], "k": 2, "values": [{"as": "s", "function": "sum", "column": "b"}]}]);
    refused(&hash, Format::Csv, b"a,c\n1,2\n", &UNKNOWN_COLUMN);
    refused(
        &json!([{"step": "drop", "columns": ["a"]}, {"step": "hash", "columns": ["a"]}]),
        Format::Csv,
        b"a,b\n",
        &UNKNOWN_COLUMN,
    );
    refused(&json!([{"step": "drop", "columns": ["a"]}]), Format::Csv, b"a\n1\n", &UNKNOWN_COLUMN);
    refused(&year, Format::Csv, b"a,b\n1,2024-01-01\n2,soon\n", &BAD_VALUE);
    refused(&bins, Format::Csv, b"a,b\n1,many\n", &BAD_VALUE);
    refused(&bins, Format::Json, br#"{"a":1,"b":true}"#, &BAD_VALUE);
    refused(&sum, Format::Csv, b"a,b\nx,1\nx,two\n", &BAD_VALUE);
    refused(&sum, Format::Csv, b"a,b\nx,1e308\nx,1e308\n", &BAD_VALUE);
    refused(
        &year,
        Format::Parquet,
        &parquet_of(vec![("b", Arc::new(Int64Array::from(vec![1])))]),
        &WRONG_TYPE,
    );
    refused(
        &bins,
        Format::Parquet,
        &parquet_of(vec![("b", Arc::new(BooleanArray::from(vec![true])))]),
        &WRONG_TYPE,
    );
    let infinite = parquet_of(vec![("b", Arc::new(Float64Array::from(vec![f64::NAN])))]);
    refused(&bins, Format::Parquet, &infinite, &BAD_VALUE);
    let sums = parquet_of(vec![
        ("a", Arc::new(Int64Array::from(vec![1, 1]))),
        ("b", Arc::new(Int64Array::from(vec![i64::MAX, 1]))),
    ]);
    refused(&sum, Format::Parquet, &sums, &BAD_VALUE);
    refused(&hash, Format::Dicom, b"", &DICOM);
    let detail = apply(&declare(&year), Format::Csv, b"a,b\n1,2024-01-01\n2,secret\n")
        .unwrap_err()
        .into_refusal()
        .detail;
    assert!(detail.contains("`b`, record 2") && !detail.contains("secret"), "{detail}");
}

#[test]
fn hostile_input_is_bounded() {
    let limit = json!([{"step": "limit", "rows": 1}]);
    let huge = vec![b'x'; 2 * format::MAX_RECORD_BYTES];
    refused(&limit, Format::Csv, &[b"a\n".as_slice(), &huge].concat(), &TOO_LARGE_RECORD);
    refused(
        &limit,
        Format::Csv,
        &[b"a\n\"".as_slice(), &b"x\n".repeat(format::MAX_RECORD_BYTES)].concat(),
        &TOO_LARGE_RECORD,
    );
    refused(&limit, Format::Csv, &[b"a".as_slice(), &huge].concat(), &TOO_LARGE_RECORD);
    refused(&limit, Format::Csv, &b"a,".repeat(2000), &MALFORMED_DATA);
    let wide: Vec<String> = (0..2000).map(|index| format!("c{index}")).collect();
    refused(&limit, Format::Csv, wide.join(",").as_bytes(), &TOO_LARGE_RECORD);
    for ragged in ["a,b\n1\n", "a,b\n1,2,3\n", "a,b\n1,2\n\"3\n"] {
        refused(&limit, Format::Csv, ragged.as_bytes(), &MALFORMED_DATA);
    }
    refused(&limit, Format::Csv, b"", &MALFORMED_DATA);
    refused(&limit, Format::Csv, b"a,a\n", &MALFORMED_DATA);
    refused(&limit, Format::Csv, b"a\n\xff\xfe\n", &MALFORMED_DATA);
    refused(&limit, Format::Csv, b"\xff\n1\n", &MALFORMED_DATA);

    refused(&limit, Format::Json, &[br#"{"a":""#.as_slice(), &huge, br#""}"#].concat(), &TOO_LARGE_RECORD);
    refused(
        &limit,
        Format::Json,
        &[br#"[{"a":1}"#.as_slice(), &vec![b' '; 2 * format::MAX_RECORD_BYTES], b"]"].concat(),
        &TOO_LARGE_RECORD,
    );
    let deep = [br#"{"a":"#.as_slice(), &b"[".repeat(100_000)].concat();
    refused(&limit, Format::Json, &deep, &MALFORMED_DATA);
    for bad in [
        "[1]",
        "[[]]",
        "\"a\"",
        "{\"a\":1",
        "[{\"a\":1}",
        "[{\"a\":1}]x",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1} 2",
        "{\"a\":1e999}",
    ] {
        refused(&limit, Format::Json, bad.as_bytes(), &MALFORMED_DATA);
    }
    refused(&limit, Format::Json, b"{\"a\":\"\xff\"}", &MALFORMED_DATA);
    let members: Vec<String> = (0..2000).map(|index| format!("{{\"c{index}\":1}}\n")).collect();
    refused(&limit, Format::Json, members.concat().as_bytes(), &TOO_LARGE_RECORD);

    let good = people_parquet();
    refused(&limit, Format::Parquet, b"", &MALFORMED_DATA);
    // What stands where the length of the description does: four letters.
    refused(&limit, Format::Parquet, b"PAR1PAR1", &TOO_LARGE_RECORD);
    refused(&limit, Format::Parquet, b"\x01\x00\x00\x00PAR1", &MALFORMED_DATA);
    for end in [10, good.len() / 2, good.len() - 1] {
        refused(&limit, Format::Parquet, &good[..end], &MALFORMED_DATA);
    }
}

#[test]
fn a_parquet_file_that_unpacks_to_too_much_is_refused_unread() {
    // A column of one text, again and again: a few KiB that unpack to more than a column may have.
    let text = "x".repeat(1 << 20);
    let array: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&text, 140)));
    let batch = RecordBatch::try_from_iter([("a", array)]).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .set_max_row_group_bytes(None)
        .build();
    let mut packed = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut packed, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(packed.len() < 4 << 20, "{} bytes", packed.len());
    refused(&json!([{"step": "limit", "rows": 1}]), Format::Parquet, &packed, &TOO_LARGE_RECORD);
}

#[test]
fn damaged_parquet_never_passes_and_never_hangs() {
    let good = people_parquet();
    let transform = declare(&json!([{"step": "keep", "columns": ["age"]}]));
    let expected = apply(&transform, Format::Parquet, &good).unwrap();
    for place in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[place] ^= 0x55;
        // The library may panic on nonsense; the worker that it runs on then ends, and nothing leaves.
        let outcome = std::panic::catch_unwind(|| apply(&transform, Format::Parquet, &bad));
        if let Ok(Ok(output)) = outcome {
            assert!(output.len() < 2 * expected.len(), "byte {place}");
        }
    }
}

#[test]
fn parquet_keeps_types_and_refuses_what_it_cannot_read() {
    let nested = ListArray::from_iter_primitive::<arrow_array::types::Int64Type, _, _>([Some([Some(1_i64)])]);
    let input =
        parquet_of(vec![("list", Arc::new(nested)), ("small", Arc::new(Float32Array::from(vec![0.1_f32])))]);
    refused(&json!([{"step": "limit", "rows": 9}]), Format::Parquet, &input, &WRONG_TYPE);
    let output =
        apply(&declare(&json!([{"step": "drop", "columns": ["list"]}])), Format::Parquet, &input).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(output.clone())).unwrap();
    assert_eq!(reader.schema().field(0).data_type(), &DataType::Float32);
    assert_eq!(read_parquet(&output), [["small"], ["0.1"]]);
    assert_eq!(reader.metadata().file_metadata().created_by(), Some("fairlead"));
}

#[test]
fn salts_keep_datasets_apart() {
    let transform = declare(&json!([{"step": "hash", "columns": ["a"]}]));
    let with = |salt: u8| {
        let mut output = Vec::new();
        transform
            .apply(Format::Csv, Arc::new(b"a\nx\n".to_vec()), &Salt::new([salt; 32]), &mut output)
            .unwrap();
        output
    };
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

#[test]
fn declarations_are_closed() {
    let good = json!({"format": "fairlead-transform/1", "name": "ward", "version": "1", "performs": ["odrl:anonymize"], "steps": [{"step": "drop", "columns": ["a"]}]});
    let transform = Transform::parse(&good.to_string()).unwrap();
    assert_eq!(transform.label(), "ward@1");
    assert_eq!(transform.mark().performs[0].action, "http://www.w3.org/ns/odrl/2/anonymize");
    assert_eq!(Transform::parse(transform.text()).unwrap(), transform);
    let bad = |pointer: &str, value: Value| {
        let mut form = good.clone();
        *form.pointer_mut(pointer).unwrap() = value.clone();
        let refusal = Transform::parse(&form.to_string()).unwrap_err();
        assert_eq!(refusal.code, &MALFORMED_DECLARATION, "{pointer} {value}");
    };
    bad("/format", json!("fairlead-transform/2"));
    bad("/name", json!("a b"));
    bad("/name", json!(""));
    bad("/version", json!(1));
    bad("/performs", json!(["odrl:delete"]));
    bad("/performs", json!(["odrl:aggregate"]));
    bad("/performs", json!(["idsc:REPLACE"]));
    let steps = [
        json!({"step": "drop"}),
        json!({"step": "drop", "columns": []}),
        json!({"step": "drop", "columns": ["a", "a"]}),
        json!({"step": "drop", "columns": ["a"], "more": 1}),
        json!({"step": "shuffle", "columns": ["a"]}),
        json!({"step": "replace", "path": "$..a", "with": ""}),
        json!({"step": "replace", "path": "$.a", "with": {}}),
        json!({"step": "replace", "path": "$.a", "with": "x".repeat(2000)}),
        json!({"step": "generalise-date", "column": "a", "to": "decade"}),
        json!({"step": "generalise-number", "column": "a", "width": 0, "min": 0, "max": 1}),
        json!({"step": "generalise-number", "column": "a", "width": 1, "min": 1, "max": 1}),
        json!({"step": "generalise-number", "column": "a", "width": 0.5, "min": 0, "max": 1}),
        json!({"step": "suppress", "columns": ["a"], "k": 1}),
        json!({"step": "limit", "rows": 0}),
        json!({"step": "aggregate", "by": ["a"], "k": 2, "values": []}),
        json!({"step": "aggregate", "by": ["a"], "k": 2, "values": [{"as": "a", "function": "count"}]}),
        json!({"step": "aggregate", "by": ["a"], "k": 2, "values": [{"as": "s", "function": "sum"}]}),
        json!({"step": "aggregate", "by": ["a"], "k": 2, "values": [{"as": "s", "function": "median", "column": "b"}]}),
    ];
    for step in steps {
        bad("/steps", json!([step]));
    }
    bad("/steps", json!([]));
    bad("/steps", json!([{"step": "limit", "rows": 1}]));
    let suppress = json!({"step": "suppress", "columns": ["a"], "k": 2});
    bad("/steps", json!([suppress, {"step": "limit", "rows": 1}]));
    bad("/steps", json!([suppress, suppress]));
    bad(
        "/steps",
        json!([{"step": "replace", "path": "$.a", "with": 1}, {"step": "replace", "path": "$.a", "with": 2}]),
    );
    let mut unknown = good.clone();
    unknown["note"] = json!("x");
    assert_eq!(Transform::parse(&unknown.to_string()).unwrap_err().code, &MALFORMED_DECLARATION);
    assert!(Transform::parse(&" ".repeat(MAX_DECLARATION_BYTES + 1)).is_err());
}

#[test]
fn duties_to_replace_make_a_transform() {
    let duty = |path: &str, with: &str| (path.to_owned(), with.to_owned());
    assert_eq!(Transform::with_replacements(None, &[].into()).unwrap(), None);
    let made = Transform::with_replacements(None, &[duty("$.name", "hidden")].into()).unwrap().unwrap();
    assert_eq!(apply(&made, Format::Csv, b"name,b\nLee,1\n").unwrap(), b"name,b\r\nhidden,1\r\n");
    let needed = Performed {
        action: policy::vocab::action::IDS_REPLACE.to_owned(),
        json_path: Some("$.name".to_owned()),
        replace_with: Some("hidden".to_owned()),
    };
    assert!(made.mark().performs(&needed));
    assert!(!made.mark().performs(&Performed { replace_with: Some("X".to_owned()), ..needed.clone() }));
    // Before what is declared, so that the place still exists; and once.
    let declared = declare(&json!([{"step": "drop", "columns": ["name"]}]));
    let both =
        Transform::with_replacements(Some(declared), &[duty("$.name", "hidden")].into()).unwrap().unwrap();
    assert_eq!(apply(&both, Format::Csv, b"name,b\nLee,1\n").unwrap(), b"b\r\n1\r\n");
    let again = Transform::with_replacements(Some(made.clone()), &[duty("$.name", "hidden")].into()).unwrap();
    assert_eq!(again, Some(made.clone()));
    for path in ["$.name", "$[*].name", "$['name']"] {
        let other = Transform::with_replacements(Some(made.clone()), &[duty(path, "YYY")].into());
        assert_eq!(other.unwrap_err().code, &MALFORMED_DECLARATION, "{path}");
    }
}

#[test]
fn formats_are_recognised() {
    let check = |media_type: Option<&str>, name: &str, expected: Result<Format, &Code>| {
        assert_eq!(
            Format::of(None, media_type, name).map_err(|refusal| refusal.code),
            expected,
            "{media_type:?} {name}"
        );
    };
    check(Some("text/csv; charset=utf-8"), "x", Ok(Format::Csv));
    check(Some("application/json"), "x.csv", Ok(Format::Json));
    check(Some("application/vnd.apache.parquet"), "x", Ok(Format::Parquet));
    check(Some("application/octet-stream"), "x.PARQUET", Ok(Format::Parquet));
    check(None, "a/b.jsonl", Ok(Format::Json));
    check(Some("application/dicom"), "x", Err(&DICOM));
    check(None, "x.dcm", Err(&DICOM));
    check(None, "x.xlsx", Err(&UNKNOWN_FORMAT));
    assert_eq!(Format::of(Some(Format::Csv), None, "x").unwrap(), Format::Csv);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_group_is_left_below_k(rows in proptest::collection::vec((0_u8..4, 0_u8..4, "[a-c\",\n ]{0,2}"), 0..60), k in 2_u64..6, then in 0_usize..3) {
        let mut table: Texts = vec![["a", "b", "c"].map(str::to_owned).to_vec()];
        table.extend(rows.iter().map(|(a, b, c)| vec![a.to_string(), b.to_string(), c.clone()]));
        let after = [json!({"step": "hash", "columns": ["a"]}), json!({"step": "generalise-number", "column": "b", "width": 2, "min": 0, "max": 4}), json!({"step": "replace", "path": "$.c", "with": "x"})];
        let steps = json!([{"step": "suppress", "columns": ["a", "b", "c"], "k": k}, after[then]]);
        let output = read_csv(&apply(&declare(&steps), Format::Csv, &csv_of(&table)).unwrap());
        let mut counts = std::collections::HashMap::new();
        for row in &output[1..] {
            *counts.entry(row.clone()).or_insert(0_u64) += 1;
        }
        prop_assert!(counts.values().all(|count| *count >= k), "{:?}", counts);
        // And nothing is removed that might stay.
        let mut naive = std::collections::HashMap::new();
        for row in &rows {
            *naive.entry(row).or_insert(0_u64) += 1;
        }
        let stays = naive.values().filter(|count| **count >= k).sum::<u64>();
        prop_assert_eq!(output.len() as u64 - 1, stays);
    }
}
