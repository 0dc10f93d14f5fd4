//! Keeping the host's kernel away from what is not its own.
//!
//! A kernel that sees a tenant's frames answers and even routes them. So a drop is the first filter at the interface's
//! ingress; the engine's own sockets see frames before that. It stays when the engine dies.

use super::{Kernel, KernelError, bpf, refused};
use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption};
use overlane_dataplane::address::HostPrefix;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla,
};
use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// Our filters among those of the same preference, the first.
const TENANT_FILTER: u32 = 0x4f56_0001;
const UPLINK_FILTER: u32 = 0x4f56_0002;
const PREFERENCE: u32 = 1;
/// ETH_P_ALL in network byte order, as `tcm_info` wants it.
const ALL_PROTOCOLS: u32 = (3u16.to_be()) as u32;
/// TCA_BPF_OPS_LEN and TCA_BPF_OPS (linux/pkt_cls.h); the netlink crate knows eBPF's attributes only.
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
/// Own addresses that a filter is made for; an uplink has fewer.
const ADDRESS_LIMIT: usize = 16;
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };

/// A tenant's interface that the host's kernel has been kept out of, and what that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantIsolation {
    ifindex: u32,
    /// IPv6 was enabled before.
    had_ipv6: bool,
}

impl TenantIsolation {
    /// Which interface.
    #[must_use]
    pub const fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

impl Kernel {
    /// Keeps the host's kernel out of a tenant's interface: drops everything at ingress, disables IPv6, removes every
    /// address. Each is read back. Isolating an isolated interface changes nothing.
    ///
    /// # Errors
    /// [`KernelError`]; the interface must not carry a tenant's traffic then.
    pub async fn isolate_tenant(&self, ifindex: u32) -> Result<TenantIsolation, KernelError> {
        self.put_filter(ifindex, TENANT_FILTER, &bpf::bytes(&bpf::drop_all())).await?;
        let name = self.link_by_index(ifindex).await?.name;
        let had_ipv6 = disable_ipv6(&name)?;
        // Removing addresses by index, after the drop is in place: nobody can talk to them meanwhile.
        for address in self.addresses(ifindex).await? {
            let what = format!("remove an address of interface {ifindex}");
            match self.handle.address().del(address).execute().await.map_err(|error| refused(what, error)) {
                // Disabling IPv6 takes its addresses away by and by.
                Err(KernelError::Refused { source, .. })
                    if source.raw_os_error() == Some(nix::libc::EADDRNOTAVAIL) => {}
                other => other?,
            }
        }
        if !self.addresses(ifindex).await?.is_empty() {
            return Err(KernelError::NotInEffect { what: format!("interface {ifindex} without addresses") });
        }
        Ok(TenantIsolation { ifindex, had_ipv6 })
    }

    /// Takes back what [`Kernel::isolate_tenant`] installed; an interface that is gone is no error.
    ///
    /// # Errors
    /// [`KernelError`].
    pub async fn release_tenant(&self, isolation: &TenantIsolation) -> Result<(), KernelError> {
        let released = async {
            self.remove_filter(isolation.ifindex, TENANT_FILTER).await?;
            let name = self.link_by_index(isolation.ifindex).await?.name;
            if isolation.had_ipv6 {
                let path = disable_ipv6_path(&name);
                std::fs::write(&path, "0").map_err(|error| sysctl_refused(&path, error))?;
            }
            Ok(())
        };
        match released.await {
            Err(error) if KernelError::is_no_interface(&error) => Ok(()),
            other => other,
        }
    }

    /// Keeps the host's kernel from packets that come in by a shared uplink for this host's prefix or for the engine's
    /// own addresses. Called again, it replaces the filter at once.
    ///
    /// # Errors
    /// [`KernelError`].
    pub async fn isolate_prefix(
        &self,
        ifindex: u32,
        prefix: Option<HostPrefix>,
        addresses: &[Ipv6Addr],
    ) -> Result<(), KernelError> {
        let addresses = addresses.get(..ADDRESS_LIMIT).unwrap_or(addresses);
        let program = bpf::bytes(&bpf::drop_destinations(prefix, addresses));
        self.put_filter(ifindex, UPLINK_FILTER, &program).await
    }

    /// Takes back what [`Kernel::isolate_prefix`] installed; an interface that is gone is no error.
    ///
    /// # Errors
    /// [`KernelError`].
    pub async fn release_prefix(&self, ifindex: u32) -> Result<(), KernelError> {
        match self.remove_filter(ifindex, UPLINK_FILTER).await {
            Err(error) if error.is_no_interface() => Ok(()),
            other => other,
        }
    }

    async fn put_filter(&self, ifindex: u32, handle: u32, program: &[u8]) -> Result<(), KernelError> {
        let mut qdisc = TcMessage::with_index(ifindex.cast_signed());
        qdisc.header.parent = TcHandle::CLSACT;
        qdisc.header.handle = TcHandle { major: 0xffff, minor: 0 };
        qdisc.attributes.push(TcAttribute::Kind("clsact".to_owned()));
        let added = self
            .request(
                RouteNetlinkMessage::NewQueueDiscipline(qdisc),
                NLM_F_CREATE | nix::libc::NLM_F_EXCL as u16,
                format!("add qdisc clsact to interface {ifindex}"),
            )
            .await;
        match added {
            Err(KernelError::Refused { source, .. }) if source.raw_os_error() == Some(nix::libc::EEXIST) => {}
            other => other?,
        }
        let what = format!("add an ingress filter to interface {ifindex}");
        let filter = RouteNetlinkMessage::NewTrafficFilter(filter_message(ifindex, handle, program));
        self.request(filter, NLM_F_CREATE | NLM_F_REPLACE, what).await?;
        let first = self.filters(ifindex, INGRESS).await?.into_iter().next();
        if first.is_none_or(|first| first.handle != handle || first.program.as_deref() != Some(program)) {
            return Err(KernelError::NotInEffect {
                what: format!("first ingress filter of interface {ifindex}"),
            });
        }
        Ok(())
    }

