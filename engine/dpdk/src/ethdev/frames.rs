//! The largest frames of a device: what its driver tells, and what drivers keep to themselves.

use crate::{Devargs, Interface, sys};

/// Bytes of a frame around an IP packet: Ethernet header, two tags, frame check sequence.
const AROUND: u32 = 26;

/// Drivers that put a frame larger than a buffer into a chain without having said that they can.
const CHAINING: [&str; 4] = ["net_pcap", MEMIF, "net_ring", "net_null"];

/// `net_memif` passes frames of any size.
const MEMIF: &str = "net_memif";

/// `net_af_packet` cuts every frame to a slot of its rings, in both directions, whatever the MTU is.
const AF_PACKET: &str = "net_af_packet";
/// Bytes of its slots unless an argument says otherwise.
const SLOT: u32 = 2_048;
/// Bytes of a slot in front of a received frame's IP packet, and of a tag.
const SLOT_FRONT: u32 = 80 + 4;
/// Bytes of a slot that are for no packet that is sent; its pool's buffers must hold the others.
const SLOT_HEADER: u32 = 32;
/// Slots are made in such steps.
const SLOT_STEP: u32 = 1_024;

/// What a driver does with frames, beyond what it tells of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames {
    /// Bytes of a slot, if the driver cuts frames to slots.
    slot: Option<u32>,
    /// It makes chains of its own accord.
    chains: bool,
    /// It passes more than it tells of, which is no more than Ethernet's customary 1,500 and means nothing.
    understates: bool,
}

impl Frames {
    pub(super) fn of(devargs: &Devargs) -> Self {
        let slot = || devargs.value("framesz").and_then(|bytes| bytes.parse().ok()).unwrap_or(SLOT);
        Self {
            slot: devargs.is_of(AF_PACKET).then(slot),
            chains: CHAINING.iter().any(|driver| devargs.is_of(driver)),
            understates: devargs.is_of(AF_PACKET) || devargs.is_of(MEMIF),
        }
    }

    /// Bytes of the largest IP packet that arrives whole in buffers of `data_room` bytes.
    pub(super) fn mtu_max(self, info: &sys::rte_eth_dev_info, data_room: u16) -> u16 {
        let room = u32::from(data_room);
        let most = match self.slot {
            Some(slot) if slot.saturating_sub(SLOT_HEADER) > room => 0,
            Some(slot) => slot.saturating_sub(SLOT_FRONT),
            None if self.understates => u32::MAX,
            None if self.chains || scatters(info) => told_max(info),
            None => told_max(info).min(room.saturating_sub(AROUND)),
        };
        u16::try_from(most).unwrap_or(u16::MAX)
    }

    /// The MTU to tell the driver of, where packets of `mtu` bytes are to pass.
    pub(super) fn told(self, info: &sys::rte_eth_dev_info, mtu: u16) -> u32 {
        if self.understates { u32::from(mtu).min(told_max(info)) } else { u32::from(mtu) }
    }

    /// Whether the driver may have been told of less than the MTU is.
    pub(super) fn understates(self) -> bool {
        self.understates
    }

    /// Whether the driver has to be asked for chains, so that packets of `mtu` bytes arrive in buffers of
    /// `data_room`.
    pub(super) fn needs_scatter(self, info: &sys::rte_eth_dev_info, mtu: u16, data_room: u16) -> bool {
        u32::from(mtu) + AROUND > u32::from(data_room) && scatters(info)
    }
}

fn scatters(info: &sys::rte_eth_dev_info) -> bool {
    info.rx_offload_capa & sys::OVERLANE_RX_OFFLOAD_SCATTER != 0
}

/// The largest MTU that DPDK lets this device be told of.
fn told_max(info: &sys::rte_eth_dev_info) -> u32 {
    let (mtu, frame) = (u32::from(info.max_mtu), info.max_rx_pktlen);
    // A driver that does not tell of an MTU tells of frames, with header and frame check sequence.
    if info.max_mtu != u16::MAX && frame > mtu { mtu } else { mtu.min(frame.saturating_sub(18)) }
}

