/work/main/engine/dataplane/fuzz/target/debug/deps/ipnet-9462092d02137db9.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipext.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipnet.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/mask.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/parser.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipnet_serde.rs

/work/main/engine/dataplane/fuzz/target/debug/deps/libipnet-9462092d02137db9.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipext.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipnet.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/mask.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/parser.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipnet_serde.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/lib.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipext.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipnet.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/mask.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/parser.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ipnet-2.12.2/src/ipnet_serde.rs:
