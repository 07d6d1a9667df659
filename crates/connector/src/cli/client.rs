//! The way from the command line to the running connector: gRPC over the Unix socket in the data directory.

use std::path::Path;

use hyper_util::rt::TokioIo;
use proto::admin::admin_service_client::AdminServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::output::{Failure, exit};

/// The administration client.
pub type Admin = AdminServiceClient<Channel>;

/// Largest message on the administration socket: a self-description and its texts fit many times.
pub const MAX_ADMIN_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Connects to the connector that listens on this socket.
pub async fn connect(socket: &Path) -> Result<Admin, Failure> {
    let socket = socket.to_owned();
    let unreachable = |error: String| {
        Failure {
        code: "admin/not-running".into(),
        text: "no connector answers on the administration socket".into(),
        detail: format!("{}: {error}", socket.display()),
        next: "start it with `fairlead run --config FILE`, or name its data directory with --data, or the socket with --socket".into(),
        exit: exit::UNAVAILABLE,
    }
    };
    let path = socket.clone();
    let endpoint = Endpoint::from_static("http://admin.fairlead.invalid");
    let channel = endpoint
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| unreachable(root_cause(&error)))?;
    Ok(AdminServiceClient::new(channel)
        .max_decoding_message_size(MAX_ADMIN_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_ADMIN_MESSAGE_BYTES))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
