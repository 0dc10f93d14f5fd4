//! The harness does one quick row, and what it writes can be read.

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::Command;

fn main() {
    let name = "quick_row_is_measured_and_its_json_tells_what_the_exit_status_tells";
    let trial = Trial::test(name, quick_row);
    let on_path = |program: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
    };
    let missing = match () {
        () if !nix::unistd::Uid::effective().is_root() => Some("root, as the engine's workers have it"),
        () if !on_path("dpdk-testpmd") => Some("dpdk-testpmd, which is in Debian's dpdk-dev"),
        () => None,
    };
    if let Some(missing) = missing {
        eprintln!("SKIPPED {name}: needs {missing}");
    }
    libtest_mimic::run(&Arguments::from_args(), vec![trial.with_ignored_flag(missing.is_some())]).exit();
}

fn quick_row() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let json = directory.path().join("rates.json");
    // The smallest of the rows with a budget; an unoptimised engine may well be below it.
    let output = Command::new(env!("CARGO_BIN_EXE_overlane-rate"))
        .args(["--quick", "--row", "4to6/64B/1k", "--json"])
        .arg(&json)
        .output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let written = std::fs::read_to_string(&json).map_err(|error| format!("{error}; it said:\n{text}"))?;
    let report: serde_json::Value = serde_json::from_str(&written)?;
    let status = if report["passed"].as_bool().ok_or("passed is neither true nor false")? { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(status), "{text}");
    // The capsule driver's row has it in its name, too.
    let rows = report["rows"].as_array().ok_or("rows are no list")?;
    let skipped = report["skipped"].as_array().ok_or("what is skipped is no list")?;
    let names: Vec<_> = rows.iter().chain(skipped).map(|row| row["name"].as_str().unwrap_or("")).collect();
    assert_eq!(names, ["4to6/64B/1k", "capsule/4to6/64B/1k"], "{written}");
    let row = rows.first().ok_or("no row was measured")?;
    let number = |value: &serde_json::Value| value.as_f64().filter(|number| *number > 0.0);
    for row in rows {
        for value in [&row["nanoseconds"], &row["baseline_nanoseconds"], &row["ratio"]["median"]] {
            number(value).ok_or_else(|| format!("{value} is no measure: {written}"))?;
        }
    }
    assert_eq!((row["floor"].as_f64(), row["aim"].as_f64()), (Some(0.4), Some(0.55)));
    assert!(text.contains("4to6/64B/1k"), "{text}");
    Ok(())
}
