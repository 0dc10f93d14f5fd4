//! Generates the sync protocol's types from `proto/`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let proto = "proto/overlane/v1/sync.proto";
    println!("cargo:rerun-if-changed={proto}");
    match tonic_prost_build::configure().compile_protos(&[proto], &["proto"]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot compile {proto}: {error}");
            eprintln!("(protoc comes with Debian's package protobuf-compiler)");
            ExitCode::FAILURE
        }
    }
}
