//! What is created, listed, shown and deleted, and how all kinds are alike.

use std::io;

use anyhow::{Context as _, bail};
use overlane_api::resource::{ID_LEGAL, ListQuery, MAX_PAGE, Page, is_id};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::output::Printer;

pub mod audit;
pub mod drain;
pub mod entity;
pub mod event;
pub mod host;
pub mod moving;
pub mod network;
pub mod node;
pub mod peering;
pub mod rule;
pub mod token;
mod when;
pub(crate) mod workers;

/// What the commands of every kind of resource need to know about it.
pub(crate) trait Resource: Serialize + DeserializeOwned {
    /// In messages.
    const KIND: &'static str;
    /// In the API's paths.
    const COLLECTION: &'static str;
    /// Of a list's columns.
    const HEADER: &'static [&'static str];

    /// Its line in a list, in the order of the header.
    fn row(&self) -> Vec<String>;

    /// Everything about it, for people.
    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()>;

    /// Where one of these is in the API.
    fn path(id: &str) -> String {
        format!("/v1/{}/{id}", Self::COLLECTION)
    }
}

/// An id on the command line.
pub(crate) fn parse_id(text: &str) -> Result<String, String> {
    if is_id(text) { Ok(text.to_owned()) } else { Err(format!("legal: {ID_LEGAL}")) }
}

pub(crate) async fn create<R: Resource>(
    client: &Client,
    printer: &mut Printer<'_>,
    id: &str,
    spec: &impl Serialize,
) -> anyhow::Result<()> {
    let (created, resource): (bool, R) = client.put(&R::path(id), spec).await?;
    if printer.is_json() {
        printer.json(&resource)?;
    } else {
        let done = if created { "created" } else { "was there already and is as asked" };
        printer.line(&format!("{} {id} {done}", R::KIND))?;
        resource.show(printer)?;
    }
    Ok(())
}

pub(crate) async fn show<R: Resource>(
    client: &Client,
    printer: &mut Printer<'_>,
    id: &str,
) -> anyhow::Result<()> {
    let resource: R = client.get(&R::path(id)).await?;
    if printer.is_json() {
        printer.json(&resource)?
    } else {
        resource.show(printer)?
    }
    Ok(())
}

pub(crate) async fn delete<R: Resource>(
    client: &Client,
    printer: &mut Printer<'_>,
    id: &str,
) -> anyhow::Result<()> {
    client.delete(&R::path(id)).await?;
    Ok(printer.line(&format!("{} {id} deleted", R::KIND))?)
}

/// Lists all that `filter` lets through, or the first `limit` of them.
pub(crate) async fn list<R: Resource>(
    client: &Client,
    printer: &mut Printer<'_>,
    filter: ListQuery,
    limit: Option<u64>,
) -> anyhow::Result<()> {
    let items: Vec<R> = collect(client, filter, limit).await?;
    if printer.is_json() {
        printer.json(&items)?;
    } else {
        printer.table(R::HEADER, items.iter().map(R::row))?;
    }
    Ok(())
}

/// Reads page after page.
pub(super) async fn collect<R: Resource>(
    client: &Client,
    filter: ListQuery,
    limit: Option<u64>,
) -> anyhow::Result<Vec<R>> {
    let limit = limit.unwrap_or(u64::MAX);
    let mut items: Vec<R> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let wanted = limit - items.len() as u64;
        let page = u32::try_from(wanted).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let query = ListQuery { limit: Some(page), after: after.clone(), ..filter.clone() };
        let page: Page<R> = client.get(&list_path(R::COLLECTION, &query)).await?;
        let room = usize::try_from(wanted).unwrap_or(usize::MAX);
        items.extend(page.items.into_iter().take(room));
        match page.next {
            Some(next) if (items.len() as u64) < limit => {
                // Ids only grow from page to page: a service that says otherwise would keep us here for ever.
                if !is_id(&next) || after.as_ref().is_some_and(|after| next <= *after) {
                    bail!("the service's list does not go on: {next:?} comes after {after:?}");
                }
                after = Some(next);
            }
            _ => return Ok(items),
        }
    }
}

