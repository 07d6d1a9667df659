//! Objects of a held copy that is offered on: each is read through a use session under the agreement that it is held
//! under, chunk by chunk, for as long as that permits it. No plaintext of it lies anywhere.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::read_ahead::{ChunkReader, Due, changed, check_hash};
use crate::digest::Digest;
use crate::error::DataError;
use crate::manifest::ManifestObject;
use crate::ports::HeldObject;
use crate::use_session::{SessionObject, UseSession};

/// Chunks released ahead of the consumer: what has left the session cannot be called back.
const AHEAD: usize = 1;

/// Reads the object in its session; the session is closed, with its receipt, before the last word is passed on.
pub(super) fn read_ahead(held: HeldObject, object: &ManifestObject, offset: u64) -> ChunkReader {
    let due = Due::new(object, offset);
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let HeldObject { mut session, object, kept } = held;
        let failed = pass_on(&mut session, &object, due, offset, &sender).await.err();
        let closed = session.close().await;
        drop(kept);
        if let Some(error) = failed.or_else(|| closed.err().map(DataError::from)) {
            // A receiver that is gone needs no reason.
            drop(sender.send(Err(error)).await);
        }
    });
    ChunkReader(receiver)
}

/// Passes on every chunk that is due; done, too, once nobody waits for them.
async fn pass_on(
    session: &mut UseSession,
    object: &SessionObject,
    mut due: Due,
    mut offset: u64,
    sender: &mpsc::Sender<Result<Bytes, DataError>>,
) -> Result<(), DataError> {
    while let Some((length, expected)) = due.advance() {
        let chunk = tokio::select! {
            () = sender.closed() => return Ok(()),
            chunk = read(session, object, offset, length, expected) => chunk?,
        };
        offset = offset.saturating_add(length as u64);
        tokio::select! {
            biased;
            reason = session.over() => return Err(reason.into()),
            sent = sender.send(Ok(chunk)) => if sent.is_err() { return Ok(()) },
        }
    }
    Ok(())
}

async fn read(
    session: &mut UseSession,
    object: &SessionObject,
    offset: u64,
    length: usize,
    expected: Digest,
) -> Result<Bytes, DataError> {
    let mut chunk = BytesMut::with_capacity(length);
    while chunk.len() < length {
        let position = offset.saturating_add(chunk.len() as u64);
        let piece = session.read(object, position, length.saturating_sub(chunk.len())).await?;
        if piece.is_empty() {
            return Err(changed());
        }
        chunk.extend_from_slice(&piece);
    }
    let chunk = chunk.freeze();
    check_hash(&chunk, expected).map(|()| chunk)
}

#[cfg(test)]
mod tests;
