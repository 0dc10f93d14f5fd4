//! Workers of engines, for people.

use overlane_api::resource::WorkerStatus;

/// What [`row`] gives.
pub(crate) const HEADER: [&str; 9] =
    ["CORE", "PACKETS", "BUSY", "CYCLES/PACKET", "RECEIVE", "CLASSIFY", "AUTHORISE", "TRANSLATE", "SEND"];

/// A worker: what it has done, how busy it is, and what a packet costs.
pub(crate) fn row(worker: &WorkerStatus) -> Vec<String> {
    let cycles = |part: fn(&overlane_api::resource::PacketCycles) -> u64| {
        worker.cycles_per_packet.as_ref().map_or("-".to_owned(), |cycles| part(cycles).to_string())
    };
    vec![
        worker.core.to_string(),
        worker.packets.to_string(),
        format!("{}.{} %", worker.busy_permille / 10, worker.busy_permille % 10),
        cycles(|cycles| cycles.total),
        cycles(|cycles| cycles.receive),
        cycles(|cycles| cycles.classify),
        cycles(|cycles| cycles.authorise),
        cycles(|cycles| cycles.translate),
        cycles(|cycles| cycles.send),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_api::resource::PacketCycles;

    #[test]
    fn a_worker_without_packets_has_no_cycles() {
        let mut worker = WorkerStatus { core: 3, packets: 0, busy_permille: 7, cycles_per_packet: None };
        assert_eq!(row(&worker), ["3", "0", "0.7 %", "-", "-", "-", "-", "-", "-"]);
        worker.cycles_per_packet = Some(PacketCycles {
            receive: 20,
            classify: 25,
            authorise: 5,
            translate: 20,
            send: 10,
            total: 84,
        });
        (worker.packets, worker.busy_permille) = (12, 1000);
        assert_eq!(row(&worker), ["3", "12", "100.0 %", "84", "20", "25", "5", "20", "10"]);
    }
}
