//! Packet sockets: the system calls.

use core::ffi::{c_int, c_uint};
use core::mem;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use overlane_dataplane::mac::MacAddr;

/// `PACKET_IGNORE_OUTGOING`, Linux 4.20.
const PACKET_IGNORE_OUTGOING: c_int = 23;

/// A packet socket. Closed on drop.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// Counts of the kernel since the last reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Frames that found no room in the ring.
    pub(super) drops: u32,
}

impl Socket {
    /// An unbound socket that receives nothing yet.
    pub(super) fn new() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; a descriptor that comes back is ours alone.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as just said.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Sets an option of a plain type.
    pub(super) fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let length = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: the value lives through the call and has the length given.
        let result = unsafe {
            libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const *value).cast(), length)
        };
        check(result).map(drop)
    }

    /// Turns a packet socket's option on.
    pub(super) fn enable(&self, option: c_int) -> io::Result<()> {
        self.set::<c_int>(libc::SOL_PACKET, option, &1)
    }

    /// Has no copy of what the host itself sends on the interface.
    pub(super) fn ignore_outgoing(&self) -> io::Result<()> {
        self.enable(PACKET_IGNORE_OUTGOING)
    }

    /// Sets a buffer's size, beyond the system's limit where the process may.
    pub(super) fn set_buffer(&self, forced: c_int, plain: c_int, bytes: u32) -> io::Result<()> {
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        self.set(libc::SOL_SOCKET, forced, &bytes).or_else(|_| self.set(libc::SOL_SOCKET, plain, &bytes))
    }

    /// Binds to an interface; `protocol` 0 receives nothing.
    pub(super) fn bind(&self, ifindex: u32, protocol: u16) -> io::Result<()> {
        // SAFETY: a structure of integers; zero is a value of it.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = c_int::try_from(ifindex).unwrap_or(-1);
        let length = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address lives through the call and has the length given.
        check(unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
    }

    /// Keeps the interface promiscuous as long as the socket is open.
    pub(super) fn join_promiscuous(&self, ifindex: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: c_int::try_from(ifindex).unwrap_or(-1),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Reads, and by that clears, the kernel's counts.
    pub(super) fn statistics(&self) -> io::Result<Statistics> {
        let mut counts = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        self.get(libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut counts)?;
        Ok(Statistics { drops: counts.tp_drops })
    }

    /// Takes the error that the kernel has noted on the socket, such as its interface going down. While there is
    /// one, `poll` returns at once.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        let mut error: c_int = 0;
        self.get(libc::SOL_SOCKET, libc::SO_ERROR, &mut error).ok()?;
        (error != 0).then(|| io::Error::from_raw_os_error(error))
    }

    fn get<T>(&self, level: c_int, option: c_int, value: &mut T) -> io::Result<()> {
        let mut length = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: value and length live through the call; the kernel writes no more than the length says.
        let result = unsafe {
            libc::getsockopt(self.0.as_raw_fd(), level, option, (&raw mut *value).cast(), &raw mut length)
        };
        check(result).map(drop)
    }

    /// Whether the interface that the socket was bound to is gone: the kernel unbinds it then.
    pub(super) fn unbound(&self) -> bool {
        // SAFETY: a structure of integers; zero is a value of it.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut length = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: address and length live through the call.
        let result =
            unsafe { libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
        result == 0 && address.sll_ifindex < 0
    }

    /// What the kernel says of the interface `ifindex` in the socket's network namespace.
    pub(super) fn interface(&self, ifindex: u32) -> io::Result<Interface> {
        // SAFETY: a structure of integers and a union of them; zero is a value of it.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        request.ifr_ifru.ifru_ifindex = c_int::try_from(ifindex).unwrap_or(-1);
        self.control(libc::SIOCGIFNAME, &mut request)?;
        let name: Vec<u8> =
            request.ifr_name.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0).collect();
        self.control(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: the request wrote this member of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        self.control(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: the request wrote this member of the union.
        let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        self.control(libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: the request wrote this member of the union.
        let hardware = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (octet, &byte) in mac.iter_mut().zip(&hardware.sa_data) {
            *octet = byte.cast_unsigned();
        }
        Ok(Interface {
            index: ifindex,
            name: String::from_utf8_lossy(&name).into_owned(),
            mac: MacAddr(mac),
            mtu: u32::try_from(mtu).unwrap_or(0),
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_RUNNING != 0,
            ethernet: hardware.sa_family == libc::ARPHRD_ETHER,
        })
    }

    fn control(&self, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: each of the requests used here reads and writes one ifreq.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), what, &raw mut *request) }).map(drop)
    }
}

/// What the kernel says of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number, which no other interface of its network namespace ever has.
    pub index: u32,
    /// Its present name.
    pub name: String,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it has a carrier.
    pub running: bool,
    /// Whether its frames are Ethernet's.
    pub ethernet: bool,
}

impl Interface {
    /// The interface with this number in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn by_index(index: u32) -> io::Result<Self> {
        Socket::new()?.interface(index)
    }

    /// The interface with this name in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn by_name(name: &str) -> io::Result<Self> {
        // SAFETY: a C string that lives through the call.
        let index: c_uint = unsafe { libc::if_nametoindex(crate::devargs::c_string(name).as_ptr()) };
        if index == 0 { Err(io::Error::last_os_error()) } else { Self::by_index(index) }
    }
}

/// A system call's result.
pub(super) fn check(result: c_int) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}
