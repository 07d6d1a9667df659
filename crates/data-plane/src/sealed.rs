//! Sealed objects: pulled data on disk, in segments of 256 KiB under AES-256-GCM, readable at any offset.
//!
//! File: `FLSEAL1\n`, length of the header (u32, big-endian), header (RFC 8785 JSON), segments. Segment: writer
//! generation (u32, big-endian), ciphertext, tag. Nonce: generation (4 bytes), index (7), last flag (1). Associated
//! data: SHA-256 of everything before the segments, index (u64, big-endian), last flag (1). Every number that the
//! reader relies on comes from the object's row or is authenticated.

mod header;
mod reader;
mod record;
mod writer;

use std::collections::HashSet;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};

use crate::digest::Digest;
use crate::error::DataError;
use crate::keys::{random_bytes, sync_directory};

pub(crate) use header::Header;
pub(crate) use reader::SealedReader;
pub(crate) use record::Run;
pub use record::{ObjectRecord, ObjectState};
pub(crate) use writer::{LockedFile, SealedWriter};

policy::refusal_codes! {
    ALTERED = "use/copy-altered", Ours,
        "the sealed copy is not what was written: altered, cut, exchanged or put back to an older state",
        "密封副本與寫入時不符：已被改動、截斷、調換或還原至舊狀態",
        "密封副本与写入时不符：已被改动、截断、调换或还原至旧状态",
        clause "security model: the promise, sealed", next "destroy this copy and pull it again if the agreement allows";
    MALFORMED_RECORD = "use/malformed-object-record", Ours,
        "the row of the sealed copy is damaged or of another version",
        "密封副本的記錄已損壞或版本不符", "密封副本的记录已损坏或版本不符",
        clause "security model: the promise, sealed", next "restore the state database from its backup";
    DESTROYED = "use/copy-destroyed", State,
        "the key of this copy was destroyed", "此副本的金鑰已銷毀", "此副本的密钥已销毁",
        clause "security model: the promise, sealed", next "pull it again if the agreement allows";
    INCOMPLETE = "use/copy-incomplete", State,
        "the copy is not yet pulled to its end", "副本尚未拉取完畢", "副本尚未拉取完毕",
        clause "proto/fairlead/data: GetManifest", next "resume the transfer, then open the session again";
    BUSY = "transfer/object-busy", State,
        "another pull is writing this object", "另一個拉取正在寫入此物件", "另一个拉取正在写入此对象",
        clause "security model: the promise, sealed", next "wait for the other transfer to end";
}

/// Plaintext bytes of a segment: small enough to read anywhere, large enough that tags cost nothing.
pub const SEGMENT_BYTES: usize = 256 << 10;
const GENERATION_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
/// Bytes of a full segment in the file.
const STRIDE: usize = GENERATION_BYTES + SEGMENT_BYTES + TAG_BYTES;
const EXTENSION: &str = "sealed";

/// The folder of sealed files. File names are random: they tell nothing and are never used twice.
#[derive(Clone, Debug)]
pub struct SealedStore {
    directory: PathBuf,
}

impl SealedStore {
    /// Opens `directory`, made with mode 0700 if missing.
    pub fn open(directory: &Path) -> Result<Self, DataError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)))
            .map_err(|error| DataError::io("create", directory, error))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Unlinks the file of a record, durably; a file already gone is fine. Destroy the key first: the row says so.
    pub fn remove(&self, record: &ObjectRecord) -> Result<(), DataError> {
        self.remove_name(record.file())?;
        sync_directory(&self.directory.join(record.file()))
    }

    /// Unlinks files that no record names, what a crash before the first durable checkpoint left (their keys never were
    /// on disk), and those of destroyed records. Run it before the first pull starts. Returns how many.
    pub fn sweep(&self, records: &[ObjectRecord]) -> Result<usize, DataError> {
        let kept = records.iter().filter(|record| record.state() != ObjectState::Destroyed);
        let known: HashSet<&str> = kept.map(ObjectRecord::file).collect();
        let failed = |error| DataError::io("list", &self.directory, error);
        let mut removed = 0_usize;
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_file_name(name) && !known.contains(name) {
                self.remove_name(name)?;
                removed = removed.saturating_add(1);
            }
        }
        Ok(removed)
    }

    /// Whether this is a name that a sealed file can have: never one that leads elsewhere.
    pub fn is_file_name(name: &str) -> bool {
        is_file_name(name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn fresh_name() -> Result<String, DataError> {
        use std::fmt::Write as _;
        let mut random = [0_u8; 16];
        random_bytes(&mut random)?;
        let mut name = String::with_capacity(40);
        for byte in random {
            write!(name, "{byte:02x}").map_err(|_| DataError::Crypto("name a file"))?;
        }
        Ok(format!("{name}.{EXTENSION}"))
    }

    fn remove_name(&self, name: &str) -> Result<(), DataError> {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DataError::io("remove", &path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Exactly what [`SealedStore::fresh_name`] makes, so that a row can never name a file elsewhere.
fn is_file_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(stem, extension)| {
        extension == EXTENSION
            && stem.len() == 32
            && stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Segments of an object of `size` bytes; an empty object has one empty segment, so that it is authenticated too.
const fn segment_count(size: u64) -> u64 {
    let full = size.div_ceil(SEGMENT_BYTES as u64);
    if full == 0 { 1 } else { full }
}

/// Plaintext bytes of segment `index`.
fn segment_len(size: u64, index: u64) -> usize {
    let start = index.saturating_mul(SEGMENT_BYTES as u64);
    usize::try_from(size.saturating_sub(start).min(SEGMENT_BYTES as u64)).unwrap_or(0)
}

/// Bytes of a complete file.
const fn file_len(data_start: u64, size: u64) -> u64 {
    data_start
        .saturating_add(segment_count(size).saturating_mul((GENERATION_BYTES + TAG_BYTES) as u64))
        .saturating_add(size)
}

fn nonce(generation: u32, index: u64, last: bool) -> Nonce {
    let mut bytes = [0_u8; NONCE_LEN];
    let [_, index @ ..] = index.to_be_bytes();
    let parts = generation.to_be_bytes().into_iter().chain(index).chain([u8::from(last)]);
    bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    Nonce::assume_unique_for_key(bytes)
}

fn associated(header: Digest, index: u64, last: bool) -> Aad<[u8; 41]> {
    let mut bytes = [0_u8; 41];
    let parts = header.as_bytes().iter().copied().chain(index.to_be_bytes()).chain([u8::from(last)]);
    bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    Aad::from(bytes)
}

#[cfg(test)]
mod tests;
