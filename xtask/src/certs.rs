//! `cargo xtask certs DIR`: an authority and three enrolled campuses for development, made by the code that makes real
//! ones. Run a campus on it with `FAIRLEAD__DATA=DIR/hong-kong fairlead run --config connector-config/hong-kong.toml`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use control_plane::UnixMillis;
use identity::authority::TokenRequest;
use identity::membership::{AddressPrefix, Jurisdiction, PeerAddress, Role, SubjectBase};
use identity::{
    Authority, ConnectorKey, LegalName, Membership, SecurityProfile, StoredIdentity, TrustBundle,
};

const AUTHORITY: &str = "https://authority.example/id";
const AUTHORITY_NAMES: &[&str] = &["authority.example", "localhost", "::1"];
const AUTHORITY_ADDRESS: &str = "authority.example:7400";

/// A token is spent at once here.
const TOKEN_MILLIS: i64 = 60_000;

/// The members that the examples in connector-config/ are about.
const CAMPUSES: &[Campus] = &[
    Campus {
        name: "guangzhou",
        legal_name: ["Guangzhou campus (example)", "廣州校區（示例）", "广州校区（示例）"],
        jurisdiction: "CN",
        city: "Guangzhou",
        prefix: "2001:db8:20::/48",
        security_profile: SecurityProfile::Trust,
    },
    Campus {
        name: "hong-kong",
        legal_name: ["Hong Kong campus (example)", "香港校區（示例）", "香港校区（示例）"],
        jurisdiction: "HK",
        city: "Hong Kong",
        prefix: "2001:db8:852::/48",
        security_profile: SecurityProfile::Trust,
    },
    Campus {
        name: "macao",
        legal_name: ["Macao campus (example)", "澳門校區（示例）", "澳门校区（示例）"],
        jurisdiction: "MO",
        city: "Macao",
        prefix: "2001:db8:853::/48",
        security_profile: SecurityProfile::Base,
    },
];

struct Campus {
    name: &'static str,
    /// English, Traditional and Simplified Chinese.
    legal_name: [&'static str; 3],
    jurisdiction: &'static str,
    city: &'static str,
    prefix: &'static str,
    security_profile: SecurityProfile,
}

/// Makes or renews everything below `folder`.
pub fn run(folder: &Path) -> anyhow::Result<String> {
    let now = now()?;
    let authority_folder = folder.join("authority");
    let authority = if authority_folder.exists() {
        Authority::open(&authority_folder)?
    } else {
        make_folder(folder)?;
        let names: Vec<_> = AUTHORITY_NAMES.iter().map(|name| (*name).to_owned()).collect();
        Authority::init(&authority_folder, AUTHORITY, &names, now)?
    };
    for campus in CAMPUSES {
        let keys = folder.join(campus.name).join("keys");
        make_folder(&keys)?;
        let identity = enrol(&authority, campus, now).with_context(|| format!("enrol {}", campus.name))?;
        identity.save(&keys.join("identity.json"))?;
    }
    let names: Vec<_> = CAMPUSES.iter().map(|campus| campus.name).collect();
    Ok(format!(
        "certs: {} holds the authority and the data folders of {}",
        folder.display(),
        names.join(", ")
    ))
}

fn enrol(authority: &Authority, campus: &Campus, now: UnixMillis) -> anyhow::Result<StoredIdentity> {
    let host = format!("{}.example", campus.name);
    let request = TokenRequest {
        participant: format!("https://{host}/id"),
        names: vec![host.clone(), "localhost".to_owned(), "::1".to_owned()],
        membership: campus.membership(&host)?,
        address: PeerAddress::parse(AUTHORITY_ADDRESS)?,
        expires: now.plus_millis(TOKEN_MILLIS),
    };
    let token = authority.create_token(request, now)?;
    let key = ConnectorKey::generate()?;
    let enrolled = authority.enrol(&key.csr()?, token.secret().expose(), now)?;
    let lists = authority.lists(now)?;
    Ok(StoredIdentity {
        key,
        chain: enrolled.chain,
        bundle: TrustBundle::from_der(&enrolled.roots)?,
        statement: enrolled.statement,
        lists: lists.revocation_lists,
        minimum_sequences: Some(lists.minimum_sequences),
    })
}

impl Campus {
    fn membership(&self, host: &str) -> anyhow::Result<Membership> {
        let [en, zh_hant, zh_hans] = self.legal_name.map(str::to_owned);
        Ok(Membership {
            legal_name: LegalName { en, zh_hant: Some(zh_hant), zh_hans: Some(zh_hans) },
            jurisdiction: Jurisdiction::parse(self.jurisdiction)?,
            city: self.city.to_owned(),
            prefixes: vec![AddressPrefix::parse(self.prefix)?],
            addresses: vec![PeerAddress::parse(&format!("{host}:7443"))?],
            roles: vec![Role::parse("provider")?, Role::parse("consumer")?],
            security_profile: self.security_profile,
            subject_base: SubjectBase::parse(&format!("https://{host}/id/"))?,
        })
    }
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    // Keys lie below: nobody else may look in.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make {}", folder.display()))
}

fn now() -> anyhow::Result<UnixMillis> {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(UnixMillis(i64::try_from(passed.as_millis())?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use identity::{KnownSequences, TlsIdentity};

    use super::*;

    fn open(folder: &Path, name: &str) -> (TlsIdentity, String) {
        let stored = StoredIdentity::load(&folder.join(name).join("keys/identity.json")).unwrap().unwrap();
        let statement = stored.statement.clone();
        let now = now().unwrap();
        let known = Arc::new(KnownSequences::load([]));
        (stored.open(known, Arc::new(move || now), now).unwrap(), statement)
    }

    #[test]
    fn each_campus_verifies_the_others_also_after_a_renewal() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            run(folder.path()).unwrap();
            for campus in CAMPUSES {
                let (ours, _) = open(folder.path(), campus.name);
                for other in CAMPUSES {
                    let (theirs, statement) = open(folder.path(), other.name);
                    let verified =
                        ours.verify_participant(&theirs.chain(), &statement, now().unwrap()).unwrap();
                    assert_eq!(verified.id().as_str(), format!("https://{}.example/id", other.name));
                }
            }
        }
    }
}
