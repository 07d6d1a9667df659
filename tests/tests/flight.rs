//! Tables of use sessions over Arrow Flight, read with the stock client: what comes, who gets nothing, and what ends it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use federation_tests::command::exit;
use federation_tests::connector::Connector;
use federation_tests::data::{Dataset, RESEARCH};
use federation_tests::flight::{Flight, address, refused};
use federation_tests::reader::Opened;
use federation_tests::space::Space;
use federation_tests::wait::until;
use parquet::arrow::ArrowWriter;
use tonic::Code;

const PROVIDER: &str = "hong-kong";
const CONSUMER: &str = "guangzhou";

/// Publishes these files as one dataset, negotiates and pulls; gives the agreement.
fn held(space: &mut Space, dataset: &Dataset, files: &[(&str, &[u8])]) -> String {
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    for (name, content) in files {
        let path = provider.sources().join(&dataset.name).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let dataset = provider.publish(dataset, &format!("directory:shared/{}", dataset.name));
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);
    consumer.pull(&agreement);
    agreement
}

fn open(connector: &Connector, agreement: &str) -> Opened {
    Opened::of(connector.run(&["session", "open", agreement, "--purpose", RESEARCH]).object())
}

fn client(session: &Opened) -> Flight {
    Flight::connect(&session.shown, Some(&session.token))
}

/// So many hours of weather, as CSV.
fn weather(rows: usize) -> String {
    let mut text = "hour,station,celsius\n".to_owned();
    for row in 0..rows {
        writeln!(text, "{row},\"Waglan, {}\",{}.5", row % 7, row % 40).unwrap();
    }
    text
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> (RecordBatch, Vec<u8>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    (batch, file)
}

/// Compares batches with the whole table, column by column.
fn same(batches: &[RecordBatch], whole: &RecordBatch) {
    let mut row = 0;
    for batch in batches {
        for (found, expected) in batch.columns().iter().zip(whole.columns()) {
            assert_eq!(found, &expected.slice(row, batch.num_rows()));
        }
        row += batch.num_rows();
    }
    assert_eq!(row, whole.num_rows());
}

#[test]
fn a_stock_client_reads_csv_and_parquet() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let rows = 100_000_i32;
    let (table, file) = parquet(vec![
        ("n", Arc::new(Int32Array::from_iter((0..rows).map(|n| (n % 5 != 0).then_some(n)))) as ArrayRef),
        ("name", Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("站 {}", n % 1_000))))),
        ("x", Arc::new(Float64Array::from_iter_values((0..rows).map(|n| f64::from(n) / 3.0)))),
    ]);
    let csv = weather(100_000);
    let files: [(&str, &[u8]); 3] =
        [("weather.csv", csv.as_bytes()), ("deep/normals.parquet", &file), ("README.md", b"# Weather\n")];
    let agreement = held(&mut space, &Dataset::research("weather").counted(1), &files);
    let [consumer] = space.all([CONSUMER]);
    let session = open(consumer, &agreement);
    let tickets: Vec<_> = session.shown["objects"].as_array().unwrap().iter().collect();
    let ticket =
        |path: &str| tickets.iter().find(|object| object["path"] == *path).unwrap()["ticket"].clone();
    assert_eq!((ticket("weather.csv"), ticket("README.md")), ("weather.csv".into(), "".into()));

    let mut flight = client(&session);
    let mut listed: Vec<(String, i64)> = Vec::new();
    for info in flight.list().unwrap() {
        listed.push((info.flight_descriptor.unwrap().path.join("/"), info.total_bytes));
    }
    listed.sort();
    let sizes = [file.len(), csv.len()].map(|size| i64::try_from(size).unwrap());
    assert_eq!(listed, [("deep/normals.parquet".to_owned(), sizes[0]), ("weather.csv".to_owned(), sizes[1])]);

    // Parquet, by its own types; the ticket comes from the flight's information.
    let info = flight.info("deep/normals.parquet").unwrap();
    assert_eq!(info.total_records, i64::from(rows));
    let ticket = info.endpoint[0].ticket.clone().unwrap().ticket;
    assert!(info.endpoint[0].location.is_empty(), "the same connection serves it");
    assert_eq!(&info.try_decode_schema().unwrap(), table.schema().as_ref());
    same(&flight.get(std::str::from_utf8(&ticket).unwrap()).unwrap(), &table);

    // CSV, by the types of its first records.
    let schema = flight.schema("weather.csv").unwrap();
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Int64, DataType::Utf8, DataType::Float64]);
    let batches = flight.get("weather.csv").unwrap();
    let mut row = 0_u32;
    for batch in &batches {
        let hours = batch.column(0).as_primitive::<Int64Type>();
        let (stations, degrees) =
            (batch.column(1).as_string::<i32>(), batch.column(2).as_primitive::<Float64Type>());
        for index in 0..batch.num_rows() {
            assert_eq!(hours.value(index), i64::from(row));
            assert_eq!(stations.value(index), format!("Waglan, {}", row % 7));
            assert!((degrees.value(index) - (f64::from(row % 40) + 0.5)).abs() < f64::EPSILON);
            row += 1;
        }
    }
    assert_eq!(row, 100_000);

    // One session is one use, over both endpoints; what it released is in one receipt.
    let again = ["session", "open", &agreement, "--purpose", RESEARCH];
    consumer.run(&again).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
    assert_eq!(flight.list().unwrap().len(), 2, "a spent count ends no session that it paid for");
    let receipt = consumer.run(&["session", "close", &session.id]).object();
    let least = u64::try_from(csv.len() + file.len() / 2).unwrap();
    assert!(receipt["bytes"].as_u64().unwrap() >= least, "{receipt}");
    refused(flight.list(), Code::FailedPrecondition, "use/session-closed");
    refused(flight.get("weather.csv"), Code::FailedPrecondition, "use/session-closed");
}

