//! `docker-compose.yml` and `Dockerfile` stay true: every file they mount is read as the program would read it, every
//! `fairlead` command line in them is parsed by the program's own definition, and what one service says about another
//! holds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use catalogue::description::read_turtle;
use catalogue::offers::PolicyOffers;
use catalogue::scope::{PublisherScope, SubjectBase};
use clap::Parser;
use connector::cli::args::{AuthorityCommand, TokenArgs};
use connector::cli::{Cli, Command};
use connector::config::{Address, Config};
use serde_norway::Value;

struct Compose {
    root: PathBuf,
    file: Value,
    environment: Vec<(String, String)>,
}

/// One mount of a service: what, where, and whether it can be written.
struct Mount {
    source: String,
    target: String,
    read_only: bool,
}

fn compose() -> Compose {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docker-compose.yml")).unwrap();
    let mut file: Value = serde_norway::from_str(&text).unwrap();
    file.apply_merge().unwrap();
    let environment = dockerfile(&root)
        .filter_map(|(instruction, rest)| (instruction == "ENV").then_some(rest))
        .flat_map(|rest| words(&rest))
        .map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    Compose { root, file, environment }
}

fn dockerfile(root: &Path) -> impl Iterator<Item = (String, String)> {
    let text = std::fs::read_to_string(root.join("Dockerfile")).unwrap().replace("\\\n", " ");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.into_iter().filter(|line| !line.starts_with('#')).filter_map(|line| {
        line.split_once(' ').map(|(instruction, rest)| (instruction.to_owned(), rest.trim().to_owned()))
    })
}

impl Compose {
    fn services(&self) -> impl Iterator<Item = (&str, &Value)> {
        let services = self.file["services"].as_mapping().unwrap();
        services.iter().map(|(name, service)| (name.as_str().unwrap(), service))
    }

    /// Every `fairlead` command line: service, arguments.
    fn command_lines(&self) -> Vec<(&str, Vec<String>)> {
        let mut found = Vec::new();
        for (name, service) in self.services() {
            let command = strings(&service["command"]);
            match strings(&service["entrypoint"]).first() {
                None => found.push((name, std::iter::once("fairlead".to_owned()).chain(command).collect())),
                Some(shell) => {
                    assert_eq!(shell, "/bin/sh", "{name}");
                    let script = command.join("\n").replace("||\n", "|| ");
                    let steps = script.lines().flat_map(|line| line.split("||")).map(words);
                    let steps = steps.filter(|step| !step.is_empty());
                    for step in steps {
                        match step.first().map(String::as_str) {
                            Some("fairlead") => found.push((name, step)),
                            other => assert_eq!(other, Some("test"), "{name}: {step:?}"),
                        }
                    }
                }
            }
            let check = strings(&service["healthcheck"]["test"]);
            if check.get(1).is_some_and(|program| program == "fairlead") {
                found.push((name, check[1..].to_vec()));
            }
        }
        found
    }

    fn mounts(&self, service: &str) -> Vec<Mount> {
        let mounts = strings(&self.file["services"][service]["volumes"]).into_iter();
        let parsed = mounts.map(|mount| {
            let mut parts = mount.splitn(3, ':').map(str::to_owned);
            let (source, target) = (parts.next().unwrap(), parts.next().unwrap());
            Mount { source, target, read_only: parts.next().as_deref() == Some("ro") }
        });
        parsed.collect()
    }

    /// The file of this repository that a service sees at `path`.
    fn host_path(&self, service: &str, path: &str) -> PathBuf {
        let mounts = self.mounts(service);
        let mount = mounts.iter().find(|mount| mount.target == path);
        self.root.join(&mount.unwrap_or_else(|| panic!("{service} mounts nothing at {path}")).source)
    }

    fn settings(&self, service: &str, path: &str) -> Config {
        let file = self.host_path(service, path);
        let environment = self.environment.clone();
        Config::load_with(&file, environment).unwrap_or_else(|problems| panic!("{service}: {problems}"))
    }

    /// Service, its command line and its settings, for each that names settings.
    fn configured(&self) -> Vec<(&str, Command, Config)> {
        let parsed = self.command_lines().into_iter().filter_map(|(service, line)| {
            let command =
                Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{service}: {error}")).command;
            let path = match &command {
                Command::Run(file) => file.config.clone(),
                Command::Enrol(args) => args.config.clone(),
                _ => return None,
            };
            let config = self.settings(service, path.to_str().unwrap());
            Some((service, command, config))
        });
        parsed.collect()
    }

    fn tokens(&self) -> Vec<TokenArgs> {
        let lines = self.command_lines().into_iter();
        let parsed = lines.filter_map(|(_, line)| match Cli::try_parse_from(&line).unwrap().command {
            Command::Authority(AuthorityCommand::Token(args)) => Some(args),
            _ => None,
        });
        parsed.collect()
    }

