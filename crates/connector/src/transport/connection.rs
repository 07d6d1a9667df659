//! One live TLS connection: who is at the other end, and a switch that closes it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use control_plane::Refusal;
use control_plane::ids::ParticipantId;
use identity::VerifiedParticipant;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::cause::tls_refusal;

/// What both ends of the code know about a connection; shared by its stream and its calls.
pub struct Connection {
    /// The address at the other end, for logs.
    pub remote: SocketAddr,
    /// The peer's certificates as presented, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    participant: ArcSwapOption<VerifiedParticipant>,
    closed: CancellationToken,
    refused: OnceLock<Refusal>,
    binding: OnceLock<[u8; 32]>,
}

/// RFC 9266: both ends of one TLS connection export the same bytes, and nobody else does.
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

impl Connection {
    /// A connection whose handshake ended; its participant is not verified yet.
    pub fn new(remote: SocketAddr, chain: Vec<CertificateDer<'static>>) -> Arc<Self> {
        Arc::new(Self {
            remote,
            chain,
            participant: ArcSwapOption::empty(),
            closed: CancellationToken::new(),
            refused: OnceLock::new(),
            binding: OnceLock::new(),
        })
    }

    /// Keeps the binding of the TLS session below, so that what is signed can name the connection it was asked on.
    pub fn bind<Data>(&self, tls: &rustls::ConnectionCommon<Data>) {
        if let Ok(exported) = tls.export_keying_material([0; 32], BINDING_LABEL, Some(b"")) {
            self.binding.get_or_init(|| exported);
        }
    }

    /// The channel binding, where TLS exported one.
    pub fn binding(&self) -> Option<&[u8; 32]> {
        self.binding.get()
    }

    /// The verified participant, once identities were exchanged.
    pub fn participant(&self) -> Option<Arc<VerifiedParticipant>> {
        self.participant.load_full()
    }

    /// Keeps the verdict of the exchange.
    pub fn verified(&self, participant: VerifiedParticipant) {
        self.participant.store(Some(Arc::new(participant)));
    }

    /// Closes the connection: reads and writes fail from here on.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Why TLS ended the connection, if it did: with TLS 1.3 the other end's judgement of our certificate arrives
    /// after our handshake, as the first thing that is read.
    pub fn refused(&self) -> Option<Refusal> {
        self.refused.get().cloned()
    }

    /// Completes when the connection was closed from our side.
    pub fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }
}

/// Every open connection, so that a change of trust reaches the open ones within a second.
#[derive(Default)]
pub struct Connections(Mutex<Vec<Weak<Connection>>>);

impl Connections {
    /// Remembers a connection for as long as it lives.
    pub fn register(&self, connection: &Arc<Connection>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|entry| entry.strong_count() > 0);
        open.push(Arc::downgrade(connection));
    }

    /// The connections that are open.
    pub fn open(&self) -> Vec<Arc<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// How many are open with this verified participant, whoever dialled.
    pub fn count_of(&self, participant: &ParticipantId) -> usize {
        let verified =
            |connection: &Arc<Connection>| connection.participant().is_some_and(|of| of.id() == participant);
        self.open().iter().filter(|connection| verified(connection)).count()
    }

    /// Closes every connection whose verified participant is `participant`; tells how many.
    pub fn close_of(&self, participant: &ParticipantId) -> usize {
        let theirs = self.open().into_iter().filter(|connection| {
            connection.participant().is_some_and(|verified| verified.id() == participant)
        });
        theirs.map(|connection| connection.close()).count()
    }
}

/// A TLS stream tied to its [`Connection`]: closing the connection breaks the stream.
pub struct PeerStream<S> {
    stream: S,
    connection: Arc<Connection>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> PeerStream<S> {
    /// Ties `stream` to `connection`.
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        let closing = Box::pin(connection.closed.clone().cancelled_owned());
        Self { stream, connection, closing }
    }

    fn check_open(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.closing.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was closed by this connector",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S> Connected for PeerStream<S> {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.clone()
    }
}

impl<S: AsyncRead + Unpin> PeerStream<S> {
    fn read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read
            && let Some(refusal) = tls_refusal(error)
        {
            self.connection.refused.get_or_init(|| refusal);
        }
        read
    }

    /// A write may fail before anybody has read the alert that says why: what has arrived is looked at once more.
    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(written, Poll::Ready(Err(_))) {
            // The stream is broken: bytes of an earlier answer are of no use any more.
            let mut rest = [0; 1024];
            drop(self.read(context, &mut ReadBuf::new(&mut rest)));
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_open(context)?;
        self.read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PeerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_open(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_open(context)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// The other end sent its alert and closed before we wrote.
    struct Refusing;

    impl AsyncRead for Refusing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_failed_write_still_learns_of_the_alert() {
        let connection = Connection::new("[::1]:1".parse().unwrap(), Vec::new());
        let mut stream = PeerStream::new(Refusing, connection.clone());
        assert_eq!(stream.write_all(b"hello").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let refusal = connection.refused().unwrap();
        assert_eq!(refusal.code.code, "identity/peer-refused-us");
    }
}
