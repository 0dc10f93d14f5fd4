//! What engines report, checked: an engine may be hostile.

use super::{Events, Occurrence};
use crate::error::Result;
use crate::ledger::clipped;
use crate::ledger::record::{InterfaceRecord, NetworkRecord, NodeRecord, load, load_id, vnet_key};
use crate::store::{Table, View};
use overlane_api::event::EventKind;
use overlane_api::resource::is_id;
use overlane_api::sync::{self, EventsReport, ReportedEvent, ResolveRequest};
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::failure;
use overlane_dataplane::id::VnetId;
use std::net::Ipv6Addr;
use tonic::Status;

/// The most events in one report: as many as the protocol has.
const MAX_EVENTS: usize = 64;
/// The reason of what a newer engine drops for one that this build does not know.
const OTHER: &str = "other";

/// A report whose fields are legal; what they mean is still to be looked up.
pub(crate) struct Checked(Vec<Occurrence>);

/// Checks a report. Kinds that this build does not know, since the engine is newer, are left out.
///
/// # Errors
/// [`Status::invalid_argument`] naming the field and its legal values.
pub(crate) fn check(
    layout: Layout,
    host: &str,
    report: EventsReport,
) -> std::result::Result<Checked, Status> {
    let count = report.events.len();
    if count > MAX_EVENTS {
        let message = format!("EventsReport of {count} events; legal: up to {MAX_EVENTS}");
        return Err(Status::invalid_argument(message));
    }
    let mut occurrences = Vec::with_capacity(count);
    for event in report.events {
        occurrences.extend(occurrence(layout, host, event)?);
    }
    Ok(Checked(occurrences))
}

fn occurrence(
    layout: Layout,
    host: &str,
    event: ReportedEvent,
) -> std::result::Result<Option<Occurrence>, Status> {
    let wrong = |field: &str, legal: &str| {
        Err(Status::invalid_argument(format!("EventsReport with an illegal {field}; legal: {legal}")))
    };
    let (kind, reasons) = match event.kind() {
        sync::EventKind::VerificationFailed => (EventKind::VerificationFailed, failure::VERIFICATION),
        sync::EventKind::NodeSpoofing => (EventKind::NodeSpoofing, failure::SPOOFING),
        sync::EventKind::Unspecified => return Ok(None),
    };
    let reason = reasons.iter().copied().map(DropReason::name).find(|name| *name == event.reason);
    if !event.prefix.is_empty() && !is_prefix(layout, &event.prefix) {
        return wrong("prefix", "an IPv6 prefix of the layout's length, like fd00:0:0:a::/64, or none");
    }
    if event.vnet > VnetId::MAX.get() {
        return wrong("vnet", "0 to 16777215");
    }
    if event.count == 0 {
        return wrong("count", "1 and more");
    }
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Some(Occurrence {
        host: Some(host.to_owned()),
        prefix: given(event.prefix),
        vnet: Some(event.vnet).filter(|vnet| *vnet != 0),
        interface: given(event.interface_id),
        count: event.count,
        ago: (event.first_seconds_ago.into(), event.last_seconds_ago.into()),
        detail: clipped(&event.example),
        ..Occurrence::new(kind, reason.unwrap_or(OTHER))
    }))
}

/// Whether it is a prefix of the layout's length, spelled as it is everywhere. It need not be one that hosts can have.
fn is_prefix(layout: Layout, text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<Ipv6Addr>() else { return false };
    let rest = u128::MAX >> layout.prefix_length();
    length == layout.prefix_length().to_string()
        && address.to_bits() & rest == 0
        && text == format!("{address}/{length}")
}

impl Events {
    /// Raises what the engine of a host reports. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`](crate::error::Error::Store).
    pub(crate) fn report(&self, report: Checked) -> Result<()> {
        if report.0.is_empty() {
            return Ok(());
        }
        let mut occurrences = report.0;
        {
            let view = self.ledger.view()?;
            for occurrence in &mut occurrences {
                look_up(&*view, occurrence)?;
            }
        }
        for occurrence in occurrences {
            self.raise(occurrence);
        }
        Ok(())
    }
}

impl Events {
    /// The engine of `host` says that an interface is live which the store does not place there. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`](crate::error::Error::Store).
    pub(crate) fn claimed(&self, host: &str, id: &str) -> Result<()> {
        let mut occurrence = Occurrence {
            host: Some(host.to_owned()),
            ..Occurrence::new(EventKind::Inconsistency, "interface_not_placed")
        };
        let legal = id.split_once('/').is_some_and(|(node, name)| is_id(node) && is_id(name));
        occurrence.detail = if !legal {
            format!("{host} says that an interface is live whose id is none")
        } else if let Some(record) = load::<InterfaceRecord>(&*self.ledger.view()?, Table::Interfaces, id)? {
            occurrence.vnet = Some(record.vnet);
            format!("{host} says that {id} is live, which is on {}", record.current().host)
        } else {
            format!("{host} says that {id} is live, which is not provisioned")
        };
        occurrence.interface = legal.then(|| id.to_owned());
        self.raise(occurrence);
        Ok(())
    }
}

