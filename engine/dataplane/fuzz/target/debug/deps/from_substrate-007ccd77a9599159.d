/work/main/engine/dataplane/fuzz/target/debug/deps/from_substrate-007ccd77a9599159.d: /work/main/clippy.toml targets/from_substrate.rs Cargo.toml

/work/main/engine/dataplane/fuzz/target/debug/deps/libfrom_substrate-007ccd77a9599159.rmeta: /work/main/clippy.toml targets/from_substrate.rs Cargo.toml

/work/main/clippy.toml:
targets/from_substrate.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
