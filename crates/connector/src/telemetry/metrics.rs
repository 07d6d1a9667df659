//! Metrics: one function for each figure, so that names and labels form a closed, bounded list.
//!
//! Labels never hold what a stranger can choose: no participants, datasets, addresses or paths.

use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use control_plane::UnixMillis;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::TelemetryError;

/// Upper bounds of the classes of durations, in seconds: from one commit on a fast disk to a call given up.
const DURATION_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const NEGOTIATION_STEPS: &str = "fairlead_negotiation_steps_total";
const TRANSFER_STEPS: &str = "fairlead_transfer_steps_total";
const USE_SESSIONS: &str = "fairlead_use_sessions_total";
const REFUSALS: &str = "fairlead_refusals_total";
const BYTES_SENT: &str = "fairlead_bytes_sent_total";
const BYTES_RECEIVED: &str = "fairlead_bytes_received_total";
const DELIVERIES: &str = "fairlead_deliveries_total";
const CALLS: &str = "fairlead_call_seconds";
const CONNECTIONS: &str = "fairlead_connections";
const OUTBOX: &str = "fairlead_outbox_waiting";
const DATASETS: &str = "fairlead_catalogue_datasets";
const LEDGER: &str = "fairlead_ledger_records";
const LISTS_EXPIRE: &str = "fairlead_revocation_lists_expire_seconds";
const AUTHORITY_FETCHES: &str = "fairlead_authority_fetches_total";
const READY: &str = "fairlead_ready";
const CERTIFICATE_EXPIRES: &str = "fairlead_certificate_expires_seconds";
const STATEMENT_EXPIRES: &str = "fairlead_statement_expires_seconds";

/// The process's metrics.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Collects metrics from here on. A second call gives the same metrics: there is one set in a process.
    pub fn install() -> Result<Self, TelemetryError> {
        static INSTALLED: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
        let installed = INSTALLED.get_or_init(|| {
            let recorder = recorder()?;
            let handle = recorder.handle();
            ::metrics::set_global_recorder(recorder).ok()?;
            describe();
            Some(handle)
        });
        installed.clone().map(Self).ok_or(TelemetryError::AlreadyInstalled("metrics"))
    }

    /// All figures in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds samples into their classes; must run now and then, or the samples since the last call pile up.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

fn recorder() -> Option<PrometheusRecorder> {
    Some(PrometheusBuilder::new().set_buckets(DURATION_BUCKETS).ok()?.build_recorder())
}

/// A negotiation went into `state` (the protocol's word) in `role` (provider or consumer).
pub fn negotiation_step(role: &'static str, state: &'static str) {
    counter!(NEGOTIATION_STEPS, "role" => role, "state" => state).increment(1);
}

/// A transfer process went into `state` (the protocol's word) in `role` (provider or consumer).
pub fn transfer_step(role: &'static str, state: &'static str) {
    counter!(TRANSFER_STEPS, "role" => role, "state" => state).increment(1);
}

/// A use session was granted (`opened`), or ended with `outcome`.
pub fn use_session(outcome: &'static str) {
    counter!(USE_SESSIONS, "outcome" => outcome).increment(1);
}

/// This connector said no; `code` is that of the refusal.
pub fn refused(code: &'static str) {
    counter!(REFUSALS, "code" => code).increment(1);
}

/// Bytes of data went out on a stream.
pub fn bytes_sent(bytes: u64) {
    counter!(BYTES_SENT).increment(bytes);
}

/// Bytes of data came in and were sealed.
pub fn bytes_received(bytes: u64) {
    counter!(BYTES_RECEIVED).increment(bytes);
}

/// A message was delivered from the outbox (`delivered`), will be tried again (`retry`) or was given up (`refused`).
pub fn delivery(outcome: &'static str) {
    counter!(DELIVERIES, "outcome" => outcome).increment(1);
}

/// A call of `method` (its name in the contract) was answered with `outcome` (`ok` or the fault).
pub fn call(method: &'static str, outcome: &'static str, took: Duration) {
    histogram!(CALLS, "method" => method, "outcome" => outcome).record(took);
}

/// Open TLS connections, after one opened or closed.
pub fn connections(open: usize) {
    gauge!(CONNECTIONS).set(count(open));
}

/// Messages that wait for delivery.
pub fn outbox_waiting(messages: u64) {
    gauge!(OUTBOX).set(count(messages));
}

/// Datasets in our copy of the catalogue.
pub fn catalogue_datasets(datasets: usize) {
    gauge!(DATASETS).set(count(datasets));
}

/// Records of the ledger.
pub fn ledger_records(records: u64) {
    gauge!(LEDGER).set(count(records));
}

