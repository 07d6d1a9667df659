//! Puts a backup into the data directory of a new machine. Nothing there changes before the whole file was read,
//! authenticated and checked.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use control_plane::{Refusal, UnixMillis};
use data_plane::{FileKek, ObjectState, SealedStore};
use store::Tx;
use zeroize::Zeroizing;

use super::backup::Entry;
use super::stream::{Header, MAGIC, Opening, read_header, refused};
use super::{
    ALTERED, EXPIRED, KEK_FILE, KEY_NEEDED, KEYS_ENTRY, NO_KEYS_INSIDE, NOT_RESTORED, PUBLIC_KEY_FILE,
    SEALED_FOLDER, STATE_ENTRY, SecretKey, TARGET_EXISTS, UNKNOWN_FORMAT, failed,
};
use crate::data::provider::data_error;
use crate::data::{holdings, keys};
use crate::error::Error;

/// Where the file is unpacked, below the data directory.
const STAGING: &str = "restore.partial";
/// The head of an entry names a file of ours.
const MAX_ENTRY_HEAD_BYTES: u32 = 512;
/// A key-encryption key's file is a few dozen bytes.
const MAX_KEYS_BYTES: u64 = 4096;

/// How to restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leave what lies in `sealed/` as it is, and put nothing there.
    pub without_copies: bool,
}

/// What was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Records of the ledger.
    pub ledger_size: u64,
    /// What the backup said of itself; `None` for a plain copy of the state.
    pub found: Option<Found>,
}

/// What a recoverable backup said of itself and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose state it is.
    pub participant: String,
    /// When it was written, RFC 3339.
    pub created: String,
    /// Sealed files put back.
    pub copies: u64,
    /// Sealed files that the state names and that are not there: they can be pulled again.
    pub copies_missing: u64,
}

/// Whether the file begins like a backup that a recovery key opens.
pub fn is_recoverable(file: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC
}

/// Restores `file` into `data`, which must hold no state; `progress` is told each number of bytes read.
///
/// # Errors
/// The codes of this module, `store/not-restored` for what the store finds wrong.
pub fn restore(
    file: &Path,
    data: &Path,
    secret: Option<&SecretKey>,
    options: Options,
    now: UnixMillis,
    progress: &dyn Fn(u64),
) -> Result<Restored, Error> {
    let opened = File::open(file).map_err(failed(&NOT_RESTORED, file))?;
    let mut from = BufReader::new(Counted { from: opened, progress });
    let Some(header) = read_header(&mut from)? else {
        return plain(file, data, secret, now);
    };
    let secret =
        secret.ok_or_else(|| Refusal::new(&KEY_NEEDED, format!("recovery key {}", header.recovery_key)))?;
    let until = UnixMillis::parse_rfc3339(&header.keep_until)
        .ok_or_else(|| Refusal::new(&UNKNOWN_FORMAT, "`keepUntil` is not an instant"))?;
    if until <= now {
        return Err(Refusal::new(&EXPIRED, format!("until {until}")).into());
    }
    let opening = Opening::begin(from, &header, secret)?;
    require_free(data, options)?;
    private_folder(data)?;
    let staging = Staging::new(data)?;
    let unpacked = unpack(opening, &staging.0, options).map_err(failed(&NOT_RESTORED, file))?;
    let found = install(data, &staging.0, unpacked, options, &header)?;
    let report = store::restore(&staging.0.join(STATE_ENTRY), data, now).map_err(not_restored)?;
    if !data.join(PUBLIC_KEY_FILE).exists() {
        secret.public().save(data, false)?;
    }
    Ok(Restored { ledger_size: report.ledger.size, found: Some(found) })
}

fn plain(file: &Path, data: &Path, secret: Option<&SecretKey>, now: UnixMillis) -> Result<Restored, Error> {
    if secret.is_some() {
        return Err(Refusal::new(&NO_KEYS_INSIDE, format!("`{}`", file.display())).into());
    }
    let report = store::restore(file, data, now).map_err(not_restored)?;
    Ok(Restored { ledger_size: report.ledger.size, found: None })
}

fn not_restored(error: store::StoreError) -> Error {
    Refusal::new(&NOT_RESTORED, error.to_string()).into()
}

fn require_free(data: &Path, options: Options) -> Result<(), Error> {
    let state = data.join(STATE_ENTRY);
    let taken = |path: &Path| Err(Refusal::new(&TARGET_EXISTS, format!("`{}`", path.display())).into());
    if std::fs::symlink_metadata(&state).is_ok() {
        return taken(&state);
    }
    let sealed = data.join(SEALED_FOLDER);
    if !options.without_copies && !names(&sealed)?.is_empty() {
        return taken(&sealed);
    }
    Ok(())
}

struct Unpacked {
    kek: FileKek,
    copies: u64,
}

