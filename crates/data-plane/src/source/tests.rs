//! Sources: files only beneath their roots, HTTP only from configured hosts, and exact manifests.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::digest::Digest;
use crate::egress::SOURCE_CHANGED;
use crate::egress::tests::subject;
use crate::manifest::CHUNK_BYTES;

fn dataset() -> DatasetId {
    DatasetId::parse("https://campus.example/dataset/1").unwrap()
}

struct Folder {
    _temporary: tempfile::TempDir,
    path: PathBuf,
    sources: Sources,
}

/// `root/{a.csv, sub/b.csv, sub/deeper/c.csv}` beside `outside/secret`.
fn folder() -> Folder {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().canonicalize().unwrap();
    std::fs::create_dir_all(path.join("root/sub/deeper")).unwrap();
    std::fs::create_dir_all(path.join("outside")).unwrap();
    std::fs::create_dir_all(path.join("data")).unwrap();
    std::fs::write(path.join("root/a.csv"), "a").unwrap();
    std::fs::write(path.join("root/sub/b.csv"), "b").unwrap();
    std::fs::write(path.join("root/sub/deeper/c.csv"), "").unwrap();
    std::fs::write(path.join("outside/secret"), "secret").unwrap();
    let settings = SourceSettings { roots: vec![path.join("root")], ..SourceSettings::default() };
    let sources = Sources::open(&settings, &path.join("data")).unwrap();
    Folder { _temporary: temporary, path, sources }
}

fn code<T>(result: Result<T, DataError>) -> &'static policy::refusal::Code {
    result.err().unwrap().into_refusal().code
}

#[tokio::test]
async fn a_directory_becomes_sorted_objects() {
    let folder = folder();
    let spec = SourceSpec::Directory { path: folder.path.join("root"), media_type: Some("text/csv".into()) };
    let publication = folder.sources.publish(&spec, dataset()).await.unwrap();
    let objects: Vec<_> = publication
        .manifest()
        .objects()
        .iter()
        .map(|object| (object.name(), object.size(), object.checksum(), object.media_type()))
        .collect();
    let csv = Some("text/csv");
    assert_eq!(
        objects,
        [
            ("a.csv", 1, Digest::of(b"a"), csv),
            ("sub/b.csv", 1, Digest::of(b"b"), csv),
            ("sub/deeper/c.csv", 0, Digest::of(b""), csv),
        ]
    );
    let again = Publication::from_json(&publication.to_json().unwrap()).unwrap();
    assert_eq!(again, publication);
    for index in 0..3 {
        let mut reader = folder.sources.read_ahead(&again, index, 0, &subject()).await.unwrap();
        let expected: &[u8] = [b"a".as_slice(), b"b", b""][index as usize];
        if !expected.is_empty() {
            assert_eq!(reader.next().await.unwrap(), expected);
        }
    }
    let one = SourceSpec::File { path: folder.path.join("root/sub/b.csv"), media_type: None };
    let one = folder.sources.publish(&one, dataset()).await.unwrap();
    assert_eq!(one.manifest().objects()[0].name(), "b.csv");
}

