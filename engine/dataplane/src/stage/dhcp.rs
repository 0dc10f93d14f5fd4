//! From a node: DHCP. The engine answers in place, from provisioning, in the name of the node's gateway; it keeps nothing of
//! what it has told, since the address is the node's anyway.

use super::{Burst, FromNode, Outbound, group};
use crate::dhcp::Settings;
use crate::drop::DropReason;
use crate::failure::Claim;
use crate::header::{NetworkHeader, contiguous};
use crate::mac::MacAddr;
use crate::packet::Packet;
use crate::pipeline::{BURST, Outbox};
use crate::snapshot::{Interface, Subnet};
use crate::translate::answer::HOPS;
use crate::translate::message::replace;
use crate::wire::checksum::{self, Sum};
use crate::wire::dhcp::{CLIENT_PORT, Kind, LONGEST, Message, Reply, SERVER_PORT, option};
use crate::wire::{ethernet, ipv4, protocol, udp};
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// Who answers where there is no gateway: an address that no host gives itself (RFC 3927, 2.1).
const NOBODY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, SERVER_PORT as u8);

const HEADERS: usize = ethernet::LENGTH + ipv4::LENGTH + udp::LENGTH;

/// What a packet has to do with DHCP.
pub(crate) enum Role {
    /// Nothing.
    None,
    /// It is a client's, for any server.
    Client,
    /// It is a server's, and no node is one.
    Server,
}

/// What a packet to everybody has to do with DHCP.
pub(crate) fn role(node: &FromNode<'_>, packet: &mut impl Packet, header: &NetworkHeader) -> Role {
    let (vnet, destination) = (&node.interface.vnet, header.destination);
    if !destination.is_broadcast() && !group::is_subnet_broadcast(vnet, destination) {
        return Role::None;
    }
    match ports(packet, header) {
        Some((CLIENT_PORT, SERVER_PORT)) if vnet.dhcp.is_some() && destination.is_broadcast() => Role::Client,
        Some((SERVER_PORT, CLIENT_PORT)) => {
            node.note(DropReason::DhcpServerForeign, Claim::Ipv4(header.source));
            Role::Server
        }
        _ => Role::None,
    }
}

