//! An entity's token that reaches for what is another entity's: the service refuses, tells no more than if it did not exist,
//! and no packet finds a way that was not there before.

use crate::fixture::Case;
use anyhow::{Context, Result, bail, ensure};
use hyper::StatusCode;
use overlane_api::policy::{Action, DefaultAction, Direction, PeeringSpec, Selector};
use overlane_api::resource::{AttachmentKind, NodeSpec};
use overlane_cli::client::{Client, Failure};
use overlane_cli::lab::attack::expect_drops;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::metrics::Metrics;
use overlane_cli::lab::plan::Node;
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::provision::{self, node_spec, rule_about, with_token, with_token_of};
use overlane_cli::lab::service;
use overlane_dataplane::drop::DropReason;
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = &[
    Case::Shared("attacks::tokens::an_entitys_token_changes_and_sees_nothing_of_another_entity", reach),
    Case::Shared("attacks::tokens::a_revoked_a_guessed_and_no_token_get_nowhere", useless),
];

/// The attacker's own node and whom it is after: in networks with addresses that differ.
const ATTACKER: &str = "initech-1";
const VICTIM: &str = "acme-1";

/// Characters of a token that are secret.
const SECRET: usize = 43;

/// How often the service has turned somebody away, for this reason.
fn turned_away(lab: &Lab, reason: &str) -> Result<u64> {
    Ok(service::scrape(lab)?.sum("overlane_control_api_refusals_total", &[("reason", reason)]) as u64)
}

/// What a client asks for: method, path, and what it sends.
type Request = (&'static str, String, Value);

/// Asks with a token; what the service says to it.
fn ask(lab: &Lab, token: &str, (method, path, body): &Request) -> Result<(StatusCode, String)> {
    let outcome: Result<Value> = with_token(lab, token, async |client: Client| match *method {
        "GET" => client.get(path).await,
        "PUT" => client.put(path, body).await.map(|(_, value)| value),
        "POST" => client.post(path, body).await,
        _ => client.delete(path).await.map(|()| Value::Null),
    });
    match outcome {
        Ok(value) => bail!("{method} {path} is answered: {value}"),
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(Failure::Refused { status, error }) => Ok((*status, format!("{error:?}"))),
            _ => Err(error.context(format!("{method} {path}"))),
        },
    }
}

/// Requires that each of these is refused as it should, is counted under that status, and changes nothing.
fn refused(lab: &Lab, token: &str, requests: &[(Request, StatusCode)]) -> Result<()> {
    let (before, revision) = (service::scrape(lab)?, provision::status(lab)?.revision);
    for (request, wanted) in requests {
        let (status, said) = ask(lab, token, request)?;
        ensure!(status == *wanted, "{} {}: {status} {said}", request.0, request.1);
    }
    let now = service::scrape(lab)?;
    for (_, status) in requests {
        let wanted = requests.iter().filter(|(_, other)| other == status).count();
        let answered = |metrics: &Metrics| {
            metrics.sum("overlane_control_api_requests_total", &[("status", status.as_str())])
        };
        let counted = answered(&now) - answered(&before);
        ensure!(counted == wanted as f64, "{status} is counted {counted} times instead of {wanted}");
    }
    ensure!(provision::status(lab)?.revision == revision, "something has changed");
    Ok(())
}

/// Requires that the door turns away as many as there are requests, for this reason.
fn refused_at_the_door(
    lab: &Lab,
    token: &str,
    reason: &str,
    requests: &[(Request, StatusCode)],
) -> Result<()> {
    let before = turned_away(lab, reason)?;
    refused(lab, token, requests)?;
    let counted = turned_away(lab, reason)? - before;
    ensure!(counted == requests.len() as u64, "{reason} is counted {counted} times");
    Ok(())
}

/// Requires that the attacker's node does not reach the victim's, and that the victim's neighbours still do.
fn nothing_has_opened(lab: &Lab) -> Result<()> {
    let (attacker, victim) = (lab.node(ATTACKER)?, lab.node(VICTIM)?);
    expect_drops(lab, &attacker.host, &[(DropReason::NoMapping, 2)], || {
        let pinged = ping(&lab.namespace(&attacker.id), victim.ipv4, 2)?;
        ensure!(pinged.received == 0, "{} reaches {}", attacker.id, victim.id);
        Ok(())
    })?;
    for neighbour in ["acme-2", "acme-3"] {
        let pinged = ping(&lab.namespace(neighbour), victim.ipv4, 2)?;
        ensure!(pinged.is_complete(), "{neighbour} does not reach {}", victim.id);
    }
    Ok(())
}

