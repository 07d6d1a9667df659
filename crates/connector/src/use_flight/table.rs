//! One table under way: decoded on a thread of its own, handed out batch by batch while the session lasts.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::{FlightDataEncoder, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_schema::SchemaRef;
use control_plane::Refusal;
use data_plane::{DataError, ObjectRecord, StopSignal, TableReader};
use futures::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::source::Source;
use super::{TOO_MANY_TABLES, refused};
use crate::data::sessions::Session;
use crate::node::Node;
use crate::use_endpoint::TOO_MANY_READERS;

/// Bytes of one message, about: a batch that is larger leaves in parts.
const MESSAGE_BYTES: usize = 1 << 20;
/// Batches decoded ahead of the client.
const BATCHES_AHEAD: usize = 2;
/// After its session ended, a stream has this long to take its last status. A client that reads nothing keeps what was
/// released in the connection's buffers, and is then cut off.
const LAST_STATUS: Duration = Duration::from_secs(10);

/// An opened table of a session, with its places among those that read.
pub(super) struct Open {
    node: Arc<Node>,
    session: Arc<Session>,
    source: Arc<Source>,
    reader: TableReader,
    places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Open {
    /// Reads the schema through the session.
    pub(super) async fn new(
        node: &Arc<Node>,
        session: Arc<Session>,
        record: &ObjectRecord,
        places: &Arc<Semaphore>,
    ) -> Result<Self, Refusal> {
        let of_all = places.clone().try_acquire_owned();
        let of_all = of_all.map_err(|_| Refusal::new(&TOO_MANY_TABLES, ""))?;
        let of_session = session.reader().ok_or_else(|| Refusal::new(&TOO_MANY_READERS, session.id()))?;
        let source = Arc::new(Source::new(node.clone(), session.clone(), record));
        let (name, input) = (record.name().to_owned(), source.clone());
        let reader = tokio::task::spawn_blocking(move || TableReader::open(&name, input)).await;
        let reader = reader.map_err(|_| DataError::Worker.into_refusal())?.map_err(|why| source.why(why))?;
        Ok(Self { node: node.clone(), session, source, reader, places: (of_all, of_session) })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }

    /// Rows, where the file tells how many it has.
    pub(super) fn rows(&self) -> Option<u64> {
        self.reader.rows()
    }

    /// All batches as messages; `cut` cuts the connection of a client that does not read on.
    pub(super) fn messages(
        self,
        cut: CancellationToken,
    ) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
        let schema = self.schema();
        let Self { node, session, source, reader, places } = self;
        let (decoded, batches) = mpsc::channel(BATCHES_AHEAD);
        let stop = session.stop_signal();
        let thread_stop = stop.clone();
        tokio::task::spawn_blocking(move || {
            decode(&source, reader, &decoded, thread_stop);
            // A place is free again only when its thread is.
            drop(places);
        });
        let batches = Decided { node, session, batches };
        let messages = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_max_flight_data_size(MESSAGE_BYTES)
            .build(futures::stream::try_unfold(batches, Decided::next));
        let cut = Cut::after_stop(stop.clone(), cut);
        futures::stream::try_unfold(Sending { messages, stop, _cut: cut }, Sending::next)
    }
}

/// What the thread that decodes says.
enum Decoded {
    Batch(RecordBatch),
    Failed(Refusal),
    /// All were handed over. Without this word the thread ended early, and the table is not whole.
    End,
}

fn decode(source: &Source, reader: TableReader, decoded: &mpsc::Sender<Decoded>, mut stop: StopSignal) {
    let mut hand_over = |item| {
        source.runtime().block_on(async {
            tokio::select! {
                biased;
                _ = stop.stopped() => false,
                sent = decoded.send(item) => sent.is_ok(),
            }
        })
    };
    let batches = match reader.batches() {
        Ok(batches) => batches,
        Err(refusal) => {
            hand_over(Decoded::Failed(source.why(refusal)));
            return;
        }
    };
    for batch in batches {
        let item = match batch {
            Ok(batch) => Decoded::Batch(batch),
            Err(refusal) => Decoded::Failed(source.why(refusal)),
        };
        let failed = matches!(item, Decoded::Failed(_));
        if !hand_over(item) || failed {
            return;
        }
    }
    hand_over(Decoded::End);
}

/// Batches of which each was decided when it is handed out: it was read before it was decoded, maybe a while ago.
struct Decided {
    node: Arc<Node>,
    session: Arc<Session>,
    batches: mpsc::Receiver<Decoded>,
}

impl Decided {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, FlightError> {
        let decided = match self.batches.recv().await {
            Some(Decoded::Batch(batch)) => {
                self.session.decide_again(&self.node).await.map(|()| Some((batch, self)))
            }
            Some(Decoded::End) => Ok(None),
            Some(Decoded::Failed(refusal)) => Err(refusal),
            None => Err(DataError::Worker.into_refusal()),
        };
        decided.map_err(|refusal| refused(&refusal).into())
    }
}

/// Messages on their way to a client. Dropping it ends the reading.
struct Sending {
    messages: FlightDataEncoder,
    stop: StopSignal,
    _cut: Cut,
}

impl Sending {
    /// The next message, unless the session is stopped: a batch of several is then cut short.
    async fn next(mut self) -> Result<Option<(FlightData, Self)>, Status> {
        let message = tokio::select! {
            biased;
            reason = self.stop.stopped() => return Err(refused(&reason)),
            message = self.messages.next() => message,
        };
        Ok(message.transpose().map_err(Status::from)?.map(|message| (message, self)))
    }
}

/// Cuts the connection some time after the session is stopped, if the stream is still there then.
struct Cut(JoinHandle<()>);

impl Cut {
    fn after_stop(mut stop: StopSignal, cut: CancellationToken) -> Self {
        Self(tokio::spawn(async move {
            stop.stopped().await;
            tokio::time::sleep(LAST_STATUS).await;
            cut.cancel();
        }))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.abort();
    }
}