/// Whether `/readyz` says ready.
pub fn ready(ready: bool) {
    gauge!(READY).set(f64::from(u8::from(ready)));
}

/// When our certificate ends.
pub fn certificate_expires(at: UnixMillis) {
    gauge!(CERTIFICATE_EXPIRES).set(seconds(at));
}

/// When our membership statement ends.
pub fn statement_expires(at: UnixMillis) {
    gauge!(STATEMENT_EXPIRES).set(seconds(at));
}

/// When the first of the revocation lists in force is to be replaced; then the grace begins.
pub fn revocation_lists_expire(at: UnixMillis) {
    gauge!(LISTS_EXPIRE).set(seconds(at));
}

/// Lists and statement were asked for from the authority, with `outcome` (`fetched` or `failed`).
pub fn authority_fetch(outcome: &'static str) {
    counter!(AUTHORITY_FETCHES, "outcome" => outcome).increment(1);
}

fn describe() {
    describe_counter!(NEGOTIATION_STEPS, "Steps of contract negotiations, by role and the state they led to");
    describe_counter!(TRANSFER_STEPS, "Steps of transfer processes, by role and the state they led to");
    describe_counter!(USE_SESSIONS, "Use sessions, by outcome");
    describe_counter!(REFUSALS, "What this connector refused, by code");
    describe_counter!(BYTES_SENT, "Bytes of data sent to consumers");
    describe_counter!(BYTES_RECEIVED, "Bytes of data received and sealed");
    describe_counter!(DELIVERIES, "Attempts to deliver messages from the outbox, by outcome");
    describe_histogram!(CALLS, "Duration of calls answered, in seconds, by method and outcome");
    describe_gauge!(CONNECTIONS, "Open TLS connections");
    describe_gauge!(OUTBOX, "Messages that wait for delivery");
    describe_gauge!(DATASETS, "Datasets in the local copy of the catalogue");
    describe_gauge!(LEDGER, "Records of the ledger");
    describe_counter!(AUTHORITY_FETCHES, "Fetches of lists and statement from the authority, by outcome");
    describe_gauge!(
        LISTS_EXPIRE,
        "When the first revocation list in force is to be replaced, seconds since 1970"
    );
    describe_gauge!(READY, "1 where the connector is ready, else 0");
    describe_gauge!(CERTIFICATE_EXPIRES, "End of the certificate, seconds since 1970");
    describe_gauge!(STATEMENT_EXPIRES, "End of the membership statement, seconds since 1970");
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts beyond 2^53 do not occur")]
fn count(number: impl TryInto<u64>) -> f64 {
    number.try_into().unwrap_or(u64::MAX) as f64
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 stay below 2^53")]
fn seconds(at: UnixMillis) -> f64 {
    at.0 as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_rendered_with_its_help() {
        let recorder = recorder().unwrap();
        let metrics = Metrics(recorder.handle());
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            negotiation_step("provider", "AGREED");
            transfer_step("consumer", "STARTED");
            use_session("opened");
            refused("use/count-spent");
            bytes_sent(3);
            bytes_received(4);
            delivery("retry");
            call("RequestContract", "ok", Duration::from_millis(3));
            connections(2);
            outbox_waiting(5);
            catalogue_datasets(6);
            ledger_records(7);
            ready(true);
            revocation_lists_expire(UnixMillis(3_000));
            authority_fetch("fetched");
            certificate_expires(UnixMillis(1_500));
            statement_expires(UnixMillis(2_000));
        });
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            "fairlead_negotiation_steps_total{role=\"provider\",state=\"AGREED\"} 1",
            "fairlead_refusals_total{code=\"use/count-spent\"} 1",
            "fairlead_bytes_sent_total 3",
            "fairlead_call_seconds_bucket{method=\"RequestContract\",outcome=\"ok\",le=\"0.0025\"} 0",
            "fairlead_call_seconds_bucket{method=\"RequestContract\",outcome=\"ok\",le=\"0.005\"} 1",
            "fairlead_call_seconds_count{method=\"RequestContract\",outcome=\"ok\"} 1",
            "fairlead_connections 2",
            "fairlead_certificate_expires_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("# HELP fairlead_"), count("# TYPE fairlead_")), (17, 17), "{text}");
    }

    #[test]
    fn there_is_one_set_of_metrics_in_a_process() {
        let (first, second) = (Metrics::install().unwrap(), Metrics::install().unwrap());
        delivery("delivered");
        for metrics in [first, second] {
            assert!(metrics.render().contains("fairlead_deliveries_total{outcome=\"delivered\"} 1"));
        }
    }
}
