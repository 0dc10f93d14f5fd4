//! Mappings on demand: what is asked of the service, what workers are told, and what is forgotten when.

use super::*;
use crate::provisioning::wire::Resolution;
use overlane_api::sync::RefusalReason;
use overlane_dataplane::resolve::{Outcome, Side};
use overlane_dataplane::table::mapping::MappingKey;

fn question(last: u8) -> Question {
    let key = MappingKey::new(vnet_id(), Ipv4Addr::new(10, 0, 0, last));
    Question { port: PortId::new(1).unwrap(), key, side: Side::Destination }
}

fn up() -> Event {
    Event::Connection(Connection::Up { host: host(), service_version: "1".into() })
}

fn vnet_on_demand(on_demand: bool) -> What {
    let subnet = Subnet { net: "10.0.0.0/24".parse().unwrap(), gateway: None };
    What::PutVnet(Vnet { on_demand, ..vnet(vec![subnet], false) })
}

/// An engine in contact, one of whose interfaces is live in a vnet that is on demand; nothing else is told.
async fn on_demand(settings: Settings) -> Bench {
    let mut bench = start(settings);
    bench.events.send(up()).await.unwrap();
    bench.link(4, "veth-n1", true).await;
    let mut state = site(1);
    state.mappings.remove(&target(6));
    state.apply(Change { revision: 1, what: vnet_on_demand(true) }).unwrap();
    bench.snapshot(state).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    bench.applied(1).await;
    bench
}

fn told(number: u64, outcome: Result<(u64, Mapping), RefusalReason>) -> Resolution {
    Resolution { revision: revision(number), outcome }
}

impl Bench {
    async fn asks(&self, worker: usize, last: u8) {
        self.questions.send((worker, question(last))).await.unwrap();
    }

    async fn request(&mut self) -> Request {
        let wait = tokio::time::timeout(Duration::from_secs(20), self.requests.recv());
        wait.await.expect("a request in time").unwrap()
    }

    async fn resolved(&self, request: Request, resolution: Resolution) {
        self.events.send(Event::Resolved(request, Ok(resolution))).await.unwrap();
    }

    fn answers(&self) -> Vec<(usize, Question, Outcome)> {
        let seen = self.fake.seen.lock();
        let answers = seen.told.iter().filter_map(|told| match told {
            Told::Answer(worker, answer) => Some((*worker, answer.question, answer.outcome)),
            _ => None,
        });
        answers.collect()
    }

    async fn answered(&mut self, count: usize) -> Vec<(usize, Question, Outcome)> {
        self.until("answered", |bench| bench.answers().len() >= count).await;
        self.answers()
    }

    fn state_of_mapping(&self, last: u8) -> Option<State> {
        self.fake.seen.lock().states.get(&target(last)).copied()
    }

    fn resolve_epoch(&self) -> u32 {
        self.fake.seen.lock().snapshots.last().unwrap().resolve_epoch
    }

    /// Resolves a mapping and waits until it is in the table.
    async fn resolve(&mut self, last: u8, number: u64) {
        let before = self.answers().len();
        self.asks(0, last).await;
        let request = self.request().await;
        self.resolved(request, told(number, Ok((number, elsewhere(0))))).await;
        self.answered(before + 1).await;
    }
}

#[tokio::test]
async fn one_request_answers_all_who_ask_and_the_mapping_is_there_before_the_answer() {
    let mut bench = on_demand(settings()).await;
    assert!(bench.fake.seen.lock().snapshots.last().unwrap().on_demand);
    bench.asks(0, 6).await;
    bench.asks(1, 6).await;
    let request = bench.request().await;
    assert_eq!((&*request.interface, request.target), ("n1/eth0", target(6)));
    bench.until("asked twice", |bench| bench.questions.capacity() == bench.questions.max_capacity()).await;
    bench.resolved(request, told(1, Ok((1, elsewhere(0))))).await;
    let answers = bench.answered(2).await;
    assert_eq!(answers, [(0, question(6), Outcome::Known), (1, question(6), Outcome::Known)]);
    let written = bench.place(|told| *told == Told::Put(target(6), None));
    assert!(written < bench.place(|told| matches!(told, Told::Answer(..))));
    assert!(bench.requests.try_recv().is_err());
    // Who asks later is answered at once.
    bench.asks(0, 6).await;
    bench.answered(3).await;
    assert!(bench.requests.try_recv().is_err());
}

