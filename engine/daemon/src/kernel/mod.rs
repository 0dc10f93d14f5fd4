//! The host's kernel: its network interfaces, watched and configured by rtnetlink, and kept out of tenants' traffic.
//!
//! Interfaces are known by index, not by name: a name may pass to another device between two looks.

mod bpf;
mod isolation;
mod watch;

pub use isolation::TenantIsolation;
pub use watch::Watch;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use overlane_dataplane::mac::MacAddr;
use rtnetlink::{Handle, LinkUnspec};
use std::io;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Why the kernel could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The kernel refused a request.
    #[error("cannot {what}: {source}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel accepted a request, and what it shows is something else.
    #[error("{what}: asked for, accepted, and not there when read back")]
    NotInEffect {
        /// What was asked for.
        what: String,
    },
    /// No such interface.
    #[error("there is no network interface {0}")]
    NoInterface(String),
}

impl KernelError {
    /// Whether the interface is not there, or no longer.
    #[must_use]
    pub fn is_no_interface(&self) -> bool {
        match self {
            Self::NoInterface(_) => true,
            Self::Refused { source, .. } => source.raw_os_error() == Some(nix::libc::ENODEV),
            Self::Socket(_) | Self::NotInEffect { .. } => false,
        }
    }
}

/// A network interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index: its identity for as long as it lives in this network namespace.
    pub ifindex: u32,
    /// Its name, for now.
    pub name: String,
    /// What it is, as `ip -d link` calls it; empty for a physical device.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// Up, and with a carrier.
    pub running: bool,
    /// Its hardware address; zero for a device that has none.
    pub mac: MacAddr,
    /// Its MTU, in bytes.
    pub mtu: u32,
}

/// Something happened to an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// Which.
    pub ifindex: u32,
    /// The name it has or had.
    pub name: String,
    /// What happened.
    pub change: LinkChange,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// It is new, or something about it changed.
    New {
        /// Administratively up.
        up: bool,
        /// Up, and with a carrier.
        running: bool,
        /// Its hardware address.
        mac: MacAddr,
        /// Its MTU, in bytes.
        mtu: u32,
    },
    /// It is gone from this network namespace.
    Gone {
        /// It lives on in another network namespace.
        moved: bool,
    },
}

/// A connection to the kernel. Belongs to the network namespace of the thread that opened it; a clone shares it.
#[derive(Debug, Clone)]
pub struct Kernel {
    handle: Handle,
    /// Held while the kernel lists something: a socket that asks for a second list meanwhile gets EBUSY.
    listing: Arc<Mutex<()>>,
}

impl Kernel {
    /// Connects. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`KernelError::Socket`].
    pub fn connect() -> Result<Self, KernelError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(KernelError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle, listing: Arc::default() })
    }

    /// Watches interfaces come, change and go. Every interface that is there already comes first.
    ///
    /// # Errors
    /// [`KernelError`].
    pub async fn watch(&self) -> Result<Watch, KernelError> {
        Watch::start(self.clone()).await
    }

    /// The interfaces of this network namespace.
    ///
    /// # Errors
    /// [`KernelError::Refused`].
    pub async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let _one_list = self.listing.lock().await;
        let messages = self.handle.link().get().execute();
        let links = messages.try_filter_map(async |message| Ok(link_of(&message)));
        links.try_collect().await.map_err(|error| refused("list network interfaces", error))
    }

    /// The interface of that name.
    ///
    /// # Errors
    /// [`KernelError::NoInterface`] if there is none.
    pub async fn link_by_name(&self, name: &str) -> Result<Link, KernelError> {
        let found = self.links().await?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| KernelError::NoInterface(name.to_owned()))
    }

    /// The interface of that index.
    ///
    /// # Errors
    /// [`KernelError::NoInterface`] if there is none.
    pub async fn link_by_index(&self, ifindex: u32) -> Result<Link, KernelError> {
        let found = self.links().await?.into_iter().find(|link| link.ifindex == ifindex);
        found.ok_or_else(|| KernelError::NoInterface(format!("with index {ifindex}")))
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// [`KernelError::Refused`].
    pub async fn set_up(&self, ifindex: u32, up: bool) -> Result<(), KernelError> {
        let message = LinkUnspec::new_with_index(ifindex);
        let message = if up { message.up() } else { message.down() };
        let what = format!("set interface {ifindex} {}", if up { "up" } else { "down" });
        self.handle.link().change(message.build()).execute().await.map_err(|error| refused(what, error))
    }

    /// Sets an interface's MTU.
    ///
    /// # Errors
    /// [`KernelError::Refused`], naming the MTU, when the device does not take it.
    pub async fn set_mtu(&self, ifindex: u32, mtu: u32) -> Result<(), KernelError> {
        let message = LinkUnspec::new_with_index(ifindex).mtu(mtu).build();
        let what = format!("set the MTU of interface {ifindex} to {mtu}");
        self.handle.link().change(message).execute().await.map_err(|error| refused(what, error))
    }

    /// Sets an interface's hardware address.
    ///
    /// # Errors
    /// [`KernelError::Refused`].
    pub async fn set_mac(&self, ifindex: u32, mac: MacAddr) -> Result<(), KernelError> {
        let message = LinkUnspec::new_with_index(ifindex).address(mac.0.to_vec()).build();
        let what = format!("set the hardware address of interface {ifindex} to {mac}");
        self.handle.link().change(message).execute().await.map_err(|error| refused(what, error))
    }
}

/// What a message says of an interface; `None` for messages about something else, such as bridge ports.
fn link_of(message: &LinkMessage) -> Option<Link> {
    if u8::from(message.header.interface_family) != 0 {
        return None;
    }
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        kind: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mac: MacAddr::ZERO,
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(octets) => {
                link.mac = octets.as_slice().try_into().map_or(MacAddr::ZERO, MacAddr);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(kind_of).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

fn kind_of(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn refused(what: impl Into<String>, error: rtnetlink::Error) -> KernelError {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    };
    KernelError::Refused { what: what.into(), source }
}
