//! `make test` ends with a line of totals that people trust: the script that makes it is tested too.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the script says to `log`, and whether it ends well.
fn summary(log: &str) -> (String, bool) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-summary");
    let mut child = Command::new("awk")
        .arg("-f")
        .arg(script)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("awk is on every Debian");
    child.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

const GOOD: &str = "
     Running unittests src/lib.rs (target/debug/deps/a-1)

running 2 tests
test one ... ok
test two ... ignored, not root

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests a

running 3 tests
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

#[test]
fn totals_are_summed_over_all_binaries_and_skipped_tests_are_named() {
    let (said, well) = summary(GOOD);
    assert!(well, "{said}");
    assert!(said.contains("SKIPPED unittests src/lib.rs (target/debug/deps/a-1): two (not root)"), "{said}");
    assert_eq!(said.lines().last(), Some("4 passed, 0 failed, 1 skipped"));
}

#[test]
fn a_test_that_decides_at_run_time_is_named_with_its_reason() {
    let log = "
     Running tests/b.rs (target/debug/deps/b-1)
SKIPPED five: needs root
test five ... ignored
test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
    let (said, well) = summary(log);
    assert!(well, "{said}");
    assert!(said.contains("deps/b-1): five (needs root)"), "{said}");
    assert_eq!(said.lines().last(), Some("0 passed, 0 failed, 1 skipped"));
}

#[test]
fn a_failed_test_is_named_and_fails_the_run() {
    let log = format!(
        "{GOOD}
     Running tests/b.rs (target/debug/deps/b-1)
test three ... FAILED
test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
"
    );
    let (said, well) = summary(&log);
    assert!(!well, "{said}");
    assert!(said.contains("FAILED tests/b.rs (target/debug/deps/b-1): three"), "{said}");
    assert_eq!(said.lines().last(), Some("6 passed, 1 failed, 1 skipped"));
}

#[test]
fn the_end_of_what_a_failed_test_says_is_said_again_under_its_name() {
    for header in ["---- a::three ----", "---- a::three stdout ----"] {
        let words: String = (1..=20).map(|number| format!("line {number}.\n")).collect();
        let log = format!(
            "     Running tests/b.rs (target/debug/deps/b-1)
test a::three ... FAILED

failures:

{header}
{words}

failures:
    a::three

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
"
        );
        let (said, _) = summary(&log);
        let (_, failed) = said.split_once("a::three\n").unwrap();
        let words: Vec<&str> = failed.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        assert_eq!(words, (13..=20).map(|number| format!("line {number}.")).collect::<Vec<_>>(), "{said}");
    }
}

#[test]
fn a_binary_that_dies_before_its_result_is_a_failure() {
    for rest in ["", GOOD] {
        let log = format!("     Running tests/c.rs (target/debug/deps/c-1)\ntest four ... ok\n{rest}");
        let (said, well) = summary(&log);
        assert!(!well, "{said}");
        assert!(said.contains("c-1): died before it told its result"), "{said}");
    }
}

#[test]
fn a_run_without_any_test_is_not_a_success() {
    let (said, well) = summary("error: could not compile `a`\n");
    assert!(!well, "{said}");
    assert!(said.contains("No test ran."), "{said}");
}