#[tokio::test]
async fn refusals_are_told_by_their_kind_and_one_of_a_moment_is_none() {
    let mut bench = on_demand(settings()).await;
    for (last, reason, outcome) in [
        (10, RefusalReason::UnknownTarget, Outcome::Unknown),
        (11, RefusalReason::Forbidden, Outcome::Refused),
        (12, RefusalReason::NotAMember, Outcome::Refused),
        (13, RefusalReason::InterfaceNotLive, Outcome::Unanswered),
    ] {
        bench.asks(0, last).await;
        let request = bench.request().await;
        let before = bench.answers().len();
        bench.resolved(request, told(1, Err(reason))).await;
        assert_eq!(bench.answered(before + 1).await.last(), Some(&(0, question(last), outcome)));
    }
    assert_eq!(bench.local_of(10), None);
}

#[tokio::test]
async fn without_contact_nothing_is_asked_and_what_was_is_given_up() {
    let mut bench = on_demand(settings()).await;
    bench.asks(0, 6).await;
    let request = bench.request().await;
    bench.events.send(Event::Connection(Connection::Down("gone".into()))).await.unwrap();
    assert_eq!(bench.answered(1).await, [(0, question(6), Outcome::Unanswered)]);
    bench.asks(0, 7).await;
    assert_eq!(bench.answered(2).await[1], (0, question(7), Outcome::Unanswered));
    assert!(bench.requests.try_recv().is_err());
    // An answer that comes all the same is none.
    bench.resolved(request, told(1, Ok((1, elsewhere(0))))).await;
    bench.delta(2, vec![]).await;
    bench.applied(2).await;
    assert_eq!((bench.answers().len(), bench.state_of_mapping(6)), (2, None));
}

#[tokio::test]
async fn an_answer_that_was_overtaken_by_a_change_is_asked_for_again() {
    let mut bench = on_demand(settings()).await;
    bench.asks(0, 6).await;
    let request = bench.request().await;
    // The service has answered as of revision 1; then the node went elsewhere.
    bench.delta(2, vec![What::RefreshMapping(target(6), elsewhere(9))]).await;
    bench.applied(2).await;
    bench.resolved(request, told(1, Ok((1, elsewhere(0))))).await;
    let again = bench.request().await;
    assert_eq!(bench.answers(), []);
    bench.resolved(again, told(2, Ok((2, elsewhere(9))))).await;
    bench.answered(1).await;
    let seen = bench.fake.seen.lock();
    assert_eq!(seen.mappings[&target(6)].0, elsewhere(9));
}

#[tokio::test]
async fn changes_reach_what_was_resolved_and_a_terminated_node_is_buried() {
    let mut bench = on_demand(settings()).await;
    bench.resolve(6, 1).await;
    bench.delta(2, vec![What::RefreshMapping(target(6), elsewhere(9))]).await;
    bench.applied(2).await;
    assert_eq!(bench.fake.seen.lock().mappings[&target(6)].0, elsewhere(9));
    // Of one that nobody has asked for nothing is kept.
    bench.delta(3, vec![What::RefreshMapping(target(7), elsewhere(1))]).await;
    bench.applied(3).await;
    assert_eq!(bench.state_of_mapping(7), None);
    bench.delta(4, vec![What::DeleteMapping(target(6))]).await;
    bench.applied(4).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Gone));
    // It may come back: workers have to ask for it.
    bench.delta(5, vec![What::RefreshMapping(target(6), elsewhere(2))]).await;
    bench.applied(5).await;
    assert_eq!(bench.state_of_mapping(6), None);
    bench.resolve(6, 5).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Live));
}