impl Events {
    /// The engine of `host` was refused a mapping. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`](crate::error::Error::Store).
    pub(crate) fn refused(
        &self,
        host: &str,
        asked: &ResolveRequest,
        reason: &'static str,
        detail: &str,
    ) -> Result<()> {
        let mut occurrence = Occurrence {
            host: Some(host.to_owned()),
            interface: Some(asked.interface_id.clone()),
            detail: clipped(detail),
            ..Occurrence::new(EventKind::ResolutionRefused, reason)
        };
        look_up(&*self.ledger.view()?, &mut occurrence)?;
        self.raise(occurrence);
        Ok(())
    }
}

/// Adds what the store knows, and takes away what it does not: an engine speaks for its own interfaces only.
fn look_up(view: &dyn View, occurrence: &mut Occurrence) -> Result<()> {
    if let Some(address) = occurrence.prefix.as_ref().and_then(|prefix| prefix.split('/').next())
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        occurrence.from_host = load_id(view, Table::Prefixes, &address.octets())?;
    }
    if let Some(vnet) = occurrence.vnet
        && let Some(network) = load_id(view, Table::Vnets, &vnet_key(vnet))?
        && let Some(network) = load::<NetworkRecord>(view, Table::Networks, &network)?
    {
        occurrence.entity = Some(network.entity);
    }
    if let Some(id) = occurrence.interface.take()
        && let Some(record) = load::<InterfaceRecord>(view, Table::Interfaces, &id)?
        && occurrence.host.as_ref().is_some_and(|host| record.place_on(host).is_some())
    {
        occurrence.vnet = Some(record.vnet);
        occurrence.entity = load::<NodeRecord>(view, Table::Nodes, &record.node)?.map(|node| node.entity);
        occurrence.interface = Some(id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> ReportedEvent {
        ReportedEvent {
            kind: sync::EventKind::VerificationFailed.into(),
            reason: "src_slot_mismatch".into(),
            prefix: "fd00:0:0:b::/64".into(),
            vnet: 7,
            count: 3,
            ..ReportedEvent::default()
        }
    }

    fn checked(event: ReportedEvent) -> std::result::Result<Vec<Occurrence>, String> {
        let report = EventsReport { events: vec![event] };
        let checked = check(Layout::Slot64, "host-a", report);
        checked.map(|checked| checked.0).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn every_field_of_a_report_is_checked() {
        assert_eq!(checked(event()).unwrap()[0].reason, "src_slot_mismatch");
        for (field, spoiled) in [
            ("prefix", ReportedEvent { prefix: "fd00:0:0:b::/72".into(), ..event() }),
            ("prefix", ReportedEvent { prefix: "fd00:0:0:b::1/64".into(), ..event() }),
            ("prefix", ReportedEvent { prefix: "FD00:0:0:B::/64".into(), ..event() }),
            ("prefix", ReportedEvent { prefix: "anything".repeat(1000), ..event() }),
            ("vnet", ReportedEvent { vnet: 0x100_0000, ..event() }),
            ("count", ReportedEvent { count: 0, ..event() }),
        ] {
            let error = checked(spoiled).unwrap_err();
            assert!(error.contains(field) && error.contains("legal"), "{error}");
        }
        let many = EventsReport { events: vec![event(); MAX_EVENTS + 1] };
        assert!(check(Layout::Slot64, "host-a", many).is_err());
    }

    #[test]
    fn what_a_newer_engine_may_say_does_no_harm() {
        assert!(checked(ReportedEvent { kind: 99, ..event() }).unwrap().is_empty());
        let unknown = checked(ReportedEvent { reason: "src_of_tomorrow".into(), ..event() }).unwrap();
        assert_eq!(unknown[0].reason, OTHER);
        // The reason of another kind is none of this one's.
        let spoofing = sync::EventKind::NodeSpoofing.into();
        assert_eq!(checked(ReportedEvent { kind: spoofing, ..event() }).unwrap()[0].reason, OTHER);
    }

    #[test]
    fn what_is_for_people_holds_nothing_that_steers_a_terminal() {
        let example = "\x1b[2J".to_owned() + &"x".repeat(1000);
        let detail = checked(ReportedEvent { example, ..event() }).unwrap().remove(0).detail;
        assert!(detail.starts_with("[2Jxx") && detail.len() == 256, "{detail:?}");
    }
}