/// The ports of a whole UDP datagram.
fn ports(packet: &mut impl Packet, header: &NetworkHeader) -> Option<(u16, u16)> {
    if header.protocol != protocol::UDP || header.fragment.is_some() {
        return None;
    }
    contiguous(packet, header.transport + 4).ok()?;
    let [a, b, c, d] = *packet.head().get(header.transport..)?.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Answers or drops each packet.
pub(crate) fn run<P: Packet>(
    node: &FromNode<'_>,
    requests: &mut ArrayVec<(P, NetworkHeader), BURST>,
    out: &mut impl Outbox<P>,
) {
    for (packet, header) in requests.drain(..) {
        answer(node, packet, &header, out);
    }
}

/// Answers those packets to the gateway itself that are a client's; the others go no further.
#[cold]
#[inline(never)]
pub(crate) fn to_gateway<P: Packet>(
    node: &FromNode<'_>,
    burst: &mut Burst<P, Outbound<'_>>,
    out: &mut impl Outbox<P>,
) {
    use super::Known;
    for (mut packet, mut item) in core::mem::replace(burst, Burst::new()) {
        if item.mapping.is_some() {
            burst.push(packet, item);
            continue;
        }
        let header = *item.header(&packet);
        if ports(&mut packet, &header) == Some((CLIENT_PORT, SERVER_PORT)) {
            answer(node, packet, &header, out);
        } else {
            node.traffic.drops.count(DropReason::GatewayItself);
        }
    }
}

fn answer<P: Packet>(node: &FromNode<'_>, mut packet: P, header: &NetworkHeader, out: &mut impl Outbox<P>) {
    match make_answer(node, &mut packet, header) {
        Ok(()) => out.transmit(node.interface.port, packet),
        Err(reason) => node.traffic.drops.count(reason),
    }
}

/// Turns a client's packet into what it is answered.
#[cold]
#[inline(never)]
fn make_answer(
    node: &FromNode<'_>,
    packet: &mut impl Packet,
    header: &NetworkHeader,
) -> Result<(), DropReason> {
    let interface = node.interface;
    let settings = interface.vnet.dhcp.as_deref().ok_or(DropReason::DhcpIgnored)?;
    let address = *interface.addresses.first().ok_or(DropReason::DhcpIgnored)?;
    let payload = payload(packet, header)?;
    let asked = Message::new_checked(&payload).map_err(|_| DropReason::DhcpMalformed)?;
    if asked.mac != interface.mac {
        node.note(DropReason::SrcMacSpoofed, Claim::Mac(asked.mac));
        return Err(DropReason::SrcMacSpoofed);
    }
    let subnet = interface.vnet.subnet_of(address);
    let server = subnet.and_then(|subnet| subnet.gateway).unwrap_or(NOBODY);
    let kind = verdict(&asked, server, address).ok_or(DropReason::DhcpIgnored)?;

    let yours = if kind == Kind::Nak || asked.kind == Kind::Inform { Ipv4Addr::UNSPECIFIED } else { address };
    let mut reply = Reply::new(&asked, kind, yours);
    reply.add(option::SERVER, &[&server.octets()]);
    if kind != Kind::Nak {
        tell(&mut reply, &asked, interface, settings, subnet.copied());
    }
    // RFC 6842: as it came.
    reply.add(option::CLIENT_ID, &[asked.id.unwrap_or_default()]);
    let to = if kind == Kind::Nak {
        Ipv4Addr::BROADCAST
    } else if !asked.own.is_unspecified() {
        asked.own
    } else if asked.wants_broadcast() {
        Ipv4Addr::BROADCAST
    } else {
        yours
    };
    send(packet, interface, (server, to), &reply.finish())
}

/// What is said to a client; `None`: nothing.
fn verdict(asked: &Message<'_>, server: Ipv4Addr, address: Ipv4Addr) -> Option<Kind> {
    match asked.kind {
        Kind::Discover => Some(Kind::Offer),
        Kind::Inform => Some(Kind::Ack),
        // The offer of another server that there is not.
        Kind::Request if asked.server.is_some_and(|chosen| chosen != server) => None,
        Kind::Request => {
            let wished = if asked.own.is_unspecified() { asked.requested? } else { asked.own };
            Some(if wished == address { Kind::Ack } else { Kind::Nak })
        }
        // It stays the node's address.
        Kind::Decline | Kind::Release => None,
        Kind::Offer | Kind::Ack | Kind::Nak => None,
    }
}

/// Adds what provisioning says, the most important first.
fn tell(
    reply: &mut Reply,
    asked: &Message<'_>,
    interface: &Interface,
    settings: &Settings,
    subnet: Option<Subnet>,
) {
    let lease = settings.lease_seconds;
    if asked.kind != Kind::Inform {
        reply.add(option::LEASE, &[&lease.to_be_bytes()]);
        // RFC 2131, 4.4.5.
        reply.add(option::RENEW, &[&(lease / 2).to_be_bytes()]);
        reply.add(option::REBIND, &[&(lease - lease / 8).to_be_bytes()]);
    }
    let gateway = subnet.and_then(|subnet| subnet.gateway);
    if let Some(subnet) = subnet {
        reply.add(option::MASK, &[&subnet.net.netmask().octets()]);
    }
    let mut add = |code: u8, parts: &[&[u8]]| {
        if asked.wants(code) {
            reply.add(code, parts);
        }
    };
    // Who gets classless routes takes no notice of the router, so that is among them (RFC 3442).
    let default = gateway.map(|gateway| (ipnet::Ipv4Net::default(), gateway));
    let routes: ArrayVec<u8, 255> =
        settings.routes.iter().copied().chain(default).flat_map(route).take(255).collect();
    if !settings.routes.is_empty() {
        add(option::ROUTES, &[&routes]);
    }
    add(option::ROUTER, &[gateway.map(|gateway| gateway.octets()).as_ref().map_or(&[][..], |octets| octets)]);
    let servers: ArrayVec<u8, 255> = settings.dns.iter().flat_map(Ipv4Addr::octets).take(63 * 4).collect();
    add(option::DNS, &[&servers]);
    add(option::MTU, &[&interface.mtu.to_be_bytes()]);
    add(option::DOMAIN, &[settings.domain.as_bytes()]);
    let (node, _) = interface.name.split_once('/').unwrap_or((&interface.name, ""));
    add(option::HOST_NAME, &[node.as_bytes()]);
    if let Some(subnet) = subnet {
        add(option::BROADCAST, &[&subnet.net.broadcast().octets()]);
    }
    if let Some(boot) = &settings.boot {
        reply.boot(boot.server, &boot.file);
    }
}

/// A route as RFC 3442 has it: the prefix length, as much of the prefix as that needs, the router.
fn route((net, via): (ipnet::Ipv4Net, Ipv4Addr)) -> impl Iterator<Item = u8> {
    let significant = usize::from(net.prefix_len().div_ceil(8));
    let prefix = net.network().octets().into_iter().take(significant);
    core::iter::once(net.prefix_len()).chain(prefix).chain(via.octets())
}

/// The bytes of the datagram behind its UDP header.
fn payload(packet: &impl Packet, header: &NetworkHeader) -> Result<ArrayVec<u8, LONGEST>, DropReason> {
    let mut bytes = ArrayVec::<u8, { LONGEST + udp::LENGTH }>::new();
    let mut skip = header.transport;
    for segment in packet.segments() {
        let segment = segment.get(skip.min(segment.len())..).unwrap_or(&[]);
        skip = 0;
        let taken = segment.len().min(bytes.remaining_capacity());
        let _ = bytes.try_extend_from_slice(segment.get(..taken).unwrap_or(&[]));
    }
    let length = bytes.len().min(header.payload.into());
    let view = udp::Header::new_checked(&bytes, length).map_err(|_| DropReason::DhcpMalformed)?;
    let end = usize::from(view.length());
    let payload = bytes.get(udp::LENGTH..end).ok_or(DropReason::DhcpMalformed)?;
    Ok(payload.iter().copied().collect())
}

/// Puts the answer in the packet's place.
fn send(
    packet: &mut impl Packet,
    interface: &Interface,
    (source, destination): (Ipv4Addr, Ipv4Addr),
    message: &[u8],
) -> Result<(), DropReason> {
    let length = (udp::LENGTH + message.len()) as u16;
    let fields = ipv4::Fields {
        tos: 0,
        total_length: ipv4::LENGTH as u16 + length,
        // An atomic datagram needs none (RFC 6864, 4.1).
        identification: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOPS,
        protocol: protocol::UDP,
        source,
        destination,
    };
    let mac = if destination.is_broadcast() { MacAddr::BROADCAST } else { interface.mac };
    let mut headers = [0; HEADERS];
    let (frame, rest) = headers.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    ethernet::emit(frame, mac, MacAddr::dummy(interface.vnet.id, source), ethernet::ethertype::IPV4);
    let (ip, rest) = rest.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    fields.emit(ip);
    let datagram: &mut [u8; udp::LENGTH] = rest.first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    let ports = [SERVER_PORT.to_be_bytes(), CLIENT_PORT.to_be_bytes()];
    datagram.iter_mut().zip(ports.as_flattened()).for_each(|(to, from)| *to = *from);
    udp::set_length(datagram, length);
    let sum = Sum::ZERO
        .add_bytes(&source.octets())
        .add_bytes(&destination.octets())
        .add(u16::from(protocol::UDP))
        .add(length)
        .add_bytes(datagram)
        .add_bytes(message);
    udp::set_checksum(datagram, checksum::nonzero(sum.checksum()));
    replace(packet, &headers, message)
}
