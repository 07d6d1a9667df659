//! Use sessions that stay open, as users open, renew and close them.

use std::sync::Arc;

use control_plane::Refusal;
use proto::admin;

use super::holdings::{counted, receipt_shown, use_request};
use super::instant;
use crate::data::sessions::{self, NO_SUCH_SESSION, Opened, Session, Wanted};
use crate::error::Error;
use crate::node::Node;
use crate::{use_endpoint, use_flight};

/// Opens a session; its token is told here and nowhere else.
pub async fn open(
    node: &Arc<Node>,
    request: admin::UseRequest,
    actor: String,
) -> Result<admin::Session, Error> {
    let asked = use_request(node, &request, actor).await?;
    let wanted = if request.object.is_empty() { Wanted::All } else { Wanted::One(&request.object) };
    let granted = sessions::grant(node, asked, wanted).await?;
    let Opened { session, token } = Session::start(node, granted);
    Ok(admin::Session { token, ..shown(node, &session) })
}

/// The caller's open sessions; the owner sees everybody's.
pub async fn list(
    node: &Arc<Node>,
    _request: admin::PageRequest,
    actor: String,
) -> Result<admin::SessionList, Error> {
    let all = node.data.sessions.list();
    let visible = all.iter().filter(|session| may_touch(session, &actor));
    let sessions = visible.map(|session| shown(node, session)).collect();
    Ok(admin::SessionList { sessions, next_page_token: String::new() })
}

/// One session; of one that ended, why.
pub async fn show(
    node: &Arc<Node>,
    request: admin::SessionRequest,
    actor: String,
) -> Result<admin::Session, Error> {
    Ok(shown(node, &*found(node, &request.id, &actor)?))
}

/// Decides again and gives the session another life.
pub async fn renew(
    node: &Arc<Node>,
    request: admin::SessionRequest,
    actor: String,
) -> Result<admin::Session, Error> {
    let session = found(node, &request.id, &actor)?;
    session.renew(node).await?;
    Ok(shown(node, &session))
}

/// Closes the session; gives its receipt.
pub async fn close(
    node: &Arc<Node>,
    request: admin::SessionRequest,
    actor: String,
) -> Result<admin::UseReceipt, Error> {
    let receipt = found(node, &request.id, &actor)?.close(node).await?;
    receipt_shown(node, &receipt).await
}

/// A session of somebody else is as unknown as one that never was.
fn found(node: &Node, id: &str, actor: &str) -> Result<Arc<Session>, Refusal> {
    let unknown = || Refusal::new(&NO_SUCH_SESSION, format!("`{}`", control_plane::ids::printable(id)));
    match node.data.sessions.get(id) {
        Ok(session) if may_touch(&session, actor) => Ok(session),
        Ok(_) => Err(unknown()),
        Err(reason) => {
            let theirs = node.data.sessions.ended(id).is_some_and(|ended| !is_of(&ended.actor, actor));
            Err(if theirs { unknown() } else { reason })
        }
    }
}

fn may_touch(session: &Session, actor: &str) -> bool {
    is_of(&session.request().actor, actor)
}

/// The user itself, the owner of the data folder, or root.
pub(super) fn is_of(user: &str, actor: &str) -> bool {
    let owner = format!("uid {}", rustix::process::geteuid().as_raw());
    actor == user || actor == owner || actor == "uid 0"
}

fn shown(node: &Node, session: &Session) -> admin::Session {
    let request = session.request();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    admin::Session {
        id: session.id().to_owned(),
        agreement: request.agreement.to_string(),
        actor: request.actor.clone(),
        action: request.action.clone(),
        purpose: text(&request.purpose),
        application: text(&request.application),
        recipient: text(&request.recipient),
        opened: session.opened().to_string(),
        valid_until: instant(session.valid_until()),
        life_seconds: session.life_left().as_secs(),
        uses_left: counted(session.uses_left()),
        bytes: session.bytes(),
        objects: session
            .objects()
            .iter()
            .map(|object| admin::SessionObject {
                path: object.name().to_owned(),
                bytes: object.size(),
                digest: object.checksum().to_string(),
                url: use_endpoint::object_url(node, session.id(), object.name()),
                ticket: use_flight::ticket(object.name()).unwrap_or_default(),
            })
            .collect(),
        token: String::new(),
        flight: use_flight::url(node),
    }
}
