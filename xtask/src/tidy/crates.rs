//! The picture of the crates in ARCHITECTURE.md against what cargo builds, and the walls of the pure crates.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::Findings;

/// The picture: which crates of ours a crate may use. Arrows only point down.
const PICTURE: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("ledger", &[]),
    ("compliance", &[]),
    ("control-plane", &["policy"]),
    ("proto", &["control-plane"]),
    ("dsp", &["control-plane"]),
    ("identity", &["control-plane", "policy"]),
    ("store", &["control-plane", "ledger"]),
    ("catalogue", &["control-plane", "policy"]),
    ("data-plane", &["control-plane", "policy"]),
    (
        "connector",
        &[
            "catalogue",
            "compliance",
            "control-plane",
            "data-plane",
            "dsp",
            "identity",
            "ledger",
            "policy",
            "proto",
            "store",
        ],
    ),
];

/// These may use every crate; no crate may use them.
const ON_TOP: &[&str] = &["conformance", "federation-tests", "xtask"];

/// Crates without IO, clock, randomness or async: everything they need comes in as arguments.
const PURE: &[&str] = &["policy", "control-plane", "ledger", "compliance", "dsp"];

/// What a pure crate may name itself: parsers, hashes, texts.
const PURE_MAY_NAME: &[&str] = &[
    "base64",
    "jiff",
    "oxiri",
    "oxjsonld",
    "oxrdf",
    "oxttl",
    "serde",
    "serde_jcs",
    "serde_json",
    "sha2",
    "thiserror",
];

/// What must not be below a pure crate, however far.
const PURE_MUST_NOT_REACH: &[&str] = &[
    // Tasks and sockets.
    "async-std",
    "axum",
    "futures-executor",
    "h2",
    "hyper",
    "mio",
    "reqwest",
    "smol",
    "socket2",
    "tokio",
    "tonic",
    // TLS and key material.
    "aws-lc-rs",
    "native-tls",
    "openssl",
    "rcgen",
    "ring",
    "rustls",
    // Storage.
    "oxigraph",
    "oxrocksdb-sys",
    "rocksdb",
    "rusqlite",
    // Clocks.
    "chrono",
    "iana-time-zone",
    "time",
    "web-time",
    // Randomness.
    "fastrand",
    "getrandom",
    "rand",
    "rand_core",
    "uuid",
];

/// Edges that are known and harmless, each with its reason.
const TOLERATED: &[(&str, &str)] = &[
    // `BlankNode::default()` draws a name. Our RDF has no blank nodes, and the rules for sources forbid the call.
    ("oxrdf", "rand"),
];

/// Features of crates that open a door for the system's clock or zones.
const PURE_MUST_NOT_ENABLE: &[(&str, &str)] = &[
    ("jiff", "tz-system"),
    ("jiff", "tzdb-zoneinfo"),
    ("oxttl", "async-tokio"),
    ("oxjsonld", "async-tokio"),
];

/// Features that exist for tests and must be out of what people install.
const TEST_ONLY_FEATURES: &[&str] = &["crash-points", "minting", "test-clock"];

/// The crate that people install.
const INSTALLED: &str = "connector";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    kind: Option<String>,
    /// Set where the dependency is a folder of this workspace.
    path: Option<String>,
}

pub fn check(root: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let metadata = cargo(root, &["metadata", "--format-version", "1", "--no-deps", "--offline"])?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("read `cargo metadata`")?;
    picture(&metadata, findings);
    for name in
        metadata.packages.iter().map(|package| package.name.as_str()).filter(|name| PURE.contains(name))
    {
        walls(name, &tree(root, name)?, findings);
    }
    test_only_features(&tree(root, INSTALLED)?, findings);
    Ok(())
}

/// Each crate stands in the picture and uses only what the picture lets it use.
fn picture(metadata: &Metadata, findings: &mut Findings) {
    for package in &metadata.packages {
        let name = package.name.as_str();
        let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        let Some((_, may_use)) = PICTURE.iter().find(|(known, _)| *known == name) else {
            if !ON_TOP.contains(&name) {
                findings.problem(format!(
                    "crate `{name}` is not in the picture: a new crate needs a reason in ARCHITECTURE.md"
                ));
            }
            continue;
        };
        for dependency in ours.filter(|dependency| !may_use.contains(&dependency.name.as_str())) {
            findings.problem(format!(
                "crate `{name}` uses `{}`, against the picture in ARCHITECTURE.md",
                dependency.name
            ));
        }
        if PURE.contains(&name) {
            let named = package.dependencies.iter().filter(|dependency| dependency.path.is_none());
            for dependency in named.filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
                if !PURE_MAY_NAME.contains(&dependency.name.as_str()) {
                    findings.problem(format!(
                        "pure crate `{name}` names `{}`, which is not on its list",
                        dependency.name
                    ));
                }
            }
        }
    }
}

/// What cargo builds for one crate: who uses whom, and with which features.
#[derive(Default)]
struct Tree {
    uses: BTreeMap<String, BTreeSet<String>>,
    features: BTreeMap<String, BTreeSet<String>>,
}

