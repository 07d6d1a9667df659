//! The demo from outside: its lines, and that nothing is left of it, whichever way it ends.

#[cfg(test)]
mod demo {
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};
    use serde_json::Value;

    fn fairlead(temporary: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead"));
        command.args(["demo", "--json"]).env("TMPDIR", temporary).stdout(Stdio::piped());
        command
    }

    /// Processes whose working folder lies in `folder`.
    fn processes_in(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let inside = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        };
        entries.filter(inside).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn assert_nothing_is_left(folder: &Path) {
        let deadline = Instant::now() + Duration::from_secs(5);
        // A killed process stays listed until the system has taken note.
        while !processes_in(folder).is_empty() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(processes_in(folder), Vec::<String>::new());
        let left: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn every_step_comes_out_as_told() {
        let temporary = tempfile::tempdir().unwrap();
        let output = fairlead(temporary.path()).stderr(Stdio::inherit()).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let steps: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for step in &steps {
            assert_eq!(step["ok"], Value::Bool(true), "{step}");
            assert!(!step["reason"].as_str().unwrap().is_empty(), "{step}");
        }
        let refusals: Vec<&str> = steps
            .iter()
            .filter(|step| step["expect"] == "refuse")
            .map(|step| step["step"].as_str().unwrap())
            .collect();
        let promised =
            ["wrong-purpose", "count-spent", "date-passed", "revoked", "stranger", "tampered-copy"];
        for step in promised {
            assert!(refusals.contains(&step), "{step} is missing in {refusals:?}");
        }
        assert!(output.status.success(), "{}", output.status);
        assert_nothing_is_left(temporary.path());
    }

    #[test]
    fn interrupted_it_leaves_nothing_behind() {
        let temporary = tempfile::tempdir().unwrap();
        let mut demo = fairlead(temporary.path()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        // After the first step every process runs.
        lines.next().unwrap().unwrap();
        assert!(processes_in(temporary.path()).len() >= 4);
        kill_process(Pid::from_raw(demo.id().cast_signed()).unwrap(), Signal::INT).unwrap();
        assert!(!demo.wait().unwrap().success());
        assert_nothing_is_left(temporary.path());
    }
}
