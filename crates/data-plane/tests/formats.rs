//! Files and rows as earlier versions wrote them must open. `UPDATE_FIXTURES=1` writes them anew: only for a new version.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use data_plane::{CODES, Manifest, ObjectState, Publication};
use support::Place;

const TEXT: &str = "date,station,°C\n2026-11-24,香港天文台,21.4\n2026-11-24,广州,20.9\n";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn write_fixtures() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("published")).unwrap();
    std::fs::write(folder.path().join("published/observations.csv"), TEXT).unwrap();
    let place = Place::open(folder.path());
    let publication = place.publish("observations.csv").await;
    place.pull(&publication, || {}).await;
    std::fs::write(folder.path().join("manifest.json"), publication.manifest().text()).unwrap();
    std::fs::write(folder.path().join("publication.json"), publication.to_json().unwrap()).unwrap();
    std::fs::remove_dir_all(fixtures()).ok();
    copy_all(folder.path(), &fixtures());
}

#[tokio::test]
async fn version_1_opens() {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        write_fixtures().await;
    }
    let folder = tempfile::tempdir().unwrap();
    copy_all(&fixtures(), folder.path());
    let place = Place::open(folder.path());

    let row_text = std::fs::read_to_string(folder.path().join("row.json")).unwrap();
    let row = place.row.record().unwrap();
    assert_eq!(row.to_json().unwrap(), row_text);
    assert_eq!(
        (row.state(), row.size(), row.name()),
        (ObjectState::Complete, TEXT.len() as u64, "observations.csv")
    );
    assert_eq!(String::from_utf8(place.use_all().await).unwrap(), TEXT);

    let manifest_text = std::fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    let manifest = Manifest::parse(&manifest_text).unwrap();
    assert_eq!((manifest.text(), manifest.digest()), (manifest_text.as_str(), row.manifest()));

    let publication_text = std::fs::read_to_string(folder.path().join("publication.json")).unwrap();
    let publication = Publication::from_json(&publication_text).unwrap();
    assert_eq!(publication.to_json().unwrap(), publication_text);
    assert_eq!(**publication.manifest(), manifest);
}

#[test]
fn codes_are_distinct_and_well_formed() {
    let mut seen = std::collections::BTreeSet::new();
    for code in CODES.iter().copied().flatten() {
        assert!(seen.insert(code.code), "{} twice", code.code);
        let (area, name) = code.code.split_once('/').unwrap();
        assert!(
            !area.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{name}"
        );
    }
}
