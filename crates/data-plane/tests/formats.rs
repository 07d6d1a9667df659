//! Files and rows as earlier versions wrote them must open. `UPDATE_FIXTURES=1` writes them anew: only for a new version.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use control_plane::ids::DatasetId;
use data_plane::{
    AppliedTransform, CODES, Manifest, ObjectState, Publication, Salt, SourceSettings, SourceSpec, Sources,
    Transform,
};
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
    // Where the folder lay is nobody's business.
    let root = folder.path().canonicalize().unwrap();
    let published = publication.to_json().unwrap().replace(root.to_str().unwrap(), "/srv");
    std::fs::write(folder.path().join("publication.json"), published).unwrap();
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

async fn transformed() -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("published");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("visits.csv"), "name,ward\n陳大文,A\nLee,A\nHo,B\n").unwrap();
    let settings = SourceSettings { roots: vec![root.clone()], ..SourceSettings::default() };
    let sources = Sources::open(&settings, &folder.path().join("data")).unwrap();
    let declared = r#"{"format":"fairlead-transform/1","name":"wards","version":"2","performs":["odrl:anonymize"],
        "steps":[{"step":"hash","columns":["name"]},{"step":"suppress","columns":["ward"],"k":2}]}"#;
    let applied =
        AppliedTransform { transform: Transform::parse(declared).unwrap(), salt: Salt::new([3; 32]) };
    let spec = SourceSpec::File { path: root.join("visits.csv"), media_type: None };
    let dataset = DatasetId::parse("https://campus.example/dataset/1").unwrap();
    sources.publish_transformed(&spec, dataset, Some(applied)).await.unwrap().to_json().unwrap()
}

/// A publication with a transform, as version 1 kept it: its row and manifest read back and are written the same.
#[tokio::test]
async fn a_publication_with_a_transform_opens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformed-publication-v1.json");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, transformed().await).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let publication = Publication::from_json(text.trim_end()).unwrap();
    assert_eq!(publication.to_json().unwrap(), text.trim_end());
    let applied = publication.applied().unwrap();
    assert_eq!(applied.transform.label(), "wards@2");
    assert_eq!(applied.salt.as_bytes(), &[3; 32]);
    assert_eq!(publication.manifest().transform(), Some(&applied.transform.mark()));
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