/// All values are numbers and ids, which need no escaping in a URL.
fn list_path(collection: &str, query: &ListQuery) -> String {
    let parts = [
        ("limit", query.limit.map(|limit| limit.to_string())),
        ("after", query.after.clone()),
        ("entity", query.entity.clone()),
        ("network", query.network.clone()),
        ("host", query.host.clone()),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
    format!("/v1/{collection}?{}", parts.join("&"))
}

/// Splits `key=value,key=value`; a part without `=` is the value of `first`, where there is such a key.
pub(crate) fn parse_pairs<'a>(
    text: &'a str,
    first: Option<&'a str>,
    keys: &[&str],
) -> anyhow::Result<Vec<(&'a str, &'a str)>> {
    let mut pairs = Vec::new();
    for (index, part) in text.split(',').enumerate() {
        let (key, value) = match (part.split_once('='), first) {
            (Some(pair), _) => pair,
            (None, Some(first)) if index == 0 => (first, part),
            (None, _) => bail!("{part:?} is not of the form KEY=VALUE; legal keys: {}", keys.join(", ")),
        };
        if !keys.contains(&key) && first != Some(key) {
            bail!("unknown key {key:?}; legal: {}", keys.join(", "));
        }
        if value.is_empty() {
            bail!("{key} is empty");
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// The one value of `key`.
pub(crate) fn single<'a>(pairs: &[(&str, &'a str)], key: &str) -> anyhow::Result<Option<&'a str>> {
    let mut values = pairs.iter().filter(|(name, _)| *name == key).map(|(_, value)| *value);
    let value = values.next();
    if values.next().is_some() {
        bail!("{key} is given more than once");
    }
    Ok(value)
}

/// The same, where it must be given.
pub(crate) fn required<'a>(pairs: &[(&str, &'a str)], key: &str) -> anyhow::Result<&'a str> {
    single(pairs, key)?.with_context(|| format!("{key}=… is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_on_the_command_line_are_those_of_the_api() {
        assert_eq!(parse_id("web-1").as_deref(), Ok("web-1"));
        for bad in ["", "Web", "a/b", "a?b", "-a", "a b", "..", "é"] {
            assert!(parse_id(bad).unwrap_err().contains("a-z"), "{bad}");
        }
    }

    #[test]
    fn a_list_asks_for_what_was_filtered() {
        let query = ListQuery {
            limit: Some(7),
            after: Some("a".into()),
            entity: Some("e".into()),
            network: Some("n".into()),
            host: Some("h".into()),
        };
        assert_eq!(list_path("nodes", &query), "/v1/nodes?limit=7&after=a&entity=e&network=n&host=h");
    }

    #[test]
    fn pairs_that_make_no_sense_are_refused_with_what_would() {
        let keys = ["name", "slot"];
        assert_eq!(parse_pairs("name=a,slot=1", None, &keys).unwrap(), [("name", "a"), ("slot", "1")]);
        assert_eq!(parse_pairs("x,slot=1", Some("cidr"), &keys).unwrap(), [("cidr", "x"), ("slot", "1")]);
        for (bad, said) in
            [("a", "KEY=VALUE"), ("nme=a", "name, slot"), ("name=", "name is empty"), ("", "KEY=VALUE")]
        {
            let error = parse_pairs(bad, None, &keys).unwrap_err().to_string();
            assert!(error.contains(said), "{bad}: {error}");
        }
        let pairs = [("name", "a"), ("name", "b")];
        assert!(single(&pairs, "name").unwrap_err().to_string().contains("more than once"));
        assert!(required(&pairs, "slot").unwrap_err().to_string().contains("slot"));
    }
}