/// Reads the whole archive into the staging folder. Keys stay in memory.
fn unpack(mut from: Opening<impl Read>, staging: &Path, options: Options) -> std::io::Result<Unpacked> {
    let mut kek = None;
    let mut has_state = false;
    let mut copies = 0_u64;
    while let Some(entry) = next_entry(&mut from)? {
        let mut body = (&mut from).take(entry.bytes);
        match entry.name.as_str() {
            KEYS_ENTRY if kek.is_none() && entry.bytes <= MAX_KEYS_BYTES => {
                let mut text = Zeroizing::new(String::new());
                body.read_to_string(&mut text)?;
                kek = Some(FileKek::from_text(&text, "the backup's keys").map_err(std::io::Error::other)?);
            }
            STATE_ENTRY if !has_state => {
                write_file(&staging.join(STATE_ENTRY), &mut body, entry.bytes)?;
                has_state = true;
            }
            name => {
                let name = name.strip_prefix(SEALED_FOLDER).filter(|name| SealedStore::is_file_name(name));
                let name = name.ok_or_else(|| refused(&ALTERED, "an entry of another kind"))?;
                if options.without_copies {
                    std::io::copy(&mut body, &mut std::io::sink())?;
                } else {
                    write_file(&staging.join(SEALED_FOLDER).join(name), &mut body, entry.bytes)?;
                    copies = copies.saturating_add(1);
                }
            }
        }
    }
    match kek {
        Some(kek) if has_state => Ok(Unpacked { kek, copies }),
        _ => Err(refused(&ALTERED, "no keys or no state inside")),
    }
}

fn next_entry(from: &mut impl Read) -> std::io::Result<Option<Entry>> {
    let mut length = [0; 4];
    let (first, rest) = length.split_at_mut(1);
    if from.read(first)? == 0 {
        return Ok(None);
    }
    from.read_exact(rest)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_ENTRY_HEAD_BYTES {
        return Err(refused(&ALTERED, "an entry's head"));
    }
    let mut head = vec![0; length as usize];
    from.read_exact(&mut head)?;
    serde_json::from_slice(&head).map(Some).map_err(|_| refused(&ALTERED, "an entry's head"))
}

fn write_file(path: &Path, body: &mut impl Read, bytes: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if std::io::copy(body, &mut file)? != bytes {
        return Err(refused(&ALTERED, "an entry's length"));
    }
    file.flush()?;
    file.sync_all()
}

/// Wraps the keys under this machine's key-encryption key and puts the sealed files into their place. The state
/// follows last: without it nothing here is a connector's yet.
fn install(
    data: &Path,
    staging: &Path,
    unpacked: Unpacked,
    options: Options,
    header: &Header,
) -> Result<Found, Error> {
    let state = staging.join(STATE_ENTRY);
    let (from, sealed) = (staging.join(SEALED_FOLDER), data.join(SEALED_FOLDER));
    private_folder(&data.join("keys"))?;
    let kek = FileKek::load_or_create(&data.join(KEK_FILE)).map_err(data_error)?;
    let lying = if options.without_copies { names(&sealed)? } else { names(&from)? };
    let copies_missing = store::revise(&state, |tx| {
        keys::rewrap_all(tx, &unpacked.kek, &kek)?;
        forget_missing(tx, &lying)
    })?;
    if !options.without_copies {
        // A folder takes the place of an empty one, and of no other.
        std::fs::rename(&from, &sealed).map_err(|error| match error.kind() {
            std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => {
                Refusal::new(&TARGET_EXISTS, format!("`{}`", sealed.display())).into()
            }
            _ => failed(&NOT_RESTORED, &sealed)(error),
        })?;
    }
    File::open(data).and_then(|folder| folder.sync_all()).map_err(failed(&NOT_RESTORED, data))?;
    Ok(Found {
        participant: header.participant.clone(),
        created: header.created.clone(),
        copies: unpacked.copies,
        copies_missing,
    })
}

/// Rows of sealed files that are not there go: their copies are incomplete again, and a pull completes them.
fn forget_missing(tx: &Tx<'_>, lying: &HashSet<String>) -> Result<u64, Error> {
    let mut missing = 0_u64;
    for object in holdings::all_objects(tx)? {
        if object.state() == ObjectState::Complete && !lying.contains(object.file()) {
            holdings::forget_object(tx, &object)?;
            missing = missing.saturating_add(1);
        }
    }
    Ok(missing)
}

fn names(folder: &Path) -> Result<HashSet<String>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(failed(&NOT_RESTORED, folder)(error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map_err(failed(&NOT_RESTORED, folder))
}

fn private_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(&NOT_RESTORED, path))
}

/// The folder in which a file is unpacked; goes when the restore ends.
struct Staging(PathBuf);

impl Staging {
    fn new(data: &Path) -> Result<Self, Error> {
        let path = data.join(STAGING);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&NOT_RESTORED, &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        private_folder(&path.join(SEALED_FOLDER))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Counted<'a, R> {
    from: R,
    progress: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(into)?;
        (self.progress)(read as u64);
        Ok(read)
    }
}
