//! Provider side: the shares of leased objects' keys, as rows. At most two epochs of each are kept: the one that the
//! consumer's copy is wrapped with, and the one it wraps it with next.

use control_plane::Refusal;
use control_plane::ids::AgreementId;
use data_plane::{FileKek, LeaseShare, WrappedKey};
use store::{Collection, Expect, Row, Snapshot, Tx};

use super::keys;
use super::provider::data_error;
use crate::error::Error;

control_plane::refusal_codes! {
    EPOCH_SPENT = "use/lease-epoch-spent", Policy,
        "the share of this epoch was destroyed when a newer one was presented",
        "此期次的金鑰份額在出示較新期次時已銷毀", "此期次的密钥份额在出示较新期次时已销毁",
        clause "security model: what a lease holds", next "this copy cannot be opened any more; negotiate a new agreement to pull the data again";
    EPOCH_UNKNOWN = "use/lease-epoch-unknown", Policy,
        "no share of this epoch was ever given for this object", "從未就此物件發出此期次的金鑰份額",
        "从未就此对象发出此期次的密钥份额",
        clause "security model: what a lease holds", next "pull the object under this agreement first";
}

/// How the rows of shares begin; no agreement's name has a space in it.
const PREFIX: &str = "share ";

/// Rows of one object at most: the presented epoch and the next.
const KEPT: usize = 2;

fn of_agreement(agreement: &AgreementId) -> String {
    format!("{PREFIX}{agreement} ")
}

fn of_object(agreement: &AgreementId, object: u32) -> String {
    format!("{PREFIX}{agreement} {object:010} ")
}

fn row_key(agreement: &AgreementId, object: u32, epoch: u64) -> String {
    format!("{}{epoch:020}", of_object(agreement, object))
}

/// Whether a row of wrapped keys is a share.
pub fn is_share(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// In a rotation of the key-encryption key: wraps a share anew.
pub fn rewrap(tx: &Tx<'_>, row: &Row, old: &FileKek, next: &FileKek) -> Result<(), Error> {
    put(tx, &row.key, &open(row, old)?, next)
}

/// What a presented epoch leads to; nothing is changed until [`Turn::take`].
#[derive(Debug)]
pub struct Turn {
    object: u32,
    presented: u64,
    next: u64,
}

/// The shares for one object.
pub struct Turned {
    /// Its index.
    pub object: u32,
    /// What the presented epoch is opened with; none for epoch 0.
    pub held: Option<LeaseShare>,
    /// What is wrapped with from now on.
    pub next: LeaseShare,
}

/// Whether a consumer that presents `epoch` can be given shares. Epoch 0, nothing sealed yet, only where `begins`.
pub fn turn(
    store: &Snapshot<'_>,
    agreement: &AgreementId,
    object: u32,
    epoch: u64,
    begins: bool,
) -> Result<Turn, Error> {
    let kept = epochs(store, agreement, object)?;
    let told =
        |code| Error::from(Refusal::new(code, format!("object {object}, epoch {epoch}, kept {kept:?}")));
    let (oldest, newest) = match (kept.first(), kept.last()) {
        (Some(oldest), Some(newest)) => (*oldest, *newest),
        _ if epoch == 0 && begins => return Ok(Turn { object, presented: 0, next: 1 }),
        _ => return Err(told(&EPOCH_UNKNOWN)),
    };
    match epoch {
        0 if begins => Ok(Turn { object, presented: 0, next: oldest }),
        0 => Err(told(&EPOCH_UNKNOWN)),
        spent if spent < oldest => Err(told(&EPOCH_SPENT)),
        unknown if unknown > newest => Err(told(&EPOCH_UNKNOWN)),
        presented => Ok(Turn { object, presented, next: presented.saturating_add(1) }),
    }
}

impl Turn {
    /// The object's index and the epoch to wrap with.
    pub const fn next(&self) -> (u32, u64) {
        (self.object, self.next)
    }

    /// Destroys what is older than the presented epoch, makes the next share if there is none, and gives both.
    pub fn take(self, tx: &Tx<'_>, kek: &FileKek, agreement: &AgreementId) -> Result<Turned, Error> {
        let Self { object, presented, next } = self;
        for epoch in epochs(tx, agreement, object)?.into_iter().filter(|epoch| *epoch < presented) {
            tx.delete(Collection::WrappedKeys, &row_key(agreement, object, epoch), Expect::Any)?;
        }
        let held = match presented {
            0 => None,
            epoch => Some(made(tx, kek, agreement, object, epoch)?),
        };
        Ok(Turned { object, held, next: made(tx, kek, agreement, object, next)? })
    }
}

/// The share of this epoch, made if there is none.
fn made(
    tx: &Tx<'_>,
    kek: &FileKek,
    agreement: &AgreementId,
    object: u32,
    epoch: u64,
) -> Result<LeaseShare, Error> {
    let key = row_key(agreement, object, epoch);
    if let Some(row) = tx.get(Collection::WrappedKeys, &key)? {
        return open(&row, kek);
    }
    let share = LeaseShare::generate(epoch).map_err(data_error)?;
    put(tx, &key, &share, kek)?;
    keys::note_epoch(tx, kek)?;
    Ok(share)
}

/// Destroys every share of an agreement: nobody opens its copies any more. Gives how many there were.
pub fn destroy(tx: &Tx<'_>, agreement: &AgreementId) -> Result<usize, Error> {
    let mut destroyed = 0;
    loop {
        let rows = tx.scan(Collection::WrappedKeys, &of_agreement(agreement), None, store::MAX_PAGE)?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            tx.delete(Collection::WrappedKeys, &row.key, Expect::Any)?;
        }
        destroyed += rows.len();
    }
    if destroyed > 0 {
        keys::owe_rotation(tx)?;
    }
    Ok(destroyed)
}

