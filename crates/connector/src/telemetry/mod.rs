//! What the process says about itself: logs, metrics, health. Nothing here holds secrets or dataset content.

pub mod health;
mod logs;
pub mod metrics;
mod request;
mod service;

pub use health::HealthListener;
pub use logs::{LogLines, Logs, init_logs};
pub use metrics::Metrics;
pub use request::RequestId;
pub use service::serve;

use std::io;
use std::net::SocketAddr;

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Health and metrics would be reachable from outside.
    #[error("`{0}` can be reached from outside; health and metrics listen on [::1] or 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened at.
    #[error("cannot listen at `{address}` for health and metrics: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Another part of the process installed its own logs or metrics before.
    #[error("the process already has its own {0}")]
    AlreadyInstalled(&'static str),
}
