//! What happens below for each standing of the source and each status of an agreement.

use control_plane::UnixMillis;
use control_plane::cause::Cause;
use control_plane::status::{Act, StatusChange};

use super::*;

control_plane::refusal_codes! {
    WHY = "test/why", Policy, "why", "為何", "为何", clause "test", next "none";
}

fn act(code: &str) -> Act {
    Act { cause: Cause::new(code, []), at: UnixMillis(1) }
}

#[test]
fn agreements_follow_their_source() {
    let why = || control_plane::Refusal::new(&WHY, "");
    let (open, paused, ended) = (Standing::Open, Standing::Paused(why()), Standing::Ended(why()));
    let (consumer, provider) = (Role::Consumer, Role::Provider);
    let suspended = |by, code| StatusChange::Suspend(by, act(code));
    let (ours, operators) = (SOURCE_SUSPENDED.code, "agreement/suspended");
    let revoked = StatusChange::Revoke(consumer, act(operators));
    for (changes, expected) in [
        (vec![], [None, Some(Change::Suspend), Some(Change::Revoke)]),
        (vec![suspended(provider, ours)], [Some(Change::Resume), None, Some(Change::Revoke)]),
        (vec![suspended(provider, operators)], [None, None, Some(Change::Revoke)]),
        (vec![suspended(consumer, operators)], [None, Some(Change::Suspend), Some(Change::Revoke)]),
        (
            vec![suspended(consumer, operators), suspended(provider, ours)],
            [Some(Change::Resume), None, Some(Change::Revoke)],
        ),
        (vec![revoked], [None, None, None]),
        (vec![StatusChange::Expire(UnixMillis(2))], [None, None, None]),
    ] {
        let status =
            changes.iter().cloned().try_fold(AgreementStatus::Active, |status, change| status.after(change));
        let status = status.unwrap();
        let wanted = [&open, &paused, &ended].map(|standing| wanted(&status, standing));
        assert_eq!(wanted, expected, "{changes:?}");
    }
}