fn epochs(store: &Snapshot<'_>, agreement: &AgreementId, object: u32) -> Result<Vec<u64>, Error> {
    let rows = store.scan(Collection::WrappedKeys, &of_object(agreement, object), None, KEPT + 1)?;
    rows.iter().map(|row| epoch_of(&row.key)).collect()
}

fn epoch_of(key: &str) -> Result<u64, Error> {
    let epoch = key.rsplit_once(' ').and_then(|(_, epoch)| epoch.parse().ok());
    epoch.ok_or_else(|| Error::damaged("a share's row", key))
}

fn open(row: &Row, kek: &FileKek) -> Result<LeaseShare, Error> {
    let wrapped = WrappedKey::parse(&String::from_utf8_lossy(&row.value))?;
    LeaseShare::unwrap(&row.key, epoch_of(&row.key)?, &wrapped, kek).map_err(data_error)
}

fn put(tx: &Tx<'_>, key: &str, share: &LeaseShare, kek: &FileKek) -> Result<(), Error> {
    let wrapped = share.wrap(key, kek).map_err(data_error)?;
    tx.put(Collection::WrappedKeys, key, wrapped.to_text().as_bytes(), Expect::Any)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use store::{Options, Store};

    use super::*;

    /// Presented epoch, whether a pull presents it, and what follows: the epochs told, or the refusal's code.
    type Step = (u64, bool, Result<(Option<u64>, u64), &'static str>);

    fn check(steps: &[Step], left: &[u64]) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let kek = FileKek::load_or_create(&folder.path().join("kek.json")).unwrap();
        let agreement = AgreementId::parse("urn:a").unwrap();
        let mut given: Vec<LeaseShare> = Vec::new();
        for (number, (epoch, begins, expected)) in steps.iter().enumerate() {
            let (kek, agreement) =
                (FileKek::load(&folder.path().join("kek.json")).unwrap(), agreement.clone());
            let (epoch, begins) = (*epoch, *begins);
            let turned = store.write_blocking(move |tx| {
                let turn = turn(tx, &agreement, 3, epoch, begins)?;
                turn.take(tx, &kek, &agreement)
            });
            let told = match &turned {
                Ok(turned) => Ok((turned.held.as_ref().map(LeaseShare::epoch), turned.next.epoch())),
                Err(Error::Refused(refusal)) => Err(refusal.code.code),
                Err(other) => panic!("step {number}: {other}"),
            };
            assert_eq!(told, *expected, "step {number} of {steps:?}");
            // The same epoch is always the same share.
            for share in turned.into_iter().flat_map(|turned| turned.held.into_iter().chain([turned.next])) {
                match given.iter().find(|known| known.epoch() == share.epoch()) {
                    Some(known) => assert_eq!(known.bytes(), share.bytes(), "step {number}"),
                    None => given.push(share),
                }
            }
        }
        let all = {
            let agreement = agreement.clone();
            move |store: &Snapshot<'_>| epochs(store, &agreement, 3)
        };
        assert_eq!(store.read_blocking(all).unwrap(), left, "{steps:?}");

        // A rotation of the key-encryption key keeps the shares; destruction leaves nothing.
        let next = kek.next_epoch().unwrap();
        let name = agreement.clone();
        let (kept, destroyed) = store
            .write_blocking(move |tx| {
                for row in tx.scan(Collection::WrappedKeys, PREFIX, None, store::MAX_PAGE)? {
                    rewrap(tx, &row, &kek, &next)?;
                }
                let mut kept = Vec::new();
                for row in tx.scan(Collection::WrappedKeys, PREFIX, None, store::MAX_PAGE)? {
                    assert!(open(&row, &kek).is_err());
                    kept.push(open(&row, &next)?);
                }
                Ok::<_, Error>((kept, destroy(tx, &name)?))
            })
            .unwrap();
        assert_eq!(destroyed, left.len());
        for share in kept {
            assert_eq!(
                given.iter().find(|known| known.epoch() == share.epoch()).unwrap().bytes(),
                share.bytes()
            );
        }
        assert_eq!(store.read_blocking(move |store| epochs(store, &agreement, 3)).unwrap(), [0_u64; 0]);
    }

    #[test]
    fn shares_rotate_and_what_is_old_is_gone() {
        let (spent, unknown) = (Err("use/lease-epoch-spent"), Err("use/lease-epoch-unknown"));
        check(&[(0, false, unknown), (1, false, unknown), (1, true, unknown)], &[]);
        check(&[(0, true, Ok((None, 1))), (0, true, Ok((None, 1))), (0, false, unknown)], &[1]);
        // An answer that was lost is asked for again; a copy that was put back is of no use.
        check(
            &[
                (0, true, Ok((None, 1))),
                (1, false, Ok((Some(1), 2))),
                (1, false, Ok((Some(1), 2))),
                (2, false, Ok((Some(2), 3))),
                (1, false, spent),
                (4, false, unknown),
                (3, false, Ok((Some(3), 4))),
                (2, false, spent),
                (u64::MAX, false, unknown),
            ],
            &[3, 4],
        );
        // A pull that begins again seals with what is still kept.
        check(
            &[
                (0, true, Ok((None, 1))),
                (1, true, Ok((Some(1), 2))),
                (2, true, Ok((Some(2), 3))),
                (0, true, Ok((None, 2))),
            ],
            &[2, 3],
        );
    }
}
