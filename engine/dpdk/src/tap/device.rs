//! The descriptor of a tap: the system calls.

use core::ffi::{c_int, c_uint, c_ulong};
use core::mem;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::vnet;

/// The descriptor. When it closes, the interface goes.
#[derive(Debug)]
pub(super) struct Device(File);

/// What there is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Nothing,
    Frame,
    /// Nothing ever again: the interface was deleted.
    Gone,
}

impl Device {
    /// A descriptor without an interface yet. The interface will be made in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
        options.open("/dev/net/tun").map(Self)
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Makes the interface; `EBUSY` if there is one of that name, which is never taken over.
    pub(super) fn create(&self, name: &str) -> io::Result<()> {
        // SAFETY: a structure of integers and a union of them; zero is a value of it.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // One byte less than there is room, so that a zero stays behind it.
        let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (place, byte) in places.zip(name.bytes()) {
            *place = byte.cast_signed() as _;
        }
        // All flags are in 16 bits, the last of them in the sign.
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
        request.ifr_ifru.ifru_flags = flags as i16;
        // SAFETY: reads and writes one ifreq, which lives through the call.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETIFF, &raw mut request) }).map(drop)
    }

    /// Says how long the header before each frame is.
    pub(super) fn set_header_length(&self) -> io::Result<()> {
        self.set(libc::TUNSETVNETHDRSZ, vnet::LENGTH as c_int)
    }

    /// Bounds the bytes of sent frames that wait on the other side.
    pub(super) fn set_send_buffer(&self, bytes: u32) -> io::Result<()> {
        self.set(libc::TUNSETSNDBUF, c_int::try_from(bytes).unwrap_or(c_int::MAX))
    }

    fn set(&self, what: libc::Ioctl, value: c_int) -> io::Result<()> {
        // SAFETY: both requests used here read one integer, which lives through the call.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), what, &raw const value) }).map(drop)
    }

    /// Offers the interface's kernel to do what it leaves undone: checksums, cutting TCP and, since Linux 6.2, UDP. Gives
    /// whether UDP is among them: such a kernel takes datagrams to be cut as well.
    pub(super) fn offer_offloads(&self) -> io::Result<bool> {
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        match self.offer(tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.offer(tcp).map(|()| false),
            offered => offered.map(|()| true),
        }
    }

    fn offer(&self, offloads: c_uint) -> io::Result<()> {
        // SAFETY: the request takes a number, no pointer.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(offloads)) };
        check(result).map(drop)
    }

    /// The interface's present name.
    pub(super) fn name(&self) -> io::Result<String> {
        // SAFETY: a structure of integers and a union of them; zero is a value of it.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // SAFETY: writes one ifreq, which lives through the call.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
        let name = request.ifr_name.iter().map(|&byte| byte.cast_unsigned());
        let name: Vec<u8> = name.take_while(|&byte| byte != 0).collect();
        String::from_utf8(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// The network namespace that the interface is in. Whoever keeps it keeps the namespace alive.
    pub(super) fn namespace(&self) -> io::Result<OwnedFd> {
        // SAFETY: the request takes no argument.
        let fd = check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETDEVNETNS) })?;
        // SAFETY: a new descriptor, ours alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Whether a frame waits to be read.
    pub(super) fn ready(&self) -> Ready {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives through the call.
        match unsafe { libc::poll(&raw mut poll, 1, 0) } {
            1 if poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 => Ready::Gone,
            1 => Ready::Frame,
            _ => Ready::Nothing,
        }
    }

    /// Reads one frame into memory that the parts lend exclusively for the call, and gives its length; what has no room
    /// is cut off, and lost.
    ///
    /// # Safety
    /// Each part is memory that may be written to, and that nobody else looks at during the call.
    pub(super) unsafe fn read(&self, parts: &[libc::iovec]) -> io::Result<usize> {
        let count = c_int::try_from(parts.len()).unwrap_or(c_int::MAX);
        // SAFETY: the caller answers for the parts, of which there are as many as said.
        let read = unsafe { libc::readv(self.0.as_raw_fd(), parts.as_ptr(), count) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes one frame.
    ///
    /// # Safety
    /// Each part is memory that may be read, and that nobody writes to during the call.
    pub(super) unsafe fn write(&self, parts: &[libc::iovec]) -> io::Result<usize> {
        let count = c_int::try_from(parts.len()).unwrap_or(c_int::MAX);
        // SAFETY: the caller answers for the parts, of which there are as many as said.
        let written = unsafe { libc::writev(self.0.as_raw_fd(), parts.as_ptr(), count) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

/// A system call's result.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
