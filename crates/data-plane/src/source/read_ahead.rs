//! Reads an object ahead of the stream, chunk by chunk, within a bound, and never passes on changed bytes.

use std::fs::File;

use bytes::{Bytes, BytesMut};
use policy::refusal::Refusal;
use rustix::buffer::spare_capacity;
use tokio::sync::mpsc;

use super::http::Body;
use super::publication::Stamp;
use crate::digest::Digest;
use crate::egress::SOURCE_CHANGED;
use crate::error::DataError;
use crate::manifest::{CHUNK_BYTES, ManifestObject};

/// Chunks read ahead: hides a slow read behind sending, 4 MiB for each pull.
pub(super) const READ_AHEAD_CHUNKS: usize = 4;

/// The receiving end; dropping it ends the reading.
pub(crate) struct ChunkReader(pub(super) mpsc::Receiver<Result<Bytes, DataError>>);

/// The chunks due from an offset on: length and, where the bytes must be hashed again, the hash.
pub(super) struct Due {
    offset: u64,
    size: u64,
    chunks: Vec<Digest>,
    next: usize,
}

impl ChunkReader {
    pub(crate) async fn next(&mut self) -> Result<Bytes, DataError> {
        self.0.recv().await.unwrap_or(Err(DataError::Worker))
    }

    /// Of an object with nothing left to read.
    pub(super) fn ended() -> Self {
        Self(mpsc::channel(1).1)
    }

    /// Reads a file on a blocking thread. While it bears `stamp`, its hashes at publication hold; else every chunk
    /// is hashed before it is passed on.
    pub(super) fn file(file: File, stamp: Stamp, object: &ManifestObject, offset: u64) -> Self {
        let mut due = Due::new(object, offset);
        let (sender, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
        tokio::task::spawn_blocking(move || {
            while let Some((length, expected)) = due.advance() {
                let read = read_chunk(&file, length, due.offset.saturating_sub(length as u64))
                    .and_then(|chunk| check_file(&file, stamp, &chunk, expected).map(|()| chunk));
                let failed = read.is_err();
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// Reads a response body; nothing vouches for it, so every chunk is hashed.
    pub(super) fn body(mut body: Body, object: &ManifestObject, offset: u64) -> Self {
        let mut due = Due::new(object, offset);
        let (sender, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
        tokio::spawn(async move {
            while let Some((length, expected)) = due.advance() {
                let read = tokio::select! {
                    () = sender.closed() => return,
                    read = body.read(length) => read,
                };
                let read = read.and_then(|chunk| check_hash(&chunk, expected).map(|()| chunk));
                let failed = read.is_err();
                if sender.send(read).await.is_err() || failed {
                    return;
                }
            }
        });
        Self(receiver)
    }
}

impl Due {
    pub(super) fn new(object: &ManifestObject, offset: u64) -> Self {
        Self {
            offset,
            size: object.size(),
            chunks: object.chunks().to_vec(),
            next: usize::try_from(offset / CHUNK_BYTES as u64).unwrap_or(usize::MAX),
        }
    }

    /// Length and hash of the next chunk; moves behind it.
    pub(super) fn advance(&mut self) -> Option<(usize, Digest)> {
        let expected = *self.chunks.get(self.next)?;
        let length = usize::try_from(self.size.checked_sub(self.offset)?.min(CHUNK_BYTES as u64)).ok()?;
        self.next = self.next.checked_add(1)?;
        self.offset = self.offset.checked_add(length as u64)?;
        Some((length, expected))
    }
}

fn read_chunk(file: &File, length: usize, offset: u64) -> Result<Bytes, DataError> {
    let mut chunk = Vec::with_capacity(length);
    while chunk.len() < length {
        let position = offset.saturating_add(chunk.len() as u64);
        match rustix::io::pread(file, spare_capacity(&mut chunk), position) {
            Ok(0) => return Err(changed()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(DataError::Io {
                    what: "read",
                    path: "the source".to_owned(),
                    source: error.into(),
                });
            }
        }
    }
    chunk.truncate(length);
    Ok(chunk.into())
}

/// Looked at after reading: a stamp that still stands covers the bytes just read.
fn check_file(file: &File, stamp: Stamp, chunk: &[u8], expected: Digest) -> Result<(), DataError> {
    if Stamp::of(file).is_ok_and(|now| now == stamp) { Ok(()) } else { check_hash(chunk, expected) }
}

pub(super) fn check_hash(chunk: &[u8], expected: Digest) -> Result<(), DataError> {
    if Digest::of(chunk) == expected { Ok(()) } else { Err(changed()) }
}

pub(super) fn changed() -> DataError {
    Refusal::new(&SOURCE_CHANGED, "the source is not what was published").into()
}

/// Gathers pieces into exactly one chunk.
pub(super) struct Gather(BytesMut);

impl Gather {
    pub(super) fn new(length: usize) -> Self {
        Self(BytesMut::with_capacity(length))
    }

    /// Takes from `piece` what is missing to `length`; what is left stays in `piece`.
    pub(super) fn take(&mut self, piece: &mut Bytes, length: usize) -> bool {
        let missing = length.saturating_sub(self.0.len());
        let taken = piece.split_to(missing.min(piece.len()));
        self.0.extend_from_slice(&taken);
        self.0.len() >= length
    }

    pub(super) fn done(self) -> Bytes {
        self.0.freeze()
    }
}
