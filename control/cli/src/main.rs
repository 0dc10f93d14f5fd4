//! The `overlane` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    overlane_cli::main()
}
