//! Who may ask: a program of this host, of the user who opened the session, with its token, and no web page.

use std::net::SocketAddr;
use std::sync::Arc;

use control_plane::Refusal;
use hyper::{HeaderMap, Uri, header};

use super::{Link, owner};
use crate::data::sessions::{Ended, Session};
use crate::http::identity::credential;
use crate::node::Node;

control_plane::refusal_codes! {
    BAD_TOKEN = "use/bad-session-token", Identity,
        "the token is not that of this session", "權杖不屬於此會話", "令牌不属于此会话",
        clause "operator's guide: reading held data", next "show the token that `fairlead session open` printed, as `Authorization: Bearer TOKEN`";
    OTHER_USER = "use/other-user", Identity,
        "the session is another user's of this host", "此會話屬於本機另一使用者", "此会话属于本机另一用户",
        clause "operator's guide: reading held data", next "open a session of your own";
    OTHER_HOST = "use/other-host", Input,
        "the request is addressed to another host", "請求指向另一主機", "请求指向另一主机",
        clause "operator's guide: reading held data", next "ask at the URL that `fairlead session open` printed";
    FROM_A_PAGE = "use/from-a-web-page", Policy,
        "requests of web pages are not answered", "不回應來自網頁的請求", "不响应来自网页的请求",
        clause "operator's guide: reading held data", next "read with a program that sends no `Origin`";
}

/// The name of this host's loopback addresses in a `Host` header; else the address stands there, in any of its spellings.
const LOCAL_NAME: &str = "localhost";

/// Refuses what a web page or another host's name could send, before anything is looked up.
pub fn require_local(headers: &HeaderMap, uri: &Uri, local: SocketAddr) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::new(&FROM_A_PAGE, ""));
    }
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    // An absolute form of the target names the host, too; HTTP/2 has no other.
    let hosts = [named, uri.authority().map(|authority| authority.as_str())];
    let fits = |host: &str| {
        let literal = |address: SocketAddr| address.ip().is_loopback() && address.port() == local.port();
        host.parse().is_ok_and(literal) || *host == format!("{LOCAL_NAME}:{}", local.port())
    };
    let mut given = hosts.iter().flatten().peekable();
    if given.peek().is_none() || !given.all(|host| fits(host)) {
        let shown = control_plane::ids::printable(named.or_else(|| uri.host()).unwrap_or_default());
        return Err(Refusal::new(&OTHER_HOST, format!("`{shown}`")));
    }
    Ok(())
}

/// The session that the token opens, if its own user asks.
///
/// # Errors
/// [`BAD_TOKEN`] for any other token, also where no session has the name; why it ended, of one that is over.
pub fn session(node: &Node, link: &Link, id: &str, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
    let bad = || Refusal::new(&BAD_TOKEN, "");
    let shown = credential(headers).unwrap_or_default();
    let found = match node.data.sessions.get(id) {
        Ok(session) if session.is_opened_by(shown) => Ok(session),
        Ok(_) => return Err(bad()),
        Err(_) => match node.data.sessions.ended(id) {
            Some(ended) if ended.is_of(shown) => Err(ended),
            Some(_) | None => return Err(bad()),
        },
    };
    of_its_user(link, found)
}

/// The same for a protocol whose calls name no session: the token tells which.
///
/// # Errors
/// Those of [`session`].
pub fn session_of_token(node: &Node, link: &Link, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
    let shown = credential(headers).unwrap_or_default();
    let found = node.data.sessions.opened_by(shown);
    of_its_user(link, found.ok_or_else(|| Refusal::new(&BAD_TOKEN, ""))?)
}

fn of_its_user(link: &Link, found: Result<Arc<Session>, Ended>) -> Result<Arc<Session>, Refusal> {
    let actor = match &found {
        Ok(session) => session.request().actor.as_str(),
        Err(ended) => ended.actor.as_str(),
    };
    // A user that the kernel does not tell is not the one who opened it.
    let user = owner::of(link.remote, link.local).map(|user| format!("uid {user}"));
    if user.as_deref() != Some(actor) {
        return Err(Refusal::new(&OTHER_USER, user.unwrap_or_else(|| "unknown".to_owned())));
    }
    found.map_err(|ended| ended.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, origin: Option<&str>, uri: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let judged = require_local(&headers, &uri.parse().unwrap(), "[::1]:7460".parse().unwrap());
        assert_eq!(judged.err().map(|refusal| refusal.code.code), expected, "{host:?} {origin:?} {uri}");
    }

    #[test]
    fn only_this_host_and_no_page() {
        for host in ["localhost:7460", "127.0.0.1:7460", "[::1]:7460", "[0:0:0:0:0:0:0:1]:7460"] {
            check(Some(host), None, "/sessions/x", None);
        }
        for host in [
            "localhost",
            "localhost:7461",
            "evil.example:7460",
            "evil.example",
            "",
            "[::1]",
            "[::2]:7460",
            "10.0.0.1:7460",
        ] {
            check(Some(host), None, "/sessions/x", Some("use/other-host"));
        }
        check(None, None, "/sessions/x", Some("use/other-host"));
        check(Some("[::1]:7460"), None, "http://evil.example/sessions/x", Some("use/other-host"));
        check(None, None, "http://[::1]:7460/sessions/x", None);
        check(None, None, "http://evil.example/sessions/x", Some("use/other-host"));
        check(Some("[::1]:7460"), Some("null"), "/sessions/x", Some("use/from-a-web-page"));
        check(Some("[::1]:7460"), Some("http://localhost:7460"), "/sessions/x", Some("use/from-a-web-page"));
    }
}
