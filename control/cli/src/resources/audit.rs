//! `overlane audit`.

use std::time::Duration;

use anyhow::bail;
use overlane_api::access::{AuditEntry, AuditPage, AuditQuery};
use overlane_api::resource::MAX_PAGE;

use super::parse_id;
use super::when::utc;
use crate::client::Client;
use crate::output::Printer;

/// How often the service is asked for what is new, while the log is followed.
const FOLLOW: Duration = Duration::from_secs(2);

/// Which part of the audit log to show.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  overlane audit --entity acme
  overlane audit --actor token/acme-ci --follow")]
pub struct Args {
    /// Only what was done to this entity and what it owns
    #[arg(long, value_parser = parse_id)]
    entity: Option<String>,
    /// Only what this one did: token/ID or certificate/NAME
    #[arg(long, value_name = "WHO", value_parser = parse_actor)]
    actor: Option<String>,
    /// Only what came after this revision
    #[arg(long, value_name = "REVISION")]
    after: Option<u64>,
    /// Goes on and shows new entries as they come, until interrupted (JSON: one list after the other)
    #[arg(long, conflicts_with = "limit")]
    follow: bool,
    /// Show the latest so many [default: all]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

const HEADER: &[&str] = &["REVISION", "TIME", "WHO", "FROM", "WHAT", "SUMMARY"];

/// What there can be in a log: `anybody`, or a kind, a slash, and a name that needs no escaping in a URL.
fn parse_actor(text: &str) -> Result<String, String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    let legal = match text.split_once('/') {
        Some(("token" | "certificate", name)) => is_name(name),
        Some(_) => false,
        None => text == "anybody",
    };
    if legal { Ok(text.to_owned()) } else { Err("legal: token/ID or certificate/NAME".to_owned()) }
}

fn row(entry: &AuditEntry) -> Vec<String> {
    vec![
        entry.revision.to_string(),
        utc(entry.time),
        entry.actor.clone(),
        entry.source.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{} {} {}", entry.verb, entry.kind, entry.id),
        entry.summary.clone(),
    ]
}

/// All values are numbers, names and ids, which need no escaping in a URL.
fn path(query: &AuditQuery) -> String {
    let parts = [
        ("limit", query.limit.map(|limit| limit.to_string())),
        ("after", query.after.map(|after| after.to_string())),
        ("entity", query.entity.clone()),
        ("actor", query.actor.clone()),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
    format!("/v1/audit?{}", parts.join("&"))
}

/// Reads page after page, and leaves `query` behind the last entry; of more than `most` the latest are kept.
async fn collect(client: &Client, query: &mut AuditQuery, most: usize) -> anyhow::Result<Vec<AuditEntry>> {
    let mut entries: Vec<AuditEntry> = Vec::new();
    query.limit = Some(MAX_PAGE);
    loop {
        let page: AuditPage = client.get(&path(query)).await?;
        entries.extend(page.items);
        entries.drain(..entries.len().saturating_sub(most));
        // Revisions only grow from page to page: a service that says otherwise would keep us here for ever.
        if page.more && query.after.is_some_and(|after| page.next <= after) {
            bail!("the service's list does not go on: {} comes after {:?}", page.next, query.after);
        }
        query.after = Some(page.next);
        if !page.more {
            return Ok(entries);
        }
    }
}

pub(crate) async fn run(args: Args, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let Args { entity, actor, after, follow, limit } = args;
    let most = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut query = AuditQuery { entity, actor, after, limit: None };
    let mut entries = collect(client, &mut query, most).await?;
    let mut first = true;
    loop {
        if first || !entries.is_empty() {
            if printer.is_json() {
                printer.json(&entries)?;
            } else if first {
                printer.table(HEADER, entries.iter().map(row))?;
            } else {
                printer.rows(entries.iter().map(row))?;
            }
            printer.flush()?;
        }
        if !follow {
            return Ok(());
        }
        first = false;
        tokio::time::sleep(FOLLOW).await;
        entries = match collect(client, &mut query, most).await {
            Ok(entries) => entries,
            // A service that is restarted is there again in a moment, and its log with it.
            Err(error) if error.downcast_ref().is_some_and(crate::client::Failure::is_passing) => Vec::new(),
            Err(error) => return Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_for_needs_no_escaping() {
        for good in ["token/ci", "certificate/operator.example.net", "anybody"] {
            assert_eq!(parse_actor(good).as_deref(), Ok(good));
        }
        for bad in ["", "ci", "token/", "token/a b", "token/a&b=c", "host/a", "token/a/b"] {
            assert!(parse_actor(bad).unwrap_err().contains("token/ID"), "{bad}");
        }
    }
}