    async fn remove_filter(&self, ifindex: u32, handle: u32) -> Result<(), KernelError> {
        let ours = |filters: &[Filter]| filters.iter().any(|filter| filter.handle == handle);
        let ingress = match self.filters(ifindex, INGRESS).await {
            // No qdisc that has filters.
            Err(KernelError::Refused { source, .. })
                if matches!(source.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOENT)) =>
            {
                return Ok(());
            }
            other => other?,
        };
        if ours(&ingress) {
            let what = format!("remove the ingress filter of interface {ifindex}");
            let filter = RouteNetlinkMessage::DelTrafficFilter(filter_message(ifindex, handle, &[]));
            self.request(filter, 0, what).await?;
        }
        let egress = TcHandle { major: 0xffff, minor: TcHandle::MIN_EGRESS };
        if ingress.iter().all(|filter| filter.handle == handle)
            && self.filters(ifindex, egress).await?.is_empty()
        {
            let mut qdisc = TcMessage::with_index(ifindex.cast_signed());
            qdisc.header.parent = TcHandle::CLSACT;
            let what = format!("remove qdisc clsact from interface {ifindex}");
            self.request(RouteNetlinkMessage::DelQueueDiscipline(qdisc), 0, what).await?;
        }
        Ok(())
    }

    /// The filters in the order in which packets meet them.
    async fn filters(&self, ifindex: u32, parent: TcHandle) -> Result<Vec<Filter>, KernelError> {
        let mut handle = self.handle.traffic_filter(ifindex.cast_signed());
        let request = handle.get();
        let request = if parent == INGRESS { request.ingress() } else { request.egress() };
        let _one_list = self.listing.lock().await;
        let messages: Vec<TcMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(|error| refused(format!("read the filters of interface {ifindex}"), error))?;
        Ok(messages.iter().filter_map(Filter::of).collect())
    }

    async fn addresses(
        &self,
        ifindex: u32,
    ) -> Result<Vec<netlink_packet_route::address::AddressMessage>, KernelError> {
        let request = self.handle.address().get().set_link_index_filter(ifindex);
        let what = format!("read the addresses of interface {ifindex}");
        let _one_list = self.listing.lock().await;
        request.execute().try_collect().await.map_err(|error| refused(what, error))
    }

    /// Sends one request and waits for its acknowledgement.
    async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: String,
    ) -> Result<(), KernelError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut handle = self.handle.clone();
        let mut answers = match handle.request(request) {
            Ok(answers) => answers,
            Err(error) => return Err(refused(what, error)),
        };
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(KernelError::Refused { what, source: error.to_io() });
            }
        }
        Ok(())
    }
}

/// A filter as far as it matters here.
struct Filter {
    handle: u32,
    program: Option<Vec<u8>>,
}

impl Filter {
    /// `None` for what the kernel lists beside filters: their common preference, and filters of other chains, which no
    /// packet meets first.
    fn of(message: &TcMessage) -> Option<Self> {
        let handle = u32::from(message.header.handle);
        let elsewhere =
            message.attributes.iter().any(|attribute| matches!(attribute, TcAttribute::Chain(n) if *n != 0));
        if handle == 0 || elsewhere {
            return None;
        }
        let options = message.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
        let mut program = None;
        let mut direct = false;
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::Flags(flags)) => {
                    direct = flags.contains(TcBpfFlags::DirectAction)
                }
                TcOption::Bpf(TcFilterBpfOption::Other(other)) if other.kind() == TCA_BPF_OPS => {
                    let mut bytes = vec![0; other.value_len()];
                    other.emit_value(&mut bytes);
                    program = Some(bytes);
                }
                _ => {}
            }
        }
        Some(Self { handle, program: program.filter(|_| direct) })
    }
}

fn filter_message(ifindex: u32, handle: u32, program: &[u8]) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = INGRESS;
    message.header.handle = handle.into();
    message.header.info = PREFERENCE << 16 | ALL_PROTOCOLS;
    message.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    if !program.is_empty() {
        // Eight bytes an instruction.
        let count = ((program.len() / 8) as u16).to_ne_bytes().to_vec();
        let options = [
            TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS_LEN, count)),
            TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS, program.to_vec())),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        message.attributes.push(TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()));
    }
    message
}

fn disable_ipv6_path(name: &str) -> PathBuf {
    // /proc/sys/net shows the network namespace of the thread that looks.
    PathBuf::from("/proc/sys/net/ipv6/conf").join(name).join("disable_ipv6")
}

fn sysctl_refused(path: &std::path::Path, source: io::Error) -> KernelError {
    KernelError::Refused { what: format!("set {}", path.display()), source }
}

/// Gives whether IPv6 was enabled; a kernel without IPv6 has nothing to disable.
fn disable_ipv6(name: &str) -> Result<bool, KernelError> {
    let path = disable_ipv6_path(name);
    let read = || std::fs::read_to_string(&path);
    let before = match read() {
        Ok(value) => value,
        // No IPv6 in this kernel, or none on an interface with so small an MTU.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(sysctl_refused(&path, error)),
    };
    if before.trim() == "1" {
        return Ok(false);
    }
    std::fs::write(&path, "1").map_err(|error| sysctl_refused(&path, error))?;
    match read() {
        Ok(value) if value.trim() == "1" => Ok(true),
        _ => Err(KernelError::NotInEffect { what: format!("{} = 1", path.display()) }),
    }
}
