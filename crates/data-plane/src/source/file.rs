//! Files beneath configured roots, opened so that no link leads outside.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::refusal::Refusal;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::publication::{AppliedTransform, ObjectSource, Stamp};
use super::{DATA_DIRECTORY, NOT_A_FILE, OUTSIDE_ROOTS, TOO_MANY_FILES, transformed, unreadable};
use crate::digest::{ObjectDigests, ObjectHasher};
use crate::egress::SOURCE_CHANGED;
use crate::error::DataError;
use crate::manifest::{CHUNK_BYTES, MAX_OBJECTS, ManifestObject};

/// Folders within folders: far beyond datasets as people keep them, and a bound for open handles.
const MAX_DEPTH: usize = 32;

/// The roots, held open: renaming one later changes nothing.
#[derive(Clone)]
pub(crate) struct Roots(Arc<Vec<Root>>);

struct Root {
    path: PathBuf,
    handle: OwnedFd,
}

impl Roots {
    pub(crate) fn open(roots: &[PathBuf], data_directory: &Path) -> Result<Self, DataError> {
        // A data directory that does not exist yet is judged by where it will be.
        let data_directory = canonical(data_directory).or_else(|error| {
            let parent = data_directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            match (parent.map_or_else(|| canonical(Path::new(".")), canonical), data_directory.file_name()) {
                (Ok(parent), Some(name)) => Ok(parent.join(name)),
                (Ok(_) | Err(_), _) => Err(error),
            }
        })?;
        let mut opened = Vec::with_capacity(roots.len());
        for root in roots {
            let path = canonical(root)?;
            if path.starts_with(&data_directory) || data_directory.starts_with(&path) {
                return Err(Refusal::new(&DATA_DIRECTORY, format!("`{}`", root.display())).into());
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(CWD, &path, flags, Mode::empty())
                .map_err(|error| DataError::io("open", &path, error))?;
            opened.push(Root { path, handle });
        }
        Ok(Self(Arc::new(opened)))
    }

    pub(super) fn publish_file(
        &self,
        path: &Path,
        media_type: Option<String>,
        applied: Option<&AppliedTransform>,
    ) -> Result<(ManifestObject, ObjectSource), DataError> {
        let (root, relative) = self.locate(path)?;
        let name = file_name(relative.file_name(), path)?;
        root.publish(relative, name, media_type, applied)
    }

    pub(super) fn publish_directory(
        &self,
        path: &Path,
        media_type: Option<&str>,
        applied: Option<&AppliedTransform>,
    ) -> Result<Vec<(ManifestObject, ObjectSource)>, DataError> {
        let (root, relative) = self.locate(path)?;
        let directory = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let mut names = Vec::new();
        list(&root.open_beneath(directory, OFlags::DIRECTORY)?, path, "", 0, &mut names)?;
        names.sort_unstable();
        names
            .into_iter()
            .map(|name| root.publish(&relative.join(&name), name, media_type.map(str::to_owned), applied))
            .collect()
    }

    /// Opens a published file again; its root must still be configured.
    pub(super) fn reopen(&self, root: &Path, relative: &Path) -> Result<File, DataError> {
        let root =
            self.0.iter().find(|known| known.path == root).ok_or_else(|| outside(&root.join(relative)))?;
        root.open_file(relative)
    }

    /// The innermost root above `path`, and the rest of the path.
    fn locate<'a>(&'a self, path: &'a Path) -> Result<(&'a Root, &'a Path), DataError> {
        self.0
            .iter()
            .filter_map(|root| Some((root, path.strip_prefix(&root.path).ok()?)))
            .min_by_key(|(_, relative)| relative.components().count())
            .ok_or_else(|| outside(path))
    }
}

impl Root {
    fn publish(
        &self,
        relative: &Path,
        name: String,
        media_type: Option<String>,
        applied: Option<&AppliedTransform>,
    ) -> Result<(ManifestObject, ObjectSource), DataError> {
        let file = self.open_file(relative)?;
        let shown = self.path.join(relative);
        let before = Stamp::of(&file).map_err(|error| DataError::io("measure", &shown, error))?;
        let file = Arc::new(file);
        let digests = match applied {
            None => hash(&file, &shown)?,
            Some(applied) => transformed::hash(&file, applied, media_type.as_deref(), &name)?,
        };
        let after = Stamp::of(&file).map_err(|error| DataError::io("measure", &shown, error))?;
        if before != after || (applied.is_none() && digests.size != after.size) {
            return Err(
                Refusal::new(&SOURCE_CHANGED, format!("`{}` changed while read", shown.display())).into()
            );
        }
        let object = ManifestObject::new(name, media_type, digests)?;
        let source = ObjectSource::File { root: self.path.clone(), path: relative.to_owned(), stamp: after };
        Ok((object, source))
    }

