/work/main/engine/dataplane/fuzz/target/debug/deps/quoted-b5abde1dd8a8a15e.d: /work/main/clippy.toml targets/quoted.rs Cargo.toml

/work/main/engine/dataplane/fuzz/target/debug/deps/libquoted-b5abde1dd8a8a15e.rmeta: /work/main/clippy.toml targets/quoted.rs Cargo.toml

/work/main/clippy.toml:
targets/quoted.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
