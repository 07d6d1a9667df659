//! `fairlead demo`: an authority and three connectors as processes of this very program, and the story of a few
//! datasets, told step by step with what was decided and why.
//!
//! [`story`] is the story, [`evidence`] what it looks at, [`shipped`] its data; [`data_space`] is where it happens; [`processes`] starts, asks and ends the processes;
//! [`narrator`] prints each step and keeps count; [`stranger`] knocks with a certificate of another authority.

mod data_space;
mod evidence;
mod narrator;
mod processes;
mod shipped;
mod story;
mod stranger;
#[cfg(test)]
mod tests;

use crate::cli::output::exit;
use crate::cli::{DemoArgs, Failure, Output};

use narrator::Narrator;
use processes::{Folder, Program};

/// Tells the whole story; fails if any step did not come out as told. No process and no folder outlives it, but for
/// the folder that `--keep` names.
pub fn run(output: Output, args: &DemoArgs) -> Result<(), Failure> {
    let folder = Folder::make(args.keep.as_deref())?;
    let program = Program::this(folder.path())?;
    let narrator = Narrator::new(output, args.pause);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::ours)?;
    let told = runtime.block_on(async {
        // Whatever ends first, the other is dropped, and with the story every process that it started.
        tokio::select! {
            told = story::tell(&narrator, &program) => told,
            interrupted = interruption() => Err(interrupted),
        }
    });
    // A thread that still waits for Enter must not hold the process.
    runtime.shutdown_background();
    if args.keep.is_some() {
        narrator.note(&folder.how_to_look_around());
    }
    told
}

async fn interruption() -> Failure {
    use tokio::signal::unix::{SignalKind, signal};
    let caught = async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        Ok::<_, std::io::Error>(())
    };
    match caught.await {
        Ok(()) => Failure {
            code: "demo/interrupted".into(),
            text: "the demo was interrupted".into(),
            detail: "every process that it started is stopped".into(),
            next: String::new(),
            exit: exit::OURS,
        },
        Err(error) => Failure::ours(error),
    }
}
