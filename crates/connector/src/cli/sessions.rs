//! `fairlead session …`.

use proto::admin;

use super::args::{OpenArgs, SessionCommand};
use super::client::Admin;
use super::datasets::page_request;
use super::output::{Failure, Output, facts};

pub(super) async fn run(output: Output, admin: &mut Admin, command: SessionCommand) -> Result<(), Failure> {
    let named = |id| admin::SessionRequest { id };
    let session = match command {
        SessionCommand::Open(args) => admin.open_session(request(output, args)).await?,
        SessionCommand::List(page) => {
            let list = admin.list_sessions(page_request(page)).await?.into_inner();
            return output.list(
                &list.sessions,
                ["session", "agreement", "user", "opened", "valid until", "bytes"],
                |row| {
                    let [id, agreement, actor] = [row.id.clone(), row.agreement.clone(), row.actor.clone()];
                    [id, agreement, actor, row.opened.clone(), row.valid_until.clone(), row.bytes.to_string()]
                },
                &list.next_page_token,
            );
        }
        SessionCommand::Show { id } => admin.show_session(named(id)).await?,
        SessionCommand::Renew { id } => admin.renew_session(named(id)).await?,
        SessionCommand::Close { id } => {
            let receipt = admin.close_session(named(id)).await?.into_inner();
            return output.show(&receipt, |receipt| {
                facts(&[
                    ("session", receipt.session.clone()),
                    ("bytes", receipt.bytes.to_string()),
                    ("receipt", receipt.receipt.clone()),
                ])
            });
        }
    };
    output.show(&session.into_inner(), text)
}

fn request(output: Output, args: OpenArgs) -> admin::UseRequest {
    admin::UseRequest {
        agreement: args.agreement,
        action: args.action,
        purpose: args.purpose,
        recipient: args.recipient,
        application: args.application,
        object: args.object,
        language: output.language.tag().into(),
        ..Default::default()
    }
}

fn text(session: &admin::Session) -> String {
    let left = if session.uses_left < 0 { String::new() } else { session.uses_left.to_string() };
    let mut text = facts(&[
        ("session", session.id.clone()),
        ("agreement", session.agreement.clone()),
        ("action", session.action.clone()),
        ("purpose", session.purpose.clone()),
        ("valid until", session.valid_until.clone()),
        ("renew within", format!("{} s", session.life_seconds)),
        ("uses left", left),
        ("bytes read", session.bytes.to_string()),
        ("token", session.token.clone()),
    ]);
    for object in &session.objects {
        text.push_str(&format!("\nobject  {} ({} bytes) {}", object.path, object.bytes, object.url));
    }
    let tables =
        session.objects.iter().filter(|object| !object.ticket.is_empty() && !session.flight.is_empty());
    for table in tables.clone() {
        text.push_str(&format!("\ntable   {} at {} (Arrow Flight)", table.ticket, session.flight));
    }
    // Only whoever opened it has the token, and needs to know what to do with it.
    let (false, Some(object)) = (session.token.is_empty(), session.objects.first()) else { return text };
    let (token, url) = (&session.token, &object.url);
    text.push_str(&format!(
        "\n\ncurl    curl -g -H 'Authorization: Bearer {token}' '{url}'\n\
         pandas  pd.read_csv('{url}', storage_options={{'Authorization': 'Bearer {token}'}})\n\
         DuckDB  CREATE SECRET (TYPE http, BEARER_TOKEN '{token}'); SELECT * FROM read_csv('{url}');"
    ));
    let Some(table) = tables.clone().next() else { return text };
    text.push_str(&format!(
        "\npyarrow flight.connect('{}').do_get(flight.Ticket('{}'), flight.FlightCallOptions(headers=[(b'authorization', b'Bearer {token}')])).read_all()",
        session.flight, table.ticket
    ));
    text
}
