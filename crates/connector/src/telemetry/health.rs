//! `/livez`, `/readyz` and `/metrics` on a loopback address, for the machine's own monitoring.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Metrics, TelemetryError};

/// A monitor or two; more at once is a local mistake that must not starve the process.
const MAX_CONNECTIONS: usize = 16;

/// One request and its answer on the same machine; each connection ends after this time.
const MAX_CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Samples of durations are folded at least this often, also where nobody reads the metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A pause after a failed accept, so that a process out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound listener of health and metrics.
pub struct HealthListener {
    listener: TcpListener,
    address: SocketAddr,
    monitored: Monitored,
}

#[derive(Clone)]
struct Monitored {
    not_ready_because: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    metrics: Metrics,
}

impl HealthListener {
    /// Binds `address`, which must be a loopback address; port 0 lets the system choose. `not_ready_because` is asked at
    /// each `/readyz` and gives the reasons, none where the process is ready.
    pub async fn bind(
        address: SocketAddr,
        not_ready_because: impl Fn() -> Vec<String> + Send + Sync + 'static,
        metrics: Metrics,
    ) -> Result<Self, TelemetryError> {
        if !address.ip().is_loopback() {
            return Err(TelemetryError::NotLoopback(address));
        }
        let failed = |source| TelemetryError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            monitored: Monitored { not_ready_because: Arc::new(not_ready_because), metrics },
        })
    }

    /// The address as bound.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, then lets nobody in any more.
    pub async fn serve(self, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        let service = routes(self.monitored.clone());
        loop {
            let accepted = async {
                let permit = free.clone().acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            tokio::select! {
                () = stop.cancelled() => return,
                _ = upkeep.tick() => self.monitored.metrics.upkeep(),
                (permit, accepted) = accepted => match accepted {
                    Ok((stream, _)) => {
                        let (service, stop) = (service.clone(), stop.clone());
                        tokio::spawn(async move {
                            answer(stream, service, stop).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "health listener cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn answer(stream: TcpStream, service: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_CONNECTION_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    // What goes wrong on one connection of a monitor is the monitor's to see.
    tokio::select! {
        () = stop.cancelled() => {}
        ended = tokio::time::timeout(MAX_CONNECTION_TIME, connection) => drop(ended),
    }
}

fn routes(monitored: Monitored) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(monitored)
}

/// The process runs and its runtime answers.
async fn live() -> Result<&'static str, Infallible> {
    Ok("live\n")
}

async fn ready(State(monitored): State<Monitored>) -> impl IntoResponse {
    let reasons = (monitored.not_ready_because)();
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", reasons.join("\n")))
    }
}

async fn metrics(State(monitored): State<Monitored>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], monitored.metrics.render())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_and_stops() {
        let indexed = Arc::new(AtomicBool::new(false));
        let asked = indexed.clone();
        let reasons =
            move || if asked.load(Ordering::Relaxed) { vec![] } else { vec!["no index".to_owned()] };
        let metrics = Metrics::install().unwrap();
        let listener = HealthListener::bind("[::1]:0".parse().unwrap(), reasons, metrics).await.unwrap();
        let (address, stop) = (listener.address(), CancellationToken::new());
        let served = tokio::spawn(listener.serve(stop.clone()));

        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        let waiting = ask(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503 ") && waiting.ends_with("not ready\nno index\n"));
        indexed.store(true, Ordering::Relaxed);
        assert!(ask(address, "/readyz").await.ends_with("ready\n"));
        super::super::metrics::bytes_sent(1);
        assert!(ask(address, "/metrics").await.contains("fairlead_bytes_sent_total"));
        assert!(ask(address, "/other").await.starts_with("HTTP/1.1 404 "));

        // Every place taken by connections that say nothing: the next one is answered as soon as one ends.
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let waiting = tokio::spawn(async move { ask(address, "/livez").await });
        silent.pop();
        assert!(waiting.await.unwrap().ends_with("live\n"));

        stop.cancel();
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn only_loopback_and_only_free_ports() {
        let metrics = Metrics::install().unwrap();
        let bind = |address: SocketAddr| HealthListener::bind(address, Vec::new, metrics.clone());
        for outside in ["[::]:0", "0.0.0.0:0", "192.0.2.1:0", "[2001:db8::1]:0", "[::ffff:127.0.0.1]:0"] {
            let refused = bind(outside.parse().unwrap()).await.err().unwrap();
            assert!(matches!(refused, TelemetryError::NotLoopback(_)), "{outside}: {refused}");
        }
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert!(matches!(bind(first.address()).await.err().unwrap(), TelemetryError::Bind { .. }));
    }
}
