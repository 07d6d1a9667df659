//! The demo's data space: one authority, three campuses, and a stranger with an authority of its own.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use proto::admin::GetStatusRequest;
use serde::de::DeserializeOwned;

use super::narrator::Narrator;
use super::processes::{Program, Server, Told, Trouble, ensure, shell};
use crate::cli::client;

/// Longest wait for something that takes milliseconds; a busy machine is slower, a broken one waits in vain.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// A participant before it is enrolled.
pub struct Place {
    /// Name of its settings, its data folder and its log.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Legal names: English, 繁體中文, 简体中文.
    legal: [&'static str; 3],
    jurisdiction: &'static str,
}

/// Guangzhou, mainland China.
pub const GUANGZHOU: Place = Place {
    name: "guangzhou",
    title: "Guangzhou",
    legal: ["Guangzhou Campus", "廣州校區", "广州校区"],
    jurisdiction: "CN",
};
/// Hong Kong.
pub const HONG_KONG: Place = Place {
    name: "hong-kong",
    title: "Hong Kong",
    legal: ["Hong Kong Campus", "香港校區", "香港校区"],
    jurisdiction: "HK",
};
/// Macao.
pub const MACAO: Place = Place {
    name: "macao",
    title: "Macao",
    legal: ["Macao Campus", "澳門校區", "澳门校区"],
    jurisdiction: "MO",
};
/// Somebody of another data space.
pub const STRANGER: Place = Place {
    name: "stranger",
    title: "Somewhere",
    legal: ["Somebody Else", "陌生機構", "陌生机构"],
    jurisdiction: "SG",
};

/// The two authorities' folders.
pub const AUTHORITY: &str = "authority";
const ELSEWHERE: &str = "elsewhere";

impl Place {
    /// The one URI of its certificate.
    pub fn uri(&self) -> String {
        format!("https://{}.example/id", self.name)
    }

    /// The IRI of a dataset of its own.
    pub fn dataset(&self, name: &str) -> String {
        format!("{}/{name}", self.uri())
    }

    /// Its settings file.
    pub fn settings(&self) -> String {
        format!("{}.toml", self.name)
    }

    /// The folder that it publishes from.
    pub fn observations(&self) -> String {
        format!("observations/{}", self.name)
    }

    /// Its settings; `peers` are the others with their addresses.
    pub fn settings_text(&self, listen: &str, authority: &str, peers: &[(&Self, &str)]) -> String {
        let mut text = format!(
            "# Settings of one campus of `fairlead demo`; connector-config/hong-kong.toml explains every setting.\n\
             participant = \"{uri}\"\n\
             data = \"{name}\"\n\n\
             [listeners]\npeers = \"{listen}\"\nhealth = \"[::1]:0\"\nuse = \"[::1]:0\"\nflight = \"[::1]:0\"\n\n\
             [authority]\naddress = \"{authority}\"\n\n\
             [catalogue]\npull_interval_seconds = 1\n\n\
             # What meets the published policy is accepted at once; other terms end the negotiation.\n\
             [[negotiation.rules]]\naccept = \"automatic\"\naltered = \"terminate\"\n\n\
             [sources.roots]\nobservations = \"{observations}\"\n\n\
             [limits]\ndrain_seconds = 3\n\n\
             [logging]\nformat = \"json\"\n",
            uri = self.uri(),
            name = self.name,
            observations = self.observations(),
        );
        for (peer, address) in peers {
            text.push_str(&format!(
                "\n[[peers]]\nparticipant = \"{}\"\naddresses = [\"{address}\"]\n",
                peer.uri()
            ));
        }
        text
    }
}

/// A campus whose connector runs.
pub struct Campus<'a> {
    /// Which one.
    pub place: &'static Place,
    /// Where peers dial it.
    pub address: String,
    /// Its connector.
    pub server: Server,
    program: &'a Program,
}

