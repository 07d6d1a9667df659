//! Every refusal code of every crate, for `docs/refusals.md`.

use control_plane::Code;

/// Every code, sorted.
pub fn all() -> Vec<&'static Code> {
    let ours: &[&[&Code]] = &[
        crate::access::CODES,
        crate::admin::CODES,
        crate::approval::CODES,
        crate::audit::CODES,
        crate::authority::client::CODES,
        crate::clock::CODES,
        crate::config::CODES,
        crate::data::holdings::CODES,
        crate::data::provider::CODES,
        crate::data::pull::CODES,
        crate::data::sessions::CODES,
        crate::data::sessions::GRANTED_CODES,
        crate::data::transforms::CODES,
        crate::data::uses::CODES,
        crate::doctor::CODES,
        crate::driver::comparison::CODES,
        crate::driver::negotiations::CODES,
        crate::driver::notices::CODES,
        crate::driver::records::CODES,
        crate::driver::transfers::CODES,
        crate::data::acts::CODES,
        crate::data::events::CODES,
        crate::enforceable::CODES,
        crate::error::CODES,
        crate::grpc::CODES,
        crate::grpc::identity::CODES,
        crate::http::CODES,
        crate::http::catalogue::CODES,
        crate::http::client::CODES,
        crate::http::data::CODES,
        crate::http::identity::CODES,
        crate::http::range::CODES,
        crate::http::push::CODES,
        crate::http::server::CODES,
        crate::data::lease_grant::CODES,
        crate::data::lease_provider::CODES,
        crate::data::leases::CODES,
        crate::data::onward::CODES,
        crate::data::shares::CODES,
        crate::grpc::lease::CODES,
        crate::node::CODES,
        crate::peers::CODES,
        crate::recovery::CODES,
        crate::restored::CODES,
        crate::run::CODES,
        crate::standing::CODES,
        crate::transport::dialer::CODES,
        crate::trust::CODES,
        crate::use_endpoint::ANSWER_CODES,
        crate::use_endpoint::CHECK_CODES,
        crate::use_flight::CODES,
        proto::fields::CODES,
    ];
    let lists = ours
        .iter()
        .chain(control_plane::CODES)
        .chain(identity::CODES)
        .chain(dsp::CODES)
        .chain(data_plane::CODES)
        .chain(crate::catalogue::ALL_CODES)
        .flat_map(|list| list.iter().copied());
    let mut all: Vec<&'static Code> = lists.chain(policy::codes()).chain(catalogue::codes()).collect();
    all.sort_by_key(|code| code.code);
    all
}

/// `docs/refusals.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# Refusals\n\n\
         Every refusal has a stable code. The same code stands in logs, in the command line's `--json`, in gRPC status \
         details and in the Dataspace Protocol's `code`. A stranger is told only `refused`; an authenticated peer \
         learns code and clause; our own operator learns everything.\n\n\
         This page is generated: `UPDATE_DOCS=1 cargo test -p connector --test refusals`.\n\n\
         | Code | What happened | 繁體中文 | 简体中文 | Rests on | Next step |\n|---|---|---|---|---|---|\n",
    );
    for code in all() {
        let Code { code, en, zh_hant, zh_hans, clause, next, .. } = code;
        text.push_str(
            &format!("| `{code}` | {en} | {zh_hant} | {zh_hans} | {clause} | {next} |\n")
                .replace("| |", "|  |"),
        );
    }
    text
}
