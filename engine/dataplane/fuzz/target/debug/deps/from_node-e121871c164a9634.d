/work/main/engine/dataplane/fuzz/target/debug/deps/from_node-e121871c164a9634.d: /work/main/clippy.toml targets/from_node.rs Cargo.toml

/work/main/engine/dataplane/fuzz/target/debug/deps/libfrom_node-e121871c164a9634.rmeta: /work/main/clippy.toml targets/from_node.rs Cargo.toml

/work/main/clippy.toml:
targets/from_node.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
