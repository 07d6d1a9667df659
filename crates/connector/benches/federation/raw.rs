//! The baseline: the same bytes over a TLS connection of the same settings with nothing else on top.
//!
//! As with the connector, the sender is a process of its own that reads a file, and the receiver reads the socket with
//! a buffer of 128 KiB.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use connector::run::IDENTITY_FILE;
use connector::transport::dialer;
use connector::transport::listener::READ_BUFFER_BYTES;
use control_plane::UnixMillis;
use control_plane::ids::ParticipantId;
use identity::{KnownSequences, StoredIdentity, TlsIdentity};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_rustls::TlsAcceptor;

/// What the sender reads and writes at once, and what the receiver takes at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// An enrolled connector's TLS, from its data directory.
pub fn identity(data: &Path) -> anyhow::Result<(TlsIdentity, String)> {
    let stored = StoredIdentity::load(&data.join(IDENTITY_FILE))?.context("the connector is enrolled")?;
    let statement = stored.statement.clone();
    let now = || {
        let passed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        UnixMillis(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX))
    };
    Ok((stored.open(Arc::new(KnownSequences::load([])), Arc::new(now), now())?, statement))
}

/// The sending process.
pub struct Sender {
    address: String,
    receiver: TlsIdentity,
    sender: ParticipantId,
    _process: Child,
}

impl Sender {
    /// Starts this program once more to send `file`, as the participant of the data directory `from` to that of `to`.
    pub async fn start(from: &Path, to: &Path, file: &Path) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("send-raw")
            .args([from, file])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = process.stdout.take().context("the sender's output")?;
        let address =
            tokio::io::BufReader::new(out).lines().next_line().await?.context("the sender's address")?;
        let sender = identity(from)?.0.certificate().participant().clone();
        Ok(Self { address, receiver: identity(to)?.0, sender, _process: process })
    }

    /// Receives the file and drops it; gives the time from the first byte asked to the last one read.
    pub async fn drop_all(&self, size: u64) -> anyhow::Result<Duration> {
        self.receive(size, None).await
    }

    /// Receives the file into `to`, synced.
    pub async fn to_disk(&self, size: u64, to: PathBuf) -> anyhow::Result<Duration> {
        let took = self.receive(size, Some(File::create(&to)?)).await?;
        std::fs::remove_file(&to)?;
        Ok(took)
    }

    async fn receive(&self, size: u64, file: Option<File>) -> anyhow::Result<Duration> {
        let (socket, _) = dialer::connect(&self.address).await?;
        let mut stream = dialer::handshake(socket, self.receiver.client_config(&self.sender)?).await?;
        let began = Instant::now();
        stream.write_all(b"go").await?;
        stream.flush().await?;
        let mut received = 0;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = stream.read(&mut block).await?;
            if read == 0 {
                break;
            }
            received += read as u64;
            if let (Some(mut file), Some(bytes)) = (file.as_ref(), block.get(..read)) {
                file.write_all(bytes)?;
            }
        }
        if let Some(file) = &file {
            file.sync_all()?;
        }
        let took = began.elapsed();
        ensure!(received == size, "{received} of {size} bytes");
        Ok(took)
    }
}

/// The sending process's work: whoever of the data space connects and writes gets the whole file.
pub async fn send(data: &Path, file: &Path) -> anyhow::Result<()> {
    let (identity, _) = identity(data)?;
    let listener = TcpListener::bind("[::1]:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let socket = BufReader::with_capacity(READ_BUFFER_BYTES, socket);
        let mut stream = TlsAcceptor::from(identity.server_config()).accept(socket).await?;
        stream.read_exact(&mut [0; 2]).await?;
        let mut file = File::open(file)?;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = file.read(&mut block)?;
            let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            stream.write_all(bytes).await?;
        }
        stream.shutdown().await?;
    }
}
