//! The Unix sockets on which local people and programs reach this connector: one for everything, one for using data.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control_plane::Refusal;
use proto::admin::admin_service_server::AdminServiceServer;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::{Administration, Door};
use crate::ADMIN_SOCKET;
use crate::cli::client::MAX_ADMIN_MESSAGE_BYTES;
use crate::config::Group;
use crate::error::Error;
use crate::node::Node;
use crate::run::CANNOT_LISTEN;

/// Only the owner of the data folder.
const OWNER_ONLY: u32 = 0o600;
/// The owner and one group.
const WITH_GROUP: u32 = 0o660;

/// Listens on the sockets that the settings name.
pub fn serve(node: &Arc<Node>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let administration = node.config.load().administration.clone();
    listen(node, &socket(node), administration.group.as_ref(), Door::Everything, tasks)?;
    if let Some(path) = &administration.use_socket {
        listen(node, path, administration.use_group.as_ref(), Door::Use, tasks)?;
    }
    Ok(())
}

/// Takes the sockets away, so that whoever calls learns at once that nobody answers.
pub fn remove(node: &Node) {
    let use_socket = node.config.load().administration.use_socket.clone();
    for path in std::iter::once(socket(node)).chain(use_socket) {
        drop(std::fs::remove_file(path));
    }
}

fn socket(node: &Node) -> PathBuf {
    let config = node.config.load();
    config.administration.socket.clone().unwrap_or_else(|| config.data.join(ADMIN_SOCKET))
}

fn listen(
    node: &Arc<Node>,
    path: &Path,
    group: Option<&Group>,
    door: Door,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let cannot = |error: std::io::Error| Refusal::new(&CANNOT_LISTEN, format!("{}: {error}", path.display()));
    // The store's lock says that no other process runs here: a socket that is there was left behind.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error).into()),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(cannot)?;
    let mode = if group.is_some() { WITH_GROUP } else { OWNER_ONLY };
    // The group first: until the mode follows, the new socket is as open as the process's umask leaves it to its owner.
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group.gid)).map_err(cannot)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(cannot)?;
    let service = AdminServiceServer::new(Administration { node: node.clone(), door })
        .max_decoding_message_size(MAX_ADMIN_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_ADMIN_MESSAGE_BYTES);
    let router = Server::builder().add_service(service);
    let stop = node.stop.clone();
    tasks.spawn(async move {
        let incoming = UnixListenerStream::new(listener);
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await {
            tracing::error!(%error, "a socket of the administration ended");
        }
    });
    Ok(())
}