/// Gives `net_af_packet` slots for its interface's MTU, unless the operator has given it some.
pub(super) fn with_slots(devargs: &Devargs) -> Devargs {
    let bytes = slot_for_interface(devargs);
    if bytes <= SLOT {
        return devargs.clone();
    }
    // Slots lie one after the other over all blocks, which are of whole pages.
    // SAFETY: no pointers.
    let page = u32::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096);
    let block = (1..=512).map(|slots| bytes * slots).find(|block| block % page == 0).unwrap_or(bytes);
    let with = |devargs: Devargs, key, value: u32| devargs.argument(key, value);
    with(devargs.clone(), "framesz", bytes)
        .and_then(|devargs| with(devargs, "blocksz", block))
        .unwrap_or_else(|_| devargs.clone())
}

/// Bytes of the data room that a buffer for the device needs, if its driver insists.
pub(super) fn data_room(devargs: &Devargs) -> u16 {
    let needed = Frames::of(&with_slots(devargs)).slot.map_or(0, |slot| slot.saturating_sub(SLOT_HEADER));
    u16::try_from(needed).unwrap_or(u16::MAX)
}

/// Bytes of a slot for the interface as it is now; 0 if slots are not for us to choose.
fn slot_for_interface(devargs: &Devargs) -> u32 {
    let given = ["framesz", "blocksz"].iter().any(|key| devargs.value(key).is_some());
    if !devargs.is_of(AF_PACKET) || given {
        return 0;
    }
    let interface = devargs.value("iface").and_then(|name| Interface::by_name(name).ok());
    interface.map_or(0, |interface| slot_for(interface.mtu))
}

fn slot_for(mtu: u32) -> u32 {
    mtu.min(u32::from(u16::MAX)).saturating_add(SLOT_FRONT).next_multiple_of(SLOT_STEP).max(SLOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(max_mtu: u16, max_frame: u32, scatter: bool) -> sys::rte_eth_dev_info {
        // SAFETY: a structure of integers and pointers; zero is a value of it.
        let mut info: sys::rte_eth_dev_info = unsafe { core::mem::zeroed() };
        info.max_mtu = max_mtu;
        info.max_rx_pktlen = max_frame;
        info.rx_offload_capa = if scatter { sys::OVERLANE_RX_OFFLOAD_SCATTER } else { 0 };
        info
    }

    fn frames(devargs: &str) -> Frames {
        Frames::of(&devargs.parse().unwrap())
    }

    #[test]
    fn a_device_without_chains_is_bounded_by_its_buffers_and_others_by_what_they_tell() {
        let nic = frames("0000:03:00.0");
        assert_eq!(nic.mtu_max(&info(9_710, 9_728, true), 2_048), 9_710);
        assert_eq!(nic.mtu_max(&info(9_710, 9_728, false), 2_048), 2_022);
        assert_eq!(nic.mtu_max(&info(u16::MAX, 1_522, true), 2_048), 1_504);
        assert_eq!(frames("net_pcap0,iface=x").mtu_max(&info(u16::MAX, u32::MAX, false), 2_048), u16::MAX);
        let memif = frames("net_memif0");
        let told = info(u16::MAX, 1_518, false);
        assert_eq!((memif.mtu_max(&told, 2_048), memif.told(&told, 9_000)), (u16::MAX, 1_500));
        assert!(nic.needs_scatter(&info(9_710, 9_728, true), 2_023, 2_048));
        assert!(!nic.needs_scatter(&info(9_710, 9_728, true), 2_022, 2_048));
    }

    #[test]
    fn af_packet_is_bounded_by_its_slots_for_which_buffers_must_have_room() {
        let told = info(u16::MAX, 1_518, false);
        let usual = frames("net_af_packet0,iface=x");
        assert_eq!((usual.mtu_max(&told, 2_048), usual.told(&told, 1_900)), (1_964, 1_500));
        let large = frames("net_af_packet0,iface=x,framesz=9216,blocksz=36864");
        assert_eq!((large.mtu_max(&told, 9_184), large.mtu_max(&told, 9_183)), (9_132, 0));
        assert_eq!([1_500, 1_964, 1_965, 9_000, 1 << 20].map(slot_for), [2_048, 2_048, 3_072, 9_216, 66_560]);
    }
}
