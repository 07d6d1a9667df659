//! Files that survive a crash: written beside, synced, renamed, directory synced. A reader sees old or new, never half.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::IdentityError;

/// No file of this crate comes near; a larger one is not ours and must not fill the memory.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Creates the directory and its parents, 0700.
pub(crate) fn create_dir(path: &Path) -> Result<(), IdentityError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(IdentityError::io("create", path))
}

/// Replaces `path` with `bytes`, mode 0600, durable when it returns. Callers hold a lock: the temporary name is fixed.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(beside)
        .map_err(IdentityError::io("create", beside))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(IdentityError::io("protect", beside))?;
    file.write_all(bytes).map_err(IdentityError::io("write", beside))?;
    file.sync_all().map_err(IdentityError::io("sync", beside))?;
    fs::rename(beside, path).map_err(IdentityError::io("replace", path))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(IdentityError::io("sync", parent))
}

/// The whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let file = File::open(path).map_err(IdentityError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(IdentityError::io("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(IdentityError::format(path, format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// The whole file as text.
pub(crate) fn read_text(path: &Path) -> Result<String, IdentityError> {
    String::from_utf8(read(path)?).map_err(|error| IdentityError::format(path, error))
}

/// Refuses a file that group or others may read or write.
pub(crate) fn refuse_exposed(path: &Path) -> Result<(), IdentityError> {
    let mode = fs::metadata(path).map_err(IdentityError::io("inspect", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Takes the advisory lock on `path`, waiting for whoever holds it; released when the file is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, IdentityError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(IdentityError::io("create", path))?;
    file.lock().map_err(IdentityError::io("lock", path))?;
    Ok(file)
}
