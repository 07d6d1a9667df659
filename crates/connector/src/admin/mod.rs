//! Administration over the Unix socket: each call is one function of the part that it concerns.

pub mod agreements;
pub mod approvals;
pub mod audit;
pub mod datasets;
pub mod duties;
pub mod holdings;
pub mod negotiations;
pub mod node;
pub mod sessions;
pub mod sockets;
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

use crate::approval::{self, Act};
use crate::cli::output::ORIGIN_PEER;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    BAD_ARGUMENT = "admin/bad-argument", Input,
        "an argument is missing or has a wrong value", "參數缺少或值不正確", "参数缺少或值不正确",
        clause "administration", next "see the command's --help";
    NOT_THROUGH_HERE = "admin/not-on-this-socket", Policy,
        "this socket serves using data and asking for access, and nothing else", "此通訊端只供使用資料及申請存取", "此套接字只供使用数据及申请访问",
        clause "settings: administration.use_socket", next "ask an operator, who has the administration socket";
}

/// Rows of one page when none are asked for, and at most.
const DEFAULT_PAGE: usize = 100;
/// The most rows of one page.
const MAX_PAGE: usize = 500;
/// The longest wait that one call grants: a client that wants more asks again.
pub const MAX_WAIT_SECONDS: u32 = 3600;

/// Serves administration.
pub struct Administration {
    /// The connector.
    pub node: Arc<Node>,
    /// Through which socket callers come.
    pub door: Door,
}

/// What a socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Every call.
    Everything,
    /// Using what is held, finding what is offered, and asking for access.
    Use,
}

impl Door {
    fn require(self, call: &str) -> Result<(), Status> {
        const OF_USERS: &[&str] = &[
            "search_catalogue",
            "show_catalogue_entry",
            "list_holdings",
            "show_holding",
            "use",
            "explain_use",
            "open_session",
            "list_sessions",
            "show_session",
            "renew_session",
            "close_session",
            "request_access",
            "list_access_requests",
            "show_access_request",
            "withdraw_access",
        ];
        match self {
            Self::Everything => Ok(()),
            Self::Use if OF_USERS.contains(&call) => Ok(()),
            Self::Use => Err(refuse(Refusal::new(&NOT_THROUGH_HERE, format!("`{call}`")))),
        }
    }
}

impl Door {
    /// Whose requests for access a caller sees: everybody's, or only its own.
    fn whose(self, actor: String) -> Option<String> {
        match self {
            Self::Everything => None,
            Self::Use => Some(actor),
        }
    }
}

impl Administration {
    /// Before any call: the socket serves it, and a second person has approved it where the settings want one.
    async fn admit<T: serde::Serialize>(&self, call: &str, request: &T, actor: &str) -> Result<(), Status> {
        self.door.require(call)?;
        match Act::of_call(call) {
            Some(act) => approval::require(&self.node, act, request, actor).await.map_err(refuse),
            None => Ok(()),
        }
    }
}

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

