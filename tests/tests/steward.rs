//! docs/stewards-first-hour.md, run: each file written, each command called, each output compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;

use federation_tests::process;
use federation_tests::space::Space;

const PAGE: &str = "docs/stewards-first-hour.md";

#[test]
fn the_first_hour_goes_as_it_is_written() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    let written = std::fs::read_to_string(&page).unwrap();
    let mut space = Space::of(&["hong-kong"]);
    let [hong_kong] = space.all(["hong-kong"]);
    std::fs::write(hong_kong.sources().join("rainfall.csv"), "hour,millimetres\n0,1.5\n").unwrap();
    let desk = hong_kong.path("desk");
    let tools = hong_kong.path("tools");
    for folder in [&desk, &tools] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::os::unix::fs::symlink(process::program(), tools.join("fairlead")).unwrap();
    let search = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let call = |line: &str| {
        let shell = Command::new("sh")
            .args(["-c", &format!("{{ {line}\n}} 2>&1")])
            .current_dir(&desk)
            .env("PATH", &search)
            .env("FAIRLEAD_DATA", hong_kong.data())
            .env_remove("FAIRLEAD_LANGUAGE")
            .output()
            .expect("a shell");
        let text = String::from_utf8(shell.stdout).unwrap();
        let lines = text.lines().map(|line| format!("{}\n", line.trim_end()));
        lines.collect::<String>()
    };
    let found = played(&written, &desk, call);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &found).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap();
    for (number, (shown, seen)) in written.lines().zip(found.lines()).enumerate() {
        assert_eq!(
            shown,
            seen,
            "{PAGE}:{}: UPDATE_DOCS=1 cargo test -p federation-tests --test steward",
            number + 1
        );
    }
    assert_eq!(written.lines().count(), found.lines().count(), "{PAGE} is cut");
}

/// The page with the outputs that its commands really have; files that it shows are written to `desk` on the way.
fn played(page: &str, desk: &Path, call: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut lines = page.lines();
    let mut commands = 0;
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(fence) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if fence == "console" {
            for command in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
                out.push_str(&format!("$ {command}\n{}", call(command)));
                commands += 1;
            }
        } else {
            let content: String = block.iter().map(|line| format!("{line}\n")).collect();
            if let Some((_, name)) = fence.split_once(' ') {
                std::fs::write(desk.join(name), &content).unwrap();
            }
            out.push_str(&content);
        }
        out.push_str("```\n");
    }
    assert!(commands > 10, "{commands} commands were found in {PAGE}");
    out
}
