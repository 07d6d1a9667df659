//! A data space of real processes: an authority, a provider and a consumer, each enrolled as people enrol one.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use control_plane::UnixMillis;
use hyper_util::rt::TokioIo;
use proto::admin::admin_service_client::AdminServiceClient;
use proto::admin::{GetStatusRequest, PublishDatasetRequest, ShowCatalogueEntryRequest};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that is expected at any moment.
const LOOK: Duration = Duration::from_millis(1);

/// A connector's administration.
pub type Admin = AdminServiceClient<Channel>;

/// The three processes; they end with it.
pub struct Space {
    /// Publishes.
    pub provider: Connector,
    /// Negotiates, pulls, uses.
    pub consumer: Connector,
    _authority: Child,
}

/// One participant.
pub struct Connector {
    /// Its URI.
    pub participant: String,
    /// Where peers connect.
    pub address: String,
    program: PathBuf,
    folder: PathBuf,
    process: Option<Child>,
}

impl Space {
    /// Starts authority, provider and consumer in `folder`.
    pub async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let program = &program.canonicalize().with_context(|| format!("find {}", program.display()))?;
        let [authority_address, provider_address, consumer_address] = free_addresses()?;
        let directory = folder.join("authority");
        let init = [
            "authority",
            "init",
            "--name",
            "Measured data space",
            "--host",
            "::1",
            "--dir",
            text(&directory)?,
        ];
        command(program, &init).await?;
        let authority = Command::new(program)
            .args(["authority", "run", "--listen", &authority_address, "--dir", text(&directory)?])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("authority.log"))?)
            .kill_on_drop(true)
            .spawn()?;
        reachable(&authority_address).await?;

        let mut provider = Connector::new(program, folder, "hong-kong", provider_address);
        let mut consumer = Connector::new(program, folder, "macao", consumer_address);
        for (connector, other, place) in
            [(&provider, &consumer, ["HK", "Hong Kong"]), (&consumer, &provider, ["MO", "Macao"])]
        {
            connector.write_settings(&authority_address, other)?;
            let token = connector.folder.join("token.txt");
            let [jurisdiction, city] = place;
            let base = format!("{}/", connector.participant);
            let request = [
                "authority",
                "token",
                "--dir",
                text(&directory)?,
                "--address",
                &authority_address,
                "--participant",
                &connector.participant,
                "--legal-name",
                city,
                "--jurisdiction",
                jurisdiction,
                "--city",
                city,
                "--name",
                "localhost",
                "--subject-base",
                &base,
                "--output",
                text(&token)?,
            ];
            command(program, &request).await?;
            let settings = connector.settings();
            command(program, &["enrol", "--config", text(&settings)?, "--token-file", text(&token)?]).await?;
        }
        provider.start().await?;
        consumer.start().await?;
        Ok(Self { provider, consumer, _authority: authority })
    }

    /// Publishes `file` of the provider's sources, and waits until the consumer has found it; gives the dataset's IRI.
    pub async fn publish(&self, name: &str, file: &str, terms: &Terms) -> anyhow::Result<String> {
        let request = PublishDatasetRequest {
            turtle: description(name, &self.provider.participant, terms),
            source: format!("file:shared/{file}"),
            dry_run: false,
            transform: String::new(),
            purpose: String::new(),
        };
        let published = self.provider.admin().await?.publish_dataset(request).await?.into_inner();
        let mut consumer = self.consumer.admin().await?;
        let request =
            ShowCatalogueEntryRequest { dataset: published.dataset.clone(), language: "en".to_owned() };
        let asked = Instant::now();
        while consumer.show_catalogue_entry(request.clone()).await.is_err() {
            ensure!(asked.elapsed() < PATIENCE, "{name} does not reach the consumer's catalogue");
            tokio::time::sleep(LOOK).await;
        }
        Ok(published.dataset)
    }
}

