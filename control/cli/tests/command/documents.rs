//! Man pages, completions and help are made from the command line that is parsed, for every command.

use clap::{Command, CommandFactory as _, Parser as _};
use overlane_cli::args::Cli;

/// The full names of all commands, as `git` would write their man pages: `overlane-node-move`.
fn names(command: &Command, prefix: &str, into: &mut Vec<String>) {
    for sub in command.get_subcommands() {
        let name = format!("{prefix}-{}", sub.get_name());
        names(sub, &name, into);
        into.push(name);
    }
}

fn run(args: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    overlane_cli::run(Cli::try_parse_from(args).unwrap(), &mut out).unwrap();
    out
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_a_man_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    run(&["overlane", "man", pages.to_str().unwrap()]);
    let mut expected = vec!["overlane".to_owned()];
    names(&Cli::command(), "overlane", &mut expected);
    assert!(expected.contains(&"overlane-node-move".to_owned()));
    for name in expected {
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).expect(&name);
        assert!(page.contains(".SH NAME"), "{name}");
    }
}

#[test]
fn every_shell_completes_every_kind_of_resource() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = String::from_utf8(run(&["overlane", "completions", shell])).unwrap();
        for word in ["entity", "network", "host", "node", "move", "no-wait", "output"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
}

#[test]
fn creating_teaches_by_example() {
    let mut root = Cli::command();
    root.build();
    for kind in ["entity", "network", "host", "node"] {
        let create = root.find_subcommand_mut(kind).unwrap().find_subcommand_mut("create").unwrap();
        let help = create.render_long_help().to_string();
        let (_, examples) = help.split_once("Example:").or_else(|| help.split_once("Examples:")).expect(kind);
        let lines: String = examples.lines().skip(1).take_while(|line| !line.is_empty()).collect();
        // Each is parsed as a shell would, so that it can be typed as it stands.
        for line in lines.split("  overlane ").skip(1) {
            let words: Vec<String> = line
                .replace('\\', " ")
                .split('\'')
                .enumerate()
                .flat_map(|(index, part)| match index % 2 {
                    0 => part.split_whitespace().map(str::to_owned).collect(),
                    _ => vec![part.to_owned()],
                })
                .collect();
            let words = [vec!["overlane".to_owned()], words].concat();
            Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }
}

#[test]
fn a_bad_command_line_says_what_would_be_legal() {
    for (bad, said) in [
        (&["overlane", "node", "show", "Web/1"][..], "a-z"),
        (&["overlane", "entity", "list", "--output", "xml"], "table"),
        (&["overlane", "host", "create", "a"], "--prefix"),
        (&["overlane", "node", "move", "web"], "--to"),
        (&["overlane", "network", "create", "a", "--entity", "b", "--subnet", "10.0.0.0/8,gw=1"], "gateway"),
        (&["overlane", "node", "list", "--limit", "0"], "1.."),
    ] {
        let error = Cli::try_parse_from(bad).unwrap_err();
        assert!(error.use_stderr());
        assert!(error.to_string().contains(said), "{bad:?}: {error}");
    }
}
