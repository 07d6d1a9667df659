//! The bytes of a held copy on their way on: each pull of an object is a use session of ours with the action
//! `distribute`, decided, counted and recorded under the agreement that the copy is held under.

use std::sync::{Arc, Weak};

use control_plane::Refusal;
use data_plane::{HeldObject, HeldPort, HeldRead, UseRequest};
use futures::FutureExt;
use futures::future::BoxFuture;
use policy::vocab::action;

use super::{ACTOR, BUSY};
use crate::data::sessions::{self, Granted, Wanted};
use crate::driver::records;
use crate::driver::transfers::AGREEMENT_NOT_FOUND;
use crate::error::Error;
use crate::node::Node;

/// Opens held copies for the data plane.
struct Serving(Weak<Node>);

/// From now on held copies are served.
pub fn begin(node: &Arc<Node>) {
    node.data.sources.serve_held(Arc::new(Serving(Arc::downgrade(node))));
}

impl HeldPort for Serving {
    fn open(&self, asked: HeldRead) -> BoxFuture<'_, Result<HeldObject, Refusal>> {
        let node = self.0.upgrade();
        async move {
            let node = node.ok_or_else(|| Error::ours("the node is gone").into_refusal())?;
            open(&node, asked).await.map_err(Error::into_refusal)
        }
        .boxed()
    }
}

async fn open(node: &Arc<Node>, asked: HeldRead) -> Result<HeldObject, Error> {
    let id = asked.agreement.clone();
    let held = node.store.read(move |store| records::agreement(store, &id)).await?;
    let held = records::found(held, &AGREEMENT_NOT_FOUND, asked.agreement.as_str())?;
    let request = UseRequest {
        dataset: held.signed.agreement().target().clone(),
        agreement: asked.agreement,
        actor: format!("{ACTOR}{}", asked.subject.agreement),
        action: action::DISTRIBUTE.to_owned(),
        purpose: asked.purpose,
        recipient: Some(asked.subject.participant.to_string()),
        application: None,
    };
    let granted = sessions::grant(node, request, Wanted::One(&asked.object)).await;
    let mut granted = granted.map_err(|error| match error {
        // Whoever pulls is to come again, and not to give up.
        Error::Refused(refusal) if refusal.code == &sessions::TOO_MANY_SESSIONS => {
            Refusal::new(&BUSY, "").into()
        }
        other => other,
    })?;
    let opened = granted.only_object(node).await;
    let Granted { session, registered, place, .. } = granted;
    match opened {
        Ok((object, _)) => Ok(HeldObject { session, object, kept: Box::new((registered, place)) }),
        // The use is spent; its receipt says that nothing was released.
        Err(error) => {
            session.close().await?;
            Err(error)
        }
    }
}
