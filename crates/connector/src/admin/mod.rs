//! Administration over the Unix socket: each call is one function of the part that it concerns.

pub mod agreements;
pub mod datasets;
pub mod duties;
pub mod holdings;
pub mod negotiations;
pub mod node;
pub mod transfers;

use std::pin::Pin;
use std::sync::Arc;

use control_plane::{Refusal, UnixMillis};
use futures::Stream;
use proto::admin;
use proto::admin::admin_service_server::AdminService;
use proto::status::{Audience, to_status};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use crate::cli::output::ORIGIN_PEER;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    BAD_ARGUMENT = "admin/bad-argument", Input,
        "an argument is missing or has a wrong value", "參數缺少或值不正確", "参数缺少或值不正确",
        clause "administration", next "see the command's --help";
}

/// Rows of one page when none are asked for, and at most.
const DEFAULT_PAGE: usize = 100;
/// The most rows of one page.
const MAX_PAGE: usize = 500;
/// The longest wait that one call grants: a client that wants more asks again.
pub const MAX_WAIT_SECONDS: u32 = 3600;

/// Serves administration.
pub struct Administration(pub Arc<Node>);

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Says no to our operator: everything that is known.
pub fn refuse(error: impl Into<Error>) -> Status {
    let refusal = error.into().into_refusal();
    tracing::debug!(code = refusal.code.code, detail = %refusal.detail, "refused an administration call");
    let mut status = to_status(&refusal, Audience::Operator);
    if refusal.code.code.starts_with("peer/") {
        status.metadata_mut().insert(ORIGIN_PEER, tonic::metadata::MetadataValue::from_static("yes"));
    }
    status
}

/// A page as the store takes it: rows and the key after which it starts.
pub fn page(request: &admin::PageRequest) -> (usize, Option<String>) {
    let rows = match request.page_size as usize {
        0 => DEFAULT_PAGE,
        asked => asked.min(MAX_PAGE),
    };
    (rows, (!request.page_token.is_empty()).then(|| request.page_token.clone()))
}

/// Where the next page starts, if this one was full.
pub fn next_page(rows: usize, last: Option<&store::Row>, found: usize) -> String {
    if found < rows { String::new() } else { last.map(|row| row.key.clone()).unwrap_or_default() }
}

/// An optional instant, for people.
pub fn instant(at: Option<UnixMillis>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// Refuses an argument, naming it.
pub fn bad_argument(detail: impl Into<String>) -> Error {
    Refusal::new(&BAD_ARGUMENT, detail).into()
}

/// Who is at the other end of the socket, as the operating system says (SO_PEERCRED).
fn actor<T>(request: &Request<T>) -> String {
    let credentials = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    credentials.map_or_else(|| "uid unknown".to_owned(), |credentials| format!("uid {}", credentials.uid()))
}

/// Declares the calls that are one function each.
macro_rules! calls {
    ($( $call:ident($request:ident) -> $answer:ident = $($function:ident)::+; )*) => {
        #[tonic::async_trait]
        impl AdminService for Administration {
            type WatchTransferStream = Answers<admin::Transfer>;
            type UseStream = Answers<admin::UseResponse>;

            $(
                async fn $call(
                    &self,
                    request: Request<admin::$request>,
                ) -> Result<Response<admin::$answer>, Status> {
                    $($function)::+(&self.0, request.into_inner()).await.map(Response::new).map_err(refuse)
                }
            )*

            async fn watch_transfer(
                &self,
                request: Request<admin::ShowTransferRequest>,
            ) -> Result<Response<Self::WatchTransferStream>, Status> {
                let changes = transfers::watch(&self.0, request.into_inner()).await.map_err(refuse)?;
                Ok(Response::new(changes))
            }

            async fn explain_use(
                &self,
                request: Request<admin::UseRequest>,
            ) -> Result<Response<admin::Explanation>, Status> {
                let actor = actor(&request);
                let answer = holdings::explain_use(&self.0, request.into_inner(), actor).await.map_err(refuse)?;
                Ok(Response::new(answer))
            }

            async fn r#use(
                &self,
                request: Request<admin::UseRequest>,
            ) -> Result<Response<Self::UseStream>, Status> {
                let actor = actor(&request);
                let session = holdings::open_use(&self.0, request.into_inner(), actor).await.map_err(refuse)?;
                Ok(Response::new(session))
            }
        }
    };
}

