//! The HTTPS binding of the Dataspace Protocol: its messages go through the same drivers as those of gRPC.
//!
//! A process uses the binding of its counterparty's address ([`is_http`]). [`server`] takes what others send,
//! [`deliver`] sends what transactions queued, [`data`] lets outsiders pull, [`push`] sends them data, [`identity`] says who
//! they are.

pub mod catalogue;
pub mod client;
pub mod data;
pub mod deliver;
mod encoding;
pub mod identity;
mod proof;
pub mod push;
pub mod range;
mod route;
pub mod server;

use control_plane::Refusal;
use control_plane::agreement::Signing;
use control_plane::ids::{CallbackAddress, ParticipantId};
use control_plane::pids::Role;
use control_plane::terms::Offer;
use control_plane::transfer::GRPC_PULL;
use dsp::names::Names;
use dsp::{Canonical, HTTP_PULL, HTTP_PUSH, Speaking};

use crate::config::{DspHttp, DspIdentity};
use crate::node::Node;
use crate::policies::Policies;

control_plane::refusal_codes! {
    NOT_SPOKEN = "dsp/not-configured", State,
        "this connector does not speak the Dataspace Protocol over HTTP",
        "此連接器未啟用 HTTP 上的資料空間協定", "此连接器未启用 HTTP 上的数据空间协议",
        clause "settings: dsp_http", next "set [dsp_http] in the settings and start again";
    ADDRESS_NOT_USABLE = "dsp/address-not-usable", Input,
        "the peer's address is not one that this connector may call",
        "對方的位址不是此連接器可呼叫者", "对方的地址不是此连接器可呼叫者",
        clause "DSP 2025-1, 1.1: callbackAddress", next "give an absolute https URL without user, query and fragment; http only on this machine, in a test";
}

/// Whether a process with this address uses the HTTP binding.
pub fn is_http(address: &CallbackAddress) -> bool {
    let text = address.as_str();
    text.starts_with("https://") || text.starts_with("http://")
}

/// Whether a host names this very machine.
pub fn is_local_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The base address of our own service, which peers also call back.
///
/// # Errors
/// [`NOT_SPOKEN`].
pub fn base(node: &Node) -> Result<String, Refusal> {
    Ok(format!("{}{}", root(node)?, dsp::BASE_PATH))
}

/// The root of our own service.
fn root(node: &Node) -> Result<&str, Refusal> {
    node.dsp_root.get().map(String::as_str).ok_or_else(|| Refusal::new(&NOT_SPOKEN, ""))
}

/// The formats in which our datasets can be had.
pub fn formats(node: &Node) -> &'static [&'static str] {
    if node.dsp_root.get().is_some() { &[GRPC_PULL, HTTP_PULL, HTTP_PUSH] } else { &[GRPC_PULL] }
}

/// Whether `peer` speaks the Dataspace Protocol and nothing else of ours.
pub fn is_plain(node: &Node, peer: &ParticipantId) -> bool {
    let config = node.config.load();
    let configured = config.peer(peer).is_some_and(|peer| peer.signatures == Signing::IfOffered);
    let in_test = match config.dsp_http.as_ref().map(|settings| &settings.identity) {
        Some(DspIdentity::Test(test)) => test.participant == *peer,
        Some(DspIdentity::Members(_)) | None => false,
    };
    configured || in_test
}

/// The address at which our operator wants to talk to `peer`.
///
/// # Errors
/// [`NOT_SPOKEN`] or [`ADDRESS_NOT_USABLE`].
pub fn counterparty(node: &Node, peer: &ParticipantId, address: &str) -> Result<CallbackAddress, Refusal> {
    let config = node.config.load();
    let settings = config.dsp_http.as_ref().ok_or_else(|| Refusal::new(&NOT_SPOKEN, ""))?;
    if let DspIdentity::Test(test) = &settings.identity
        && test.participant != *peer
    {
        let detail = format!("in a test the only peer is `{}`", test.participant);
        return Err(Refusal::new(&ADDRESS_NOT_USABLE, detail));
    }
    let address = CallbackAddress::parse(address)?;
    client::require_usable(settings, address.as_str())?;
    Ok(address)
}

/// What `peer` and we call things.
///
/// # Errors
/// [`NOT_SPOKEN`].
pub fn names(node: &Node, peer: &ParticipantId) -> Result<Names, Refusal> {
    let config = node.config.load();
    let settings = config.dsp_http.as_ref().ok_or_else(|| Refusal::new(&NOT_SPOKEN, ""))?;
    let peer_name = match &settings.identity {
        DspIdentity::Test(test) if test.participant == *peer => test.name.clone(),
        DspIdentity::Test(_) | DspIdentity::Members(_) => None,
    };
    Ok(Names {
        us: node.us.clone(),
        peer: peer.clone(),
        peer_name,
        our_base: settings.name_base.clone(),
        profile: signing(node, settings, peer) == Signing::Required,
    })
}

/// Whether `peer` must sign; who must sign speaks our profile.
fn signing(node: &Node, settings: &DspHttp, peer: &ParticipantId) -> Signing {
    match settings.identity {
        DspIdentity::Test(_) => Signing::IfOffered,
        DspIdentity::Members(_) => {
            node.config.load().peer(peer).map_or(Signing::Required, |configured| configured.signatures)
        }
    }
}

/// Refuses an offer that `peer` could not be told, before anything is stored.
///
/// # Errors
/// [`dsp::policy::NOT_CARRIED`].
pub fn require_carried(node: &Node, peer: &ParticipantId, offer: &Offer, role: Role) -> Result<(), Refusal> {
    let names = names(node, peer)?;
    dsp::policy::write_offer(offer, Speaking { names: &names, role }).map(drop)
}

impl Canonical for Policies {
    fn canonical(&self, policy: &str) -> Result<String, Refusal> {
        Ok(self.compiled(policy)?.canonical_text().to_owned())
    }
}
