//! A pull that is killed at any moment goes on afterwards, in a new process, and ends with the same bytes.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use data_plane::CHUNK_BYTES;
use support::Place;

const FOLDER: &str = "FAIRLEAD_KILL_FOLDER";
const REPORT_TO: &str = "FAIRLEAD_KILL_REPORT_TO";
/// After so many chunks the pull waits to be killed.
const HOLD_AFTER: &str = "FAIRLEAD_KILL_HOLD_AFTER";
/// Two durable checkpoints and a bit.
const SIZE: usize = 70 * CHUNK_BYTES + 123;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

fn write_source(folder: &Path) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..SIZE.div_ceil(4096) as u32).flat_map(|i| i.to_le_bytes()).collect();
    bytes = bytes.repeat(SIZE.div_ceil(bytes.len()));
    bytes.truncate(SIZE);
    std::fs::create_dir_all(folder.join("published")).unwrap();
    std::fs::write(folder.join("published/data.csv"), &bytes).unwrap();
    bytes
}

/// Nobody answers: the end of this read is the end of this process.
fn wait_for_the_end(report: &mut TcpStream) {
    report.read_exact(&mut [0]).unwrap();
}

/// Alone, one undisturbed pull; started by [`killed_pulls_go_on`], the pull that is killed.
#[test]
fn one_pull() {
    if let (Ok(folder), Ok(report_to)) = (std::env::var(FOLDER), std::env::var(REPORT_TO)) {
        let mut report = TcpStream::connect(report_to).unwrap();
        let hold_after: usize = std::env::var(HOLD_AFTER).unwrap().parse().unwrap();
        let mut pushed = 0;
        if hold_after == 0 {
            wait_for_the_end(&mut report);
        }
        block_on(async {
            let place = Place::open(Path::new(&folder));
            let publication = place.publish("data.csv").await;
            let note = || {
                pushed += 1;
                report.write_all(b".").unwrap();
                if pushed == hold_after {
                    wait_for_the_end(&mut report);
                }
            };
            place.pull(&publication, note).await;
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bytes = write_source(folder.path());
    block_on(async {
        let place = Place::open(folder.path());
        place.pull(&place.publish("data.csv").await, || {}).await;
        assert!(place.use_all().await == bytes);
    });
}

#[test]
fn killed_pulls_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = write_source(folder.path());
    let listener = TcpListener::bind("[::1]:0").unwrap();
    // Kills at some chunk, while its threads still hash, seal and sync, and (with `checkpoint`) once bytes beyond those held before are durable.
    for (kill_after, checkpoint) in
        [(0, false), (1, false), (35, true), (20, false), (34, true), (3, false), (5, false)]
    {
        let place = Place::open(folder.path());
        let durable = |place: &Place| place.row.record().map_or(0, |record| record.durable());
        let before = durable(&place);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_pull"])
            .env(FOLDER, folder.path())
            .env(REPORT_TO, listener.local_addr().unwrap().to_string())
            .env(HOLD_AFTER, kill_after.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut reports, _) = listener.accept().unwrap();
        reports.read_exact(&mut vec![0; kill_after]).unwrap();
        while checkpoint && durable(&place) == before {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(durable(&place) >= before, "what was durable stays durable");
    }
    block_on(async {
        let place = Place::open(folder.path());
        place.pull(&place.publish("data.csv").await, || {}).await;
        assert!(place.use_all().await == bytes);
        let row = place.row.record().unwrap();
        place.store.sweep(&[row]).unwrap();
        let left = std::fs::read_dir(folder.path().join("sealed")).unwrap().count();
        assert_eq!(left, 1, "the sweep leaves the object and nothing else");
    });
}
