//! `overlane event`.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use overlane_api::event::{Event, EventKind, EventQuery};
use overlane_api::resource::{MAX_PAGE, Page};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::parse_id;
use crate::client::Client;
use crate::output::Printer;

/// How often the service is asked for what is new, while events are followed.
const FOLLOW: Duration = Duration::from_secs(2);

/// What to do with events.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists what went wrong, the latest last
    #[command(after_help = "\
What happens again within an hour is counted in the event that tells it already. A host is named as FROM when the prefix
that packets came from is its own; what is told by `the service` it found out itself.

Examples:
  overlane event list --kind verification_failed
  overlane event list --host rack1-a --follow")]
    List {
        /// Only those of this kind: verification_failed, node_spoofing, resolution_refused or inconsistency
        #[arg(long)]
        kind: Option<EventKind>,
        /// Only those that this host's engine tells, or whose packets came from its prefix
        #[arg(long, value_parser = parse_id)]
        host: Option<String>,
        /// Only those about this entity
        #[arg(long, value_parser = parse_id)]
        entity: Option<String>,
        /// Only those with a higher number
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
        /// Goes on and shows new events as they come, until interrupted (JSON: one list after the other)
        #[arg(long, conflicts_with = "limit")]
        follow: bool,
        /// Show the latest so many [default: all]
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
}

const HEADER: &[&str] = &["ID", "LAST", "COUNT", "KIND", "REASON", "TOLD BY", "FROM", "ABOUT", "DETAIL"];

/// An event's line in the list.
fn row(event: &Event) -> Vec<String> {
    let from = match (&event.from_host, &event.prefix) {
        (Some(host), Some(prefix)) => format!("{host} ({prefix})"),
        (host, prefix) => host.clone().or_else(|| prefix.clone()).unwrap_or_else(|| "-".to_owned()),
    };
    let about = [
        event.interface.clone(),
        event.subject.clone(),
        event.vnet.map(|vnet| format!("vnet {vnet}")),
        event.entity.as_ref().map(|entity| format!("of {entity}")),
    ];
    let about: Vec<String> = about.into_iter().flatten().collect();
    vec![
        event.id.to_string(),
        time(event.last_seen),
        event.count.to_string(),
        event.kind.to_string(),
        event.reason.clone(),
        event.host.clone().unwrap_or_else(|| "the service".to_owned()),
        from,
        if about.is_empty() { "-".to_owned() } else { about.join(", ") },
        event.detail.clone(),
    ]
}

/// Seconds since 1970 as UTC, like `2026-01-31T07:08:09Z` (RFC 3339).
fn time(seconds: u64) -> String {
    let time =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{seconds} s"))
}

/// All values are numbers, names and ids, which need no escaping in a URL.
fn path(query: &EventQuery) -> String {
    let parts = [
        ("limit", query.limit.map(|limit| limit.to_string())),
        ("after", query.after.map(|after| after.to_string())),
        ("kind", query.kind.map(|kind| kind.to_string())),
        ("host", query.host.clone()),
        ("entity", query.entity.clone()),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
    format!("/v1/events?{}", parts.join("&"))
}

/// Reads page after page, and leaves `query` behind the last event.
async fn collect(client: &Client, query: &mut EventQuery) -> anyhow::Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    query.limit = Some(MAX_PAGE);
    loop {
        let page: Page<Event> = client.get(&path(query)).await?;
        let last = page.items.last().map(|event| event.id);
        events.extend(page.items);
        let Some(next) = page.next else {
            query.after = last.max(query.after);
            return Ok(events);
        };
        // Numbers only grow from page to page: a service that says otherwise would keep us here for ever.
        match next.parse::<u64>() {
            Ok(number) if query.after.is_none_or(|after| number > after) => query.after = Some(number),
            _ => bail!("the service's list does not go on: {next:?} comes after {:?}", query.after),
        }
    }
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let Command::List { kind, host, entity, after, follow, limit } = command;
    let mut query = EventQuery { kind, host, entity, after, limit: None };
    let mut events = collect(client, &mut query).await?;
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) {
        events.drain(..events.len().saturating_sub(limit));
    }
    let mut first = true;
    loop {
        if first || !events.is_empty() {
            if printer.is_json() {
                printer.json(&events)?;
            } else if !first {
                printer.rows(events.iter().map(row))?;
            } else {
                printer.table(HEADER, events.iter().map(row))?;
            }
            printer.flush()?;
        }
        if !follow {
            return Ok(());
        }
        first = false;
        tokio::time::sleep(FOLLOW).await;
        events = match collect(client, &mut query).await {
            Ok(events) => events,
            // A service that is restarted is there again in a moment, and its events with it.
            Err(error) if error.downcast_ref().is_some_and(crate::client::Failure::is_passing) => Vec::new(),
            Err(error) => return Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_calendar_has_are_shown_as_they_are() {
        assert_eq!(time(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 s");
    }

    #[test]
    fn a_query_asks_for_what_was_filtered() {
        let query = EventQuery {
            limit: Some(7),
            after: Some(8),
            kind: Some(EventKind::NodeSpoofing),
            host: Some("a".into()),
            entity: Some("e".into()),
        };
        assert_eq!(path(&query), "/v1/events?limit=7&after=8&kind=node_spoofing&host=a&entity=e");
    }
}