    fn open_file(&self, relative: &Path) -> Result<File, DataError> {
        // Non-blocking, as opening a pipe would wait for its writer; it has no effect on regular files.
        let file = File::from(self.open_beneath(relative, OFlags::NONBLOCK | OFlags::NOCTTY)?);
        let shown = self.path.join(relative);
        let metadata = file.metadata().map_err(|error| DataError::io("measure", &shown, error))?;
        if !metadata.is_file() {
            return Err(not_a_file(&shown));
        }
        Ok(file)
    }

    fn open_beneath(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, DataError> {
        let shown = self.path.join(relative);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        openat2(&self.handle, relative, flags, Mode::empty(), resolve).map_err(|error| match error {
            Errno::XDEV | Errno::LOOP => outside(&shown),
            Errno::NOTDIR | Errno::ISDIR => not_a_file(&shown),
            Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::NAMETOOLONG => {
                unreadable(format_args!("`{}`: {error}", shown.display()))
            }
            other => DataError::io("open", &shown, other),
        })
    }
}

fn hash(file: &File, shown: &Path) -> Result<ObjectDigests, DataError> {
    let mut hasher = ObjectHasher::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0_u64;
    loop {
        let read = file.read_at(&mut buffer, offset).map_err(|error| DataError::io("read", shown, error))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        offset = offset.saturating_add(read as u64);
    }
    Ok(hasher.finish())
}

impl Stamp {
    pub(crate) fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        let nanos = |seconds: i64, rest: i64| {
            i128::from(seconds).saturating_mul(1_000_000_000).saturating_add(i128::from(rest))
        };
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Collects the names of all files below `directory`; a link or device is refused, not skipped.
fn list(
    directory: &impl AsFd,
    shown: &Path,
    prefix: &str,
    depth: usize,
    names: &mut Vec<String>,
) -> Result<(), DataError> {
    if depth > MAX_DEPTH {
        return Err(too_many(shown));
    }
    let failed = |error| DataError::io("list", shown, error);
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let raw = entry.file_name().to_bytes();
        if raw == b"." || raw == b".." {
            continue;
        }
        let part = file_name(Some(std::ffi::OsStr::new(&*entry.file_name().to_string_lossy())), shown)?;
        if part.as_bytes() != raw {
            return Err(not_a_file(&shown.join(&part)));
        }
        let name = if prefix.is_empty() { part.clone() } else { format!("{prefix}/{part}") };
        match kind(directory, &entry).map_err(failed)? {
            FileType::RegularFile => names.push(name),
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(directory, entry.file_name(), flags, Mode::empty())
                    .map_err(|error| unreadable(format_args!("`{}/{name}`: {error}", shown.display())))?;
                list(&inner, shown, &name, depth.saturating_add(1), names)?;
            }
            _ => return Err(not_a_file(&shown.join(&name))),
        }
        if names.len() > MAX_OBJECTS {
            return Err(too_many(shown));
        }
    }
    Ok(())
}

/// Some file systems leave the kind out of the listing.
fn kind(directory: &impl AsFd, entry: &rustix::fs::DirEntry) -> rustix::io::Result<FileType> {
    match entry.file_type() {
        FileType::Unknown => {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statat(directory, entry.file_name(), flags)
                .map(|stat| FileType::from_raw_mode(stat.st_mode))
        }
        known => Ok(known),
    }
}

fn canonical(path: &Path) -> Result<PathBuf, DataError> {
    path.canonicalize().map_err(|error| DataError::io("find", path, error))
}

fn file_name(name: Option<&std::ffi::OsStr>, shown: &Path) -> Result<String, DataError> {
    name.and_then(|name| name.to_str()).map(str::to_owned).ok_or_else(|| not_a_file(shown))
}

fn outside(path: &Path) -> DataError {
    Refusal::new(&OUTSIDE_ROOTS, format!("`{}`", path.display())).into()
}

fn not_a_file(path: &Path) -> DataError {
    Refusal::new(&NOT_A_FILE, format!("`{}`", path.display())).into()
}

fn too_many(path: &Path) -> DataError {
    Refusal::new(
        &TOO_MANY_FILES,
        format!("`{}`: at most {MAX_OBJECTS} files, {MAX_DEPTH} levels", path.display()),
    )
    .into()
}