#[test]
fn strangers_get_nothing_and_others_a_reason() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let late = format!("{}x,y,not a number\n", weather(50_000));
    let files: [(&str, &[u8]); 5] = [
        ("weather.csv", b"a,b\n1,2\n"),
        ("late.csv", late.as_bytes()),
        ("broken.parquet", b"PAR1 and then nothing"),
        ("image.png", b"\x89PNG"),
        ("ragged.csv", b"a,b\n1,2\n3\n"),
    ];
    let first = held(&mut space, &Dataset::research("weather"), &files);
    let second = held(&mut space, &Dataset::research("tides"), &[("tides.csv", b"h\n1\n")]);
    let [consumer] = space.all([CONSUMER]);
    let (session, other) = (open(consumer, &first), open(consumer, &second));
    let endpoint = address(&session.shown);

    for token in [None, Some("wrong"), Some("")] {
        let mut flight = Flight::connect(&session.shown, token);
        refused(flight.list(), Code::Unauthenticated, "use/bad-session-token");
        refused(flight.info("weather.csv"), Code::Unauthenticated, "use/bad-session-token");
        refused(flight.get("weather.csv"), Code::Unauthenticated, "use/bad-session-token");
        refused(flight.act(), Code::Unauthenticated, "use/bad-session-token");
    }
    // A token opens its own session's objects and no others.
    refused(client(&other).get("weather.csv"), Code::NotFound, "use/no-such-table");
    let elsewhere = Flight::connect_as(endpoint, Some(&session.token), Some("http://evil.example"));
    refused({ elsewhere }.list(), Code::InvalidArgument, "use/other-host");
    // Another user of this host shows the token in vain: the kernel tells who asks.
    if rustix::process::geteuid().is_root() {
        let stolen = session.token.clone();
        let asked = std::thread::spawn(move || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(54_321)).unwrap();
            let mut flight = Flight::connect_as(endpoint, Some(&stolen), None);
            refused(flight.list(), Code::PermissionDenied, "use/other-user");
        });
        asked.join().unwrap();
    }

    let mut flight = client(&session);
    refused(flight.get("tides.csv"), Code::NotFound, "use/no-such-table");
    refused(flight.schema(""), Code::NotFound, "use/no-such-table");
    refused(flight.get("image.png"), Code::InvalidArgument, "use/not-tabular");
    refused(flight.info("image.png"), Code::InvalidArgument, "use/not-tabular");
    refused(flight.get("broken.parquet"), Code::InvalidArgument, "use/malformed-table");
    refused(flight.get("ragged.csv"), Code::InvalidArgument, "use/malformed-table");
    refused(flight.act(), Code::Unimplemented, "use/not-over-flight");
    refused(flight.command(), Code::Unimplemented, "use/not-over-flight");
    // What comes before a value of another type comes whole, and then the line.
    let mut stream = flight.begin("late.csv").unwrap();
    let (batches, ended) = flight.rest(&mut stream);
    let status = ended.expect("the last line is refused");
    assert!(status.message().contains("line 50002, column `hour`"), "{status:?}");
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert!((30_000..=50_000).contains(&rows), "{rows} rows");
    // None of this ended the session.
    assert_eq!(flight.get("weather.csv").unwrap()[0].num_rows(), 1);
}

