//! `overlane pki`: a certificate authority in a directory. No service is asked.

mod store;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use overlane_api::pki::{Kind, Serial};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::output::Printer;
use store::{Directory, Entry, Which};

const DAY: u64 = 24 * 3600;

/// An authority, and what to do with it.
#[derive(Debug, Args)]
#[command(after_help = "\
An authority, the service's certificate, an operator's and a host's; then a host is lost:
  overlane pki init
  overlane pki issue control.example.net --kind service
  overlane pki issue operator --kind operator
  overlane pki issue rack1-a --kind host
  overlane pki revoke rack1-a

ca.key is the site's master key: keep the directory where only its keeper comes. Hosts get ca.crt, ca.crl, and their own
NAME.crt and NAME.key. ca.crl runs out: renew it with `overlane pki crl` well before, and bring it to where it is used.")]
pub struct PkiArgs {
    /// Where the authority is kept
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/overlane/pki", global = true)]
    directory: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes an authority: ca.key, ca.crt and an empty ca.crl
    Init {
        /// What the authority is called in its certificate
        #[arg(long, default_value = "overlane")]
        name: String,
    },
    /// Makes a key and a certificate: NAME.key and NAME.crt
    Issue {
        /// The host's id, the service's DNS name, or the operator's name
        name: String,
        /// What it is for
        #[arg(long, value_enum)]
        kind: KindArg,
        #[command(flatten)]
        days: Days,
        /// Another DNS name or IP address that the certificate is for; may be repeated
        #[arg(long, value_name = "NAME")]
        san: Vec<String>,
    },
    /// Makes a new key and certificate in place of NAME's; the old one stays valid until its end
    Renew {
        /// Whose
        name: String,
        #[command(flatten)]
        days: Days,
        /// Take the old one back at once
        #[arg(long)]
        revoke: bool,
    },
    /// Takes certificates back and writes a new ca.crl
    Revoke {
        /// All valid certificates of this name
        #[arg(required_unless_present = "serial", conflicts_with = "serial")]
        name: Option<String>,
        /// Only the one with this serial number, of 32 hexadecimal digits
        #[arg(long)]
        serial: Option<Serial>,
    },
    /// Writes ca.crl anew, before it runs out
    Crl {
        /// How many days it is good for
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
    },
    /// Lists what was issued; certificates whose end is more than a year ago are forgotten
    List,
}

#[derive(Debug, Clone, Copy, Args)]
struct Days {
    /// How many days the certificate is valid
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

impl Days {
    const fn lifetime(self) -> Duration {
        Duration::from_secs(self.days * DAY)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    /// An engine
    Host,
    /// The service
    Service,
    /// Somebody who uses the API
    Operator,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Host => Self::Host,
            KindArg::Service => Self::Service,
            KindArg::Operator => Self::Operator,
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// A file that cannot be read or written, a name that is not legal, taken or unknown.
pub fn run(args: &PkiArgs, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let place = &args.directory;
    let done = match &args.command {
        Command::Init { name } => {
            Directory::init(place, name)?;
            return Ok(printer.line(&format!("{}: an authority, and an empty list", place.display()))?);
        }
        Command::Issue { name, kind, days, san } => {
            vec![Directory::open(place)?.issue(name, (*kind).into(), san, days.lifetime())?]
        }
        Command::Renew { name, days, revoke } => {
            vec![Directory::open(place)?.renew(name, days.lifetime(), *revoke)?]
        }
        Command::Revoke { name, serial } => {
            let which = match (name, serial) {
                (_, Some(serial)) => Which::Serial(*serial),
                (Some(name), None) => Which::Name(name),
                (None, None) => anyhow::bail!("give a name or --serial"),
            };
            Directory::open(place)?.revoke(which)?
        }
        Command::Crl { days } => {
            Directory::open(place)?.refresh(Duration::from_secs(days * DAY))?;
            return Ok(printer.line(&format!("{}: good for {days} days", place.join("ca.crl").display()))?);
        }
        Command::List => Directory::open(place)?.into_entries(),
    };
    show(&done, printer)?;
    Ok(())
}

fn show(entries: &[Entry], printer: &mut Printer<'_>) -> std::io::Result<()> {
    if printer.is_json() {
        return printer.json(entries);
    }
    let now = store::now();
    let rows = entries.iter().map(|entry| {
        let state = match entry.revoked {
            Some(at) => format!("revoked {}", date(at)),
            None if entry.not_after < now => "ended".to_owned(),
            None => "valid".to_owned(),
        };
        let kind = match entry.kind {
            Kind::Host => "host",
            Kind::Service => "service",
            Kind::Operator => "operator",
        };
        vec![entry.name.clone(), kind.to_owned(), entry.serial.clone(), date(entry.not_after), state]
    });
    printer.table(&["NAME", "KIND", "SERIAL", "UNTIL", "STATE"], rows)
}

fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s"))
}