impl Campus<'_> {
    /// Runs a command there, as typed; gives what it printed.
    pub async fn run(&self, narrator: &Narrator, arguments: &[&str]) -> Told<Vec<u8>> {
        narrator.command(self.place.name, &shell(arguments));
        self.quietly(arguments).await
    }

    /// Runs a command there; gives the object that it printed.
    pub async fn ask<T: DeserializeOwned>(&self, narrator: &Narrator, arguments: &[&str]) -> Told<T> {
        one(&self.run(narrator, arguments).await?)
    }

    /// Asks without telling.
    pub async fn look<T: DeserializeOwned>(&self, arguments: &[&str]) -> Told<T> {
        one(&self.quietly(arguments).await?)
    }

    /// Asks for a list without telling.
    pub async fn look_at_list<T: DeserializeOwned>(&self, arguments: &[&str]) -> Told<Vec<T>> {
        let printed = self.quietly(arguments).await?;
        printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(one).collect()
    }

    async fn quietly(&self, arguments: &[&str]) -> Told<Vec<u8>> {
        let mut full = vec!["--data", self.place.name];
        full.extend(arguments);
        self.program.run(&full).await
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.program.folder().join(self.place.name)
    }
}

fn one<T: DeserializeOwned>(printed: &[u8]) -> Told<T> {
    serde_json::from_slice(printed).map_err(|error| {
        Trouble::Failed(format!(
            "an unexpected answer ({error}): {}",
            String::from_utf8_lossy(printed).trim()
        ))
    })
}

/// Looks until `found` gives something, for at most [`PATIENCE`].
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Told<Option<T>>) -> Told<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = found().await? {
            return Ok(value);
        }
        if began.elapsed() > PATIENCE {
            return Err(Trouble::Failed(format!("waited {} s in vain: {what}", PATIENCE.as_secs())));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Everything that runs.
pub struct DataSpace<'a> {
    /// The authority of the three campuses.
    pub authority: Server,
    /// Provider and consumer, CN.
    pub guangzhou: Campus<'a>,
    /// Provider and consumer, HK.
    pub hong_kong: Campus<'a>,
    /// Provider and consumer, MO.
    pub macao: Campus<'a>,
    /// What runs commands that need no connector.
    pub program: &'a Program,
}

impl<'a> DataSpace<'a> {
    /// Founds the data space through the real commands: authority, tokens, enrolment, connectors.
    pub async fn found(narrator: &Narrator, program: &'a Program) -> Told<Self> {
        let (authority, elsewhere) = tokio::try_join!(
            found_authority(program, AUTHORITY, "Demo data space"),
            found_authority(program, ELSEWHERE, "Another data space"),
        )?;
        narrator.command(
            AUTHORITY,
            "fairlead authority init --dir authority --name 'Demo data space' --host ::1",
        );
        narrator.command(AUTHORITY, "fairlead authority run --dir authority --listen '[::1]:0'");
        let script = format!("exec fairlead authority run --dir {AUTHORITY} --listen '{}'\n", authority.1);
        fs::write(program.folder().join("authority.sh"), script)?;

        let ports = free_ports(3)?;
        let listen: Vec<String> = ports.iter().map(|port| format!("[::1]:{port}")).collect();
        let [first, second, third] = listen.as_slice() else { return Err(Trouble::failed("three ports")) };
        let campuses = [(&GUANGZHOU, first), (&HONG_KONG, second), (&MACAO, third)];
        for (place, address) in campuses {
            let others = campuses.iter().filter(|(other, _)| other.name != place.name);
            let peers: Vec<(&Place, &str)> =
                others.map(|(other, address)| (*other, address.as_str())).collect();
            prepare(program.folder(), place, &place.settings_text(address, &authority.1, &peers))?;
        }
        prepare(program.folder(), &STRANGER, &STRANGER.settings_text("[::1]:0", &elsewhere.1, &[]))?;

        narrator.command(
            AUTHORITY,
            "fairlead authority token --dir authority --participant https://macao.example/id …",
        );
        narrator.command(MACAO.name, "fairlead enrol --config macao.toml --token-file macao.token");
        let members = campuses.iter().map(|(place, _)| enrol(program, AUTHORITY, &authority.1, place));
        let members = try_join_all(members);
        tokio::try_join!(members, enrol(program, ELSEWHERE, &elsewhere.1, &STRANGER))?;
        drop(elsewhere);

        narrator.command(MACAO.name, "fairlead run --config macao.toml");
        let [guangzhou, hong_kong, macao] =
            campuses.map(|(place, address)| Campus::start(program, place, address));
        let (guangzhou, hong_kong, macao) = tokio::try_join!(guangzhou, hong_kong, macao)?;
        Ok(Self { authority: authority.0, guangzhou, hong_kong, macao, program })
    }

