//! `cargo xtask codegen`: the gRPC contract in `proto/` becomes checked-in Rust, deterministically and offline.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// Packages whose messages are also what the command line prints with `--json`.
const JSON_PACKAGES: &[&str] = &[".fairlead.admin.v1"];
const JSON_DERIVES: &str = "#[derive(serde::Serialize, serde::Deserialize)]";

/// Writes the generated code, or with `check` only compares it; tells what was found.
pub fn run(root: &Path, check: bool) -> anyhow::Result<String> {
    let output = root.join("crates/proto/src/gen");
    let fresh = generate(&root.join("proto"))?;
    let differing = differences(&fresh, &read_dir_texts(&output)?);
    if differing.is_empty() {
        return Ok(format!("codegen: {} files are up to date", fresh.len()));
    }
    if check {
        bail!("codegen: not what proto/ gives: {}; run `cargo xtask codegen`", differing.join(", "));
    }
    fs::create_dir_all(&output)?;
    for name in &differing {
        let path = output.join(name);
        match fresh.get(name) {
            Some(text) => fs::write(&path, text),
            None => fs::remove_file(&path),
        }
        .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(format!("codegen: wrote {}", differing.join(", ")))
}

/// The generated files by name, from every `.proto` below `protos`.
fn generate(protos: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = Vec::new();
    find_protos(protos, &mut files)?;
    ensure!(!files.is_empty(), "no .proto file below {}", protos.display());
    files.sort();
    let descriptors = protox::compile(&files, [protos]).context("compile the .proto files")?;
    let scratch = tempfile::tempdir()?;
    let mut builder =
        tonic_prost_build::configure().bytes(".").emit_rerun_if_changed(false).out_dir(scratch.path());
    for package in JSON_PACKAGES {
        builder = builder.type_attribute(package, JSON_DERIVES);
    }
    builder.compile_fds(descriptors).context("generate Rust")?;
    read_dir_texts(scratch.path())
}

fn find_protos(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// Names of files that are missing, superfluous or different, in order.
fn differences(wanted: &BTreeMap<String, String>, present: &BTreeMap<String, String>) -> Vec<String> {
    let mut names: Vec<_> =
        wanted.keys().chain(present.keys().filter(|name| !wanted.contains_key(*name))).collect();
    names.sort();
    names.into_iter().filter(|name| wanted.get(*name) != present.get(*name)).cloned().collect()
}

fn read_dir_texts(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    if !folder.exists() {
        return Ok(texts);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        texts.insert(name, fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = r#"
        syntax = "proto3";
        package fairlead.admin.v1;
        import "fairlead/x/v1/x.proto";
        // A service.
        service Admin { rpc Get(Ask) returns (stream fairlead.x.v1.Answer); }
        message Ask { oneof how { string name = 1; bytes key = 2; } Mood mood = 3; }
        enum Mood { MOOD_UNSPECIFIED = 0; MOOD_GOOD = 1; }
    "#;
    const OTHER: &str = r#"syntax = "proto3"; package fairlead.x.v1; message Answer { bytes body = 1; }"#;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in
            [("proto/fairlead/admin/v1/admin.proto", ADMIN), ("proto/fairlead/x/v1/x.proto", OTHER)]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn generates_what_the_edge_expects() {
        let root = tree();
        let files = generate(&root.path().join("proto")).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["fairlead.admin.v1.rs", "fairlead.x.v1.rs"]);
        let (admin, other) = (&files["fairlead.admin.v1.rs"], &files["fairlead.x.v1.rs"]);
        // Ask, its oneof and the enum.
        assert_eq!(admin.matches(JSON_DERIVES).count(), 3, "{admin}");
        assert!(!other.contains("serde"), "{other}");
        for text in [admin, other] {
            assert!(text.contains("::prost::bytes::Bytes") && !text.contains("Vec<u8>"), "{text}");
        }
        assert!(admin.contains("/// A service.") && admin.contains("pub mod admin_server"), "{admin}");
    }

    #[test]
    fn check_finds_changed_missing_and_superfluous_files() {
        let root = tree();
        assert!(
            run(root.path(), true)
                .unwrap_err()
                .to_string()
                .contains("fairlead.admin.v1.rs, fairlead.x.v1.rs")
        );
        run(root.path(), false).unwrap();
        run(root.path(), true).unwrap();

        let generated = root.path().join("crates/proto/src/gen");
        fs::write(generated.join("fairlead.x.v1.rs"), "changed").unwrap();
        fs::write(generated.join("old.rs"), "superfluous").unwrap();
        let failure = run(root.path(), true).unwrap_err().to_string();
        assert!(failure.contains("fairlead.x.v1.rs, old.rs") && !failure.contains("admin"), "{failure}");
        run(root.path(), false).unwrap();
        run(root.path(), true).unwrap();
        assert!(!generated.join("old.rs").exists());
    }

    #[test]
    fn the_checked_in_code_is_what_proto_gives() {
        run(&crate::workspace_root().unwrap(), true).unwrap();
    }
}