    /// Host names on the network, each with its service.
    fn aliases(&self) -> BTreeMap<String, &str> {
        let services = self.services();
        let named = services.flat_map(|(name, service)| {
            let aliases = strings(&service["networks"]["space"]["aliases"]);
            aliases.into_iter().map(move |alias| (alias, name))
        });
        named.collect()
    }
}

fn strings(value: &Value) -> Vec<String> {
    let values = value.as_sequence().into_iter().flatten();
    values.map(|value| value.as_str().unwrap_or_else(|| panic!("{value:?} is no text")).to_owned()).collect()
}

/// The words of one command; of quoting only `"…"` is used in these files.
fn words(text: &str) -> Vec<String> {
    assert!(!text.contains(['\'', '$', '`', ';', '&', '>', '<']), "beyond this reader: {text}");
    let mut words = vec![String::new()];
    for (number, part) in text.split('"').enumerate() {
        if number % 2 == 1 {
            words.last_mut().unwrap().push_str(part);
            continue;
        }
        for (gap, piece) in part.split(char::is_whitespace).enumerate() {
            if gap > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn quoted_words() {
    assert_eq!(words("  a --name \"b c\" --x=\"d e\"f\t g "), ["a", "--name", "b c", "--x=d ef", "g"]);
}

#[test]
fn every_command_line_is_one_of_ours() {
    let compose = compose();
    let lines = compose.command_lines();
    for (service, line) in &lines {
        Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{service}: {line:?}: {error}"));
    }
    let with: BTreeSet<&str> = lines.iter().map(|(service, _)| *service).collect();
    assert_eq!(with, compose.services().map(|(name, _)| name).collect(), "services without a command line");
    assert_eq!(
        lines.len(),
        1 + 4 + 3 + 2 * 3,
        "authority, its setup, enrolments, campuses with their checks"
    );
}

#[test]
fn everything_mounted_exists_and_reads() {
    let compose = compose();
    let volumes: BTreeSet<&str> =
        compose.file["volumes"].as_mapping().unwrap().keys().map(|name| name.as_str().unwrap()).collect();
    let mut used = BTreeSet::new();
    for (service, _) in compose.services() {
        for mount in compose.mounts(service) {
            if !mount.source.starts_with("./") {
                assert!(volumes.contains(mount.source.as_str()), "{service}: no volume {}", mount.source);
                used.insert(mount.source);
                continue;
            }
            assert!(mount.read_only, "{service} may write {}", mount.source);
            let path = compose.root.join(&mount.source);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("toml") => drop(compose.settings(service, &mount.target)),
                Some("ttl") => {
                    let settings = compose.settings(service, "/etc/fairlead/settings.toml");
                    let scope = PublisherScope {
                        participant: settings.participant.clone(),
                        subject_base: SubjectBase::parse(&settings.catalogue.subject_base).unwrap(),
                    };
                    let text = std::fs::read_to_string(&path).unwrap();
                    let offers = PolicyOffers::new(policy::Profiles::shipped());
                    let read = read_turtle(&text, &scope, &offers, &BTreeMap::new());
                    read.unwrap_or_else(|report| panic!("{}: {report:?}", mount.source));
                }
                _ => {
                    assert!(path.is_dir(), "{service}: what is {}?", mount.source);
                    let settings = compose.settings(service, "/etc/fairlead/settings.toml");
                    let seen = |root: &PathBuf| root.ends_with(Path::new(&mount.target).file_name().unwrap());
                    assert!(
                        settings.sources.roots.values().any(seen),
                        "{service}: {} is no source",
                        mount.target
                    );
                }
            }
        }
    }
    assert_eq!(used, volumes.into_iter().map(str::to_owned).collect(), "volumes that nobody mounts");
}

#[test]
fn each_campus_gets_the_identity_that_its_settings_name() {
    let compose = compose();
    let configured = compose.configured();
    let tokens = compose.tokens();
    assert_eq!((tokens.len(), configured.len()), (3, 6));
    for (service, command, config) in &configured {
        // Everything that is written lies on the campus's own volume.
        let campus = service.trim_end_matches("-enrolment");
        let mounts = compose.mounts(service);
        let data = mounts.iter().find(|mount| Path::new(&mount.target) == config.data);
        let data = data.unwrap_or_else(|| panic!("{service} does not mount {}", config.data.display()));
        assert_eq!((data.source.as_str(), data.read_only), (campus, false), "{service}");

        let token = tokens.iter().find(|token| token.participant == config.participant.as_str()).unwrap();
        assert_eq!(token.subject_base, config.catalogue.subject_base, "{service}");
        assert_eq!(Address::parse(&token.address).unwrap(), config.authority.address, "{service}");
        // The names in the certificate are those by which the campus is dialled.
        let names: BTreeSet<String> = token.name.iter().cloned().collect();
        let aliases = compose.aliases();
        assert!(names.iter().all(|name| aliases.get(name) == Some(&campus)), "{service}: {names:?}");

        if let Command::Enrol(enrol) = command {
            // The token is on the same volume at both ends.
            let written = token.output.as_ref().unwrap();
            let folder = written.parent().unwrap().to_str().unwrap();
            let setup = compose.mounts("authority-setup");
            let volume = &setup.iter().find(|mount| mount.target == folder).unwrap().source;
            let read = mounts.iter().find(|mount| mount.source == *volume).unwrap();
            assert!(read.read_only, "{service}");
            assert_eq!(
                enrol.token_file,
                Path::new(&read.target).join(written.file_name().unwrap()),
                "{service}"
            );
        }
    }
}

#[test]
fn every_address_leads_to_its_service() {
    let compose = compose();
    let aliases = compose.aliases();
    let configured = compose.configured();
    let port_of = |service: &str| {
        let running = configured
            .iter()
            .find(|(name, command, _)| *name == service && matches!(command, Command::Run(_)));
        running.map(|(_, _, config)| config.listeners.peers.port())
    };
    for (service, _, config) in &configured {
        for address in config.peers.iter().flat_map(|peer| &peer.addresses) {
            let host = address.to_string();
            let (host, _) = host.rsplit_once(':').unwrap();
            let other = aliases.get(host).unwrap_or_else(|| panic!("{service}: nobody is {host}"));
            assert_eq!(port_of(other), Some(address.port), "{service}: {address}");
        }
    }
    for (service, line) in compose.command_lines() {
        match Cli::try_parse_from(&line).unwrap().command {
            Command::Authority(AuthorityCommand::Run { listen, .. }) => {
                assert_eq!((service, listen.port()), ("authority", 7400));
                assert_eq!(aliases.get("authority.example"), Some(&"authority"));
                // The health check looks for this port, in hexadecimal.
                let check = strings(&compose.file["services"]["authority"]["healthcheck"]["test"]);
                assert!(
                    check.iter().any(|word| word.starts_with(&format!(":{:04X} ", listen.port()))),
                    "{check:?}"
                );
            }
            Command::Authority(AuthorityCommand::Init { host, .. }) => {
                assert_eq!(host, ["authority.example"])
            }
            _ => {}
        }
    }
}

#[test]
fn services_start_in_order_and_without_rights() {
    let compose = compose();
    let network = &compose.file["networks"]["space"];
    assert_eq!(network["enable_ipv6"].as_bool(), Some(true));
    let subnet = network["ipam"]["config"][0]["subnet"].as_str().unwrap();
    let (prefix, length) = subnet.split_once('/').unwrap();
    assert!(prefix.parse::<Ipv6Addr>().unwrap().is_unique_local() && length == "64", "{subnet}");
    for (name, service) in compose.services() {
        assert_eq!(service["read_only"].as_bool(), Some(true), "{name}");
        assert_eq!(service["user"].as_str(), Some("10001:10001"), "{name}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        assert!(service["ports"].is_null(), "{name} is reachable from outside");
        let networks = &service["networks"];
        assert!(networks.get("space").is_some() || strings(networks) == ["space"], "{name}");
        for (other, wait) in service["depends_on"].as_mapping().into_iter().flatten() {
            let other = &compose.file["services"][other.as_str().unwrap()];
            let once = other["restart"].as_str() == Some("no");
            match wait["condition"].as_str() {
                Some("service_healthy") => {
                    assert!(!once && !other["healthcheck"]["test"].is_null(), "{name}")
                }
                Some("service_completed_successfully") => assert!(once, "{name}"),
                other => panic!("{name} waits for {other:?}"),
            }
        }
    }
}

#[test]
fn the_image_is_built_by_the_pinned_toolchain_and_does_not_run_as_root() {
    let compose = compose();
    let toolchain = std::fs::read_to_string(compose.root.join("rust-toolchain.toml")).unwrap();
    let toolchain: toml::Table = toolchain.parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap().to_owned();
    let mut seen = BTreeSet::new();
    for (instruction, rest) in dockerfile(&compose.root) {
        let exec =
            |rest: &str| -> Vec<String> { serde_json::from_str(&rest[rest.find('[').unwrap()..]).unwrap() };
        match instruction.as_str() {
            "FROM" if rest.contains("/rust:") => {
                assert!(rest.contains(&format!("/rust:{channel}-")), "{rest}")
            }
            "USER" => assert_eq!(rest, "10001:10001"),
            "ENTRYPOINT" => assert_eq!(exec(&rest), ["fairlead"]),
            "HEALTHCHECK" => drop(Cli::try_parse_from(exec(&rest)).unwrap()),
            "CMD" => {
                let line = std::iter::once("fairlead".to_owned()).chain(exec(&rest));
                assert!(matches!(Cli::try_parse_from(line).unwrap().command, Command::Run(_)));
            }
            _ => continue,
        }
        seen.insert(instruction);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["CMD", "ENTRYPOINT", "FROM", "HEALTHCHECK", "USER"]);
}
