//! The signal that stops a stream or a session at once: a revocation, a suspension, a superseded statement.

use policy::refusal::Refusal;
use tokio::sync::watch;

policy::refusal_codes! {
    UNCONTROLLED = "transfer/uncontrolled", Ours,
        "nobody holds the handle that could stop this stream", "沒有人持有可停止此資料流的控制柄",
        "没有人持有可停止此数据流的控制柄",
        clause "usage control: fail closed", next "report this to the operator: it is a fault of the connector";
}

/// Makes the two ends of a stop signal.
pub fn stop_pair() -> (StopHandle, StopSignal) {
    let (sender, receiver) = watch::channel(None);
    (StopHandle(sender), StopSignal(receiver))
}

/// Stops what listens to the [`StopSignal`]; when the last handle is dropped, that stops it too.
#[derive(Clone)]
pub struct StopHandle(watch::Sender<Option<Refusal>>);

impl StopHandle {
    /// Stops with this reason; the first reason stays.
    pub fn stop(&self, reason: Refusal) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }
}

/// Hears the [`StopHandle`].
#[derive(Clone)]
pub struct StopSignal(watch::Receiver<Option<Refusal>>);

impl StopSignal {
    /// The reason, if it was stopped or nobody could stop it any more.
    pub fn check(&self) -> Result<(), Refusal> {
        if let Some(reason) = self.0.borrow().as_ref() {
            return Err(reason.clone());
        }
        if self.0.has_changed().is_err() { Err(Refusal::new(&UNCONTROLLED, "")) } else { Ok(()) }
    }

    /// Resolves with the reason once it is stopped.
    pub async fn stopped(&mut self) -> Refusal {
        match self.0.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => Refusal::new(&UNCONTROLLED, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_reason_stays_and_a_lost_handle_stops() {
        let (handle, mut signal) = stop_pair();
        assert!(signal.check().is_ok());
        handle.stop(Refusal::new(&UNCONTROLLED, "first"));
        handle.stop(Refusal::new(&UNCONTROLLED, "second"));
        assert_eq!(signal.check().unwrap_err().detail, "first");
        drop(handle);
        assert_eq!(signal.stopped().await.detail, "first");

        let (handle, mut signal) = stop_pair();
        drop(handle);
        assert_eq!(signal.check().unwrap_err().code, &UNCONTROLLED);
        assert_eq!(signal.stopped().await.code, &UNCONTROLLED);
    }
}
