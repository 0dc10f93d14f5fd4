//! Setting up a device between its attachment and its first packet.

use core::ffi::CStr;
use core::mem;

use overlane_dataplane::mac::MacAddr;

use super::{Device, PortError, PortOptions, Segments, Started};
use crate::{Interface, sys};

impl Device {
    /// Configures and starts.
    pub(super) fn start(&self, options: &PortOptions) -> Result<Started, PortError> {
        let info = self.info()?;
        let interface = self.shared_interface(&info);
        let mut options = options.clone();
        if let Some(index) = interface {
            // Drivers of the kernel's interfaces do not ask for it: they come up with 1,500.
            let interface = Interface::by_index(index);
            let interface = interface.map_err(|source| self.failed("read the interface", source))?;
            let most = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
            options.mtu = Some(options.mtu.unwrap_or(most).min(most));
        }
        let mtu_max = self.check_options(&options, &info)?;
        let offloads = self.configure(&options, &info)?;
        // SAFETY: the port is configured and its queues are set up.
        self.check("start", unsafe { sys::rte_eth_dev_start(self.id) })?;
        // Neighbour discovery needs the groups; virtual devices that filter nothing do not support the call.
        // SAFETY: the port is open.
        let _ = unsafe { sys::rte_eth_allmulticast_enable(self.id) };
        if options.promiscuous {
            // SAFETY: the port is open.
            self.check("set promiscuous mode", unsafe { sys::rte_eth_promiscuous_enable(self.id) })?;
        }
        let mut address = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port is open; the place lives through the call.
        let result = unsafe { sys::rte_eth_macaddr_get(self.id, &raw mut address) };
        self.check("read the hardware address", result)?;
        let segments = Segments::of(&info, offloads);
        Ok(Started { mac: MacAddr(address.addr_bytes), mtu_max, offloads, segments, interface })
    }

    /// The interface of the kernel that the device is on.
    fn shared_interface(&self, info: &sys::rte_eth_dev_info) -> Option<u32> {
        if info.if_index == 0 || info.driver_name.is_null() {
            return None;
        }
        // SAFETY: a C string of the driver's, which stays loaded.
        let driver = unsafe { CStr::from_ptr(info.driver_name) };
        (driver != c"net_tap").then_some(info.if_index)
    }

    /// Checks the options; gives the largest MTU that the device can have.
    fn check_options(&self, options: &PortOptions, info: &sys::rte_eth_dev_info) -> Result<u16, PortError> {
        let queues = [
            ("rx_queues", options.rx_queues, info.max_rx_queues),
            ("tx_queues", options.tx_queues, info.max_tx_queues),
        ];
        for (field, value, most) in queues {
            if value == 0 || value > most {
                return Err(self.option(field, u64::from(value), format!("1 to {most}")));
            }
        }
        let room = self.pool.data_room();
        let (least, most) = (info.min_mtu.max(68), self.frames.mtu_max(info, room));
        match options.mtu {
            Some(mtu) if mtu < least || mtu > most => {
                let legal = if most < least { "none".to_owned() } else { format!("{least} to {most}") };
                let legal = format!("{legal} with buffers of {room} bytes");
                Err(self.option("mtu", u64::from(mtu), legal))
            }
            _ => Ok(most),
        }
    }

    fn configure(&self, options: &PortOptions, info: &sys::rte_eth_dev_info) -> Result<u64, PortError> {
        let mut current = 0;
        // SAFETY: the port is open; the place lives through the call.
        self.check("read the MTU", unsafe { sys::rte_eth_dev_get_mtu(self.id, &raw mut current) })?;
        let mtu = options.mtu.unwrap_or(current);

        // SAFETY: a structure of integers, unions of them and null pointers; zero is a value of it.
        let mut conf: sys::rte_eth_conf = unsafe { mem::zeroed() };
        conf.rxmode.mtu = self.frames.told(info, mtu);
        let checksums = sys::OVERLANE_RX_OFFLOAD_IPV4_CKSUM
            | sys::OVERLANE_RX_OFFLOAD_TCP_CKSUM
            | sys::OVERLANE_RX_OFFLOAD_UDP_CKSUM;
        conf.rxmode.offloads = info.rx_offload_capa & checksums;
        if self.frames.needs_scatter(info, mtu, self.pool.data_room()) {
            conf.rxmode.offloads |= sys::OVERLANE_RX_OFFLOAD_SCATTER;
        }
        conf.rxmode.mq_mode = sys::OVERLANE_MQ_RX_NONE;
        let rss = info.flow_type_rss_offloads
            & (sys::OVERLANE_RSS_IP | sys::OVERLANE_RSS_TCP | sys::OVERLANE_RSS_UDP);
        if options.rx_queues > 1 && rss != 0 {
            conf.rxmode.mq_mode = sys::OVERLANE_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = rss;
        }
        conf.txmode.offloads = info.tx_offload_capa
            & (sys::OVERLANE_TX_OFFLOAD_IPV4_CKSUM
                | sys::OVERLANE_TX_OFFLOAD_TCP_CKSUM
                | sys::OVERLANE_TX_OFFLOAD_UDP_CKSUM
                | sys::OVERLANE_TX_OFFLOAD_TCP_TSO
                | sys::OVERLANE_TX_OFFLOAD_MULTI_SEGS);
        // SAFETY: the port is open and not started; the configuration lives through the call.
        let result = unsafe {
            sys::rte_eth_dev_configure(self.id, options.rx_queues, options.tx_queues, &raw const conf)
        };
        self.check("configure the queues", result)?;
        self.set_up_queues(options, &conf)?;
        Ok(conf.txmode.offloads)
    }

    fn set_up_queues(&self, options: &PortOptions, conf: &sys::rte_eth_conf) -> Result<(), PortError> {
        let info = self.info()?;
        let (mut rx_descriptors, mut tx_descriptors) = (options.rx_descriptors, options.tx_descriptors);
        // SAFETY: the port is configured; the places live through the call.
        let result = unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &raw mut rx_descriptors, &raw mut tx_descriptors)
        };
        self.check("fit the number of descriptors", result)?;
        // SAFETY: the port is open.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) }.cast_unsigned();
        let mut rx_conf = info.default_rxconf;
        rx_conf.offloads = conf.rxmode.offloads;
        for queue in 0..options.rx_queues {
            // SAFETY: the queue is one of those configured; the pool outlives the device, which holds a handle.
            let result = unsafe {
                let pool = self.pool.as_ptr();
                sys::rte_eth_rx_queue_setup(self.id, queue, rx_descriptors, socket, &raw const rx_conf, pool)
            };
            self.check("set up a receive queue", result)?;
        }
        let mut tx_conf = info.default_txconf;
        tx_conf.offloads = conf.txmode.offloads;
        for queue in 0..options.tx_queues {
            // SAFETY: the queue is one of those configured.
            let result = unsafe {
                sys::rte_eth_tx_queue_setup(self.id, queue, tx_descriptors, socket, &raw const tx_conf)
            };
            self.check("set up a transmit queue", result)?;
        }
        Ok(())
    }
}
