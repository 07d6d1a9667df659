//! Refusals on the wire: one mapping from fault to gRPC status, one decision about what each audience learns.

use std::collections::HashMap;

use control_plane::{Fault, Refusal};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `google.rpc.ErrorInfo` of ours.
pub const DOMAIN: &str = "fairlead";

/// Who reads the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Somebody whose identity was not verified: learns only that it was refused.
    Stranger,
    /// A verified participant: code and clause; facts about our side stay in our log.
    Peer,
    /// Our own operator: everything.
    Operator,
}

/// A refusal as a gRPC status, for this audience.
pub fn to_status(refusal: &Refusal, audience: Audience) -> Status {
    let code = grpc_code(refusal.code.fault);
    let mut metadata = HashMap::new();
    let message = match audience {
        Audience::Stranger => return Status::new(Code::Unauthenticated, "refused"),
        Audience::Peer => refusal.code.en.to_owned(),
        Audience::Operator => {
            metadata.insert("detail".to_owned(), refusal.detail.clone());
            metadata.insert("next".to_owned(), refusal.code.next.to_owned());
            metadata.insert("zh-Hant".to_owned(), refusal.code.zh_hant.to_owned());
            metadata.insert("zh-Hans".to_owned(), refusal.code.zh_hans.to_owned());
            refusal.code.en.to_owned()
        }
    };
    metadata.insert("fault".to_owned(), fault_name(refusal.code.fault).to_owned());
    metadata.insert("clause".to_owned(), refusal.code.clause.to_owned());
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(refusal.code.code, DOMAIN, metadata),
    )
}

/// What a status of another process says, as far as it says anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRefusal {
    /// `area/kebab-case`, or empty where the other side gave none.
    pub code: String,
    /// Whose move it is, as the status tells.
    pub fault: Fault,
    /// What happened, for people.
    pub text: String,
    /// The thing and the cause.
    pub detail: String,
    /// The next step.
    pub next: String,
}

impl RemoteRefusal {
    /// Whether sending the same message again can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.fault, Fault::Unavailable | Fault::Ours)
    }
}

/// Reads a status; details that are not ours are ignored, the gRPC code decides.
pub fn from_status(status: &Status) -> RemoteRefusal {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    let member =
        |info: &tonic_types::ErrorInfo, name: &str| info.metadata.get(name).cloned().unwrap_or_default();
    match info {
        Some(info) => RemoteRefusal {
            fault: fault_from_name(&member(&info, "fault")).unwrap_or_else(|| fault_of(status.code())),
            text: status.message().to_owned(),
            detail: member(&info, "detail"),
            next: member(&info, "next"),
            code: info.reason,
        },
        None => RemoteRefusal {
            code: String::new(),
            fault: fault_of(status.code()),
            text: status.message().to_owned(),
            detail: String::new(),
            next: String::new(),
        },
    }
}

const fn grpc_code(fault: Fault) -> Code {
    match fault {
        Fault::Input => Code::InvalidArgument,
        Fault::Policy => Code::PermissionDenied,
        Fault::Identity => Code::Unauthenticated,
        Fault::State => Code::FailedPrecondition,
        Fault::NotFound => Code::NotFound,
        Fault::Limit => Code::ResourceExhausted,
        Fault::Unavailable => Code::Unavailable,
        Fault::Ours => Code::Internal,
    }
}

const fn fault_of(code: Code) -> Fault {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Fault::Input,
        Code::PermissionDenied => Fault::Policy,
        Code::Unauthenticated => Fault::Identity,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Fault::State,
        Code::NotFound => Fault::NotFound,
        Code::ResourceExhausted => Fault::Limit,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => Fault::Unavailable,
        Code::Ok | Code::Internal | Code::DataLoss => Fault::Ours,
    }
}

const FAULTS: [(Fault, &str); 8] = [
    (Fault::Input, "input"),
    (Fault::Policy, "policy"),
    (Fault::Identity, "identity"),
    (Fault::State, "state"),
    (Fault::NotFound, "not-found"),
    (Fault::Limit, "limit"),
    (Fault::Unavailable, "unavailable"),
    (Fault::Ours, "ours"),
];

/// The name of a fault on the wire and in logs.
pub fn fault_name(fault: Fault) -> &'static str {
    FAULTS.iter().find(|(known, _)| *known == fault).map_or("ours", |(_, name)| name)
}

fn fault_from_name(name: &str) -> Option<Fault> {
    FAULTS.iter().find(|(_, known)| *known == name).map(|(fault, _)| *fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_plane::ids::MALFORMED_ID;

    #[test]
    fn each_audience_learns_its_share() {
        let refusal = Refusal::new(&MALFORMED_ID, "our secret fact");
        let stranger = to_status(&refusal, Audience::Stranger);
        assert_eq!((stranger.code(), stranger.message()), (Code::Unauthenticated, "refused"));
        assert!(stranger.details().is_empty());

        let peer = from_status(&to_status(&refusal, Audience::Peer));
        assert_eq!((peer.code.as_str(), peer.fault), (MALFORMED_ID.code, Fault::Input));
        assert_eq!(peer.detail, "", "facts of our side stay here");

        let operator = from_status(&to_status(&refusal, Audience::Operator));
        assert_eq!(
            (operator.detail.as_str(), operator.next.as_str()),
            ("our secret fact", MALFORMED_ID.next)
        );
    }

    #[test]
    fn every_fault_survives_the_wire() {
        for (fault, name) in FAULTS {
            assert_eq!(fault_from_name(fault_name(fault)), Some(fault), "{name}");
            assert_eq!(fault_of(grpc_code(fault)), fault, "{name}");
        }
    }
}
