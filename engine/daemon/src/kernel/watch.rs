//! Interfaces coming, changing and going.

use super::{Kernel, KernelError, Link, LinkChange, LinkEvent, link_of};
use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait for a slow reader; beyond it they are merged per interface.
const CHANNEL: usize = 64;
/// Pause before a watch that broke down is begun anew.
const RESTART: Duration = Duration::from_millis(200);

/// A stream of events. Dropping it ends the watch.
///
/// Nothing is lost: a reader that is slow, or a kernel whose buffer ran over, makes the watch tell the differences
/// between what it told before and what is.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<LinkEvent>,
}

impl Watch {
    pub(super) async fn start(kernel: Kernel) -> Result<Self, KernelError> {
        let (sender, events) = mpsc::channel(CHANNEL);
        let mut ledger = Ledger::default();
        let messages = subscribe()?;
        ledger.resync(kernel.links().await?);
        tokio::spawn(run(kernel, messages, ledger, sender));
        Ok(Self { events })
    }

    /// The next event; `None` when the runtime ends.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }
}

type Messages = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

fn subscribe() -> Result<Messages, KernelError> {
    let (connection, _, messages) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(KernelError::Socket)?;
    tokio::spawn(connection);
    Ok(messages.map(|(message, _)| message).boxed())
}

async fn run(kernel: Kernel, mut messages: Messages, mut ledger: Ledger, sender: mpsc::Sender<LinkEvent>) {
    loop {
        tokio::select! {
            message = messages.next() => {
                let lost = match message.map(|message| message.payload) {
                    Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))) => {
                        ledger.new_link(link_of(&message));
                        false
                    }
                    Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))) => {
                        ledger.del_link(link_of(&message), is_moved(&message));
                        false
                    }
                    // ENOBUFS: the kernel had more to tell than the socket holds.
                    Some(NetlinkPayload::Overrun(_)) => true,
                    Some(_) => false,
                    None => {
                        tokio::time::sleep(RESTART).await;
                        if let Ok(again) = subscribe() {
                            messages = again;
                        }
                        true
                    }
                };
                if lost && let Ok(links) = kernel.links().await {
                    ledger.resync(links);
                }
            }
            permit = sender.reserve(), if ledger.has_news() => {
                let Ok(permit) = permit else { return };
                if let Some(event) = ledger.next() {
                    permit.send(event);
                }
            }
            () = sender.closed() => return,
        }
    }
}

fn is_moved(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::NewNetnsId(_)))
}

/// What has been told, and what has yet to be told: at most one going and one coming for each interface.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    links: HashMap<u32, Link>,
    pending: BTreeMap<u32, Pending>,
    order: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Name, and whether it moved to another namespace.
    gone: Option<(String, bool)>,
    new: Option<Link>,
}

impl Ledger {
    pub(super) fn new_link(&mut self, link: Option<Link>) {
        let Some(link) = link else { return };
        if self.links.get(&link.ifindex) != Some(&link) {
            self.pend(link.ifindex).new = Some(link.clone());
            self.links.insert(link.ifindex, link);
        }
    }

    pub(super) fn del_link(&mut self, link: Option<Link>, moved: bool) {
        let Some(link) = link else { return };
        if self.links.remove(&link.ifindex).is_some() {
            let pending = self.pend(link.ifindex);
            pending.new = None;
            pending.gone = Some((link.name, moved));
        }
    }

    pub(super) fn resync(&mut self, links: Vec<Link>) {
        let there: std::collections::HashSet<u32> = links.iter().map(|link| link.ifindex).collect();
        let gone: Vec<_> =
            self.links.values().filter(|link| !there.contains(&link.ifindex)).cloned().collect();
        for link in gone {
            self.del_link(Some(link), false);
        }
        for link in links {
            self.new_link(Some(link));
        }
    }

    pub(super) fn has_news(&self) -> bool {
        !self.order.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<LinkEvent> {
        let ifindex = *self.order.front()?;
        let pending = self.pending.get_mut(&ifindex)?;
        let event = match pending.gone.take() {
            Some((name, moved)) => LinkEvent { ifindex, name, change: LinkChange::Gone { moved } },
            None => {
                let link = pending.new.take()?;
                let Link { name, up, running, mac, mtu, .. } = link;
                LinkEvent { ifindex, name, change: LinkChange::New { up, running, mac, mtu } }
            }
        };
        if pending.new.is_none() {
            self.pending.remove(&ifindex);
            self.order.pop_front();
        }
        Some(event)
    }

    fn pend(&mut self, ifindex: u32) -> &mut Pending {
        let order = &mut self.order;
        self.pending.entry(ifindex).or_insert_with(|| {
            order.push_back(ifindex);
            Pending::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::mac::MacAddr;

    fn link(ifindex: u32, mtu: u32) -> Link {
        let name = format!("link{ifindex}");
        Link {
            ifindex,
            name,
            kind: String::new(),
            up: true,
            running: true,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu,
        }
    }

    fn told(ledger: &mut Ledger) -> Vec<(u32, Option<u32>)> {
        let event = |event: LinkEvent| match event.change {
            LinkChange::New { mtu, .. } => (event.ifindex, Some(mtu)),
            LinkChange::Gone { .. } => (event.ifindex, None),
        };
        std::iter::from_fn(|| ledger.next()).map(event).collect()
    }

    #[test]
    fn changes_are_told_once_and_repetitions_are_not() {
        let mut ledger = Ledger::default();
        ledger.new_link(Some(link(1, 1500)));
        ledger.new_link(Some(link(1, 1500)));
        ledger.new_link(Some(link(2, 1500)));
        assert_eq!(told(&mut ledger), [(1, Some(1500)), (2, Some(1500))]);
        ledger.new_link(Some(link(1, 1500)));
        assert!(!ledger.has_news());
        ledger.del_link(Some(link(3, 1500)), false);
        assert!(!ledger.has_news());
    }

    #[test]
    fn slow_reader_is_told_the_last_state_and_that_a_device_was_replaced() {
        let mut ledger = Ledger::default();
        ledger.resync(vec![link(1, 1500), link(2, 1500)]);
        assert_eq!(told(&mut ledger).len(), 2);
        for mtu in 1400..1500 {
            ledger.new_link(Some(link(1, mtu)));
        }
        ledger.del_link(Some(link(2, 1500)), false);
        ledger.new_link(Some(link(2, 9000)));
        assert_eq!(told(&mut ledger), [(1, Some(1499)), (2, None), (2, Some(9000))]);
    }

    #[test]
    fn after_an_overflow_the_differences_are_told() {
        let mut ledger = Ledger::default();
        ledger.resync(vec![link(1, 1500), link(2, 1500), link(3, 1500)]);
        assert_eq!(told(&mut ledger).len(), 3);
        ledger.resync(vec![link(1, 1500), link(3, 9000), link(4, 1500)]);
        let mut told = told(&mut ledger);
        told.sort_unstable();
        assert_eq!(told, [(2, None), (3, Some(9000)), (4, Some(1500))]);
    }
}
