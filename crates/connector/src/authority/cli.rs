//! `fairlead authority …`: founds a data space, serves it, and changes who belongs to it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use control_plane::UnixMillis;
use identity::authority::{MEMBER_UNKNOWN, Member, TokenRequest};
use identity::membership::{
    AddressPrefix, Jurisdiction, LegalName, Membership, PeerAddress, Role, SecurityProfile, SubjectBase,
    normalised_participant,
};
use identity::{Authority, IdentityError, Revocation};
use tokio_util::sync::CancellationToken;

use super::DataSpace;
use super::server::AuthorityServer;
use crate::cli::args::{AuthorityCommand, StatementArgs, TokenArgs};
use crate::cli::output::{Failure, Output, exit, facts};
use crate::clock::Clock;
use crate::config::{LogFormat, LogLevel, Logging};
use crate::error::Error;
use crate::{cli, telemetry, trust};

/// Runs one command of the authority.
pub fn run(output: Output, command: AuthorityCommand) -> Result<(), Failure> {
    match command {
        AuthorityCommand::Init { dir, name, id, host } => init(output, &dir, &name, id.as_deref(), &host),
        AuthorityCommand::Run { dir, listen } => serve(output, &dir, listen),
        AuthorityCommand::Token(args) => token(output, &args),
        AuthorityCommand::Revoke { dir, participant } => revoke(output, &dir, &participant),
        AuthorityCommand::Statement(args) => statement(output, &args),
        AuthorityCommand::List { dir } => list(output, &dir),
    }
}

fn init(output: Output, dir: &Path, name: &str, id: Option<&str>, hosts: &[String]) -> Result<(), Failure> {
    let id = id.map_or_else(|| default_id(name), str::to_owned);
    let authority = Authority::init(dir, &id, hosts, now()).map_err(|error| failure(dir, error))?;
    DataSpace::save(dir, name).map_err(|error| Failure::from(error.into_refusal()))?;
    let bundle = authority.trust_bundle().map_err(|error| failure(dir, error))?;
    let root = bundle.roots().next().map(|root| identity::Digest::of(root).to_string()).unwrap_or_default();
    let shown = serde_json::json!({
        "dir": dir.display().to_string(), "name": name, "id": authority.id().as_str(), "root": root,
    });
    output.show(&shown, |_| {
        facts(&[
            ("data space", name.to_owned()),
            ("authority", authority.id().to_string()),
            ("root certificate", root.clone()),
            ("directory", dir.display().to_string()),
        ])
    })?;
    output.note(&format!(
        "next: `fairlead authority run --dir {0}`; `{0}/root.key` may be moved to a safe and is needed again for the \
         root's revocation list within 180 days",
        dir.display()
    ));
    Ok(())
}

/// The authority's URI where the founder names none. It is never resolved; what counts is the root certificate.
fn default_id(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    let slug: String = slug.chars().take(MAX_SLUG_CHARS).collect();
    format!("https://authority.invalid/{}", if slug.is_empty() { "data-space" } else { &slug })
}

/// A participant's URI has at most 255 bytes.
const MAX_SLUG_CHARS: usize = 100;

fn serve(output: Output, dir: &Path, listen: SocketAddr) -> Result<(), Failure> {
    let format = if output.json { LogFormat::Json } else { LogFormat::Text };
    let logging = Logging { format, level: LogLevel::Info };
    let _logs = telemetry::init_logs(&logging).map_err(Failure::ours)?;
    if !dir.join("authority.json").exists() {
        return Err(no_authority(dir));
    }
    cli::server_runtime()?.block_on(async {
        let stop = stopped_by_signal()?;
        let server = AuthorityServer::bind(dir, listen).await.map_err(Error::into_refusal)?;
        if output.json {
            output.line(&serde_json::json!({ "listening": server.address().to_string() }).to_string())?;
        }
        Ok(server.run(stop).await.map_err(Error::into_refusal)?)
    })
}

/// Cancelled by SIGTERM or SIGINT.
fn stopped_by_signal() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::ours)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::ours)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}

fn token(output: Output, args: &TokenArgs) -> Result<(), Failure> {
    let now = now();
    let membership = Membership {
        legal_name: legal_name(&args.legal_name)?,
        jurisdiction: Jurisdiction::parse(&args.jurisdiction)?,
        city: args.city.clone(),
        prefixes: parsed(&args.prefix, AddressPrefix::parse)?,
        addresses: parsed(&args.peer_address, PeerAddress::parse)?,
        roles: parsed(&args.role, Role::parse)?,
        security_profile: SecurityProfile::parse(&args.security_profile)?,
        subject_base: SubjectBase::parse(&args.subject_base)?,
    };
    let request = TokenRequest {
        participant: args.participant.clone(),
        names: args.name.clone(),
        membership,
        address: PeerAddress::parse(&args.address)?,
        expires: now.plus_millis(i64::from(args.valid_hours) * 60 * 60 * 1000),
    };
    let authority = open(&args.dir)?;
    let token = authority.create_token(request, now).map_err(|error| failure(&args.dir, error))?;
    let text = token.encode().map_err(|error| failure(&args.dir, error))?;
    let (participant, expires) = (token.participant().to_string(), token.expires().to_string());
    let Some(file) = &args.output else {
        let shown =
            serde_json::json!({ "token": text.expose(), "participant": participant, "expires": expires });
        output.show(&shown, |_| text.expose().clone())?;
        output.note(&format!("one use by `{participant}` until {expires}; hand it over on a private way"));
        return Ok(());
    };
    write_secret(file, text.expose())?;
    let file = file.display().to_string();
    let shown = serde_json::json!({ "tokenFile": file, "participant": participant, "expires": expires });
    output.show(&shown, |_| {
        facts(&[("token in", file.clone()), ("one use by", participant.clone()), ("until", expires.clone())])
    })
}

fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| writeln!(file, "{text}").and_then(|()| file.sync_all()));
    written.map_err(|error| {
        let text = format!("cannot write `{}`: {error}", path.display());
        Failure::usage(text, "name a file that does not exist, in a directory that does")
    })
}

fn revoke(output: Output, dir: &Path, what: &str) -> Result<(), Failure> {
    let is_serial = what.len() >= MIN_SERIAL_CHARS && what.bytes().all(|byte| byte.is_ascii_hexdigit());
    let revocation = if is_serial {
        Revocation::Certificate(what.to_ascii_lowercase())
    } else {
        Revocation::Participant(normalised_participant(what)?)
    };
    let authority = open(dir)?;
    let serials = authority.revoke(&revocation, now()).map_err(|error| failure(dir, error))?;
    let shown = serde_json::json!({ "revoked": what, "certificates": serials });
    output.show(&shown, |_| match serials.as_slice() {
        [] => format!("{what}: nothing was left to revoke"),
        serials => format!("{what}: revoked {}", serials.join(", ")),
    })
}

/// Shorter than any serial number of the authority's, longer than no participant: those hold a colon.
const MIN_SERIAL_CHARS: usize = 8;

fn statement(output: Output, args: &StatementArgs) -> Result<(), Failure> {
    let participant = normalised_participant(&args.participant)?;
    let authority = open(&args.dir)?;
    let members = authority.members().map_err(|error| failure(&args.dir, error))?;
    let member = members.into_iter().find(|member| member.participant == participant && member.active);
    let member = member
        .ok_or_else(|| control_plane::Refusal::new(&MEMBER_UNKNOWN, participant.as_str().to_owned()))?;
    let membership = changed(member.membership, args)?;
    let issued = authority
        .update_member(&participant, membership, now())
        .map_err(|error| failure(&args.dir, error))?;
    let said = trust::own_statement(issued).map_err(|error| Failure::from(error.into_refusal()))?.statement;
    let shown = serde_json::json!({
        "participant": participant.as_str(),
        "sequence": said.sequence,
        "issued": said.issued.to_string(),
        "expires": said.expires.to_string(),
        "membership": said.membership,
    });
    output.show(&shown, |_| {
        facts(&[
            ("participant", participant.to_string()),
            ("sequence", said.sequence.to_string()),
            ("jurisdiction", said.membership.jurisdiction.to_string()),
            ("city", said.membership.city.clone()),
            ("security profile", said.membership.security_profile.as_str().to_owned()),
            ("until", said.expires.to_string()),
        ])
    })
}

fn changed(mut membership: Membership, args: &StatementArgs) -> Result<Membership, Failure> {
    if !args.legal_name.is_empty() {
        membership.legal_name = legal_name(&args.legal_name)?;
    }
    if let Some(profile) = &args.security_profile {
        membership.security_profile = SecurityProfile::parse(profile)?;
    }
    if let Some(jurisdiction) = &args.jurisdiction {
        membership.jurisdiction = Jurisdiction::parse(jurisdiction)?;
    }
    if let Some(city) = &args.city {
        membership.city.clone_from(city);
    }
    if !args.prefix.is_empty() {
        membership.prefixes = parsed(&args.prefix, AddressPrefix::parse)?;
    }
    if !args.peer_address.is_empty() {
        membership.addresses = parsed(&args.peer_address, PeerAddress::parse)?;
    }
    if !args.role.is_empty() {
        membership.roles = parsed(&args.role, Role::parse)?;
    }
    Ok(membership)
}

fn list(output: Output, dir: &Path) -> Result<(), Failure> {
    let members = open(dir)?.members().map_err(|error| failure(dir, error))?;
    let rows: Vec<_> = members.iter().map(member_json).collect();
    let text = |row: &serde_json::Value, name: &str| match row.get(name) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Number(number)) => number.to_string(),
        Some(_) | None => String::new(),
    };
    output.list(
        &rows,
        ["participant", "name", "jurisdiction", "city", "profile", "statement", "state", "certificates"],
        |row| {
            let certificates = row.get("certificates").and_then(serde_json::Value::as_array);
            let certificates = certificates.into_iter().flatten();
            let certificates =
                certificates.map(|one| format!("{} until {}", text(one, "serial"), text(one, "expires")));
            [
                text(row, "participant"),
                text(row, "legalName"),
                text(row, "jurisdiction"),
                text(row, "city"),
                text(row, "securityProfile"),
                text(row, "sequence"),
                text(row, "state"),
                certificates.collect::<Vec<_>>().join("\n"),
            ]
        },
        "",
    )
}