impl Connector {
    fn new(program: &Path, folder: &Path, name: &str, address: String) -> Self {
        Self {
            participant: format!("https://{name}.example/id"),
            address,
            program: program.to_owned(),
            folder: folder.join(name),
            process: None,
        }
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("fairlead.toml")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder that published files lie in.
    pub fn sources(&self) -> PathBuf {
        self.folder.join("shared")
    }

    /// Everything is at its default but addresses, and that requests are accepted by rule.
    fn write_settings(&self, authority: &str, other: &Self) -> anyhow::Result<()> {
        fs::create_dir_all(self.sources())?;
        let text = format!(
            "participant = \"{}\"\ndata = \"data\"\n[listeners]\npeers = \"{}\"\nhealth = \"[::1]:0\"\nuse = \"[::1]:0\"\nflight = \"[::1]:0\"\n\
             [authority]\naddress = \"{authority}\"\n[catalogue]\npull_interval_seconds = 1\n\
             [sources.roots]\nshared = \"shared\"\n[[negotiation.rules]]\naccept = \"automatic\"\n\
             [[peers]]\nparticipant = \"{}\"\naddresses = [\"{}\"]\n",
            self.participant, self.address, other.participant, other.address
        );
        fs::write(self.settings(), text)?;
        Ok(())
    }

    /// Starts the process; gives the time until it answers that it is ready.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        ensure!(self.process.is_none(), "{} runs already", self.participant);
        let log = File::options().create(true).append(true).open(self.folder.join("log.txt"))?;
        let settings = self.settings();
        let began = Instant::now();
        let mut child = Command::new(&self.program)
            .args(["run", "--config", text(&settings)?])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        loop {
            if self.is_ready().await {
                let took = began.elapsed();
                self.process = Some(child);
                return Ok(took);
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "{} ended with {status}: see {}",
                    self.participant,
                    self.folder.join("log.txt").display()
                );
            }
            ensure!(began.elapsed() < PATIENCE, "{} does not become ready", self.participant);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ready means: the administration says so, the peers' listener is bound and takes connections.
    async fn is_ready(&self) -> bool {
        let Ok(mut admin) = self.admin().await else { return false };
        let Ok(status) = admin.get_status(GetStatusRequest {}).await else { return false };
        status.get_ref().ready
            && !status.get_ref().peer_listener.is_empty()
            && tokio::net::TcpStream::connect(&self.address).await.is_ok()
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut child = self.process.take().context("a stopped connector cannot be stopped")?;
        kill_process(pid(&child)?, Signal::TERM)?;
        let status =
            tokio::time::timeout(PATIENCE, child.wait()).await.context("the connector does not end")??;
        ensure!(status.success(), "{} ended with {status}", self.participant);
        Ok(())
    }

    /// A client of the administration socket.
    pub async fn admin(&self) -> anyhow::Result<Admin> {
        let socket = self.data().join(connector::ADMIN_SOCKET);
        let channel = Endpoint::from_static("http://admin.invalid")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
            }))
            .await?;
        Ok(Admin::new(channel).max_decoding_message_size(16 * 1024 * 1024))
    }

    /// A line of `/proc/PID/status` in MiB, e.g. `VmRSS`.
    pub fn memory_mib(&self, field: &str) -> anyhow::Result<f64> {
        let child = self.process.as_ref().context("the connector does not run")?;
        let status = fs::read_to_string(format!("/proc/{}/status", pid(child)?.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: f64 =
            line.context("the kernel tells memory")?.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    id.context("the process has ended")
}

async fn command(program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await?;
    let words = arguments.join(" ");
    ensure!(output.status.success(), "fairlead {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

async fn reachable(address: &str) -> anyhow::Result<()> {
    let asked = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        ensure!(asked.elapsed() < PATIENCE, "nothing listens on {address}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Three addresses on which nothing listens: held together, so that they differ, then let go.
fn free_addresses() -> io::Result<[String; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv6Addr::LOCALHOST, 0)));
    let [one, two, three] = listeners.map(|listener| listener?.local_addr());
    Ok([one?.to_string(), two?.to_string(), three?.to_string()])
}

/// A path as an argument.
pub fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the folder's path is not UTF-8")
}

/// What an offer demands beside a purpose of research.
#[derive(Default)]
pub struct Terms {
    /// Uses permitted.
    pub uses: Option<u64>,
    /// Only before this instant.
    pub until: Option<UnixMillis>,
    /// Only under a key lease that is no older (an xsd:duration).
    pub lease: Option<&'static str>,
}

/// A dataset that may be read for research, as the examples describe theirs.
fn description(name: &str, publisher: &str, terms: &Terms) -> String {
    let until = terms.until.map_or_else(|| "2100-01-01T00:00:00Z".to_owned(), |until| until.to_string());
    let mut further = String::new();
    let mut nodes = String::new();
    let mut constrain = |part: &str, operand: &str, right: &str| {
        further.push_str(&format!(", :{name}-{part}"));
        nodes.push_str(&format!(
            ":{name}-{part} a odrl:Constraint ;\n  odrl:leftOperand {operand} ; odrl:operator odrl:lteq ; \
             odrl:rightOperand {right} .\n"
        ));
    };
    if let Some(uses) = terms.uses {
        constrain("count", "odrl:count", &format!("\"{uses}\"^^xsd:integer"));
    }
    if let Some(lease) = terms.lease {
        constrain("lease", "fl:keyLease", &format!("\"{lease}\"^^xsd:duration"));
    }
    format!(
        "@prefix dcat: <http://www.w3.org/ns/dcat#> .
@prefix dct: <http://purl.org/dc/terms/> .
@prefix odrl: <http://www.w3.org/ns/odrl/2/> .
@prefix dpv: <https://w3id.org/dpv#> .
@prefix fl: <https://w3id.org/fairlead/ns#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix th: <http://publications.europa.eu/resource/authority/data-theme/> .
@prefix ar: <http://publications.europa.eu/resource/authority/access-right/> .
@prefix mt: <https://www.iana.org/assignments/media-types/> .
@prefix : <{publisher}/> .
:{name} a dcat:Dataset, fl:SelfDescribed ;
  dct:identifier \"{name}\" ;
  dct:title \"Measured {name}\"@en, \"測量 {name}\"@zh-Hant, \"测量 {name}\"@zh-Hans ;
  dct:description \"Bytes to measure with.\"@en, \"用於測量的位元組。\"@zh-Hant, \"用于测量的字节。\"@zh-Hans ;
  dcat:keyword \"measuring\"@en, \"測量\"@zh-Hant, \"测量\"@zh-Hans ;
  dcat:theme th:TECH ;
  dct:publisher <{publisher}> ;
  dct:accessRights ar:RESTRICTED ;
  dct:modified \"2026-11-01T08:00:00Z\"^^xsd:dateTime ;
  dcat:distribution :{name}-bytes ;
  odrl:hasPolicy :{name}-offer .
:{name}-bytes a dcat:Distribution ;
  dct:title \"Bytes\"@en ;
  dcat:mediaType mt:application\\/octet-stream ;
  dct:license <http://publications.europa.eu/resource/authority/licence/CC0> .
:{name}-offer a odrl:Offer ;
  odrl:profile <https://w3id.org/fairlead/profile/1> ;
  odrl:assigner <{publisher}> ;
  odrl:target :{name} ;
  odrl:permission :{name}-permission .
:{name}-permission a odrl:Permission ;
  odrl:action odrl:read ;
  odrl:target :{name} ;
  odrl:constraint :{name}-purpose, :{name}-until{further} .
:{name}-purpose a odrl:Constraint ;
  odrl:leftOperand odrl:purpose ; odrl:operator odrl:isA ; odrl:rightOperand dpv:ResearchAndDevelopment .
:{name}-until a odrl:Constraint ;
  odrl:leftOperand odrl:dateTime ; odrl:operator odrl:lt ;
  odrl:rightOperand \"{until}\"^^xsd:dateTime .
{nodes}"
    )
}