#[tokio::test]
async fn refusals_are_lifted_by_what_can_make_them_untrue_and_by_nothing_else() {
    let mut bench = on_demand(settings()).await;
    bench.asks(0, 6).await;
    let request = bench.request().await;
    bench.resolved(request, told(1, Err(RefusalReason::UnknownTarget))).await;
    bench.answered(1).await;
    let before = bench.resolve_epoch();
    bench.delta(2, vec![What::RefreshMapping(target(7), elsewhere(1))]).await;
    bench.applied(2).await;
    assert_eq!(bench.resolve_epoch(), before);
    bench.delta(3, vec![What::RefreshMapping(target(6), elsewhere(1))]).await;
    bench.applied(3).await;
    let lifted = bench.resolve_epoch();
    assert_ne!(lifted, before);
    // A rule that may concern anybody.
    bench.delta(4, vec![What::DeleteRule("unknown".into()), vnet_on_demand(true)]).await;
    bench.applied(4).await;
    assert_eq!(bench.resolve_epoch(), lifted, "nothing has changed");
    let subnet = Subnet { net: "10.0.0.0/16".parse().unwrap(), gateway: None };
    bench.delta(5, vec![What::PutVnet(Vnet { on_demand: true, ..vnet(vec![subnet], false) })]).await;
    bench.applied(5).await;
    assert_ne!(bench.resolve_epoch(), lifted);
}

#[tokio::test(start_paused = true)]
async fn a_mapping_grows_old_and_is_renewed_when_it_is_used_or_forgotten_when_it_is_not() {
    let mut bench = on_demand(Settings { mapping_expiry: Duration::from_secs(8), ..settings() }).await;
    bench.resolve(6, 1).await;
    bench.resolve(7, 1).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Live));
    bench.until("old", |bench| bench.state_of_mapping(6) == Some(State::Ageing)).await;
    // Whoever uses it asks again; what serves goes on to serve.
    bench.resolve(6, 1).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Live));
    bench.until("forgotten", |bench| bench.state_of_mapping(7).is_none()).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Live));
    // Without contact nothing is forgotten.
    bench.events.send(Event::Connection(Connection::Down("gone".into()))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Live));
    bench.events.send(up()).await.unwrap();
    bench.until("forgotten", |bench| bench.state_of_mapping(6).is_none()).await;
}

#[tokio::test]
async fn a_vnet_that_is_all_told_from_now_on_or_left_takes_its_mappings_along() {
    let mut bench = on_demand(settings()).await;
    bench.resolve(6, 1).await;
    bench.delta(2, vec![vnet_on_demand(false)]).await;
    bench.applied(2).await;
    assert_eq!((bench.status.borrow().resolved, bench.state_of_mapping(6)), (0, Some(State::Live)));
    bench.delta(3, vec![vnet_on_demand(true)]).await;
    bench.applied(3).await;
    assert_eq!(bench.status.borrow().resolved, 1, "it is held, and its own address is not");
    bench.delta(4, vec![What::DeleteInterface("n1/eth0".into()), What::DeleteVnet(vnet_id())]).await;
    bench.applied(4).await;
    assert_eq!(bench.state_of_mapping(6), None);
}

#[tokio::test(start_paused = true)]
async fn senders_to_a_terminated_node_are_told_for_a_while() {
    let mut bench = start(settings());
    bench.snapshot(site(1)).await;
    bench.applied(1).await;
    bench.delta(2, vec![What::DeleteMapping(target(6))]).await;
    bench.applied(2).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Gone));
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(bench.state_of_mapping(6), Some(State::Gone));
    bench.until("closed", |bench| bench.state_of_mapping(6).is_none()).await;
}