/// Declares the calls that are one function each; those after `by actor` learn who calls.
macro_rules! calls {
    (
        { $( $call:ident($request:ident) -> $answer:ident = $($function:ident)::+; )* }
        by actor { $( $acting:ident($asked:ident) -> $told:ident = $($carried_out:ident)::+; )* }
    ) => {
        #[tonic::async_trait]
        impl AdminService for Administration {
            type WatchTransferStream = Answers<admin::Transfer>;
            type UseStream = Answers<admin::UseResponse>;
            type ExportAuditStream = Answers<admin::ExportAuditResponse>;

            $(
                async fn $call(
                    &self,
                    request: Request<admin::$request>,
                ) -> Result<Response<admin::$answer>, Status> {
                    let actor = actor(&request);
                    let request = request.into_inner();
                    self.admit(stringify!($call), &request, &actor).await?;
                    $($function)::+(&self.node, request).await.map(Response::new).map_err(refuse)
                }
            )*

            $(
                async fn $acting(
                    &self,
                    request: Request<admin::$asked>,
                ) -> Result<Response<admin::$told>, Status> {
                    let actor = actor(&request);
                    let request = request.into_inner();
                    self.admit(stringify!($acting), &request, &actor).await?;
                    $($carried_out)::+(&self.node, request, actor).await.map(Response::new).map_err(refuse)
                }
            )*

            async fn watch_transfer(
                &self,
                request: Request<admin::ShowTransferRequest>,
            ) -> Result<Response<Self::WatchTransferStream>, Status> {
                self.door.require("watch_transfer")?;
                let changes = transfers::watch(&self.node, request.into_inner()).await.map_err(refuse)?;
                Ok(Response::new(changes))
            }

            async fn list_access_requests(
                &self,
                request: Request<admin::PageRequest>,
            ) -> Result<Response<admin::AccessRequestList>, Status> {
                self.door.require("list_access_requests")?;
                let whose = self.door.whose(actor(&request));
                let list = approvals::list_access(&self.node, request.into_inner(), whose).await;
                list.map(Response::new).map_err(refuse)
            }

            async fn show_access_request(
                &self,
                request: Request<admin::DecideAccessRequest>,
            ) -> Result<Response<admin::AccessRequest>, Status> {
                self.door.require("show_access_request")?;
                let whose = self.door.whose(actor(&request));
                let shown = approvals::show_access(&self.node, request.into_inner(), whose).await;
                shown.map(Response::new).map_err(refuse)
            }

            async fn export_audit(
                &self,
                request: Request<admin::ExportAuditRequest>,
            ) -> Result<Response<Self::ExportAuditStream>, Status> {
                self.door.require("export_audit")?;
                let pieces = audit::export(&self.node, request.into_inner()).await.map_err(refuse)?;
                Ok(Response::new(pieces))
            }

            async fn explain_use(
                &self,
                request: Request<admin::UseRequest>,
            ) -> Result<Response<admin::Explanation>, Status> {
                self.door.require("explain_use")?;
                let actor = actor(&request);
                let answer = holdings::explain_use(&self.node, request.into_inner(), actor).await.map_err(refuse)?;
                Ok(Response::new(answer))
            }

            async fn r#use(
                &self,
                request: Request<admin::UseRequest>,
            ) -> Result<Response<Self::UseStream>, Status> {
                self.door.require("use")?;
                let actor = actor(&request);
                let session = holdings::open_use(&self.node, request.into_inner(), actor).await.map_err(refuse)?;
                Ok(Response::new(session))
            }
        }
    };
}

calls! { {
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
    list_copies(ListCopiesRequest) -> CopyList = audit::list_copies;
    list_approvals(PageRequest) -> ApprovalList = approvals::list;
    show_approval(DecideApprovalRequest) -> Approval = approvals::show;
} by actor {
    show_holding(ShowHoldingRequest) -> Holding = holdings::show;
    open_session(UseRequest) -> Session = sessions::open;
    list_sessions(PageRequest) -> SessionList = sessions::list;
    show_session(SessionRequest) -> Session = sessions::show;
    renew_session(SessionRequest) -> Session = sessions::renew;
    close_session(SessionRequest) -> UseReceipt = sessions::close;
    approve(DecideApprovalRequest) -> Approval = approvals::approve;
    reject_approval(DecideApprovalRequest) -> Approval = approvals::reject;
    withdraw_approval(DecideApprovalRequest) -> Approval = approvals::withdraw;
    request_access(RequestAccessRequest) -> AccessRequest = approvals::request_access;
    approve_access(DecideAccessRequest) -> AccessRequest = approvals::approve_access;
    reject_access(DecideAccessRequest) -> AccessRequest = approvals::reject_access;
    withdraw_access(DecideAccessRequest) -> AccessRequest = approvals::withdraw_access;
} }
