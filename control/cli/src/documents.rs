//! `overlane completions` and `overlane man`: both made from the very command line that is parsed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;

/// Arguments of `overlane completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  overlane completions bash > /usr/share/bash-completion/completions/overlane")]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `overlane man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  overlane man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The directory; made if it is not there
    pub directory: PathBuf,
}

/// Writes the completion script.
pub(crate) fn completions(args: &CompletionsArgs, to: &mut dyn Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "overlane", &mut script);
    to.write_all(&script)
}

/// Writes a man page for every command.
pub(crate) fn man(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("cannot write man pages into {}", directory.display()))
}
