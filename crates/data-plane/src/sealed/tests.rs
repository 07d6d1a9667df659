//! Sealed files: round trips against plain bytes, resumption, and every way to tamper.

use std::collections::HashSet;

use control_plane::ids::AgreementId;
use policy::time::UnixMillis;
use proptest::prelude::*;

use super::*;
use crate::digest::{ObjectHasher, pattern};
use crate::ids::ObjectId;
use crate::keys::{AgreementKey, DataKey};
use crate::manifest::{CHUNK_BYTES, ManifestObject};

const MILLIS: UnixMillis = UnixMillis(1_795_000_000_000);

struct Object {
    folder: tempfile::TempDir,
    store: SealedStore,
    key: DataKey,
    record: ObjectRecord,
    plain: Vec<u8>,
}

impl Object {
    fn begin(size: usize, name: &str) -> (Self, SealedWriter) {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(folder.path()).unwrap();
        let agreement = AgreementId::parse("urn:agreement:1").unwrap();
        let under = AgreementKey::generate(agreement.clone()).unwrap();
        let key = DataKey::fixed(7);
        let object = ObjectId::parse(name).unwrap();
        let plain = pattern(size);
        let mut hasher = ObjectHasher::new();
        hasher.update(&plain);
        let entry = ManifestObject::new("data.csv".into(), None, hasher.finish()).unwrap();
        let header = Header {
            agreement,
            object: object.clone(),
            manifest: Digest::of(b"manifest"),
            size: size as u64,
            created: MILLIS,
        };
        let wrapped = key.wrap(&object, &under).unwrap();
        let record =
            ObjectRecord::begin(header.clone(), SealedStore::fresh_name().unwrap(), &entry, wrapped, &under)
                .unwrap();
        let writer = SealedWriter::create(&store.path(record.file()), &header, &key).unwrap();
        (Self { folder, store, key, record, plain }, writer)
    }

    fn whole(size: usize) -> Self {
        let (mut object, mut writer) = Self::begin(size, "one");
        writer.append(&object.plain).unwrap();
        writer.finish().unwrap();
        object.complete();
        object
    }

    fn complete(&mut self) {
        self.record.durable = self.record.size();
        self.record.state = ObjectState::Complete;
        self.record = ObjectRecord::from_json(&self.record.to_json().unwrap()).unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.store.path(self.record.file())
    }

    fn open(&self) -> Result<SealedReader, DataError> {
        SealedReader::open(&self.path(), &self.record, &self.key)
    }

    fn read_all(&self) -> Result<Vec<u8>, DataError> {
        let reader = self.open()?;
        let mut all = Vec::new();
        loop {
            let part = reader.read(all.len() as u64, usize::MAX)?;
            if part.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&part);
        }
    }

    /// Resumes at the chunk boundary `durable`, as an ingress does.
    fn resume(&mut self, durable: usize) -> SealedWriter {
        self.record.durable = durable as u64;
        let run = self.record.next_run().unwrap();
        self.record.enter(run);
        SealedWriter::resume(&self.path(), &self.record, &self.key).unwrap()
    }
}

fn altered<T>(result: Result<T, DataError>, what: &str) {
    match result {
        Err(DataError::Refused(refusal)) => assert_eq!(refusal.code, &ALTERED, "{what}: {refusal}"),
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: accepted"),
    }
}

