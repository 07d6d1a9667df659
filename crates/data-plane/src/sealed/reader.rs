//! Reads a sealed file at any offset, and believes nothing that is not in the row or authenticated.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::LessSafeKey;
use bytes::Bytes;
use policy::refusal::Refusal;
use zeroize::Zeroizing;

use super::{
    ALTERED, DESTROYED, GENERATION_BYTES, Header, INCOMPLETE, ObjectRecord, ObjectState, SEGMENT_BYTES,
    STRIDE, TAG_BYTES, associated, file_len, nonce, segment_count, segment_len,
};
use crate::error::DataError;
use crate::keys::DataKey;

/// Plaintext bytes of one read: one window of a use session.
pub(crate) const MAX_READ_BYTES: usize = 1 << 20;

pub(crate) struct SealedReader {
    file: File,
    path: PathBuf,
    key: LessSafeKey,
    record: ObjectRecord,
    data_start: u64,
}

/// Plaintext that is overwritten when its last reference goes.
struct Plain(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Plain {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl SealedReader {
    /// Opens a complete object and compares header and length with its row.
    pub(crate) fn open(path: &Path, record: &ObjectRecord, key: &DataKey) -> Result<Self, DataError> {
        match record.state {
            ObjectState::Complete => {}
            ObjectState::Partial => return Err(Refusal::new(&INCOMPLETE, record.object().as_str()).into()),
            ObjectState::Destroyed => return Err(Refusal::new(&DESTROYED, record.object().as_str()).into()),
        }
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Refusal::new(&ALTERED, format!("`{}` is missing", path.display())).into());
            }
            opened => opened.map_err(|error| DataError::io("open", path, error))?,
        };
        let length = file.metadata().map_err(|error| DataError::io("measure", path, error))?.len();
        let reader = Self::partial(file, path, record, key)?;
        let expected = file_len(reader.data_start, record.size());
        if length != expected {
            return Err(reader.altered(&format!("{length} bytes where {expected} were written")));
        }
        Ok(reader)
    }

    /// Opens whatever is there of an object; the header must be the row's.
    pub(super) fn partial(
        file: File,
        path: &Path,
        record: &ObjectRecord,
        key: &DataKey,
    ) -> Result<Self, DataError> {
        let read = |bytes: &mut [u8], offset| read_exact(&file, path, bytes, offset);
        let (header, data_start) = Header::read(read, record.header_digest)?;
        if header != record.header {
            return Err(Refusal::new(&ALTERED, format!("`{}`: header and row differ", path.display())).into());
        }
        Ok(Self { file, path: path.to_owned(), key: key.aead()?, record: record.clone(), data_start })
    }

    pub(super) const fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Plaintext from `offset`, at most `limit` and [`MAX_READ_BYTES`] bytes; empty at the end.
    pub(crate) fn read(&self, offset: u64, limit: usize) -> Result<Bytes, DataError> {
        let available = self.record.size().saturating_sub(offset).min(limit.min(MAX_READ_BYTES) as u64);
        if available == 0 && self.record.size() > 0 {
            return Ok(Bytes::new());
        }
        let first = offset / SEGMENT_BYTES as u64;
        let last = offset.saturating_add(available).saturating_sub(1).max(offset) / SEGMENT_BYTES as u64;
        let start = first.saturating_mul(SEGMENT_BYTES as u64);
        let end = last.saturating_add(1).saturating_mul(SEGMENT_BYTES as u64).min(self.record.size());
        let plain_len = usize::try_from(end.saturating_sub(start)).map_err(|_| DataError::Worker)?;
        let count =
            usize::try_from(last.saturating_sub(first).saturating_add(1)).map_err(|_| DataError::Worker)?;

        let mut sealed =
            vec![0; plain_len.saturating_add(count.saturating_mul(GENERATION_BYTES + TAG_BYTES))];
        let position = self.data_start.saturating_add(first.saturating_mul(STRIDE as u64));
        read_exact(&self.file, &self.path, &mut sealed, position)?;
        let mut plain = Zeroizing::new(vec![0; plain_len]);
        for ((index, segment), out) in
            (first..=last).zip(sealed.chunks(STRIDE)).zip(chunks_or_one(&mut plain, SEGMENT_BYTES))
        {
            self.open_segment(index, segment, out)?;
        }

        let skip = usize::try_from(offset.saturating_sub(start)).map_err(|_| DataError::Worker)?;
        let take = usize::try_from(available).map_err(|_| DataError::Worker)?;
        Ok(Bytes::from_owner(Plain(plain)).slice(skip..skip.saturating_add(take)))
    }

    /// Authenticates the last segment that a resumed writer builds on.
    pub(super) fn check_segments_before(&self, end: u64) -> Result<(), DataError> {
        let Some(index) = end.checked_sub(1) else { return Ok(()) };
        let mut segment = vec![0; STRIDE];
        let position = self.data_start.saturating_add(index.saturating_mul(STRIDE as u64));
        read_exact(&self.file, &self.path, &mut segment, position)?;
        let mut plain = Zeroizing::new(vec![0; SEGMENT_BYTES]);
        self.open_segment(index, &segment, &mut plain)
    }

    /// The generation stored before segment `index` of a file of `length` bytes; `None` past its end.
    pub(super) fn stored_generation(&self, index: u64, length: u64) -> Result<Option<u32>, DataError> {
        let position = self.data_start.saturating_add(index.saturating_mul(STRIDE as u64));
        if position.saturating_add(GENERATION_BYTES as u64) > length {
            return Ok(None);
        }
        let mut generation = [0; GENERATION_BYTES];
        read_exact(&self.file, &self.path, &mut generation, position)?;
        Ok(Some(u32::from_be_bytes(generation)))
    }

    fn open_segment(&self, index: u64, segment: &[u8], plain: &mut [u8]) -> Result<(), DataError> {
        let altered = || self.altered(&format!("segment {index}"));
        let (generation, body) = segment.split_first_chunk::<GENERATION_BYTES>().ok_or_else(altered)?;
        let generation = u32::from_be_bytes(*generation);
        if self.record.generation_of(index) != Some(generation)
            || plain.len() != segment_len(self.record.size(), index)
        {
            return Err(altered());
        }
        let (cipher, tag) = body.split_at_checked(plain.len()).ok_or_else(altered)?;
        let last = index.saturating_add(1) == segment_count(self.record.size());
        self.key
            .open_separate_gather(
                nonce(generation, index, last),
                associated(self.record.header_digest, index, last),
                cipher,
                tag,
                plain,
            )
            .map_err(|_| altered())
    }

    fn altered(&self, what: &str) -> DataError {
        Refusal::new(&ALTERED, format!("`{}`: {what}", self.path.display())).into()
    }
}

/// The pieces of a buffer; an empty buffer is one empty piece.
fn chunks_or_one(bytes: &mut [u8], size: usize) -> impl Iterator<Item = &mut [u8]> {
    let empty = bytes.is_empty().then(<&mut [u8]>::default);
    bytes.chunks_mut(size).chain(empty)
}

fn read_exact(file: &File, path: &Path, bytes: &mut [u8], offset: u64) -> Result<(), DataError> {
    file.read_exact_at(bytes, offset).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            Refusal::new(&ALTERED, format!("`{}` ends early", path.display())).into()
        } else {
            DataError::io("read", path, error)
        }
    })
}
