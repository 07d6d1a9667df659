//! A program that reads the tables of a use session with Arrow Flight's own client.

use std::net::SocketAddr;

use arrow_array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightClient, FlightDescriptor, FlightInfo, Ticket};
use arrow_schema::Schema;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

/// What a call answered, or the status that refused it.
pub type Answer<T> = Result<T, Box<Status>>;

/// One connection to a connector's Flight endpoint.
pub struct Flight {
    runtime: tokio::runtime::Runtime,
    client: FlightClient,
}

impl Flight {
    /// Connects where `fairlead session open` printed, with this token.
    #[track_caller]
    pub fn connect(shown: &Value, token: Option<&str>) -> Self {
        Self::connect_as(address(shown), token, None)
    }

    /// The same, addressed to another host's name.
    #[track_caller]
    pub fn connect_as(address: SocketAddr, token: Option<&str>, origin: Option<&'static str>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let mut endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        if let Some(origin) = origin {
            endpoint = endpoint.origin(origin.parse().expect("an address"));
        }
        let channel = runtime.block_on(endpoint.connect()).expect("Arrow Flight listens");
        let mut client = FlightClient::new(channel);
        if let Some(token) = token {
            client.add_header("authorization", &format!("Bearer {token}")).expect("a token is a header");
        }
        Self { runtime, client }
    }

    /// `ListFlights`.
    pub fn list(&mut self) -> Answer<Vec<FlightInfo>> {
        let Self { runtime, client } = self;
        runtime.block_on(async { client.list_flights("").await?.try_collect().await }).map_err(status)
    }

    /// `GetFlightInfo` by path.
    pub fn info(&mut self, path: &str) -> Answer<FlightInfo> {
        let descriptor = FlightDescriptor::new_path(vec![path.to_owned()]);
        self.runtime.block_on(self.client.get_flight_info(descriptor)).map_err(status)
    }

    /// `GetSchema` by path.
    pub fn schema(&mut self, path: &str) -> Answer<Schema> {
        let descriptor = FlightDescriptor::new_path(vec![path.to_owned()]);
        self.runtime.block_on(self.client.get_schema(descriptor)).map_err(status)
    }

    /// `DoGet` of a ticket, not read yet.
    pub fn begin(&mut self, ticket: &str) -> Answer<FlightRecordBatchStream> {
        self.runtime.block_on(self.client.do_get(Ticket::new(ticket.to_owned()))).map_err(status)
    }

    /// The next batch of a stream.
    pub fn next(&mut self, stream: &mut FlightRecordBatchStream) -> Answer<Option<RecordBatch>> {
        self.runtime.block_on(stream.next()).transpose().map_err(status)
    }

    /// The rest of a stream: its batches, and the status that ended it early.
    pub fn rest(&mut self, stream: &mut FlightRecordBatchStream) -> (Vec<RecordBatch>, Option<Box<Status>>) {
        let mut batches = Vec::new();
        loop {
            match self.next(stream) {
                Ok(Some(batch)) => batches.push(batch),
                Ok(None) => return (batches, None),
                Err(status) => return (batches, Some(status)),
            }
        }
    }

    /// All batches of a ticket.
    pub fn get(&mut self, ticket: &str) -> Answer<Vec<RecordBatch>> {
        let mut stream = self.begin(ticket)?;
        match self.rest(&mut stream) {
            (batches, None) => Ok(batches),
            (_, Some(status)) => Err(status),
        }
    }

    /// `DoAction`, which is not served.
    pub fn act(&mut self) -> Answer<()> {
        let action = arrow_flight::Action::new("anything", "");
        self.runtime.block_on(self.client.do_action(action)).map(drop).map_err(status)
    }

    /// `GetFlightInfo` by command, which is not served.
    pub fn command(&mut self) -> Answer<FlightInfo> {
        let descriptor = FlightDescriptor::new_cmd("SELECT 1");
        self.runtime.block_on(self.client.get_flight_info(descriptor)).map_err(status)
    }
}

/// Where `fairlead session open` printed that Arrow Flight is served.
#[track_caller]
pub fn address(shown: &Value) -> SocketAddr {
    let address = shown["flight"].as_str().and_then(|url| url.strip_prefix("grpc://"));
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{shown}"))
}

/// Checks a refusal: its gRPC code, and our code in the message that clients show.
#[track_caller]
pub fn refused<T>(answer: Answer<T>, grpc: Code, code: &str) -> String {
    let status = answer.err().expect("the call is refused");
    assert_eq!(status.code(), grpc, "{status:?}");
    assert!(status.message().starts_with(&format!("{code}: ")), "{status:?}");
    status.message().to_owned()
}

fn status(error: FlightError) -> Box<Status> {
    match error {
        FlightError::Tonic(status) => status,
        other => panic!("no status: {other}"),
    }
}
