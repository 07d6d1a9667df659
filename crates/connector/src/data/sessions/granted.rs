//! A use that was granted, with everything that its reads need.

use std::sync::Arc;

use control_plane::Refusal;
use control_plane::ids::{AgreementId, ParticipantId, printable};
use data_plane::{
    AgreementKey, ObjectRecord, ObjectState, SessionId, SessionObject, StopSignal, UseRequest, UseSession,
};
use tokio::sync::OwnedSemaphorePermit;

use super::TOO_MANY_SESSIONS;
use crate::data::holdings::{self, DESTROYED, INCOMPLETE, NO_HOLDING};
use crate::data::lease_provider::MAX_NAMED;
use crate::data::provider::data_error;
use crate::data::uses::{self, SessionPort};
use crate::data::{FlowOf, Registered, keys, register};
use crate::driver::records;
use crate::error::Error;
use crate::fresh;
use crate::node::Node;

control_plane::refusal_codes! {
    NO_SUCH_OBJECT = "use/no-such-object", NotFound,
        "the holding has no object of this name", "所持資料中沒有此名稱的物件", "所持数据中没有此名称的对象",
        clause "holdings", next "`fairlead holdings show AGREEMENT` lists the objects";
    SEVERAL_OBJECTS = "use/several-objects", Input,
        "the holding has several objects", "所持資料含多個物件", "所持数据含多个对象",
        clause "holdings", next "name one; `fairlead holdings show AGREEMENT` lists them";
}

/// A granted use. Dropping it without closing its session leaves no receipt.
pub struct Granted {
    /// The session.
    pub session: UseSession,
    /// What may be read.
    pub objects: Vec<ObjectRecord>,
    /// What opens them.
    pub keys: ObjectKeys,
    /// Uses left after this one, where they are counted.
    pub uses_left: Option<u64>,
    /// Hears what stops the use.
    pub stop: StopSignal,
    /// Its place on the list of what can be stopped.
    pub registered: Registered,
    /// Its place among the sessions.
    pub place: OwnedSemaphorePermit,
}

/// Which objects a use is about.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// All of the agreement's.
    All,
    /// The one of this name; where the name is empty, the only one there is.
    One(&'a str),
}

/// Decides, counts and records; what is not there or not whole is said before anything is counted.
pub async fn grant(node: &Arc<Node>, asked: UseRequest, wanted: Wanted<'_>) -> Result<Granted, Error> {
    let place = node.data.session_places.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::new(&TOO_MANY_SESSIONS, ""))?;
    let id = asked.agreement.clone();
    let (assigner, objects) = held(node, &id).await?;
    let objects = usable(objects, wanted)?;
    let key = {
        let kek = node.data.keys.current().await;
        let (wrapper, key) = ((*kek).clone(), id.clone());
        node.store.read(move |store| keys::agreement_key(store, &wrapper, &key)).await?
    };
    let key = records::found(key, &DESTROYED, id.as_str())?;
    // On the list first: what is revoked between here and the first decision stops it too.
    let (registered, stop) = register(node, FlowOf { transfer: None, agreement: id.clone(), peer: assigner });
    let session = SessionId::parse(&fresh::urn())?;
    let clock: Arc<dyn data_plane::Clock> = node.clock.clone();
    let first: Vec<&ObjectRecord> = objects.iter().take(MAX_NAMED).collect();
    let port = Arc::new(SessionPort::new(node.clone()).beginning_with(&first));
    let session = UseSession::open(port.clone(), clock, session, asked, stop.clone()).await?;
    let uses_left = match uses::left(node, &id).await {
        Ok(left) => left,
        // The use is spent; its receipt says that nothing was released.
        Err(error) => {
            session.close().await?;
            return Err(error);
        }
    };
    Ok(Granted { session, objects, keys: ObjectKeys { port, key }, uses_left, stop, registered, place })
}

/// What opens the objects of one session: the agreement's key, and under a lease the provider's shares.
pub struct ObjectKeys {
    port: Arc<SessionPort>,
    key: AgreementKey,
}

impl ObjectKeys {
    /// Opens an object in the session.
    pub async fn open(
        &self,
        node: &Node,
        session: &mut UseSession,
        record: &ObjectRecord,
    ) -> Result<SessionObject, Error> {
        let (row, key) = self.port.unlock(record.clone(), self.key.clone()).await?;
        session.object(&node.data.sealed, &row, &key).await.map_err(data_error)
    }
}

impl Granted {
    /// Opens the one object of this use.
    pub async fn only_object(&mut self, node: &Node) -> Result<(SessionObject, ObjectRecord), Error> {
        let [record] = self.objects.as_slice() else {
            return Err(Refusal::new(&SEVERAL_OBJECTS, self.objects.len().to_string()).into());
        };
        let record = record.clone();
        let object = self.keys.open(node, &mut self.session, &record).await?;
        Ok((object, record))
    }
}

/// Who granted the agreement, and the objects held under it.
async fn held(node: &Node, id: &AgreementId) -> Result<(ParticipantId, Vec<ObjectRecord>), Error> {
    let key = id.clone();
    let (holding, objects) = node
        .store
        .read(move |store| Ok::<_, Error>((holdings::get(store, &key)?, holdings::objects(store, &key)?)))
        .await?;
    let holding = records::found(holding, &NO_HOLDING, id.as_str())?;
    if holding.is_destroyed() {
        return Err(Refusal::new(&DESTROYED, id.as_str()).into());
    }
    Ok((ParticipantId::parse(&holding.assigner)?, objects))
}

/// The objects that were asked for, if they are there and whole.
fn usable(mut objects: Vec<ObjectRecord>, wanted: Wanted<'_>) -> Result<Vec<ObjectRecord>, Refusal> {
    if let Wanted::One(name) = wanted {
        objects.retain(|object| name.is_empty() || object.name() == name);
        if objects.is_empty() && !name.is_empty() {
            return Err(Refusal::new(&NO_SUCH_OBJECT, format!("`{}`", printable(name))));
        }
        if objects.len() > 1 {
            return Err(Refusal::new(&SEVERAL_OBJECTS, objects.len().to_string()));
        }
    }
    if objects.is_empty() {
        return Err(Refusal::new(&INCOMPLETE, "nothing has arrived yet"));
    }
    match objects.iter().find(|object| object.state() != ObjectState::Complete) {
        Some(object) => {
            Err(Refusal::new(&INCOMPLETE, format!("{} of {} bytes", object.durable(), object.size())))
        }
        None => Ok(objects),
    }
}