calls! {
    get_status(GetStatusRequest) -> Status = node::status;
    doctor_peer(DoctorPeerRequest) -> DoctorReport = node::doctor;
    publish_dataset(PublishDatasetRequest) -> PublishedDataset = datasets::publish;
    withdraw_dataset(WithdrawDatasetRequest) -> PublishedDataset = datasets::withdraw;
    list_datasets(PageRequest) -> DatasetList = datasets::list;
    search_catalogue(SearchCatalogueRequest) -> SearchCatalogueResponse = datasets::search;
    show_catalogue_entry(ShowCatalogueEntryRequest) -> CatalogueEntry = datasets::show;
    read_peer_catalogue(PeerCatalogueRequest) -> PeerCatalogue = datasets::of_peer;
    negotiate(NegotiateRequest) -> Negotiation = negotiations::open;
    list_negotiations(PageRequest) -> NegotiationList = negotiations::list;
    show_negotiation(ShowNegotiationRequest) -> Negotiation = negotiations::show;
    accept_negotiation(DecideNegotiationRequest) -> Negotiation = negotiations::accept;
    counter_negotiation(CounterNegotiationRequest) -> Negotiation = negotiations::counter;
    terminate_negotiation(DecideNegotiationRequest) -> Negotiation = negotiations::terminate;
    list_agreements(PageRequest) -> AgreementList = agreements::list;
    show_agreement(ShowAgreementRequest) -> Agreement = agreements::show;
    suspend_agreement(ChangeAgreementRequest) -> Agreement = agreements::suspend;
    resume_agreement(ChangeAgreementRequest) -> Agreement = agreements::resume;
    revoke_agreement(ChangeAgreementRequest) -> Agreement = agreements::revoke;
    list_peers(PageRequest) -> PeerList = node::peers;
    suspend_peer(ChangePeerRequest) -> Peer = node::suspend_peer;
    resume_peer(ChangePeerRequest) -> Peer = node::resume_peer;
    start_transfer(StartTransferRequest) -> Transfer = transfers::start;
    list_transfers(PageRequest) -> TransferList = transfers::list;
    show_transfer(ShowTransferRequest) -> Transfer = transfers::show;
    suspend_transfer(ChangeTransferRequest) -> Transfer = transfers::suspend;
    resume_transfer(ChangeTransferRequest) -> Transfer = transfers::resume;
    complete_transfer(ChangeTransferRequest) -> Transfer = transfers::complete;
    terminate_transfer(ChangeTransferRequest) -> Transfer = transfers::terminate;
    list_holdings(PageRequest) -> HoldingList = holdings::list;
    show_holding(ShowHoldingRequest) -> Holding = holdings::show;
    delete_holding(ShowHoldingRequest) -> Holding = holdings::delete;
    list_duties(ListDutiesRequest) -> DutyList = duties::list;
    show_duty(ShowDutyRequest) -> DutyRow = duties::show;
    fulfil_duty(FulfilDutyRequest) -> DutyRow = duties::fulfil;
    list_events(ListEventsRequest) -> EventList = duties::events;
    begin_event(ChangeEventRequest) -> EventList = duties::begin_event;
    end_event(ChangeEventRequest) -> EventList = duties::end_event;
    list_ledger(ListLedgerRequest) -> LedgerPage = node::ledger;
    backup(BackupRequest) -> BackupReport = node::backup;
    reload(ReloadRequest) -> Status = node::reload;
}
