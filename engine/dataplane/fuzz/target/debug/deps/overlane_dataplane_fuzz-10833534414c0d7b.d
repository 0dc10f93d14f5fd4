/work/main/engine/dataplane/fuzz/target/debug/deps/overlane_dataplane_fuzz-10833534414c0d7b.d: /work/main/clippy.toml src/lib.rs src/input.rs Cargo.toml

/work/main/engine/dataplane/fuzz/target/debug/deps/liboverlane_dataplane_fuzz-10833534414c0d7b.rmeta: /work/main/clippy.toml src/lib.rs src/input.rs Cargo.toml

/work/main/clippy.toml:
src/lib.rs:
src/input.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
