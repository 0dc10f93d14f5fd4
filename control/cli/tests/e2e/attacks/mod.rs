//! What an attacker may try: each attempt is refused under exactly one reason, counted as often as it was made, in one place,
//! and nothing of it arrives anywhere.
//!
//! The attackers are a node with a packet socket on its device, whoever writes frames on the link between the router and a
//! host, and whoever holds a token or a certificate. The hosts' kernels are as careless as can be: they route and answer ARP for others.

pub(crate) mod arp;
pub(crate) mod certificates;
pub(crate) mod evasions;
pub(crate) mod frames;
pub(crate) mod from_nodes;
pub(crate) mod from_substrate;
pub(crate) mod host_kernel;
pub(crate) mod instrument;
pub(crate) mod tokens;
