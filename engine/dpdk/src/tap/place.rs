//! Where a tap is, and how it is there: asked by netlink, since it leaves our network namespace for its node's.
//!
//! Nothing is kept of the other namespace, which would keep it alive when its node has ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use overlane_dataplane::mac::MacAddr;

use super::device::Device;
use crate::Interface;

/// `IFLA_TARGET_NETNSID`, Linux 4.20: the namespace that a request is about.
const TARGET_NAMESPACE: u16 = 46;
/// What the kernel says, and is told, of a namespace that has no number with us yet.
const NO_NUMBER: i32 = -1;
/// An answer is less than this: a link's attributes without those of its virtual functions.
const ANSWER_BYTES: usize = 32 << 10;

/// A netlink socket of the namespace that the tap was made in, and that namespace's inode.
#[derive(Debug)]
pub(super) struct Place {
    socket: Socket,
    home: u64,
    sequence: u32,
}

impl Place {
    /// Opens the socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?.metadata()?.ino();
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel answers within the call that asks.
        socket.set_non_blocking(true)?;
        Ok(Self { socket, home, sequence: 0 })
    }

    /// The interface, and how many frames it has dropped because nobody read them in time.
    pub(super) fn look(&mut self, device: &Device) -> io::Result<(Interface, u64)> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(device.name()?));
        let namespace = File::from(device.namespace()?);
        if namespace.metadata()?.ino() != self.home {
            let number = self.number(&namespace.into())?;
            let number = DefaultNla::new(TARGET_NAMESPACE, number.to_ne_bytes().to_vec());
            request.attributes.push(LinkAttribute::Other(number));
        }
        match self.ask(RouteNetlinkMessage::GetLink(request), 0)? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(read(&link)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The number that our namespace has for another, given to it if it has none.
    fn number(&mut self, namespace: &OwnedFd) -> io::Result<i32> {
        let message = |number: Option<i32>| {
            let mut message = NsidMessage::default();
            message.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd().cast_unsigned()));
            message.attributes.extend(number.map(NsidAttribute::Id));
            message
        };
        if let Some(number) = self.known_number(message(None))? {
            return Ok(number);
        }
        match self.ask(RouteNetlinkMessage::NewNsId(message(Some(NO_NUMBER))), NLM_F_ACK) {
            // Somebody else was quicker.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            given => drop(given?),
        }
        self.known_number(message(None))?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn known_number(&mut self, message: NsidMessage) -> io::Result<Option<i32>> {
        let Some(RouteNetlinkMessage::NewNsId(answer)) =
            self.ask(RouteNetlinkMessage::GetNsId(message), 0)?
        else {
            return Ok(None);
        };
        let number = answer.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(number) => Some(*number),
            _ => None,
        });
        Ok(number.filter(|number| *number != NO_NUMBER))
    }

    /// Sends one request; gives what comes back, `None` for a bare acknowledgement.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let mut answer = Vec::with_capacity(ANSWER_BYTES);
            self.socket.recv(&mut answer, 0)?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
                NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
                _ => Ok(None),
            };
        }
    }
}

fn read(link: &LinkMessage) -> (Interface, u64) {
    let flags = link.header.flags;
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: MacAddr::ZERO,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        ethernet: link.header.link_layer_type == LinkLayerType::Ether,
    };
    let mut dropped = 0;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(octets) => {
                interface.mac = octets.as_slice().try_into().map_or(MacAddr::ZERO, MacAddr);
            }
            // What it sends is what we receive.
            LinkAttribute::Stats64(counts) => dropped = counts.tx_dropped,
            _ => {}
        }
    }
    (interface, dropped)
}
