//! Files that are transformed on their way out: hashed so at publication, and made again for each pull, with every chunk
//! compared before it is passed on. No second copy exists.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use policy::refusal::Refusal;
use tokio::sync::mpsc;

use super::publication::AppliedTransform;
use super::read_ahead::{ChunkReader, Due, READ_AHEAD_CHUNKS, changed, check_hash};
use crate::digest::{Digest, ObjectDigests, ObjectHasher};
use crate::egress::SOURCE_CHANGED;
use crate::error::DataError;
use crate::manifest::{CHUNK_BYTES, ManifestObject};
use crate::transform::{Format, Input};

type Chunks = mpsc::Sender<Result<Bytes, DataError>>;

/// The digests of what leaves.
pub(super) fn hash(
    file: &Arc<File>,
    applied: &AppliedTransform,
    media_type: Option<&str>,
    name: &str,
) -> Result<ObjectDigests, DataError> {
    let AppliedTransform { transform, salt } = applied;
    let format = Format::of(transform.data(), media_type, name)?;
    let mut hashing = Hashing(ObjectHasher::new());
    let input: Arc<dyn Input> = Arc::clone(file) as Arc<dyn Input>;
    transform.apply(format, input, salt, &mut hashing).map_err(|error| match error {
        DataError::Refused(Refusal { code, detail }) => {
            Refusal::new(code, format!("`{name}`: {detail}")).into()
        }
        own => own,
    })?;
    Ok(hashing.0.finish())
}

struct Hashing(ObjectHasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the object again on a blocking thread and passes on its chunks from `offset` on.
pub(super) fn read_ahead(
    file: File,
    applied: &Arc<AppliedTransform>,
    object: &ManifestObject,
    offset: u64,
) -> Result<ChunkReader, DataError> {
    let format = Format::of(applied.transform.data(), object.media_type(), object.name())?;
    let applied = Arc::clone(applied);
    let due = Due::new(object, offset);
    let (sender, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let input = Arc::new(Awaited { file, chunks: sender.clone() });
        let mut output = Cut::new(due, offset, sender.clone());
        let AppliedTransform { transform, salt } = &*applied;
        let made = transform.apply(format, input, salt, &mut output);
        let failed = match (output.end, made) {
            (Some(End::Done | End::Abandoned), _) => return,
            (Some(End::Differs), _) | (None, Ok(())) => changed(),
            // It was understood when it was published.
            (None, Err(DataError::Refused(refusal))) => {
                Refusal::new(&SOURCE_CHANGED, format!("the source is not what was published: {refusal}"))
                    .into()
            }
            (None, Err(own)) => own,
        };
        // A receiver that is gone needs no reason.
        drop(sender.blocking_send(Err(failed)));
    });
    Ok(ChunkReader(receiver))
}

/// A file that is read only as long as somebody waits for what is made of it.
struct Awaited {
    file: File,
    chunks: Chunks,
}

impl Input for Awaited {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.chunks.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.file.read_at(buffer, offset)
    }
}

/// Why no more is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Differs,
    Abandoned,
}

/// Cuts what is written into the chunks that are due.
struct Cut {
    due: Due,
    /// Bytes that the consumer has already.
    skip: u64,
    chunk: BytesMut,
    current: Option<(usize, Digest)>,
    chunks: Chunks,
    end: Option<End>,
}

impl Cut {
    fn new(mut due: Due, skip: u64, chunks: Chunks) -> Self {
        let current = due.advance();
        Self { due, skip, chunk: BytesMut::with_capacity(CHUNK_BYTES), current, chunks, end: None }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip = self.skip.saturating_sub(skipped as u64);
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            let Some((length, expected)) = self.current else { return Err(End::Done) };
            let missing = length.saturating_sub(self.chunk.len()).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(missing).ok_or(End::Differs)?;
            self.chunk.extend_from_slice(head);
            bytes = rest;
            if self.chunk.len() == length {
                let chunk = std::mem::replace(&mut self.chunk, BytesMut::with_capacity(CHUNK_BYTES)).freeze();
                check_hash(&chunk, expected).map_err(|_| End::Differs)?;
                self.chunks.blocking_send(Ok(chunk)).map_err(|_| End::Abandoned)?;
                self.current = self.due.advance();
                if self.current.is_none() {
                    return Err(End::Done);
                }
            }
        }
        Ok(())
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.end.is_none() {
            self.end = self.take(bytes).err();
        }
        match self.end {
            Some(_) => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
