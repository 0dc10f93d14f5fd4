//! Values of enumerations that have other names since 21.11. (Those of macros are in `csrc/shim.h`.)

/// How received packets are spread over queues.
pub mod rte_eth_rx_mq_mode {
    pub use crate::sys::rte_eth_rx_mq_mode::{RTE_ETH_MQ_RX_RSS as ETH_MQ_RX_RSS, Type};
}