#[test]
fn round_trips_at_every_kind_of_size() {
    for size in [
        0,
        1,
        SEGMENT_BYTES - 1,
        SEGMENT_BYTES,
        SEGMENT_BYTES + 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES + 3 * SEGMENT_BYTES + 17,
    ] {
        let object = Object::whole(size);
        assert!(object.read_all().unwrap() == object.plain, "{size} bytes");
        let on_disk = std::fs::read(object.path()).unwrap();
        assert_eq!(on_disk.len() as u64, file_len(object.open().unwrap().data_start(), size as u64));
        if size > 64 {
            assert!(
                !on_disk[..on_disk.len().min(4096)].windows(32).any(|window| window == &object.plain[..32]),
                "plaintext on disk"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn reads_at_any_offset_equal_the_plain_bytes(
        size in 0_usize..5 * SEGMENT_BYTES,
        reads in prop::collection::vec((0_usize..6 * SEGMENT_BYTES, 0_usize..2 * CHUNK_BYTES), 6),
    ) {
        let object = Object::whole(size);
        let reader = object.open().unwrap();
        for (offset, limit) in reads {
            let start = offset.min(size);
            let end = offset.saturating_add(limit.min(reader::MAX_READ_BYTES)).min(size).max(start);
            prop_assert!(reader.read(offset as u64, limit).unwrap() == object.plain[start..end]);
        }
    }

    /// Writers that die after any number of segments, with any durable prefix: the end result is the plain bytes,
    /// and no nonce was used twice.
    #[test]
    fn resumption_never_reuses_a_nonce(
        deaths in prop::collection::vec((0_usize..12, 0_usize..3), 0..5),
    ) {
        let size = 3 * CHUNK_BYTES - 5;
        let (mut object, mut writer) = Object::begin(size, "one");
        let mut spent = HashSet::new();
        let mut durable = 0;
        for (segments, keep) in deaths {
            let start = writer.written() as usize;
            let end = (start + segments * SEGMENT_BYTES).min(size);
            let generation = object.record.runs.last().unwrap().generation;
            for index in start / SEGMENT_BYTES..end.div_ceil(SEGMENT_BYTES) {
                prop_assert!(spent.insert((generation, index)), "nonce ({generation}, {index}) twice");
            }
            writer.append(&object.plain[start..end]).unwrap();
            drop(writer);
            // Durable is any whole-chunk prefix of what was written, at least what was durable before.
            durable = durable.max((keep * CHUNK_BYTES).min(end / CHUNK_BYTES * CHUNK_BYTES).min(2 * CHUNK_BYTES));
            writer = object.resume(durable);
            prop_assert_eq!(writer.written(), durable as u64);
        }
        let start = writer.written() as usize;
        let generation = object.record.runs.last().unwrap().generation;
        prop_assert!((start / SEGMENT_BYTES..12).all(|index| spent.insert((generation, index))));
        writer.append(&object.plain[start..]).unwrap();
        writer.finish().unwrap();
        object.complete();
        prop_assert!(object.read_all().unwrap() == object.plain);
    }
}

#[test]
fn every_byte_class_is_protected() {
    let size = 2 * SEGMENT_BYTES + 100;
    let object = Object::whole(size);
    let good = std::fs::read(object.path()).unwrap();
    let start = object.open().unwrap().data_start() as usize;
    let last = start + 2 * STRIDE;
    for (what, position) in [
        ("magic", 0),
        ("header length", 9),
        ("header length, low byte", 11),
        ("header", 20),
        ("header end", start - 1),
        ("generation", start),
        ("generation, low byte", start + 3),
        ("first ciphertext byte", start + 4),
        ("last ciphertext byte of a segment", start + 4 + SEGMENT_BYTES - 1),
        ("tag", start + STRIDE - 1),
        ("second generation", start + STRIDE + 3),
        ("second ciphertext", start + STRIDE + 1000),
        ("last segment's generation", last + 3),
        ("last segment's ciphertext", last + 50),
        ("last tag", good.len() - 1),
    ] {
        for bit in [1, 0x80] {
            let mut bytes = good.clone();
            bytes[position] ^= bit;
            std::fs::write(object.path(), &bytes).unwrap();
            altered(object.read_all(), what);
        }
    }
    for (what, bytes) in [
        ("empty file", Vec::new()),
        ("cut header", good[..40].to_vec()),
        ("cut to a segment boundary", good[..last].to_vec()),
        ("cut by one byte", good[..good.len() - 1].to_vec()),
        ("appended byte", [good.as_slice(), &[0]].concat()),
        ("appended segment", [good.as_slice(), &good[start..start + STRIDE]].concat()),
        (
            "swapped segments",
            [&good[..start], &good[start + STRIDE..last], &good[start..start + STRIDE], &good[last..]]
                .concat(),
        ),
        ("repeated segment", [&good[..start + STRIDE], &good[start..start + STRIDE], &good[last..]].concat()),
    ] {
        std::fs::write(object.path(), &bytes).unwrap();
        altered(object.read_all(), what);
    }
    std::fs::remove_file(object.path()).unwrap();
    altered(object.read_all(), "missing file");
    std::fs::write(object.path(), &good).unwrap();
    assert!(object.read_all().unwrap() == object.plain, "the good bytes are still good");
}

#[test]
fn files_cannot_be_exchanged() {
    let size = SEGMENT_BYTES + 9;
    let one = Object::whole(size);
    let (mut two, mut writer) = Object::begin(size, "two");
    writer.append(&two.plain).unwrap();
    writer.finish().unwrap();
    two.complete();
    // Same key, size, content: only the header tells them apart.
    std::fs::copy(two.path(), one.path()).unwrap();
    altered(one.read_all(), "another object's file");
    let other_key = DataKey::fixed(8);
    altered(
        SealedReader::open(&two.path(), &two.record, &other_key).and_then(|r| r.read(0, 1)),
        "another key",
    );
}

#[test]
fn an_older_state_of_the_file_is_refused() {
    let size = 3 * CHUNK_BYTES;
    let (mut object, mut writer) = Object::begin(size, "one");
    writer.append(&object.plain[..2 * CHUNK_BYTES]).unwrap();
    drop(writer);
    let older = std::fs::read(object.path()).unwrap();
    let older_record = object.record.clone();

    let mut writer = object.resume(CHUNK_BYTES);
    writer.append(&object.plain[CHUNK_BYTES..]).unwrap();
    writer.finish().unwrap();
    object.complete();
    let complete = std::fs::read(object.path()).unwrap();
    assert!(object.read_all().unwrap() == object.plain);

    // Bytes of the first writer in place of the second's: valid once, not any more.
    let mut mixed = complete.clone();
    mixed[..older.len()].copy_from_slice(&older);
    std::fs::write(object.path(), &mixed).unwrap();
    altered(object.read_all(), "segments of an earlier writer");
    std::fs::write(object.path(), &older).unwrap();
    altered(object.read_all(), "the file before it was complete");

    // The other way about: the row is older than the file, so its next generation would be one already spent.
    std::fs::write(object.path(), &complete).unwrap();
    let mut stale = older_record;
    stale.durable = CHUNK_BYTES as u64;
    let run = stale.next_run().unwrap();
    stale.enter(run);
    altered(SealedWriter::resume(&object.path(), &stale, &object.key), "the row was put back");
}

#[test]
fn a_damaged_partial_file_is_not_continued() {
    let (mut object, mut writer) = Object::begin(3 * CHUNK_BYTES, "one");
    writer.append(&object.plain[..CHUNK_BYTES]).unwrap();
    drop(writer);
    let good = std::fs::read(object.path()).unwrap();
    object.record.durable = CHUNK_BYTES as u64;
    let run = object.record.next_run().unwrap();
    object.record.enter(run);
    for (what, bytes) in [
        ("shorter than durable", good[..good.len() - 1].to_vec()),
        ("last durable segment altered", {
            let mut bytes = good.clone();
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        }),
        ("header altered", {
            let mut bytes = good.clone();
            bytes[30] ^= 1;
            bytes
        }),
    ] {
        std::fs::write(object.path(), bytes).unwrap();
        altered(SealedWriter::resume(&object.path(), &object.record, &object.key), what);
    }
}

#[test]
fn a_writer_is_exclusive_and_exact() {
    let (object, mut writer) = Object::begin(CHUNK_BYTES + 10, "one");
    let mut record = object.record.clone();
    record.enter(Run { generation: 2, first: 0 });
    let second = SealedWriter::resume(&object.path(), &record, &object.key);
    assert_eq!(second.err().unwrap().into_refusal().code, &BUSY);
    assert!(writer.append(&object.plain[..100]).is_err(), "a part of a segment");
    assert!(writer.append(&object.plain).is_err(), "a writer that failed writes nothing more");
    assert!(writer.finish().is_err());
}

#[test]
fn records_are_checked_when_read_back() {
    let object = Object::whole(3 * CHUNK_BYTES);
    let good: serde_json::Value = serde_json::from_str(&object.record.to_json().unwrap()).unwrap();
    let zero = serde_json::json!(0);
    for (field, value) in [
        ("format", serde_json::json!("fairlead-sealed-object/2")),
        ("state", serde_json::json!("open")),
        ("durable", serde_json::json!(5)),
        ("durable", zero.clone()),
        ("file", serde_json::json!("../../etc/passwd")),
        ("file", serde_json::json!("0123456789abcdef0123456789abcdef.sealed/x")),
        ("runs", serde_json::json!([])),
        ("runs", serde_json::json!([{"generation": 0, "first": 0}])),
        ("runs", serde_json::json!([{"generation": 1, "first": 1}])),
        ("runs", serde_json::json!([{"generation": 2, "first": 0}, {"generation": 1, "first": 4}])),
        ("runs", serde_json::json!([{"generation": 1, "first": 0}, {"generation": 2, "first": 99}])),
        ("key", serde_json::json!("secret")),
        ("digest", zero),
        ("unknown", serde_json::json!(1)),
    ] {
        let mut bad = good.clone();
        bad[field] = value.clone();
        assert!(ObjectRecord::from_json(&bad.to_string()).is_err(), "{field} = {value}");
    }
    let mut keyless = good.clone();
    keyless.as_object_mut().unwrap().remove("key");
    assert!(ObjectRecord::from_json(&keyless.to_string()).is_err(), "complete without a key");
    assert_eq!(ObjectRecord::from_json(&good.to_string()).unwrap(), object.record);
}

#[test]
fn a_destroyed_object_keeps_its_evidence_and_nothing_else() {
    let object = Object::whole(100);
    let destroyed = object.record.clone().destroy(MILLIS);
    let again = ObjectRecord::from_json(&destroyed.to_json().unwrap()).unwrap();
    assert_eq!((again.state(), again.destroyed_at()), (ObjectState::Destroyed, Some(MILLIS)));
    assert!(!again.to_json().unwrap().contains("fairlead-key"));
    let under = AgreementKey::generate(again.agreement().clone()).unwrap();
    assert_eq!(again.data_key(&under).err().unwrap().into_refusal().code, &DESTROYED);
    object.store.remove(&again).unwrap();
    object.store.remove(&again).unwrap();
    assert!(!object.path().exists());
}

#[test]
fn sweeping_removes_only_orphans() {
    let object = Object::whole(10);
    let orphan = object.store.path(&SealedStore::fresh_name().unwrap());
    let foreign = object.folder.path().join("README");
    std::fs::write(&orphan, "x").unwrap();
    std::fs::write(&foreign, "x").unwrap();
    assert_eq!(object.store.sweep(std::slice::from_ref(&object.record)).unwrap(), 1);
    assert!(!orphan.exists() && foreign.exists() && object.path().exists());
    let destroyed = object.record.clone().destroy(UnixMillis(1));
    assert_eq!(object.store.sweep(&[destroyed]).unwrap(), 1, "what a crash left of a deletion");
    assert!(!object.path().exists());
}
