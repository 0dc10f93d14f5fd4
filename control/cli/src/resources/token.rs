//! `overlane token`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use overlane_api::access::{Token, TokenRole, TokenSpec};
use overlane_api::resource::ListQuery;

use super::when::{parse_seconds, utc};
use super::{Resource, parse_id};
use crate::args::ListArgs;
use crate::client::Client;
use crate::output::Printer;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a token; its secret is told this once
    #[command(after_help = "\
Whoever has the secret is who the token says. With an entity's token only that entity's networks, nodes, rules and peerings
exist. Name a file with the secret in cli.toml (token_file = …), by --token-file or in OVERLANE_TOKEN_FILE; no certificate is
needed then.

Examples:
  overlane token create acme-ci --entity acme --expires-in 90d --secret-file acme.token
  overlane token create --operator --name 'the orchestrator'")]
    Create(CreateArgs),
    /// Lists tokens, without their secrets
    List {
        /// Only those of this entity
        #[arg(long, value_parser = parse_id)]
        entity: Option<String>,
        /// How many.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Shows one token, without its secret
    Show {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Deletes a token: it is good for nothing from now on
    Delete {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
}

/// A token.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its id [default: the service's choice]
    #[arg(value_parser = parse_id)]
    id: Option<String>,
    /// For the networks, nodes, rules and peerings of this entity
    #[arg(long, value_parser = parse_id, required_unless_present = "operator", conflicts_with = "operator")]
    entity: Option<String>,
    /// For everything
    #[arg(long)]
    operator: bool,
    /// For people: what or whom it is for; up to 256 bytes
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// When it ends: a number with s, m, h or d behind it, 60s to 3650d [default: never]
    #[arg(long, value_name = "SPAN", value_parser = parse_seconds)]
    expires_in: Option<u64>,
    /// Write the secret to this file, which must not exist, instead of showing it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl Resource for Token {
    const KIND: &'static str = "token";
    const COLLECTION: &'static str = "tokens";
    const HEADER: &'static [&'static str] = &["ID", "ROLE", "ENTITY", "EXPIRES", "LAST USED", "NAME"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.role.name().to_owned(),
            self.entity.clone().unwrap_or_else(|| "-".to_owned()),
            expires(self),
            self.last_used.map_or_else(|| "-".to_owned(), utc),
            self.name.clone(),
        ]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        let mut facts = vec![("token", self.id.clone()), ("role", self.role.name().to_owned())];
        facts.extend(self.entity.clone().map(|entity| ("entity", entity)));
        facts.extend([
            ("name", self.name.clone()),
            ("created", utc(self.created)),
            ("expires", expires(self)),
            ("last used", self.last_used.map_or_else(|| "not since the service was started".to_owned(), utc)),
            ("revision", self.revision.to_string()),
        ]);
        facts.extend(self.secret.clone().map(|secret| ("secret (told this once)", secret)));
        printer.facts(facts)
    }
}

fn expires(token: &Token) -> String {
    match (token.expires, token.expired) {
        (None, _) => "never".to_owned(),
        (Some(at), false) => utc(at),
        (Some(at), true) => format!("{} (expired)", utc(at)),
    }
}

async fn create(args: CreateArgs, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let CreateArgs { id, entity, operator: _, name, expires_in, secret_file } = args;
    let role = if entity.is_some() { TokenRole::Entity } else { TokenRole::Operator };
    let spec = TokenSpec { name, role, entity, expires_in };
    let Some(path) = secret_file else {
        let (created, token) = ask(client, id, &spec).await?;
        return told(created, &token, printer);
    };
    // Made before the secret is told, which is told once.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("{}: cannot be made", path.display()))?;
    let outcome = async {
        let (created, mut token) = ask(client, id, &spec).await?;
        let Some(secret) = token.secret.take() else {
            bail!("token {} was there already: its secret was told when it was made", token.id);
        };
        writeln!(file, "{secret}").and_then(|()| file.sync_all())?;
        Ok((created, token))
    };
    match outcome.await {
        Ok((created, token)) => told(created, &token, printer),
        Err(error) => {
            // Nothing is in it; the error says why.
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

async fn ask(client: &Client, id: Option<String>, spec: &TokenSpec) -> anyhow::Result<(bool, Token)> {
    Ok(match id {
        Some(id) => client.put(&Token::path(&id), spec).await?,
        None => (true, client.post("/v1/tokens", spec).await?),
    })
}

fn told(created: bool, token: &Token, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    if printer.is_json() {
        return Ok(printer.json(token)?);
    }
    let done = if created { "created" } else { "was there already; its secret was told when it was made" };
    printer.line(&format!("token {} {done}", token.id))?;
    Ok(token.show(printer)?)
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create(args, client, printer).await,
        Command::List { entity, list } => {
            let filter = ListQuery { entity, ..ListQuery::default() };
            super::list::<Token>(client, printer, filter, list.limit).await
        }
        Command::Show { id } => super::show::<Token>(client, printer, &id).await,
        Command::Delete { id } => super::delete::<Token>(client, printer, &id).await,
    }
}