/// More than the buffers between connector and client hold.
fn long() -> String {
    weather(2_000_000)
}

#[test]
fn what_changes_ends_streams_with_its_reason() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let content = long();
    let agreement = held(&mut space, &Dataset::research("weather"), &[("weather.csv", content.as_bytes())]);
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    let ended = |session: &Opened| {
        until("the session has ended", || {
            let shown = consumer.run(&["session", "show", &session.id]);
            (shown.exit != 0).then_some(())
        });
    };
    let begun = |session: &Opened| {
        let mut flight = client(session);
        let mut stream = flight.begin("weather.csv").unwrap();
        assert!(flight.next(&mut stream).unwrap().unwrap().num_rows() > 0);
        (flight, stream)
    };
    let cut = |(mut flight, mut stream): (Flight, _), code: &str| {
        let (batches, status) = flight.rest(&mut stream);
        let status = status.expect("the stream does not end as if it were whole");
        assert!(status.message().starts_with(&format!("{code}: ")), "{status:?}");
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert!(rows < 1_000_000, "{rows} rows came after the stop");
        flight
    };

    let session = open(consumer, &agreement);
    let reading = begun(&session);
    consumer.run(&["session", "close", &session.id]).done();
    refused(cut(reading, "use/session-closed").list(), Code::FailedPrecondition, "use/session-closed");

    let session = open(consumer, &agreement);
    let reading = begun(&session);
    provider.run(&["agreement", "suspend", &agreement, "--reason", "checking"]).done();
    ended(&session);
    let mut flight = cut(reading, "transfer/agreement-suspended");
    let message = flight.get("weather.csv").unwrap_err().message().to_owned();
    assert!(message.starts_with("transfer/agreement-suspended: "), "{message}");
    provider.run(&["agreement", "resume", &agreement]).done();

    let session = until("the agreement is active again", || {
        let opened = consumer.run(&["session", "open", &agreement, "--purpose", RESEARCH]);
        (opened.exit == 0).then(|| Opened::of(opened.object()))
    });
    let reading = begun(&session);
    provider.run(&["agreement", "revoke", &agreement, "--reason", "withdrawn"]).done();
    ended(&session);
    cut(reading, "transfer/agreement-revoked");
}

#[test]
fn a_deleted_copy_ends_a_stream_and_flight_can_be_off() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let content = long();
    let agreement = held(&mut space, &Dataset::research("weather"), &[("weather.csv", content.as_bytes())]);
    let [consumer] = space.all([CONSUMER]);
    let session = open(consumer, &agreement);
    let mut flight = client(&session);
    let mut stream = flight.begin("weather.csv").unwrap();
    flight.next(&mut stream).unwrap().unwrap();
    consumer.run(&["holdings", "delete", &agreement]).done();
    let (_, status) = flight.rest(&mut stream);
    let status = status.expect("the stream does not end as if it were whole");
    assert!(status.message().starts_with("use/destroyed: "), "{status:?}");

    let agreement = held(&mut space, &Dataset::research("tides"), &[("tides.csv", b"h\n1\n")]);
    let [consumer] = space.all([CONSUMER]);
    assert!(consumer.stop().success());
    consumer.settings.flight = "off".to_owned();
    consumer.start();
    let session = open(consumer, &agreement);
    assert_eq!(session.shown["flight"], "");
    assert!(session.get(&[]).body() == b"h\n1\n", "the bytes are still served");
}