    /// Asks every process to end, and fails unless all do so in time.
    pub async fn stop(self) -> Told<()> {
        tokio::try_join!(
            self.guangzhou.server.stop(),
            self.hong_kong.server.stop(),
            self.macao.server.stop()
        )?;
        self.authority.stop().await
    }
}

impl<'a> Campus<'a> {
    async fn start(program: &'a Program, place: &'static Place, address: &str) -> Told<Self> {
        let mut server = program.serve(place.name, &["run", "--config", &place.settings()])?;
        let data = program.folder().join(place.name);
        until(&format!("`{}` gets ready", place.name), async || {
            server.require_running()?;
            let Ok(mut admin) = client::connect(&data.join(crate::ADMIN_SOCKET)).await else {
                return Ok(None);
            };
            let status = admin.get_status(GetStatusRequest {}).await;
            Ok(status.ok().filter(|status| status.get_ref().ready).map(drop))
        })
        .await?;
        Ok(Self { place, address: address.to_owned(), server, program })
    }
}

async fn found_authority(program: &Program, dir: &str, name: &str) -> Told<(Server, String)> {
    program.run(&["authority", "init", "--dir", dir, "--name", name, "--host", "::1"]).await?;
    let mut server = program.serve(dir, &["authority", "run", "--dir", dir, "--listen", "[::1]:0"])?;
    let line = server.first_line().await?;
    let told: serde_json::Value = one(line.as_bytes())?;
    let address = told.get("listening").and_then(serde_json::Value::as_str);
    let address = address.ok_or_else(|| Trouble::failed("the authority does not tell where it listens"))?;
    Ok((server, address.to_owned()))
}

async fn enrol(program: &Program, dir: &str, address: &str, place: &Place) -> Told<()> {
    let token = format!("{}.token", place.name);
    let (uri, base) = (place.uri(), format!("{}/", place.uri()));
    let [en, hant, hans] = place.legal;
    let (hant, hans) = (format!("zh-Hant={hant}"), format!("zh-Hans={hans}"));
    let arguments = [
        ["--dir", dir],
        ["--address", address],
        ["--participant", &uri],
        ["--legal-name", en],
        ["--legal-name", &hant],
        ["--legal-name", &hans],
        ["--jurisdiction", place.jurisdiction],
        ["--city", place.title],
        ["--name", "::1"],
        ["--subject-base", &base],
        ["--output", &token],
    ];
    let arguments: Vec<&str> =
        ["authority", "token"].into_iter().chain(arguments.into_iter().flatten()).collect();
    program.run(&arguments).await?;
    program.run(&["enrol", "--config", &place.settings(), "--token-file", &token]).await?;
    Ok(())
}

fn prepare(folder: &Path, place: &Place, settings: &str) -> Told<()> {
    fs::create_dir_all(folder.join(place.observations()))?;
    fs::write(folder.join(place.settings()), settings)?;
    Ok(())
}

/// Ports that are free now, below those that the system gives to outgoing connections, so that none is taken meanwhile.
fn free_ports(count: usize) -> Told<Vec<u16>> {
    const FIRST: u16 = 20_000;
    const RANGE: u16 = 12_000;
    let start = u16::try_from(uuid::Uuid::new_v4().as_u128() % u128::from(RANGE)).unwrap_or(0);
    let candidates = (0..RANGE).map(|step| FIRST + start.wrapping_add(step) % RANGE);
    let free = candidates.filter_map(|port| TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok());
    // All are held at once, so that none is found twice.
    let held: Vec<TcpListener> = free.take(count).collect();
    ensure(held.len() == count, || "cannot listen on [::1]: is IPv6 switched off?".to_owned())?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