#[tokio::test]
async fn nothing_outside_is_published() {
    let folder = folder();
    let root = folder.path.join("root");
    symlink("../outside/secret", root.join("up")).unwrap();
    symlink(folder.path.join("outside/secret"), root.join("absolute")).unwrap();
    symlink("../outside", root.join("linked-folder")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("a.csv", root.join("inside")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
    assert!(pipe.success());
    for (path, expected) in [
        (folder.path.join("outside/secret"), &OUTSIDE_ROOTS),
        (root.join("../outside/secret"), &OUTSIDE_ROOTS),
        (root.join("up"), &OUTSIDE_ROOTS),
        (root.join("absolute"), &OUTSIDE_ROOTS),
        (root.join("linked-folder/secret"), &OUTSIDE_ROOTS),
        (root.join("magic/etc/passwd"), &OUTSIDE_ROOTS),
        (root.join("loop"), &OUTSIDE_ROOTS),
        (PathBuf::from("a.csv"), &OUTSIDE_ROOTS),
        (root.join("missing"), &UNREADABLE),
        (root.join("sub"), &NOT_A_FILE),
        (root.join("a.csv/b"), &NOT_A_FILE),
        (root.join("pipe"), &NOT_A_FILE),
    ] {
        let spec = SourceSpec::File { path: path.clone(), media_type: None };
        assert_eq!(code(folder.sources.publish(&spec, dataset()).await), expected, "{}", path.display());
    }
    let inside = SourceSpec::File { path: root.join("inside"), media_type: None };
    assert!(folder.sources.publish(&inside, dataset()).await.is_ok(), "a link that stays inside");
    let all = SourceSpec::Directory { path: root, media_type: None };
    assert_eq!(code(folder.sources.publish(&all, dataset()).await), &NOT_A_FILE, "links are not skipped");
}

#[tokio::test]
async fn a_link_put_in_the_way_later_leads_nowhere() {
    let folder = folder();
    let spec = SourceSpec::File { path: folder.path.join("root/sub/b.csv"), media_type: None };
    let publication = folder.sources.publish(&spec, dataset()).await.unwrap();
    std::fs::rename(folder.path.join("root/sub"), folder.path.join("root/old")).unwrap();
    std::fs::write(folder.path.join("outside/b.csv"), "b").unwrap();
    symlink("../outside", folder.path.join("root/sub")).unwrap();
    assert_eq!(code(folder.sources.read_ahead(&publication, 0, 0, &subject()).await), &OUTSIDE_ROOTS);
}

#[test]
fn roots_and_data_directory_are_apart() {
    let folder = folder();
    for (root, data) in
        [("data", "data"), ("data/sub", "data"), ("root", "root/data"), ("root", "root/later")]
    {
        std::fs::create_dir_all(folder.path.join(root)).unwrap();
        if !data.ends_with("later") {
            std::fs::create_dir_all(folder.path.join(data)).unwrap();
        }
        let settings = SourceSettings { roots: vec![folder.path.join(root)], ..SourceSettings::default() };
        let opened = Sources::open(&settings, &folder.path.join(data));
        assert_eq!(code(opened), &DATA_DIRECTORY, "{root} {data}");
    }
}

/// A server that answers each connection with the next of these texts and keeps the requests.
async fn serve(answers: Vec<Vec<u8>>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            kept.lock().unwrap().push(String::from_utf8(request).unwrap());
            // The client may hang up once it knows enough.
            stream.write_all(&answer).await.ok();
        }
    });
    (address, requests)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn http_sources(address: SocketAddr, allowed: bool) -> Sources {
    let host = HttpHost {
        host: address.ip().to_string(),
        port: address.port(),
        plain: true,
        addresses: if allowed { vec![address.ip()] } else { Vec::new() },
    };
    let settings = SourceSettings { http: vec![host], ..SourceSettings::default() };
    Sources::open(&settings, &std::env::temp_dir()).unwrap()
}

fn spec(address: SocketAddr) -> SourceSpec {
    SourceSpec::Http { url: format!("http://{address}/data.csv"), name: "data.csv".into(), media_type: None }
}