fn member_json(member: &Member) -> serde_json::Value {
    let certificates = member.certificates.iter().map(|certificate| {
        serde_json::json!({ "serial": certificate.serial(), "expires": certificate.not_after().to_string() })
    });
    serde_json::json!({
        "participant": member.participant.as_str(),
        "legalName": member.membership.legal_name.en,
        "jurisdiction": member.membership.jurisdiction.as_str(),
        "city": member.membership.city,
        "securityProfile": member.membership.security_profile.as_str(),
        "roles": member.membership.roles,
        "subjectBase": member.membership.subject_base.as_str(),
        "sequence": member.sequence,
        "state": if member.active { "active" } else { "revoked" },
        "certificates": certificates.collect::<Vec<_>>(),
    })
}

/// `TEXT` is English; `LANGUAGE=TEXT` names en, zh-Hant or zh-Hans.
fn legal_name(texts: &[String]) -> Result<LegalName, Failure> {
    let mut name = LegalName { en: String::new(), zh_hant: None, zh_hans: None };
    for text in texts {
        match text.split_once('=') {
            Some(("en", text)) => name.en = text.to_owned(),
            Some(("zh-Hant", text)) => name.zh_hant = Some(text.to_owned()),
            Some(("zh-Hans", text)) => name.zh_hans = Some(text.to_owned()),
            Some(_) | None => name.en.clone_from(text),
        }
    }
    if name.en.is_empty() {
        return Err(Failure::usage(
            "the legal name is missing in English",
            "add `--legal-name TEXT` beside the names in other languages",
        ));
    }
    Ok(name)
}

fn parsed<T>(
    texts: &[String],
    parse: fn(&str) -> Result<T, control_plane::Refusal>,
) -> Result<Vec<T>, Failure> {
    texts.iter().map(|text| parse(text).map_err(Failure::from)).collect()
}

fn open(dir: &Path) -> Result<Authority, Failure> {
    // Opening takes the lock, which would leave a file in a directory that is none of ours.
    if !dir.join("authority.json").exists() {
        return Err(no_authority(dir));
    }
    Authority::open(dir).map_err(|error| failure(dir, error))
}

fn no_authority(dir: &Path) -> Failure {
    Failure {
        code: "authority/not-found".into(),
        text: format!("`{}` holds no authority", dir.display()),
        detail: String::new(),
        next: "name the directory that `fairlead authority init` made, or run it first".into(),
        exit: exit::NOT_FOUND,
    }
}

fn failure(dir: &Path, error: IdentityError) -> Failure {
    match error {
        IdentityError::Refused(refusal) => refusal.into(),
        IdentityError::AuthorityExists(_) => Failure::usage(
            format!("`{}` holds an authority already", dir.display()),
            "keep it: a second root would orphan every member; name another directory for another data space",
        ),
        IdentityError::Io { .. }
        | IdentityError::Format { .. }
        | IdentityError::Exposed { .. }
        | IdentityError::RootOffline(_)
        | IdentityError::Crypto { .. } => {
            let mut failure = Failure::ours(&error);
            failure.detail = crate::transport::dialer::root_cause(&error);
            failure.next = "check the authority's directory: its disk, its permissions, its files".into();
            failure
        }
    }
}

fn now() -> UnixMillis {
    Clock::start(None).now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_by_language() {
        let check = |texts: &[&str], expected: Option<(&str, Option<&str>, Option<&str>)>| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let got = legal_name(&texts).ok();
            let got =
                got.as_ref().map(|name| (name.en.as_str(), name.zh_hant.as_deref(), name.zh_hans.as_deref()));
            assert_eq!(got, expected, "{texts:?}");
        };
        check(&["Example University"], Some(("Example University", None, None)));
        check(&["A=B Institute"], Some(("A=B Institute", None, None)));
        check(
            &["zh-Hant=示例大學", "en=Example", "zh-Hans=示例大学"],
            Some(("Example", Some("示例大學"), Some("示例大学"))),
        );
        check(&["zh-Hant=示例大學"], None);
        check(&["en="], None);
    }

    #[test]
    fn ids_of_unnamed_authorities() {
        for (name, expected) in [
            ("Bay Area data space", "https://authority.invalid/bay-area-data-space"),
            ("大灣區", "https://authority.invalid/data-space"),
            ("  --  ", "https://authority.invalid/data-space"),
            ("A/../B#c", "https://authority.invalid/a-b-c"),
        ] {
            assert_eq!(default_id(name), expected);
            assert!(identity::membership::normalised_participant(expected).is_ok());
        }
    }

    #[test]
    fn a_token_file_is_new_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.txt");
        write_secret(&path, "secret").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_secret(&path, "other").unwrap_err().exit, exit::USAGE);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret\n");
    }
}