impl Tree {
    /// Reads the lines of `cargo tree --prefix depth --format ' {p} [{f}]'`. A package that comes again (`(*)`) shows
    /// no children; they stand where it came first.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut tree = Self::default();
        let mut way: Vec<String> = Vec::new();
        for line in text.lines() {
            let digits = line.find(|character: char| !character.is_ascii_digit()).unwrap_or(line.len());
            let (depth, rest) = line.split_at(digits);
            let depth: usize = depth.parse().with_context(|| format!("no depth in `{line}`"))?;
            let name =
                rest.split_whitespace().next().with_context(|| format!("no package in `{line}`"))?.to_owned();
            way.truncate(depth);
            if let Some(parent) = way.last() {
                tree.uses.entry(parent.clone()).or_default().insert(name.clone());
            }
            let features =
                rest.rsplit_once('[').and_then(|(_, list)| list.split_once(']')).map_or("", |(list, _)| list);
            let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned);
            tree.features.entry(name.clone()).or_default().extend(features);
            way.push(name);
        }
        Ok(tree)
    }

    /// The shortest way from `from` to each package below it, without the tolerated edges.
    fn ways_from(&self, from: &str) -> BTreeMap<String, String> {
        let mut ways = BTreeMap::from([(from.to_owned(), from.to_owned())]);
        let mut queue = VecDeque::from([from.to_owned()]);
        while let Some(package) = queue.pop_front() {
            let way = ways.get(&package).cloned().unwrap_or_default();
            for below in self.uses.get(&package).into_iter().flatten() {
                if !TOLERATED.contains(&(package.as_str(), below.as_str())) && !ways.contains_key(below) {
                    ways.insert(below.clone(), format!("{way} -> {below}"));
                    queue.push_back(below.clone());
                }
            }
        }
        ways
    }
}

fn walls(name: &str, tree: &Tree, findings: &mut Findings) {
    let ways = tree.ways_from(name);
    for (_, way) in ways.iter().filter(|(below, _)| PURE_MUST_NOT_REACH.contains(&below.as_str())) {
        findings.problem(format!("pure crate `{name}` gains what it must not have: {way}"));
    }
    for (below, feature) in PURE_MUST_NOT_ENABLE {
        if tree.features.get(*below).is_some_and(|features| features.contains(*feature)) {
            findings.problem(format!("pure crate `{name}` enables the feature `{feature}` of `{below}`"));
        }
    }
}

fn test_only_features(tree: &Tree, findings: &mut Findings) {
    for (package, features) in &tree.features {
        for feature in features.iter().filter(|feature| TEST_ONLY_FEATURES.contains(&feature.as_str())) {
            findings.problem(format!(
                "an ordinary build of `{INSTALLED}` has the test feature `{feature}` of `{package}`"
            ));
        }
    }
}

fn tree(root: &Path, package: &str) -> anyhow::Result<Tree> {
    let lines =
        ["tree", "--offline", "--edges", "normal,build", "--prefix", "depth", "--format", " {p} [{f}]"];
    Tree::parse(&cargo(root, &[&lines[..], &["--package", package]].concat())?)
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root).output().context("start cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("cargo writes UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: impl FnOnce(&mut Findings)) -> Vec<String> {
        let mut findings = Findings::default();
        check(&mut findings);
        findings.problems
    }

    #[test]
    fn the_picture_only_points_down() {
        for (position, (name, may_use)) in PICTURE.iter().enumerate() {
            for below in *may_use {
                assert!(
                    PICTURE.iter().take(position).any(|(earlier, _)| earlier == below),
                    "{name} -> {below}"
                );
            }
        }
    }

    #[test]
    fn arrows_against_the_picture_are_found() {
        let packages = serde_json::from_str(
            r#"{"packages": [
                {"name": "policy", "dependencies": [{"name": "store", "kind": "dev", "path": "/x"},
                    {"name": "rand", "kind": null}, {"name": "proptest", "kind": "dev"}, {"name": "serde", "kind": null}]},
                {"name": "utils", "dependencies": []},
                {"name": "connector", "dependencies": [{"name": "xtask", "kind": null, "path": "/x"}]},
                {"name": "xtask", "dependencies": [{"name": "identity", "kind": null, "path": "/x"}]}
            ]}"#,
        )
        .unwrap();
        assert_eq!(
            found(|findings| picture(&packages, findings)),
            [
                "crate `policy` uses `store`, against the picture in ARCHITECTURE.md",
                "pure crate `policy` names `rand`, which is not on its list",
                "crate `utils` is not in the picture: a new crate needs a reason in ARCHITECTURE.md",
                "crate `connector` uses `xtask`, against the picture in ARCHITECTURE.md",
            ]
        );
    }

    #[test]
    fn what_lies_behind_the_wall_is_found_on_its_shortest_way() {
        let tree = Tree::parse(
            "0 policy v0.1.0 (/x) []\n\
             1 oxrdf v0.3.5 [default]\n\
             2 rand v0.9.5 [std]\n\
             3 getrandom v0.3.4 []\n\
             1 jiff v0.2.46 [alloc,tz-system]\n\
             1 helper v1.0.0 []\n\
             2 oxrdf v0.3.5 [default] (*)\n\
             2 tokio v1.54.1 [rt]\n",
        )
        .unwrap();
        assert_eq!(
            found(|findings| walls("policy", &tree, findings)),
            [
                "pure crate `policy` gains what it must not have: policy -> helper -> tokio",
                "pure crate `policy` enables the feature `tz-system` of `jiff`",
            ]
        );
    }

    #[test]
    fn test_features_are_found_anywhere_below() {
        let tree =
            Tree::parse("0 connector v0.1.0 (/x) [default]\n1 store v0.1.0 (/x) [crash-points]\n").unwrap();
        assert_eq!(
            found(|findings| test_only_features(&tree, findings)),
            ["an ordinary build of `connector` has the test feature `crash-points` of `store`",]
        );
        assert!(Tree::parse("policy v0.1.0").is_err());
    }
}
