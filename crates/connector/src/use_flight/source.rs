//! An object of a session as the decoders read it: at any offset, through the session, a little of it kept in memory.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use control_plane::Refusal;
use data_plane::{Input, ObjectRecord, SAMPLE_BYTES, SEGMENT_BYTES};
use tokio::runtime::Handle;

use crate::data::sessions::Session;
use crate::node::Node;

/// Read at once: what is sealed in one piece.
const BLOCK_BYTES: usize = SEGMENT_BYTES;
/// Blocks kept of one table: pages of some columns in turn, and the records that told the types of CSV.
const MAX_BLOCKS: usize = 2 * SAMPLE_BYTES / BLOCK_BYTES;

/// The bytes of one object. Its reads block, and so belong on a thread that may.
pub(super) struct Source {
    node: Arc<Node>,
    session: Arc<Session>,
    name: String,
    size: u64,
    runtime: Handle,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By offset, the last used at the end.
    blocks: VecDeque<(u64, Bytes)>,
    /// Why the session gave no more.
    refused: Option<Refusal>,
}

impl Source {
    /// Must be called within the runtime.
    pub(super) fn new(node: Arc<Node>, session: Arc<Session>, record: &ObjectRecord) -> Self {
        Self {
            node,
            session,
            name: record.name().to_owned(),
            size: record.size(),
            runtime: Handle::current(),
            kept: Mutex::default(),
        }
    }

    /// The session's reason, if it was the session that failed the decoder, else the decoder's own.
    pub(super) fn why(&self, decoder: Refusal) -> Refusal {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).refused.clone().unwrap_or(decoder)
    }

    /// The runtime, on which a blocking thread may wait.
    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn block(&self, offset: u64) -> io::Result<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.blocks.iter().position(|(at, _)| *at == offset);
        if let Some(found) = found.and_then(|found| kept.blocks.remove(found)) {
            let bytes = found.1.clone();
            kept.blocks.push_back(found);
            return Ok(bytes);
        }
        let bytes = match self.runtime.block_on(self.read(offset)) {
            Ok(bytes) => bytes,
            Err(refusal) => {
                let told = io::Error::other(refusal.to_string());
                kept.refused = Some(refusal);
                return Err(told);
            }
        };
        if kept.blocks.len() >= MAX_BLOCKS {
            kept.blocks.pop_front();
        }
        kept.blocks.push_back((offset, bytes.clone()));
        drop(kept);
        Ok(bytes)
    }

    async fn read(&self, offset: u64) -> Result<Bytes, Refusal> {
        self.session.read(&self.node, &self.name, offset, BLOCK_BYTES).await
    }
}

impl Input for Source {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let within = offset % BLOCK_BYTES as u64;
        let block = self.block(offset.saturating_sub(within))?;
        let rest = usize::try_from(within).ok().and_then(|within| block.get(within..)).unwrap_or_default();
        if rest.is_empty() {
            // The copy has fewer bytes than its record says; a decoder must not take that for the end.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}
