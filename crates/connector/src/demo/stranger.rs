//! Somebody with a valid certificate of another authority knocks, and does not care who answers.

use std::sync::Arc;

use identity::{KnownSequences, StoredIdentity};
use tokio::io::AsyncReadExt as _;

use super::data_space::STRANGER;
use super::processes::{Program, Told, Trouble};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::run::IDENTITY_FILE;
use crate::transport::dialer;
use crate::{doctor, trust};

/// What the stranger saw.
pub struct Knock {
    /// The address that it dialled from, by which the other side's log names it.
    pub from: String,
    /// All that it was told.
    pub told: String,
}

/// Dials `address` with the stranger's certificate and waits for the first byte of an answer.
pub async fn knock(program: &Program, address: &str) -> Told<Knock> {
    let config = Config::load(&program.folder().join(STRANGER.settings()));
    let config = config.map_err(|problems| Trouble::failed(problems.to_string()))?;
    let stored =
        StoredIdentity::load(&config.data.join(IDENTITY_FILE)).map_err(|error| failed(error.into()))?;
    let stored = stored.ok_or_else(|| Trouble::failed("the stranger was not enrolled"))?;
    let clock = Arc::new(Clock::start(None));
    let now = clock.now();
    let known = Arc::new(KnownSequences::default());
    let identity =
        trust::open_identity(stored, &config, known, Arc::new(move || clock.now()), now).map_err(failed)?;
    let (settings, _) = doctor::diagnosis_config(&identity, &config.participant).map_err(failed)?;

    let (socket, _) = dialer::connect(address).await?;
    let from = socket.local_addr()?.to_string();
    // With TLS 1.3 a client learns only from the first answer that its certificate was refused.
    let mut stream = dialer::handshake(socket, settings).await?;
    match stream.read(&mut [0; 1]).await {
        Ok(0) => Ok(Knock { from, told: "the connection was closed".to_owned() }),
        Ok(_) => Err(Trouble::failed("the stranger was let in")),
        Err(error) => Ok(Knock { from, told: error.to_string() }),
    }
}

fn failed(error: Error) -> Trouble {
    Trouble::Failed(error.to_string())
}