fn reach(lab: &Lab) -> Result<()> {
    let (attacker, victim) = (lab.node(ATTACKER)?, lab.node(VICTIM)?);
    let spoofed = NodeSpec {
        entity: attacker.entity.clone(),
        ..node_spec(&Node { id: "intruder".to_owned(), ..victim.clone() }, AttachmentKind::Veth)
    };
    let mut rule = rule_about(&attacker, Direction::Ingress, Action::Allow);
    rule.on = Selector { node: Some(victim.id.clone()), ..Selector::default() };
    let peering = PeeringSpec {
        networks: vec![attacker.network.clone(), victim.network.clone()],
        default_action: DefaultAction::Allow,
    };
    let others_rule = rule_about(&victim, Direction::Ingress, Action::Allow);
    let no = Value::Null;
    let inner = vec![
        (("GET", format!("/v1/nodes/{VICTIM}"), no.clone()), StatusCode::NOT_FOUND),
        (("GET", format!("/v1/networks/{}", victim.network), no.clone()), StatusCode::NOT_FOUND),
        (("GET", format!("/v1/entities/{}", victim.entity), no.clone()), StatusCode::NOT_FOUND),
        (("DELETE", format!("/v1/nodes/{VICTIM}"), no.clone()), StatusCode::NOT_FOUND),
        (("DELETE", format!("/v1/networks/{}", victim.network), no.clone()), StatusCode::NOT_FOUND),
        (("PUT", format!("/v1/nodes/{VICTIM}"), json!(spoofed)), StatusCode::CONFLICT),
        (("PUT", "/v1/nodes/intruder".to_owned(), json!(spoofed)), StatusCode::FORBIDDEN),
        (("PUT", "/v1/rules/mine".to_owned(), json!(rule)), StatusCode::BAD_REQUEST),
        (("PUT", "/v1/rules/theirs".to_owned(), json!(others_rule)), StatusCode::BAD_REQUEST),
        (("PUT", "/v1/peerings/ours".to_owned(), json!(peering)), StatusCode::BAD_REQUEST),
    ];
    let elsewhere = json!({"host": "host-b", "interfaces": []});
    let token = json!({"role": "operator"});
    let at_the_door = vec![
        (("GET", "/v1/hosts".to_owned(), no.clone()), StatusCode::FORBIDDEN),
        (("GET", "/v1/status".to_owned(), no.clone()), StatusCode::FORBIDDEN),
        (("GET", "/v1/events".to_owned(), no.clone()), StatusCode::FORBIDDEN),
        (("GET", "/v1/backup".to_owned(), no.clone()), StatusCode::FORBIDDEN),
        (("GET", "/v1/tokens".to_owned(), no.clone()), StatusCode::FORBIDDEN),
        (("POST", "/v1/tokens".to_owned(), token), StatusCode::FORBIDDEN),
        (("POST", format!("/v1/nodes/{VICTIM}/move"), elsewhere), StatusCode::FORBIDDEN),
        (("PUT", format!("/v1/entities/{}", attacker.entity), json!({})), StatusCode::FORBIDDEN),
        (("DELETE", format!("/v1/entities/{}", victim.entity), no), StatusCode::FORBIDDEN),
    ];
    with_token_of(lab, &attacker, |token| {
        refused(lab, token, &inner)?;
        refused_at_the_door(lab, token, "forbidden", &at_the_door)?;
        // A list has what is its own, and its own is there.
        let seen: Value = with_token(lab, token, async |client: Client| client.get("/v1/nodes").await)?;
        let seen: Vec<&str> =
            seen["items"].as_array().into_iter().flatten().filter_map(|node| node["id"].as_str()).collect();
        ensure!(seen == ["initech-1", "initech-3"], "{seen:?}");
        // What is not the attacker's and what is not at all look the same.
        let about = |id: &str| ("GET", format!("/v1/nodes/{id}"), Value::Null);
        let (theirs, nobodys) = (ask(lab, token, &about(VICTIM))?, ask(lab, token, &about("nobody"))?);
        ensure!(theirs.1.replace(VICTIM, "nobody") == nobodys.1, "{theirs:?} and {nobodys:?}");
        nothing_has_opened(lab)
    })
}

fn useless(lab: &Lab) -> Result<()> {
    let mut revoked = String::new();
    with_token_of(lab, &lab.node(ATTACKER)?, |token| {
        revoked = token.to_owned();
        with_token(lab, token, async |client: Client| client.get::<Value>("/v1/nodes").await).map(|_| ())
    })?;
    let secret = revoked.len().checked_sub(SECRET).context("a token that is long enough")?;
    let guessed = format!("{}{}", &revoked[..secret], "A".repeat(SECRET));
    let list = (("GET", "/v1/nodes".to_owned(), Value::Null), StatusCode::UNAUTHORIZED);
    for token in [&revoked, &guessed, "ovl_nobody"] {
        refused_at_the_door(lab, token, "unauthenticated", std::slice::from_ref(&list))?;
    }
    nothing_has_opened(lab)
}