#[tokio::test]
async fn an_http_source_is_published_and_read_from_an_offset() {
    let body = crate::digest::pattern(2 * CHUNK_BYTES + 7);
    let rest = &body[CHUNK_BYTES..];
    let range =
        format!("ETag: \"v1\"\r\nContent-Range: bytes {CHUNK_BYTES}-{}/{}\r\n", body.len() - 1, body.len());
    let mut altered = rest.to_vec();
    altered[CHUNK_BYTES + 3] ^= 1;
    let (address, requests) = serve(vec![
        answer("200 OK", "ETag: \"v1\"\r\n", &body),
        answer("206 Partial Content", &range, rest),
        answer("206 Partial Content", &range, &altered),
        answer("412 Precondition Failed", "", b""),
        answer("200 OK", "ETag: \"v1\"\r\n", &body),
        answer("200 OK", "ETag: \"v2\"\r\n", &body),
        answer("200 OK", "ETag: \"v1\"\r\n", &body[1..]),
    ])
    .await;
    let sources = http_sources(address, true);
    let publication = sources.publish(&spec(address), dataset()).await.unwrap();
    assert_eq!(publication.manifest().objects()[0].checksum(), Digest::of(&body));
    assert_eq!(Publication::from_json(&publication.to_json().unwrap()).unwrap(), publication);

    let offset = CHUNK_BYTES as u64;
    let mut reader = sources.read_ahead(&publication, 0, offset, &subject()).await.unwrap();
    assert!(reader.next().await.unwrap() == rest[..CHUNK_BYTES]);
    assert!(reader.next().await.unwrap() == rest[CHUNK_BYTES..]);
    let asked = requests.lock().unwrap()[1].to_ascii_lowercase();
    assert!(asked.contains("range: bytes=1048576-\r\n") && asked.contains("if-match: \"v1\"\r\n"), "{asked}");

    let mut reader = sources.read_ahead(&publication, 0, offset, &subject()).await.unwrap();
    reader.next().await.unwrap();
    assert_eq!(code(reader.next().await), &SOURCE_CHANGED, "altered last chunk");
    assert_eq!(
        code(sources.read_ahead(&publication, 0, offset, &subject()).await),
        &SOURCE_CHANGED,
        "another entity"
    );
    assert_eq!(
        code(sources.read_ahead(&publication, 0, offset, &subject()).await),
        &SOURCE_CHANGED,
        "no range"
    );
    assert_eq!(
        code(sources.read_ahead(&publication, 0, 0, &subject()).await),
        &SOURCE_CHANGED,
        "another tag"
    );
    assert_eq!(
        code(sources.read_ahead(&publication, 0, 0, &subject()).await),
        &SOURCE_CHANGED,
        "another length"
    );
}

#[tokio::test]
async fn answers_that_are_not_the_resource_are_refused() {
    let (address, requests) = serve(vec![
        answer("302 Found", "Location: http://169.254.169.254/\r\n", b""),
        answer("404 Not Found", "", b""),
        answer("200 OK", "Content-Encoding: gzip\r\n", b"x"),
    ])
    .await;
    let sources = http_sources(address, true);
    for what in ["redirect", "missing", "encoded"] {
        assert_eq!(
            code(sources.publish(&spec(address), dataset()).await),
            &http::ANSWER_NOT_USABLE,
            "{what}"
        );
    }
    let refused = http_sources(address, false).publish(&spec(address), dataset()).await;
    assert_eq!(code(refused), &http::ADDRESS_NOT_ALLOWED);
    assert_eq!(requests.lock().unwrap().len(), 3, "nothing was sent to an address that is not allowed");
}

const DECLARED: &str = r#"{"format":"fairlead-transform/1","name":"wards","version":"2","performs":["odrl:anonymize"],
    "steps":[{"step":"hash","columns":["name"]},{"step":"suppress","columns":["ward"],"k":2}]}"#;

fn applied() -> AppliedTransform {
    let transform = crate::transform::Transform::parse(DECLARED).unwrap();
    AppliedTransform { transform, salt: crate::transform::Salt::new([3; 32]) }
}

/// Three chunks and a bit of CSV, of which one row must not leave.
fn visits() -> String {
    let mut text = String::from("name,ward,note\n");
    for index in 0..48_000 {
        text.push_str(&format!("person {index},W{},{index:0>20}\n", index % 7));
    }
    text.push_str("person x,W9,alone\n");
    text
}

async fn all(sources: &Sources, publication: &Publication, offset: u64) -> Result<Vec<u8>, DataError> {
    let mut reader = sources.read_ahead(publication, 0, offset, &subject()).await?;
    let mut bytes = Vec::new();
    while (offset + bytes.len() as u64) < publication.manifest().objects()[0].size() {
        bytes.extend_from_slice(&reader.next().await?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn what_leaves_is_transformed_and_the_manifest_says_so() {
    let folder = folder();
    let path = folder.path.join("root/a.csv");
    std::fs::write(&path, visits()).unwrap();
    let spec = SourceSpec::File { path: path.clone(), media_type: Some("text/csv".into()) };
    let publication = folder.sources.publish_transformed(&spec, dataset(), Some(applied())).await.unwrap();
    assert_eq!(publication.manifest().transform(), Some(&applied().transform.mark()));
    let read = Manifest::parse(publication.manifest().text()).unwrap();
    assert_eq!(read, **publication.manifest());

    // The row is read back as it was kept, and gives the same bytes from any chunk on.
    let again = Publication::from_json(&publication.to_json().unwrap()).unwrap();
    assert_eq!(again, publication);
    let bytes = all(&folder.sources, &again, 0).await.unwrap();
    assert!(bytes.len() > 3 * CHUNK_BYTES);
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(!text.contains("person ") && !text.contains(",W9,") && text.contains(",W6,"));
    assert_eq!(text.lines().count(), 48_001);
    for chunk in 0..=3 {
        let offset = chunk * CHUNK_BYTES;
        let rest = all(&folder.sources, &again, offset as u64).await.unwrap();
        assert!(rest == bytes[offset..], "from chunk {chunk}");
    }

    // Another row alters what leaves: the first chunk that differs stops it, whatever the source has become.
    for changed in [visits().replacen("person 7,", "person y,", 1), String::new(), "name\n\"".to_owned()] {
        std::fs::write(&path, changed).unwrap();
        assert_eq!(code(all(&folder.sources, &again, 0).await), &SOURCE_CHANGED);
    }
    std::fs::write(&path, visits().replace("W9,alone", "W9,still")).unwrap();
    assert_eq!(
        all(&folder.sources, &again, 0).await.unwrap(),
        bytes,
        "the row that does not leave may change"
    );
}

#[tokio::test]
async fn an_end_that_is_missing_is_a_change() {
    let folder = folder();
    let path = folder.path.join("root/a.csv");
    std::fs::write(&path, visits()).unwrap();
    let spec = SourceSpec::File { path: path.clone(), media_type: Some("text/csv".into()) };
    let publication = folder.sources.publish_transformed(&spec, dataset(), Some(applied())).await.unwrap();
    let shorter: String = visits().lines().take(47_000).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, shorter).unwrap();
    assert_eq!(code(all(&folder.sources, &publication, 3 * CHUNK_BYTES as u64).await), &SOURCE_CHANGED);
}

#[tokio::test]
async fn what_cannot_be_transformed_is_not_published() {
    use crate::transform::{BAD_VALUE, DICOM, UNKNOWN_COLUMN, UNKNOWN_FORMAT};
    let folder = folder();
    let check = async |name: &str, content: &str, expected: &policy::refusal::Code| {
        let path = folder.path.join("root").join(name);
        std::fs::write(&path, content).unwrap();
        let spec = SourceSpec::File { path, media_type: None };
        let published = folder.sources.publish_transformed(&spec, dataset(), Some(applied())).await;
        assert_eq!(code(published).code, expected.code, "{name}");
    };
    check("x.bin", "name,ward\n", &UNKNOWN_FORMAT).await;
    check("x.dcm", "name,ward\n", &DICOM).await;
    check("x.csv", "ward\n", &UNKNOWN_COLUMN).await;
    check("x.json", r#"[{"name":{},"ward":1}]"#, &BAD_VALUE).await;
    let url =
        SourceSpec::Http { url: "http://data.example/a.csv".into(), name: "a.csv".into(), media_type: None };
    let published = folder.sources.publish_transformed(&url, dataset(), Some(applied())).await;
    assert_eq!(code(published), &NEEDS_FILES);
}

#[tokio::test]
async fn a_row_that_tells_another_transform_than_its_manifest_is_damaged() {
    let folder = folder();
    std::fs::write(folder.path.join("root/a.csv"), "name,ward\n").unwrap();
    let spec = SourceSpec::File { path: folder.path.join("root/a.csv"), media_type: None };
    let publication = folder.sources.publish_transformed(&spec, dataset(), Some(applied())).await.unwrap();
    let good = publication.to_json().unwrap();
    for (from, to) in [("wards", "words"), ("\"salt\":\"A", "\"salt\":\"."), ("\\\"k\\\":2", "\\\"k\\\":3")] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(Publication::from_json(&bad).is_err(), "{from}");
    }
    let mut without: serde_json::Value = serde_json::from_str(&good).unwrap();
    without.as_object_mut().unwrap().remove("transform");
    // Else the plain file would leave under a manifest that promises more.
    assert_eq!(Publication::from_json(&without.to_string()).unwrap_err().code, &MALFORMED_PUBLICATION);
}
